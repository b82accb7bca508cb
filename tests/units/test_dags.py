"""The DAGs that rows become, without a database or a file."""

from __future__ import annotations

from typing import Any

import pytest
from airflow_names import DAG, DagSerialization, schedule_of
from units.conftest import row

from yellow_dynamic.factory import acceptance
from yellow_dynamic.factory.dag import DagBuilder, config_errors, row_settings
from yellow_dynamic.factory.database import Row
from yellow_dynamic.factory.platform import Platform
from yellow_dynamic.factory.podspec import job_arguments, pod_name
from yellow_dynamic.factory.rules import (
    START_DATE,
    BadRowError,
    build_dag_id,
    cron_problem,
    is_disabled,
    parse_config,
    parse_dag_id,
)


def test_tasks_of_two_dags_are_not_the_same_objects(platform: Platform) -> None:
    dags = DagBuilder(platform).build_dags([row("A"), row("B")])
    [one, other] = dags.values()

    for task in one.tasks:
        twin = other.get_task(task.task_id)
        assert task.dag is one and twin.dag is other
        assert task.upstream_task_ids == twin.upstream_task_ids
        assert task.upstream_task_ids is not twin.upstream_task_ids
    assert one.get_task("reschedule_immediately").trigger_dag_id == one.dag_id
    assert sorted(one.task_group.children) == sorted(one.task_ids)


def test_job_comes_before_the_branch_and_that_before_both_ends(platform: Platform) -> None:
    [dag] = DagBuilder(platform).build_dags([row("A")]).values()

    assert {task.task_id: set(task.downstream_task_ids) for task in dag.tasks} == {
        "snapshot_merge_job": {"check_result"},
        "check_result": {"reschedule_immediately", "wait_for_trigger"},
        "reschedule_immediately": set(),
        "wait_for_trigger": set(),
    }


def test_dags_of_one_schedule_are_as_those_of_another_builder(platform: Platform) -> None:
    """They share a timetable; what Airflow stores of each is what it would store of one alone."""
    rows = [row("A"), row("B"), row("C", schedule_string="0 3 * * 1-5")]

    together = DagBuilder(platform).build_dags(rows)

    for each in rows:
        [(dag_id, alone)] = DagBuilder(platform).build_dags([each]).items()
        assert DagSerialization.to_dict(together[dag_id]) == DagSerialization.to_dict(alone)


