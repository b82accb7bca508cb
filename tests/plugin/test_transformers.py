"""The rows of transformers: what a merge makes of them, beside those of the stores."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import Site, problems, render
from datasurface_host import SOURCE
from sqlalchemy import Column, MetaData, String, Table
from transforming import INPUTS, KEYS, OUTPUT, TRANSFORMER, transform
from yellow_models import SINGLE, Store

from datasurface.md import Credential, CronTrigger, DatasetSink, Ecosystem
from datasurface.md.credential import CredentialType
from yellow_dynamic import YellowDynamicDataPlatform

COUNT_OF_BASE = "SELECT count(*) FROM yellowlive_airflow_datatransformer"


@pytest.fixture
def transforming(site: Site) -> Site:
    """A model with a transformer, bootstrapped."""
    transform(site.model)
    site.bootstrap()
    return site


def configs(site: Site) -> dict[str, dict[str, Any]]:
    rows = site.sql("SELECT stream_key, config_json FROM {table} ORDER BY stream_key")
    return {key: json.loads(text) for key, text in rows}


def test_merge_writes_a_row_for_the_transformer_and_one_for_its_output(transforming: Site) -> None:
    transforming.merge_cleanly()

    found = configs(transforming)

    assert sorted(found) == sorted(KEYS)
    work = {name: found[TRANSFORMER].get(name) for name in ("ingestion_type", "workspace_name")}
    assert work == {"ingestion_type": "transformer", "workspace_name": "Producer"}
    for key in (TRANSFORMER, OUTPUT):
        assert found[key]["store_name"] == "Totals"
        assert found[key]["datasets"] == ["totals"]
        assert found[key]["schedule_string"] is None
    assert found[OUTPUT]["ingestion_type"] == "transformer_output"


def test_transformer_starts_after_its_inputs_and_its_output_after_it(transforming: Site) -> None:
    transforming.merge_cleanly()

    found = configs(transforming)

    started_by = {key: config.get("started_by") for key, config in found.items()}
    assert started_by == {
        **dict.fromkeys(KEYS),
        TRANSFORMER: ["Store1", "Each_x"],
        OUTPUT: [TRANSFORMER],
    }
    starting = {key for key, config in found.items() if config.get("starts_others")}
    assert starting == {*INPUTS, TRANSFORMER}


def test_transformer_with_a_cron_waits_for_nobody(site: Site) -> None:
    transform(site.model, trigger=CronTrigger("Nightly", "0 3 * * *"))
    site.bootstrap()
    site.merge_cleanly()

    found = configs(site)

    assert found[TRANSFORMER]["schedule_string"] == "0 3 * * *"
    assert "started_by" not in found[TRANSFORMER]
    assert {key for key, config in found.items() if "starts_others" in config} == {TRANSFORMER}


def test_transformer_may_read_what_another_one_makes(site: Site) -> None:
    transform(site.model)
    made = site.model.workspaces

    def chained() -> list[Any]:
        [first], [second] = made(), made()
        second.name = "Second"
        assert second.dataTransformer is not None
        second.dataTransformer.outputDatastore.name = "Sums"
        [group] = second.dsgs.values()
        group.sinks = {"Totals:totals": DatasetSink("Totals", "totals")}
        return [first, second]

    site.model.workspaces = chained
    site.model.sinks = [DatasetSink("Sums", "totals")]
    site.bootstrap()
    site.merge_cleanly()

    found = configs(site)

    assert found["Second_datatransformer"]["started_by"] == [OUTPUT]
    assert found[OUTPUT]["starts_others"] is True
    assert found["Sums_dt"]["started_by"] == ["Second_datatransformer"]


def test_transformer_that_reads_its_own_output_does_not_wait_for_itself(site: Site) -> None:
    transform(site.model)
    made = site.model.workspaces

    def reading_itself() -> list[Any]:
        [workspace] = made()
        [group] = workspace.dsgs.values()
        group.sinks["Totals:totals"] = DatasetSink("Totals", "totals")
        return [workspace]

    site.model.workspaces = reading_itself
    site.bootstrap()
    site.merge_cleanly()

    assert configs(site)[TRANSFORMER]["started_by"] == ["Store1", "Each_x"]


def test_code_has_a_credential_of_its_own(site: Site) -> None:
    transform(site.model, credential=Credential("Code_Token", CredentialType.API_TOKEN))
    site.bootstrap()
    files = site.merge_cleanly()

    found = configs(site)[TRANSFORMER]

    assert found["code_credential_name"] == "Code_Token"
    assert found["code_credential_secret_name"] == "code-token"
    assert found["git_credential_secret_name"] == "git"
    assert "code-token" in files["YellowLive-secrets.md"]


def test_workspace_that_shares_its_key_with_a_store_is_refused(transforming: Site) -> None:
    transforming.model.stores.append(Store("Producer", ["datatransformer"], SINGLE))

    files, tree = transforming.merge()

    assert files == {}
    assert f"have the key {TRANSFORMER!r}" in " ".join(problems(tree))


def test_datasets_that_would_share_a_table_are_refused(site: Site) -> None:
    site.model.stores = [Store("A_B"), Store("a_b"), Store("Other")]
    site.bootstrap()

    files, tree = site.merge()

    assert files == {}
    found = " ".join(problems(tree))
    assert "A_B.customers" in found and "a_b.customers" in found
    assert "would share the table 'yellowlive_a_b_customers_merge'" in found
    assert site.sql("SELECT count(*) FROM {table}") == [(0,)]


def test_transformer_of_a_cron_may_read_what_another_platform_brings(site: Site) -> None:
    transform(site.model, trigger=CronTrigger("Nightly", "0 3 * * *"))
    graph = site.model.graph(site.folder)
    site.bootstrap()
    graph.storesToIngest.discard("Each")

    files, tree = render(graph)

    assert files, problems(tree)


def test_transformer_that_waits_for_what_no_stream_brings_is_refused(transforming: Site) -> None:
    graph = transforming.model.graph(transforming.folder)
    graph.storesToIngest.discard("Each")

    files, tree = render(graph)

    assert files == {}
    [problem] = [text for text in problems(tree) if "waits for" in text]
    for part in ("'Producer'", "'x'", "'Each'", "CronTrigger"):
        assert part in problem


def test_refused_model_changes_neither_streams_nor_transformers(transforming: Site) -> None:
    transforming.merge_cleanly()
    before = transforming.sql("SELECT xmin::text, * FROM {table} ORDER BY stream_key")
    transforming.model.stores = [*transforming.model.stores, Store("Each_x")]

    files, _ = transforming.merge()

    assert files == {}
    after = transforming.sql("SELECT xmin::text, * FROM {table} ORDER BY stream_key")
    assert after == before


class WithTableOfTransformers(YellowDynamicDataPlatform):
    """A platform whose base has a table of its own for transformers, as every real one has."""

    def getDataTransformerDAGTable(self) -> Table:
        name = Column("workspace_name", String, primary_key=True)
        columns = (name, Column("config_json", String), Column("status", String))
        return Table("yellowlive_airflow_datatransformer", MetaData(), *columns)


def test_table_of_the_base_is_emptied_with_the_same_merge(transforming: Site) -> None:
    if SOURCE is None:
        transforming.model.platformClass = WithTableOfTransformers
        transforming.sql(
            "CREATE TABLE yellowlive_airflow_datatransformer "
            "(workspace_name text, config_json text, status text)"
        )
    transforming.sql(
        "INSERT INTO yellowlive_airflow_datatransformer (workspace_name, config_json, status) "
        "VALUES ('Producer', '{{}}', 'active')"
    )
    transforming.model.stores = [*transforming.model.stores, Store("Each_x")]
    transforming.merge()
    assert transforming.sql(COUNT_OF_BASE) == [(1,)]

    transforming.model.stores.pop()
    transforming.merge_cleanly()

    assert transforming.sql(COUNT_OF_BASE) == [(0,)]


def test_merge_without_the_bases_table_is_none_the_worse(transforming: Site) -> None:
    transforming.sql("DROP TABLE IF EXISTS yellowlive_airflow_datatransformer")

    transforming.merge_cleanly()

    assert sorted(configs(transforming)) == sorted(KEYS)


def test_model_of_tests_is_one_that_lints(site: Site) -> None:
    eco: Ecosystem = transform(site.model).build()

    tree = eco.lintAndHydrateCaches()

    assert not tree.hasErrors(), problems(tree)
