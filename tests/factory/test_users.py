"""Parses by Airflow's own user, and by root and other users."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Site

pytestmark = [
    pytest.mark.from_the_field("a parse by another user"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user"),
]

DAG_ID = "yellowlive__Store1_ingestion"
#: Airflow's own user in its image.
AIRFLOW = 50000


@pytest.fixture
def home(installed: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that all users can use, in which the snapshot's folder is to be made."""
    # Each run of pytest makes its own folders private, those of other runs too.
    with tempfile.TemporaryDirectory(prefix="airflow-") as folder:
        Path(folder).chmod(0o777)
        shutil.move(installed.factory_file, folder)
        installed.folder = Path(folder)
        installed.snapshots = installed.folder / "yellow_dynamic"
        monkeypatch.setenv("YELLOW_DYNAMIC_SNAPSHOT_DIR", str(installed.snapshots))
        yield installed.folder


@contextmanager
def airflows_own_user() -> Iterator[None]:
    """Let this process be Airflow's own user."""
    os.seteuid(AIRFLOW)
    try:
        yield
    finally:
        os.seteuid(0)


def parse(module: Any) -> set[str]:
    """Parse as the DAG processor does, and return the ids of the DAGs."""
    module.can_take_out_of_service = lambda: True
    return set(module.shard_dags(module.BUILDER))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


def test_parse_by_root_does_not_keep_airflows_own_user_from_parsing(
    installed: Site, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    module = installed.module()
    caplog.clear()

    with airflows_own_user():
        found = parse(module)

    assert found == {DAG_ID}
    [note, snapshot] = warnings(caplog)
    chown = f"Permission denied; as root, run chown -R {AIRFLOW} {installed.snapshots}"
    assert note.startswith("The note ")
    assert f"is ignored: {chown}." in note
    assert f"cannot be written ({chown})" in snapshot


def test_outage_names_the_snapshot_that_another_user_has(
    installed: Site, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module = installed.module()
    monkeypatch.setenv("DATASURFACE_POSTGRES_PORT", "9")

    with (
        airflows_own_user(),
        pytest.raises(module.TableUnreadableError, match="There is no snapshot to serve"),
    ):
        parse(module)

    assert "yellowlive.json is ignored: Permission denied; as root, run chown" in caplog.text


def test_folder_that_root_makes_is_that_of_airflows_own_user(
    installed: Site, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    os.chown(home, AIRFLOW, AIRFLOW)
    module = installed.module()
    caplog.clear()

    with airflows_own_user():
        assert parse(module) == {DAG_ID}
        monkeypatch.setenv("DATASURFACE_POSTGRES_PORT", "9")
        assert parse(module) == {DAG_ID}

    assert [path.stat().st_uid for path in installed.snapshots.iterdir()] == [AIRFLOW] * 2


def test_ended_stream_keeps_its_dag_where_another_user_has_the_note(
    installed: Site, home: Path
) -> None:
    os.chown(home, AIRFLOW, AIRFLOW)
    module: Any = installed.module()
    module.has_active_run = lambda dag_id: dag_id == DAG_ID
    parse(module)
    installed.sql("UPDATE {table} SET status = 'disabled'")
    parse(module)

    with airflows_own_user():
        assert parse(module) == {DAG_ID}
        assert parse(module) == {DAG_ID}
