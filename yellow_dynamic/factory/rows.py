"""The rows: from the table, or from the last good snapshot of it."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import NamedTuple

from yellow_dynamic.factory.causes import Cause
from yellow_dynamic.factory.database import (
    Condition,
    QueryResult,
    Row,
    TableUnreadableError,
    describe_table,
    read_table,
)
from yellow_dynamic.factory.files import snapshot_path
from yellow_dynamic.factory.logs import log
from yellow_dynamic.factory.platform import Platform
from yellow_dynamic.factory.shards import Shard
from yellow_dynamic.factory.snapshot import read_draining, read_snapshot, write_snapshot

# For how long a table that is empty, and that no merge has emptied, counts as unreadable.
EMPTY_DOUBTED_SECONDS = 24 * 60 * 60


class Reading(NamedTuple):
    """What a parse read.

    Attributes:
        rows: in the order of their keys.
        age: that of the snapshot in seconds if it served, else None.
        ended: the streams that are noted as ended, and since when; None where that is not known.
    """

    rows: list[Row]
    age: float | None
    ended: dict[str, float] | None = None


def load_shard(platform: Platform, shard: Shard) -> Reading:
    """Return the rows of a shard, and keep them as the snapshot when they are the database's.

    Raises:
        TableUnreadableError: when neither the table nor a snapshot can be read.
    """
    reading = load_rows(platform, shard.condition())
    if reading.age is None:
        return reading._replace(ended=write_snapshot(platform, reading.rows, shard))
    # The rows of a snapshot are all registered, whatever the shard is by now: while the database
    # is away, no other file could take them over.
    return reading._replace(ended=read_draining(platform))


def load_rows(platform: Platform, condition: Condition) -> Reading:
    """Return those rows of the table; while it is unreadable, all rows of the last snapshot.

    Raises:
        TableUnreadableError: when neither the table nor a snapshot can be read.
    """
    state = platform.reading
    try:
        found = read_table(platform, condition)
        reject_suspect_read(platform, found)
        reading = Reading(found.rows, None)
    except TableUnreadableError as error:
        state.update(cause=error.cause, reason=str(error))
        snapshot = read_snapshot(platform)
        if snapshot is None:
            reason = f"{error} There is no snapshot to serve instead."
            raise TableUnreadableError(reason, error.cause) from None
        confirmed = snapshot.confirmed
        at = datetime.fromtimestamp(confirmed, timezone.utc).isoformat(timespec="seconds")
        reason = (
            f"{error} Serving the snapshot in {snapshot_path(platform)}, last confirmed by the "
            f"database at {at}."
        )
        state.update(reason=reason)
        log.warning("%s", reason)
        reading = Reading(snapshot.rows, max(0.0, time.time() - confirmed))
    state.update(source="database" if reading.age is None else "snapshot", age=reading.age)
    return reading


def reject_suspect_read(platform: Platform, found: QueryResult) -> None:
    """Raise TableUnreadableError where a read that succeeded shows less than there is."""
    if found.histories and found.schema not in found.histories:
        raise TableUnreadableError(
            f"{describe_table(platform)} is not the one in schema {found.schema!r} that this role "
            f"sees: bootstrap made the one in schema {', '.join(map(repr, found.histories))}. Set "
            "the role's search_path; or, if this is the platform's table, run bootstrap with "
            "--ringLevel 1, which creates its history.",
            Cause.NO_TABLE,
        )
    if found.any_row or found.emptied:
        return
    snapshot = read_snapshot(platform)
    if snapshot and snapshot.rows and time.time() - snapshot.confirmed < EMPTY_DOUBTED_SECONDS:
        raise TableUnreadableError(
            f"{describe_table(platform)} has no row, and no merge has emptied it; was the database "
            "rebuilt? Run handleModelMerge, which fills it. If it is meant to be empty: the "
            f"streams go {EMPTY_DOUBTED_SECONDS // 3600} hours after it last had one.",
            Cause.EMPTY,
        )
