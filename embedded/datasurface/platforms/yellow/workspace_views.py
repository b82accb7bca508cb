"""The views that the workspaces of a platform read: their names, and how they are made."""

from __future__ import annotations

from typing import Any

from psycopg2 import sql
from sqlalchemy.engine import Connection, Engine

from datasurface.md import (
    Dataset,
    DatasetGroup,
    DatasetSink,
    Ecosystem,
    PlatformPipelineGraph,
    Workspace,
)
from datasurface.md.schema import DDLTable
from datasurface.md.sqlalchemyutils import createOrUpdateTable
from datasurface.platforms.yellow.ingestion_stream import merge_engine
from datasurface.platforms.yellow.job_error import databaseErrors
from datasurface.platforms.yellow.job_utilities import (
    BATCH_OUT_COLUMN,
    LIVE_BATCH_OUT,
    YellowDatasetUtilities,
)
from datasurface.platforms.yellow.milestoning import YellowMilestoneStrategy
from datasurface.platforms.yellow.platform_base import YellowPlatformBase

#: How the names of views end: that of the current records, and that of all there ever were.
LIVE, FULL = "view_live", "view_full"


def view_name(
    dp: YellowPlatformBase, workspace: Workspace, group: DatasetGroup, sink: DatasetSink, end: str
) -> str:
    """Return the name, in the merge store, of a workspace's view of a dataset."""
    parts = (dp.name, workspace.name, group.name, sink.storeName, sink.datasetName, end)
    name = "_".join(parts).lower().replace(" ", "_").replace("-", "_")
    return dp.psp.namingMapper.mapNoun(name)


def reconcile(eco: Ecosystem, dp: YellowPlatformBase, graph: PlatformPipelineGraph) -> int:
    """Create the views of all workspaces of a platform, or make them fit the model.

    The merge tables that they read are created where they are missing.

    Returns:
        How many views there are.

    Raises:
        JobError: The merge store refuses something; its message says what.
    """
    engine = merge_engine(dp)
    made = 0
    for workspace in graph.workspaces.values():
        for group in workspace.dsgs.values():
            for sink in group.sinks.values():
                if sink.storeName in graph.storesToIngest:
                    made += _reconcileSink(eco, dp, engine, workspace, group, sink)
    return made


def _reconcileSink(
    eco: Ecosystem,
    dp: YellowPlatformBase,
    engine: Engine,
    workspace: Workspace,
    group: DatasetGroup,
    sink: DatasetSink,
) -> int:
    store = eco.cache_getDatastoreOrThrow(sink.storeName).datastore
    dataset = store.datasets[sink.datasetName]
    utilities = YellowDatasetUtilities(eco, dp.getCredentialStore(), dp, store)
    merge = utilities.getPhysMergeTableNameForDataset(dataset)
    history = dp.milestoneStrategy is YellowMilestoneStrategy.BATCH_MILESTONED
    live = view_name(dp, workspace, group, sink, LIVE)
    every = sql.SQL("true")
    is_live = sql.SQL("{} = {}").format(
        sql.Identifier(BATCH_OUT_COLUMN), sql.Literal(LIVE_BATCH_OUT)
    )
    conditions: dict[str, sql.Composable] = {live: is_live if history else every}
    if history:
        conditions[view_name(dp, workspace, group, sink, FULL)] = every
    with databaseErrors(f"Making view {live}", dp.psp.mergeStore):
        createOrUpdateTable(engine, utilities.getMergeSchemaForDataset(dataset, merge))
        with engine.begin() as connection:
            for name, condition in conditions.items():
                _makeView(connection, name, merge, dataset, condition)
    return len(conditions)


def _makeView(
    connection: Connection, name: str, table: str, dataset: Dataset, condition: sql.Composable
) -> None:
    schema = dataset.originalSchema
    columns = list(schema.columns) if isinstance(schema, DDLTable) else []
    view = sql.Identifier(name)
    select = sql.SQL("SELECT {} FROM {} WHERE {}").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Identifier(table), condition
    )
    cursor: Any = connection.connection.cursor()
    # PostgreSQL replaces a view only by one that adds columns at its end.
    cursor.execute(
        "SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute "
        "WHERE attrelid = to_regclass(%s) AND attnum > 0",
        (view.as_string(cursor),),
    )
    [[found]] = cursor.fetchall()
    if found is not None and found != columns[: len(found)]:
        cursor.execute(sql.SQL("DROP VIEW {}").format(view))
    cursor.execute(sql.SQL("CREATE OR REPLACE VIEW {} AS ").format(view) + select)