def test_every_dag_is_checked_as_airflow_does(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rule of a later Airflow may concern more than the schedule."""
    checked: list[str] = []
    builder = DagBuilder(platform)
    dag_class = DAG
    validate = dag_class.validate

    def refuse_b(dag: Any) -> None:
        checked.append(dag.dag_id)
        if dag.dag_id.endswith("__B_ingestion") and "config-error" not in dag.tags:
            raise ValueError("B is not allowed")
        validate(dag)

    monkeypatch.setattr(dag_class, "validate", refuse_b)
    dags = builder.build_dags([row("A"), row("B"), row("C")])

    assert set(checked) == set(dags) and len(dags) == 3
    assert [error for error in config_errors(dags.values()) if "B is not allowed" in error]
    assert "config-error" in dags["yellowlive__B_ingestion"].tags
    assert "config-error" not in dags["yellowlive__C_ingestion"].tags


def test_check_of_a_schedule_is_remembered_only_if_it_has_passed(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule, checks = "0 4 * * *", []
    timetable_class = type(
        DagBuilder(platform).new_dag("x", "x", schedule=schedule, tags=[]).timetable
    )

    def check(timetable: Any) -> None:
        # Airflow 2 has it in a property alone.
        expression = getattr(timetable, "expression", None) or timetable.summary
        checks.append(expression)
        if expression == schedule:
            raise ValueError("no such hour")

    monkeypatch.setattr(timetable_class, "validate", check)
    rows = [row(key, schedule_string=schedule) for key in "AB"] + [row(key) for key in "CDE"]
    dags = DagBuilder(platform).build_dags(rows)

    assert [dag_id for dag_id, dag in dags.items() if "config-error" in dag.tags] == [
        "yellowlive__A_ingestion",
        "yellowlive__B_ingestion",
    ]
    assert len(dags) == 5
    # Once for C, D and E together, and for the hourly DAGs that show the errors of A and B.
    assert checks.count("0 * * * *") == 1
    assert checks.count(schedule) == 4


@pytest.mark.parametrize("schedule", [None, "@once", "@continuous", "@daily", "7 * * * *"])
def test_dag_has_the_schedule_that_airflow_makes_of_its_text(
    platform: Platform, schedule: str | None
) -> None:
    rows = [row(key, schedule_string=schedule) for key in "AB"]
    options = {"start_date": START_DATE, "max_active_runs": 1, "catchup": False}
    plain = DAG("plain", schedule=schedule, **options)

    dags = DagBuilder(platform).build_dags(rows).values()

    assert len(dags) == 2
    for dag in dags:
        assert "config-error" not in dag.tags
        assert schedule_of(dag) == schedule_of(plain)
        for name in ("timetable", "schedule_interval"):
            form = DagSerialization.to_dict(dag)["dag"]
            assert form.get(name) == DagSerialization.to_dict(plain)["dag"].get(name)


def test_policy_that_changes_a_task_changes_no_other_dag(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mark(task: Any) -> None:
        for value in (task.params, task.upstream_task_ids):
            value.update({task.dag.dag_id: task.dag.dag_id})

    monkeypatch.setattr(acceptance.airflow_local, "task_policy", mark)
    builder = DagBuilder(platform)
    builder.has_policies = True
    dags = builder.build_dags([row("A"), row("B")])

    for dag in dags.values():
        for task in dag.tasks:
            assert not set(task.params) and not task.upstream_task_ids & dags.keys()
    mark(dags["yellowlive__A_ingestion"].get_task("wait_for_trigger"))
    assert not set(dags["yellowlive__B_ingestion"].get_task("wait_for_trigger").params)


@pytest.mark.parametrize(
    ("key", "dag_id"),
    [("Store1", "p__Store1_ingestion"), ("W_datatransformer", "p__W_datatransformer")],
)
def test_key_is_read_from_the_id_of_its_dag(key: str, dag_id: str) -> None:
    assert build_dag_id("p", key) == dag_id
    assert parse_dag_id("p", dag_id) == key
    assert parse_dag_id("q", dag_id) is None


@pytest.mark.parametrize(
    ("status", "until", "disabled"),
    [
        ("active", None, False),
        ("active", "9999-01-01T00:00:00", False),
        ("disabled", None, True),
        ("disabled", "infinity", True),
        ("disabled", "9999-01-01T00:00:00", True),
        ("disabled", "2000-01-01T00:00:00", False),
    ],
)
def test_stream_is_disabled_until_its_time(status: str, until: str | None, disabled: bool) -> None:
    assert is_disabled(status, until) is disabled
    assert Row("A", None, status, None, until).is_off is disabled


@pytest.mark.parametrize("text", [None, "{", "[]", "null"])
def test_text_that_is_no_configuration_is_refused_with_a_reason(text: str | None) -> None:
    with pytest.raises(BadRowError, match="config_json"):
        parse_config(text)


@pytest.mark.parametrize("schedule", ["every day", "R R * * *", "0 0 30 2 *", "* * * *"])
def test_schedule_that_never_comes_is_a_problem(schedule: str) -> None:
    assert schedule in str(cron_problem("schedule_string", schedule))


@pytest.mark.parametrize("schedule", ["@hourly", "@quarterly", "*/5 * * * *", "0 0 29 2 *"])
def test_schedule_that_comes_is_none(schedule: str) -> None:
    assert cron_problem("schedule_string", schedule) is None


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("Store1", "yellowlive-store1-job"),
        ("Upper_CASE__x", "yellowlive-upper-case-x-job"),
        ("-a-", "yellowlive-a-job"),
        ("x" * 200, f"yellowlive-{'x' * 39}-job"),
    ],
)
def test_name_of_a_pod_is_one_that_kubernetes_takes(key: str, name: str) -> None:
    found = pod_name({"platform_name": "yellowlive", "stream_key": key})

    assert found == name
    assert len(found) <= 54


def test_no_argument_of_a_job_is_expanded_by_kubernetes(platform: Platform) -> None:
    one = row("A", git_repo_branch="$(git_TOKEN)")
    settings = row_settings(platform, one, parse_config(one.config_json))

    assert "$$(git_TOKEN)" in job_arguments(settings)
