"""Makes the rows of a platform's table those that are wanted, in one transaction.

A merge wants the streams of the model, a rollback those of an earlier revision.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy
from sqlalchemy import Table
from sqlalchemy.engine import Connection

from yellow_dynamic import history
from yellow_dynamic.factory.rules import ACTIVE, DISABLED, DISABLED_UNTIL, MERGE, is_disabled
from yellow_dynamic.merge_store import execute_locking, find_config_column, quoted_name

log = logging.getLogger(__name__)

#: So many streams may always go at once, however few there are.
REMOVALS_ALWAYS_ALLOWED = 5
#: The share of a platform's streams that may go at once, unless its model says another.
MAX_REMOVED = 0.25
#: Names how many streams one merge or rollback may remove, where that is more than its share.
ALLOWED_REMOVALS = "YELLOW_DYNAMIC_ALLOW_REMOVALS"


class MergeError(Exception):
    """A platform was not merged; the text says why, or lists the problems of its model."""


@dataclass
class Population:
    """What becomes of the streams of a table, by their keys."""

    added: list[str]
    changed: list[str]
    removed: list[str]
    unchanged: list[str]

    def __str__(self) -> str:
        names = [
            f"{len(keys)} {verb}{printable_keys(keys)}"
            for verb, keys in vars(self).items()
            if verb != "unchanged"
        ]
        return ", ".join([*names, f"{len(self.unchanged)} unchanged"])


def printable_keys(keys: list[str]) -> str:
    """Return the first keys in brackets as they may stand in a log, or nothing for none.

    A key that was written by hand may forge lines.
    """
    shown = [key if key.isprintable() else ascii(key) for key in keys[:10]]
    return f" ({', '.join(shown)}{', ...' if keys[10:] else ''})" if keys else ""


def compare_rows(old: Mapping[str, str | None], new: Mapping[str, str | None]) -> Population:
    """Return the difference between two sets of configs, each by stream key."""
    population = Population([], [], [], [])
    for key in sorted(old.keys() | new.keys()):
        if key not in old:
            population.added.append(key)
        elif key not in new:
            population.removed.append(key)
        elif old[key] == new[key]:
            population.unchanged.append(key)
        else:
            population.changed.append(key)
    return population


@dataclass(frozen=True)
class Guards:
    """What may be done to a platform's table at once.

    Attributes:
        allow_empty: whether the last streams may be removed.
        max_removed: the share of the streams that may be removed, from 0 to 1.
    """

    allow_empty: bool = False
    max_removed: float = MAX_REMOVED

    def problems(
        self, platform: str, table: str, population: Population, command: str = MERGE
    ) -> Iterator[str]:
        """Yield why the streams that this command would remove must not go."""
        removed = len(population.removed)
        had = removed + len(population.changed) + len(population.unchanged)
        empties = removed == had and not population.added
        if empties and removed and not self.allow_empty:
            yield (
                f"The model leaves platform {platform!r} without a stream, and the table "
                f"{table!r} has {removed}. Nothing is removed. If that is what you want, make the "
                "platform with allowEmpty=True."
            )
        allowed = max(REMOVALS_ALWAYS_ALLOWED, int(self.max_removed * had))
        if removed > allowed and not empties and os.environ.get(ALLOWED_REMOVALS) != str(removed):
            yield (
                f"The {command} would remove {removed} of the {had} streams of platform "
                f"{platform!r} from the table {table!r}, more than the {allowed} that it may "
                f"remove at once{printable_keys(population.removed)}. Nothing is removed. If that "
                f"is what you want, set {ALLOWED_REMOVALS}={removed} for this one {command}; the "
                "platform's argument maxRemoved is the share that every merge may remove."
            )


#: Names the file with the plan that a merge is to carry out.
PLAN_FILE = "YELLOW_DYNAMIC_PLAN"


def rows_digest(rows: Mapping[str, Any]) -> str:
    """Return a text that is equal for equal rows only, whatever JSON holds of each."""
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()


def plan_problems(
    connection: Connection,
    file: Path,
    platform: str,
    table: str,
    old: Mapping[str, StoredRow],
    rows: dict[str, str],
) -> list[str]:
    """Return why a merge of these rows would not be what was planned.

    Args:
        connection: one in a transaction that has locked the table.
        file: what `yellow-dynamic plan --out` wrote.
        platform: the platform's name in the model.
        table: the name of its table.
        old: the table's rows by stream key.
        rows: config_json by stream key, as the merge would write them.
    """
    anew = f"Nothing was changed. Make a plan anew, or unset {PLAN_FILE}."
    try:
        plans = json.loads(file.read_text(encoding="utf-8"))["platforms"]
        planned = {
            plan["platform"]: (plan["revision"], plan["table_digest"], plan["rows_digest"])
            for plan in plans
        }
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = getattr(error, "strerror", None) or f"it is no plan ({type(error).__name__})"
        return [f"{PLAN_FILE} names the file {str(file)!r}, which cannot be read: {reason}. {anew}"]
    if platform not in planned:
        names = ", ".join(map(repr, planned)) or "none"
        return [f"The plan {str(file)!r} is of {names}, and not of {platform!r}. {anew}"]
    if not history.is_readable(connection, table):
        return [history.no_history_message(table)]
    revision, table_digest, digest = planned[platform]
    found = history.last_revision(connection, table)
    problems = []
    if found != revision:
        problems.append(
            f"The plan {str(file)!r} was made at revision {revision} of table {table!r}, and the "
            f"table is at revision {found} now; yellow-dynamic history has what was changed. "
            f"{anew}"
        )
    elif table_digest != rows_digest(old):
        problems.append(
            f"The plan {str(file)!r} was made at revision {revision} of another table {table!r}: "
            "in another database, or before this one was restored or failed over; or rows were "
            f"changed since while its triggers were off. {anew}"
        )
    if digest != rows_digest(rows):
        problems.append(
            f"The streams that the model gives platform {platform!r} are not those of the plan "
            f"{str(file)!r}. {anew}"
        )
    return problems


def lock_table(connection: Connection, table: Table) -> None:
    """Keep other merges out of the table until the transaction ends; readers go on."""
    execute_locking(connection, f"LOCK TABLE {quoted_name(connection, table)} IN EXCLUSIVE MODE")


class StoredRow(NamedTuple):
    """What a row of the table says of its stream; `disabled_until` is as `is_disabled` takes it."""

    config_json: str | None
    status: str | None
    disabled_until: str | None

    @property
    def status_now(self) -> str | None:
        """The status, which is active again when its time is over."""
        if self.status == DISABLED and not is_disabled(self.status, self.disabled_until):
            return ACTIVE
        return self.status


def find_rows(connection: Connection, table: Table) -> dict[str, StoredRow]:
    """Return the table's rows by stream key."""
    until = DISABLED_UNTIL.format(table=quoted_name(connection, table))
    columns = (table.c.stream_key, table.c.config_json, table.c.status)
    query = sqlalchemy.select(*columns, sqlalchemy.literal_column(until))
    return {key: StoredRow(*row) for key, *row in connection.execute(query)}


