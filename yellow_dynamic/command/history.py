"""What was changed, by whom and when; and the way back to an earlier revision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from yellow_dynamic import history
from yellow_dynamic.command.merge import (
    Plan,
    PlanReport,
    current_revision,
    list_changes,
    past_rows,
    require_history,
)
from yellow_dynamic.command.printing import SIGNS, print_key_change, print_line, print_table
from yellow_dynamic.command.selection import unknown_stream
from yellow_dynamic.factory.rules import ACTIVE
from yellow_dynamic.history import Change
from yellow_dynamic.merge_store import config_table
from yellow_dynamic.monitoring import OperationError
from yellow_dynamic.monitoring.changes import change_as_json, changed_keys
from yellow_dynamic.monitoring.installation import Installation
from yellow_dynamic.monitoring.rows import StreamRow, find_row_problems
from yellow_dynamic.monitoring.selection import matches_key
from yellow_dynamic.monitoring.text import counted, format_time, format_until, shortened
from yellow_dynamic.population import (
    Guards,
    MergeError,
    compare_rows,
    find_rows,
    lock_table,
    rows_digest,
    size_problems,
    write_difference,
)

#: The sign and the colour of each action.
ACTIONS = {**SIGNS, "enabled": (">", "green"), "disabled": ("=", "yellow")}


# --- history ----------------------------------------------------------------------------------


def describe_change(change: Change) -> str:
    """Return what was changed, in a few words."""
    reason = change.audit_metadata.get("reason")
    if change.action == "disabled":
        until = format_until(change.disabled_until) if change.disabled_until else ""
        return ": ".join(str(each) for each in (until, reason) if each)
    if change.action == "changed":
        return ", ".join(key.key for key in changed_keys(change)) or "the same values, written anew"
    if change.is_prune:
        return "the changes before this revision were pruned"
    if change.action == "added" and change.status_after != ACTIVE:
        return f"status {change.status_after}"
    return ""


@dataclass
class HistoryReport:
    """The changes of some platforms, newest first.

    Attributes:
        platforms: each with its changes.
        limit: no more than so many of each.
        about: which changes were asked for, as a message says it.
    """

    platforms: list[tuple[Installation, list[Change]]]
    limit: int
    about: str = ""
    differs: bool = field(default=False, init=False)

    def as_json(self) -> dict[str, Any]:
        return {
            "platforms": [
                {"platform": each.name, "changes": [change_as_json(change) for change in changes]}
                for each, changes in self.platforms
            ]
        }

    def show(self) -> None:
        for installation, changes in self.platforms:
            if not changes:
                print_line(f"Platform {installation.name} has no change{self.about} on record.")
                continue
            changed = counted(len(changes), "change")
            title = f"{installation.name}: {changed} of table {installation.table}"
            headings = ("revision", "time", "who", "how", "action", "stream", "what")
            cells = [
                [
                    str(change.revision),
                    format_time(change.changed_at),
                    change.who,
                    change.how,
                    change.what,
                    change.stream_key,
                    describe_change(change),
                ]
                for change in changes
            ]
            print_table(title, headings, cells)
            if len(changes) == self.limit:
                print_line(f"There may be older ones: --limit {self.limit} ends here.")


@dataclass
class RevisionReport:
    """The changes of one revision of some platforms, key by key."""

    platforms: list[tuple[Installation, list[Change]]]
    differs: bool = field(default=False, init=False)

    def as_json(self) -> dict[str, Any]:
        return HistoryReport(self.platforms, 0).as_json()

    def show(self) -> None:
        for installation, changes in self.platforms:
            first = changes[0]
            print_line(
                f"Revision {first.revision} of platform {installation.name}, "
                f"{format_time(first.changed_at)}, {first.who}, {first.how}",
                style="bold",
            )
            for change in changes:
                sign, colour = ACTIONS[change.action]
                more = describe_change(change) if change.action != "changed" else ""
                print_line(
                    f"  {sign} stream {change.stream_key} {change.action}"
                    f"{f', {more}' if more else ''}",
                    style=colour,
                )
                for key in changed_keys(change):
                    print_key_change(key)


@dataclass
class FoundChanges:
    """The changes of a platform that were asked for, newest first.

    Attributes:
        installation: the platform.
        changes: those on record.
        streams: the keys of the streams that were asked for, of today and of the past.
        known: the keys of all its streams.
    """

    installation: Installation
    changes: list[Change]
    streams: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)


def read_history(
    installation: Installation, stream: str | None, since: datetime | None, limit: int
) -> FoundChanges:
    """Return the newest changes of a platform, newest first.

    Args:
        installation: the platform.
        stream: the key of a stream, or a shell pattern; None for all.
        since: no changes before this time (UTC).
        limit: no more than so many.

    Raises:
        OperationError: the login is missing, or the table has no history.
        sqlalchemy.exc.SQLAlchemyError: the history cannot be read.
    """
    changes = history.history_table(installation.table)
    found = FoundChanges(installation, [])
    conditions = []
    with installation.transaction("read the history of") as connection:
        require_history(connection, installation)
        if stream is not None:
            found.known = history.find_all_keys(connection, installation.table)
            found.streams = [key for key in found.known if matches_key(key, stream)]
            conditions.append(history.is_one_of(found.streams))
        if since is not None:
            conditions.append(changes.c.changed_at >= since)
        found.changes = history.find_changes(connection, changes, *conditions, limit=limit)
    return found


def build_history_report(
    found: list[FoundChanges], stream: str | None, since: datetime | None, limit: int
) -> HistoryReport:
    """Return the report on what `read_history` found on each platform.

    Raises:
        OperationError: no platform has or had the stream.
    """
    if stream is not None and not any(each.streams for each in found):
        names = [each.installation.name for each in found]
        raise OperationError(
            unknown_stream(stream, names, {key for of in found for key in of.known})
        )
    about = f" of stream {stream!r}" if stream is not None else ""
    about += f" since {format_time(since)}" if since else ""
    platforms = [(each.installation, each.changes) for each in found]
    return HistoryReport(platforms, limit, about)


def read_revision(installation: Installation, revision: int) -> tuple[Installation, list[Change]]:
    """Return the changes of a revision in their order; none where the platform has no such one.

    Raises:
        OperationError: the login is missing, or the table has no history.
        sqlalchemy.exc.SQLAlchemyError: the history cannot be read.
    """
    changes = history.history_table(installation.table)
    with installation.transaction("read the history of") as connection:
        require_history(connection, installation)
        found = history.find_changes(connection, changes, changes.c.revision == revision)
        return installation, [each for each in found[::-1] if not each.is_prune]


def build_revision_report(
    answers: list[tuple[Installation, list[Change]]], revision: int
) -> RevisionReport:
    """Return the report on a revision of those platforms that have it.

    Raises:
        OperationError: none of them has it.
    """
    found = [(each, changes) for each, changes in answers if changes]
    if not found:
        names = ", ".join(each.name for each, _ in answers)
        raise OperationError(
            f"{names} has no change of revision {revision} on record. `yellow-dynamic history` "
            "lists them."
        )
    return RevisionReport(found)


# --- history --prune --------------------------------------------------------------------------


@dataclass
class PruneReport:
    """How many changes were removed from the histories of some platforms."""

    platforms: list[tuple[Installation, int]]
    before: datetime
    differs: bool = field(default=False, init=False)

    def as_json(self) -> dict[str, Any]:
        return {
            "before": self.before.isoformat(timespec="seconds"),
            "platforms": [
                {"platform": each.name, "removed": count} for each, count in self.platforms
            ],
        }

    def show(self) -> None:
        for installation, count in self.platforms:
            print_line(
                f"Removed {counted(count, 'change')} before {format_time(self.before)} from the "
                f"history of platform {installation.name}."
            )


def prune_history(installation: Installation, before: datetime) -> tuple[Installation, int]:
    """Remove the changes before a time (UTC).

    Raises:
        OperationError: the login is missing, or the table has no history.
        sqlalchemy.exc.SQLAlchemyError: they cannot be removed; they stay.
    """
    said = history.audit_metadata("prune")
    with installation.transaction("prune the history of", about=said) as connection:
        require_history(connection, installation)
        owner = history.find_foreign_owner(connection, installation.table)
        if owner is not None:
            raise OperationError(
                f"The history of platform {installation.name!r} belongs to the role {owner}, and "
                "only that one may shorten it. Nothing was removed."
            )
        return installation, history.prune(connection, config_table(installation.table), before)


# --- rollback ---------------------------------------------------------------------------------


@dataclass
class RollbackReport:
    """What a rollback changed, and what is to be done about the model."""

    plan: Plan
    to_revision: int
    commit: str | None
    later: list[str]
    differs: bool = field(default=False, init=False)

    def as_json(self) -> dict[str, Any]:
        return {
            **PlanReport([self.plan]).as_json(),
            "to_revision": self.to_revision,
            "commit": self.commit,
            "later_commits": self.later,
        }

    def show(self) -> None:
        if not self.plan.streams:
            print_line(f"The rows are those of revision {self.to_revision} already.")
            return
        print_line(
            f"Platform {self.plan.platform} is back at revision {self.to_revision}: "
            f"{self.plan.population}. Airflow follows with its next parse of the factory file."
        )
        print_line(self.what_remains, style="yellow")

    @property
    def what_remains(self) -> str:
        """What to do about the model, which the next merge writes again."""
        text = "The next merge of an unchanged model undoes this. Bring the model back"
        if self.commit:
            text += f" to commit {self.commit}"
        if self.later:
            text += f": git revert {' '.join(self.later)}"
        return f"{text}."


def roll_back(
    installation: Installation,
    revision: int,
    stream: str | None,
    confirm: Callable[[PlanReport], None],
) -> RollbackReport:
    """Make the rows those of an earlier revision, as a new one; statuses stay as they are.

    Args:
        installation: the platform.
        revision: the revision.
        stream: the key of the one stream to roll back, or None for all.
        confirm: is given what is to be changed; raises where that is not wanted.

    Raises:
        OperationError: the revision is not on record, the factory file would refuse a row of it, or
            the rows have been changed meanwhile. Nothing was changed.
        sqlalchemy.exc.SQLAlchemyError: the rows cannot be written; the old ones stay.
    """
    plan, _ = plan_rollback(installation, revision, stream)
    if plan.streams:
        confirm(PlanReport([plan], full=True))
        said = history.audit_metadata(history.ROLLBACK, to_revision=revision)
        with installation.transaction("write the rows of", about=said) as connection:
            lock_table(connection, config_table(installation.table))
            now = current_revision(connection, installation)
            if now != plan.revision:
                raise OperationError(
                    f"Platform {installation.name!r} was changed meanwhile, from revision "
                    f"{plan.revision} to {now}. Nothing was rolled back; look at it again."
                )
            write_rollback(connection, installation, revision, stream)
    commit, later = commits_around(installation, revision)
    return RollbackReport(plan, revision, commit, later)


def plan_rollback(
    installation: Installation, revision: int, stream: str | None
) -> tuple[Plan, dict[str, str]]:
    """Return what a rollback would change now, and the rows that it would leave."""
    with installation.transaction("read") as connection:
        return wanted_rows(connection, installation, revision, stream)


def write_rollback(
    connection: Connection, installation: Installation, revision: int, stream: str | None
) -> None:
    plan, rows = wanted_rows(connection, installation, revision, stream)
    table = config_table(installation.table)
    try:
        write_difference(connection, installation.name, table, rows, plan.population)
    except MergeError as error:
        raise OperationError(str(error)) from None


def wanted_rows(
    connection: Connection, installation: Installation, revision: int, stream: str | None
) -> tuple[Plan, dict[str, str]]:
    """Return how the rows differ from those of a revision, and what they are to be.

    Raises:
        OperationError: the revision is not on record, or its rows cannot be the platform's.
    """
    # Before the rows, so that a change in between is noticed when they are written.
    now = current_revision(connection, installation)
    past = past_rows(connection, installation, revision)
    table = config_table(installation.table)
    found = find_rows(connection, table)
    today: Rows = {key: (row.config_json, row.status_now) for key, row in found.items()}
    if stream is not None:
        past = with_one_stream(installation, today, past, stream, revision)
    configs = {key: config_json for key, (config_json, _) in past.items()}
    rows = {key: config or "" for key, config in configs.items()}
    population = compare_rows({key: config for key, (config, _) in today.items()}, configs)
    problems = [
        problem
        for key in (*population.added, *population.changed)
        for problem in find_row_problems(
            StreamRow(key, configs[key], ACTIVE, None, None), installation
        )
    ]
    problems += size_problems(connection, table, rows)
    if rows:
        guards = installation.model.guards if installation.model else Guards()
        problems += guards.problems(installation.name, table.name, population, history.ROLLBACK)
    elif population.removed:
        problems.append(f"revision {revision} has no stream")
    if problems:
        raise OperationError(
            f"Platform {installation.name!r} cannot go back to revision {revision}: "
            f"{shortened(problems)}. Nothing was changed."
        )
    streams = list_changes(today, rows, population)
    plan = Plan(
        installation.name, installation.table, streams, population, now, rows_digest(found),
        rows_digest(rows),
    )  # fmt: skip
    return plan, rows


Rows = dict[str, tuple[str | None, str | None]]


def with_one_stream(
    installation: Installation, today: Rows, past: Rows, stream: str, revision: int
) -> Rows:
    """Return today's rows with one stream as it was."""
    if stream not in today and stream not in past:
        raise OperationError(
            f"Platform {installation.name!r} has no stream {stream!r} now, and had none at "
            f"revision {revision}."
        )
    others = {key: row for key, row in today.items() if key != stream}
    return others | {key: row for key, row in past.items() if key == stream}


def commits_around(installation: Installation, revision: int) -> tuple[str | None, list[str]]:
    """Return the model's commit as of a revision, and the later ones that merges wrote."""
    with installation.transaction("read the history of") as connection:
        commits = history.find_merge_commits(connection, installation.table)
    before = [commit for number, commit in commits if number <= revision]
    later = [commit for number, commit in commits if number > revision]
    newest = before[0] if before else None
    return newest, [commit for commit in dict.fromkeys(later) if commit != newest]
