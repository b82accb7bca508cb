"""The batches that DataSurface's jobs have loaded, and when a stream is late.

DataSurface's jobs write two tables for each platform in the merge store: a counter with the number
of each stream's current batch, and a row for each batch. This module only reads them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import sqlalchemy
from croniter import croniter
from sqlalchemy.engine import Connection

from yellow_dynamic.factory.rules import (
    BATCH_COLUMNS,
    COMMITTED_BATCH,
    DEFAULT_SCHEDULE,
    NO_SCHEDULE,
    PRESETS,
    get_batch_key,
)
from yellow_dynamic.monitoring import OperationError
from yellow_dynamic.monitoring.installation import Installation
from yellow_dynamic.monitoring.rows import read_rows
from yellow_dynamic.monitoring.selection import Selection
from yellow_dynamic.schedules import CRON_OF_PRESET

#: A stream is late when it has missed this many scheduled deliveries.
MISSED = 3


class Batch(NamedTuple):
    """One batch of a stream; times are UTC, and None is what the job has not written yet.

    Attributes:
        number: counts the stream's batches from 1.
        status: `started`, `ingested`, `committed` or `failed`.
        inserted: how many rows were inserted into the merge tables.
        updated: how many rows were updated there.
        deleted: how many rows were deleted there.
        total: how many rows the source had.
        started: when its job started it.
        ended: when it was committed or failed.
    """

    number: int
    status: str
    inserted: int | None
    updated: int | None
    deleted: int | None
    total: int | None
    started: datetime | None
    ended: datetime | None

    def as_json(self) -> dict[str, Any]:
        """Return it for programs, times as ISO 8601."""
        return {
            name: value.isoformat(timespec="seconds") if isinstance(value, datetime) else value
            for name, value in self._asdict().items()
        }

    @property
    def rows(self) -> str:
        """The rows inserted, updated and deleted; empty before the batch is committed."""
        if self.inserted is None:
            return ""
        return f"+{self.inserted} ~{self.updated or 0} -{self.deleted or 0}"


class Delivery(NamedTuple):
    """The newest batch of a stream, and the newest one that was committed."""

    newest: Batch | None
    good: Batch | None


def read_deliveries(connection: Connection, settings: dict[str, Any]) -> dict[str, Delivery]:
    """Return what each stream of a platform last delivered, by its key in the batch tables.

    Args:
        connection: to the merge store.
        settings: those of the platform's factory file.

    Returns:
        An empty dict if no job has run yet: the first one creates the tables.

    Raises:
        OperationError: this role has no privilege to read the tables.
    """
    if not has_readable_batches(connection, settings):
        return {}
    counter, batches = batch_tables(settings)
    newest, good = batches.alias("newest"), batches.alias("good")
    last_good = select_newest(good, counter, 1, good.c.batch_status == COMMITTED_BATCH)
    of_counter = sqlalchemy.and_(
        newest.c.key == counter.c.key, newest.c.batch_id == counter.c.currentBatch
    )
    query = sqlalchemy.select(counter.c.key, *batch_columns(newest), *batch_columns(last_good))
    query = query.select_from(
        counter.outerjoin(newest, of_counter).outerjoin(last_good, sqlalchemy.true())
    )
    width = len(Batch._fields)
    return {
        key: Delivery(to_batch(values[:width]), to_batch(values[width:]))
        for key, *values in connection.execute(query)
    }


def read_batches(
    connection: Connection, settings: dict[str, Any], keys: Collection[str], limit: int
) -> list[tuple[str, Batch]]:
    """Return the newest batches of some streams by key, the newest of all first.

    Args:
        connection: to the merge store.
        settings: those of the platform's factory file.
        keys: those of the streams in the batch tables.
        limit: the maximum number of batches.

    Raises:
        OperationError: see `read_deliveries`.
    """
    if not has_readable_batches(connection, settings):
        return []
    counter, batches = batch_tables(settings)
    of_key = select_newest(batches, counter, limit)
    query = sqlalchemy.select(counter.c.key, *batch_columns(of_key))
    query = query.select_from(counter.join(of_key, sqlalchemy.true()))
    newest_first = (of_key.c.batch_start_time.desc(), counter.c.key, of_key.c.batch_id.desc())
    query = query.where(counter.c.key.in_(keys)).order_by(*newest_first).limit(limit)
    return [(key, Batch(*values)) for key, *values in connection.execute(query)]


def has_readable_batches(connection: Connection, settings: dict[str, Any]) -> bool:
    """Return whether the batch tables exist.

    Raises:
        OperationError: see `read_deliveries`.
    """
    names = [table.name for table in batch_tables(settings)]
    quote = connection.dialect.identifier_preparer.quote
    privilege = sqlalchemy.func.has_table_privilege
    may = [privilege(sqlalchemy.func.to_regclass(quote(name)), "SELECT") for name in names]
    answers = connection.execute(sqlalchemy.select(*may, sqlalchemy.func.current_user())).one()
    if None in answers:
        return False
    *allowed, role = answers
    if not all(allowed):
        tables = ", ".join(map(quote, names))
        raise OperationError(
            f"What the streams delivered is not known: GRANT SELECT ON {tables} TO {quote(role)};"
        )
    return True


def batch_tables(settings: dict[str, Any]) -> tuple[sqlalchemy.TableClause, sqlalchemy.TableClause]:
    """Return the counter and the batches of a platform."""
    names = ("key", *BATCH_COLUMNS.values(), *TIMES)
    return (
        sqlalchemy.table(
            settings["batch_counter_table"],
            sqlalchemy.column("key"),
            sqlalchemy.column("currentBatch"),
        ),
        sqlalchemy.table(settings["batch_metrics_table"], *map(sqlalchemy.column, names)),
    )


def select_newest(batches: Any, counter: Any, limit: int, *conditions: Any) -> Any:
    """Return the newest batches of each key of the counter, found by the primary key."""
    query = sqlalchemy.select(batches).where(batches.c.key == counter.c.key, *conditions)
    return query.order_by(batches.c.batch_id.desc()).limit(limit).lateral()


TIMES = ("batch_start_time", "batch_end_time")


def batch_columns(batches: Any) -> list[Any]:
    """Return the columns of a batch in the order of `Batch`, times as UTC.

    A job writes the time of its session, whose time zone is the one that its role has there.
    """
    own_zone = (
        sqlalchemy.select(sqlalchemy.column("reset_val"))
        .select_from(sqlalchemy.table("pg_settings"))
        .where(sqlalchemy.column("name") == "TimeZone")
        .scalar_subquery()
    )
    zone = sqlalchemy.func.timezone
    return [
        *(batches.c[name] for name in BATCH_COLUMNS.values()),
        *(zone("UTC", zone(own_zone, batches.c[name])).label(name) for name in TIMES),
    ]


def to_batch(values: list[Any]) -> Batch | None:
    return None if values[0] is None else Batch(*values)


@dataclass
class PlatformBatches:
    """The newest batches of a platform, each with the key of its stream.

    Attributes:
        installation: the platform.
        streams: how many streams were selected.
        batches: the batches, newest first.
    """

    installation: Installation
    streams: int
    batches: list[tuple[str, Batch]]


def find_batches(
    installation: Installation, selection: Selection | None, limit: int
) -> PlatformBatches:
    """Return the newest batches of the selected streams of a platform.

    Raises:
        OperationError: the batches cannot be read.
        sqlalchemy.exc.SQLAlchemyError: the query fails.
    """
    streams = {
        key: row.stream_key
        for row in read_rows(installation)
        if (key := get_batch_key(row.config))
        and (selection is None or selection.matches(row.stream_key, row.config))
    }
    with installation.transaction("read the batches beside") as connection:
        found = read_batches(connection, installation.settings, streams, limit)
    named = [(streams[key], batch) for key, batch in found]
    return PlatformBatches(installation, len(streams), named)


# --- When a stream is late --------------------------------------------------------------------


def due_since(
    key: str, configs: dict[str, dict[str, Any]], now: datetime, time_zone: str = "UTC"
) -> datetime | None:
    """Return the time since which a stream must have delivered, or None if it has no schedule.

    Args:
        key: the stream's.
        configs: the configurations of its platform's rows, by key.
        now: in UTC.
        time_zone: that of the schedules.

    Returns:
        The third time before now (UTC) at which it was due. A stream that others start is due as
        often as the slowest of them.
    """
    return find_due(key, configs, now.replace(second=0, microsecond=0), time_zone, frozenset())


def find_due(
    key: str,
    configs: dict[str, dict[str, Any]],
    now: datetime,
    time_zone: str,
    asked: frozenset[str],
) -> datetime | None:
    config = configs.get(key)
    if config is None:
        return None
    starters = config.get("started_by")
    if isinstance(starters, list) and key not in asked:
        dues = [find_due(each, configs, now, time_zone, asked | {key}) for each in starters]
        known = [due for due in dues if due is not None]
        return min(known) if known and len(known) == len(dues) else None
    schedule = config.get("schedule_string", DEFAULT_SCHEDULE)
    if schedule in NO_SCHEDULE or not isinstance(schedule, str):
        return None
    return time_before(CRON_OF_PRESET.get(schedule, schedule), now, time_zone)


@lru_cache(maxsize=1000)
def time_before(schedule: str, now: datetime, time_zone: str) -> datetime | None:
    """Return the MISSED-th time of a schedule before now, or None for a schedule without times."""
    # "@once" and "@continuous" have no times.
    if schedule in PRESETS:
        return None
    try:
        times = croniter(schedule, now.replace(tzinfo=UTC).astimezone(find_zone(time_zone)))
        for _ in range(MISSED):
            found: datetime = times.get_prev(datetime)
    except (ValueError, KeyError):
        # The check of the row reports a schedule that is not valid.
        return None
    return found.astimezone(UTC).replace(tzinfo=None)


def find_zone(name: str) -> tzinfo:
    """Return the time zone of this name, or UTC for one that is not known here."""
    try:
        return ZoneInfo(name)
    except (ValueError, KeyError, OSError):
        return UTC
