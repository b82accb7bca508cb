"""What an import of a DAG file registers, with rows that no database has to give."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from airflow_names import DAG, IS_AIRFLOW_2, AirflowException
from units.conftest import SETTINGS, row

from yellow_dynamic import __version__
from yellow_dynamic.factory import draining, registration, rows, snapshot
from yellow_dynamic.factory.causes import Cause
from yellow_dynamic.factory.constants import UNREGISTERED
from yellow_dynamic.factory.database import QueryResult, Row, TableUnreadableError
from yellow_dynamic.factory.installed import register_dags, register_infrastructure
from yellow_dynamic.factory.snapshot import DRAINING
from yellow_dynamic.rendering import FROM_PACKAGE, render_factory

OWN = {**SETTINGS, FROM_PACKAGE: True, "plugin_version": __version__}
DAY = 24 * 60 * 60


class Parses:
    """A factory file in a folder, and the table that its imports read."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file = folder / "yellowlive_factory_dag.py"
        self.note = folder / "snapshots" / f"yellowlive{DRAINING}.json"
        #: None while the table cannot be read.
        self.table: list[Row] | None = []
        #: The DAGs that have a run; None while Airflow does not answer.
        self.running: set[str] | None = set()
        #: The DAGs that Airflow was asked about.
        self.asked: list[str] = []
        monkeypatch.setattr(rows, "read_table", self._read)
        monkeypatch.setattr(draining, "has_active_run", self._has_run)
        monkeypatch.setattr(draining, "can_take_out_of_service", lambda: True)

    def __call__(self, name: str = "yellowlive_factory_dag") -> dict[str, Any]:
        """Import the file under this name, and return the names of its module."""
        module = {"__name__": name, "__file__": str(self.file)}
        register_dags(OWN, module)
        return module

    def dags(self) -> dict[str, Any]:
        return {name: value for name, value in self().items() if isinstance(value, DAG)}

    def _read(self, *_: object) -> QueryResult:
        if self.table is None:
            raise TableUnreadableError("The database is away.", Cause.NO_CONNECTION)
        return QueryResult(self.table, bool(self.table), "public", ["public"])

    def _has_run(self, dag_id: str) -> bool:
        self.asked.append(dag_id)
        if self.running is None:
            raise OSError("no answer")
        return dag_id in self.running


@pytest.fixture
def parses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parses:
    monkeypatch.setenv("YELLOW_DYNAMIC_SNAPSHOT_DIR", str(tmp_path / "snapshots"))
    return Parses(tmp_path, monkeypatch)


def dag_id(key: str) -> str:
    return f"yellowlive__{key}_ingestion"


def test_import_registers_the_active_streams(parses: Parses) -> None:
    parses.table = [row("A"), row("B")._replace(status="disabled"), row("C")]

    module = parses()

    assert {name for name, value in module.items() if isinstance(value, DAG)} == {
        dag_id("A"),
        dag_id("C"),
    }
    assert module["READING"]["source"] == "database"


def test_import_for_another_program_registers_nothing(parses: Parses) -> None:
    parses.table = [row("A")]

    module = parses(UNREGISTERED)

    assert not [name for name, value in module.items() if isinstance(value, DAG)]
    assert list(module["BUILDER"].build_dags(parses.table)) == [dag_id("A")]


def test_import_serves_the_snapshot_while_the_table_is_away(parses: Parses) -> None:
    parses.table = [row("A")]
    parses()
    parses.table = None

    module = parses()

    assert dag_id("A") in module
    assert module["READING"]["source"] == "snapshot"


def test_import_without_table_and_snapshot_says_both(parses: Parses) -> None:
    parses.table = None

    with pytest.raises(TableUnreadableError, match=r"away\. There is no snapshot to serve"):
        parses()


def test_task_that_starts_has_its_own_dag_alone(
    parses: Parses, monkeypatch: pytest.MonkeyPatch
) -> None:
    parses.table = [row("A"), row("B")]
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", dag_id("B"))

    assert list(parses.dags()) == [dag_id("B")]


