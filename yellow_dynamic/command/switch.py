"""Switches streams off and on: which ones, who and why, and until when."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy
from sqlalchemy.exc import SQLAlchemyError

from yellow_dynamic import history
from yellow_dynamic.command.printing import print_line
from yellow_dynamic.command.selection import PlatformRows, check_selection, find_selected
from yellow_dynamic.factory.rules import DISABLED
from yellow_dynamic.merge_store import config_table
from yellow_dynamic.monitoring import OperationError
from yellow_dynamic.monitoring.installation import Installation
from yellow_dynamic.monitoring.rows import StreamRow, find_dependents, read_rows
from yellow_dynamic.monitoring.selection import Selection
from yellow_dynamic.monitoring.text import format_error, shortened
from yellow_dynamic.population import lock_table


@dataclass(frozen=True)
class Switch:
    """What becomes of the streams: a status, why, and until when (UTC; None is for good)."""

    status: str
    reason: str | None = None
    until: datetime | None = None

    @property
    def command(self) -> str:
        """What an operator typed."""
        return "disable" if self.status == DISABLED else "enable"

    def changes(self, row: StreamRow) -> bool:
        """Return whether the row is to be written."""
        until = self.until and self.until.isoformat()
        return (
            row.status != self.status
            or row.disabled_until != until
            or bool(self.reason and self.reason != row.reason)
        )


@dataclass
class Switched:
    """The status that a stream has now, and the one that it had."""

    platform: str
    stream_key: str
    status: str
    was: str | None
    until: datetime | None = None
    reason: str | None = None
    already: bool = False

    def show(self) -> None:
        stream = f"The stream {self.stream_key} of platform {self.platform} is {self.status}"
        if self.already:
            print_line(f"{stream} already{f', {self.reason}' if self.reason else ''}.")
            return
        until = f" until {self.until:%Y-%m-%d %H:%M:%S} UTC" if self.until else ""
        print_line(
            f"{stream} now{until}; it was {self.was}. Airflow follows with its next parse of the "
            "factory file."
        )


@dataclass
class SwitchReport:
    """What became of some streams.

    Attributes:
        streams: those that were selected.
        stopped: by platform, the streams that wait for those that were disabled.
    """

    streams: list[Switched]
    stopped: dict[str, list[str]]
    differs: bool = field(default=False, init=False)

    def as_json(self) -> dict[str, Any]:
        return {
            "stopped": self.stopped,
            "streams": [
                {
                    "platform": each.platform,
                    "stream_key": each.stream_key,
                    "status": each.status,
                    "was": each.was,
                    "until": each.until,
                    "reason": each.reason,
                }
                for each in self.streams
            ],
        }

    def show(self) -> None:
        for each in self.streams:
            each.show()
        for line in stopped_lines(self.stopped):
            print_line(line)


def switch_streams(
    installations: list[Installation],
    selection: Selection,
    switch: Switch,
    confirm: Callable[[str], None],
) -> SwitchReport:
    """Write the status of streams, and nothing else of their rows.

    Args:
        installations: the platforms.
        selection: which of their streams.
        switch: what becomes of them.
        confirm: is given the question whether to go on where there is more than one; raises
            where the answer is no.

    Raises:
        OperationError: there is no such stream, a platform cannot be read, one was removed
            meanwhile, or the table cannot keep a reason or a time.
        sqlalchemy.exc.SQLAlchemyError: the rows of a platform cannot be written; they stay.
    """
    check_selection(selection)
    found = find_selected(installations, selection)
    written = [(each, [row for row in rows if switch.changes(row)]) for each, rows in found]
    count = sum(len(rows) for _, rows in written)
    stopped = find_stopped(found) if switch.status == DISABLED else {}
    if count > 1:
        for each, rows in written:
            for row in rows:
                print_line(f"  {row.stream_key} of platform {each.name}, {row.status}", err=True)
        for line in stopped_lines(stopped):
            print_line(line, err=True)
        confirm(f"Make these {count} streams {switch.status}?")
    write_each(written, switch)
    switched = [report for each, rows in found for report in reports(each, rows, switch)]
    return SwitchReport(switched, stopped)


def stopped_lines(stopped: dict[str, list[str]]) -> Iterator[str]:
    """Yield for each platform which streams do not start while others are disabled."""
    for platform, keys in stopped.items():
        yield (
            f"Streams of platform {platform} that wait for what is disabled do not start either: "
            f"{shortened(keys)}."
        )


def find_stopped(disabled: PlatformRows) -> dict[str, list[str]]:
    """Return by platform the streams that wait for one that is disabled."""
    found = {
        each.name: find_dependents([row.stream_key for row in rows], read_rows(each))
        for each, rows in disabled
        if rows
    }
    return {name: keys for name, keys in found.items() if keys}


def write_each(written: PlatformRows, switch: Switch) -> None:
    """Write the status of the rows of each platform; an error says what was done before it."""
    done: list[str] = []
    for each, rows in written:
        if not rows:
            continue
        try:
            write_status(each, [row.stream_key for row in rows], switch)
        except (OperationError, SQLAlchemyError) as error:
            if not done:
                raise
            raise OperationError(
                f"{format_error(error)} Before that, the streams of {', '.join(done)} were made "
                f"{switch.status}."
            ) from None
        done.append(each.name)


def reports(
    installation: Installation, rows: list[StreamRow], switch: Switch
) -> Iterator[Switched]:
    for row in rows:
        already = not switch.changes(row)
        reason = (row.why_disabled if already else switch.reason) or None
        yield Switched(
            installation.name, row.stream_key, switch.status, row.status, switch.until, reason,
            already,
        )  # fmt: skip


def write_status(installation: Installation, keys: list[str], switch: Switch) -> None:
    """Write the status of these rows, in one transaction."""
    table = config_table(installation.table)
    said = history.audit_metadata(switch.command, reason=switch.reason)
    with installation.transaction("change a status in", about=said) as connection:
        # A merge holds the table, and an UPDATE that has waited for it might miss its rows.
        lock_table(connection, table)
        history.record_missed(connection, table)
        kept = history.is_readable(connection, installation.table)
        if not kept and (switch.reason or switch.until):
            raise OperationError(
                f"A reason or a time cannot be kept, and nothing was changed. "
                f"{history.no_history_message(installation.table)}"
            )
        values: dict[str, Any] = {"status": switch.status}
        if kept:
            values["disabled_until"] = switch.until
        named = sqlalchemy.table(table.name, *map(sqlalchemy.column, ("stream_key", *values)))
        chosen = named.c.stream_key.in_(keys)
        done = connection.execute(named.update().where(chosen).values(values))
        if done.rowcount != len(keys):
            gone = len(keys) - done.rowcount
            raise OperationError(
                f"Of the streams {', '.join(keys):.300} of platform {installation.name!r}, {gone} "
                "have been removed by a merge meanwhile. Nothing was changed."
            )
