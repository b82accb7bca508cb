"""Reads of the merge store."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

from yellow_dynamic.factory.causes import (
    ADVICE,
    SCHEMAS,
    Cause,
    add_schemas,
    classify_error,
)
from yellow_dynamic.factory.logs import log, one_line
from yellow_dynamic.factory.platform import Platform
from yellow_dynamic.factory.rules import (
    BATCH_COLUMNS,
    DISABLED_UNTIL,
    HISTORY,
    MERGE,
    ROLLBACK,
    TIME_AS_TEXT,
    derive_name,
    is_disabled,
)
from yellow_dynamic.factory.secrets import get_login_names, get_reader_secret

CONNECT_TIMEOUT_SECONDS = 5
QUERY_TIMEOUT_SECONDS = 5
# Bounds the whole read, name resolution and a server that accepts and never answers included.
READ_DEADLINE_SECONDS = 8

# A condition of SQL, and the values for its places {}.
Condition = tuple[str, ...]
ALL_ROWS: Condition = ("true",)


class Row(NamedTuple):
    """One row of the table, as text; times are ISO 8601 in UTC."""

    stream_key: str
    config_json: str | None
    status: str | None
    updated_at: str | None
    disabled_until: str | None = None

    @property
    def is_off(self) -> bool:
        """Whether the stream is disabled at this moment."""
        return is_disabled(self.status, self.disabled_until)


class TableUnreadableError(Exception):
    """The table could not be read; the text says which, where, why and what to do."""

    # Airflow names the module of a DAG file after its path, and would show that.
    __module__ = "yellow_dynamic"

    def __init__(self, text: str, cause: Cause) -> None:
        super().__init__(text)
        self.cause = cause


class QueryResult(NamedTuple):
    """What a read of the table gave.

    Attributes:
        rows: in the order of their keys.
        any_row: whether the table has a row at all, of this shard or not.
        schema: where the table is that the role sees.
        histories: the schemas with a history of such a table, which bootstrap creates beside it.
        emptied: whether a merge has removed the last row, as far as the history says.
    """

    rows: list[Row]
    any_row: bool
    schema: str
    histories: list[str]
    emptied: bool = False


def read_table(platform: Platform, condition: Condition) -> QueryResult:
    """Read those rows of the table within READ_DEADLINE_SECONDS, or raise TableUnreadableError."""
    query = functools.partial(query_table, platform, condition)
    return run_with_deadline(platform, describe_table(platform), query)


def read_newest_batch(platform: Platform, key: str | None) -> dict[str, Any] | None:
    """Return the newest batch of a stream by the host's record, or None where it is not known.

    Args:
        platform: the stream's.
        key: the stream's key in the table of batches; None is for a job that has no batches.
    """
    if key is None:
        return None
    what = describe_table(platform, platform.settings["batch_metrics_table"], "table of batches")
    try:
        return run_with_deadline(platform, what, functools.partial(query_batch, platform, key))
    except TableUnreadableError as error:
        log.warning("What the job brought is not known. %s", error)
        return None


def read_ended(platform: Platform) -> dict[str, float] | None:
    """Return the streams that were disabled or removed lately, and when, the last one first.

    Returns:
        None where the table has no history, or this role may not read it.
    """
    what = describe_table(platform, history_name(platform), "history")
    try:
        found = run_with_deadline(platform, what, functools.partial(query_ended, platform))
    except TableUnreadableError as error:
        # The streams run without it.
        log.info("%s", error)
        return None
    return dict(found)


def run_with_deadline(platform: Platform, what: str, query: Callable[[str, str], Any]) -> Any:
    """Return what a query of the merge store gives within READ_DEADLINE_SECONDS.

    Args:
        platform: has the merge store.
        what: which table an error is about.
        query: is called with the user and the password.

    Raises:
        TableUnreadableError: there is no login or no answer, or the database refuses.
    """
    user, password = read_login(platform, what)
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(query(user, password))
        except Exception as error:  # noqa: BLE001 - passed to the waiting parse, which names it
            answers.put(error)

    # A thread, because no timeout of the driver covers name resolution and a frozen server.
    threading.Thread(target=ask, name="yellow-dynamic-read", daemon=True).start()
    try:
        answer = answers.get(timeout=READ_DEADLINE_SECONDS)
    except queue.Empty:
        raise TableUnreadableError(
            f"{what} cannot be read: no answer within {READ_DEADLINE_SECONDS} s.",
            Cause.NO_ANSWER,
        ) from None
    if isinstance(answer, TableUnreadableError):
        raise answer
    if isinstance(answer, Exception):
        raise table_unreadable(platform, what, answer, password) from None
    return answer


def read_login(platform: Platform, what: str) -> tuple[str, str]:
    """Return user and password from the environment, or raise TableUnreadableError."""
    names = get_login_names(platform.settings)
    user, password = (encodable(os.environ.get(name, "")) for name in names)
    if not (user and password):
        raise TableUnreadableError(
            f"{what} cannot be read: the environment variables {' and '.join(names)} are not both "
            "set. Give them to Airflow's scheduler, DAG processor and workers from the secret "
            f"{get_reader_secret(platform.settings)!r}.",
            Cause.NO_LOGIN,
        )
    return user, password


def table_unreadable(
    platform: Platform,
    what: str,
    error: Exception,
    password: str,
    schemas: list[str] | None = None,
) -> TableUnreadableError:
    """Return the driver's own reason in one line, without the password, and what to do."""
    cause = classify_error(error)
    reason = one_line((str(error).strip() or type(error).__name__).replace(password, "***"))
    advice = ADVICE.get(cause, "")
    if cause is Cause.NO_PERMISSION:
        advice = (
            f"Run {platform.name}-airflow-reader.sql, which bootstrap wrote, as an administrator"
        )
    advice = add_schemas(advice, schemas or [])
    text = f"{what} cannot be read: {reason.rstrip('.')}. {advice}".rstrip(". ")
    return TableUnreadableError(f"{text}.", cause)


