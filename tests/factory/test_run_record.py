"""What a run keeps of itself: what its job ran with, what it brought, and why it failed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow_names import AirflowException
from batch_rows import write_batch
from conftest import Site
from pod_runs import Cluster, TaskInstance, context_of, job_of, run_job
from yellow_models import HINTED, SINGLE, Store

from one_machine import free_port
from yellow_dynamic.factory.rules import compute_revision

pytestmark = pytest.mark.slow

DAG_ID = "yellowlive__Store1_ingestion"
BATCH: dict[str, Any] = {"inserted": 5, "updated": 2, "deleted": 1, "total": 40}


def prepared(site: Site, cluster: Cluster, dag_id: str = DAG_ID) -> tuple[Any, TaskInstance]:
    """Return a job's operator, its template fields rendered as Airflow does before it runs."""
    job = job_of(site.parse(dag_id)[dag_id], cluster)
    ti = TaskInstance(job)
    job.render_template_fields(context_of(job, ti))
    return job, ti


def test_run_says_with_what_it_ran_and_what_it_brought(installed: Site, cluster: Cluster) -> None:
    write_batch(installed, "Store1", 7, **BATCH)
    cluster.job_is("echo DATASURFACE_RESULT_CODE=0")
    job, ti = prepared(installed, cluster)

    job.execute(context_of(job, ti))

    assert job.template_fields == ("ran_with",)
    assert ti.xcoms["ran_with"] == job.ran_with
    [(text,)] = installed.sql("SELECT config_json FROM {table}")
    settings = {key: json.loads(text)[key] for key in HINTED}
    assert job.ran_with == {
        **({"settings": settings} if settings else {}),
        "stream": "Store1",
        "revision": compute_revision(text),
        "row": "database",
        "image": json.loads(text)["datasurface_docker_image"],
        "arguments": job.arguments,
        "batch": {"number": 7, "status": "committed", **BATCH},
    }
    json.dumps(ti.xcoms)


