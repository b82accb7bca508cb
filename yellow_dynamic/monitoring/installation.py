"""One platform: its settings, its table in the merge store, and its factory file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy.engine import URL, Connection

from yellow_dynamic import history
from yellow_dynamic.factory.database import encodable
from yellow_dynamic.factory.rules import build_dag_id, factory_file_name, parse_dag_id
from yellow_dynamic.factory.secrets import get_login_names
from yellow_dynamic.merge_store import store_url, table_transaction
from yellow_dynamic.monitoring import OperationError, airflow_python
from yellow_dynamic.monitoring.in_airflow import FactoryFile, LoadedFactory
from yellow_dynamic.population import Guards, Population, StoredRow


class PlatformModel(Protocol):
    """A platform as its model describes it; only who loads the model needs DataSurface."""

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that bootstrap gives the factory file."""

    @property
    def factory_text(self) -> str:
        """The text of the factory file that bootstrap would write."""

    @property
    def guards(self) -> Guards:
        """How many streams may be removed at once."""

    @property
    def rows(self) -> dict[str, str]:
        """The config_json that a merge would write, by stream key."""

    def compare_with_table(
        self, connection: Connection
    ) -> tuple[dict[str, StoredRow], Population, list[str]]:
        """Return the rows of the table, what a merge would change, and why it would be refused."""


@contextmanager
def driver_required() -> Iterator[None]:
    """Say which driver of PostgreSQL to install, where there is none."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise OperationError(
            f"There is no driver of PostgreSQL here ({error}). Install one: pip install "
            "psycopg2-binary."
        ) from None


@dataclass(frozen=True)
class Installation:
    """One platform: its settings, and where they were read.

    Attributes:
        name: its name in the model.
        settings: those of its factory file.
        model: the platform in its model, or None.
        dags: Airflow's DAG folder or the factory file in it, or None.
        files: the platform's factory files in that folder.
        python: the command that starts Airflow's Python; empty for this one.
    """

    name: str
    settings: dict[str, Any]
    model: PlatformModel | None = None
    dags: str | None = None
    files: list[FactoryFile] = field(default_factory=list)
    python: str = ""

    @property
    def airflow_name(self) -> str:
        """The platform's name in dag ids and file names."""
        return str(self.settings["platform_name"])

    @property
    def table(self) -> str:
        return str(self.settings["config_table"])

    @property
    def login_names(self) -> list[str]:
        """The environment variables with the login of the merge store."""
        return get_login_names(self.settings)

    @property
    def address(self) -> tuple[str, int, str]:
        """Host, port and database of the table; the environment overrides the settings."""
        host, port, database = (
            encodable(os.environ.get(name) or value) for name, value in self.address_names.items()
        )
        try:
            return host, int(port), database
        except ValueError:
            raise OperationError(f"DATASURFACE_POSTGRES_PORT is {port!r}, not a number.") from None

    @property
    def address_names(self) -> dict[str, str]:
        """The environment variables that override the address, each with its default."""
        keys = {"HOST": "hostname", "PORT": "port", "DATABASE": "database"}
        return {
            f"DATASURFACE_POSTGRES_{part}": str(self.settings[f"postgres_{key}"])
            for part, key in keys.items()
        }

    @property
    def factory_file(self) -> str:
        """The name of its first factory file."""
        return f"{factory_file_name(self.airflow_name)}.py"

    def dag_id(self, stream_key: str) -> str:
        return build_dag_id(self.airflow_name, stream_key)

    def stream_key(self, dag_id: str) -> str:
        """Return the key of the stream whose DAG has this id."""
        return parse_dag_id(self.airflow_name, dag_id) or dag_id

    @contextmanager
    def transaction(
        self, action: str, *, about: dict[str, Any] | None = None
    ) -> Iterator[Connection]:
        """Yield a connection in a transaction on the merge store, which ends with the block.

        Args:
            action: what the transaction does to the table, for error messages.
            about: metadata for the history of its changes; None for a transaction that only reads.

        Raises:
            OperationError: the login is not in the environment.
            sqlalchemy.exc.SQLAlchemyError: a statement fails; the notes of the error name the
                action and the table.
        """
        url, writes = self.store_url(), about is not None
        with (
            driver_required(),
            table_transaction(url, self.name, self.table, action, writes=writes) as connection,
        ):
            if about is not None:
                history.set_audit_metadata(connection, about)
            yield connection

    def store_url(self) -> URL:
        """Return the address of the merge store, with the login of the environment.

        Raises:
            OperationError: the login is not in the environment.
        """
        user, password = (os.environ.get(name, "") for name in self.login_names)
        if not (user and password):
            raise OperationError(
                f"The table {self.table!r} of platform {self.name!r} needs a login: set the "
                f"environment variables {' and '.join(self.login_names)}."
            )
        return store_url((user, password), *self.address)

    def load(self, dag_id: str | None = None) -> LoadedFactory:
        """Load the factory file of the DAG folder, or else the model's, as Airflow does.

        Args:
            dag_id: build only this DAG, and describe its form.

        Raises:
            OperationError: Airflow's Python cannot be run, or there are several files.
        """
        path = text = None
        if len(self.files) > 1:
            names = ", ".join(each.file for each in self.files)
            raise OperationError(
                f"Several files define the same DAGs; delete all but one of: {names}."
            )
        if self.files:
            path = self.files[0].file
        elif self.model:
            text = self.model.factory_text
        return airflow_python.load_factory(
            self.airflow_name, self.python, path=path, text=text, dag_id=dag_id
        )

    def static_files(self) -> list[str]:
        """Return the platform's static DAG files in Airflow's DAG folder, if that is known."""
        if self.dags is None or self.dags in [each.file for each in self.files]:
            return []
        return airflow_python.static_files(self.dags, self.airflow_name, self.python)
