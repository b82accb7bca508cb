"""The Jobs in the cluster end as their work did: nobody reads a log to learn that it failed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Site
from deployment_files import Manifest, deployment_of, one
from job_cluster import JobCluster
from merge_command import Commands
from transforming import KEYS, transform

from one_machine import Postgres
from yellow_dynamic.plugin import factory_text

pytestmark = pytest.mark.slow

TRANSFORM = "from transforming import transform\ntransform(model)"


@pytest.fixture(scope="module")
def cluster(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobCluster]:
    cluster = JobCluster(tmp_path_factory.mktemp("jobs"), postgres)
    cluster.start()
    yield cluster
    cluster.kube.stop()


def check_in(site: Site, cluster: JobCluster, also: str = "") -> None:
    """Make the site's model the live one."""
    cluster.check_in(Commands(site.folder / "model", site.model, also=also).folder)


def job_of(site: Site, end: str) -> Manifest:
    return one(deployment_of(site.model)[end])


def rows(site: Site) -> list[tuple[Any, ...]]:
    return site.sql("SELECT stream_key, status FROM {table} ORDER BY stream_key")


@pytest.fixture
def merged(site: Site, cluster: JobCluster) -> Site:
    """A platform with one stream, and that model in Git."""
    site.bootstrap()
    site.merge_cleanly()
    check_in(site, cluster)
    return site


def test_jobs_bootstrap_and_merge_in_the_cluster(site: Site, cluster: JobCluster) -> None:
    check_in(site, cluster)
    eco = site.model.build()
    platform: Any = eco.getDataPlatformOrThrow("YellowLive")

    bootstrap = cluster.run(job_of(site, "-bootstrap-job.yaml"))
    merge = cluster.run(job_of(site, "_model_merge_job.yaml"))

    assert bootstrap.condition == merge.condition == "Complete", merge.text
    [[_, _, factory]] = bootstrap.attempts
    assert factory == factory_text(platform, eco)
    assert rows(site) == [("Store1", "active")]
    site.factory_file.write_text(factory)
    assert list(site.parse()) == ["yellowlive__Store1_ingestion"]


def test_job_of_ring_1_makes_the_tables(site: Site, cluster: JobCluster) -> None:
    check_in(site, cluster)

    end = cluster.run(job_of(site, "_ring1_init_job.yaml"))

    assert end.condition == "Complete", end.text
    assert rows(site) == []


def test_merge_job_fails_with_a_wrong_password(merged: Site, cluster: JobCluster) -> None:
    merged.model.postgresCredential = "wrong_login"
    check_in(merged, cluster, "model.postgresCredential = 'wrong_login'")

    end = cluster.run(job_of(merged, "_model_merge_job.yaml"))

    assert end.condition == "Failed"
    assert "password authentication failed" in end.text
    assert "not the password" not in end.text
    merged.model.postgresCredential = "postgres"
    assert rows(merged) == [("Store1", "active")]


@pytest.mark.parametrize(
    "end", ["_model_merge_job.yaml", "_reconcile_views_job.yaml", "_ring1_init_job.yaml"]
)
def test_job_fails_without_a_database(merged: Site, cluster: JobCluster, end: str) -> None:
    job = job_of(merged, end)
    [container] = job["spec"]["template"]["spec"]["containers"]
    # Where nobody listens.
    container["env"].append({"name": "PGHOSTADDR", "value": "127.0.0.254"})
    job["spec"]["backoffLimit"] = 0

    assert cluster.run(job).condition == "Failed"
    assert rows(merged) == [("Store1", "active")]


def test_merge_job_fails_where_the_merge_is_refused(merged: Site, cluster: JobCluster) -> None:
    check_in(merged, cluster, "model.stores = [Store('A_B'), Store('a_b')]")

    end = cluster.run(job_of(merged, "_model_merge_job.yaml"))

    assert end.condition == "Failed"
    assert len(end.attempts) == 3
    assert "would share the table" in end.text
    assert rows(merged) == [("Store1", "active")]


def test_merge_job_whose_pod_was_killed_is_tried_again(merged: Site, cluster: JobCluster) -> None:
    check_in(merged, cluster, "model.stores.append(Store('Store2'))")

    def kill_the_first(name: str, attempt: int) -> None:
        if attempt == 1:
            cluster.kill(name)

    end = cluster.run(job_of(merged, "_model_merge_job.yaml"), kill_the_first)

    assert end.condition == "Complete"
    assert len(end.attempts) == 2
    assert [key for key, _ in rows(merged)] == ["Store1", "Store2"]


def test_merge_job_that_is_killed_every_time_fails(merged: Site, cluster: JobCluster) -> None:
    check_in(merged, cluster, "model.stores.append(Store('Store2'))")

    end = cluster.run(job_of(merged, "_model_merge_job.yaml"), lambda name, _: cluster.kill(name))

    assert end.condition == "Failed"
    # A kill may come after the merge's commit; there is never half of it.
    assert [key for key, _ in rows(merged)] in (["Store1"], ["Store1", "Store2"])


def test_reconcile_job_makes_the_views_of_transformers(site: Site, cluster: JobCluster) -> None:
    transform(site.model)
    site.bootstrap()
    site.merge_cleanly()
    check_in(site, cluster, TRANSFORM)
    assert [key for key, _ in rows(site)] == sorted(KEYS, key=str.lower)

    end = cluster.run(job_of(site, "_reconcile_views_job.yaml"))

    assert end.condition == "Complete", end.text
    view = "yellowlive_producer_inputs_store1_customers_view_live"
    assert site.sql(f"SELECT id, name FROM {view}") == []  # noqa: S608 - not of a model


def test_reconcile_job_fails_where_a_view_cannot_be_made(merged: Site, cluster: JobCluster) -> None:
    merged.sql("CREATE TABLE yellowlive_consumer_livedsg_store1_customers_view_live (x int)")
    job = job_of(merged, "_reconcile_views_job.yaml")
    job["spec"]["backoffLimit"] = 0

    assert cluster.run(job).condition == "Failed"
