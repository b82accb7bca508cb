"""The steps by which jobs take one ingestion stream further."""

from __future__ import annotations

from enum import Enum

from sqlalchemy.engine import Connection

from datasurface.md import Ecosystem
from datasurface.md.sqlalchemyutils import createOrUpdateTable
from datasurface.platforms.yellow.batch_state import (
    Batch,
    BatchState,
    BatchStatus,
    MergeCounts,
    lockName,
)
from datasurface.platforms.yellow.ingestion_stream import IngestionStream, resolve_stream
from datasurface.platforms.yellow.job_error import JobError, databaseErrors
from datasurface.platforms.yellow.logging_utils import (
    get_contextual_logger,
    log_operation_timing,
)
from datasurface.platforms.yellow.platform_base import YellowPlatformBase
from datasurface.platforms.yellow.snapshot_merge import (
    clearStaging,
    ingestDataset,
    makeFitForModel,
    mergeDataset,
    pinTextFormat,
)

logger = get_contextual_logger(__name__)


class JobStatus(Enum):
    """How a run of a job ended, and so what the DAG that started it does next."""

    #: There is more to do at once.
    KEEP_WORKING = 1
    #: Nothing to do until the next trigger.
    DONE = 0
    #: The run failed.
    ERROR = -1


def resetBatchState(
    eco: Ecosystem, dp: YellowPlatformBase, storeName: str, datasetName: str | None = None
) -> str:
    """Make the next run of a stream ingest its current batch again from the beginning.

    Args:
        eco: The model.
        dp: The platform that ingests the store.
        storeName: The store.
        datasetName: The dataset, for a store that is ingested dataset by dataset.

    Returns:
        "SUCCESS", or "ERROR: " and the reason; nothing has changed then.
    """
    try:
        stream = resolve_stream(eco, dp, storeName, datasetName)
        with databaseErrors("Resetting the batch", stream.merge):
            return _resetBatch(stream)
    except JobError as error:
        return f"ERROR: {error}"


def run_step(stream: IngestionStream) -> JobStatus:
    with databaseErrors("Working in the merge store", stream.merge):
        _prepareBatchTables(stream)
        with stream.mergeEngine.begin() as connection:
            stream.ledger.lock(connection)
            _prepareDatasetTables(stream)
            batch = stream.ledger.current(connection)
            if batch is not None and batch.status is BatchStatus.FAILED:
                raise JobError(
                    f"Batch {batch.batch_id} of stream {stream.ledger.key} has failed, or its "
                    f"state cannot be read. {_howToReset(stream)}"
                )
            if batch is not None and batch.status is BatchStatus.INGESTED:
                _mergeBatch(stream, connection, batch)
                return JobStatus.DONE
            if batch is None or batch.status is BatchStatus.COMMITTED:
                batch = stream.ledger.start(connection, stream.datasetNames)
        _ingestBatch(stream, batch.batch_id)
        return JobStatus.KEEP_WORKING


def _prepareBatchTables(stream: IngestionStream) -> None:
    # All streams of a platform share these tables, so creating them has a lock of its own.
    with stream.mergeEngine.begin() as connection:
        if not lockName(connection, f"datasurface/{stream.platform.name}"):
            raise JobError(
                f"Another job of platform {stream.platform.name} has been creating its batch "
                f"tables for very long. Run this job again later."
            )
        createOrUpdateTable(stream.mergeEngine, stream.utilities.getBatchCounterTable())
        createOrUpdateTable(stream.mergeEngine, stream.utilities.getBatchMetricsTable())


def _prepareDatasetTables(stream: IngestionStream) -> None:
    for tables in stream.datasets:
        for table in (tables.staging, tables.merge):
            with stream.mergeEngine.begin() as connection:
                makeFitForModel(connection, table)
            createOrUpdateTable(stream.mergeEngine, table)


