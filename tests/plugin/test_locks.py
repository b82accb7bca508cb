"""What a merge and ring 1 wait for: an autovacuum, and others that commit meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from conftest import Site
from pytest_mock import MockerFixture
from sqlalchemy.exc import SQLAlchemyError
from yellow_models import Store

from one_machine import NotYetError, wait_until
from yellow_dynamic import merge_store

AUTOVACUUM = "SELECT query FROM pg_stat_activity WHERE query LIKE 'autovacuum: VACUUM%{table}%'"


@pytest.fixture
def server(installed: Site) -> Iterator[Site]:
    """A merge store whose server looks for tables to vacuum each second."""
    set_server(installed, autovacuum_naptime="1s")
    yield installed
    for name in ("autovacuum_naptime", "deadlock_timeout"):
        installed.postgres.execute(f"ALTER SYSTEM RESET {name}")
    installed.postgres.execute("SELECT pg_reload_conf()")


def set_server(site: Site, **settings: str) -> None:
    for name, value in settings.items():
        site.postgres.execute(f"ALTER SYSTEM SET {name} = '{value}'")
    site.postgres.execute("SELECT pg_reload_conf()")


def start_autovacuum(site: Site) -> str:
    """Let the server begin an autovacuum of the table that takes minutes; return its query."""
    site.sql(
        "ALTER TABLE {table} SET (autovacuum_vacuum_cost_delay = 100, "
        "autovacuum_vacuum_cost_limit = 1, autovacuum_vacuum_threshold = 50, "
        "autovacuum_vacuum_scale_factor = 0, autovacuum_freeze_max_age = 100000); "
        "ALTER TABLE {table} DISABLE TRIGGER USER; "
        "INSERT INTO {table} SELECT 'x' || n, repeat('y', 1500), 'active', now(), now() "
        "FROM generate_series(1, 10000) n; DELETE FROM {table} WHERE stream_key LIKE 'x%'; "
        "ALTER TABLE {table} ENABLE TRIGGER USER"
    )

    def running() -> str:
        for (query,) in site.sql(AUTOVACUUM):
            return str(query)
        raise NotYetError("No autovacuum came.")

    return str(wait_until(running, seconds=300))


def use_plain_role(site: Site) -> None:
    """Let merges use a role that PostgreSQL does not show what an autovacuum does."""
    role = site.create_role("merger", "a-password-4")
    site.sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {{table}} TO {role}")
    site.login(role, "a-password-4")


@pytest.mark.slow
@pytest.mark.from_the_field("an autovacuum under a merge")
@pytest.mark.parametrize("deadlock_timeout", ["1s", "3s"])
def test_autovacuum_gives_way_to_a_merge(server: Site, deadlock_timeout: str) -> None:
    set_server(server, deadlock_timeout=deadlock_timeout)
    use_plain_role(server)
    start_autovacuum(server)
    server.model.stores = [Store("New")]

    server.merge_cleanly()

    assert server.sql("SELECT stream_key FROM {table}") == [("New",)]


@pytest.mark.slow
def test_readers_do_not_queue_while_ring_1_waits_for_an_autovacuum(server: Site) -> None:
    server.sql("ALTER TABLE {table} ALTER config_json TYPE varchar(2048)")
    start_autovacuum(server)
    ring1 = threading.Thread(target=server.bootstrap)
    ring1.start()

    def waiting() -> Any:
        if modes := server.sql("SELECT mode FROM pg_locks WHERE NOT granted"):
            return modes
        raise NotYetError("Nobody waits for a lock.")

    modes = wait_until(waiting, seconds=60)
    ring1.join(120)

    # The only mode of those that wait for autovacuums with which a reader is not in conflict.
    assert modes == [("ExclusiveLock",)]
    query = "SELECT atttypmod FROM pg_attribute WHERE attrelid = '{table}'::regclass"
    assert server.sql(f"{query} AND attname = 'config_json'") == [(-1,)]


@pytest.mark.slow
def test_autovacuum_that_is_never_cancelled_is_named(
    server: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge_store, "LOCK_TIMEOUT_SECONDS", 2)
    use_plain_role(server)
    # As after 200,000 transactions.
    server.sql(
        "UPDATE pg_class SET relfrozenxid = "
        "((txid_current() + (1::bigint << 32) - 200000) % (1::bigint << 32))::text::xid "
        "WHERE oid = '{table}'::regclass"
    )
    assert "to prevent wraparound" in start_autovacuum(server)
    server.model.stores = [Store("New")]

    with pytest.raises(SQLAlchemyError) as failure:
        server.merge()

    [note] = failure.value.__notes__
    assert "by an autovacuum that prevents wraparound and is not cancelled (process " in note


def test_readers_that_keep_ring_1_waiting_are_named(
    installed: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge_store, "LOCK_TIMEOUT_SECONDS", 1)
    installed.sql("ALTER TABLE {table} ALTER config_json TYPE varchar(2048)")
    installed.sql('CREATE TABLE "yellowlive_airflow_dsg (old" ()')
    with closing(installed.postgres.connect(installed.database)) as reader:
        cursor = reader.cursor()
        cursor.execute("SET application_name = 'pg_dump'; SELECT * FROM yellowlive_airflow_dsg")
        cursor.execute('LOCK TABLE "yellowlive_airflow_dsg (old"')

        with pytest.raises(SQLAlchemyError) as failure:
            installed.bootstrap()

    assert f"of user {installed.postgres.user} (pg_dump, for " in failure.value.__notes__[0]


@pytest.mark.from_the_field("another isolation level by default")
@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_merge_that_waited_sees_what_others_committed(
    installed: Site, level: str, mocker: MockerFixture
) -> None:
    installed.sql(
        f"ALTER DATABASE {installed.database} SET default_transaction_isolation = '{level}'"
    )
    installed.model.stores = [Store("Store1", ["another"])]
    errors: list[BaseException] = []
    attempts = mocker.spy(merge_store, "set_lock_timeout")

    def waiting() -> None:
        if attempts.call_count < 2:
            raise NotYetError("The merge has not tried twice.")

    def merge() -> None:
        try:
            installed.merge_cleanly()
        except SQLAlchemyError as error:
            errors.append(error)

    with closing(installed.postgres.connect(installed.database)) as other:
        other.cursor().execute("UPDATE yellowlive_airflow_dsg SET status = 'disabled'")
        merging = threading.Thread(target=merge)
        merging.start()
        wait_until(waiting, seconds=60)
        other.commit()
    merging.join(120)

    assert errors == []
    [(config_json, status)] = installed.sql("SELECT config_json, status FROM {table}")
    assert '"another"' in config_json and status == "disabled"
