"""What a merge would change, and what was changed by hand since the last one."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy.engine import Connection

from yellow_dynamic import history
from yellow_dynamic.command.printing import SIGNS, print_key_change, print_line
from yellow_dynamic.factory.rules import ACTIVE
from yellow_dynamic.merge_store import config_table, quoted_name
from yellow_dynamic.monitoring import OperationError
from yellow_dynamic.monitoring.changes import KeyChange, compare_configs
from yellow_dynamic.monitoring.installation import Installation, PlatformModel
from yellow_dynamic.monitoring.rows import decode_config
from yellow_dynamic.monitoring.selection import Selection
from yellow_dynamic.monitoring.text import canonical_json, counted
from yellow_dynamic.population import Population, compare_rows, rows_digest

# --- plan -------------------------------------------------------------------------------------


@dataclass
class StreamChange:
    """A stream that is added, changed or removed."""

    stream_key: str
    action: str
    status: str | None
    keys: list[KeyChange]

    def show(self) -> None:
        sign, colour = SIGNS[self.action]
        kept = "" if self.status == ACTIVE else f" (its status stays {self.status!r})"
        print_line(f"  {sign} stream {self.stream_key}{kept}", style=colour)
        if self.action != "removed":
            self.show_keys()

    def show_keys(self) -> None:
        """Print what becomes of each key."""
        for key in self.keys:
            print_key_change(key)
        if self.action == "changed" and not self.keys:
            print_line(
                "      the same values in another writing; a merge writes them as it always does"
            )


@dataclass
class Plan:
    """What the table of one platform is to become.

    Attributes:
        platform: the platform's name in the model.
        table: the name of its table.
        streams: those that differ.
        population: their keys.
        revision: the one that the plan starts from, or None for a table without a history.
        table_digest: the rows that the plan starts from, in a short form.
        rows_digest: what the rows are to be, likewise.
        problems: why a merge would be refused.
        selected: how many streams, of the table and of the model, it is about.
    """

    platform: str
    table: str
    streams: list[StreamChange]
    population: Population
    revision: int | None
    table_digest: str
    rows_digest: str
    problems: list[str] = field(default_factory=list)
    selected: int = 0


@dataclass
class PlanReport:
    """What handleModelMerge would do to some platforms."""

    plans: list[Plan]
    full: bool = False

    @property
    def differs(self) -> bool:
        return any(plan.streams for plan in self.plans)

    @property
    def failures(self) -> list[str]:
        """Why the merge of a platform would be refused."""
        return [
            f"handleModelMerge would refuse platform {plan.platform!r}: {problem}"
            for plan in self.plans
            for problem in plan.problems
        ]

    def as_json(self) -> dict[str, Any]:
        platforms = [{**asdict(plan), "summary": str(plan.population)} for plan in self.plans]
        return {"changes": self.differs, "platforms": platforms}

    def show(self) -> None:
        for plan in self.plans:
            print_line(f"Platform {plan.platform}, table {plan.table}", style="bold")
            print_line(f"Plan: {plan.population}.")
            for streams in [[each] for each in plan.streams] if self.full else alike(plan.streams):
                if len(streams) == 1:
                    streams[0].show()
                else:
                    show_alike(streams)


#: So many streams that are added, or removed, are listed one by one.
LISTED_STREAMS = 10


def alike(streams: list[StreamChange]) -> list[list[StreamChange]]:
    """Return the streams in groups of equal changes; few new ones, or removed ones, stand alone."""
    groups: dict[Any, list[StreamChange]] = {}
    for stream in streams:
        change = [
            (each.key, each.action, canonical_json([each.old, each.new])) for each in stream.keys
        ]
        same = tuple(change) if stream.action == "changed" else ()
        groups.setdefault((stream.action, stream.status, same), []).append(stream)
    found = []
    for (action, _, _), group in groups.items():
        many = action == "changed" or len(group) > LISTED_STREAMS
        found += [group] if many else [[stream] for stream in group]
    return found


def show_alike(streams: list[StreamChange]) -> None:
    """Print the equal changes of several streams once."""
    first = streams[0]
    sign, colour = SIGNS[first.action]
    names = ", ".join(stream.stream_key for stream in streams[:3])
    more = ", ..." if streams[3:] else ""
    print_line(f"  {sign} {len(streams)} streams ({names}{more})", style=colour)
    if first.action == "changed":
        first.show_keys()


def plan_merge(
    installation: Installation,
    model: PlatformModel,
    revision: int | None = None,
    selection: Selection | None = None,
) -> Plan:
    """Return what a merge of the model would change now, by the merge's own code.

    Args:
        installation: the platform.
        model: its model.
        revision: compare with the rows of this revision instead of today's.
        selection: list the changes of these streams alone.

    Raises:
        OperationError: the login is missing, the model has problems, which are on standard error,
            or the rows of the revision are not on record.
        sqlalchemy.exc.SQLAlchemyError: the table cannot be read.
    """
    rows = model.rows
    with installation.transaction("read") as connection:
        # Before the rows, so that a change in between is noticed by the merge of the plan.
        based_on = current_revision(connection, installation)
        found, population, problems = model.compare_with_table(connection)
        old = {key: (row.config_json, row.status_now) for key, row in found.items()}
        if revision is not None:
            old = past_rows(connection, installation, revision)
            population = compare_rows({key: text for key, (text, _) in old.items()}, rows)
            based_on = revision
    texts = {**{key: text for key, (text, _) in old.items()}, **rows}
    selected = {
        key
        for key, text in texts.items()
        if selection is None or selection.matches(key, decode_config(text))
    }
    return Plan(
        platform=installation.name,
        table=str(model.settings["config_table"]),
        streams=[
            each for each in list_changes(old, rows, population) if each.stream_key in selected
        ],
        population=population,
        revision=based_on,
        table_digest=rows_digest(found),
        rows_digest=rows_digest(rows),
        problems=problems,
        selected=len(selected),
    )


def list_changes(
    old: dict[str, tuple[str | None, str | None]], rows: dict[str, str], population: Population
) -> list[StreamChange]:
    """Return the streams that differ, old ones by configuration and status."""
    return [
        StreamChange(
            key,
            action,
            old[key][1] if key in old else ACTIVE,
            compare_configs(old[key][0] if key in old else None, rows.get(key)),
        )
        for action in ("added", "changed", "removed")
        for key in getattr(population, action)
    ]


def current_revision(connection: Connection, installation: Installation) -> int | None:
    """Return the newest revision, or None for a table without a history."""
    if not history.is_readable(connection, installation.table):
        return None
    return history.last_revision(connection, installation.table)


def past_rows(
    connection: Connection, installation: Installation, revision: int
) -> dict[str, tuple[str | None, str | None]]:
    """Return configuration and status of each row as they were at a revision.

    Raises:
        OperationError: they are not on record.
    """
    require_history(connection, installation)
    try:
        return history.rows_at(connection, installation.table, revision)
    except LookupError as error:
        raise OperationError(str(error.args[0])) from None


def require_history(connection: Connection, installation: Installation) -> None:
    # A table that is not there is another matter, and raises.
    find = sqlalchemy.text("SELECT CAST(:name AS regclass)")
    connection.execute(find, {"name": quoted_name(connection, config_table(installation.table))})
    if not history.is_readable(connection, installation.table):
        raise OperationError(history.no_history_message(installation.table))


def write_plan(report: PlanReport, file: Path) -> None:
    """Keep a plan for the merge that is to carry it out.

    Raises:
        OperationError: a merge would refuse it, or could not know it again; or the file cannot be
            written.
    """
    if report.failures:
        raise OperationError(f"No plan was written. {' '.join(report.failures)}")
    for plan in report.plans:
        if plan.revision is None:
            raise OperationError(f"No plan was written. {history.no_history_message(plan.table)}")
    try:
        file.write_text(json.dumps(report.as_json(), indent=2), encoding="utf-8")
    except OSError as error:
        raise OperationError(f"The plan cannot be written to {file}: {error.strerror}.") from None


# --- drift ------------------------------------------------------------------------------------


@dataclass
class HandEdit:
    """An edit of a row by hand."""

    revision: int
    at: str
    who: str
    how: str
    action: str


@dataclass
class StreamDrift:
    """How one row differs from what the last merge or rollback wrote, and who edited it.

    Attributes:
        stream_key: the row's.
        action: "added", "changed" or "removed", by hand.
        edits: the newest edits since, newest first.
        unrecorded: whether the newest edit is not on record.
        more_edits: how many older ones there are.
        keys: the keys in which the row (`new`) differs from what was written (`old`).
    """

    stream_key: str
    action: str
    edits: list[HandEdit]
    unrecorded: bool
    more_edits: int = 0
    keys: list[KeyChange] = field(default_factory=list)

    def show(self) -> None:
        sign, colour = SIGNS[self.action]
        print_line(f"  {sign} stream {self.stream_key} was {self.action} by hand:", style=colour)
        for edit in self.edits:
            print_line(f"      {edit.at} UTC, revision {edit.revision}: {edit.who}, {edit.how}")
        if self.unrecorded:
            print_line("      while the triggers of the table were off; this is not on record")
        if self.more_edits:
            print_line(f"      and {counted(self.more_edits, 'older edit')}")
        for key in self.keys:
            print_key_change(key)


@dataclass
class DriftReport:
    """The streams of some platforms whose rows drifted."""

    platforms: list[tuple[Installation, list[StreamDrift]]]

    @property
    def differs(self) -> bool:
        return any(streams for _, streams in self.platforms)

    def as_json(self) -> dict[str, Any]:
        return {
            "drift": self.differs,
            "platforms": [
                {"platform": each.name, "streams": [asdict(stream) for stream in streams]}
                for each, streams in self.platforms
            ],
        }

    def show(self) -> None:
        for installation, streams in self.platforms:
            print_line(f"Platform {installation.name}, table {installation.table}", style="bold")
            for stream in streams:
                stream.show()
            colour = "red" if streams else "green"
            were = "was" if len(streams) == 1 else "were"
            edited = f"{counted(len(streams), 'stream')} {were} edited by hand."
            print_line(edited, style=colour)


def find_drift(installation: Installation) -> list[StreamDrift]:
    """Return the streams of a platform whose rows drifted, in the order of their keys.

    What the model says by now is no drift.

    Raises:
        OperationError: the login is missing, the table has no history, or the model has problems.
        sqlalchemy.exc.SQLAlchemyError: the table cannot be read.
    """
    model = installation.model.rows if installation.model else {}
    with installation.transaction("read") as connection:
        require_history(connection, installation)
        edited = history.find_manual_edits(connection, installation.table)
        unrecorded = history.find_unrecorded(connection, installation.table)
    found = []
    for key in sorted({*edited, *unrecorded}):
        known, now = unrecorded.get(key, (None, None))
        edits = edited.get(key) or history.ManualEdits(0, [], known, now)
        meant, now = edits.before, now if key in unrecorded else edits.after
        if now in (meant, model.get(key, "")):
            continue
        action = "added" if meant is None else "removed" if now is None else "changed"
        keys = compare_configs(meant, now) if action == "changed" else []
        listed = [hand_edit(edit) for edit in edits.newest]
        more = edits.count - len(listed)
        found.append(StreamDrift(key, action, listed, key in unrecorded, more, keys))
    return found


def hand_edit(change: history.Change) -> HandEdit:
    at = change.changed_at.isoformat(" ", timespec="seconds")
    return HandEdit(change.revision, at, change.who, change.how, change.action)
