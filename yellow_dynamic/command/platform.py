"""Finds the platforms that a command is about, in a model or in Airflow's DAG folder."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection

from yellow_dynamic import contract, history
from yellow_dynamic.command import CommandError, airflow
from yellow_dynamic.command.in_airflow import FactoryFile, LoadedFactory
from yellow_dynamic.contract import secret_keys
from yellow_dynamic.merge_store import store_url, table_transaction

if TYPE_CHECKING:
    from yellow_dynamic.command.model import ModelPlatform


@dataclass(frozen=True)
class Installation:
    """One platform: its settings, and where they were read.

    Attributes:
        name: its name in the model.
        settings: what its factory file has, or would have.
        model: the platform in its model, or None.
        dags: Airflow's DAG folder or the factory file in it, or None.
        files: the factory files of the platform that are there.
        python: the command that starts Airflow's Python; empty for this one.
    """

    name: str
    settings: dict[str, Any]
    model: ModelPlatform | None = None
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
        credential = self.settings["postgres_credential_name"]
        return [f"{credential}_{part}" for part in secret_keys("postgres", self.settings)]

    @property
    def address(self) -> tuple[str, int, str]:
        """Host, port and database of the table; the environment wins, as for the factory file."""
        host, port, database = (
            os.environ.get(name) or value for name, value in self.address_names.items()
        )
        try:
            return host, int(port), database
        except ValueError:
            raise CommandError(f"DATASURFACE_POSTGRES_PORT is {port!r}, not a number.") from None

    @property
    def address_names(self) -> dict[str, str]:
        """The environment variables that lead to another table, with what they are without."""
        keys = {"HOST": "hostname", "PORT": "port", "DATABASE": "database"}
        return {
            f"DATASURFACE_POSTGRES_{part}": str(self.settings[f"postgres_{key}"])
            for part, key in keys.items()
        }

    @property
    def factory_file(self) -> str:
        """The name of its first factory file."""
        return f"{contract.factory_name_of(self.airflow_name)}.py"

    def dag_id(self, stream_key: str) -> str:
        return contract.dag_id_of(self.airflow_name, stream_key)

    def stream_of(self, dag_id: str) -> str:
        """Return the key of the stream whose DAG has this id."""
        return contract.stream_key_of(self.airflow_name, dag_id) or dag_id

    @contextmanager
    def transaction(
        self, action: str, *, about: dict[str, Any] | None = None
    ) -> Iterator[Connection]:
        """Yield a connection in a transaction on the merge store, which ends with the block.

        Args:
            action: what is to be done to the table, as an error says it.
            about: what its changes say of themselves in the history; None is for one that reads.

        Raises:
            CommandError: the login is not in the environment.
            sqlalchemy.exc.SQLAlchemyError: the database refuses; its notes say what and where.
        """
        user, password = (os.environ.get(name, "") for name in self.login_names)
        if not (user and password):
            raise CommandError(
                f"The table {self.table!r} of platform {self.name!r} needs a login: set the "
                f"environment variables {' and '.join(self.login_names)}."
            )
        url = store_url((user, password), *self.address)
        try:
            writes = about is not None
            with table_transaction(url, self.name, self.table, action, writes=writes) as connection:
                if about is not None:
                    history.set_audit_metadata(connection, about)
                yield connection
        except ModuleNotFoundError as error:
            raise CommandError(
                f"There is no driver of PostgreSQL here ({error}). Install one: pip install "
                "psycopg2-binary."
            ) from None

    def load(self, dag_id: str | None = None) -> LoadedFactory:
        """Let Airflow load the factory file: that in the DAG folder, or else the model's.

        Args:
            dag_id: build this one DAG alone, and describe its form.

        Raises:
            CommandError: Airflow's Python cannot be asked, or there are several files.
        """
        path = text = None
        if len(self.files) > 1:
            names = ", ".join(each.file for each in self.files)
            raise CommandError(
                f"Several files define the same DAGs; delete all but one of: {names}."
            )
        if self.files:
            path = self.files[0].file
        elif self.model:
            text = self.model.factory_text
        return airflow.load_factory(
            self.airflow_name, self.python, path=path, text=text, dag_id=dag_id
        )

    def static_files(self) -> list[str]:
        """Return the platform's static DAG files in Airflow's DAG folder, if that is known."""
        if self.dags is None or self.dags in [each.file for each in self.files]:
            return []
        return airflow.static_files(self.dags, self.airflow_name, self.python)


def find_installations(
    names: Collection[str],
    *,
    perhaps: Collection[str] = (),
    model: Path | None = None,
    dags: str | None = None,
    python: str = "",
) -> list[Installation]:
    """Return the named platforms, or all there are, in the order of their names.

    Args:
        names: names of platforms as in the model; all where there are none.
        perhaps: further names; those that are of no platform are left out.
        model: folder of the model, or None.
        dags: Airflow's DAG folder or a factory file in it, where `python` runs; or None.
        python: the command that starts Airflow's Python; empty for this machine.

    Raises:
        CommandError: nothing is given, it cannot be read, or a platform is not in it.
    """
    if model is None and dags is None:
        raise CommandError(
            "Say where the platform is described: --model FOLDER with eco.py, or --dags FOLDER "
            "with Airflow's factory file."
        )
    models = platforms_of_model(model) if model else {}
    files: dict[str, list[FactoryFile]] = {}
    for file in airflow.factory_files(dags, python) if dags else []:
        files.setdefault(str(file.settings["original_platform_name"]), []).append(file)
    known = {name: each.settings for name, each in models.items()}
    for name, of_platform in files.items():
        known.setdefault(name, of_platform[0].settings)
    for name in names:
        if name not in known:
            places = " or ".join(str(place) for place in (model, dags) if place)
            raise CommandError(
                f"There is no YellowDynamicDataPlatform {name!r} in {places}; there is: "
                f"{', '.join(sorted(known)) or 'none'}."
            )
    wanted = [*names, *(name for name in perhaps if name in known)] or (models if models else known)
    return [
        Installation(name, known[name], models.get(name), dags, files.get(name, []), python)
        for name in sorted(set(wanted))
    ]


def platforms_of_model(folder: Path) -> dict[str, ModelPlatform]:
    """Return the platforms of a model; only here does the command need DataSurface."""
    try:
        import yellow_dynamic.plugin  # noqa: F401 - it says what to install
    except ModuleNotFoundError:
        raise
    except ImportError as error:
        raise CommandError(
            f"{error} Without it, --dags FOLDER finds the platforms in Airflow's factory files."
        ) from None
    from yellow_dynamic.command.model import platforms_of

    return platforms_of(folder)
