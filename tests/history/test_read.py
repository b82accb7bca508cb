"""What the package reads from the history, also with the SQLAlchemy of Airflow 2."""

from __future__ import annotations

from conftest import Site

from yellow_dynamic.history import Change, find_manual_edits
from yellow_dynamic.merge_store import store_url, table_transaction


def manual_edits(site: Site) -> dict[str, list[Change]]:
    server = site.postgres
    login = (server.user, server.password)
    url = store_url(login, server.address, server.port, site.database)
    with table_transaction(url, "YellowLive", site.table, "read", writes=False) as connection:
        return find_manual_edits(connection, site.table)


def test_manual_edits_are_those_since_the_last_merge(installed: Site) -> None:
    installed.sql("UPDATE {table} SET config_json = '{{}}'")
    installed.sql("UPDATE {table} SET status = 'disabled'")

    edits = manual_edits(installed)
    installed.merge_cleanly()

    [edit] = edits["Store1"]
    assert list(edits) == ["Store1"]
    assert (edit.revision, edit.config_after, edit.command) == (2, "{}", None)
    assert edit.audit_metadata == {}
    assert manual_edits(installed) == {}
