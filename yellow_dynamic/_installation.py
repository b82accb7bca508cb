"""Finds the platforms that a command is about, in a model or in Airflow's DAG folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.engine import Connection

from datasurface.md import Ecosystem, EcosystemPipelineGraph, ValidationTree
from datasurface.md.model_loader import loadEcosystemFromEcoModule
from yellow_dynamic import _airflow_dags
from yellow_dynamic._airflow import ask_airflow
from yellow_dynamic._errors import CommandError
from yellow_dynamic.plugin import (
    YellowDynamicDataPlatform,
    config_rows,
    platform_settings,
    store_url,
    stream_configs,
    table_transaction,
)


@dataclass(frozen=True)
class ModelPlatform:
    """A platform of a model that was loaded."""

    eco: Ecosystem
    platform: YellowDynamicDataPlatform

    def rows(self, tree: ValidationTree) -> dict[str, str]:
        """Return config_json by stream key as a merge writes it; problems go on the tree.

        Raises:
            CommandError: no dataset group is assigned to the platform.
        """
        graph = EcosystemPipelineGraph(self.eco).roots.get(self.platform.name)
        if graph is None:
            raise CommandError(
                f"No dataset group is assigned to platform {self.platform.name!r}. Assign one in "
                "dsg_platform_mapping.json beside eco.py."
            )
        configs = stream_configs(self.platform, self.eco, graph.storesToIngest, tree)
        return config_rows(self.platform, self.eco, configs, tree)


@dataclass(frozen=True)
class FactoryFile:
    """A factory file as it lies in Airflow's DAG folder.

    Attributes:
        file: its path.
        text: its text.
        settings: the literal PLATFORM in it.
        further: whether each of the further files of a divided platform has the same text, by
            name.
    """

    file: str
    text: str
    settings: dict[str, Any]
    further: dict[str, bool]


@dataclass(frozen=True)
class Installation:
    """One platform: its settings, and what they were read from."""

    name: str
    settings: dict[str, Any]
    model: ModelPlatform | None = None
    files: list[FactoryFile] = field(default_factory=list)

    @property
    def airflow_name(self) -> str:
        """The platform's name in dag ids and file names."""
        return str(self.settings["platform_name"])

    @property
    def table(self) -> str:
        return str(self.settings["config_table"])

    @property
    def credential(self) -> str:
        """The name of the merge store's credential."""
        return str(self.settings["postgres_credential_name"])

    @property
    def address(self) -> tuple[str, int, str]:
        """Host, port and database of the table; the environment wins, as for the factory file."""
        host, port, database = (
            os.environ.get(f"DATASURFACE_POSTGRES_{part}") or self.settings[f"postgres_{key}"]
            for part, key in (("HOST", "hostname"), ("PORT", "port"), ("DATABASE", "database"))
        )
        try:
            return str(host), int(port), str(database)
        except ValueError:
            raise CommandError(f"DATASURFACE_POSTGRES_PORT is {port!r}, not a number.") from None

    def dag_id(self, stream_key: str) -> str:
        return f"{self.airflow_name}__{stream_key}_ingestion"

    @contextmanager
    def transaction(self, action: str) -> Iterator[Connection]:
        """Yield a connection in a transaction on the merge store, which ends with the block.

        Raises:
            CommandError: the login is not in the environment.
            sqlalchemy.exc.SQLAlchemyError: the database refuses; its notes say what and where.
        """
        names = [f"{self.credential}_{part}" for part in ("USER", "PASSWORD")]
        user, password = (os.environ.get(name, "") for name in names)
        if not (user and password):
            raise CommandError(
                f"The table {self.table!r} of platform {self.name!r} needs a login: set the "
                f"environment variables {names[0]} and {names[1]}."
            )
        host, port, database = self.address
        url = store_url((user, password), host, port, database)
        with table_transaction(url, self.name, self.table, action) as connection:
            yield connection


def find_installations(
    model: Path | None, dags: str | None, names: Collection[str], python: str
) -> list[Installation]:
    """Return the named platforms, or all there are, in the order of their names.

    Args:
        model: folder of the model, or None.
        dags: Airflow's DAG folder or a factory file in it, where `python` runs; or None.
        names: names of platforms as in the model; all where it is empty.
        python: the command that starts Airflow's Python; empty for this machine.

    Raises:
        CommandError: nothing is given, it cannot be read, or a platform is not in it.
    """
    if model is None and dags is None:
        raise CommandError(
            "Say where the platform is described: --model FOLDER with eco.py, or --dags FOLDER "
            "with Airflow's factory file."
        )
    models = platforms_of(model) if model else {}
    files = factory_files(dags, python) if dags else {}
    try:
        known = {name: platform_settings(each.platform, each.eco) for name, each in models.items()}
    except ValueError as error:
        raise CommandError(str(error)) from None
    for name, of_platform in files.items():
        known.setdefault(name, of_platform[0].settings)
    for name in names:
        if name not in known:
            places = " or ".join(str(place) for place in (model, dags) if place)
            raise CommandError(
                f"There is no YellowDynamicDataPlatform {name!r} in {places}; there is: "
                f"{', '.join(sorted(known)) or 'none'}."
            )
    wanted = names or (models if models else known)
    return [
        Installation(name, known[name], models.get(name), files.get(name, []))
        for name in sorted(set(wanted))
    ]


def platforms_of(folder: Path) -> dict[str, ModelPlatform]:
    """Load a model, and return its dynamic platforms by name.

    Raises:
        CommandError: the model cannot be loaded or has errors, which are on standard error.
    """
    eco = load_model(folder)
    platforms = {
        platform.name: ModelPlatform(eco, platform)
        for platform in eco.dataPlatforms.values()
        if isinstance(platform, YellowDynamicDataPlatform)
    }
    if not platforms:
        raise CommandError(f"The model in {folder} has no YellowDynamicDataPlatform.")
    return platforms


def load_model(folder: Path) -> Ecosystem:
    try:
        # What a model prints must not get into this command's own output.
        with redirect_stdout(sys.stderr):
            eco, tree = loadEcosystemFromEcoModule(str(folder))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise CommandError(f"The model in {folder} cannot be loaded: {reason}") from error
    if tree is not None:
        refuse_errors(tree, f"The model in {folder} has errors, which are listed above.")
    if eco is None:
        raise CommandError(
            f"The model in {folder} cannot be loaded: there is no eco.py, or a module that it "
            "imports is missing."
        )
    return eco


def refuse_errors(tree: ValidationTree, message: str) -> None:
    """Raise CommandError if the tree has errors, after printing them as DataSurface does."""
    if tree.hasErrors():
        with redirect_stdout(sys.stderr):
            tree.printTree()
        raise CommandError(message)


def factory_files(dags: str, python: str) -> dict[str, list[FactoryFile]]:
    """Return the factory files in a DAG folder by the name of their platform."""
    if python:
        found = ask_airflow(python, "factory_files", path=dags)
    else:
        try:
            found = _airflow_dags.factory_files(dags)
        except _airflow_dags.CannotReadError as error:
            raise CommandError(str(error)) from None
    files: dict[str, list[FactoryFile]] = {}
    for each in found:
        file = FactoryFile(**each)
        files.setdefault(str(file.settings["original_platform_name"]), []).append(file)
    return files