def test_run_from_the_snapshot_says_so(
    installed: Site, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed.parse()
    monkeypatch.setenv("DATASURFACE_POSTGRES_PORT", str(free_port()))
    cluster.job_is("echo DATASURFACE_RESULT_CODE=0")

    job, ti = prepared(installed, cluster)
    job.execute(context_of(job, ti))

    said = ti.xcoms["ran_with"]["row"]
    assert said.startswith("snapshot, last confirmed by the database at 2")
    assert said.endswith(" UTC")
    assert "batch" not in ti.xcoms["ran_with"]


def test_batch_of_a_single_dataset_is_that_of_its_own_key(site: Site, cluster: Cluster) -> None:
    site.model.stores = [Store("Pair", ["a", "b"], SINGLE)]
    site.bootstrap()
    site.merge_cleanly()
    write_batch(site, "Pair#a", 3)
    write_batch(site, "Pair#b", 8)
    cluster.job_is("echo DATASURFACE_RESULT_CODE=0")
    job, ti = prepared(site, cluster, "yellowlive__Pair_b_ingestion")

    job.execute(context_of(job, ti))

    assert ti.xcoms["ran_with"]["batch"]["number"] == 8


def test_role_that_may_not_read_the_batches_costs_no_run(
    installed: Site, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    role = installed.create_role("no_batches", "a-password-7")
    installed.sql(f"GRANT SELECT ON {{table}} TO {role}")
    installed.login(role, "a-password-7")
    cluster.job_is("echo DATASURFACE_RESULT_CODE=0")
    job, ti = prepared(installed, cluster)

    job.execute(context_of(job, ti))

    assert ti.xcoms["result_code"] == "0"
    assert "batch" not in ti.xcoms["ran_with"]
    assert "What the job brought is not known. The table of batches" in caplog.text
    assert "Run yellowlive-airflow-reader.sql" in caplog.text


def test_record_that_airflow_does_not_keep_costs_no_run(
    installed: Site, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    class Refusing(TaskInstance):
        def xcom_push(self, key: str, value: Any) -> None:
            if key == "ran_with":
                raise OSError("no space")
            super().xcom_push(key, value)

    cluster.job_is("echo DATASURFACE_RESULT_CODE=0")
    job, _ = prepared(installed, cluster)
    ti = Refusing(job)

    job.execute(context_of(job, ti))

    assert ti.xcoms["result_code"] == "0"
    assert "Airflow does not keep ran_with of this run: OSError('no space')." in caplog.text


def test_no_value_of_the_row_is_a_template(installed: Site, cluster: Cluster) -> None:
    branch = "{{ conf }}{% for x in y %}"
    installed.sql(
        "UPDATE {table} SET config_json = (config_json::jsonb || %s::jsonb)::text",
        (json.dumps({"git_repo_branch": branch}),),
    )

    job, _ = prepared(installed, cluster)

    assert branch in job.ran_with["arguments"]


LOGGED = {"level": "ERROR", "message": "Job failed", "exception": None}
RAISED = """Traceback (most recent call last):
  File "x.py", line 1, in <module>
    connect()
OperationalError: FATAL:  password authentication failed for user "erp"
"""


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (json.dumps(LOGGED), "Job failed"),
        (f"{RAISED}(Background: x)\n{json.dumps(LOGGED)}", 'for user "erp"'),
        (json.dumps({**LOGGED, "exception": RAISED}), 'for user "erp"'),
        ("{not json\nTraceback (most recent", None),
        (json.dumps({**LOGGED, "level": "INFO"}), None),
    ],
    ids=["logged", "raised, then logged", "logged with what was raised", "garbage", "no error"],
)
def test_error_in_the_jobs_log_is_handed_on(
    installed: Site, cluster: Cluster, tmp_path: Path, output: str, said: str | None
) -> None:
    (tmp_path / "log").write_text(f"{output}\nDATASURFACE_RESULT_CODE=-1\n")
    cluster.job_is(f"cat {tmp_path / 'log'}")

    ti = run_job(installed.parse()[DAG_ID], cluster)

    found = ti.xcoms.get("job_error")
    assert found is None if said is None else said in str(found)


def test_task_that_fails_keeps_its_reason_and_what_the_job_said(
    installed: Site, cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "log").write_text(RAISED)
    cluster.job_is(f"cat {tmp_path / 'log'}; exit 1")
    job, ti = prepared(installed, cluster)

    with pytest.raises(AirflowException):
        job.execute(context_of(job, ti))

    assert "its container ended with exit code 1 (Error)." in ti.xcoms["failure"]
    assert "The job said: OperationalError: FATAL:" in ti.xcoms["failure"]


# --- Assets -----------------------------------------------------------------------------------


@pytest.fixture
def with_assets(site: Site) -> Site:
    """A store of two datasets on a platform with assets=True."""
    site.model.platformArguments["assets"] = True
    site.model.stores = [Store("Store1", ["people", "orders"])]
    site.bootstrap()
    site.merge_cleanly()
    return site


ASSETS = ["datasurface://yellowlive/Store1/people", "datasurface://yellowlive/Store1/orders"]


def events_of(site: Site, cluster: Cluster) -> tuple[list[str], dict[str, Any]]:
    """Run the job; return the Assets that would have an event, and what these would carry."""
    job, ti = prepared(site, cluster)
    context = context_of(job, ti)
    job.execute(context)
    events = {asset.uri: dict(context["outlet_events"][asset].extra) for asset in job.outlets}
    return [asset.uri for asset in job.outlets], events


def test_each_dataset_is_an_outlet_of_the_job(with_assets: Site, installed: Site) -> None:
    job = with_assets.parse()[DAG_ID].get_task("snapshot_merge_job")

    assert [asset.uri for asset in job.outlets] == ASSETS


def test_committed_batch_is_an_event_that_carries_it(with_assets: Site, cluster: Cluster) -> None:
    write_batch(with_assets, "Store1", 4, **BATCH)
    cluster.job_is("echo DATASURFACE_RESULT_CODE=0")

    outlets, events = events_of(with_assets, cluster)

    assert outlets == ASSETS
    expected = {"number": 4, "status": "committed", **BATCH}
    assert events == dict.fromkeys(ASSETS, expected)


@pytest.mark.parametrize(
    ("code", "status"),
    [("1", "ingested"), ("1", "committed"), ("0", "failed"), ("-1", "committed")],
)
def test_job_that_committed_nothing_is_no_event(
    with_assets: Site, cluster: Cluster, code: str, status: str
) -> None:
    write_batch(with_assets, "Store1", 4, status)
    cluster.job_is(f"echo DATASURFACE_RESULT_CODE={code}")

    assert events_of(with_assets, cluster) == ([], {})


def test_event_comes_where_the_batch_cannot_be_read(with_assets: Site, cluster: Cluster) -> None:
    with_assets.sql("DROP TABLE yellowlive_batch_metrics")
    cluster.job_is("echo DATASURFACE_RESULT_CODE=0")

    assert events_of(with_assets, cluster) == (ASSETS, {uri: {} for uri in ASSETS})


def test_platform_has_no_assets_unless_asked(installed: Site) -> None:
    assert installed.parse()[DAG_ID].get_task("snapshot_merge_job").outlets == []
