"""What a real DataSurface does beside the plugin's part, and the embedded one does not cover."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from conftest import Site
from datasurface_host import SOURCE
from pytest_mock import MockerFixture
from transforming import transform
from yellow_models import PROVIDERS_BOOTSTRAP, SINGLE, Model, Store, bootstrap

from datasurface.md import ValidationTree
from datasurface.platforms.yellow import YellowDataPlatform
from datasurface.platforms.yellow.yellow_dp import YellowGraphHandler
from yellow_dynamic.factory.rules import build_dag_id
from yellow_dynamic.population import MergeError

pytestmark = pytest.mark.skipif(SOURCE is None, reason="needs DATASURFACE_SRC, a real DataSurface")


#: DataSurface 0.0.57 cannot merge a store of two datasets that are ingested one by one.
EACH = ["x"] if PROVIDERS_BOOTSTRAP else ["x", "y"]


def ring_0(model: Model) -> dict[str, str]:
    eco = model.build()
    files: dict[str, str] = bootstrap(eco.getDataPlatformOrThrow(model.platform), eco, 0)
    return files


def test_ring_0_replaces_what_runs_dags_and_jobs_and_leaves_the_rest_as_it_is(site: Site) -> None:
    base = ring_0(Model(database=site.database, platformClass=YellowDataPlatform))
    ours = ring_0(site.model)

    assert ours.keys() >= base.keys()
    assert {name for name in base if ours[name] == base[name]} == {"kubernetes-bootstrap.yaml"}


def test_merge_renders_the_files_of_the_base(site: Site) -> None:
    transform(site.model, each=EACH).platformClass = YellowDataPlatform
    eco = site.model.build()
    bootstrap(eco.getDataPlatformOrThrow("YellowLive"), eco, 1)
    base = site.merge_cleanly()
    site.model = transform(Model(database=site.database), each=EACH)
    site.bootstrap()

    ours = site.merge_cleanly()

    assert ours.keys() == base.keys()
    assert ours["terraform_code"] == base["terraform_code"]


def test_transformers_read_and_write_what_the_bases_do(site: Site) -> None:
    """The base knows inputs by the ids of their DAGs; ours has the same ids."""
    transform(site.model, each=EACH).platformClass = YellowDataPlatform
    eco = site.model.build()
    bootstrap(eco.getDataPlatformOrThrow("YellowLive"), eco, 1)
    site.merge_cleanly()
    [(text,)] = site.sql("SELECT config_json FROM yellowlive_airflow_datatransformer")
    base = json.loads(text)
    site.model = transform(Model(database=site.database), each=EACH)
    site.bootstrap()
    site.merge_cleanly()

    ours = configs(site)["Producer_datatransformer"]

    # DataSurface 0.0.57 waits for DAGs that it gives other ids itself.
    inputs = [dag_id.replace("#", "_") for dag_id in base["input_dag_ids"]]
    assert [build_dag_id("yellowlive", key) for key in ours["started_by"]] == inputs
    assert ours["datasets"] == base["output_dataset_list"]
    assert ours["store_name"] == base["output_datastore_name"]
    assert ours["workspace_name"] == base["workspace_name"]


def test_rows_of_the_base_serve_our_factory_file_until_the_merge(site: Site) -> None:
    site.model.stores = [Store("Store1"), Store("Each", ["x"], SINGLE)]
    site.model.platformClass = YellowDataPlatform
    eco = site.model.build()
    bootstrap(eco.getDataPlatformOrThrow("YellowLive"), eco, 1)
    site.merge_cleanly()
    site.model = Model(database=site.database)
    site.factory_file.write_text(ring_0(site.model)[site.factory_file.name])

    dags = site.parse()

    assert sorted(dags) == ["yellowlive__Each_x_ingestion", "yellowlive__Store1_ingestion"]
    assert not any("config-error" in dag.tags for dag in dags.values())


def test_merge_says_that_the_rows_are_new_where_the_bases_part_fails(
    site: Site, mocker: MockerFixture
) -> None:
    site.bootstrap()
    site.model.stores = [Store("New")]
    # No model is known that only this last step of the base refuses.
    mocker.patch.object(
        YellowGraphHandler,
        "generateOperationalNetworkPolicy",
        lambda _, __, tree: tree.addProblem("No network policy"),
    )
    graph = site.model.graph(site.folder)
    handler = graph.platform.createGraphHandler(graph)

    with pytest.raises(
        MergeError, match=r"(?s)are those of the model.*No network policy"
    ) as failed:
        handler.renderGraph(graph.platform.getCredentialStore(), ValidationTree(graph.eco))

    assert "yellowlive_airflow_dsg" in str(failed.value)
    assert site.sql("SELECT stream_key FROM {table}") == [("New",)]


def test_rows_have_the_values_of_the_bases(site: Site) -> None:
    """The base's factory and jobs read these keys; ours adds some and mends two values."""
    site.model.stores = [Store("Store1"), Store("Each", ["x"], SINGLE)]
    site.model.platformClass = YellowDataPlatform
    eco = site.model.build()
    bootstrap(eco.getDataPlatformOrThrow("YellowLive"), eco, 1)
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
