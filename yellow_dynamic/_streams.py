"""The rows of a platform's table, as an operator sees and changes them."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy

from yellow_dynamic._errors import CommandError
from yellow_dynamic._installation import Installation
from yellow_dynamic._plan import as_object
from yellow_dynamic.plugin import config_table

ACTIVE, DISABLED = "active", "disabled"


@dataclass
class StreamRow:
    """One row of the table; times are UTC."""

    stream_key: str
    config_json: str | None
    status: str | None
    created_at: datetime | None
    updated_at: datetime | None

    @property
    def config(self) -> dict[str, Any]:
        """The configuration; what is no JSON object is one value under the key config_json."""
        return as_object(self.config_json)

    def as_json(self) -> dict[str, Any]:
        """Return the row for programs, its configuration as an object."""
        times = {
            name: time.isoformat(timespec="seconds") if time else None
            for name, time in (("created_at", self.created_at), ("updated_at", self.updated_at))
        }
        return {
            "stream_key": self.stream_key,
            "status": self.status,
            **times,
            "config": self.config,
        }


def read_rows(installation: Installation) -> list[StreamRow]:
    """Return the rows of the platform's table in the order of their keys.

    Raises:
        CommandError: the login is missing.
        sqlalchemy.exc.SQLAlchemyError: the table cannot be read.
    """
    table = config_table(installation.table)
    with installation.transaction("read") as connection:
        rows = connection.execute(sqlalchemy.select(table).order_by(table.c.stream_key))
        return [StreamRow(*row) for row in rows]


def find_stream(
    installations: list[Installation], stream_key: str
) -> tuple[Installation, StreamRow]:
    """Return the one row of this key among the platforms, and its platform.

    Raises:
        CommandError: no platform has the stream, or more than one.
        sqlalchemy.exc.SQLAlchemyError: a table cannot be read.
    """
    rows = [(each, row) for each in installations for row in read_rows(each)]
    found = [(each, row) for each, row in rows if row.stream_key == stream_key]
    names = ", ".join(each.name for each in ([each for each, _ in found] or installations))
    if len(found) > 1:
        raise CommandError(
            f"Several platforms have a stream {stream_key!r}: {names}. Give one with --platform."
        )
    if not found:
        keys = sorted({row.stream_key for _, row in rows})
        close = difflib.get_close_matches(stream_key, keys, n=3) or keys[:10]
        raise CommandError(
            f"There is no stream {stream_key!r} on {names}; there is, for example: "
            f"{', '.join(close) or 'none'}. The command `streams` lists them all."
        )
    return found[0]


def set_status(installation: Installation, stream_key: str, status: str) -> None:
    """Write the status of a stream, and nothing else of its row.

    Raises:
        CommandError: the stream has gone.
        sqlalchemy.exc.SQLAlchemyError: the row cannot be written; it stays as it is.
    """
    table = config_table(installation.table)
    with installation.transaction("change a status in") as connection:
        quoted = connection.dialect.identifier_preparer.format_table(table)
        # A merge replaces rows, and an UPDATE that has waited for it would not see the new ones.
        connection.execute(sqlalchemy.text(f"LOCK TABLE {quoted} IN ROW EXCLUSIVE MODE"))
        done = connection.execute(
            table.update().where(table.c.stream_key == stream_key).values(status=status)
        )
        if done.rowcount != 1:
            raise CommandError(
                f"The stream {stream_key!r} of platform {installation.name!r} has been removed by "
                "a merge meanwhile."
            )


def schedule_of(row: StreamRow) -> str:
    """Return when Airflow starts the stream, as the factory file reads it."""
    schedule = row.config.get("schedule_string", "@hourly")
    if schedule in (None, "", "None"):
        return "none, others trigger it"
    return schedule if isinstance(schedule, str) else json.dumps(schedule)
