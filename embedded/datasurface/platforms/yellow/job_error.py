"""The error that a job reports to its user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from datasurface.md.governance import PostgresDatabase


class JobError(Exception):
    """A job cannot go on; the message says in full sentences what failed, why and what to do."""


def address(container: PostgresDatabase) -> str:
    """Describe where a database is, for messages."""
    pair = container.hostPortPair
    return f"database {container.databaseName} on {pair.hostName}:{pair.port}"


def reason(error: SQLAlchemyError | psycopg2.Error) -> str:
    """Return the server's own words about an error in one line, without statement or values."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    diagnostics = getattr(cause, "diag", None)
    primary = diagnostics.message_primary if diagnostics is not None else None
    text = primary or " ".join(str(cause).split()) or type(cause).__name__
    return text.rstrip(".")


@contextmanager
def databaseErrors(action: str, container: PostgresDatabase) -> Iterator[None]:
    """Turn errors of a database into a `JobError` that says during what and where.

    Args:
        action: What is being done, as the start of a sentence ("Reading table x").
        container: The database it is done in.

    Raises:
        JobError: The body raised an error of SQLAlchemy or psycopg2.
    """
    try:
        yield
    except (SQLAlchemyError, psycopg2.Error) as error:
        raise JobError(f"{action} failed in {address(container)}: {reason(error)}.") from error