@pytest.mark.parametrize("off", [True, False], ids=["disabled", "gone"])
def test_task_of_an_ended_stream_has_the_dag_that_ends_its_run(
    parses: Parses, monkeypatch: pytest.MonkeyPatch, off: bool
) -> None:
    parses.table = [row("A")._replace(status="disabled")] if off else []
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", dag_id("A"))

    [dag] = parses.dags().values()

    assert "ending" in dag.tags


def test_task_of_another_platform_has_no_dag(
    parses: Parses, monkeypatch: pytest.MonkeyPatch
) -> None:
    parses.table = [row("A")]
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "other__A_ingestion")

    assert parses.dags() == {}


def test_ended_stream_keeps_its_dag_while_it_has_a_run(parses: Parses) -> None:
    parses.table, parses.running = [row("A"), row("B")], {dag_id("A")}
    parses()
    parses.table = [row("B")]

    assert "ending" in parses.dags()[dag_id("A")].tags
    assert list(json.loads(parses.note.read_text())) == ["A"]
    parses.running = set()
    assert list(parses.dags()) == [dag_id("B")]
    assert json.loads(parses.note.read_text()) == {}


def test_ended_streams_whose_runs_have_ended_are_forgotten(parses: Parses) -> None:
    parses.table, parses.running = [row("A"), row("B"), row("C")], {dag_id("B")}
    parses()
    parses.table = [row("C")]

    assert set(parses.dags()) == {dag_id("B"), dag_id("C")}
    assert list(json.loads(parses.note.read_text())) == ["B"]


def test_airflow_that_does_not_answer_leaves_ended_streams_for_a_day(parses: Parses) -> None:
    parses.table, parses.running = [row("A"), row("B")], None
    parses()
    parses.table = [row("B")]
    assert dag_id("A") in parses.dags()

    parses.note.write_text(json.dumps({"A": time.time() - DAY - 1}))

    assert dag_id("A") not in parses.dags()


