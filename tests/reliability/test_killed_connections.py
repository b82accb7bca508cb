"""The connection to the merge store breaks, drops or delays packets in the middle of things."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Site, registered_dags
from fault_table import FaultTable
from merge_command import Commands, shows_no_traceback
from pg_proxy import Break, PostgresProxy
from recorded import unrecorded
from sqlalchemy.exc import DBAPIError, OperationalError
from yellow_models import Store

from datasurface.md import PlatformPipelineGraph, ValidationTree
from yellow_dynamic.factory.database import READ_DEADLINE_SECONDS
from yellow_dynamic.plugin import YellowDynamicGraphHandler

MODELS = ("[Store('A'), Store('Stays')]", "[Store('B'), Store('Stays', ['orders'])]")


@pytest.fixture
def proxy(installed: Site) -> Iterator[PostgresProxy]:
    """A proxy before the merge store's server; point PGHOSTADDR at it to use it."""
    with PostgresProxy((installed.postgres.address, installed.postgres.port)) as made:
        yield made


def rows(site: Site) -> list[tuple[Any, ...]]:
    """Return the rows, after a look whether the history comes to them."""
    assert unrecorded(site) == {}
    return site.sql("SELECT * FROM {table} ORDER BY stream_key")


def keys(site: Site) -> list[str]:
    return [key for (key, *_) in rows(site)]


def populate(graph: PlatformPipelineGraph) -> None:
    handler = graph.platform.createGraphHandler(graph)
    assert isinstance(handler, YellowDynamicGraphHandler)
    tree = ValidationTree(graph.eco)
    handler.populateDAGConfigurations(graph.eco, tree)
    assert not tree.hasErrors()


def two_graphs(site: Site) -> list[PlatformPipelineGraph]:
    graphs = []
    for stores in ([Store("A"), Store("Stays")], [Store("B"), Store("Stays", ["orders"])]):
        site.model.stores = stores
        graphs.append(site.model.graph(site.folder))
    return graphs


@pytest.mark.slow
def test_command_that_loses_the_connection_at_any_statement_keeps_the_old_rows(
    installed: Site, proxy: PostgresProxy, faults: FaultTable
) -> None:
    commands = [
        Commands(installed.folder / f"model{number}", installed.model, stores)
        for number, stores in enumerate(MODELS)
    ]
    assert commands[0].merge().returncode == 0
    statement = survived = 0
    recoveries = []
    while True:
        statement += 1
        proxy.break_at = statement
        new = commands[statement % 2]
        before = rows(installed)
        done = new.merge(PGHOSTADDR=proxy.address)
        if done.returncode == 0:
            break
        intact = rows(installed) == before
        assert shows_no_traceback(done)
        assert installed.table in done.stderr
        assert installed.postgres.password not in done.stdout + done.stderr
        ended = time.monotonic()
        assert new.merge().returncode == 0
        recoveries.append(time.monotonic() - ended)
        survived += intact and rows(installed) != before
    # A real DataSurface connects for what is its own too, and says less.
    whole = max(proxy.connections, key=len)
    assert whole[-1] == "COMMIT"
    assert len(whole) == statement - 1
    faults.record(
        "connection cut before a statement of handleModelMerge",
        injected=statement - 1,
        survived=survived,
        rows_lost=2 * (statement - 1 - survived),
        recovery_seconds=max(recoveries),
    )


def test_merge_that_loses_the_answer_leaves_one_of_the_two_sets(
    installed: Site,
    proxy: PostgresProxy,
    monkeypatch: pytest.MonkeyPatch,
    faults: FaultTable,
) -> None:
    graphs = two_graphs(installed)
    populate(graphs[0])
    proxy.how = "after"
    committed = []
    statement = 0
    while True:
        statement += 1
        proxy.break_at = statement
        before = rows(installed)
        with monkeypatch.context() as broken:
            broken.setenv("PGHOSTADDR", proxy.address)
            try:
                populate(graphs[statement % 2])
            except DBAPIError as error:
                [note] = error.__notes__
            else:
                break
        if proxy.statements[-1] == "COMMIT":
            wait_until_free(installed)
            committed.append(keys(installed))
            assert "Nothing was changed" not in note
            assert "holds the old rows or the new ones" in note
        else:
            assert rows(installed) == before
            assert "Nothing was changed" in note
        populate(graphs[statement % 2])
        assert rows(installed) != before
    assert committed in ([["A", "Stays"]], [["B", "Stays"]])
    faults.record(
        "answer to a statement of the merge lost",
        injected=statement - 1,
        survived=statement - 1,
    )


def wait_until_free(site: Site) -> None:
    """Wait until no connection is in the middle of a transaction on the merge store."""
    for _ in range(100):
        if not site.sql("SELECT 1 FROM pg_locks WHERE mode = 'ExclusiveLock' AND relation > 0"):
            return
        time.sleep(0.1)
    pytest.fail("The table stays locked.")


