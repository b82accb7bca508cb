"""What the parses of a large installation cost its database."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import ModuleType
from typing import Any

import psycopg2
import pytest
from conftest import Site
from pg_proxy import PostgresProxy
from pytest_mock import MockerFixture

from one_machine import NotYetError, wait_until

#: Two schedulers of four parsing processes each.
PROCESSES = 8
PARSES = 12


@pytest.fixture
def proxy(installed: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresProxy]:
    """Stands before the server from now on, and sees what the factory file sends."""
    server = (installed.postgres.address, installed.postgres.port)
    with PostgresProxy(server) as running:
        monkeypatch.setenv("PGHOSTADDR", running.address)
        yield running


@pytest.mark.parametrize("dag_id", [None, "yellowlive__Store1_ingestion"], ids=["parse", "task"])
def test_the_file_sends_one_message_after_connecting(
    installed: Site, proxy: PostgresProxy, dag_id: str | None
) -> None:
    assert len(installed.parse(dag_id)) == 1

    [statement] = proxy.statements
    assert statement.startswith(
        "SET LOCAL statement_timeout = 5000;\nSET LOCAL row_security = off;"
    )


def test_the_message_leaves_nothing_in_the_session(
    installed: Site, monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture
) -> None:
    """A pooler in transaction mode may give the session to another client next."""
    module = installed.module()
    monkeypatch.setattr(module, "closing", nullcontext)
    connect = mocker.spy(psycopg2, "connect")

    module.read_table(module.BUILDER.platform, module.ALL_ROWS)

    connection = connect.spy_return
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("0",)
    assert not connection.get_transaction_status()
    connection.close()


def test_a_statement_that_takes_too_long_ends_in_the_database_too(installed: Site) -> None:
    module = installed.module()
    blocker = psycopg2.connect(
        host=installed.postgres.address,
        port=installed.postgres.port,
        user=installed.postgres.user,
        password=installed.postgres.password,
        dbname=installed.database,
    )
    with blocker.cursor() as cursor:
        cursor.execute("LOCK TABLE yellowlive_airflow_dsg")

        with pytest.raises(module.TableUnreadableError, match="statement timeout"):
            module.read_table(module.BUILDER.platform, module.ALL_ROWS)

        wait_for_connections(installed, 0)
    blocker.close()


def connections(site: Site) -> int:
    """Return how many are the factory file's; a real DataSurface keeps some of its own."""
    [(count,)] = site.postgres.execute(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = %s AND application_name LIKE 'yellow_dynamic factory %%'",
        (site.database,),
    )
    return int(count)


def wait_for_connections(site: Site, expected: int) -> None:
    """Wait until so many are left; the server's side of one ends shortly after the client's."""

    def left() -> None:
        if (count := connections(site)) != expected:
            raise NotYetError(f"There are {count} connections.")

    wait_until(left, seconds=5)


@pytest.mark.slow
def test_parsing_processes_hold_no_more_connections_than_they_are(installed: Site) -> None:
    """The number of factory files does not count: a process has one file at a time."""
    module = installed.module()
    seen = []

    with parsing(module) as finished:

        def ended() -> None:
            seen.append(connections(installed))
            if finished.value < PROCESSES * PARSES:
                raise NotYetError(f"{finished.value} parses are done.")

        wait_until(ended, seconds=60, every=0.005)

    assert 0 < max(seen) <= PROCESSES
    wait_for_connections(installed, 0)


@contextmanager
def parsing(module: ModuleType) -> Iterator[Any]:
    """Let processes parse; the value counts the parses that are done."""
    context = multiprocessing.get_context("fork")
    finished = context.Value("i", 0)
    processes = [context.Process(target=parse, args=(module, finished)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    try:
        yield finished
    finally:
        for process in processes:
            process.join(30)
    assert [process.exitcode for process in processes] == [0] * PROCESSES


def parse(module: ModuleType, finished: Any) -> None:
    for _ in range(PARSES):
        module.shard_dags(module.BUILDER)
        assert module.READING["age"] is None
        with finished.get_lock():
            finished.value += 1
