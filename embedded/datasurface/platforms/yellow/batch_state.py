"""The batch tables of a platform: which batch a stream is in, and what came of each batch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Final

from sqlalchemy import Table, func, insert, select, text, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError

from datasurface.platforms.yellow.job_error import JobError

#: How long a run waits for another run of its stream before it gives up.
LOCK_WAIT_SECONDS = 60

_LOCK_NOT_AVAILABLE: Final = "55P03"


class BatchStatus(Enum):
    """Where a batch is between its start and its merge."""

    STARTED = "started"
    INGESTED = "ingested"
    COMMITTED = "committed"
    FAILED = "failed"


@dataclass
class BatchState:
    """What a batch remembers between the run that ingests it and the run that merges it."""

    all_datasets: list[str]
    #: How many of the datasets are staged: none or all.
    current_dataset_index: int = 0
    #: Always 0, as a dataset is staged in one piece; readers of DataSurface's state expect it.
    current_offset: int = 0
    #: Schema hash of each dataset as it was ingested.
    schema_versions: dict[str, str] = field(default_factory=dict)
    #: Rows of each dataset as they were ingested.
    row_counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Batch:
    """A stream's current batch as the batch tables have it.

    A batch whose status or state cannot be understood counts as failed.
    """

    batch_id: int
    status: BatchStatus
    state: BatchState


@dataclass(frozen=True)
class MergeCounts:
    """How many records a merge added, changed and removed, and how many the batch had."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    total: int = 0

    def __add__(self, other: MergeCounts) -> MergeCounts:
        return MergeCounts(
            self.inserted + other.inserted,
            self.updated + other.updated,
            self.deleted + other.deleted,
            self.total + other.total,
        )


def lockName(connection: Connection, name: str) -> bool:
    """Take the advisory lock of that name until the transaction ends.

    Every later lock wait of the transaction is bounded by the same time.

    Returns:
        False when another transaction still held it after `LOCK_WAIT_SECONDS`. The transaction
        cannot go on then.
    """
    connection.execute(
        text("SELECT set_config('lock_timeout', :wait, true)"), {"wait": f"{LOCK_WAIT_SECONDS}s"}
    )
    # Where the server has this setting (PostgreSQL 14 on), it notices within seconds that a
    # killed job is gone, and frees its lock instead of finishing its statement first.
    connection.execute(
        text(
            "SELECT set_config(name, '2s', true) FROM pg_settings "
            "WHERE name = 'client_connection_check_interval'"
        )
    )
    digest = hashlib.sha256(name.encode()).digest()
    key = int.from_bytes(digest[:8], "big", signed=True)
    try:
        connection.execute(select(func.pg_advisory_xact_lock(key)))
    except OperationalError as error:
        if getattr(error.orig, "pgcode", None) == _LOCK_NOT_AVAILABLE:
            return False
        raise
    return True


class BatchLedger:
    """Reads and writes the batch of one stream, inside the caller's transaction.

    Args:
        counter: The platform's batch counter table.
        metrics: The platform's batch metrics table.
        platformName: The platform, which names the lock.
        key: The stream's key in both tables.
    """

    def __init__(self, counter: Table, metrics: Table, platformName: str, key: str) -> None:
        self._counter = counter
        self._metrics = metrics
        self._platformName = platformName
        self.key = key

    def lock(self, connection: Connection) -> None:
        """Keep every other run of this stream waiting until the transaction ends.

        Raises:
            JobError: Another run holds the lock for longer than `LOCK_WAIT_SECONDS`.
        """
        if not lockName(connection, f"datasurface/{self._platformName}/{self.key}"):
            raise JobError(
                f"Another run of stream {self.key} of platform {self._platformName} is at work: "
                f"its lock was not free within {LOCK_WAIT_SECONDS} seconds. Let that run finish, "
                f"then run this job again."
            )

    def current(self, connection: Connection) -> Batch | None:
        """Return the stream's current batch; None before the first one."""
        row = connection.execute(
            select(self._metrics.c.batch_id, self._metrics.c.batch_status, self._metrics.c.state)
            .join(
                self._counter,
                (self._counter.c.key == self._metrics.c.key)
                & (self._counter.c.currentBatch == self._metrics.c.batch_id),
            )
            .where(self._metrics.c.key == self.key)
        ).one_or_none()
        if row is None:
            return None
        return _understood(row.batch_id, row.batch_status, row.state)

    def start(self, connection: Connection, datasets: list[str]) -> Batch:
        """Begin the batch that follows the current one, which must be committed or absent."""
        counter = self._counter
        last = connection.execute(
            select(counter.c.currentBatch).where(counter.c.key == self.key)
        ).scalar_one_or_none()
        if last is None:
            batch_id = 1
            connection.execute(insert(counter).values(key=self.key, currentBatch=batch_id))
        else:
            # A counter without a metrics row points at a batch that never started.
            batch_id = last + 1 if self.current(connection) is not None else last
            connection.execute(
                update(counter).where(counter.c.key == self.key).values(currentBatch=batch_id)
            )
        batch = Batch(batch_id, BatchStatus.STARTED, BatchState(datasets))
        connection.execute(
            insert(self._metrics).values(
                key=self.key,
                batch_id=batch_id,
                batch_start_time=func.now(),
                batch_status=batch.status.value,
                state=json.dumps(asdict(batch.state)),
            )
        )
        return batch

    def markStarted(self, connection: Connection, batchId: int, state: BatchState) -> None:
        """Record that the batch is to be ingested again from the beginning."""
        self._update(
            connection,
            batchId,
            batch_status=BatchStatus.STARTED.value,
            total_records=None,
            state=json.dumps(asdict(state)),
        )

    def markIngested(self, connection: Connection, batchId: int, state: BatchState) -> None:
        """Record that all rows of the batch are in the staging tables."""
        self._update(
            connection,
            batchId,
            batch_status=BatchStatus.INGESTED.value,
            total_records=sum(state.row_counts.values()),
            state=json.dumps(asdict(state)),
        )

    def markCommitted(self, connection: Connection, batchId: int, counts: MergeCounts) -> None:
        """Record that the batch is merged, and what the merge did."""
        self._update(
            connection,
            batchId,
            batch_status=BatchStatus.COMMITTED.value,
            batch_end_time=func.clock_timestamp(),
            records_inserted=counts.inserted,
            records_updated=counts.updated,
            records_deleted=counts.deleted,
            total_records=counts.total,
        )

    def _update(self, connection: Connection, batchId: int, **values: object) -> None:
        metrics = self._metrics
        connection.execute(
            update(metrics)
            .where(metrics.c.key == self.key, metrics.c.batch_id == batchId)
            .values(**values)
        )


def _understood(batchId: int, statusText: str, stateText: str | None) -> Batch:
    unknown = BatchState([])
    if statusText == BatchStatus.COMMITTED.value:
        # What is over needs no state; another version may have written it.
        return Batch(batchId, BatchStatus.COMMITTED, unknown)
    try:
        state = BatchState(**json.loads(stateText or ""))
        return Batch(batchId, BatchStatus(statusText), state)
    except (TypeError, ValueError):
        return Batch(batchId, BatchStatus.FAILED, unknown)
