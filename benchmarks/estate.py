"""Platforms of any number of streams on a real PostgreSQL, and the files that are compared."""

from __future__ import annotations

import compileall
import inspect
import json
import os
from pathlib import Path
from typing import Any

import sqlalchemy
from yellow_models import Model, Store, bootstrap

from benchmarks import sides
from datasurface.md import CronTrigger, PlatformPipelineGraph, ValidationTree
from datasurface.platforms.yellow import YellowDataPlatform
from one_machine import Postgres
from yellow_dynamic import YellowDynamicDataPlatform
from yellow_dynamic.plugin import YellowDynamicGraphHandler

FACTORY_FILE = "yellowlive_factory_dag.py"
TABLE = "yellowlive_airflow_dsg"
COLUMNS = ("stream_key", "config_json", "status", "created_at", "updated_at")


def model(streams: int, **changes: Any) -> Model:
    """Return a model with that many stores of two datasets, each one stream."""
    stores = [
        Store(f"Store{number}", trigger=cron(number), credential="source")
        for number in range(streams)
    ]
    return Model(stores=stores, database=database(streams), **changes)


def cron(number: int) -> CronTrigger:
    return CronTrigger("Hourly", f"{number % 60} * * * *")


def database(streams: int) -> str:
    return f"streams_{streams}"


def populate(graph: PlatformPipelineGraph) -> None:
    """Do what handleModelMerge does to the table.

    Raises:
        RuntimeError: when the model has a problem.
    """
    tree = ValidationTree(graph.eco)
    handler = graph.platform.createGraphHandler(graph)
    assert isinstance(handler, YellowDynamicGraphHandler)
    handler.populateDAGConfigurations(graph.eco, tree)
    if tree.hasErrors():
        raise RuntimeError(f"The model has problems: {tree.getErrors()}")


class Estate:
    """The merge stores, one database for each number of streams, and a folder for the files."""

    def __init__(self, postgres: Postgres, folder: Path) -> None:
        self.postgres = postgres
        self.folder = folder
        os.environ |= {
            "PGHOSTADDR": postgres.address,
            "postgres_USER": postgres.user,
            "postgres_PASSWORD": postgres.password,
            "YELLOW_DYNAMIC_SNAPSHOT_DIR": str(folder / "snapshots"),
        }
        self.dags_folder = folder / "dags"
        self.dags_folder.mkdir(exist_ok=True)
        self.short_folder = folder / "short"

    @property
    def factory_file(self) -> Path:
        return self.dags_folder / FACTORY_FILE

    def bootstrap(self, streams: int) -> None:
        """Run both rings of a platform and keep its factory file."""
        self.write_factory_file(streams, self.dags_folder)
        eco = model(streams).build()
        bootstrap(eco.getDataPlatformOrThrow("YellowLive"), eco, 1)

    def write_factory_file(self, streams: int, folder: Path, **arguments: Any) -> None:
        """Write the factory file of a platform with these arguments."""
        eco = model(streams, platformArguments=arguments).build()
        files = bootstrap(eco.getDataPlatformOrThrow("YellowLive"), eco, 0)
        (folder / FACTORY_FILE).write_text(files[FACTORY_FILE], encoding="utf-8")

    def write_short_file(self, streams: int, folder: Path) -> None:
        """Write the short DAG file, and compile the package that it imports, as pip does."""
        self.write_factory_file(streams, folder, factoryFromPackage=True)
        compileall.compile_dir(Path(inspect.getfile(YellowDynamicDataPlatform)).parent, quiet=1)

    def graph(self, streams: int) -> PlatformPipelineGraph:
        """Return the pipeline graph of that many streams."""
        return model(streams).graph(self.folder)

    def install(self, streams: int) -> None:
        """Make a merge store with that many streams."""
        self.postgres.create_database(database(streams))
        self.bootstrap(streams)
        compileall.compile_dir(self.dags_folder, quiet=1)
        populate(self.graph(streams))

    def use(self, streams: int) -> None:
        """Let the factory file and Airflow work on that many streams."""
        os.environ["DATASURFACE_POSTGRES_DATABASE"] = database(streams)

    def url(self, streams: int) -> sqlalchemy.engine.URL:
        return self.postgres.url(database(streams))

    def rows(self, streams: int) -> list[tuple[Any, ...]]:
        return self.postgres.execute(
            f"SELECT {', '.join(COLUMNS)} FROM {TABLE} ORDER BY 1",  # noqa: S608 - our own name
            database=database(streams),
        )

    def configs(self, streams: int) -> list[sides.Config]:
        return [json.loads(row[1]) for row in self.rows(streams)]

    def static_folder(self, streams: int) -> Path:
        return self.folder / f"static_{streams}"

    def yaml_file(self, streams: int) -> Path:
        return self.folder / f"dag_factory_{streams}.yaml"

    def write_static_files(self, streams: int, folder: Path) -> None:
        """Render the static files of that many streams."""
        graph = model(streams, platformClass=YellowDataPlatform).graph(self.folder)
        tree = ValidationTree(graph.eco)
        handler = graph.platform.createGraphHandler(graph)
        files = handler.renderGraph(graph.platform.getCredentialStore(), tree)
        for name, text in files.items():
            if name.endswith("_ingestion.py"):
                (folder / name).write_text(text, encoding="utf-8")

    def write_other_files(self, streams: int) -> None:
        """Write and compile what the factory file is compared with."""
        folder = self.static_folder(streams)
        folder.mkdir()
        self.write_static_files(streams, folder)
        compileall.compile_dir(folder, quiet=1)
        self.write_yaml_file(streams)

    def write_yaml_file(self, streams: int) -> None:
        """Write the same DAGs for dag-factory."""
        text = sides.dag_factory_yaml(self.configs(streams))
        self.yaml_file(streams).write_text(text, encoding="utf-8")