def size_problems(connection: Connection, table: Table, rows: dict[str, str]) -> Iterator[str]:
    """Yield which rows the table cannot hold, or why it holds none of them."""
    column = find_config_column(connection, table)
    if not column.is_text:
        yield (
            f"The column config_json of table {table.name!r} {column.problem}, so a merge cannot "
            "write it. Run generatePlatformBootstrap with --ringLevel 1, which makes it text."
        )
    limit = column.limit
    for key in [key for key, text in rows.items() if limit is not None and len(text) > limit]:
        yield (
            f"The configuration of stream {key!r} has {len(rows[key])} characters, and the column "
            f"config_json of table {table.name!r} holds {limit}. Run generatePlatformBootstrap "
            "with --ringLevel 1, which widens it."
        )


#: What a merge does to the table, in this order, each with one parameter of JSON. Rows that do
#: not differ are not touched, so that what others keep of them lives on.
DELETE = """\
DELETE FROM {table}
WHERE stream_key = ANY (ARRAY(SELECT json_array_elements_text(CAST(:rows AS json))))
"""
INSERT = """\
INSERT INTO {table} (stream_key, config_json, status, created_at, updated_at)
SELECT key, value, '{active}', timezone('UTC', now()), timezone('UTC', now())
FROM json_each_text(CAST(:rows AS json))
"""
#: Of streams that were disabled when they were removed; there is a history, and so the column.
INSERT_DISABLED = """\
INSERT INTO {table} (stream_key, config_json, status, created_at, updated_at, disabled_until)
SELECT key, value ->> 0, '{disabled}', timezone('UTC', now()), timezone('UTC', now()),
    CAST(value ->> 1 AS timestamp)
FROM json_each(CAST(:rows AS json))
"""
UPDATE = """\
UPDATE {table} AS old SET
    config_json = new.value,
    status = coalesce(nullif(old.status, ''), '{active}'),
    created_at = coalesce(old.created_at, timezone('UTC', now())),
    updated_at = timezone('UTC', now())
FROM json_each_text(CAST(:rows AS json)) AS new WHERE old.stream_key = new.key
"""
WRITTEN = """\
SELECT stream_key, config_json FROM {table}
WHERE stream_key = ANY (ARRAY(SELECT json_array_elements_text(CAST(:rows AS json))))
"""


def write_difference(
    connection: Connection,
    platform: str,
    table: Table,
    rows: dict[str, str],
    population: Population,
) -> None:
    """Write what differs between the table and these rows, and see that it is in the table.

    What was changed before without a record is recorded first.

    Args:
        connection: one in a transaction that has locked the table.
        platform: the platform's name in the model.
        table: its table.
        rows: config_json by stream key, as all rows are to be.
        population: what differs; see `compare_rows`.

    Raises:
        MergeError: when the table holds something else afterwards.
    """
    quoted = quoted_name(connection, table)

    def run(statement: str, parameter: Any) -> Any:
        text = sqlalchemy.text(statement.format(table=quoted, active=ACTIVE, disabled=DISABLED))
        return connection.execute(text, {"rows": json.dumps(parameter, ensure_ascii=False)})

    history.record_missed(connection, table)
    disabled = {}
    if population.added and history.is_readable(connection, table.name):
        disabled = history.find_removed_while_disabled(connection, table.name, population.added)
    for statement, part in (
        (DELETE, population.removed),
        (INSERT, {key: rows[key] for key in population.added if key not in disabled}),
        (
            INSERT_DISABLED,
            {key: (rows[key], until) for key, until in disabled.items()},
        ),
        (UPDATE, {key: rows[key] for key in population.changed}),
    ):
        if part:
            run(statement, part)
    touched = [*population.added, *population.changed, *population.removed]
    found = dict(run(WRITTEN, touched).all()) if touched else {}
    wrong = [key for key in touched if found.get(key) != rows.get(key)]
    count = connection.scalar(sqlalchemy.select(sqlalchemy.func.count()).select_from(table))
    if wrong or count != len(rows):
        raise MergeError(
            f"Platform {platform!r} was not merged, and nothing was changed: table {table.name!r} "
            f"did not take what the merge wrote. It had {count} rows where {len(rows)} were to be, "
            f"and {len(wrong)} streams{printable_keys(wrong)} were not as written. A trigger, a "
            "rule or a row security policy of the table interferes; psql's \\d lists them."
        )
