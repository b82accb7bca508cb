"""What a job works on: one ingestion stream, as the model describes it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy.engine import Engine

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
from datasurface.md.schema import DDLTable
from datasurface.platforms.yellow.batch_state import BatchLedger
from datasurface.platforms.yellow.db_utils import createEngine
from datasurface.platforms.yellow.job_error import JobError
from datasurface.platforms.yellow.job_utilities import YellowDatasetUtilities
from datasurface.platforms.yellow.platform_base import YellowPlatformBase
from datasurface.platforms.yellow.snapshot_merge import DatasetTables


@dataclass(frozen=True)
class IngestionStream:
    """What a run works on: the datasets that one batch brings from a source to its tables."""

    platform: YellowPlatformBase
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


def resolve_stream(
    eco: Ecosystem, platform: YellowPlatformBase, storeName: str, datasetName: str | None
) -> IngestionStream:
    """Find everything in the model that a run needs, without connecting to a database."""
    store = _findStore(eco, platform, storeName)
    _checkDatasetName(store, datasetName)
    utilities = YellowDatasetUtilities(
        eco, platform.getCredentialStore(), platform, store, datasetName
    )
    source, credential, tableNames = _source(platform, utilities)
    merge = platform.psp.mergeStore
    names = list(store.datasets) if datasetName is None else [datasetName]
    return IngestionStream(
        platform=platform,
        utilities=utilities,
        source=source,
        sourceEngine=_engine(platform, source, credential),
        merge=merge,
        mergeEngine=merge_engine(platform),
        ledger=BatchLedger(
            utilities.getBatchCounterTable(),
            utilities.getBatchMetricsTable(),
            platform.name,
            utilities.getKey(),
        ),
        datasets=[_datasetTables(utilities, tableNames.get(name, name), name) for name in names],
    )


def merge_engine(platform: YellowPlatformBase) -> Engine:
    """Return an engine for the merge store of a platform.

    Raises:
        JobError: There is no login for it.
    """
    return _engine(platform, platform.psp.mergeStore, platform.psp.postgresCredential)


def _findStore(eco: Ecosystem, platform: YellowPlatformBase, storeName: str) -> Datastore:
    entry = eco.cache_getDatastore(storeName)
    if entry is None:
        raise JobError(
            f"The model has no datastore {storeName}; its datastores are "
            f"{listed(eco.datastoreCache)}."
        )
    graph = EcosystemPipelineGraph(eco).roots.get(platform.name)
    ingested = set() if graph is None else graph.storesToIngest
    if storeName not in ingested:
        raise JobError(
            f"Platform {platform.name} does not ingest store {storeName}; it ingests "
            f"{listed(ingested)}. A dataset group that uses the store must be assigned to the "
            f"platform in dsg_platform_mapping.json."
        )
    return entry.datastore


def _source(
    platform: YellowPlatformBase, utilities: YellowDatasetUtilities
) -> tuple[PostgresDatabase, Credential, dict[str, str]]:
    """Return where a store's data comes from, with which login, and the tables by dataset."""
    store = utilities.store
    ingestion = store.cmd
    if isinstance(ingestion, DataTransformerOutput):
        name = utilities.getPhysDataTransformerOutputTableNameForDatasetForIngestionOnly
        tables = {dataset.name: name(store, dataset) for dataset in store.datasets.values()}
        return platform.psp.mergeStore, platform.psp.postgresCredential, tables
    if not isinstance(ingestion, SQLSnapshotIngestion):
        raise JobError(
            f"Store {store.name} is ingested by {type(ingestion).__name__}. The embedded "
            f"DataSurface ingests by SQLSnapshotIngestion only."
        )
    source, credential = ingestion.dataContainer, ingestion.credential
    if not isinstance(source, PostgresDatabase) or credential is None:
        raise JobError(
            f"Store {store.name} is ingested from a {type(source).__name__}, "
            f"{'with' if credential else 'without'} a credential. The embedded DataSurface needs "
            f"a PostgresDatabase and a credential there."
        )
    return source, credential, ingestion.tableForDataset


def _checkDatasetName(store: Datastore, datasetName: str | None) -> None:
    kind = None if store.cmd is None else store.cmd.singleOrMultiDatasetIngestion
    if kind is IngestionConsistencyType.MULTI_DATASET and datasetName is not None:
        raise JobError(
            f"Store {store.name} is ingested as a whole (MULTI_DATASET): leave out the dataset "
            f"name, {datasetName}."
        )
    if kind is IngestionConsistencyType.SINGLE_DATASET and datasetName is None:
        raise JobError(
            f"Store {store.name} is ingested dataset by dataset (SINGLE_DATASET): name one of "
            f"{listed(store.datasets)}."
        )
    if datasetName is not None and datasetName not in store.datasets:
        raise JobError(
            f"Store {store.name} has no dataset {datasetName}; its datasets are "
            f"{listed(store.datasets)}."
        )


def _datasetTables(utilities: YellowDatasetUtilities, sourceName: str, name: str) -> DatasetTables:
    dataset = utilities.store.datasets[name]
    schema = dataset.originalSchema
    if not isinstance(schema, DDLTable):
        raise JobError(f"Dataset {name} has no table schema: describe its columns by a DDLTable.")
    columns = list(schema.columns)
    primaryKey = list(schema.primaryKeyColumns.colNames) if schema.primaryKeyColumns else []
    return DatasetTables(
        dataset=name,
        sourceName=sourceName,
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
    platform: YellowPlatformBase, container: PostgresDatabase, credential: Credential
) -> Engine:
    try:
        user, password = platform.getCredentialStore().getAsUserPassword(credential)
    except CredentialNotAvailableException as error:
        raise JobError(
            f"Credential {credential.name} for data container {container.name} is not available: "
            f"{error.issue}."
        ) from error
    return createEngine(container, user, password)


def listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
