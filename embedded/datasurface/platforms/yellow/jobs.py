"""The job that a pod runs: `python -m datasurface.platforms.yellow.jobs`.

Each run takes one stream one step further, and the last line of standard output says how it went:
`DATASURFACE_RESULT_CODE=1` (run me again at once), `0` (the batch is merged) or `-1` (error).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from sqlalchemy.engine import Connection, Engine

from datasurface.md import (
    Datastore,
    DataTransformerOutput,
    Ecosystem,
    EcosystemPipelineGraph,
    PostgresDatabase,
    SQLSnapshotIngestion,
)
from datasurface.md.credential import Credential, CredentialNotAvailableException
from datasurface.md.governance import IngestionConsistencyType
from datasurface.md.model_loader import loadEcosystemFromEcoModule
from datasurface.md.schema import DDLTable
from datasurface.md.sqlalchemyutils import createOrUpdateTable
from datasurface.platforms.yellow.batch_state import (
    Batch,
    BatchLedger,
    BatchState,
    BatchStatus,
    MergeCounts,
    lockName,
)
from datasurface.platforms.yellow.db_utils import createEngine
from datasurface.platforms.yellow.job_error import JobError, databaseErrors
from datasurface.platforms.yellow.logging_utils import (
    get_contextual_logger,
    log_operation_timing,
    set_context,
    setup_logging_for_environment,
)
from datasurface.platforms.yellow.snapshot_merge import (
    DatasetTables,
    clearStaging,
    ingestDataset,
    makeFitForModel,
    mergeDataset,
    pinTextFormat,
)
from datasurface.platforms.yellow.yellow_dp import (
    JobStatus,
    YellowDataPlatform,
    YellowDatasetUtilities,
)

SNAPSHOT_MERGE: Final = "snapshot-merge"

logger = get_contextual_logger(__name__)


class _Parser(argparse.ArgumentParser):
    """Reports bad arguments like every other error of the job."""

    def error(self, message: str) -> NoReturn:
        raise JobError(f"The arguments are wrong: {message}. Run with --help to see them all.")


@dataclass(frozen=True)
class _Stream:
    """What a run works on: the datasets that one batch brings from a source to its tables."""

    platform: YellowDataPlatform
    utilities: YellowDatasetUtilities
    source: PostgresDatabase
    sourceEngine: Engine
    merge: PostgresDatabase
    mergeEngine: Engine
    ledger: BatchLedger
    datasets: list[DatasetTables]

    @property
    def datasetNames(self) -> list[str]:
        return [tables.dataset for tables in self.datasets]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one step of a job and print the result line.

    Args:
        argv: The command line without the program; that of the process by default.

    Returns:
        The value of the `JobStatus`, as in the printed line. Errors are logged, not raised.
    """
    setup_logging_for_environment()
    status = JobStatus.ERROR
    try:
        # The result line is to be all of standard output, whatever the model's code prints.
        with redirect_stdout(sys.stderr):
            status = _run(_parser().parse_args(argv))
    except JobError as error:
        logger.error(str(error))
    except Exception:
        # Whoever waits for the pod needs the result line, also after a fault of this program.
        logger.exception("The job failed unexpectedly.")
    print(f"DATASURFACE_RESULT_CODE={status.value}", flush=True)
    return int(status.value)


def resetBatchState(
    eco: Ecosystem, dp: YellowDataPlatform, storeName: str, datasetName: str | None = None
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
        stream = _resolveStream(eco, dp, storeName, datasetName)
        with databaseErrors("Resetting the batch", stream.merge):
            return _resetBatch(stream)
    except JobError as error:
        return f"ERROR: {error}"


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m datasurface.platforms.yellow.jobs",
        description="Take one ingestion stream one step further: ingest a batch, or merge it.",
    )
    add = parser.add_argument
    add("--platform-name", required=True, help="name of the platform in the model")
    add("--store-name", help="name of the datastore to ingest")
    add("--dataset-name", help="the dataset, for a store that is ingested dataset by dataset")
    add("--operation", default=SNAPSHOT_MERGE, help=f"only {SNAPSHOT_MERGE} (the default)")
    add("--git-repo-path", required=True, help="folder that holds the model, checked out")
    unused = "part of DataSurface's command line; not used here, as nothing is cloned"
    add("--git-repo-owner", required=True, help=unused)
    add("--git-repo-name", required=True, help=unused)
    add("--git-repo-branch", required=True, help=unused)
    add("--git-platform-repo-credential-name", required=True, help=unused)
    add("--use-git-cache", action="store_true", default=True, help=unused)
    add("--max-cache-age-minutes", type=int, default=5, help=unused)
    return parser


