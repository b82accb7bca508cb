"""The tables that a Yellow platform keeps for a dataset, as schemas of the model."""

from __future__ import annotations

from typing import Final

from datasurface.md import (
    Dataset,
    DDLColumn,
    DDLTable,
    Ecosystem,
    NullableStatus,
    PrimaryKeyList,
    SchemaProjector,
)
from datasurface.md.types import Integer, VarChar
from datasurface.platforms.yellow.milestoning import YellowMilestoneStrategy
from datasurface.platforms.yellow.platform_base import YellowPlatformBase

#: The batch that brought a row.
BATCH_ID_COLUMN: Final = "ds_surf_batch_id"
#: Hash of all columns of a row: it differs when the row changed.
ALL_HASH_COLUMN: Final = "ds_surf_all_hash"
#: Hash of the key columns of a row: it says which record the row is.
KEY_HASH_COLUMN: Final = "ds_surf_key_hash"
#: First batch in which this version of a record was live.
BATCH_IN_COLUMN: Final = "ds_surf_batch_in"
#: Last batch in which this version of a record was live.
BATCH_OUT_COLUMN: Final = "ds_surf_batch_out"
#: What `BATCH_OUT_COLUMN` holds while a version is live.
LIVE_BATCH_OUT: Final = 0x7FFFFFFF

#: The kind of table that receives the rows of one batch.
STAGING: Final = "STAGING"
#: The kind of table that consumers read.
MERGE: Final = "MERGE"

_HASH_LENGTH: Final = 32


class YellowSchemaProjector(SchemaProjector[Ecosystem]):
    """Adds the platform's bookkeeping columns to the schema of a dataset.

    Args:
        eco: The ecosystem.
        dp: The platform; its milestoning decides which columns a merge table has.
    """

    def __init__(self, eco: Ecosystem, dp: YellowPlatformBase) -> None:
        super().__init__(eco, dp)
        self._strategy = dp.milestoneStrategy

    def getSchemaTypes(self) -> set[str]:
        """Return the kinds of tables: staging and merge."""
        return {STAGING, MERGE}

    def computeSchema(self, dataset: Dataset, schemaType: str) -> Dataset:
        """Return `dataset` with the schema of its staging or merge table.

        A live-only merge table has one row per record. A batch-milestoned one has a row per
        version of a record, with the batches between which that version was live.

        Args:
            dataset: A dataset whose schema is a `DDLTable`.
            schemaType: `STAGING` or `MERGE`.

        Raises:
            ValueError: The dataset has no such schema, or there is no such kind of table.
        """
        if schemaType not in self.getSchemaTypes():
            raise ValueError(f"There is no table of the kind {schemaType!r}.")
        schema = tableSchema(dataset)
        key = list(schema.primaryKeyColumns.colNames)
        columns = [
            *schema.columns.values(),
            _column(BATCH_ID_COLUMN, Integer()),
            _column(ALL_HASH_COLUMN, VarChar(_HASH_LENGTH)),
            _column(KEY_HASH_COLUMN, VarChar(_HASH_LENGTH)),
        ]
        milestoned = self._strategy is YellowMilestoneStrategy.BATCH_MILESTONED
        if schemaType == MERGE and milestoned:
            columns += [_column(BATCH_IN_COLUMN, Integer()), _column(BATCH_OUT_COLUMN, Integer())]
            key = [*key, BATCH_IN_COLUMN] if key else []
        return Dataset(
            dataset.name,
            schema=DDLTable(columns=columns, primary_key_list=PrimaryKeyList(key)),
        )


def tableSchema(dataset: Dataset) -> DDLTable:
    """Return the columns of a dataset.

    Raises:
        ValueError: Its schema is not a `DDLTable`.
    """
    schema = dataset.originalSchema
    if not isinstance(schema, DDLTable):
        raise ValueError(
            f"Dataset {dataset.name!r} has no table schema; the Yellow platform ingests datasets "
            "whose schema is a DDLTable."
        )
    return schema


def _column(name: str, dataType: Integer | VarChar) -> DDLColumn:
    return DDLColumn(name, dataType, nullable=NullableStatus.NOT_NULLABLE)
