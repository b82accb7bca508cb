"""A platform divided among several factory files, and the change of their number."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from conftest import Site, import_file, registered_dags
from hypothesis import given, settings
from hypothesis import strategies as st
from warm_python import AIRFLOW, warm_python
from yellow_models import bootstrap

from one_machine import free_port
from yellow_dynamic.factory.shards import BUCKET_OF_KEY, hash_key
from yellow_dynamic.monitoring import airflow_python

STREAMS = [f"S{number}" for number in range(40)]
DAG_IDS = {f"yellowlive__{key}_ingestion" for key in STREAMS}


class Folder:
    """A DAG folder whose factory files are copied, parsed and deleted one at a time."""

    def __init__(self, site: Site) -> None:
        self.site = site
        #: What the last parse of each file registered, as Airflow remembers it.
        self.registered: dict[int, set[str]] = {}
        #: The file from which Airflow has each DAG.
        self.file_of: dict[str, int] = {}

    def path(self, number: int) -> Path:
        return self.site.folder / ("yellowlive_factory_dag.py" if number == 1 else file(number))

    def copy(self, shards: int, *numbers: int) -> None:
        """Copy files of a bootstrap with so many shards, those of the given numbers or all."""
        texts = factory_files(self.site, shards)
        for number in numbers or range(1, shards + 1):
            self.path(number).write_text(texts[self.path(number).name], encoding="utf-8")

    def delete(self, number: int) -> None:
        self.path(number).unlink()
        del self.registered[number]

    def parse(self, number: int) -> set[str]:
        """Parse a file as Airflow does, and return the ids of its DAGs."""
        found = set(registered_dags(import_file(self.path(number))))
        self.registered[number] = found
        self.file_of |= dict.fromkeys(found, number)
        return found

    def parse_all(self) -> None:
        """Parse each file once, in any order; no DAG may be missing meanwhile."""
        for number in random.sample(self.numbers(), len(self.numbers())):
            before = self.in_service()
            self.parse(number)
            assert before <= self.in_service()

    def in_service(self) -> set[str]:
        return set().union(*self.registered.values())

    def numbers(self) -> list[int]:
        return [number for number in range(1, 10) if self.path(number).exists()]

    def each_once(self) -> bool:
        """Return whether each DAG is registered by exactly one file."""
        found = sorted(dag_id for part in self.registered.values() for dag_id in part)
        return found == sorted(DAG_IDS)


def file(number: int) -> str:
    return f"yellowlive_factory_dag_{number}.py"


def factory_files(site: Site, shards: int) -> dict[str, str]:
    site.model.platformArguments["factoryShards"] = shards
    eco = site.model.build()
    platform = eco.getDataPlatformOrThrow(site.model.platform)
    files = bootstrap(platform, eco, 0)
    return {name: text for name, text in files.items() if "_factory_dag" in name}


@pytest.fixture
def folder(site: Site) -> Folder:
    """The folder of a platform of 40 streams, without a file."""
    site.bootstrap()
    site.factory_file.unlink()
    for key in STREAMS:
        site.insert(key, "{}")
    return Folder(site)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_each_stream_is_registered_by_exactly_one_of_the_files(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    folder.copy(3)
    folder.parse_all()

    assert folder.each_once()
    assert all(folder.registered.values())
    assert warnings(caplog) == []


def test_a_file_reads_its_own_share_only_and_keeps_it_as_its_own_snapshot(folder: Folder) -> None:
    folder.copy(3)
    folder.parse_all()

    for number, name in ((1, "yellowlive.json"), (2, "yellowlive_2.json")):
        rows = json.loads((folder.site.snapshots / name).read_text())["rows"]
        assert {f"yellowlive__{row[0]}_ingestion" for row in rows} == folder.registered[number]


def test_a_stream_keeps_its_file_when_others_come_and_go(folder: Folder) -> None:
    folder.copy(3)
    folder.parse_all()
    before = dict(folder.file_of)
    for number in range(20):
        folder.site.sql("DELETE FROM {table} WHERE stream_key = %s", (f"S{number}",))
        folder.site.insert(f"New{number}", "{}")

    for number in folder.numbers():
        folder.parse(number)

    left = [f"yellowlive__S{number}_ingestion" for number in range(20, 40)]
    assert [folder.file_of[dag_id] for dag_id in left] == [before[dag_id] for dag_id in left]


@pytest.mark.parametrize(("old", "new"), [(1, 3), (2, 5)])
def test_no_dag_is_missing_while_the_number_grows(folder: Folder, old: int, new: int) -> None:
    folder.copy(old)
    folder.parse_all()
    before = dict(folder.file_of)

    for number in range(old + 1, new + 1):
        folder.copy(new, number)
        folder.parse_all()
    for number in range(1, old + 1):
        folder.copy(new, number)
        folder.parse_all()

    assert folder.each_once()
    assert set(folder.file_of.values()) == set(range(1, new + 1))
    # A stream goes to a new file, and no other one moves.
    assert all(
        number in (before[dag_id], *range(old + 1, new + 1))
        for dag_id, number in folder.file_of.items()
    )


@pytest.mark.parametrize(("old", "new"), [(3, 2), (4, 1)])
def test_no_dag_is_missing_while_the_number_becomes_smaller(
    folder: Folder, caplog: pytest.LogCaptureFixture, old: int, new: int
) -> None:
    folder.copy(old)
    folder.parse_all()
    before = dict(folder.file_of)
    extra = range(new + 1, old + 1)

    for number in range(1, new + 1):
        folder.copy(new, number)
        folder.parse_all()
    for number in extra:
        folder.path(number).write_text(folder.path(1).read_text())
        folder.parse_all()
        assert folder.registered[number] == set()
        assert f"yellowlive_factory_dag_{number}.py registers no DAGs" in caplog.text

    assert folder.each_once()
    # A stream leaves an extra file, and no other one moves.
    assert all(before[dag_id] in (number, *extra) for dag_id, number in folder.file_of.items())
    for number in extra:
        folder.delete(number)
    caplog.clear()
    folder.parse_all()
    assert folder.each_once()
    assert warnings(caplog) == []


def test_a_file_that_is_missing_is_named_and_the_others_register_its_dags(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    folder.copy(3)
    folder.parse_all()
    folder.delete(2)

    folder.parse_all()

    assert folder.each_once()
    assert "is to have 3 factory files" in warnings(caplog)[0]
    assert "there is no complete yellowlive_factory_dag_2.py" in warnings(caplog)[0]

    folder.copy(3, 2)
    for number in (2, 1, 3):
        folder.parse(number)

    assert folder.each_once()
    assert folder.registered[2]


def test_a_file_that_is_copied_in_part_is_not_counted_yet(folder: Folder) -> None:
    folder.copy(2)
    text = folder.path(2).read_text()
    folder.path(2).write_text(text[: len(text) // 2])

    assert folder.parse(1) == DAG_IDS


def test_files_of_two_numbers_warn(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    folder.copy(2)
    folder.copy(1, 1)

    assert folder.parse(1) == DAG_IDS

    [warning] = warnings(caplog)
    assert "yellowlive_factory_dag_2.py is beside it" in warning


def test_a_task_starts_from_any_of_the_files(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.copy(3)
    folder.parse_all()
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "yellowlive__S7_ingestion")

    for number in (1, 2, 3):
        dags = registered_dags(import_file(folder.path(number)))
        assert list(dags) == ["yellowlive__S7_ingestion"]


def test_shares_do_not_move_while_the_database_is_away(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.copy(1)
    folder.parse_all()
    with monkeypatch.context() as outage:
        outage.setenv("PGHOSTADDR", "127.0.0.1")
        outage.setenv("DATASURFACE_POSTGRES_PORT", str(free_port()))
        folder.copy(3)
        for _ in range(2):
            for number in (2, 3):
                with pytest.raises(Exception, match="no snapshot to serve"):
                    folder.parse(number)
            assert folder.parse(1) == DAG_IDS

    for number in (2, 3, 1):
        folder.parse(number)

    assert folder.each_once()
    assert folder.registered[2]


def test_each_file_keeps_what_it_last_registered_while_the_database_is_away(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.copy(1)
    folder.parse_all()
    folder.copy(3)
    taken_over = folder.parse(2)

    with monkeypatch.context() as outage:
        outage.setenv("PGHOSTADDR", "127.0.0.1")
        outage.setenv("DATASURFACE_POSTGRES_PORT", str(free_port()))
        assert folder.parse(1) == DAG_IDS
        assert folder.parse(2) == taken_over


def test_the_command_sees_the_dags_of_all_the_files(folder: Folder) -> None:
    folder.copy(3)
    folder.parse_all()

    python = warm_python(*AIRFLOW)
    loaded = airflow_python.load_factory("yellowlive", python, path=str(folder.path(1)), text=None)

    assert loaded.error is None
    assert set(loaded.dags) == DAG_IDS


@settings(max_examples=25)
@given(keys=st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=50)))
def test_the_database_and_the_file_put_a_key_in_the_same_bucket(
    folder: Folder, keys: list[str]
) -> None:
    select = f"SELECT stream_key, {BUCKET_OF_KEY} FROM unnest(%s::text[]) AS stream_key"  # noqa: S608

    found = folder.site.sql(select, (keys,))

    assert found == [(key, hash_key(key)) for key in keys]
