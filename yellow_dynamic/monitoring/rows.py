"""The rows of a platform's table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy
from sqlalchemy.engine import Connection

from yellow_dynamic import history
from yellow_dynamic.factory.rules import (
    DEFAULT_SCHEDULE,
    DISABLED,
    DISABLED_UNTIL,
    NO_SCHEDULE,
    TIME_AS_TEXT,
    BadRowError,
    is_disabled,
    overlay_config,
    parse_config,
    row_problems,
)
from yellow_dynamic.merge_store import config_table, quoted_name
from yellow_dynamic.monitoring.installation import Installation
from yellow_dynamic.monitoring.text import format_time, format_until


@dataclass
class StreamRow:
    """One row of the table; times are UTC."""

    stream_key: str
    config_json: str | None
    status: str | None
    created_at: datetime | None
    updated_at: datetime | None
    disabled_until: str | None = None
    disabled_by: history.Change | None = None

    @property
    def is_disabled(self) -> bool:
        """Whether the stream is disabled now."""
        return is_disabled(self.status, self.disabled_until)

    @property
    def why_disabled(self) -> str:
        """Who disabled it, when, until when and why; empty for a row that is not disabled."""
        if self.status != DISABLED:
            return ""
        change, until = self.disabled_by, self.disabled_until
        words = []
        if change:
            words.append(f"by {change.who} at {format_time(change.changed_at)}")
        if until:
            over = "" if self.is_disabled else ", which is over"
            words.append(f"{format_until(until)}{over}")
        return f"{', '.join(words)}{f': {self.reason}' if self.reason else ''}"

    @property
    def reason(self) -> str | None:
        """Why it was disabled, as the history has it."""
        return self.disabled_by.audit_metadata.get("reason") if self.disabled_by else None

    @property
    def config(self) -> dict[str, Any]:
        """The configuration; see `decode_config`."""
        return decode_config(self.config_json)

    def as_json(self) -> dict[str, Any]:
        """Return the row for JSON, with its configuration as an object."""
        times = {
            name: time.isoformat(timespec="seconds") if time else None
            for name, time in (("created_at", self.created_at), ("updated_at", self.updated_at))
        }
        return {
            "stream_key": self.stream_key,
            "status": self.status,
            "disabled": self.disabling,
            **times,
            "config": self.config,
        }

    @property
    def disabling(self) -> dict[str, Any] | None:
        """Who disabled it, when, until when and why, for JSON; None if it is not disabled."""
        if self.status != DISABLED:
            return None
        change = self.disabled_by
        return {
            "until": self.disabled_until,
            "by": change and change.who,
            "at": change and change.changed_at.isoformat(timespec="seconds"),
            "reason": self.reason,
        }


def decode_config(config_json: str | None) -> dict[str, Any]:
    """Return a configuration; text that is not a JSON object is the value of config_json."""
    try:
        value = json.loads(config_json) if config_json is not None else {}
    except (ValueError, RecursionError):
        value = config_json
    return value if isinstance(value, dict) else {"config_json": value}


def read_rows(installation: Installation) -> list[StreamRow]:
    """Return the rows of the platform's table in the order of their keys.

    Raises:
        OperationError: the login is missing.
        sqlalchemy.exc.SQLAlchemyError: the table cannot be read.
    """
    table = config_table(installation.table)
    with installation.transaction("read") as connection:
        columns = (table.c.stream_key, table.c.config_json, table.c.status)
        times = (
            TIME_AS_TEXT.format(time="created_at"),
            TIME_AS_TEXT.format(time="updated_at"),
            DISABLED_UNTIL.format(table=quoted_name(connection, table)),
        )
        query = sqlalchemy.select(*columns, *map(sqlalchemy.literal_column, times))
        rows = [
            StreamRow(key, config, status, parse_time(created), parse_time(updated), until)
            for key, config, status, created, updated, until in connection.execute(
                query.order_by(table.c.stream_key)
            )
        ]
        add_disabling_changes(connection, installation.table, rows)
        return rows


def parse_time(text: str | None) -> datetime | None:
    """Return a time that `TIME_AS_TEXT` read, or None for one that Python does not have."""
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


def add_disabling_changes(connection: Connection, table: str, rows: list[StreamRow]) -> None:
    """Add to each disabled row the change that disabled it, if the history has it."""
    off = [row.stream_key for row in rows if row.status == DISABLED]
    if not (off and history.is_readable(connection, table)):
        return
    found = history.find_disabling_changes(connection, table, off)
    for row in rows:
        row.disabled_by = found.get(row.stream_key)


def find_row_problems(row: StreamRow, installation: Installation) -> Iterator[str]:
    """Yield the problems for which a factory file of this release refuses a row."""
    try:
        config = parse_config(row.config_json)
    except BadRowError as error:
        yield f"{row.stream_key}: {error}"
        return
    settings = overlay_config(installation.settings, config)
    for problem in row_problems(row.stream_key, row.status, settings, installation.airflow_name):
        yield f"{row.stream_key}: {problem}"


def find_starters(config: dict[str, Any]) -> list[str]:
    """Return the streams that start a stream when all of them have delivered."""
    found = config.get("started_by")
    return found if isinstance(found, list) else []


def find_dependents(keys: Iterable[str], rows: Iterable[StreamRow]) -> list[str]:
    """Return the streams that do not start while these do not deliver, in the keys' order.

    Args:
        keys: those of streams that do not deliver.
        rows: all rows of their platform.
    """
    idle = frozenset(keys)
    starters = {
        row.stream_key: find_starters(row.config)
        for row in rows
        if not (row.is_disabled or row.stream_key in idle)
    }
    found: set[str] = set()
    while more := {
        key for key in starters.keys() - found if not (idle | found).isdisjoint(starters[key])
    }:
        found |= more
    return sorted(found)


def describe_schedule(config: dict[str, Any]) -> str:
    """Return the schedule of a stream, or the streams that start it, as the factory reads it."""
    if starters := config.get("started_by"):
        names = starters if isinstance(starters, list) else [starters]
        return f"after {', '.join(map(str, names))}"
    schedule = config.get("schedule_string", DEFAULT_SCHEDULE)
    if schedule in NO_SCHEDULE:
        return "none"
    return schedule if isinstance(schedule, str) else json.dumps(schedule)
