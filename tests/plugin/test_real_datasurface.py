"""What a real DataSurface does beside the plugin's part, and the embedded one does not cover."""

from __future__ import annotations

import json
import os
import sys
from typing import Any
from unittest.mock import MagicMock

import pytest
from conftest import Site, import_file, problems, registered_dags, render
from datasurface_host import SOURCE
from merge_command import Commands
from yellow_models import SINGLE, Model, Store, dataset

from datasurface.md import (
    DataPlatformManagedDataContainer,
    DatasetGroup,
    DatasetSink,
    Datastore,
    DataTransformer,
    Workspace,
)
from datasurface.md.codeartifact import PythonRepoCodeArtifact
from datasurface.md.documentation import PlainTextDocumentation
from datasurface.md.repo import GitHubRepository
from datasurface.platforms.yellow import YellowDataPlatform

pytestmark = pytest.mark.skipif(SOURCE is None, reason="needs DATASURFACE_SRC, a real DataSurface")

TRANSFORMERS = "yellowlive_airflow_datatransformer"
SELECT_TRANSFORMERS = (
    "SELECT workspace_name, config_json, status FROM yellowlive_airflow_datatransformer"
)


@pytest.fixture
def transforming(site: Site) -> Site:
    """A model whose transformer reads one stream of each kind, and whose output is consumed."""
    site.model.stores = [Store("Store1"), Store("Each", ["x", "y"], SINGLE)]
    with_transformer(site.model)
    return site


def with_transformer(model: Model) -> None:
    model.workspaces = producers
    model.sinks = [DatasetSink("Totals", "totals")]


def producers() -> list[Workspace]:
    """Return a workspace whose transformer reads a stream of each kind and makes a store."""
    inputs = [DatasetSink("Store1", "customers"), DatasetSink("Each", "x")]
    output = Datastore(
        "Totals",
        datasets=[dataset("totals")],
        documentation=PlainTextDocumentation("What the transformer makes"),
    )
    code = PythonRepoCodeArtifact(GitHubRepository("acme/code", "main"), "1.0")
    return [
        Workspace(
            "Producer",
            DataPlatformManagedDataContainer("Producer container"),
            DatasetGroup("Inputs", sinks=inputs),
            DataTransformer("Summing", output, code),
        )
    ]


def ring_0(model: Model) -> dict[str, str]:
    eco = model.build()
    files: dict[str, str] = eco.getDataPlatformOrThrow(model.platform).generateBootstrapArtifacts(
        eco, 0
    )
    return files


def test_ring_0_replaces_the_factory_file_and_leaves_all_others_as_they_are(site: Site) -> None:
    base = ring_0(Model(database=site.database, platformClass=YellowDataPlatform))
    ours = ring_0(site.model)

    assert ours.keys() >= base.keys()
    assert [name for name in base if ours[name] != base[name]] == ["yellowlive_factory_dag.py"]
    assert "yellowlive_datatransformer_factory_dag.py" in base


def test_merge_leaves_the_transformers_of_the_base_as_they_are(transforming: Site) -> None:
    transforming.model.platformClass = YellowDataPlatform
    eco = transforming.model.build()
    eco.getDataPlatformOrThrow("YellowLive").generateBootstrapArtifacts(eco, 1)
    base_files = transforming.merge_cleanly()
    wanted = transforming.sql(SELECT_TRANSFORMERS)
    assert [name for name, *_ in wanted] == ["Producer"]
    transforming.model = Model(
        database=transforming.database, stores=[Store("Store1"), Store("Each", ["x", "y"], SINGLE)]
    )
    with_transformer(transforming.model)

    transforming.bootstrap()
    files = transforming.merge_cleanly()

    assert transforming.sql(SELECT_TRANSFORMERS) == wanted
    assert transforming.sql("SELECT stream_key FROM {table} ORDER BY 1") == [
        ("Each_x",), ("Each_y",), ("Store1",)
    ]  # fmt: skip
    assert files.keys() == base_files.keys()
    assert files["terraform_code"] == base_files["terraform_code"]
    assert files["YellowLive-secrets.md"].startswith(base_files["YellowLive-secrets.md"])


