"""The table in the merge store: its creation, and transactions on it."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import sqlalchemy
from sqlalchemy import TIMESTAMP, Column, MetaData, String, Table, Text
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from yellow_dynamic.factory.causes import (
    ADVICE,
    SCHEMAS,
    Cause,
    add_schemas,
    classify_error,
    get_primary_message,
)
from yellow_dynamic.factory.database import decode_refusal, encodable, postgres_driver
from yellow_dynamic.factory.rules import HISTORY, derive_name

log = logging.getLogger(__name__)

STREAM_KEY_CHARACTERS = 255
#: The suffixes of the names of the functions that record changes, that keep the history append-only
#: and that take back a stream's time that is over.
RECORD, GUARD, SWITCH = "_record", "_append_only", "_switch"
MERGE_CONNECT_TIMEOUT_SECONDS = 10
LOCK_TIMEOUT_SECONDS = 60
#: For how long one attempt at a lock lets others queue behind it; Ctrl-C ends it as soon.
LOCK_ATTEMPT_SECONDS = 1
#: After how long without a sign of life from a merge the database gives its lock away.
LOST_CLIENT_SECONDS = 60


class ConfigText(sqlalchemy.types.TypeDecorator):
    """The text of a configuration, also where a DBA made the column JSON, which drivers decode."""

    impl = Text
    cache_ok = True

    def column_expression(self, column: Any) -> Any:
        return sqlalchemy.cast(column, Text)


def config_table(name: str) -> Table:
    """Return a platform's table of this name; times are UTC."""
    return Table(
        name,
        MetaData(),
        Column("stream_key", String(length=STREAM_KEY_CHARACTERS), primary_key=True),
        Column("config_json", ConfigText()),
        Column("status", String(length=50)),
        Column("created_at", TIMESTAMP()),
        Column("updated_at", TIMESTAMP()),
        comment="Configuration table of yellow_dynamic",
    )


def quoted_name(connection: Connection, table: Table) -> str:
    """Return the table's name as it stands in SQL."""
    return str(connection.dialect.identifier_preparer.format_table(table))


def store_url(login: tuple[str, str], host: str, port: int, database: str) -> URL:
    """Return the address of a merge store, with the PostgreSQL driver that is installed."""
    user, password = map(encodable, login)
    return URL.create(f"postgresql+{postgres_driver()}", user, password, host, port, database)


@contextmanager
def table_transaction(
    url: URL, platform: str, table: str, action: str, *, writes: bool = True
) -> Iterator[Connection]:
    """Yield a connection in a transaction, which ends with the block.

    Args:
        url: what `store_url` returned.
        platform: the platform's name in the model.
        table: the name of its table.
        action: what is to be done to the table, as an error says it.
        writes: whether it may change anything; else the database sees to it that it does not.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: a database error; its note says what could not be done,
            where, what has become of the transaction, and what to look at.
    """
    engine = engine_of(url, platform)
    outcome = " Nothing was changed."
    try:
        with engine.begin() as connection:
            set_session(connection, writes=writes)
            yield connection
            # The answer to a COMMIT may get lost after it took effect.
            outcome = " The table holds the old rows or the new ones, and no mixture."
    except SQLAlchemyError as error:
        error.add_note(
            f"Platform {platform!r}: could not {action} table {table!r} in database "
            f"{url.database!r} on {url.host}:{url.port} as user {url.username!r}."
            f"{outcome if writes else ''} {advice(error, engine, table, writes=writes)}"
        )
        raise


