"""Database engines for the data containers of a model."""

from __future__ import annotations

from sqlalchemy import create_engine
from sqlalchemy.engine import URL, Engine
from sqlalchemy.pool import NullPool

from datasurface.md.governance import DataContainer, PostgresDatabase

CONNECT_TIMEOUT_SECONDS = 10


def createEngine(container: DataContainer, userName: str, password: str) -> Engine:
    """Make an engine for the database that a data container describes.

    Nothing is connected yet, and no connection is kept between uses. The address is the
    container's; libpq's environment variables, such as `PGHOSTADDR`, apply as usual.

    Args:
        container: The database; only `PostgresDatabase` is supported.
        userName: The login role.
        password: Its password; any characters work.

    Raises:
        TypeError: If the container is not a `PostgresDatabase`.
    """
    if not isinstance(container, PostgresDatabase):
        raise TypeError(
            f"Data container {container.name} is a {type(container).__name__}. The embedded "
            f"DataSurface reaches PostgresDatabase containers only."
        )
    url = URL.create(
        "postgresql+psycopg2",
        username=userName,
        password=password,
        host=container.hostPortPair.hostName,
        port=container.hostPortPair.port,
        database=container.databaseName,
    )
    return create_engine(
        url,
        poolclass=NullPool,
        connect_args={"connect_timeout": CONNECT_TIMEOUT_SECONDS, "client_encoding": "utf8"},
    )
