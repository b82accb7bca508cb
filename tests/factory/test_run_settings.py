"""What RunSettings of the model make of a stream's DAG, and of the pod that reaches Kubernetes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from airflow_names import AirflowException
from conftest import Site
from kubernetes_validate import validate
from pod_runs import NAMESPACE, Cluster, TaskInstance, context_of, job_of, pod_of, run_job
from run_settings import EVERYTHING
from yellow_models import Store

from yellow_dynamic.command.in_airflow import facts_of
from yellow_dynamic.contract import RUN_KEYS
from yellow_dynamic.plugin import RunSettings

DAG_ID = "yellowlive__Store1_ingestion"
DONE = "echo DATASURFACE_RESULT_CODE=0"
#: The oldest and the newest Kubernetes that the project runs on.
KUBERNETES = ("1.31", "1.37")


def dag_with(site: Site, **settings: Any) -> Any:
    """Return the DAG of a stream whose jobs run by these settings."""
    given = RunSettings(**settings) if settings else EVERYTHING
    site.model.platformArguments = {"runs": given}
    site.bootstrap()
    site.merge_cleanly()
    return site.parse()[DAG_ID]


@pytest.fixture
def service_account(cluster: Cluster) -> Iterator[str]:
    """The one that the settings name."""
    account = {"metadata": {"name": "ingestion"}}
    cluster.api.create_namespaced_service_account(NAMESPACE, account)
    yield "ingestion"
    cluster.api.delete_namespaced_service_account("ingestion", NAMESPACE)


def test_task_has_what_the_settings_say(site: Site) -> None:
    dag = dag_with(site)
    job, *others = dag.tasks

    assert (job.retries, job.retry_delay) == (2, timedelta(seconds=1))
    assert (job.pool, job.pool_slots, job.priority_weight, job.queue) == ("erp", 2, 7, "heavy")
    assert (job.startup_timeout_seconds, job.active_deadline_seconds) == (1200, 1800)
    # It may have waited an hour for a former pod, and for its own start.
    assert job.execution_timeout == timedelta(hours=1, minutes=20 + 30 + 5)
    assert dag.dagrun_timeout == timedelta(hours=3)
    for task in others:
        assert (task.retries, task.pool, task.queue) == (0, "default_pool", "default")
        assert task.execution_timeout is None


def test_settings_of_a_stream_are_not_those_of_another(site: Site) -> None:
    site.model.stores = [Store("Store1"), Store("Store2")]
    site.model.platformArguments = {"runsOf": {"Store1": EVERYTHING}}
    site.bootstrap()
    site.merge_cleanly()

    dags = site.parse()
    plain = dags["yellowlive__Store2_ingestion"]
    job = plain.get_task("snapshot_merge_job")

    assert (job.retries, job.pool, job.priority_weight) == (0, "default_pool", 1)
    assert (job.pod_template_dict, job.active_deadline_seconds) == (None, None)
    assert (job.execution_timeout, plain.dagrun_timeout) == (None, None)
    assert job.container_resources.to_dict()["requests"] == {"memory": "256Mi", "cpu": "100m"}
    assert facts_of(plain.doc_md).settings == []


def test_page_shows_the_settings(site: Site) -> None:
    page = dag_with(site).doc_md

    assert '"pool": "erp"' in page
    assert '"serviceAccountName": "ingestion"' in page
    every = set(RUN_KEYS.values()) - {"spread_minutes"}
    assert set(facts_of(page).settings) == every


def test_pod_of_a_template_has_what_both_say_and_the_jobs_own_wins(site: Site) -> None:
    pod = pod_of(dag_with(site))
    spec, container = pod["spec"], pod["spec"]["containers"][0]

    assert pod["metadata"]["labels"]["cost-centre"] == "4711"
    assert pod["metadata"]["annotations"] == {"example.org/note": "nightly"}
    assert spec["serviceAccountName"] == "ingestion"
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["nodeSelector"] == {"pool": "batch"}
    assert spec["tolerations"][0]["key"] == "batch"
    assert spec["securityContext"] == {"runAsNonRoot": True, "runAsUser": 1000}
    assert "requiredDuringSchedulingIgnoredDuringExecution" in spec["affinity"]["nodeAffinity"]
    assert (spec["restartPolicy"], spec["activeDeadlineSeconds"]) == ("Never", 1800)
    assert [volume["name"] for volume in spec["volumes"]] == ["scratch", "git-model-cache"]
    assert [container["name"] for container in spec["containers"]] == ["base"]
    assert [mount["name"] for mount in container["volumeMounts"]] == ["scratch", "git-model-cache"]
    assert container["command"] == ["python", "-m", "datasurface.platforms.yellow.jobs"]
    assert container["image"] == "datasurface/datasurface:latest"
    assert container["imagePullPolicy"] == "IfNotPresent"
    assert container["securityContext"] == {"allowPrivilegeEscalation": False}
    assert container["resources"] == EVERYTHING.resources
    variables = {each["name"]: each for each in container["env"]}
    assert len(variables) == len(container["env"])
    assert variables["TZ"]["value"] == "UTC"
    assert variables["postgres_PASSWORD"]["valueFrom"]["secretKeyRef"]["name"] == "postgres"


@pytest.mark.parametrize("release", KUBERNETES)
@pytest.mark.parametrize("settings", [{}, {"retries": 0}], ids=["every setting", "none"])
def test_pod_is_valid_for_kubernetes(site: Site, settings: dict[str, Any], release: str) -> None:
    pod = pod_of(dag_with(site, **settings))

    validate(pod, release, strict=True)


def test_sidecar_of_a_template_stands_beside_the_job(site: Site) -> None:
    proxy = {"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"}
    logs = {"name": "logs", "image": "logs:1"}
    spec = {"initContainers": [proxy], "containers": [logs, {"name": "base"}]}

    pod = pod_of(dag_with(site, podTemplate={"spec": spec}))

    containers = pod["spec"]["containers"]
    assert [each["name"] for each in containers] == ["base", "logs"]
    assert containers[0]["args"]
    assert (containers[1]["image"], "args" in containers[1]) == ("logs:1", False)
    assert pod["spec"]["initContainers"] == [proxy]
    validate(pod, KUBERNETES[-1], strict=True)


@pytest.mark.slow
def test_job_runs_with_every_setting(site: Site, cluster: Cluster, service_account: str) -> None:
    cluster.job_is(f'echo "$TZ $postgres_PASSWORD" > {site.folder}/seen; {DONE}')

    ti = run_job(dag_with(site), cluster)

    assert ti.xcoms["result_code"] == "0"
    assert (site.folder / "seen").read_text() == "UTC planted-secret\n"
    assert cluster.pods() == []


@pytest.mark.slow
def test_pod_that_kubernetes_refuses_is_told_with_its_words(site: Site, cluster: Cluster) -> None:
    with pytest.raises(AirflowException, match='serviceaccount "ingestion" not found'):
        run_job(dag_with(site), cluster)


def test_record_of_a_run_has_its_settings(site: Site) -> None:
    job = dag_with(site).get_task("snapshot_merge_job")

    job.render_template_fields({})

    assert job.ran_with["settings"]["pool"] == "erp"
    json.dumps(job.ran_with)


@pytest.mark.slow
def test_hung_job_ends_at_its_timeout_and_its_pod_is_gone(site: Site, cluster: Cluster) -> None:
    cluster.job_is("exec sleep 600")
    dag = dag_with(site, timeout=timedelta(seconds=2))
    job = job_of(dag, cluster)
    ti = TaskInstance(job)

    with pytest.raises(AirflowException) as failure:
        job.execute(context_of(job, ti))

    assert "failed: it did not end within its timeout of 2 s." in str(failure.value)
    assert "within its timeout of 2 s" in ti.xcoms["failure"]
    assert cluster.pods() == []
    cluster.job_is(DONE)
    assert run_job(site.parse()[DAG_ID], cluster, run_id="next").xcoms["result_code"] == "0"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("job", "reason"),
    [
        ("echo DATASURFACE_RESULT_CODE=-1", "The job reported an error"),
        ("echo all quiet", "The job printed no line DATASURFACE_RESULT_CODE=N"),
    ],
)
def test_job_that_reports_an_error_is_tried_again(
    site: Site, cluster: Cluster, job: str, reason: str
) -> None:
    error = json.dumps({"level": "ERROR", "message": "The source is on fire."})
    cluster.job_is(f"echo '{error}'; {job}")
    dag = dag_with(site, retries=1)
    task = job_of(dag, cluster)
    ti = TaskInstance(task)

    with pytest.raises(AirflowException, match=reason):
        task.execute(context_of(task, ti))

    assert ti.xcoms["failure"].startswith(reason)
    assert ti.xcoms["failure"].endswith("The job said: The source is on fire.")
    assert cluster.pods() == []


@pytest.mark.slow
def test_job_with_more_to_bring_is_not_tried_again(site: Site, cluster: Cluster) -> None:
    cluster.job_is("echo DATASURFACE_RESULT_CODE=1")

    assert run_job(dag_with(site, retries=1), cluster).xcoms["result_code"] == "1"