def engine_of(url: URL, platform: str, **further: Any) -> sqlalchemy.Engine:
    """Return an engine whose sessions PostgreSQL shows under the platform's name.

    Args:
        url: what `store_url` returned.
        platform: the platform's name in the model.
        **further: options of the driver's function connect.
    """
    options: dict[str, Any] = {
        **further,
        # Poolers in transaction mode do not know what a session has prepared.
        **({"prepare_threshold": None} if url.drivername.endswith("psycopg") else {}),
        "connect_timeout": MERGE_CONNECT_TIMEOUT_SECONDS,
        "application_name": f"yellow_dynamic {platform}"[:63],
        # Where the database is SQL_ASCII, a client of no encoding gets bytes.
        "client_encoding": "UTF8",
    }
    engine = sqlalchemy.create_engine(url, poolclass=NullPool, connect_args=options)
    sqlalchemy.event.listen(engine, "do_connect", connect_or_decode)
    return engine


def connect_or_decode(dialect: Any, _: Any, arguments: Any, options: dict[str, Any]) -> Any:
    """Return a new connection of an engine; see `decode_refusal`."""
    with decode_refusal(dialect.dbapi):
        return dialect.connect(*arguments, **options)


#: The option that sets the time zone, among those of PGOPTIONS.
TIME_ZONE_OPTION = re.compile(r"(?<!\S)(?:-c\s*|--)timezone=(?:\\.|\S)*", re.IGNORECASE)


def leave_time_zone_to_server() -> None:
    """Take the time zone of psql's users out of the environment, which new sessions would get.

    DataSurface's jobs write the time of the zone that their role has on the server, and a session
    which got another one at its start cannot learn that.
    """
    os.environ.pop("PGTZ", None)
    if options := os.environ.get("PGOPTIONS"):
        os.environ["PGOPTIONS"] = TIME_ZONE_OPTION.sub("", options)


def set_session(connection: Connection, *, writes: bool) -> None:
    """Bound how long this transaction waits and is waited for; its times are UTC."""
    statements = [
        # What others commit while it waits for its lock must be seen, whatever a DBA's default is.
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
        f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'",
        f"SET LOCAL idle_in_transaction_session_timeout = '{LOST_CLIENT_SECONDS}s'",
        # A DBA may have made the columns of times ones with a zone, and the role, the database or
        # PGTZ and PGDATESTYLE here may have any zone and style.
        "SET LOCAL timezone = 'UTC'",
        "SET LOCAL datestyle = 'ISO'",
        # Hidden rows are an error instead of missing.
        "SET LOCAL row_security = off",
        *([] if writes else ["SET TRANSACTION READ ONLY"]),
    ]
    for statement in statements:
        connection.execute(sqlalchemy.text(statement))


def execute_locking(connection: Connection, statement: str) -> None:
    """Execute a statement that needs a lock on the table, within LOCK_TIMEOUT_SECONDS.

    It asks again and again for a short time, so that no reader queues behind it for longer. An
    autovacuum that holds the lock is cancelled by PostgreSQL only for one that waits for longer
    than the server's deadlock_timeout.
    """
    left, seconds = LOCK_TIMEOUT_SECONDS, LOCK_ATTEMPT_SECONDS
    while True:
        try:
            with connection.begin_nested():
                set_lock_timeout(connection, seconds)
                connection.execute(sqlalchemy.text(statement))
            break
        except SQLAlchemyError as error:
            left -= seconds
            if classify_error(getattr(error, "orig", None)) is not Cause.LOCKED or left <= 0:
                raise
        found = connection.scalar(sqlalchemy.text(AUTOVACUUM_SECONDS), {"statement": statement})
        seconds = min(left, LOCK_ATTEMPT_SECONDS + (found or 0))
    set_lock_timeout(connection, LOCK_TIMEOUT_SECONDS)


def set_lock_timeout(connection: Connection, seconds: int) -> None:
    connection.execute(sqlalchemy.text(f"SET LOCAL lock_timeout = '{seconds}s'"))


