"""Resetting a batch: the next run ingests it again from the beginning."""

from __future__ import annotations

import pytest
from job_site import ID, NAME, JobSite
from psycopg2 import sql

from datasurface.md import Ecosystem
from datasurface.md.model_loader import loadEcosystemFromEcoModule

pytestmark = pytest.mark.embedded


def load(site: JobSite) -> Ecosystem:
    eco, tree = loadEcosystemFromEcoModule(str(site.folder))
    assert eco is not None and tree is not None and not tree.hasErrors()
    return eco


def reset(site: JobSite, store: str = "Store1", dataset: str | None = None) -> str:
    eco = load(site)
    platform = eco.getDataPlatformOrThrow(site.spec["platform"])
    return platform.resetBatchState(eco, store, dataset)


def test_reset_batch_is_ingested_again_under_its_number(site: JobSite) -> None:
    site.source("INSERT INTO people VALUES (1, 'Ann')")
    assert site.run() == 1
    assert reset(site) == "SUCCESS"
    assert site.batches() == [("Store1", 1, "started")]
    staging = sql.Identifier(site.table("people", "staging"))
    assert site.merge(sql.SQL("SELECT count(*) FROM {}").format(staging)) == [(0,)]
    site.source("INSERT INTO people VALUES (2, 'Bob')")
    site.cycle()
    assert site.batches() == [("Store1", 1, "committed")]
    assert site.content() == [(1, "Ann"), (2, "Bob")]


def test_reset_lets_a_changed_schema_go_on(site: JobSite) -> None:
    site.source("INSERT INTO people VALUES (1, 'Ann')")
    assert site.run() == 1
    site.write_model(datasets={"people": [ID, {"name": "name", "type": ["VarChar", 200]}]})
    assert "resetBatchState" in site.failure()
    assert reset(site) == "SUCCESS"
    site.cycle()
    assert site.content() == [(1, "Ann")]


@pytest.mark.parametrize("column", ["batch_status", "state"])
def test_reset_repairs_a_batch_that_cannot_be_understood(site: JobSite, column: str) -> None:
    assert site.run() == 1
    site.merge(
        sql.SQL("UPDATE yellowlive_batch_metrics SET {} = 'garbage'").format(sql.Identifier(column))
    )
    assert reset(site) == "SUCCESS"
    site.cycle()


def test_committed_batch_is_not_reset(site: JobSite) -> None:
    site.source("INSERT INTO people VALUES (1, 'Ann')")
    site.cycle()
    assert reset(site) == "ERROR: Batch is COMMITTED and cannot be reset"
    assert site.batches() == [("Store1", 1, "committed")]


def test_stream_without_batch_is_not_reset(site: JobSite) -> None:
    assert reset(site).startswith("ERROR: Stream Store1 has no batch")


def test_unknown_store_is_an_error_text(site: JobSite) -> None:
    assert reset(site, "Store9").startswith("ERROR: The model has no datastore Store9")


def test_dataset_name_must_fit_the_kind_of_store(site: JobSite) -> None:
    assert "MULTI_DATASET" in reset(site, dataset="people")
    site.write_model(
        consistency="SINGLE_DATASET", datasets={"people": [ID, NAME], "pets": [ID, NAME]}
    )
    assert reset(site).startswith("ERROR: Store Store1 is ingested dataset by dataset")
    assert site.run(dataset="people") == 1
    assert reset(site, dataset="people") == "SUCCESS"


def test_unreachable_merge_store_is_an_error_text(site: JobSite) -> None:
    site.write_model(merge="nowhere")
    assert "nowhere" in reset(site)
    assert reset(site).startswith("ERROR: ")
