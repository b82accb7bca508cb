"""What the browser gets of a stream, as JSON, and what a search looks in."""

from __future__ import annotations

from dataclasses import replace
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
    config, change = find_config(stream, table), find_change(stream, table)
    good, newest = stream.good_batch, stream.newest_batch
    return {
        "stream_key": stream.stream_key,
        "dag_id": stream.dag_id,
        "has_dag": dag is not None and not dag.stale,
        "state": stream.state,
        "colour": stream.state.colour,
        "reason": stream.reason,
        "good_batch": good and batch_summary(good),
        "newest_batch": batch_summary(newest) if newest and newest != good else None,
        "store": config.get("store_name"),
        "schedule": describe_schedule(config) if config else "",
        "revision": find_revision(stream, table),
        "last_change": change and change_summary(change),
    }


def search_text(stream: StreamStatus, table: Table | None, dag: DagView | None) -> str:
    """Return the text that a search looks in, in lower case and without the values of XComs."""
    change = find_change(stream, table)
    texts = [
        stream.stream_key,
        find_config(stream, table).get("store_name"),
        stream.state,
        reason_without_xcom(stream, dag),
        change.who if change else None,
        find_revision(stream, table),
    ]
    return "\n".join(str(text) for text in texts if text).lower()


def reason_without_xcom(stream: StreamStatus, dag: DagView | None) -> str:
    """Return the reason of a stream's state, without the XCom that says why its task failed."""
    if failure := dag.failure if dag else None:
        return stream.reason.replace(str(failure), str(replace(failure, reason=None)))
    return stream.reason


def find_config(stream: StreamStatus, table: Table | None) -> dict[str, Any]:
    return table.sources.configs.get(stream.stream_key, {}) if table else {}


def find_change(stream: StreamStatus, table: Table | None) -> history.Change | None:
    return table.changes.get(stream.stream_key) if table else None


def find_revision(stream: StreamStatus, table: Table | None) -> str | None:
    row = ((table and table.sources.rows) or {}).get(stream.stream_key)
    return compute_revision(row.config_json) if row else None


def batch_summary(batch: Batch) -> dict[str, Any]:
    ended = batch.ended and batch.ended.isoformat(timespec="seconds")
    return {"number": batch.number, "status": batch.status, "rows": batch.rows, "ended": ended}


def change_summary(change: history.Change) -> dict[str, Any]:
    return {
        "revision": change.revision,
        "at": change.changed_at.isoformat(timespec="seconds"),
        "who": change.who,
        "how": change.how,
        "action": change.action,
    }
