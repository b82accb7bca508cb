"""Moves a dataset from its source table to staging, and from staging to its merge table."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import psycopg2
from psycopg2 import errors, sql
from sqlalchemy import (
    Table,
    delete,
    exists,
    func,
    insert,
    inspect,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.engine import Connection
from sqlalchemy.sql import ColumnElement

from datasurface.md.governance import PostgresDatabase
from datasurface.platforms.yellow.batch_state import MergeCounts
from datasurface.platforms.yellow.job_error import JobError, address, databaseErrors, reason
from datasurface.platforms.yellow.job_utilities import (
    ALL_HASH_COLUMN,
    BATCH_ID_COLUMN,
    BATCH_IN_COLUMN,
    BATCH_OUT_COLUMN,
    KEY_HASH_COLUMN,
    LIVE_BATCH_OUT,
)
from datasurface.platforms.yellow.milestoning import YellowMilestoneStrategy

# How values become text decides both their hashes and what the merge store reads, so it must not
# depend on how a role or a server happens to be set up.
_TEXT_FORMAT: Final = {
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
}
_FIND_TABLE: Final = text(
    "SELECT nspname, relname, array_agg(attname::text ORDER BY attnum) AS columns "
    "FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace "
    "JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped "
    "WHERE pg_class.oid = to_regclass(:name) AND relkind IN ('r', 'p', 'v', 'm', 'f') "
    "GROUP BY nspname, relname"
)
_COPY_COLUMN: Final = re.compile(r"line \d+, column [^:]+")


@dataclass(frozen=True)
class DatasetTables:
    """One dataset of a stream: where its rows come from and where they go.

    Attributes:
        dataset: The dataset's name.
        sourceName: Name of its table in the source, as the model gives it.
        columns: Its columns in the model's order.
        keyColumns: What tells its records apart: the primary key, or all columns without one.
        hasPrimaryKey: Whether the model gives it a primary key.
        staging: Receives the rows of a batch.
        merge: What consumers read.
    """

    dataset: str
    sourceName: str
    columns: list[str]
    keyColumns: list[str]
    hasPrimaryKey: bool
    staging: Table
    merge: Table


@dataclass(frozen=True)
class _SourceTable:
    """A table as the source's catalogue knows it."""

    schema: str
    name: str

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


def pinTextFormat(connection: Connection) -> None:
    """Fix, for this transaction, how the server writes and reads dates, numbers and intervals."""
    for name, value in _TEXT_FORMAT.items():
        connection.execute(
            text("SELECT set_config(:name, :value, true)"), {"name": name, "value": value}
        )


def makeFitForModel(connection: Connection, table: Table) -> None:
    """Check that an existing table can still serve, and free it of columns the model dropped.

    Such columns stay, with what they hold, but new rows no longer need a value in them.

    Args:
        connection: A transaction in the merge store.
        table: A staging or merge table as the model describes it; it need not exist.

    Raises:
        JobError: The table's rows are told apart by other columns than the model says.
    """
    inspector = inspect(connection)
    if not inspector.has_table(table.name):
        return
    columns = {column["name"]: column for column in inspector.get_columns(table.name)}
    existing = inspector.get_pk_constraint(table.name)["constrained_columns"]
    wanted = [column.name for column in table.primary_key.columns]
    hasHistory, needsHistory = BATCH_IN_COLUMN in columns, BATCH_IN_COLUMN in table.c
    if set(existing) != set(wanted) or hasHistory != needsHistory:
        raise JobError(
            f"Table {table.name} of the merge store was made for another model: its primary key "
            f"is ({', '.join(existing)}), and the model now needs ({', '.join(wanted)}). Either "
            f"the dataset's primary key or the platform's milestoning has changed. Copy the rows "
            f"you need, drop the table, then run this job again."
        )
    for name, column in columns.items():
        if name not in table.c and not column["nullable"]:
            connection.connection.cursor().execute(
                sql.SQL("ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL").format(
                    sql.Identifier(table.name), sql.Identifier(name)
                )
            )


