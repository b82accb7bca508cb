"""Platforms of any number of streams on a real PostgreSQL, and the files that are compared."""

from __future__ import annotations

import compileall
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
from yellow_dynamic.plugin import YellowDynamicGraphHandler

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

    @property
    def factory_file(self) -> Path:
        return self.dags_folder / "yellowlive_factory_dag.py"

    def bootstrap(self, streams: int) -> None:
        """Run both rings of a platform and keep its factory file."""
        eco = model(streams).build()
        platform = eco.getDataPlatformOrThrow("YellowLive")
        files = bootstrap(platform, eco, 0)
        bootstrap(platform, eco, 1)
        self.factory_file.write_text(files[self.factory_file.name], encoding="utf-8")

    def graph(self, streams: int) -> PlatformPipelineGraph:
        """Return the pipeline graph of that many streams."""
        return model(streams).graph(self.folder)

    def install(self, streams: int) -> None:
        """Make a merge store with that many streams."""
        self.postgres.create_database(database(streams))
        self.bootstrap(streams)
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

    def write_static_files(self, streams: int) -> None:
        """Render the static files of that many streams, and compile them."""
        folder = self.static_folder(streams)
        folder.mkdir()
        graph = model(streams, platformClass=YellowDataPlatform).graph(self.folder)
        tree = ValidationTree(graph.eco)
        handler = graph.platform.createGraphHandler(graph)
        files = handler.renderGraph(graph.platform.getCredentialStore(), tree)
        for name, text in files.items():
            if name.endswith("_ingestion.py"):
                (folder / name).write_text(text, encoding="utf-8")
        compileall.compile_dir(folder, quiet=1)

    def write_yaml_file(self, streams: int) -> None:
        """Write the same DAGs for dag-factory."""
        text = sides.dag_factory_yaml(self.configs(streams))
        self.yaml_file(streams).write_text(text, encoding="utf-8")
