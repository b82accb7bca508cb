"""The table in the merge store, and the way to it for merges and the operator's command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy
from sqlalchemy import TIMESTAMP, Column, MetaData, String, Table, Text
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from yellow_dynamic.contract import Cause, cause_of, postgres_driver

STREAM_KEY_CHARACTERS = 255
CONNECT_TIMEOUT_SECONDS = 10
LOCK_TIMEOUT_SECONDS = 60
#: After how long without a sign of life from a merge the database gives its lock away.
LOST_CLIENT_SECONDS = 60


def config_table(name: str) -> Table:
    """Return a platform's table of this name; times are UTC."""
    return Table(
        name,
        MetaData(),
        Column("stream_key", String(length=STREAM_KEY_CHARACTERS), primary_key=True),
        Column("config_json", Text()),
        Column("status", String(length=50)),
        Column("created_at", TIMESTAMP()),
        Column("updated_at", TIMESTAMP()),
    )


def quoted_name(connection: Connection, table: Table) -> str:
    """Return the table's name as it stands in SQL."""
    return str(connection.dialect.identifier_preparer.format_table(table))


def store_url(login: tuple[str, str], host: str, port: int, database: str) -> URL:
    """Return the address of a merge store, with the PostgreSQL driver that is installed."""
    return URL.create(f"postgresql+{postgres_driver()}", *login, host, port, database)


@contextmanager
def table_transaction(url: URL, platform: str, table: str, action: str) -> Iterator[Connection]:
    """Yield a connection in a transaction, which ends with the block.

    Args:
        url: what `store_url` returned.
        platform: the platform's name in the model.
        table: the name of its table.
        action: what is to be done to the table, as an error says it.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: a database error; its note says what could not be done,
            where, what has become of the transaction, and what to look at.
    """
    engine = sqlalchemy.create_engine(
        url, poolclass=NullPool, connect_args={"connect_timeout": CONNECT_TIMEOUT_SECONDS}
    )
    outcome = "Nothing was changed."
    try:
        with engine.begin() as connection:
            set_timeouts(connection)
            yield connection
            # The answer to a COMMIT may get lost after it took effect.
            outcome = "The table holds the old rows or the new ones, and no mixture."
    except SQLAlchemyError as error:
        error.add_note(
            f"Platform {platform!r}: could not {action} table {table!r} in database "
            f"{url.database!r} on {url.host}:{url.port} as user {url.username!r}. {outcome} "
            f"{advice(error)}"
        )
        raise


def set_timeouts(connection: Connection) -> None:
    """Bound how long this transaction waits for a lock, and holds it when its client is lost."""
    for setting, seconds in (
        ("lock_timeout", LOCK_TIMEOUT_SECONDS),
        ("idle_in_transaction_session_timeout", LOST_CLIENT_SECONDS),
    ):
        connection.execute(sqlalchemy.text(f"SET LOCAL {setting} = '{seconds}s'"))


def advice(error: SQLAlchemyError) -> str:
    """Return what to do about a database error."""
    advices = {
        Cause.NO_TABLE: "Run generatePlatformBootstrap with --ringLevel 1 to create the table.",
        Cause.NO_PERMISSION: "Grant the role CREATE on the schema for bootstrap, and SELECT, "
        "INSERT, UPDATE and DELETE on the table for merges.",
        Cause.LOCKED: f"Another merge held the table for {LOCK_TIMEOUT_SECONDS} s; look for "
        "a merge that hangs, and run this one again.",
        Cause.NO_ANSWER: "It was interrupted here, or cancelled in the database; run it again.",
    }
    cause = cause_of(getattr(error, "orig", None))
    return advices.get(cause, "Check that the database is up and reachable, then run this again.")


def config_limit(connection: Connection, table: Table) -> int | None:
    """Return how many characters config_json holds in the database, or None for no limit."""
    # The inspector asks for all there is to know of a table, which takes ten times as long.
    length: int | None = connection.scalar(
        sqlalchemy.text(
            "SELECT nullif(atttypmod, -1) - 4 FROM pg_attribute "
            "WHERE attrelid = CAST(:name AS regclass) AND attname = 'config_json'"
        ),
        {"name": quoted_name(connection, table)},
    )
    return length