def ingestDataset(
    source: Connection,
    container: PostgresDatabase,
    merge: Connection,
    tables: DatasetTables,
    batchId: int,
) -> int:
    """Replace the rows of a dataset's staging table by what its source table holds.

    The rows stream from the one database to the other; nothing is committed here. Values are
    stored in the model's types, so that a number with more decimals than the model's is rounded.

    Args:
        source: A transaction in the source, with `pinTextFormat` done; it is only read.
        container: The source, for messages.
        merge: A transaction in the merge store, with `pinTextFormat` done.
        tables: The dataset.
        batchId: The batch to which the rows belong.

    Returns:
        The number of rows.

    Raises:
        JobError: The source table or a column is missing, the source fails, a value does not fit
            the model, or a key occurs more than once. Roll the merge store back then.
    """
    with databaseErrors(f"Looking up the table of dataset {tables.dataset}", container):
        table = _findSourceTable(source, container, tables)
    staging = sql.Identifier(tables.staging.name)
    cursor = merge.connection.cursor()
    cursor.execute(sql.SQL("TRUNCATE TABLE {}").format(staging))
    subject = f"dataset {tables.dataset} (table {table}, {address(container)})"
    try:
        rows = _copyRows(source, container, merge, tables, table, batchId)
    except errors.UniqueViolation as error:
        repeated = _repeatedSourceKeys(source, container, tables, table)
        raise _repeatedKeysError(subject, tables, repeated) from error
    except (psycopg2.DataError, psycopg2.IntegrityError) as error:
        raise JobError(
            f"A row of {subject} does not fit the model: {reason(error)}{_position(error)}. "
            f"Correct the row, or the dataset's schema in the model."
        ) from error
    # A dataset without a primary key has no constraint that would have found equal rows.
    repeated = _repeatedStagedKeys(merge, tables)
    if repeated:
        raise _repeatedKeysError(subject, tables, repeated)
    cursor.execute(sql.SQL("ANALYZE {}").format(staging))
    return rows


def mergeDataset(
    connection: Connection,
    tables: DatasetTables,
    batchId: int,
    stagedRows: int,
    strategy: YellowMilestoneStrategy,
) -> MergeCounts:
    """Merge a staged batch of a dataset, inside the caller's transaction.

    Args:
        connection: A transaction in the merge store.
        tables: The dataset.
        batchId: The batch that is staged.
        stagedRows: How many rows were staged.
        strategy: What the merge table keeps of changed and removed records.

    Raises:
        JobError: The staging table does not hold that many rows of the batch.
    """
    staging = tables.staging
    found = connection.execute(
        select(func.count()).select_from(staging).where(staging.c[BATCH_ID_COLUMN] == batchId)
    ).scalar_one()
    if found != stagedRows:
        raise JobError(
            f"Staging table {staging.name} holds {found} rows of batch {batchId}, but "
            f"{stagedRows} were ingested: something else changed it. Reset the batch with the "
            f"command resetBatchState, so that it is ingested again."
        )
    if strategy is YellowMilestoneStrategy.BATCH_MILESTONED:
        inserted, updated, deleted = _mergeHistory(connection, tables, batchId)
    else:
        inserted, updated, deleted = _mergeLive(connection, tables)
    return MergeCounts(inserted, updated, deleted, stagedRows)


def clearStaging(connection: Connection, tables: DatasetTables, batchId: int) -> None:
    """Delete what the staging table of a dataset holds of a batch."""
    staging = tables.staging
    connection.execute(delete(staging).where(staging.c[BATCH_ID_COLUMN] == batchId))