def test_note_that_cannot_be_written_costs_no_dag(
    parses: Parses, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    parses.table, parses.running = [row("A"), row("B"), row("C")], {dag_id("B")}
    parses()
    parses.table = [row("C")]

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(draining, "write_draining", refuse)
    with caplog.at_level(logging.WARNING):
        dags = parses.dags()

    assert set(dags) == {dag_id("B"), dag_id("C")}
    assert "cannot be written: No space left on device." in caplog.text


def test_full_disk_costs_no_dag_of_a_stream_that_has_ended(
    parses: Parses, monkeypatch: pytest.MonkeyPatch
) -> None:
    parses.table, parses.running = [row("A"), row("B")], {dag_id("A")}
    parses()
    parses.table = [row("B")]

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(snapshot, "write_atomic", refuse)

    for _ in range(2):
        assert set(parses.dags()) == {dag_id("A"), dag_id("B")}


def test_parse_asks_a_bounded_number_of_times_and_then_of_the_others(parses: Parses) -> None:
    many = draining.MOST_QUESTIONS
    keys = [f"S{number:03}" for number in range(many + 2)]
    parses.table = [row(key) for key in (*keys, "Stays")]
    parses.running = set(map(dag_id, keys))
    parses()
    parses.table = [row("Stays")]

    first = parses.dags()
    asked = list(parses.asked)
    second = parses.dags()

    assert set(first) == set(second) == {dag_id("Stays"), *parses.running}
    assert len(asked) == len(parses.asked) - many == many
    assert set(parses.asked) == set(map(dag_id, keys))


def test_question_without_an_answer_does_not_keep_a_parse(
    parses: Parses, monkeypatch: pytest.MonkeyPatch
) -> None:
    parses.table = [row("A"), row("B")]
    parses()
    parses.table = [row("B")]
    answered = threading.Event()
    monkeypatch.setattr(draining, "has_active_run", lambda _: answered.wait())
    monkeypatch.setattr(draining, "ASKING_SECONDS", 0.01)

    found = set(parses.dags())
    answered.set()

    assert found == {dag_id("A"), dag_id("B")}


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"A": "yesterday"}', "[" * 100_000, "\udcff"],
    ids=["empty", "cut", "foreign JSON", "no time", "deep", "no text"],
)
def test_damaged_note_counts_as_none(
    parses: Parses, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    off = row("A")._replace(status="disabled")
    parses.table, parses.running = [row("A"), row("B")], {dag_id("A")}
    parses()
    parses.table = [off, row("B")]
    parses()
    parses.note.write_text(text, errors="surrogateescape")

    with caplog.at_level(logging.WARNING):
        dags = parses.dags()

    assert "ending" in dags[dag_id("A")].tags
    warnings = [it.getMessage() for it in caplog.records if it.levelno >= logging.WARNING]
    [warning] = warnings
    assert warning.startswith(f"The note {parses.note} of streams that have ended is ignored: ")
    assert list(json.loads(parses.note.read_text())) == ["A"]


def test_damaged_note_stays_until_the_table_can_be_read(parses: Parses) -> None:
    off = row("A")._replace(status="disabled")
    parses.table, parses.running = [off, row("B")], {dag_id("A")}
    parses()
    parses.note.write_text("{")
    parses.table = None

    assert "ending" in parses.dags()[dag_id("A")].tags
    assert parses.note.read_text() == "{"


def test_deep_snapshot_is_a_damaged_one(parses: Parses) -> None:
    parses.table = [row("A")]
    parses()
    (parses.note.parent / "yellowlive.json").write_text("[" * 100_000)

    assert list(parses.dags()) == [dag_id("A")]


def test_static_file_that_goes_while_it_is_looked_for_costs_no_dag(
    parses: Parses, monkeypatch: pytest.MonkeyPatch
) -> None:
    parses.table = [row("A")]
    static = parses.file.with_name(f"{dag_id('A')}.py")
    static.write_text("A")

    def find(*_: object, **__: object) -> list[str]:
        static.unlink()
        return [str(static)]

    monkeypatch.setattr(registration, "find_dag_file_paths", find)

    assert list(parses.dags()) == [dag_id("A")]


def test_dag_of_an_ended_stream_that_airflow_refuses_costs_no_other(
    parses: Parses, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    parses.table, parses.running = [row("A"), row("B")], {dag_id("A")}
    parses()
    parses.table = [row("B")]
    validate = DAG.validate

    def refuse_ending(dag: Any) -> None:
        if "ending" in dag.tags:
            raise ValueError("not today")
        validate(dag)

    monkeypatch.setattr(DAG, "validate", refuse_ending)
    with caplog.at_level(logging.ERROR):
        dags = parses.dags()

    assert list(dags) == [dag_id("B")]
    assert "yellowlive__A_ingestion' in which a run is to end: ValueError: not today" in caplog.text


def infrastructure_dag(folder: Path) -> Any:
    """Return the infrastructure DAG of the platform whose DAG files are in this folder."""
    settings = {
        "name": "yellowlive",
        "factory_files": ["yellowlive_factory_dag.py"],
        "commands": {name: ["sh", "-c", "true"] for name in ("merge_model", "reconcile_views")},
        "environment": {"PLAIN": "1"},
        "secrets": {"LOGIN": ("merge-cred", "POSTGRES_USER")},
        "model_claim": "claim",
        "model_folder": "/models",
        "namespace": "ns-test",
        "image": "datasurface/datasurface:1",
        "image_pull_policy": "Always",
        "schedule": None,
        "allowed_removals": "ALLOWED",
        "notifies": True,
        "plugin_version": __version__,
    }
    module: dict[str, Any] = {
        "__name__": "infrastructure",
        "__file__": str(folder / "yellowlive_infrastructure_dag.py"),
    }
    register_infrastructure(settings, module)
    return module["yellowlive_infrastructure"]


def check(dag: Any) -> None:
    dag.get_task("check").python_callable()


def test_infrastructure_dag_merges_then_makes_views_then_checks(tmp_path: Path) -> None:
    dag = infrastructure_dag(tmp_path)

    assert [task.task_id for task in dag.topological_sort()] == [
        "merge_model",
        "reconcile_views",
        "check",
    ]


def test_check_names_the_streams_that_cannot_run(parses: Parses, tmp_path: Path) -> None:
    parses.file.write_text(render_factory(OWN), encoding="utf-8")
    dag = infrastructure_dag(tmp_path)
    parses.table = [row("A"), row("Off")._replace(status="disabled")]
    check(dag)
    parses.table = [row("A"), row("Bad", schedule_string="every day")]

    with pytest.raises(AirflowException, match=r"1 of 2 streams have no DAG.*Bad.*every day"):
        check(dag)


@pytest.mark.parametrize("snapshot", [True, False], ids=["with snapshot", "without"])
def test_check_fails_where_the_table_cannot_be_read(
    parses: Parses, tmp_path: Path, snapshot: bool
) -> None:
    parses.file.write_text(render_factory(OWN), encoding="utf-8")
    if snapshot:
        parses.table = [row("A")]
        parses()
    parses.table = None

    with pytest.raises(AirflowException, match=r"The database is away\."):
        check(infrastructure_dag(tmp_path))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "There is no .*yellowlive_factory_dag.py, so the platform has no DAG"),
        ("raise SystemExit", "cannot be imported .SystemExit"),
        ("", "is not whole, or of another platform"),
        (render_factory({**OWN, "platform_name": "other"}), "is not whole, or of another platform"),
    ],
    ids=["missing", "ends the program", "cut", "of another platform"],
)
def test_check_says_what_is_wrong_with_a_factory_file(
    tmp_path: Path, text: str | None, problem: str
) -> None:
    if text is not None:
        (tmp_path / "yellowlive_factory_dag.py").write_text(text, encoding="utf-8")

    with pytest.raises(AirflowException, match=problem):
        check(infrastructure_dag(tmp_path))


