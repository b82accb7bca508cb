"""Each change of a row is on record: by the database itself, in the transaction of the change."""

from __future__ import annotations

import json

import pytest
from conftest import Site
from recorded import changes, replayed, rows, unrecorded
from yellow_models import Store

from yellow_dynamic import __version__


def test_new_table_has_its_history_and_first_merge_is_revision_1(installed: Site) -> None:
    [change] = changes(installed)

    assert (change["revision"], change["action"], change["stream_key"]) == (1, "added", "Store1")
    assert change["login"] == installed.postgres.user
    assert change["application"] == "yellow_dynamic YellowLive"
    assert (change["config_before"], change["status_before"]) == (None, None)
    assert json.loads(change["config_after"])["stream_key"] == "Store1"
    assert change["status_after"] == "active"
    assert json.loads(change["about"])["release"] == __version__


def test_all_changes_of_a_merge_are_one_revision(installed: Site) -> None:
    installed.model.stores = [Store("Store1", ["orders"]), Store("Store2"), Store("Store3")]
    installed.merge_cleanly()
    installed.model.stores = [Store("Store1"), Store("Store3")]
    installed.merge_cleanly()

    assert [(each["revision"], each["action"], each["stream_key"]) for each in changes(installed)][
        1:
    ] == [
        (2, "added", "Store2"),
        (2, "added", "Store3"),
        (2, "changed", "Store1"),
        (3, "removed", "Store2"),
        (3, "changed", "Store1"),
    ]
    assert replayed(installed) == rows(installed)


def test_merge_that_changes_nothing_is_no_revision(installed: Site) -> None:
    installed.merge_cleanly()

    assert [each["revision"] for each in changes(installed)] == [1]


@pytest.mark.parametrize(
    ("statement", "actions"),
    [
        ("INSERT INTO {table} VALUES ('New', NULL, NULL)", ["added"]),
        ("UPDATE {table} SET config_json = '{{}}'", ["changed"]),
        ("UPDATE {table} SET config_json = NULL", ["changed"]),
        ("UPDATE {table} SET status = 'disabled'", ["disabled"]),
        ("UPDATE {table} SET status = 'asleep'", ["changed"]),
        ("UPDATE {table} SET status = 'disabled', config_json = '{{}}'", ["changed"]),
        ("UPDATE {table} SET stream_key = 'Other'", ["added", "removed"]),
        ("UPDATE {table} SET updated_at = now()", []),
        ("DELETE FROM {table} WHERE false", []),
        ("DELETE FROM {table}", ["removed"]),
        ("TRUNCATE {table}", ["removed"]),
        (
            "INSERT INTO {table} VALUES ('Store1', '{{}}', 'active') "
            "ON CONFLICT (stream_key) DO UPDATE SET config_json = '{{}}'",
            ["changed"],
        ),
        (
            "MERGE INTO {table} AS old USING (VALUES ('Store1')) AS new (key) "
            "ON old.stream_key = new.key WHEN MATCHED THEN DELETE",
            ["removed"],
        ),
    ],
)
def test_edit_by_hand_is_on_record(installed: Site, statement: str, actions: list[str]) -> None:
    installed.sql(statement)

    found = changes(installed)[1:]
    assert [each["action"] for each in found] == actions
    assert {each["revision"] for each in found} <= {2}
    assert {each["about"] for each in found} <= {None}
    assert unrecorded(installed) == {}


def test_stream_that_is_switched_on_again_is_enabled(installed: Site) -> None:
    installed.sql("UPDATE {table} SET status = 'disabled'")
    installed.sql("UPDATE {table} SET status = 'active'")

    assert [each["action"] for each in changes(installed)] == ["added", "disabled", "enabled"]


def test_change_that_is_rolled_back_leaves_no_record(installed: Site) -> None:
    with installed.postgres.connect(installed.database) as connection:
        cursor = connection.cursor()
        cursor.execute(f"DELETE FROM {installed.table}")  # noqa: S608
        connection.rollback()

    assert len(changes(installed)) == 1
    installed.sql("DELETE FROM {table}")
    assert changes(installed)[-1]["revision"] == 2


def test_columns_that_a_dba_added_do_not_get_in_its_way(installed: Site) -> None:
    installed.sql("ALTER TABLE {table} ADD at text, ADD last text, ADD revision int")

    installed.model.stores.append(Store("Store2"))
    installed.merge_cleanly()

    assert [each["action"] for each in changes(installed)] == ["added", "added"]
    assert unrecorded(installed) == {}


def test_bootstrap_restores_a_dropped_column(installed: Site) -> None:
    installed.sql("ALTER TABLE {table} DROP disabled_until")

    installed.bootstrap()
    installed.model.stores.append(Store("Store2"))
    installed.merge_cleanly()

    assert unrecorded(installed) == {}


@pytest.mark.from_the_field("time, place or encoding of another process")
def test_time_with_a_zone_is_recorded_as_that_of_utc(installed: Site) -> None:
    installed.sql("ALTER TABLE {table} ALTER disabled_until TYPE timestamptz")

    installed.sql(
        "SET timezone = 'Asia/Tokyo'; UPDATE {table} SET status = 'disabled', "
        "disabled_until = '2030-01-02 12:00 UTC'"
    )

    assert changes(installed)[-1]["disabled_until"].isoformat() == "2030-01-02T12:00:00"


def test_function_that_records_in_the_zone_of_the_session_is_replaced(installed: Site) -> None:
    installed.sql("ALTER FUNCTION {table}_record RESET timezone")

    installed.bootstrap()

    [(settings,)] = installed.sql(
        "SELECT proconfig FROM pg_proc WHERE oid = '{table}_record'::regproc"
    )
    assert "TimeZone=UTC" in settings


@pytest.mark.from_the_field("time, place or encoding of another process")
def test_user_of_any_name_merges_into_a_database_without_an_encoding(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.sql(
        f"CREATE DATABASE ascii_{site.database} ENCODING SQL_ASCII LC_COLLATE 'C' LC_CTYPE 'C' "
        "TEMPLATE template0"
    )
    site.database = site.model.database = f"ascii_{site.database}"
    monkeypatch.setenv("DATASURFACE_USER", "Jos\u00e9 \u20ac")
    monkeypatch.setenv("PGCLIENTENCODING", "UTF8")

    site.bootstrap()
    site.merge_cleanly()

    [change] = changes(site)
    assert json.loads(change["about"])["by"] == "Jos\u00e9 \u20ac"