def _run(arguments: argparse.Namespace) -> JobStatus:
    if arguments.operation != SNAPSHOT_MERGE:
        raise JobError(
            f"Operation {arguments.operation} is unknown; the embedded DataSurface has "
            f"{SNAPSHOT_MERGE} only."
        )
    if not arguments.store_name:
        raise JobError(f"Operation {SNAPSHOT_MERGE} needs --store-name.")
    set_context(platform=arguments.platform_name, request=arguments.store_name)
    eco = _loadModel(Path(arguments.git_repo_path))
    platform = eco.getDataPlatform(arguments.platform_name)
    if not isinstance(platform, YellowDataPlatform):
        raise JobError(
            f"The model has no Yellow platform {arguments.platform_name}; its platforms are "
            f"{_listed(eco.dataPlatforms)}."
        )
    stream = _resolveStream(eco, platform, arguments.store_name, arguments.dataset_name)
    set_context(platform=platform.name, request=stream.ledger.key)
    return _runStep(stream)


def _loadModel(folder: Path) -> Ecosystem:
    file = folder / "eco.py"
    if not file.is_file():
        raise JobError(
            f"There is no model {file}. The embedded DataSurface does not clone Git repositories: "
            f"check the model out yourself, so that eco.py and dsg_platform_mapping.json are in "
            f"the folder that --git-repo-path names."
        )
    eco, tree = loadEcosystemFromEcoModule(str(folder))
    problems = [] if tree is None else [problem.description for problem in tree.getErrors()]
    if eco is None or problems:
        raise JobError(
            f"The model {file} cannot be used, because of {len(problems)} errors: "
            f"{' '.join(problems)}"
        )
    return eco


def _resolveStream(
    eco: Ecosystem, platform: YellowDataPlatform, storeName: str, datasetName: str | None
) -> _Stream:
    """Find everything in the model that a run needs, without connecting to a database."""
    store = _findStore(eco, platform, storeName)
    ingestion = _checkedIngestion(store)
    _checkDatasetName(store, ingestion, datasetName)
    utilities = YellowDatasetUtilities(
        eco, platform.getCredentialStore(), platform, store, datasetName
    )
    source, merge = ingestion.dataContainer, platform.psp.mergeStore
    credential = ingestion.credential
    if not isinstance(source, PostgresDatabase) or credential is None:
        raise JobError(
            f"Store {store.name} is ingested from a {type(source).__name__}, "
            f"{'with' if credential else 'without'} a credential. The embedded DataSurface needs "
            f"a PostgresDatabase and a credential there."
        )
    names = list(store.datasets) if datasetName is None else [datasetName]
    return _Stream(
        platform=platform,
        utilities=utilities,
        source=source,
        sourceEngine=_engine(platform, source, credential),
        merge=merge,
        mergeEngine=_engine(platform, merge, platform.psp.postgresCredential),
        ledger=BatchLedger(
            utilities.getBatchCounterTable(),
            utilities.getBatchMetricsTable(),
            platform.name,
            utilities.getKey(),
        ),
        datasets=[_datasetTables(utilities, ingestion, name) for name in names],
    )


def _findStore(eco: Ecosystem, platform: YellowDataPlatform, storeName: str) -> Datastore:
    entry = eco.cache_getDatastore(storeName)
    if entry is None:
        raise JobError(
            f"The model has no datastore {storeName}; its datastores are "
            f"{_listed(eco.datastoreCache)}."
        )
    graph = EcosystemPipelineGraph(eco).roots.get(platform.name)
    ingested = set() if graph is None else graph.storesToIngest
    if storeName not in ingested:
        raise JobError(
            f"Platform {platform.name} does not ingest store {storeName}; it ingests "
            f"{_listed(ingested)}. A dataset group that uses the store must be assigned to the "
            f"platform in dsg_platform_mapping.json."
        )
    return entry.datastore


def _checkedIngestion(store: Datastore) -> SQLSnapshotIngestion:
    ingestion = store.cmd
    if isinstance(ingestion, DataTransformerOutput):
        raise JobError(
            f"Store {store.name} is the output of the transformer of workspace "
            f"{ingestion.workSpaceName}. The embedded DataSurface does not cover transformers: it "
            f"neither runs them nor ingests their output."
        )
    if not isinstance(ingestion, SQLSnapshotIngestion):
        raise JobError(
            f"Store {store.name} is ingested by {type(ingestion).__name__}. The embedded "
            f"DataSurface ingests by SQLSnapshotIngestion only."
        )
    return ingestion