def test_infrastructure_failure_passes_a_file_that_cannot_be_imported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        infrastructure_dag(tmp_path).on_failure_callback({})

    assert "Nobody named in yellowlive_factory_dag.py is notified. There is no" in caplog.text


@pytest.mark.skipif(IS_AIRFLOW_2, reason="any program of Airflow 2 may ask its database")
def test_only_the_dag_processor_drains() -> None:
    assert not draining.can_take_out_of_service()


@pytest.mark.skipif(IS_AIRFLOW_2, reason="Airflow 2 is asked by its database")
def test_late_answer_is_not_taken_for_that_to_another_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from airflow.dag_processing.processor import ToDagProcessor
    from airflow.sdk.execution_time import comms, task_runner
    from pydantic import TypeAdapter

    ours, theirs = socket.socketpair()
    ready = threading.Event()
    supervisor: Any = comms.CommsDecoder(socket=ours, body_decoder=TypeAdapter[Any](ToDagProcessor))
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    monkeypatch.setattr(draining, "ASKING_SECONDS", 0.01)

    def manage() -> None:
        """Answer one question after the other, as the DAG processor's manager does."""
        for answer in (
            {"type": "TICount", "count": 1},
            {"type": "VariableResult", "key": "wanted", "value": "right"},
        ):
            length = int.from_bytes(theirs.recv(4, socket.MSG_WAITALL), "big")
            number, *_ = msgspec.msgpack.decode(theirs.recv(length, socket.MSG_WAITALL))
            ready.wait()
            theirs.sendall(comms._ResponseFrame(id=number, body=answer).as_bytes())

    manager = threading.Thread(target=manage)
    manager.start()
    with ours, theirs:
        assert draining.ask_for_runs([dag_id("A")]) == {}
        threading.Timer(0.01, ready.set).start()

        assert supervisor.send(comms.GetVariable(key="wanted")).value == "right"
        manager.join()
