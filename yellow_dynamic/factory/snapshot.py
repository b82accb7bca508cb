"""The last good rows on disk, and which streams have ended since."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import NamedTuple

from yellow_dynamic.factory.database import Row
from yellow_dynamic.factory.files import (
    describe_disk_error,
    read_own,
    snapshot_path,
    write_atomic,
)
from yellow_dynamic.factory.logs import log
from yellow_dynamic.factory.platform import Platform
from yellow_dynamic.factory.shards import Shard

SNAPSHOT_FORMAT = 1
# The note of the streams that have ended, which is there even if none has.
DRAINING = ".ended"
# What is raised where a file cannot be read, or is damaged.
UNUSABLE = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError)


class Snapshot(NamedTuple):
    """The last good rows, and when the database confirmed them."""

    rows: list[Row]
    confirmed: float


def write_snapshot(platform: Platform, rows: list[Row], shard: Shard) -> dict[str, float] | None:
    """Keep the rows on local disk, and which streams have ended since; else a warning.

    Returns:
        What `read_draining` would.
    """
    path = snapshot_path(platform)
    text = snapshot_text(platform, rows)
    noted = read_draining(platform)
    try:
        if is_current(path, text):
            os.utime(path)
        else:
            warn_duplicate_file(platform, path)
            if noted is not None:
                noted = add_ended(platform, rows, shard, noted)
                write_draining(platform, noted)
            write_atomic(path, text)
    except OSError as error:
        log.warning(
            "The snapshot %s cannot be written (%s), so a database outage would stop the ingestion "
            "DAGs of this platform. Point YELLOW_DYNAMIC_SNAPSHOT_DIR at a writable folder.",
            path,
            describe_disk_error(error),
        )
    return noted


def is_current(path: Path, text: str) -> bool:
    """Return whether a file of this user has this text; any other is written anew."""
    try:
        own = read_own(path)
    except (OSError, ValueError):
        return False
    return own is not None and own.text == text


def warn_duplicate_file(platform: Platform, snapshot: Path) -> None:
    """Warn where another file than this one wrote the snapshot, and is still there.

    Such a file is in another bundle or folder, since it has this one's name.
    """
    try:
        own = read_own(snapshot)
        other = Path(json.loads(own.text)["file"]) if own else platform.file
        doubled = other != platform.file and other.is_file()
    except UNUSABLE:
        # Who wrote the snapshot is not known, or the other file cannot be seen.
        return
    if doubled:
        log.warning(
            "The DAGs of platform %s come from %s and from %s, so that Airflow takes each from the "
            "one it parsed last. Delete one of them, or take its bundle out of Airflow.",
            platform.name,
            platform.file,
            other,
        )


def snapshot_text(platform: Platform, rows: list[Row]) -> str:
    """Return the text of a snapshot of these rows."""
    body = json.dumps(rows)
    return json.dumps(
        {
            "format": SNAPSHOT_FORMAT,
            "table": platform.settings["config_table"],
            "file": str(platform.file),
            "digest": hashlib.sha256(body.encode()).hexdigest(),
            "rows": rows,
        }
    )


def read_snapshot(platform: Platform) -> Snapshot | None:
    """Return the snapshot, or None, with a warning where it cannot be trusted."""
    path = snapshot_path(platform)
    try:
        own = read_own(path)
        if own is None:
            return None
        snapshot = json.loads(own.text)
        if snapshot["format"] != SNAPSHOT_FORMAT:
            raise ValueError(f"its format is {snapshot['format']!r}, not {SNAPSHOT_FORMAT}")
        if snapshot["table"] != platform.settings["config_table"]:
            raise ValueError(f"it is of the table {snapshot['table']!r}")
        rows = [Row(*row) for row in snapshot["rows"]]
        if hashlib.sha256(json.dumps(snapshot["rows"]).encode()).hexdigest() != snapshot["digest"]:
            raise ValueError("its digest does not match its rows")
    except UNUSABLE as error:
        log.warning("The snapshot %s is ignored: %s.", path, describe_disk_error(error))
        return None
    return Snapshot(rows, own.modified)


def add_ended(
    platform: Platform, rows: list[Row], shard: Shard, noted: dict[str, float]
) -> dict[str, float] | None:
    """Return the noted streams and those of the former snapshot that are active no more.

    Returns:
        None where the former snapshot is not known.
    """
    former = read_snapshot(platform)
    if former is None:
        return None
    active = {row.stream_key for row in rows if not row.is_off}
    before = {row.stream_key for row in former.rows if not row.is_off}
    # A stream that another file has taken over has not ended.
    since = {key: time.time() for key in before - active if shard.has(key)}
    return since | {key: at for key, at in noted.items() if key not in active}


def write_draining(platform: Platform, since: dict[str, float] | None) -> None:
    """Note these streams as ended, and since when; None is that it is not known, and no note."""
    path = snapshot_path(platform, DRAINING)
    if since is None:
        path.unlink(missing_ok=True)
    else:
        write_atomic(path, json.dumps(since))


def read_draining(platform: Platform) -> dict[str, float] | None:
    """Return the streams that are noted as ended, and since when.

    Returns:
        None where that is not known, with a warning where the note cannot be trusted.
    """
    path = snapshot_path(platform, DRAINING)
    try:
        note = read_own(path)
        if note is None:
            return None
        return {str(key): float(at) for key, at in json.loads(note.text).items()}
    except UNUSABLE as error:
        log.warning(
            "The note %s of streams that have ended is ignored: %s. The table and its history say "
            "which have.",
            path,
            describe_disk_error(error),
        )
        return None
