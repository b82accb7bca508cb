"""What the package reads from the history, also with the SQLAlchemy of Airflow 2."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy
from conftest import Site
from sqlalchemy.engine import Connection
from yellow_models import Store

from yellow_dynamic import history
from yellow_dynamic.merge_store import config_table, store_url, table_transaction

TABLE = "yellowlive_airflow_dsg"


@contextmanager
def transaction(site: Site, login: tuple[str, str] | None = None) -> Iterator[Connection]:
    server = site.postgres
    login = login or (server.user, server.password)
    url = store_url(login, server.address, server.port, site.database)
    with table_transaction(url, "YellowLive", site.table, "read") as connection:
        yield connection


@pytest.fixture
def recorded(installed: Site) -> Site:
    """Revision 1 added Store1, 2 changed it by hand, 3 made it two others, 4 disabled one."""
    installed.sql("UPDATE {table} SET config_json = '{{}}'")
    installed.model.stores = [Store("One"), Store("Two")]
    installed.merge_cleanly()
    installed.sql("UPDATE {table} SET status = 'disabled' WHERE stream_key = 'Two'")
    return installed


def test_manual_edits_are_those_since_the_last_merge(installed: Site) -> None:
    [(before,)] = installed.sql("SELECT config_json FROM {table}")
    installed.sql("UPDATE {table} SET config_json = '{{}}'")
    installed.sql("UPDATE {table} SET config_json = '[]'")
    installed.sql("UPDATE {table} SET status = 'disabled'")

    with transaction(installed) as connection:
        edits = history.find_manual_edits(connection, TABLE)
    installed.merge_cleanly()

    assert list(edits) == ["Store1"]
    edited = edits["Store1"]
    assert [(each.revision, each.command) for each in edited.newest] == [(3, None), (2, None)]
    assert (edited.count, edited.before, edited.after) == (2, before, "[]")
    assert edited.newest[0].audit_metadata == {}
    with transaction(installed) as connection:
        assert history.find_manual_edits(connection, TABLE) == {}


def test_of_many_edits_of_a_row_few_are_fetched_and_two_configurations(installed: Site) -> None:
    [(before,)] = installed.sql("SELECT config_json FROM {table}")
    for number in range(40):
        installed.sql("UPDATE {table} SET config_json = %s", (f'{{"note": {number}}}',))
    fetched: list[int] = []

    with transaction(installed) as connection:
        sqlalchemy.event.listen(
            connection, "after_cursor_execute", lambda *about: fetched.append(about[1].rowcount)
        )
        edited = history.find_manual_edits(connection, TABLE)["Store1"]

    assert fetched == [6]
    assert [each.revision for each in edited.newest] == [41, 40, 39, 38, 37]
    assert [each.config_before for each in edited.newest] == [None] * 5
    assert [each.config_after for each in edited.newest[1:]] == [None] * 4
    assert (edited.count, edited.before, edited.after) == (40, before, '{"note": 39}')


def test_of_many_times_that_a_stream_was_disabled_the_newest_is_fetched(installed: Site) -> None:
    for status in ["disabled", "active"] * 20 + ["disabled"]:
        installed.sql("UPDATE {table} SET status = %s", (status,))
    fetched: list[int] = []

    with transaction(installed) as connection:
        sqlalchemy.event.listen(
            connection, "after_cursor_execute", lambda *about: fetched.append(about[1].rowcount)
        )
        found = history.find_disabling_changes(connection, TABLE, ["Store1", "Other"])

    assert fetched == [1]
    [change] = found.values()
    assert (change.revision, change.config_before, change.config_after) == (42, None, None)


def test_time_is_text_in_utc_with_a_zone_in_the_column_too(recorded: Site) -> None:
    recorded.sql("UPDATE {table} SET disabled_until = '2100-01-02 03:04' WHERE stream_key = 'Two'")
    recorded.sql("UPDATE {table} SET config_json = '[]' WHERE stream_key = 'Two'")
    recorded.sql("ALTER TABLE {table}_history ALTER disabled_until TYPE timestamptz")

    with transaction(recorded) as connection:
        found = [
            history.newest_changes(connection, TABLE)["Two"],
            history.find_disabling_changes(connection, TABLE, ["Two"])["Two"],
            *history.find_manual_edits(connection, TABLE)["Two"].newest,
        ]

    assert [change.disabled_until for change in found] == ["2100-01-02T03:04:00"] * 3


@pytest.mark.parametrize(
    ("first", "then", "edited"),
    [({}, {"command": "merge"}, []), ({"command": "merge"}, {}, ["One", "Two"])],
)
def test_edit_counts_if_it_comes_after_a_merge_in_one_transaction_too(
    recorded: Site, first: dict[str, Any], then: dict[str, Any], edited: list[str]
) -> None:
    with transaction(recorded) as connection:
        change_rows(connection, first)
        change_rows(connection, then)
        found = history.find_manual_edits(connection, TABLE)

    assert sorted(found) == edited


def test_history_without_a_change_is_at_revision_0(site: Site) -> None:
    site.bootstrap()

    with transaction(site) as connection:
        assert history.last_revision(connection, TABLE) == 0


def test_rows_are_known_as_they_were_at_each_revision(recorded: Site) -> None:
    now = {key: (config, status) for key, config, status in rows(recorded)}

    with transaction(recorded) as connection:
        at = {n: history.rows_at(connection, TABLE, n) for n in (1, 2, 3, 4)}
        assert history.last_revision(connection, TABLE) == 4
        assert history.find_first_revision(connection, TABLE) == 1

    assert list(at[1]) == ["Store1"] and at[1]["Store1"][1] == "active"
    assert at[2] == {"Store1": ("{}", "active")}
    assert at[3] == {**now, "Two": (now["Two"][0], "active")}
    assert at[4] == now


@pytest.mark.parametrize("revision", [0, 5])
def test_rows_of_no_revision_are_refused_with_those_that_there_are(
    recorded: Site, revision: int
) -> None:
    with transaction(recorded) as connection, pytest.raises(LookupError) as error:
        history.rows_at(connection, TABLE, revision)

    assert str(error.value) == (
        f"Table {TABLE!r} has the rows of the revisions 1 to 4 on record, and not those of "
        f"{revision}."
    )


def test_newest_change_of_a_row_comes_without_its_configurations(recorded: Site) -> None:
    with transaction(recorded) as connection:
        history.execute(connection, f"INSERT INTO {TABLE} VALUES ('Three', '1', 'active')")  # noqa: S608
        change_rows(connection, {})
        recent = history.newest_changes(connection, TABLE)
    recorded.sql("DELETE FROM {table} WHERE stream_key = 'Three'")
    with transaction(recorded) as connection:
        newest = history.newest_changes(connection, TABLE)

    assert (recent["Three"].action, recent["Three"].revision) == ("changed", 5)
    assert {key: (each.revision, each.action) for key, each in newest.items()} == {
        "One": (5, "changed"),
        "Two": (5, "changed"),
    }
    assert {each.stream_key for each in newest.values()} == newest.keys()
    assert {(each.config_before, each.config_after) for each in newest.values()} == {(None, None)}
    assert (newest["One"].status_before, newest["Two"].status_before) == ("active", "disabled")


def test_changes_are_newest_first_and_no_more_than_asked_for(recorded: Site) -> None:
    table = history.history_table(TABLE)

    with transaction(recorded) as connection:
        found = history.find_changes(connection, table)
        some = history.find_changes(connection, table, table.c.revision < 4, limit=2)

    assert [(each.revision, each.number) for each in found] == [
        (4, 1), (3, 3), (3, 2), (3, 1), (2, 1), (1, 1),
    ]  # fmt: skip
    assert some == found[1:3]


def change_rows(connection: Connection, metadata: dict[str, Any]) -> None:
    """Change all rows by a command that describes itself so."""
    history.set_audit_metadata(connection, metadata)
    history.execute(connection, f"UPDATE {TABLE} SET config_json = config_json || ' '")  # noqa: S608


def test_commits_are_those_of_merges_with_the_revision_of_each(recorded: Site) -> None:
    for command, commit in (
        (history.MERGE, "first"), (history.ROLLBACK, "back"), (history.MERGE, None),
        (history.MERGE, "second"),
    ):  # fmt: skip
        with transaction(recorded) as connection:
            change_rows(connection, history.audit_metadata(command, commit=commit))

    with transaction(recorded) as connection:
        found = history.find_merge_commits(connection, TABLE)

    assert found == [(8, "second"), (5, "first")]


def test_pruning_removes_what_later_revisions_do_not_need(recorded: Site) -> None:
    with transaction(recorded) as connection:
        change_rows(connection, {})
    [(changed_at,)] = recorded.sql("SELECT min(changed_at) FROM {table}_history WHERE revision = 5")

    with transaction(recorded) as connection:
        removed = history.prune(connection, config_table(TABLE), changed_at)
    with transaction(recorded) as connection:
        assert history.find_first_revision(connection, TABLE) == 4
        assert len(history.rows_at(connection, TABLE, 4)) == 2
        with pytest.raises(LookupError, match="the revisions 4 to 5 on record"):
            history.rows_at(connection, TABLE, 3)
        kept = history.find_changes(connection, history.history_table(TABLE))

    # The first two of Store1.
    assert removed == 2
    assert [(each.revision, each.stream_key, each.what) for each in kept] == [
        (5, "Two", "changed"), (5, "One", "changed"), (4, "Two", "disabled"), (4, "", "pruned"),
        (3, "Two", "added"), (3, "One", "added"), (3, "Store1", "removed"),
    ]  # fmt: skip


@pytest.mark.parametrize(("before", "removed"), [(2000, 0), (9000, 2)])
def test_history_that_is_pruned_stays_append_only(
    recorded: Site, before: int, removed: int
) -> None:
    with transaction(recorded) as connection:
        pruned = history.prune(connection, config_table(TABLE), datetime(before, 1, 1))
        assert pruned == removed
        assert (history.find_first_revision(connection, TABLE) > 1) == (removed > 0)

    with pytest.raises(Exception, match="is append-only"):
        recorded.sql("DELETE FROM {table}_history")


def test_keys_are_those_of_the_rows_and_of_the_changes_on_record(recorded: Site) -> None:
    recorded.sql("SET session_replication_role = replica; DELETE FROM {table}")
    recorded.sql(
        "SET session_replication_role = replica; "
        "INSERT INTO {table} VALUES ('Copied', '{{}}', 'active', now(), now())"
    )
    with transaction(recorded) as connection:
        history.prune(connection, config_table(TABLE), datetime(9000, 1, 1))
        keys = history.find_all_keys(connection, TABLE)

    assert keys == ["Copied", "One", "Store1", "Two"]


def test_changes_of_some_streams_are_found_by_one_parameter(recorded: Site) -> None:
    table = history.history_table(TABLE)

    with transaction(recorded) as connection:
        found = history.find_changes(connection, table, history.is_one_of(["One", "no such"]))
        none = history.find_changes(connection, table, history.is_one_of([]))

    assert [each.stream_key for each in found] == ["One"]
    assert none == []


def test_owner_of_a_history_is_foreign_to_who_lacks_its_privileges(recorded: Site) -> None:
    reader = (recorded.create_role("reader", "secret"), "secret")

    with transaction(recorded) as connection:
        assert history.find_foreign_owner(connection, TABLE) is None
        assert history.is_readable(connection, TABLE)
    with transaction(recorded, reader) as connection:
        assert history.find_foreign_owner(connection, TABLE) == recorded.postgres.user
        assert not history.is_readable(connection, TABLE)


@pytest.mark.parametrize("missing", ["updated ON {table}", "append_only ON {table}_history"])
def test_history_is_complete_as_long_as_it_has_its_triggers(recorded: Site, missing: str) -> None:
    with transaction(recorded) as connection:
        assert history.is_recorded(connection, config_table(TABLE))

    recorded.sql(f"DROP TRIGGER {{table}}_{missing}")

    with transaction(recorded) as connection:
        assert not history.is_recorded(connection, config_table(TABLE))


def test_streams_that_were_removed_while_disabled_are_found(recorded: Site) -> None:
    later = datetime.now().replace(microsecond=0) + timedelta(days=2)
    recorded.sql("UPDATE {table} SET disabled_until = %s WHERE stream_key = 'Two'", [later])
    recorded.sql("DELETE FROM {table}")

    with transaction(recorded) as connection:
        found = history.find_removed_while_disabled(connection, TABLE, ["One", "Two", "Store1"])
        none = history.find_removed_while_disabled(connection, TABLE, ["One"])

    assert (found, none) == ({"Two": later.isoformat()}, {})


@pytest.mark.from_the_field("time, place or encoding of another process")
@pytest.mark.parametrize(
    ("until", "read"),
    [("infinity", None), ("-infinity", "-infinity"), ("294276-12-31", "294276-12-31T00:00:00")],
)
def test_change_may_have_a_time_that_python_has_not(
    recorded: Site, until: str, read: str | None
) -> None:
    recorded.sql("UPDATE {table} SET disabled_until = %s WHERE stream_key = 'Two'", [until])

    with transaction(recorded) as connection:
        [change, *_] = history.find_changes(connection, history.history_table(TABLE))
        newest = history.newest_changes(connection, TABLE)["Two"]
        past = history.rows_at(connection, TABLE, change.revision)

    assert (change.stream_key, change.disabled_until) == ("Two", read)
    assert newest.disabled_until == read
    assert past["Two"][1] == "disabled"


def rows(site: Site) -> list[tuple[Any, ...]]:
    return site.sql("SELECT stream_key, config_json, status FROM {table}")