def test_backend_that_is_terminated_among_the_inserts_leaves_the_old_rows(
    installed: Site, faults: FaultTable
) -> None:
    installed.sql(
        "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.stream_key = 'Stays' THEN PERFORM pg_terminate_backend(pg_backend_pid()); "
        "END IF; RETURN NEW; END $$"
    )
    graph, other = two_graphs(installed)
    populate(other)
    installed.sql(
        "CREATE TRIGGER t BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION die()"
    )
    before = rows(installed)

    with pytest.raises(OperationalError, match="connection"):
        populate(graph)

    lost = 0 if rows(installed) == before else len(before)
    installed.sql("DROP TRIGGER t ON {table}")
    started = time.monotonic()
    populate(graph)
    assert keys(installed) == ["A", "Stays"]
    faults.record(
        "pg_terminate_backend in the middle of the inserts",
        injected=1,
        survived=1,
        rows_lost=lost,
        recovery_seconds=time.monotonic() - started,
    )


def test_table_is_free_again_after_a_merge_that_the_network_swallowed(
    installed: Site,
    proxy: PostgresProxy,
    monkeypatch: pytest.MonkeyPatch,
    faults: FaultTable,
) -> None:
    monkeypatch.setattr("yellow_dynamic.merge_store.LOST_CLIENT_SECONDS", 1)
    graph, other = two_graphs(installed)
    populate(other)
    before = rows(installed)
    proxy.how = "silence"
    proxy.break_at = statement_number(proxy, "INSERT", graph, monkeypatch)
    populate(other)
    with monkeypatch.context() as broken:
        broken.setenv("PGHOSTADDR", proxy.address)
        lost = threading.Thread(target=swallowed, args=(graph,), daemon=True)
        lost.start()
        wait_until_silent(proxy)
    started = time.monotonic()

    assert keys(installed) == [key for (key, *_) in before]
    populate(graph)

    assert keys(installed) == ["A", "Stays"]
    faults.record(
        "packets dropped in the middle of the merge",
        injected=1,
        survived=1,
        recovery_seconds=time.monotonic() - started,
    )


def swallowed(graph: PlatformPipelineGraph) -> None:
    with pytest.raises(OperationalError):
        populate(graph)


def statement_number(
    proxy: PostgresProxy, start: str, graph: PlatformPipelineGraph, environment: pytest.MonkeyPatch
) -> int:
    """Return the place of the first statement that starts so in a merge of the graph."""
    with environment.context() as through:
        through.setenv("PGHOSTADDR", proxy.address)
        populate(graph)
    return next(n for n, text in enumerate(proxy.statements, 1) if text.startswith(start))


def wait_until_silent(proxy: PostgresProxy) -> None:
    for _ in range(100):
        if len(proxy.statements) == proxy.break_at:
            return
        time.sleep(0.1)
    pytest.fail("The merge never came to the statement.")


@pytest.mark.parametrize("how", ["before", "after"])
def test_parse_that_loses_the_connection_at_any_statement_registers_all_dags(
    installed: Site,
    proxy: PostgresProxy,
    monkeypatch: pytest.MonkeyPatch,
    faults: FaultTable,
    how: Break,
) -> None:
    module = installed.module()
    expected = sorted(registered_dags(module))
    monkeypatch.setenv("PGHOSTADDR", proxy.address)
    proxy.how = how
    statement = lost = 0
    while not proxy.break_at or len(proxy.statements) == proxy.break_at:
        statement += 1
        proxy.break_at = statement
        lost += sorted(module.shard_dags(module.BUILDER)) != expected
    assert ["airflow_dsg" in text for text in proxy.statements] == [True]
    faults.record(
        f"connection cut {how} a statement of the parse",
        injected=statement - 1,
        survived=statement - 1 - lost,
        dags_lost=lost,
    )


def test_late_packets_delay_merge_and_parse_and_change_nothing_else(
    installed: Site,
    proxy: PostgresProxy,
    monkeypatch: pytest.MonkeyPatch,
    faults: FaultTable,
) -> None:
    proxy.delay = 0.1
    monkeypatch.setenv("PGHOSTADDR", proxy.address)
    installed.model.stores = [Store("New")]

    installed.merge_cleanly()

    assert keys(installed) == ["New"]
    assert list(installed.parse()) == ["yellowlive__New_ingestion"]
    faults.record("every packet 0.1 s late", injected=2, survived=2)


@pytest.mark.slow
def test_packets_later_than_the_limit_leave_it_to_the_snapshot(
    installed: Site,
    proxy: PostgresProxy,
    monkeypatch: pytest.MonkeyPatch,
    faults: FaultTable,
) -> None:
    module = installed.module()
    before = sorted(registered_dags(module))
    monkeypatch.setenv("PGHOSTADDR", proxy.address)
    proxy.delay = 3

    during = sorted(module.shard_dags(module.BUILDER))

    reason = module.BUILDER.platform.reading["reason"]
    assert f"no answer within {READ_DEADLINE_SECONDS} s" in reason or "timeout expired" in reason
    installed.model.stores = [Store("New")]
    proxy.delay = 0
    installed.merge_cleanly()
    started = time.monotonic()
    assert list(installed.parse()) == ["yellowlive__New_ingestion"]
    faults.record(
        "every packet 3 s late, at a parse",
        injected=1,
        survived=int(during == before),
        dags_lost=len(set(before) - set(during)),
        recovery_seconds=time.monotonic() - started,
    )