def advice(
    error: SQLAlchemyError, engine: sqlalchemy.Engine, table: str, *, writes: bool = True
) -> str:
    """Return what to do about a database error, after a look at the database where that helps."""
    driver_error = getattr(error, "orig", None)
    cause = classify_error(driver_error)
    # A table of a trigger's. PostgreSQL truncates long names.
    if cause is Cause.NO_TABLE and writes and table[:30] not in get_primary_message(driver_error):
        cause = Cause.TRIGGER
    permission = "Grant the role SELECT on the table"
    if writes:
        permission = (
            "Grant the role CREATE on the schema for bootstrap, and SELECT, INSERT, UPDATE and "
            "DELETE on the table for merges"
        )
    known = {
        **ADVICE,
        Cause.NO_PERMISSION: permission,
        Cause.NO_ANSWER: "It was interrupted here, or cancelled in the database; run it again",
    }
    text = known.get(cause, "Correct what the error in front of this names, then run this again")
    if writes and cause is Cause.NO_PERMISSION:
        statements = query_best_effort(engine, lambda each: find_foreign_functions(each, table))
        if statements:
            text = (
                "The table was given to another role without the functions that record its "
                f"changes. Let an administrator run {'; '.join(statements)}; then run this again"
            )
    if cause is Cause.NO_TABLE:
        text = add_schemas(text, query_best_effort(engine, lambda each: find_schemas(each, table)))
    elif cause is Cause.LOCKED:
        statement = getattr(error, "statement", None) or ""
        found = query_best_effort(engine, lambda each: find_holders(each, table, statement))
        holders = ", ".join(found) or "nobody any more"
        text = (
            f"The table was locked for {LOCK_TIMEOUT_SECONDS} s, by {holders}. When that has "
            "ended, run this again"
        )
    return f"{text}."


#: The locks on the tables that a statement names, and the processes that hold them.
LOCKS = """
FROM pg_locks JOIN pg_class ON pg_class.oid = relation JOIN pg_stat_activity USING (pid)
WHERE granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND position(relname IN :statement) > 0
"""
#: Whether an autovacuum of the table is one that PostgreSQL does not cancel. What it does is hidden
#: from most roles; that a process has no user is not.
PREVENTS_WRAPAROUND = """
age(relfrozenxid) > least(current_setting('autovacuum_freeze_max_age')::int, (
    SELECT option_value::int FROM pg_options_to_table(reloptions)
    WHERE option_name = 'autovacuum_freeze_max_age'
))"""
#: How long a statement waits until PostgreSQL cancels the autovacuum that is in its way.
AUTOVACUUM_SECONDS = f"""
SELECT ceil(extract(epoch FROM current_setting('deadlock_timeout')::interval))::int
{LOCKS} AND usesysid IS NULL AND NOT {PREVENTS_WRAPAROUND} LIMIT 1
"""  # noqa: S608
#: Who holds a lock that a merge has to wait for; only ALTER TABLE and its like wait for readers.
HOLDERS = f"""
SELECT DISTINCT CASE
    WHEN usesysid IS NOT NULL THEN format(
        'process %s of user %s (%s, for %s s)', pid, usename, coalesce(nullif(application_name, ''),
        'no name'), coalesce(extract(epoch FROM now() - xact_start)::int, 0)
    )
    WHEN {PREVENTS_WRAPAROUND}
    THEN format('an autovacuum that prevents wraparound and is not cancelled (process %s)', pid)
    ELSE format('an autovacuum (process %s)', pid)
END
{LOCKS} AND starts_with(relname, left(:table, 40))
    AND (mode <> 'AccessShareLock' OR :statement ~ '^(ALTER|DROP)')
ORDER BY 1
"""  # noqa: S608


#: What gives the functions of a table's triggers to the owner of the history, which they write.
FOREIGN_FUNCTIONS = """\
SELECT DISTINCT format('ALTER FUNCTION %s() OWNER TO %I', CAST(tgfoid AS regproc), owner.rolname)
FROM pg_class AS history JOIN pg_roles AS owner ON owner.oid = history.relowner
JOIN pg_trigger ON tgrelid IN (to_regclass(quote_ident(:table)), history.oid)
JOIN pg_proc ON pg_proc.oid = tgfoid AND proowner <> history.relowner
WHERE history.oid = to_regclass(quote_ident(:history))
AND proname IN (SELECT json_array_elements_text(CAST(:functions AS json)))
ORDER BY 1
"""