# The first row describes the table itself. Columns are cast to text, because a DBA may have changed
# their types to JSON or an enum.
QUERY = """\
SELECT NULL, json_build_object(
    'any_row', EXISTS (SELECT FROM {table}),
    'schema', own.relnamespace::regnamespace::text,
    'histories', ARRAY(
        SELECT relnamespace::regnamespace::text FROM pg_class
        WHERE relname = {history} AND relkind IN ('r', 'p')
    )
)::text, NULL, NULL, NULL
FROM pg_class AS own WHERE own.oid = {name}::regclass
UNION ALL SELECT stream_key::text, config_json::text, status::text, {updated_at}, {disabled_until}
FROM {table} WHERE <condition>
ORDER BY 1 NULLS FIRST
"""


def postgres_driver() -> str:
    """Return the name of the PostgreSQL driver that is installed."""
    return "psycopg2" if importlib.util.find_spec("psycopg2") else "psycopg"


def import_driver() -> tuple[Any, Any]:
    """Return the driver's module, and the one with which it writes SQL."""
    name = postgres_driver()
    return importlib.import_module(name), importlib.import_module(f"{name}.sql")


@contextmanager
def decode_refusal(driver: Any) -> Iterator[None]:
    """Raise the driver's own error where psycopg2 cannot decode why a connection is refused.

    Until a client is let in, the server's words are in the server's encoding.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        raise driver.OperationalError(error.object.decode("utf-8", "replace")) from None


@contextmanager
def connect(platform: Platform, user: str, password: str) -> Iterator[Any]:
    """Yield a connection to the merge store, which commits each statement by itself."""
    driver, _ = import_driver()
    host, port, database = table_address(platform)
    with decode_refusal(driver):
        connection = driver.connect(
            host=host,
            port=port,
            dbname=database,
            user=user,
            password=password,
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            application_name=f"yellow_dynamic factory {platform.name}"[:63],
            client_encoding="UTF8",
        )
    with closing(connection):
        connection.autocommit = True
        yield connection


def encodable(text: str) -> str:
    """Return a text of the environment or a command line in UTF-8; what is none is escaped.

    In Python, it has half of a surrogate pair for each byte that it could not decode.
    """
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


NEWEST_BATCH = "SELECT {columns} FROM {table} WHERE key = {key} ORDER BY batch_id DESC LIMIT 1"


def query_batch(platform: Platform, key: str, user: str, password: str) -> dict[str, Any] | None:
    """Return the newest row of a key in the table of batches, over a connection of its own."""
    _, sql = import_driver()
    select = sql.SQL(NEWEST_BATCH).format(
        columns=sql.SQL(", ").join(map(sql.Identifier, BATCH_COLUMNS.values())),
        table=sql.Identifier(platform.settings["batch_metrics_table"]),
        key=sql.Literal(key),
    )
    rows = fetch_rows(platform, select, user, password)
    return dict(zip(BATCH_COLUMNS, rows[0])) if rows else None


# The streams whose newest changes made them other than active, among a bounded number of changes.
ENDED = """\
SELECT stream_key, extract(epoch FROM max(changed_at) AT TIME ZONE 'UTC')::float8 FROM (
    SELECT stream_key, status_after, changed_at FROM {history}
    ORDER BY revision DESC, number DESC LIMIT 10000
) AS newest
WHERE status_after IS DISTINCT FROM 'active' AND stream_key <> ''
AND changed_at > timezone('UTC', now()) - interval '7 days'
GROUP BY stream_key ORDER BY max(changed_at) DESC LIMIT 1000
"""


def query_ended(platform: Platform, user: str, password: str) -> list[tuple[str, float]]:
    """Return the streams of `read_ended` over a connection of its own."""
    _, sql = import_driver()
    history = sql.Identifier(history_name(platform))
    return fetch_rows(platform, sql.SQL(ENDED).format(history=history), user, password)


def fetch_rows(platform: Platform, select: Any, user: str, password: str) -> list[tuple[Any, ...]]:
    """Return what a SELECT gives over a connection of its own."""
    with connect(platform, user, password) as connection:
        return list(execute_in_session(connection.cursor(), select).fetchall())


def query_table(platform: Platform, condition: Condition, user: str, password: str) -> QueryResult:
    """Run the one SELECT over a connection of its own, which is closed before returning.

    The driver is used directly, since an engine of SQLAlchemy asks the server several things
    before its first statement.
    """
    driver, sql = import_driver()
    where, *values = condition
    name = platform.settings["config_table"]
    table = sql.Identifier(name)
    with connect(platform, user, password) as connection:
        select = sql.SQL(QUERY.replace("<condition>", where)).format(
            *map(sql.Literal, values),
            table=table,
            updated_at=sql.SQL(TIME_AS_TEXT.format(time="updated_at")),
            disabled_until=sql.SQL(DISABLED_UNTIL).format(table=table),
            name=sql.Literal(table.as_string(connection)),
            history=sql.Literal(history_name(platform)),
        )
        cursor = connection.cursor()
        return_text_as_bytes(driver, cursor)
        try:
            execute_in_session(cursor, select)
        except driver.Error as error:
            if classify_error(error) is not Cause.NO_TABLE:
                raise
            plain = connection.cursor()
            plain.execute(sql.SQL(SCHEMAS).format(name=sql.Literal(name)))
            schemas = [schema for (schema,) in plain]
            what = describe_table(platform)
            raise table_unreadable(platform, what, error, password, schemas) from None
        (_, about, *_), *found = cursor
        rows = [Row._make(map(to_text, row)) for row in found]
        result = QueryResult(rows, **json.loads(to_text(about)))
        if result.any_row:
            return result
        return result._replace(emptied=was_emptied(connection, history_name(platform)))


NEWEST_CHANGE = """\
SELECT action = 'removed' AND command IN ({commands}) FROM {history}
ORDER BY revision DESC, number DESC LIMIT 1
"""


def was_emptied(connection: Any, history: str) -> bool:
    """Return whether a merge removed the last row of a table, which has none.

    The history says so, if there is one that the role may read.
    """
    driver, sql = import_driver()
    newest = sql.SQL(NEWEST_CHANGE).format(
        commands=sql.SQL(", ").join(map(sql.Literal, (MERGE, ROLLBACK))),
        history=sql.Identifier(history),
    )
    try:
        found = execute_in_session(connection.cursor(), newest).fetchone()
    except driver.Error as error:
        log.info("The history %r cannot be read: %s", history, one_line(str(error)))
        return False
    return bool(found and found[0])


# Sent in one message with the query, which the server takes for one transaction: LOCAL to it, so
# that a pooler in transaction mode passes on a clean session. Row security that would hide rows is
# an error. A standby refuses a DBA's default of serializable. Its own zone may be any. A database
# in SQL_ASCII would refuse to send what is no UTF-8.
SESSION = f"""\
SET LOCAL statement_timeout = {QUERY_TIMEOUT_SECONDS * 1000};
SET LOCAL row_security = off;
SET LOCAL transaction_isolation = 'read committed';
SET LOCAL timezone = 'UTC';
SELECT set_config('client_encoding', 'SQL_ASCII', true)
WHERE current_setting('server_encoding') = 'SQL_ASCII';
"""


def execute_in_session(cursor: Any, query: Any) -> Any:
    """Execute a query in a session that is bounded, and return the cursor with its result."""
    driver, sql = import_driver()
    cursor.execute(sql.SQL(SESSION) + query)
    while driver.__name__ == "psycopg" and cursor.nextset():
        pass
    return cursor


def return_text_as_bytes(driver: Any, cursor: Any) -> None:
    """Let the cursor return text as bytes: one that is no UTF-8 is a fault of its row alone.

    A database in the encoding SQL_ASCII holds whatever clients gave it.
    """
    if driver.__name__ == "psycopg2":
        extensions = importlib.import_module("psycopg2.extensions")
        extensions.register_type(extensions.BYTES, cursor)
        return
    loader = importlib.import_module("psycopg.types.string").TextBinaryLoader
    plain = type("Plain", (loader,), {"load": lambda _, data: bytes(data), "format": 0})
    for text_type in ("text", "varchar"):
        cursor.adapters.register_loader(text_type, plain)


def to_text(value: Any) -> Any:
    """Return a value of a row as text."""
    # What cannot be decoded is no JSON any more, and so one bad row.
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


def table_address(platform: Platform) -> tuple[str, str, str]:
    """Return host, port and database of the table; Airflow's environment wins over bootstrap."""
    settings = platform.settings
    return (
        encodable(os.environ.get("DATASURFACE_POSTGRES_HOST") or settings["postgres_hostname"]),
        os.environ.get("DATASURFACE_POSTGRES_PORT") or str(settings["postgres_port"]),
        encodable(os.environ.get("DATASURFACE_POSTGRES_DATABASE") or settings["postgres_database"]),
    )


def history_name(platform: Platform) -> str:
    """Return the name of the history of the platform's table."""
    return derive_name(platform.settings["config_table"], HISTORY)


def describe_table(
    platform: Platform, name: str | None = None, title: str = "configuration table"
) -> str:
    """Return which table of which platform, and where it is, as errors name it."""
    host, port, database = table_address(platform)
    return one_line(
        f"The {title} {name or platform.settings['config_table']!r} of platform "
        f"{platform.label!r} (database {database!r} on {host}:{port})"
    )
