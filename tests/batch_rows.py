"""Rows of the tables in which DataSurface's jobs keep their batches, as tests write them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from conftest import Site


def write_batch(
    site: Site,
    key: str,
    number: int,
    status: str = "committed",
    *,
    ago: str = "0",
    inserted: int = 0,
    updated: int = 0,
    deleted: int = 0,
    total: int = 0,
) -> None:
    """Write a batch of a stream, which becomes its current one.

    Args:
        site: the platform YellowLive.
        key: the stream's key in the tables of batches.
        number: the batch's.
        status: what has become of it.
        ago: how long ago it ended, as PostgreSQL writes it; it began a minute before.
        inserted: how many rows came.
        updated: how many changed.
        deleted: how many went.
        total: how many the source had.
    """
    counts: list[Any] = [inserted, updated, deleted, total]
    if status != "committed":
        counts = [None] * len(counts)
    [(end,)] = site.sql("SELECT now()::timestamp - %s::interval", [ago])
    over = status in ("committed", "failed")
    site.sql(
        "INSERT INTO yellowlive_batch_metrics (key, batch_id, batch_status, batch_start_time, "
        "batch_end_time, records_inserted, records_updated, records_deleted, total_records) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
        [key, number, status, end - timedelta(minutes=1), end if over else None, *counts],
    )
    site.sql(
        'INSERT INTO yellowlive_batch_counter (key, "currentBatch") VALUES (%s, %s) '
        'ON CONFLICT (key) DO UPDATE SET "currentBatch" = excluded."currentBatch"',
        [key, number],
    )