def find_holders(connection: Connection, table: str, statement: str) -> list[str]:
    """Return who holds a lock, of the table of this name or its history, that a statement needs."""
    values = {"table": table, "statement": statement}
    return list(connection.scalars(sqlalchemy.text(HOLDERS), values))


def find_schemas(connection: Connection, table: str) -> list[str]:
    """Return the schemas with a table of this name that the role does not see."""
    query = sqlalchemy.text(SCHEMAS.format(name=":table"))
    return list(connection.scalars(query, {"table": table}))


def find_foreign_functions(connection: Connection, table: str) -> list[str]:
    """Return the statements that give the functions of the table's triggers to the history's owner.

    ALTER TABLE ... OWNER TO leaves them with the former one.
    """
    names = [derive_name(table, suffix) for suffix in (RECORD, GUARD, SWITCH)]
    values = {
        "table": table,
        "history": derive_name(table, HISTORY),
        "functions": json.dumps(names),
    }
    return list(connection.scalars(sqlalchemy.text(FOREIGN_FUNCTIONS), values))


def query_best_effort(
    engine: sqlalchemy.Engine, find: Callable[[Connection], list[str]]
) -> list[str]:
    """Return what a query finds on a new connection, or nothing if it fails.

    It completes the message of an error, which another error must not replace.
    """
    try:
        with engine.connect() as connection:
            return find(connection)
    except SQLAlchemyError:
        return []


class ConfigColumn(NamedTuple):
    """The column config_json as the database has it; its type, and how many characters it holds."""

    type: str
    is_text: bool
    limit: int | None

    @property
    def problem(self) -> str:
        """Why ring 1 has to make it TEXT, or an empty text."""
        if not self.is_text:
            return f"has the type {self.type} instead of text"
        return f"holds only {self.limit} characters" if self.limit is not None else ""


def find_config_column(connection: Connection, table: Table) -> ConfigColumn:
    """Return what the column config_json is in the database."""
    # The inspector asks for all there is to know of a table, which takes ten times as long.
    found = connection.execute(
        sqlalchemy.text(
            "SELECT format_type(atttypid, NULL), typcategory = 'S', nullif(atttypmod, -1) - 4 "
            "FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid "
            "WHERE attrelid = CAST(:name AS regclass) AND attname = 'config_json'"
        ),
        {"name": quoted_name(connection, table)},
    ).first()
    # Where it is missing, the first statement that needs it says so.
    return ConfigColumn(*found) if found else ConfigColumn("", True, None)


# --- Creation ---------------------------------------------------------------------------------


def create_config_table(connection: Connection, table: Table) -> None:
    """Create the table, or make its config_json TEXT in place: of VARCHAR(2048), or of JSON."""
    if not sqlalchemy.inspect(connection).has_table(table.name):
        create_in_current_schema(connection, table)
    elif find_config_column(connection, table).problem:
        quoted = quoted_name(connection, table)
        # Readers do not queue behind this lock, which keeps every autovacuum out.
        execute_locking(connection, f"LOCK TABLE {quoted} IN EXCLUSIVE MODE")
        execute_locking(connection, f"ALTER TABLE {quoted} ALTER COLUMN config_json TYPE TEXT")
        log.info("Made column config_json of table %r TEXT.", table.name)


def create_in_current_schema(connection: Connection, table: Table) -> None:
    """Create the table in the first schema of the role's search_path."""
    others = find_schemas(connection, table.name)
    table.create(connection)
    schema = connection.scalar(sqlalchemy.text("SELECT current_schema()"))
    log.info("Created table %r in schema %r.", table.name, schema)
    if others:
        log.warning(
            "The schemas %s have a table %r too, which this role's search_path does not name. If "
            "one of them is this platform's, drop the new one, which is empty, and set the "
            "search_path of the role.",
            ", ".join(others),
            table.name,
        )
