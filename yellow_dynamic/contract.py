"""What the plugin, the factory file and the operator's command agree on; it needs no DataSurface.

`stream_config.schema.json` says what a row may hold, and `shared.py` how that is checked. The
rest is the factory file's text, the table, and the way to it.
"""

from __future__ import annotations

import importlib.util
import json
import pprint
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from typing import Any

import sqlalchemy
from jinja2 import Environment, PackageLoader, StrictUndefined
from sqlalchemy import TIMESTAMP, Column, MetaData, String, Table, Text
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

STREAM_KEY_CHARACTERS = 255
CONNECT_TIMEOUT_SECONDS = 10
LOCK_TIMEOUT_SECONDS = 60
#: After how long without a sign of life from a merge the database gives its lock away.
LOST_CLIENT_SECONDS = 60


# --- The rules of a row -----------------------------------------------------------------------


def rules_by_key(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the rule of each key of a configuration, in the words of JSON Schema.

    References are resolved, descriptions left out, and `needed` says whether a row must have it.
    """

    def resolved(rule: dict[str, Any]) -> dict[str, Any]:
        kind = rule.get("$ref", "").rpartition("/")[2]
        whole = {**(resolved(schema["$defs"][kind]) if kind else {}), **rule}
        if "items" in whole:
            whole["items"] = resolved(whole["items"])
        return {word: whole[word] for word in whole if word not in ("$ref", "description")}

    return {
        key: {**resolved(rule), "needed": key in schema["required"]}
        for key, rule in schema["properties"].items()
    }


PACKAGE = resources.files("yellow_dynamic")
SCHEMA: dict[str, Any] = json.loads(
    PACKAGE.joinpath("stream_config.schema.json").read_text("utf-8")
)
#: The rule of each key of a configuration, as each factory file has it too.
KEYS = rules_by_key(SCHEMA)


def secret_keys(role: str) -> dict[str, str]:
    """Return the keys of the secret of a credential in this role.

    Args:
        role: `postgres`, `git`, `slack`, `source` or `kafka_connect`.

    Returns:
        Each key by the end of the environment variable's name that carries it to the job.
    """
    keys: dict[str, str] = KEYS[f"{role}_credential_secret_name"]["secretKeys"]
    return keys


# --- The factory file -------------------------------------------------------------------------


def factory_text_of(settings: dict[str, Any]) -> str:
    """Return the text of the factory file with these settings."""
    _, mark, shared = PACKAGE.joinpath("shared.py").read_text("utf-8").partition("# --- ")
    template = templates().get_template("yellow_platform_factory_dag.py.j2")
    return template.render(
        platform_literal=python_literal(settings),
        keys_literal=pprint.pformat(KEYS, width=96, sort_dicts=False),
        shared=mark + shared.rstrip("\n"),
    )


def templates(**filters: Callable[[str], str]) -> Environment:
    """Return the environment of this package's templates."""
    environment = Environment(
        loader=PackageLoader("yellow_dynamic", "templates"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
        trim_blocks=True,
    )
    environment.filters |= filters
    return environment


def python_literal(settings: dict[str, Any]) -> str:
    """Return a dict of texts, numbers and booleans as Python source, one key a line.

    `ascii` quotes every value, so none of them can become code.
    """
    lines = [f"    {key!a}: {settings[key]!a},\n" for key in sorted(settings)]
    return "{\n" + "".join(lines) + "}"


# --- The merge store --------------------------------------------------------------------------


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
    driver = "psycopg2" if importlib.util.find_spec("psycopg2") else "psycopg"
    return URL.create(f"postgresql+{driver}", *login, host, port, database)


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
        "UndefinedTable": "Run generatePlatformBootstrap with --ringLevel 1 to create the table.",
        "InsufficientPrivilege": "Grant the role CREATE on the schema for bootstrap, and SELECT, "
        "INSERT, UPDATE and DELETE on the table for merges.",
        "LockNotAvailable": f"Another merge held the table for {LOCK_TIMEOUT_SECONDS} s; look for "
        "a merge that hangs, and run this one again.",
        "QueryCanceled": "It was interrupted here, or cancelled in the database; run it again.",
    }
    cause = type(getattr(error, "orig", None)).__name__
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
