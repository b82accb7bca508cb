"""Tables made from datasets, on a real PostgreSQL."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import sqlalchemy
from small_estate import dataset
from sqlalchemy import Column, MetaData, Table
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import DataError

from datasurface.md.schema import DDLColumn, NullableStatus, PrimaryKeyStatus
from datasurface.md.sqlalchemyutils import createOrUpdateTable, datasetToSQLAlchemyTable
from datasurface.md.types import (
    BigInt,
    Boolean,
    Char,
    Date,
    Decimal,
    Double,
    Float,
    Integer,
    Interval,
    SmallInt,
    String,
    Timestamp,
    TinyInt,
    VarChar,
    Variant,
)
from one_machine import Postgres

pytestmark = pytest.mark.embedded

_numbers = itertools.count(1)
TYPES = {
    "a_bool": Boolean(),
    "a_tiny": TinyInt(),
    "a_small": SmallInt(),
    "an_int": Integer(),
    "a_big": BigInt(),
    "a_float": Float(),
    "a_double": Double(),
    "a_decimal": Decimal(10, 2),
    "a_date": Date(),
    "a_timestamp": Timestamp(),
    "an_interval": Interval(),
    "a_char": Char(3),
    "a_varchar": VarChar(20),
    "a_string": String(20),
    "a_text": VarChar(),
}


@pytest.fixture
def engine(postgres: Postgres) -> Iterator[Engine]:
    """An engine on an empty database."""
    name = f"tables_{next(_numbers)}"
    postgres.create_database(name)
    made = sqlalchemy.create_engine(
        URL.create(
            "postgresql+psycopg2",
            postgres.user,
            postgres.password,
            postgres.address,
            5432,
            name,
        )
    )
    yield made
    made.dispose()


def columns(engine: Engine, table: str = "t") -> dict[str, str]:
    """Return the SQL type of each column of a table."""
    found = sqlalchemy.inspect(engine).get_columns(table)
    return {column["name"]: column["type"].compile(engine.dialect) for column in found}


def table(**types: sqlalchemy.types.TypeEngine) -> Table:
    """Return a table `t` with columns of `types`."""
    return Table("t", MetaData(), *(Column(name, kind) for name, kind in types.items()))


def run(engine: Engine, statement: str) -> sqlalchemy.CursorResult:
    with engine.begin() as connection:
        return connection.exec_driver_sql(statement)


def test_a_dataset_becomes_a_table_with_its_types_keys_and_nulls(engine: Engine) -> None:
    key = DDLColumn("id", Integer(), NullableStatus.NOT_NULLABLE, PrimaryKeyStatus.PK)
    others = [DDLColumn(name, kind) for name, kind in TYPES.items()]
    made = datasetToSQLAlchemyTable(dataset("d", key, *others), "t")

    createOrUpdateTable(engine, made)

    assert columns(engine) == {
        "id": "INTEGER",
        "a_bool": "BOOLEAN",
        "a_tiny": "SMALLINT",
        "a_small": "SMALLINT",
        "an_int": "INTEGER",
        "a_big": "BIGINT",
        "a_float": "DOUBLE PRECISION",
        "a_double": "DOUBLE PRECISION",
        "a_decimal": "NUMERIC(10, 2)",
        "a_date": "DATE",
        "a_timestamp": "TIMESTAMP WITHOUT TIME ZONE",
        "an_interval": "INTERVAL",
        "a_char": "CHAR(3)",
        "a_varchar": "VARCHAR(20)",
        "a_string": "VARCHAR(20)",
        "a_text": "VARCHAR",
    }
    inspector = sqlalchemy.inspect(engine)
    assert inspector.get_pk_constraint("t")["constrained_columns"] == ["id"]
    nullable = {c["name"]: c["nullable"] for c in inspector.get_columns("t")}
    assert nullable == {"id": False} | dict.fromkeys(TYPES, True)
    assert inspector.get_columns("t")[0]["default"] is None


def test_creating_says_so_and_a_second_time_changes_nothing(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    key = DDLColumn("id", Integer(), NullableStatus.NOT_NULLABLE, PrimaryKeyStatus.PK)
    others = [DDLColumn(name, kind) for name, kind in TYPES.items()]
    made = datasetToSQLAlchemyTable(dataset("d", key, *others), "t")
    statements: list[str] = []
    createOrUpdateTable(engine, made)
    assert capsys.readouterr().out == "Created table t\n"

    sqlalchemy.event.listen(
        engine, "before_cursor_execute", lambda *args: statements.append(args[2])
    )
    createOrUpdateTable(engine, made)

    assert capsys.readouterr().out == ""
    assert [s for s in statements if s.startswith(("ALTER", "CREATE"))] == []


def test_new_columns_are_added_to_a_table_with_rows(engine: Engine) -> None:
    createOrUpdateTable(engine, table(id=sqlalchemy.Integer()))
    run(engine, "INSERT INTO t VALUES (1)")
    wider = Table(
        "t",
        MetaData(),
        Column("id", sqlalchemy.Integer()),
        Column("Mixed Name", sqlalchemy.String(5), nullable=False),
    )

    createOrUpdateTable(engine, wider)

    assert run(engine, "SELECT * FROM t").fetchall() == [(1, None)]
    assert columns(engine) == {"id": "INTEGER", "Mixed Name": "VARCHAR(5)"}


def test_a_column_that_left_the_model_stays(engine: Engine) -> None:
    createOrUpdateTable(engine, table(id=sqlalchemy.Integer(), old=sqlalchemy.Text()))

    createOrUpdateTable(engine, table(id=sqlalchemy.Integer()))

    assert columns(engine) == {"id": "INTEGER", "old": "TEXT"}


@pytest.mark.parametrize(
    ("before", "wanted", "after"),
    [
        (sqlalchemy.String(10), sqlalchemy.String(20), "VARCHAR(20)"),
        (sqlalchemy.String(10), sqlalchemy.Text(), "TEXT"),
        (sqlalchemy.Integer(), sqlalchemy.BigInteger(), "BIGINT"),
        (sqlalchemy.DECIMAL(5, 2), sqlalchemy.DECIMAL(10, 2), "NUMERIC(10, 2)"),
        (sqlalchemy.DECIMAL(5, 2), sqlalchemy.DECIMAL(5, 4), "NUMERIC(5, 4)"),
        (sqlalchemy.String(10), sqlalchemy.Integer(), "INTEGER"),
        (sqlalchemy.Integer(), sqlalchemy.String(10), "VARCHAR(10)"),
    ],
)
def test_a_type_that_cannot_hold_the_new_values_is_changed_with_its_rows(
    engine: Engine,
    before: sqlalchemy.types.TypeEngine,
    wanted: sqlalchemy.types.TypeEngine,
    after: str,
) -> None:
    createOrUpdateTable(engine, table(c=before))
    run(engine, "INSERT INTO t VALUES ('7')")

    createOrUpdateTable(engine, table(c=wanted))

    assert columns(engine) == {"c": after}
    assert int(run(engine, "SELECT c FROM t").scalar_one()) == 7


@pytest.mark.parametrize(
    ("before", "wanted"),
    [
        (sqlalchemy.Text(), sqlalchemy.String(10)),
        (sqlalchemy.String(20), sqlalchemy.String(10)),
        (sqlalchemy.BigInteger(), sqlalchemy.Integer()),
        (sqlalchemy.DECIMAL(10, 2), sqlalchemy.DECIMAL(5, 2)),
    ],
)
def test_a_type_that_holds_more_stays(
    engine: Engine,
    before: sqlalchemy.types.TypeEngine,
    wanted: sqlalchemy.types.TypeEngine,
) -> None:
    createOrUpdateTable(engine, table(c=before))
    was = columns(engine)

    createOrUpdateTable(engine, table(c=wanted))

    assert columns(engine) == was


def test_values_that_do_not_convert_leave_the_table_as_it_was(engine: Engine) -> None:
    createOrUpdateTable(engine, table(c=sqlalchemy.Text()))
    run(engine, "INSERT INTO t VALUES ('seven')")

    with pytest.raises(DataError, match="seven"):
        createOrUpdateTable(engine, table(added=sqlalchemy.Text(), c=sqlalchemy.Integer()))

    assert columns(engine) == {"c": "TEXT"}


def test_a_column_without_an_sql_type_is_named() -> None:
    with pytest.raises(ValueError, match="'odd' is of type Variant"):
        datasetToSQLAlchemyTable(dataset("d", DDLColumn("odd", Variant())), "t")


def test_a_dataset_without_columns_is_named() -> None:
    shapeless = dataset("d")
    shapeless.originalSchema = None

    with pytest.raises(ValueError, match=r"Dataset\(d\)"):
        datasetToSQLAlchemyTable(shapeless, "t")


def test_tables_may_share_metadata() -> None:
    metadata = MetaData()

    datasetToSQLAlchemyTable(dataset("d"), "one", metadata)
    datasetToSQLAlchemyTable(dataset("d"), "two", metadata)

    assert sorted(metadata.tables) == ["one", "two"]