def _mergeLive(connection: Connection, tables: DatasetTables) -> tuple[int, int, int]:
    """Make a live-only merge table equal to staging; return rows inserted, updated, deleted."""
    merge, staged = tables.merge, _stagedColumns(tables)
    # Deletes come first: a key whose text changed (1.0 to 1.00) is gone and new in one batch.
    deleted = connection.execute(delete(merge).where(~exists().where(_sameKey(tables))))
    updated = connection.execute(
        update(merge).values(staged).where(_sameKey(tables), _differs(tables))
    )
    inserted = connection.execute(
        insert(merge).from_select(
            list(staged), select(*staged.values()).where(~exists().where(_sameKey(tables)))
        )
    )
    return inserted.rowcount, updated.rowcount, deleted.rowcount


def _mergeHistory(
    connection: Connection, tables: DatasetTables, batchId: int
) -> tuple[int, int, int]:
    """End versions that changed or went away, begin new ones; return records new, changed, gone."""
    merge, staged = tables.merge, _stagedColumns(tables)
    live = merge.c[BATCH_OUT_COLUMN] == LIVE_BATCH_OUT
    end = update(merge).values({BATCH_OUT_COLUMN: batchId - 1}).where(live)
    changed = connection.execute(end.where(_sameKey(tables), _differs(tables)))
    gone = connection.execute(end.where(~exists().where(_sameKey(tables))))
    begun = connection.execute(
        insert(merge).from_select(
            [*staged, BATCH_IN_COLUMN, BATCH_OUT_COLUMN],
            select(*staged.values(), literal(batchId), literal(LIVE_BATCH_OUT)).where(
                ~exists().where(live, _sameKey(tables))
            ),
        )
    )
    return begun.rowcount - changed.rowcount, changed.rowcount, gone.rowcount


def _stagedColumns(tables: DatasetTables) -> dict[str, ColumnElement[Any]]:
    names = [*tables.columns, BATCH_ID_COLUMN, ALL_HASH_COLUMN, KEY_HASH_COLUMN]
    return {name: tables.staging.c[name] for name in names}


def _sameKey(tables: DatasetTables) -> ColumnElement[bool]:
    return tables.staging.c[KEY_HASH_COLUMN] == tables.merge.c[KEY_HASH_COLUMN]


def _differs(tables: DatasetTables) -> ColumnElement[bool]:
    return tables.staging.c[ALL_HASH_COLUMN] != tables.merge.c[ALL_HASH_COLUMN]


def _copyRows(
    source: Connection,
    container: PostgresDatabase,
    merge: Connection,
    tables: DatasetTables,
    table: _SourceTable,
    batchId: int,
) -> int:
    """Stream the source table into staging and return the number of rows."""
    copyOut = _copyOutStatement(tables, table, batchId)
    copyIn = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(tables.staging.name),
        _identifiers([*tables.columns, BATCH_ID_COLUMN, ALL_HASH_COLUMN, KEY_HASH_COLUMN]),
    )
    readEnd, writeEnd = os.pipe()
    target = merge.connection.cursor()
    sending: Any = source.connection.driver_connection

    def readSource() -> int:
        with (
            open(writeEnd, "wb") as pipe,  # noqa: PTH123 - a descriptor, not a path
            databaseErrors(f"Reading table {table} of dataset {tables.dataset}", container),
        ):
            cursor = sending.cursor()
            cursor.copy_expert(copyOut, pipe)
            return int(cursor.rowcount)

    with ThreadPoolExecutor(1, "read-source") as pool:
        reading = pool.submit(readSource)
        try:
            with open(readEnd, "rb") as pipe:  # noqa: PTH123 - a descriptor, not a path
                target.copy_expert(copyIn, pipe)
        except BaseException:
            # The source may be slow to its next row, and only then find that nobody reads.
            sending.cancel()
            raise
        # A source that failed looks, from the pipe's other end, like one that ran out of rows.
        sent = reading.result()
    if sent != target.rowcount:
        raise JobError(
            f"Table {table} of dataset {tables.dataset} gave {sent} rows, but staging took "
            f"{target.rowcount}."
        )
    return sent