def _checkDatasetName(
    store: Datastore, ingestion: SQLSnapshotIngestion, datasetName: str | None
) -> None:
    kind = ingestion.singleOrMultiDatasetIngestion
    if kind is IngestionConsistencyType.MULTI_DATASET and datasetName is not None:
        raise JobError(
            f"Store {store.name} is ingested as a whole (MULTI_DATASET): leave out the dataset "
            f"name, {datasetName}."
        )
    if kind is IngestionConsistencyType.SINGLE_DATASET and datasetName is None:
        raise JobError(
            f"Store {store.name} is ingested dataset by dataset (SINGLE_DATASET): name one of "
            f"{_listed(store.datasets)}."
        )
    if datasetName is not None and datasetName not in store.datasets:
        raise JobError(
            f"Store {store.name} has no dataset {datasetName}; its datasets are "
            f"{_listed(store.datasets)}."
        )


def _datasetTables(
    utilities: YellowDatasetUtilities, ingestion: SQLSnapshotIngestion, name: str
) -> DatasetTables:
    dataset = utilities.store.datasets[name]
    schema = dataset.originalSchema
    if not isinstance(schema, DDLTable):
        raise JobError(f"Dataset {name} has no table schema: describe its columns by a DDLTable.")
    columns = list(schema.columns)
    primaryKey = list(schema.primaryKeyColumns.colNames) if schema.primaryKeyColumns else []
    return DatasetTables(
        dataset=name,
        sourceName=ingestion.tableForDataset.get(name, name),
        columns=columns,
        keyColumns=primaryKey or columns,
        hasPrimaryKey=bool(primaryKey),
        staging=utilities.getStagingSchemaForDataset(
            dataset, utilities.getPhysStagingTableNameForDataset(dataset)
        ),
        merge=utilities.getMergeSchemaForDataset(
            dataset, utilities.getPhysMergeTableNameForDataset(dataset)
        ),
    )


def _engine(
    platform: YellowDataPlatform, container: PostgresDatabase, credential: Credential
) -> Engine:
    try:
        user, password = platform.getCredentialStore().getAsUserPassword(credential)
    except CredentialNotAvailableException as error:
        raise JobError(
            f"Credential {credential.name} for data container {container.name} is not available: "
            f"{error.issue}."
        ) from error
    return createEngine(container, user, password)


def _runStep(stream: _Stream) -> JobStatus:
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


def _prepareBatchTables(stream: _Stream) -> None:
    # All streams of a platform share these tables, so creating them has a lock of its own.
    with stream.mergeEngine.begin() as connection:
        if not lockName(connection, f"datasurface/{stream.platform.name}"):
            raise JobError(
                f"Another job of platform {stream.platform.name} has been creating its batch "
                f"tables for very long. Run this job again later."
            )
        createOrUpdateTable(stream.mergeEngine, stream.utilities.getBatchCounterTable())
        createOrUpdateTable(stream.mergeEngine, stream.utilities.getBatchMetricsTable())


def _prepareDatasetTables(stream: _Stream) -> None:
    for tables in stream.datasets:
        for table in (tables.staging, tables.merge):
            with stream.mergeEngine.begin() as connection:
                makeFitForModel(connection, table)
            createOrUpdateTable(stream.mergeEngine, table)


def _ingestBatch(stream: _Stream, batchId: int) -> None:
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


def _ingestDatasets(stream: _Stream, merge: Connection, batchId: int) -> dict[str, int]:
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


def _mergeBatch(stream: _Stream, connection: Connection, batch: Batch) -> None:
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


def _checkSchemas(stream: _Stream, batch: Batch) -> None:
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


def _howToReset(stream: _Stream) -> str:
    dataset = stream.utilities.datasetName
    return (
        f"Reset the batch (python -m datasurface.cmd.platform resetBatchState --model MODEL "
        f"--platform {stream.platform.name} --store {stream.utilities.store.name}"
        f"{f' --dataset {dataset}' if dataset else ''}), then run the job again."
    )


def _resetBatch(stream: _Stream) -> str:
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


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


if __name__ == "__main__":
    sys.exit(1 if main() == JobStatus.ERROR.value else 0)