def _ingestBatch(stream: IngestionStream, batchId: int) -> None:
    """Fill the staging tables from one snapshot of the source, all of them or none."""
    with stream.mergeEngine.begin() as merge:
        stream.ledger.lock(merge)
        batch = stream.ledger.current(merge)
        if batch is None or (batch.batch_id, batch.status) != (batchId, BatchStatus.STARTED):
            logger.info("Another run has gone on with the batch.", batch=batchId)
            return
        with log_operation_timing(logger, "Ingesting", batch=batchId):
            pinTextFormat(merge)
            state = BatchState(stream.datasetNames)
            with databaseErrors("Reading the source", stream.source):
                state.row_counts = _ingestDatasets(stream, merge, batchId)
            state.current_dataset_index = len(stream.datasets)
            for name in stream.datasetNames:
                dataset = stream.utilities.store.datasets[name]
                state.schema_versions[name] = stream.utilities.getSchemaHash(dataset)
            stream.ledger.markIngested(merge, batchId, state)
    logger.info("Batch ingested.", batch=batchId, rows=state.row_counts)


def _ingestDatasets(stream: IngestionStream, merge: Connection, batchId: int) -> dict[str, int]:
    options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with stream.sourceEngine.connect().execution_options(**options) as source, source.begin():
        pinTextFormat(source)
        counts = {}
        for tables in stream.datasets:
            with databaseErrors(f"Staging dataset {tables.dataset}", stream.merge):
                counts[tables.dataset] = ingestDataset(
                    source, stream.source, merge, tables, batchId
                )
        return counts


def _mergeBatch(stream: IngestionStream, connection: Connection, batch: Batch) -> None:
    """Merge all datasets and commit the batch, in the caller's transaction."""
    _checkSchemas(stream, batch)
    counts = MergeCounts()
    with log_operation_timing(logger, "Merging", batch=batch.batch_id):
        for tables in stream.datasets:
            counts += mergeDataset(
                connection,
                tables,
                batch.batch_id,
                batch.state.row_counts[tables.dataset],
                stream.platform.milestoneStrategy,
            )
        stream.ledger.markCommitted(connection, batch.batch_id, counts)
    logger.info(
        "Batch merged.",
        batch=batch.batch_id,
        inserted=counts.inserted,
        updated=counts.updated,
        deleted=counts.deleted,
        total=counts.total,
    )


def _checkSchemas(stream: IngestionStream, batch: Batch) -> None:
    """Refuse to merge rows that were staged under another model."""
    ingested, current = batch.state.schema_versions, {}
    for name in stream.datasetNames:
        current[name] = stream.utilities.getSchemaHash(stream.utilities.store.datasets[name])
    changed = sorted(
        name for name in ingested.keys() | current.keys() if ingested.get(name) != current.get(name)
    )
    if changed:
        raise JobError(
            f"The model of dataset {', '.join(changed)} has changed since batch {batch.batch_id} "
            f"of stream {stream.ledger.key} was ingested, so it cannot be merged. "
            f"{_howToReset(stream)}"
        )


def _howToReset(stream: IngestionStream) -> str:
    dataset = stream.utilities.datasetName
    return (
        f"Reset the batch (python -m datasurface.cmd.platform resetBatchState --model MODEL "
        f"--platform {stream.platform.name} --store {stream.utilities.store.name}"
        f"{f' --dataset {dataset}' if dataset else ''}), then run the job again."
    )


def _resetBatch(stream: IngestionStream) -> str:
    _prepareBatchTables(stream)
    with stream.mergeEngine.begin() as connection:
        stream.ledger.lock(connection)
        batch = stream.ledger.current(connection)
        if batch is None:
            return f"ERROR: Stream {stream.ledger.key} has no batch that could be reset"
        if batch.status is BatchStatus.COMMITTED:
            return "ERROR: Batch is COMMITTED and cannot be reset"
        _prepareDatasetTables(stream)
        for tables in stream.datasets:
            clearStaging(connection, tables, batch.batch_id)
        stream.ledger.markStarted(connection, batch.batch_id, BatchState(stream.datasetNames))
    return "SUCCESS"
