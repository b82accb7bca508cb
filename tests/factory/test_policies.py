"""Cluster policies, which Airflow applies to DAGs after the import of their file."""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow import settings
from airflow.policies import hookimpl
from airflow_names import IS_AIRFLOW_2, AirflowException, AirflowFailException
from conftest import Site, import_file, registered_dags
from yellow_models import UNIT_START, Store

try:  # Airflow 3
    from airflow.dag_processing.dagbag import DagBag
except ImportError:  # Airflow 2
    from airflow.models.dagbag import DagBag

pytestmark = pytest.mark.from_the_field("a policy of the cluster against one DAG")

GOOD, BAD = "yellowlive__Good_ingestion", "yellowlive__Bad_ingestion"


@pytest.fixture
def two(site: Site) -> Site:
    site.model.stores = [Store("Bad"), Store("Good")]
    site.bootstrap()
    site.merge_cleanly()
    return site


Apply = Callable[..., None]


@pytest.fixture
def apply(monkeypatch: pytest.MonkeyPatch) -> Iterator[Apply]:
    """Register policies as Airflow does those of its plugins, for the time of the test."""
    manager = (
        settings.POLICY_PLUGIN_MANAGER if IS_AIRFLOW_2 else settings.get_policy_plugin_manager()
    )
    registered = []

    def register(**policies: Callable[..., None]) -> None:
        marked = {name: staticmethod(hookimpl(policy)) for name, policy in policies.items()}
        plugin = type("Policies", (), marked)
        registered.append(plugin)
        manager.register(plugin)

    yield register
    for plugin in registered:
        manager.unregister(plugin)


def bag(site: Site) -> Any:
    """Load the factory file as the DAG processor does, policies and all."""
    return DagBag(dag_folder=str(site.factory_file))


def refuse_bad(dag: Any) -> None:
    from airflow.exceptions import AirflowClusterPolicyViolation

    if dag.dag_id == BAD and "ingestion" in dag.tags:
        raise AirflowClusterPolicyViolation("streams of Bad need an owner")


def break_bad(task: Any) -> None:
    if task.dag.dag_id == BAD and task.task_id == "check_result":
        raise KeyError("cost_centre")


def make_bad_unstorable(task: Any) -> None:
    if task.dag.dag_id == BAD and task.task_id == "snapshot_merge_job":
        task.executor_config = {"pod": object()}
        task.params = {"no": object()}


@pytest.mark.parametrize(
    ("policies", "reason", "keeps_its_tags"),
    [
        ({"dag_policy": refuse_bad}, "streams of Bad need an owner", False),
        ({"task_policy": break_bad}, "KeyError: 'cost_centre'", True),
    ],
    ids=["refused", "broken policy"],
)
def test_dag_that_a_policy_refuses_costs_only_its_own_stream(
    two: Site, apply: Apply, policies: dict[str, Any], reason: str, keeps_its_tags: bool
) -> None:
    apply(**policies)

    found = bag(two)

    assert found.import_errors == {}
    assert "config-error" not in found.dags[GOOD].tags
    assert "config-error" in found.dags[BAD].tags
    assert ("ingestion" in found.dags[BAD].tags) == keeps_its_tags
    assert reason in found.dags[BAD].doc_md


def test_dag_that_a_policy_makes_unstorable_costs_only_its_own_stream(
    two: Site, apply: Apply
) -> None:
    apply(task_policy=make_bad_unstorable)

    found = bag(two)

    assert found.import_errors == {}
    assert "config-error" not in found.dags[GOOD].tags
    # Airflow 2 stores the text of whatever it does not know.
    assert IS_AIRFLOW_2 or "config-error" in found.dags[BAD].tags


def test_stream_whose_every_dag_a_policy_refuses_is_named_in_the_log(
    two: Site, apply: Apply, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(dag: Any) -> None:
        if dag.dag_id == BAD:
            raise AirflowException("no DAG of Bad")

    apply(dag_policy=refuse)

    found = bag(two)

    assert (list(found.dags), found.import_errors) == ([GOOD], {})
    assert f"Airflow refuses the DAG {BAD} that would show this, too" in caplog.text


def test_dag_that_a_policy_skips_is_left_out_without_an_error(
    two: Site, apply: Apply, caplog: pytest.LogCaptureFixture
) -> None:
    from airflow.exceptions import AirflowClusterPolicySkipDag

    def skip(dag: Any) -> None:
        if dag.dag_id == BAD:
            raise AirflowClusterPolicySkipDag

    apply(dag_policy=skip)

    found = bag(two)

    assert (list(found.dags), found.import_errors) == ([GOOD], {})
    assert "has no ingestion DAG" not in caplog.text


def test_policy_changes_one_task_and_changes_it_once(two: Site, apply: Apply) -> None:
    def add(task: Any) -> None:
        if task.task_id == "snapshot_merge_job":
            task.outlets.append(task.dag.dag_id)
            task.env_vars.append(task.dag.dag_id)
            task.env_vars[0].value = task.dag.dag_id
            task.container_resources.limits = {"memory": task.dag.dag_id}
            task.callbacks.append(task.dag.dag_id)

    apply(task_policy=add)

    found = bag(two)

    for dag_id in (GOOD, BAD):
        job = found.dags[dag_id].get_task("snapshot_merge_job")
        assert job.outlets == [dag_id]
        assert [each for each in job.env_vars if isinstance(each, str)] == [dag_id]
        assert job.env_vars[0].value == dag_id
        assert job.container_resources.limits == {"memory": dag_id}
        assert job.callbacks[1:] == [dag_id]


# --- What Airflow does between the import of a file and the storage of its DAGs ---------------


def calls_of(function: Any) -> set[str]:
    """Return what a function calls and raises, by name."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name not in dir(builtins) and not re.match(r"(self\.)?log(ging)?\.", name):
                found.add(name)
        if isinstance(node, ast.Raise) and node.exc is not None:
            called = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            found.add(f"raise {ast.unparse(called)}")
    return found


def steps() -> list[Any]:
    if IS_AIRFLOW_2:
        return [DagBag._process_modules, DagBag._bag_dag]
    from airflow.dag_processing import collection, dagbag, processor

    return [
        DagBag.process_file,
        DagBag.bag_dag,
        dagbag._validate_executor_fields,
        processor._serialize_dags,
        collection.update_dag_parsing_results_in_db,
        collection._serialize_dag_capturing_errors,
    ]


def test_no_check_of_airflow_is_unknown() -> None:
    """A newer Airflow with another check fails here: docs/architecture.md has the list."""
    known = (
        Path(__file__)
        .with_name(f"checks_of_airflow_{2 if IS_AIRFLOW_2 else 3}.txt")
        .read_text()
        .splitlines()
    )

    found = sorted({f"{step.__name__}: {call}" for step in steps() for call in calls_of(step)})

    assert found == known


def test_check_of_the_infrastructure_dag_counts_a_dag_that_is_refused_altogether(
    two: Site, apply: Apply
) -> None:
    def refuse_all_of_bad(dag: Any) -> None:
        if dag.dag_id == BAD:
            raise ValueError("no DAG of Bad")

    file = two.folder / f"{UNIT_START}_infrastructure_dag.py"
    file.write_text(two.bootstrap()[file.name])
    [dag] = registered_dags(import_file(file)).values()
    apply(dag_policy=refuse_all_of_bad)

    with pytest.raises(AirflowFailException, match="1 of 2 streams have no DAG that can run"):
        dag.get_task("check").python_callable()