def test_transformer_waits_for_our_dags_and_its_output_has_its_own(
    transforming: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = transforming.bootstrap()
    transforming.merge_cleanly()
    # DataSurface wrote this file for Airflow 2; the argument is gone in Airflow 3.
    text = files["yellowlive_datatransformer_factory_dag.py"].replace("provide_context=True", "")
    path = transforming.folder / "transformers.py"
    path.write_text(text)
    # It imports this and does not use it.
    monkeypatch.setitem(sys.modules, "airflow.providers.postgres.hooks.postgres", MagicMock())
    for part in ("airflow.providers.postgres", "airflow.providers.postgres.hooks"):
        monkeypatch.setitem(sys.modules, part, MagicMock())
    monkeypatch.setenv("DATASURFACE_POSTGRES_HOST", transforming.postgres.address)
    monkeypatch.setenv("DATASURFACE_POSTGRES_PORT", str(transforming.postgres.port))

    ours, theirs = transforming.parse(), registered_dags(import_file(path))

    assert sorted(ours) == [
        f"yellowlive__{key}_ingestion" for key in ("Each_x", "Each_y", "Store1")
    ]
    assert {"yellowlive__Producer_datatransformer", "yellowlive__Totals_dt_ingestion"} <= set(
        theirs
    )
    assert not ours.keys() & theirs.keys()
    waits = [
        (task.external_dag_id, task.external_task_id)
        for task in theirs["yellowlive__Producer_datatransformer"].tasks
        if hasattr(task, "external_dag_id")
    ]
    assert sorted(dag_id for dag_id, _ in waits) == [
        "yellowlive__Each_x_ingestion",
        "yellowlive__Store1_ingestion",
    ]
    assert all(ours[dag_id].has_task(task_id) for dag_id, task_id in waits)


def test_refused_model_changes_neither_streams_nor_transformers(transforming: Site) -> None:
    transforming.bootstrap()
    transforming.merge_cleanly()
    before = both_tables(transforming)
    transforming.model.stores = [*transforming.model.stores, Store("Each_x")]

    files, tree = render(transforming.model.graph(transforming.folder))

    assert files == {}
    assert "have the key 'Each_x'" in " ".join(problems(tree))
    assert both_tables(transforming) == before


def both_tables(site: Site) -> list[Any]:
    return [
        site.sql(f"SELECT xmin::text, * FROM {table}")  # noqa: S608 - not of a model
        for table in ("yellowlive_airflow_dsg", TRANSFORMERS)
    ]


def test_merge_says_that_the_rows_are_new_where_the_bases_part_fails(transforming: Site) -> None:
    transforming.bootstrap()
    transforming.sql(f"DROP TABLE {TRANSFORMERS}")
    done = Commands(transforming.folder / "model", transforming.model, "[Store('New')]").merge()

    assert done.returncode == 1
    assert "The rows of table 'yellowlive_airflow_dsg' are those of the model" in done.stderr
    assert TRANSFORMERS in done.stderr.rpartition("MergeError")[2]
    assert transforming.sql("SELECT stream_key FROM {table}") == [("New",)]


def test_rows_have_the_values_of_the_bases(site: Site) -> None:
    """The base's factory and jobs read these keys; ours adds some and mends two values."""
    site.model.stores = [Store("Store1"), Store("Each", ["x"], SINGLE)]
    site.model.platformClass = YellowDataPlatform
    eco = site.model.build()
    eco.getDataPlatformOrThrow("YellowLive").generateBootstrapArtifacts(eco, 1)
    site.merge_cleanly()
    base = configs(site)
    site.model = Model(database=site.database, stores=site.model.stores)
    site.bootstrap()
    site.merge_cleanly()

    ours = configs(site)

    assert ours.keys() == base.keys()
    for key, config in ours.items():
        assert {name: base[key].get(name, value) for name, value in config.items()} == config


def configs(site: Site) -> dict[str, Any]:
    return {
        key: json.loads(text)
        for key, text in site.sql("SELECT stream_key, config_json FROM {table}")
    }


def test_package_under_test_is_the_one_that_was_asked_for() -> None:
    import datasurface

    assert SOURCE is not None
    assert str(datasurface.__file__).startswith(f"{SOURCE}{os.sep}")
