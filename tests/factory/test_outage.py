"""The database away, and the snapshot that serves meanwhile."""

from __future__ import annotations

import json
import logging
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from conftest import Site

from one_machine import free_port
from yellow_dynamic.factory.database import READ_DEADLINE_SECONDS

DAG_ID = "yellowlive__Store1_ingestion"


@pytest.fixture
def silent_server() -> Iterator[int]:
    """The port of a server that accepts connections and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


def stop_database(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point the factory file at a port where nobody listens."""
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.1")
    monkeypatch.setenv("DATASURFACE_POSTGRES_PORT", str(free_port()))


def snapshot_file(site: Site) -> Any:
    return site.snapshots / "yellowlive.json"


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno == logging.WARNING and record.name.startswith("yellow_dynamic")
    ]


def test_the_snapshot_serves_the_same_dags_with_one_warning(
    installed: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = installed.parse()
    stop_database(installed, monkeypatch)

    during = installed.parse()

    assert [(d, dag.doc_md) for d, dag in during.items()] == [
        (d, dag.doc_md) for d, dag in before.items()
    ]
    [warning] = warnings(caplog)
    assert "last confirmed by the database at 20" in warning
    assert "Connection refused" in warning


def test_a_task_starts_from_the_snapshot_too(
    installed: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed.parse()
    stop_database(installed, monkeypatch)

    assert list(installed.parse(DAG_ID)) == [DAG_ID]


def test_a_server_that_never_answers_is_waited_for_no_longer_than_the_deadline(
    installed: Site,
    monkeypatch: pytest.MonkeyPatch,
    silent_server: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    installed.parse()
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.1")
    monkeypatch.setenv("DATASURFACE_POSTGRES_PORT", str(silent_server))

    assert list(installed.parse()) == [DAG_ID]

    [warning] = warnings(caplog)
    assert "timeout expired" in warning or f"no answer within {READ_DEADLINE_SECONDS} s" in warning


def test_refused_login_and_missing_table_are_outages_too(
    installed: Site, caplog: pytest.LogCaptureFixture
) -> None:
    installed.parse()

    installed.login(installed.postgres.user, "wrong")
    assert list(installed.parse()) == [DAG_ID]
    installed.login(installed.postgres.user, installed.postgres.password)
    installed.sql("DROP TABLE {table}")
    assert list(installed.parse()) == [DAG_ID]

    login, table = warnings(caplog)
    assert "password authentication failed" in login
    assert "Run bootstrap with --ringLevel 1" in table


@pytest.mark.parametrize(
    ("statement", "advice"),
    [
        ("REVOKE CONNECT ON DATABASE {database} FROM PUBLIC", "Grant the role CONNECT on the"),
        ("ALTER ROLE {role} CONNECTION LIMIT 0", "Raise the limit of the server"),
        ("ALTER ROLE {role} PASSWORD 'another'", "Check the login, and that pg_hba.conf"),
        ("ALTER ROLE {role} NOLOGIN", "Check the login, and that pg_hba.conf"),
        ("ALTER TABLE {table} RENAME status TO state", "A column of the table was renamed"),
        ("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY", "Row security would hide rows"),
        ("REVOKE SELECT ON {table} FROM {role}", "Run yellowlive-airflow-reader.sql"),
    ],
)
def test_outage_that_the_server_reports_is_advised_on_by_its_cause(
    installed: Site, driver: str, caplog: pytest.LogCaptureFixture, statement: str, advice: str
) -> None:
    installed.parse()
    role = installed.create_role("reader_ssl_certificates", "a-password-7")
    installed.sql(f"GRANT SELECT ON {{table}} TO {role}")
    installed.login(role, "a-password-7")
    names = {"database": installed.database, "role": role, "table": installed.table}
    installed.sql(statement.format(**names))

    assert list(installed.parse()) == [DAG_ID]

    [warning] = warnings(caplog)
    assert advice in warning
    assert "is up and can be reached" not in warning


def test_changes_made_meanwhile_take_effect_when_the_database_is_back(
    installed: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed.parse()
    with monkeypatch.context() as outage:
        stop_database(installed, outage)
        assert list(installed.parse()) == [DAG_ID]
    installed.model.branch = "other"
    installed.merge_cleanly()

    assert '"git_repo_branch": "other"' in installed.parse()[DAG_ID].doc_md


def test_cold_start_without_database_names_table_host_and_cause(
    installed: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_database(installed, monkeypatch)

    with pytest.raises(Exception) as failure:
        installed.parse()

    text = str(failure.value)
    assert type(failure.value).__name__ == "TableUnreadableError"
    for part in ("yellowlive_airflow_dsg", installed.model.host, "Connection refused", "snapshot"):
        assert part in text
    assert installed.postgres.password not in text


def test_missing_login_names_the_variables(
    installed: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("postgres_PASSWORD")

    with pytest.raises(Exception, match="postgres_USER and postgres_PASSWORD are not both set"):
        installed.parse()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:-20],
        lambda text: "",
        lambda text: "[1, 2]",
        lambda text: text.replace("Store1", "Store2"),
        lambda text: json.dumps({**json.loads(text), "format": 99}),
        lambda text: json.dumps({**json.loads(text), "table": "other_airflow_dsg"}),
    ],
    ids=["truncated", "empty", "foreign JSON", "altered", "future format", "other platform's"],
)
def test_a_snapshot_that_cannot_be_trusted_is_ignored_and_rewritten(
    installed: Site,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    spoil: Any,
) -> None:
    installed.parse()
    good = snapshot_file(installed).read_text()
    snapshot_file(installed).write_text(spoil(good))

    with monkeypatch.context() as outage:
        stop_database(installed, outage)
        with pytest.raises(Exception, match="no snapshot to serve"):
            installed.parse()
    assert "is ignored" in warnings(caplog)[0]

    installed.parse()
    assert snapshot_file(installed).read_text() == good


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_snapshot_of_another_user_is_ignored_and_rewritten(
    installed: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed.parse()
    os.chown(snapshot_file(installed), 65534, 65534)

    with monkeypatch.context() as outage:
        stop_database(installed, outage)
        with pytest.raises(Exception, match="no snapshot to serve"):
            installed.parse()

    installed.parse()
    assert snapshot_file(installed).stat().st_uid == os.geteuid()


def test_the_snapshot_is_private_and_rewritten_only_when_rows_change(installed: Site) -> None:
    installed.parse()
    first = snapshot_file(installed).stat()
    installed.parse()
    second = snapshot_file(installed).stat()
    installed.model.branch = "other"
    installed.merge_cleanly()
    installed.parse()
    third = snapshot_file(installed).stat()

    assert stat.S_IMODE(first.st_mode) == 0o600
    assert first.st_ino == second.st_ino != third.st_ino
    assert second.st_mtime_ns > first.st_mtime_ns
    names = {path.name for path in installed.snapshots.iterdir()}
    assert names - {"yellowlive.ended.json"} == {"yellowlive.json"}


def test_a_task_start_leaves_the_snapshot_alone(installed: Site) -> None:
    installed.parse(DAG_ID)

    assert not snapshot_file(installed).exists()


def test_a_folder_that_cannot_be_written_is_one_warning(
    installed: Site, caplog: pytest.LogCaptureFixture
) -> None:
    installed.snapshots.write_text("a file where a folder should be")

    assert list(installed.parse()) == [DAG_ID]
    [warning] = warnings(caplog)
    assert "YELLOW_DYNAMIC_SNAPSHOT_DIR" in warning