def _copyOutStatement(tables: DatasetTables, table: _SourceTable, batchId: int) -> sql.Composed:
    # A row's text quotes separators and tells NULL from the empty string, so rows that differ
    # never have the same text.
    return sql.SQL(
        "COPY (SELECT {columns}, {batch}, md5(ROW({columns})::text), md5(ROW({keys})::text) "
        "FROM {table}) TO STDOUT"
    ).format(
        columns=_identifiers(tables.columns),
        batch=sql.Literal(batchId),
        keys=_identifiers(tables.keyColumns),
        table=table.identifier,
    )


def _identifiers(names: list[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(name) for name in names)


def _findSourceTable(
    source: Connection, container: PostgresDatabase, tables: DatasetTables
) -> _SourceTable:
    """Find the table that the model names, as written or as PostgreSQL folds it.

    Raises:
        JobError: There is none, or it lacks columns of the dataset.
    """
    for parts in _spellings(tables.sourceName):
        row = source.execute(
            _FIND_TABLE, {"name": ".".join(_quoted(part) for part in parts)}
        ).one_or_none()
        if row is None:
            continue
        missing = [name for name in tables.columns if name not in row.columns]
        if missing:
            raise JobError(
                f"Table {row.nspname}.{row.relname} of dataset {tables.dataset} in "
                f"{address(container)} has no column {', '.join(missing)}; its columns are "
                f"{', '.join(row.columns)}. Correct the table, or the dataset's schema."
            )
        return _SourceTable(row.nspname, row.relname)
    raise JobError(
        f"Dataset {tables.dataset} is ingested from table {tables.sourceName}, but "
        f"{address(container)} has no such table or view that the login can see. Create it, or "
        f"name the right table in the store's ingestion."
    )


def _spellings(name: str) -> list[list[str]]:
    """List what a table name of the model can mean, the literal reading first."""
    readings = [[name]]
    if "." in name:
        readings.append(name.split(".", 1))
    return readings + [[part.lower() for part in reading] for reading in readings]


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _repeatedSourceKeys(
    source: Connection, container: PostgresDatabase, tables: DatasetTables, table: _SourceTable
) -> int:
    """Count the keys that occur more than once, over a connection of its own."""
    counting = sql.SQL(
        "SELECT count(*) FROM (SELECT 1 FROM {} GROUP BY {} HAVING count(*) > 1) repeated"
    ).format(table.identifier, _identifiers(tables.keyColumns))
    with (
        databaseErrors(f"Counting repeated keys of table {table}", container),
        source.engine.connect() as connection,
    ):
        cursor = connection.connection.cursor()
        cursor.execute(counting)
        row: Any = cursor.fetchone()
        return int(row[0])


def _repeatedStagedKeys(merge: Connection, tables: DatasetTables) -> int:
    key = tables.staging.c[KEY_HASH_COLUMN]
    repeated = select(key).group_by(key).having(func.count() > 1).subquery()
    return merge.execute(select(func.count()).select_from(repeated)).scalar_one()


def _repeatedKeysError(subject: str, tables: DatasetTables, repeated: int) -> JobError:
    if repeated == 0:
        return JobError(
            f"Keys of {subject} that differ in the source become equal in the model's types "
            f"(columns {', '.join(tables.keyColumns)}). Give the key columns wider types."
        )
    if not tables.hasPrimaryKey:
        return JobError(
            f"The model gives {subject} no primary key, and {repeated} of its rows occur more "
            f"than once. Remove the repeats, or give the dataset a primary key."
        )
    return JobError(
        f"{repeated} keys of {subject} occur more than once (columns "
        f"{', '.join(tables.keyColumns)}). Remove the repeats, or correct the primary key in the "
        f"model."
    )


def _position(error: psycopg2.Error) -> str:
    """Say which line and column of the copied rows an error is about, without the value."""
    if error.diag.column_name:
        return f" (column {error.diag.column_name})"
    match = _COPY_COLUMN.search(error.diag.context or "")
    return f" ({match.group()})" if match else ""
