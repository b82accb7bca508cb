"""The last good rows on disk, and which streams have ended since."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

from yellow_dynamic.factory.database import Row
from yellow_dynamic.factory.files import owned_by_us, snapshot_path, write_atomic
from yellow_dynamic.factory.logs import log
from yellow_dynamic.factory.platform import Platform
from yellow_dynamic.factory.shards import Shard

SNAPSHOT_FORMAT = 1
# The note of the streams that have ended.
DRAINING = ".ended"


def write_snapshot(platform: Platform, rows: list[Row], shard: Shard) -> None:
    """Keep the rows on local disk, and which streams have ended since; else a warning."""
    path = snapshot_path(platform)
    text = snapshot_text(platform, rows)
    try:
        if owned_by_us(path) and path.read_bytes() == text.encode():
            os.utime(path)
        else:
            warn_duplicate_file(platform, path)
            record_draining(platform, rows, shard)
            write_atomic(path, text)
    except OSError as error:
        log.warning(
            "The snapshot %s cannot be written (%s), so a database outage would stop the ingestion "
            "DAGs of this platform. Point YELLOW_DYNAMIC_SNAPSHOT_DIR at a writable folder.",
            path,
            error.strerror or error,
        )


def warn_duplicate_file(platform: Platform, snapshot: Path) -> None:
    """Warn where another file than this one wrote the snapshot, and is still there.

    Such a file is in another bundle or folder, since it has this one's name.
    """
    try:
        other = Path(json.loads(snapshot.read_text(encoding="utf-8"))["file"])
        doubled = owned_by_us(snapshot) and other != platform.file and other.is_file()
    except (OSError, ValueError, TypeError, KeyError):
        # There is no snapshot yet, or the file cannot be seen.
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


def read_snapshot(platform: Platform) -> list[Row] | None:
    """Return the snapshot's rows, or None and a warning where it cannot be trusted."""
    path = snapshot_path(platform)
    if not path.exists():
        return None
    try:
        if not owned_by_us(path):
            raise ValueError("it belongs to another user")
        snapshot = json.loads(path.read_text(encoding="utf-8"))
        if snapshot["format"] != SNAPSHOT_FORMAT:
            raise ValueError(f"its format is {snapshot['format']!r}, not {SNAPSHOT_FORMAT}")
        if snapshot["table"] != platform.settings["config_table"]:
            raise ValueError(f"it is of the table {snapshot['table']!r}")
        rows = [Row(*row) for row in snapshot["rows"]]
        if hashlib.sha256(json.dumps(snapshot["rows"]).encode()).hexdigest() != snapshot["digest"]:
            raise ValueError("its digest does not match its rows")
    except (OSError, ValueError, TypeError, KeyError) as error:
        log.warning("The snapshot %s is ignored: %s.", path, error or type(error).__name__)
        return None
    return rows


def record_draining(platform: Platform, rows: list[Row], shard: Shard) -> None:
    """Note which streams of the former snapshot are active no more, and since when."""
    active = {row.stream_key for row in rows if not row.is_off}
    before = {row.stream_key for row in read_snapshot(platform) or () if not row.is_off}
    # A stream that another file has taken over has not ended.
    since = {key: time.time() for key in before - active if shard.has(key)}
    since |= {key: at for key, at in read_draining(platform).items() if key not in active}
    path = snapshot_path(platform, DRAINING)
    if since:
        write_atomic(path, json.dumps(since))
    else:
        path.unlink(missing_ok=True)


def read_draining(platform: Platform) -> dict[str, float]:
    """Return the streams that are noted as ended, and since when."""
    path = snapshot_path(platform, DRAINING)
    try:
        noted = json.loads(path.read_text(encoding="utf-8")) if owned_by_us(path) else {}
        return {str(key): float(at) for key, at in noted.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
