"""The history of a platform's table, as tests read it: with SQL of their own."""

from __future__ import annotations

from typing import Any

from conftest import Site

COLUMNS = (
    "revision", "number", "changed_at", "login", "application", "command", "about", "action",
    "stream_key", "config_before", "status_before", "config_after", "status_after",
    "disabled_until",
)  # fmt: skip


def changes(site: Site) -> list[dict[str, Any]]:
    """Return all changes on record, oldest first."""
    columns = ", ".join(COLUMNS)
    found = site.sql(f"SELECT {columns} FROM {{table}}_history ORDER BY revision, number")  # noqa: S608
    return [dict(zip(COLUMNS, change, strict=True)) for change in found]


def rows(site: Site) -> dict[str, list[Any]]:
    """Return configuration and status of each row by its key."""
    found = site.sql("SELECT stream_key, config_json, status FROM {table}")
    return {key: values for key, *values in found}


def replayed(site: Site) -> dict[str, list[Any]]:
    """Return what the changes come to, one after the other; each must begin where one ended."""
    state: dict[str, list[Any]] = {}
    for change in changes(site):
        if change["number"] == 0:  # says that earlier ones were pruned
            continue
        key = change["stream_key"]
        before = [change["config_before"], change["status_before"]]
        assert state.pop(key, [None, None]) == before, change
        if change["action"] != "removed":
            state[key] = [change["config_after"], change["status_after"]]
    return state


def unrecorded(site: Site) -> dict[str, Any]:
    """Return in which streams the rows and the history disagree."""
    there, known = rows(site), replayed(site)
    return {
        key: (there.get(key), known.get(key))
        for key in there.keys() | known.keys()
        if there.get(key) != known.get(key)
    }
