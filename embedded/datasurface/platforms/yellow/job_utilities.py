"""The tables that ingestion jobs work on: their names and their shapes."""

from __future__ import annotations

import hashlib
import json
from typing import Final

from sqlalchemy import (
    TIMESTAMP,
    Column,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from datasurface.md import Dataset, Datastore, Ecosystem
from datasurface.md.credential import CredentialStore
from datasurface.md.sqlalchemyutils import datasetToSQLAlchemyTable
from datasurface.platforms.yellow.milestoning import YellowMilestoneStrategy
from datasurface.platforms.yellow.platform_base import YellowPlatformBase
from datasurface.platforms.yellow.schema_projector import (
    ALL_HASH_COLUMN,
    BATCH_ID_COLUMN,
    BATCH_IN_COLUMN,
    BATCH_OUT_COLUMN,
    KEY_HASH_COLUMN,
    LIVE_BATCH_OUT,
    MERGE,
    STAGING,
    YellowSchemaProjector,
    tableSchema,
)

__all__ = [
    "ALL_HASH_COLUMN",
    "BATCH_ID_COLUMN",
    "BATCH_IN_COLUMN",
    "BATCH_OUT_COLUMN",
    "KEY_HASH_COLUMN",
    "LIVE_BATCH_OUT",
    "JobUtilities",
    "YellowDatasetUtilities",
]


class JobUtilities:
    """Names and shapes of the tables which all jobs of one platform share.

    Nothing here connects to a database.

    Args:
        eco: The ecosystem whose model the job runs.
        credStore: Where the job finds its logins.
        dp: The platform that the job works for.
    """

    def __init__(self, eco: Ecosystem, credStore: CredentialStore, dp: YellowPlatformBase) -> None:
        self.eco: Final = eco
        self.credStore: Final = credStore
        self.dp: Final = dp

    def getPhysBatchCounterTableName(self) -> str:
        """Return the name, in the merge store, of the table with each stream's current batch."""
        return self._physical("batch_counter")

    def getPhysBatchMetricsTableName(self) -> str:
        """Return the name, in the merge store, of the table with one row per batch."""
        return self._physical("batch_metrics")

    def getBatchCounterTable(self) -> Table:
        """Describe the table which holds the number of each stream's current batch."""
        return Table(
            self.getPhysBatchCounterTableName(),
            MetaData(),
            Column("key", String(255), primary_key=True),
            Column("currentBatch", Integer()),
        )

    def getBatchMetricsTable(self) -> Table:
        """Describe the table which holds state and outcome of each batch of each stream."""
        return Table(
            self.getPhysBatchMetricsTableName(),
            MetaData(),
            Column("key", String(255), primary_key=True),
            Column("batch_id", Integer(), primary_key=True, autoincrement=False),
            Column("batch_start_time", TIMESTAMP()),
            Column("batch_end_time", TIMESTAMP(), nullable=True),
            Column("batch_status", String(32)),
            Column("records_inserted", Integer(), nullable=True),
            Column("records_updated", Integer(), nullable=True),
            Column("records_deleted", Integer(), nullable=True),
            Column("total_records", Integer(), nullable=True),
            # The state lists every dataset of a store: no fixed length fits all stores.
            Column("state", Text(), nullable=True),
        )

    def getSchemaHash(self, dataset: Dataset) -> str:
        """Return a hash that changes when a dataset's columns, types or primary key change.

        Args:
            dataset: A dataset whose schema is a `DDLTable`.

        Raises:
            ValueError: The dataset has no such schema.
        """
        schema = tableSchema(dataset)
        description = {
            "columns": {
                column.name: {"type": str(column.type), "nullable": column.nullable.name}
                for column in schema.columns.values()
            },
            "primary_key": schema.primaryKeyColumns.colNames,
        }
        text = json.dumps(description, sort_keys=True)
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

    def getPhysDataTransformerOutputTableNameForDatasetForIngestionOnly(
        self, store: Datastore, dataset: Dataset
    ) -> str:
        """Return the name, in the merge store, of the table that a transformer fills.

        What consumers read is the merge table of the same dataset.
        """
        return self._physical(f"dt_{store.name}_{dataset.name}")

    def getRawMergeTableNameForDataset(self, store: Datastore, dataset: Dataset) -> str:
        """Return the name of a dataset's merge table before it is fitted to the database."""
        return self.dp.getTableForPlatform(f"{store.name}_{dataset.name}_merge")

    def _physical(self, noun: str) -> str:
        return self._fit(self.dp.getTableForPlatform(noun))

    def _fit(self, identifier: str) -> str:
        return self.dp.psp.namingMapper.mapNoun(identifier)


class YellowDatasetUtilities(JobUtilities):
    """Names and shapes of the staging and merge tables of one ingestion stream.

    Args:
        eco: The ecosystem whose model the job runs.
        credStore: Where the job finds its logins.
        dp: The platform that the job works for.
        store: The datastore which is ingested.
        datasetName: The one dataset of the stream; None when the stream is the whole store.

    Raises:
        ValueError: The store has no dataset of that name.
    """

    def __init__(
        self,
        eco: Ecosystem,
        credStore: CredentialStore,
        dp: YellowPlatformBase,
        store: Datastore,
        datasetName: str | None = None,
    ) -> None:
        super().__init__(eco, credStore, dp)
        if datasetName is not None and datasetName not in store.datasets:
            raise ValueError(
                f"Datastore {store.name!r} has no dataset {datasetName!r}; "
                f"its datasets are: {', '.join(store.datasets)}."
            )
        self.store: Final = store
        self.datasetName: Final = datasetName
        self.dataset: Final = None if datasetName is None else store.datasets[datasetName]

    def getKey(self) -> str:
        """Return the stream's key in the batch tables: `store`, or `store#dataset`."""
        if self.datasetName is None:
            return self.store.name
        return f"{self.store.name}#{self.datasetName}"

    def getPhysStagingTableNameForDataset(self, dataset: Dataset) -> str:
        """Return the name, in the merge store, of the table which receives a batch's rows."""
        return self._physical(f"{self.store.name}_{dataset.name}_staging")

    def getPhysMergeTableNameForDataset(self, dataset: Dataset) -> str:
        """Return the name, in the merge store, of the table which consumers read."""
        return self._fit(self.getRawMergeTableNameForDataset(self.store, dataset))

    def getStagingSchemaForDataset(self, dataset: Dataset, tableName: str) -> Table:
        """Describe a dataset's staging table: its columns, the batch and two hashes.

        Args:
            dataset: A dataset whose schema is a `DDLTable`.
            tableName: What to call the table.

        Raises:
            ValueError: The dataset has no such schema, or a column without an SQL type.
        """
        table = self._project(dataset, STAGING, tableName)
        self._addIndex(table, BATCH_ID_COLUMN, KEY_HASH_COLUMN)
        return table

    def getMergeSchemaForDataset(self, dataset: Dataset, tableName: str) -> Table:
        """Describe a dataset's merge table, as the platform's milestoning asks for it.

        Args:
            dataset: A dataset whose schema is a `DDLTable`.
            tableName: What to call the table.

        Raises:
            ValueError: The dataset has no such schema, or a column without an SQL type.
        """
        table = self._project(dataset, MERGE, tableName)
        if self.dp.milestoneStrategy is YellowMilestoneStrategy.BATCH_MILESTONED:
            self._addIndex(table, KEY_HASH_COLUMN, BATCH_OUT_COLUMN)
            self._addIndex(table, BATCH_IN_COLUMN)
        else:
            name = self._fit(f"{tableName}_{KEY_HASH_COLUMN}_key")
            table.append_constraint(UniqueConstraint(KEY_HASH_COLUMN, name=name))
        return table

    def _project(self, dataset: Dataset, kind: str, tableName: str) -> Table:
        projected = YellowSchemaProjector(self.eco, self.dp).computeSchema(dataset, kind)
        return datasetToSQLAlchemyTable(projected, tableName, MetaData())

    def _addIndex(self, table: Table, *columns: str) -> None:
        name = self._fit(f"{table.name}_{'_'.join(columns)}_idx")
        Index(name, *(table.columns[column] for column in columns))
