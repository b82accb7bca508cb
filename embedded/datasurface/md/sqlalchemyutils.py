"""Tables for datasets, and tables that follow a changed model."""

import re

import sqlalchemy
from sqlalchemy import Column, MetaData, Table, inspect
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.types import TypeEngine

from datasurface.md._datastore import Dataset
from datasurface.md.schema import DDLColumn, DDLTable, NullableStatus
from datasurface.md.types import (
    IEEE32,
    IEEE64,
    BigInt,
    Boolean,
    Char,
    DataType,
    Date,
    Decimal,
    Integer,
    Interval,
    SmallInt,
    TextDataType,
    Timestamp,
    TinyInt,
)

__all__ = [
    "createOrUpdateTable",
    "datasetToSQLAlchemyTable",
    "ddlColumnToSQLAlchemyType",
]

_PLAIN_TYPES: dict[type[DataType], type[TypeEngine]] = {
    Boolean: sqlalchemy.Boolean,
    TinyInt: sqlalchemy.SmallInteger,
    SmallInt: sqlalchemy.SmallInteger,
    Integer: sqlalchemy.Integer,
    BigInt: sqlalchemy.BigInteger,
    IEEE32: sqlalchemy.Float,
    IEEE64: sqlalchemy.Float,
    Date: sqlalchemy.Date,
    Timestamp: sqlalchemy.TIMESTAMP,
    Interval: sqlalchemy.Interval,
}

_INTEGER_BITS = {"SMALLINT": 16, "INTEGER": 32, "BIGINT": 64}

# PostgreSQL reports some types under another name than the one they are created with.
_TYPE_ALIASES = {"FLOAT": "DOUBLE PRECISION", "DECIMAL": "NUMERIC", "TEXT": "VARCHAR"}


def ddlColumnToSQLAlchemyType(column: DDLColumn) -> TypeEngine:
    """Return the SQLAlchemy type for the values of `column`.

    Raises:
        ValueError: There is no type for them.
    """
    dataType = column.type
    match dataType:
        case Char():
            return sqlalchemy.CHAR(dataType.maxSize)
        case TextDataType():
            return sqlalchemy.VARCHAR(dataType.maxSize)
        case Decimal():
            return sqlalchemy.DECIMAL(dataType.maxSize, dataType.precision)
    for known, sqlType in _PLAIN_TYPES.items():
        if isinstance(dataType, known):
            return sqlType()
    raise ValueError(f"The column '{column.name}' is of type {dataType}, which has no SQL type.")


def datasetToSQLAlchemyTable(
    dataset: Dataset, name: str, metadata: MetaData | None = None
) -> Table:
    """Return a table with the columns and the primary key of `dataset`.

    Args:
        dataset: The dataset; its schema must be a DDLTable.
        name: Name of the table.
        metadata: What the table belongs to; a new one unless given.

    Raises:
        ValueError: The schema is no DDLTable, or has a column without an SQL type.
    """
    schema = dataset.originalSchema
    if not isinstance(schema, DDLTable):
        raise ValueError(f"The schema of {dataset} is not a DDLTable.")
    keys = schema.primaryKeyColumns.colNames
    columns: list[Column] = [
        Column(
            column.name,
            ddlColumnToSQLAlchemyType(column),
            primary_key=column.name in keys,
            nullable=column.nullable is NullableStatus.NULLABLE and column.name not in keys,
            # The values come from the source; a key must not become a SERIAL.
            autoincrement=False,
        )
        for column in schema.columns.values()
    ]
    return Table(name, metadata if metadata is not None else MetaData(), *columns)


def createOrUpdateTable(engine: Engine, table: Table) -> None:
    """Create `table`, or give the existing one the columns that it lacks.

    Columns are never dropped, and a type is changed only where the existing one cannot hold the
    values of the new one. Added columns are nullable, because existing rows have no value.

    Args:
        engine: Where the table is; PostgreSQL.
        table: What it has to look like.

    Raises:
        sqlalchemy.exc.DBAPIError: The database refuses, for example to convert existing values.
    """
    with engine.begin() as connection:
        if not inspect(connection).has_table(table.name, schema=table.schema):
            table.create(connection)
            print(f"Created table {table.name}")
            return
        for change in _columnChanges(connection, table):
            connection.exec_driver_sql(change)


def _columnChanges(connection: Connection, table: Table) -> list[str]:
    """Return the ALTER TABLE statements that the existing table needs."""
    found = {
        column["name"]: column["type"]
        for column in inspect(connection).get_columns(table.name, schema=table.schema)
    }
    dialect = connection.dialect
    prefix = f"ALTER TABLE {dialect.identifier_preparer.format_table(table)}"
    changes = []
    for column in table.columns:
        wanted = column.type.compile(dialect=dialect)
        name = dialect.identifier_preparer.format_column(column)
        if column.name not in found:
            changes.append(f"{prefix} ADD COLUMN {name} {wanted}")
        elif not _canHold(found[column.name].compile(dialect=dialect), wanted):
            changes.append(
                f"{prefix} ALTER COLUMN {name} TYPE {wanted} USING CAST({name} AS {wanted})"
            )
    return changes


def _canHold(existing: str, wanted: str) -> bool:
    """Tell whether a column of one SQL type holds all values of another, without change."""
    existingKind, existingSize = _parseSqlType(existing)
    wantedKind, wantedSize = _parseSqlType(wanted)
    if existingKind in _INTEGER_BITS and wantedKind in _INTEGER_BITS:
        return _INTEGER_BITS[existingKind] >= _INTEGER_BITS[wantedKind]
    if existingKind != wantedKind:
        return False
    if existingKind == "VARCHAR":
        return not existingSize or (bool(wantedSize) and existingSize[0] >= wantedSize[0])
    if existingKind == "NUMERIC" and len(existingSize) == len(wantedSize) == 2:
        existingWhole, wantedWhole = (s[0] - s[1] for s in (existingSize, wantedSize))
        return existingWhole >= wantedWhole and existingSize[1] >= wantedSize[1]
    return existingSize == wantedSize


def _parseSqlType(sqlType: str) -> tuple[str, list[int]]:
    """Split a type such as "NUMERIC(10, 2)" into its name and its numbers."""
    name = re.sub(r"\(.*?\)| COLLATE .*", "", sqlType).strip()
    return _TYPE_ALIASES.get(name, name), [int(n) for n in re.findall(r"\d+", sqlType)]
