"""What the browser gets of a stream, as JSON."""

from __future__ import annotations

from typing import Any

from yellow_dynamic import history
from yellow_dynamic.factory.rules import compute_revision
from yellow_dynamic.monitoring.airflow import DagView
from yellow_dynamic.monitoring.batches import Batch
from yellow_dynamic.monitoring.rows import describe_schedule
from yellow_dynamic.monitoring.status import StreamStatus
from yellow_dynamic.page.store import Table


def stream_as_json(
    stream: StreamStatus, table: Table | None, dag: DagView | None
) -> dict[str, Any]:
    """Return what the list shows of a stream.

    Args:
        stream: its status.
        table: what its merge store says; None where that was never read.
        dag: its DAG as Airflow has it, or None.
    """
    key = stream.stream_key
    row = ((table and table.sources.rows) or {}).get(key)
    config = table.sources.configs.get(key, {}) if table else {}
    change = table.changes.get(key) if table else None
    good, newest = stream.good_batch, stream.newest_batch
    return {
        "key": key,
        "dag_id": stream.dag_id,
        "has_dag": dag is not None and not dag.stale,
        "state": stream.state,
        "colour": stream.state.colour,
        "reason": stream.reason,
        "good": good and in_short(good),
        "newest": in_short(newest) if newest and newest != good else None,
        "store": config.get("store_name"),
        "schedule": describe_schedule(config) if config else "",
        "revision": compute_revision(row.config_json) if row else None,
        "change": change and change_in_short(change),
    }


def in_short(batch: Batch) -> dict[str, Any]:
    ended = batch.ended and batch.ended.isoformat(timespec="seconds")
    return {"number": batch.number, "status": batch.status, "rows": batch.rows, "ended": ended}


def change_in_short(change: history.Change) -> dict[str, Any]:
    return {
        "revision": change.revision,
        "at": change.changed_at.isoformat(timespec="seconds"),
        "who": change.who,
        "how": change.how,
        "action": change.action,
    }
