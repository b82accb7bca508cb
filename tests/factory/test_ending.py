"""Streams that are disabled or removed while a run of them is under way."""

from __future__ import annotations

import json
import logging
import shutil
import time
from typing import Any

import pytest
from airflow_names import IS_AIRFLOW_2, AirflowSkipException
from conftest import Site, import_file
from pod_runs import allow_this_thread
from yellow_models import Store

from yellow_dynamic.factory.constants import UNREGISTERED

pytestmark = pytest.mark.from_the_field("a stream that ends while it runs")

DAG_ID = "yellowlive__Store1_ingestion"


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The DAGs that have a run, as Airflow would say."""
    return {DAG_ID}


def parse(site: Site, runs: set[str] | None) -> dict[str, Any]:
    """Parse with an Airflow that has these runs, or one that says nothing."""

    def has_active_run(dag_id: str) -> bool:
        if runs is None:
            raise OSError
        return dag_id in runs

    module: Any = import_file(site.factory_file, UNREGISTERED)
    module.has_active_run = has_active_run
    module.can_take_out_of_service = lambda: True
    dags: dict[str, Any] = module.shard_dags(module.BUILDER)
    return dags


def end_by_disabling(site: Site) -> None:
    site.sql("UPDATE {table} SET status = 'disabled' WHERE stream_key = 'Store1'")


def end_by_merge(site: Site) -> None:
    site.model.stores = [Store("Other")]
    site.merge_cleanly()


@pytest.mark.parametrize("end", [end_by_disabling, end_by_merge])
def test_stream_that_ends_keeps_its_dag_while_it_has_a_run(
    installed: Site, runs: set[str], end: Any
) -> None:
    assert "ending" not in parse(installed, runs)[DAG_ID].tags
    end(installed)

    for _ in range(2):
        dag = parse(installed, runs)[DAG_ID]
        assert "ending" in dag.tags
        assert getattr(dag, "schedule", None) is None
        assert [task.task_id for task in dag.tasks] == [
            "snapshot_merge_job",
            "check_result",
            "reschedule_immediately",
            "wait_for_trigger",
        ]

    assert DAG_ID not in parse(installed, set())
    assert DAG_ID not in parse(installed, runs)
    assert json.loads((installed.snapshots / "yellowlive.ended.json").read_text()) == {}


@pytest.mark.parametrize("end", [end_by_disabling, end_by_merge])
def test_new_disk_keeps_the_dag_of_a_stream_that_has_just_ended(
    installed: Site, runs: set[str], end: Any
) -> None:
    parse(installed, runs)
    end(installed)
    parse(installed, runs)
    shutil.rmtree(installed.snapshots)

    for _ in range(2):
        assert "ending" in parse(installed, runs)[DAG_ID].tags
    assert DAG_ID not in parse(installed, set())


def test_history_is_read_by_either_driver(installed: Site, driver: str) -> None:
    end_by_disabling(installed)
    module: Any = import_file(installed.factory_file, UNREGISTERED)

    [(key, since)] = module.read_ended(module.BUILDER.platform).items()

    assert (key, 0 <= time.time() - since < 600) == ("Store1", True)


@pytest.mark.parametrize("end", [end_by_disabling, end_by_merge])
def test_new_disk_asks_for_no_stream_that_ended_long_ago(
    installed: Site, runs: set[str], end: Any
) -> None:
    end(installed)
    installed.sql(
        "SET session_replication_role = replica;"
        "UPDATE {table}_history SET changed_at = changed_at - interval '8 days'"
    )

    assert DAG_ID not in parse(installed, runs)


def test_table_without_a_history_says_which_streams_are_disabled(
    installed: Site, runs: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    end_by_disabling(installed)
    installed.sql("DROP TABLE {table}_history")

    assert "ending" in parse(installed, runs)[DAG_ID].tags
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_stream_that_comes_back_has_its_own_dag_again(installed: Site, runs: set[str]) -> None:
    parse(installed, runs)
    end_by_disabling(installed)
    parse(installed, runs)
    installed.sql("UPDATE {table} SET status = 'active'")

    assert "ending" not in parse(installed, runs)[DAG_ID].tags
    end_by_disabling(installed)
    assert "ending" in parse(installed, runs)[DAG_ID].tags


def test_ending_stream_stays_through_an_outage(
    installed: Site, runs: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    parse(installed, runs)
    end_by_disabling(installed)
    parse(installed, runs)
    monkeypatch.setenv("DATASURFACE_POSTGRES_PORT", "9")

    assert "ending" in parse(installed, runs)[DAG_ID].tags


def test_other_programs_than_the_dag_processor_leave_the_note_alone(
    installed: Site, runs: set[str]
) -> None:
    parse(installed, runs)
    end_by_disabling(installed)
    parse(installed, runs)
    note = installed.snapshots / "yellowlive.ended.json"
    before = note.read_bytes()

    assert IS_AIRFLOW_2 or installed.parse() == {}

    assert IS_AIRFLOW_2 or note.read_bytes() == before


@pytest.mark.parametrize("end", [end_by_disabling, end_by_merge])
def test_tasks_of_an_ended_stream_find_their_dag(installed: Site, end: Any) -> None:
    end(installed)

    dag = installed.parse(DAG_ID)[DAG_ID]

    assert "ending" in dag.tags
    check = dag.get_task("check_result").python_callable

    class More:
        """A run whose job would be run again at once."""

        def xcom_pull(self, **_: Any) -> str:
            return "1"

    assert check(ti=More(), dag=dag) == "wait_for_trigger"
    allow_this_thread()
    with pytest.raises(AirflowSkipException, match="before the job of this run began"):
        dag.get_task("snapshot_merge_job").execute({})


@pytest.mark.skipif(IS_AIRFLOW_2, reason="Airflow 2 is asked by its database")
@pytest.mark.parametrize(("count", "stays"), [(1, True), (0, False)])
def test_dag_processor_is_asked_for_unfinished_tasks(
    installed: Site, monkeypatch: pytest.MonkeyPatch, count: int, stays: bool
) -> None:
    from airflow.sdk.execution_time import task_runner
    from pydantic import TypeAdapter

    class Supervisor:
        """The other end of the processor's pipe."""

        body_decoder: Any = TypeAdapter(int)
        _thread_lock = None

        def send(self, message: Any) -> Any:
            assert (message.dag_id, "null" in message.states) == (DAG_ID, True)
            return self.body_decoder.validate_python({"count": count, "type": "TICount"})

    supervisor: Any = Supervisor()
    installed.parse()
    end_by_disabling(installed)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)

    dags = installed.parse()

    assert (DAG_ID in dags) == stays
