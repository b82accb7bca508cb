"""What of a DAG is checked before Airflow checks it."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.policies import hookimpl
from airflow_names import DAG, IS_AIRFLOW_2
from units.conftest import row

from yellow_dynamic.factory import acceptance
from yellow_dynamic.factory.acceptance import format_reason
from yellow_dynamic.factory.dag import DagBuilder
from yellow_dynamic.factory.platform import Platform
from yellow_dynamic.factory.podspec import SHARED
from yellow_dynamic.factory.rules import BadRowError


@pytest.fixture
def with_policies(platform: Platform) -> DagBuilder:
    """Builds DAGs as in an Airflow that has cluster policies."""
    builder = DagBuilder(platform)
    builder.has_policies = True
    return builder


def test_policies_see_the_dag_and_each_of_its_tasks(
    with_policies: DagBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(acceptance.airflow_local, "dag_policy", seen.append)
    monkeypatch.setattr(acceptance.airflow_local, "task_policy", seen.append)

    [dag] = with_policies.build_dags([row("A")]).values()

    assert [each.dag_id for each in seen] == [dag.dag_id] * 5
    assert isinstance(seen[0], DAG)
    assert [task.task_id for task in seen[1:]] == dag.task_ids
    assert seen[0] is not dag


def test_policy_may_skip_a_dag_which_airflow_then_does(
    with_policies: DagBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def skip(_: Any) -> None:
        raise acceptance.AirflowClusterPolicySkipDag

    monkeypatch.setattr(acceptance.airflow_local, "dag_policy", skip)

    [dag] = with_policies.build_dags([row("A")]).values()

    assert len(dag.tasks) == 4


def test_tasks_that_a_policy_may_change_share_nothing_of_kubernetes_but_its_settings(
    with_policies: DagBuilder,
) -> None:
    dags = with_policies.build_dags([row("A"), row("B")])

    one, other = (dag.get_task("snapshot_merge_job") for dag in dags.values())
    assert one.container_resources is not other.container_resources
    assert one.env_vars[0] is not other.env_vars[0]
    for each in (one.container_resources, one.env_vars[0]):
        assert each.local_vars_configuration is SHARED["local_vars_configuration"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BadRowError("its status is EX."), "its status is EX"),
        (ValueError(".hidden.."), "ValueError: .hidden"),
        (KeyError("a\nb"), "KeyError: 'a\\nb'"),
        (BadRowError("x" * 2000), "x" * 1000),
    ],
)
def test_reason_is_a_line_of_at_most_a_thousand_characters(error: Exception, reason: str) -> None:
    assert format_reason(error) == reason


class DagPolicy:
    """A plugin of Airflow's policies that has one for DAGs."""

    @hookimpl
    def dag_policy(self, dag: DAG) -> None: ...


class TaskPolicy:
    """A plugin of Airflow's policies that has one for tasks."""

    @hookimpl
    def task_policy(self, task: Any) -> None: ...


@pytest.mark.parametrize("policy", [DagPolicy(), TaskPolicy()])
def test_policies_of_one_kind_are_policies(policy: object) -> None:
    manager = (
        acceptance.airflow_local.POLICY_PLUGIN_MANAGER
        if IS_AIRFLOW_2
        else acceptance.airflow_local.get_policy_plugin_manager()
    )
    assert not acceptance.has_policies()

    manager.register(policy)
    try:
        assert acceptance.has_policies()
    finally:
        manager.unregister(policy)
