"""A platform divided among several factory files, and the change of their number."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import Site, import_file, registered_dags
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yellow_models import bootstrap

from one_machine import free_port
from yellow_dynamic.monitoring import airflow_python

STREAMS = [f"S{number}" for number in range(40)]
DAG_IDS = {f"yellowlive__{key}_ingestion" for key in STREAMS}


class Folder:
    """A DAG folder whose factory files are copied, parsed and deleted one at a time."""

    def __init__(self, site: Site) -> None:
        self.site = site
        #: What the last parse of each file registered, as Airflow remembers it.
        self.registered: dict[int, set[str]] = {}
        #: The file from which Airflow has each DAG, and how many times that changed.
        self.file_of: dict[str, int] = {}
        self.moves: dict[str, int] = {}

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
        for dag_id in found:
            if self.file_of.get(dag_id, number) != number:
                self.moves[dag_id] = self.moves.get(dag_id, 0) + 1
            self.file_of[dag_id] = number
        return found

    def parse_all(self, times: int = 1) -> None:
        for _ in range(times):
            for number in self.numbers():
                self.parse(number)

    def numbers(self) -> list[int]:
        return [number for number in range(1, 10) if self.path(number).exists()]

    def each_once(self) -> bool:
        """Tell whether each DAG is registered by exactly one file."""
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

    folder.parse_all()

    left = [f"yellowlive__S{number}_ingestion" for number in range(20, 40)]
    assert [folder.file_of[dag_id] for dag_id in left] == [before[dag_id] for dag_id in left]


CHANGES = [(1, 3), (3, 2), (2, 5), (4, 1)]


@pytest.mark.parametrize("order", ["first file first", "first file last", "any order"])
@pytest.mark.parametrize(("old", "new"), CHANGES)
def test_no_dag_is_missing_or_goes_back_while_the_number_changes(
    folder: Folder, old: int, new: int, order: str
) -> None:
    folder.copy(old)
    folder.parse_all(2)
    assert folder.each_once()
    before = dict(folder.file_of)
    folder.moves.clear()
    arriving = list(range(1, new + 1))
    if order == "any order":
        random.shuffle(arriving)
    elif order == "first file last":
        arriving.reverse()

    for number in arriving:
        folder.copy(new, number)
        # Airflow may take its time to find a new file, and parses those that it knows meanwhile.
        for known in random.sample(sorted(folder.registered), len(folder.registered)):
            folder.parse(known)
            assert set().union(*folder.registered.values()) == DAG_IDS
    for number in [*random.sample(folder.numbers(), len(folder.numbers())), *folder.numbers()]:
        folder.parse(number)
        assert set().union(*folder.registered.values()) == DAG_IDS
    folder.parse_all()

    assert folder.each_once()
    for number in range(new + 1, old + 1):
        assert folder.registered[number] == set()
        folder.delete(number)
    folder.parse_all()
    assert folder.each_once()
    # A stream goes to a new file or from a file that goes, and no other one moves.
    for dag_id, number in folder.file_of.items():
        moved = number != before[dag_id]
        assert folder.moves.get(dag_id, 0) <= 1
        assert not moved or number > old or before[dag_id] > new


def test_a_file_that_is_missing_is_named_and_the_others_register_its_dags(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    folder.copy(3)
    folder.parse_all()
    folder.delete(2)

    folder.parse_all(2)

    assert folder.each_once()
    assert "is to have 3 factory files" in warnings(caplog)[0]
    assert "there is no complete yellowlive_factory_dag_2.py" in warnings(caplog)[0]
    assert not (folder.site.snapshots / "yellowlive_2.json").exists()

    # It comes back, and Airflow does not know it at once.
    folder.copy(3, 2)
    folder.parse(1)
    folder.parse(3)
    assert set().union(*folder.registered.values()) == DAG_IDS
    folder.parse_all(2)
    assert folder.each_once()
    assert folder.registered[2]


def test_a_file_that_is_copied_in_part_is_not_counted_yet(folder: Folder) -> None:
    folder.copy(2)
    text = folder.path(2).read_text()
    folder.path(2).write_text(text[: len(text) // 2])

    assert folder.parse(1) == DAG_IDS


def test_a_file_beyond_the_number_registers_nothing_and_says_that_it_can_go(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    folder.copy(2)
    folder.copy(1, 1)

    assert folder.parse(2) == set()
    [warning] = warnings(caplog)
    assert "yellowlive_factory_dag_2.py is one too many" in warning
    assert folder.parse(1) == DAG_IDS


def test_a_first_file_of_a_release_without_shards_keeps_all_streams(folder: Folder) -> None:
    folder.copy(3)
    text = re.sub(r" +'factory_shards': 3,\n", "", folder.path(1).read_text())
    folder.path(1).write_text(text)

    assert folder.parse(2) == folder.parse(3) == set()


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

    folder.parse_all(2)

    assert folder.each_once()
    assert folder.registered[2]


def test_a_change_under_way_goes_on_neither_forth_nor_back_in_an_outage(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.copy(1)
    folder.parse_all()
    folder.copy(3)
    given_away = folder.parse(2)

    with monkeypatch.context() as outage:
        outage.setenv("PGHOSTADDR", "127.0.0.1")
        outage.setenv("DATASURFACE_POSTGRES_PORT", str(free_port()))
        assert folder.parse(1) == DAG_IDS - given_away
        assert folder.parse(2) == given_away


def test_where_no_note_can_be_kept_the_files_divide_the_streams_at_once(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    folder.site.snapshots.write_text("a file where a folder should be")
    folder.copy(3)

    folder.parse_all()

    assert folder.each_once()
    assert any("so a change of factoryShards" in text for text in warnings(caplog))


def test_a_copy_elsewhere_leaves_the_notes_of_the_files_in_service_alone(
    folder: Folder, tmp_path: Path
) -> None:
    folder.copy(3)
    folder.parse_all(2)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    copy = elsewhere / folder.path(1).name
    copy.write_text(folder.path(1).read_text())

    assert set(registered_dags(import_file(copy))) == DAG_IDS

    folder.parse_all()
    assert folder.each_once()


def test_the_command_sees_the_dags_of_all_the_files(folder: Folder) -> None:
    folder.copy(3)
    folder.parse_all()

    loaded = airflow_python.load_factory("yellowlive", "", path=str(folder.path(1)), text=None)

    assert loaded.error is None
    assert set(loaded.dags) == DAG_IDS


@pytest.fixture
def module(folder: Folder) -> Any:
    folder.copy(1)
    return import_file(folder.path(1))


@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(keys=st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=50)))
def test_the_database_and_the_file_put_a_key_in_the_same_bucket(
    module: Any, folder: Folder, keys: list[str]
) -> None:
    bucket = module.BUCKET_OF_KEY
    select = f"SELECT stream_key, {bucket} FROM unnest(%s::text[]) AS stream_key"  # noqa: S608

    found = folder.site.sql(select, (keys,))

    assert found == [(key, module.bucket_of(key)) for key in keys]


def test_files_have_about_equal_shares(module: Any) -> None:
    shares = module.owners(tuple(range(1, 21)))

    counts = [shares.count(number) for number in range(1, 21)]
    assert min(counts) > 0.75 * sum(counts) / 20
    assert max(counts) < 1.25 * sum(counts) / 20


def test_the_share_of_a_stream_is_the_same_on_every_machine(module: Any) -> None:
    """A release that computed it otherwise would move DAGs, which no note announces."""
    assert [module.bucket_of(key) for key in ("Store1", "Store2_dataset")] == [2039, 2516]
    assert module.owners((1, 2, 3))[:10] == [3, 2, 2, 3, 1, 3, 2, 1, 2, 3]
