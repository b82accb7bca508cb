"""What RunSettings of the model make of a stream's DAG, and of the pod that reaches Kubernetes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger
from airflow_names import AirflowException, AirflowSkipException, TaskDeferred
from conftest import Site
from deployment_files import KUBERNETES_VERSIONS
from kubernetes_validate import validate
from pod_runs import NAMESPACE, Cluster, TaskInstance, context_of, job_of, pod_of, run_job
from real_cluster import LIMIT, START
from run_settings import EVERYTHING
from yellow_models import HINTED, IMAGE, PROVIDERS_BOOTSTRAP, Store

from one_machine import NotYetError, wait_until
from yellow_dynamic.monitoring.in_airflow import parse_facts
from yellow_dynamic.run_settings import ARGUMENT_KEYS, RunSettings

DAG_ID = "yellowlive__Store1_ingestion"
DONE = "echo DATASURFACE_RESULT_CODE=0"


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
    assert job.schedule_timeout_seconds == 1200
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

    assert (job.retries, job.pool) == (0, "default_pool")
    assert (job.pod_template_dict, job.active_deadline_seconds) == (None, None)
    assert (job.execution_timeout, plain.dagrun_timeout) == (None, None)
    assert (job.priority_weight, job.container_resources.to_dict()["requests"]) == (
        (0, {"memory": "256M", "cpu": "100m"})
        if PROVIDERS_BOOTSTRAP
        else (1, {"memory": "256Mi", "cpu": "100m"})
    )
    assert parse_facts(plain.doc_md).settings == sorted(HINTED)


def test_page_shows_the_settings(site: Site) -> None:
    page = dag_with(site).doc_md

    assert '"pool": "erp"' in page
    assert '"serviceAccountName": "ingestion"' in page
    every = set(ARGUMENT_KEYS.values()) - {"spread_minutes"}
    assert set(parse_facts(page).settings) == every


def test_pod_of_a_template_has_what_both_say_and_the_jobs_own_wins(site: Site) -> None:
    pod = pod_of(dag_with(site))
    spec, container = pod["spec"], pod["spec"]["containers"][0]

    assert pod["metadata"]["labels"]["cost-centre"] == "4711"
    assert pod["metadata"]["annotations"] == {"example.org/note": "nightly"}
    assert spec["serviceAccountName"] == "ingestion"
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["nodeSelector"] == {"pool": "batch"}
    assert spec["tolerations"][0]["key"] == "batch"
    seccomp = {"seccompProfile": {"type": "RuntimeDefault"}}
    assert spec["securityContext"] == {"runAsNonRoot": True, "runAsUser": 1000} | seccomp
    assert "requiredDuringSchedulingIgnoredDuringExecution" in spec["affinity"]["nodeAffinity"]
    assert (spec["restartPolicy"], spec["activeDeadlineSeconds"]) == ("Never", 1800)
    assert [volume["name"] for volume in spec["volumes"]] == ["scratch", "git-model-cache"]
    assert [container["name"] for container in spec["containers"]] == ["base"]
    assert [mount["name"] for mount in container["volumeMounts"]] == ["scratch", "git-model-cache"]
    assert container["command"] == ["python", "-m", "datasurface.platforms.yellow.jobs"]
    assert container["image"] == IMAGE
    assert container["imagePullPolicy"] == "IfNotPresent"
    assert container["securityContext"] == {"allowPrivilegeEscalation": False}
    assert container["resources"] == EVERYTHING.resources
    variables = {each["name"]: each for each in container["env"]}
    assert len(variables) == len(container["env"])
    assert variables["TZ"]["value"] == "UTC"
    assert variables["postgres_PASSWORD"]["valueFrom"]["secretKeyRef"]["name"] == "postgres"


@pytest.mark.parametrize("release", KUBERNETES_VERSIONS)
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
    validate(pod, KUBERNETES_VERSIONS[-1], strict=True)


# They name nodes that a cluster need not have.
@pytest.mark.localkube
@pytest.mark.slow
def test_job_runs_with_every_setting(site: Site, cluster: Cluster, service_account: str) -> None:
    cluster.job_is(f'echo "$TZ $postgres_PASSWORD" > {site.folder}/seen; {DONE}')

    ti = run_job(dag_with(site, **{**EVERYTHING.given, "deferrable": False}), cluster)

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
    seconds = 2 * START
    dag = dag_with(site, timeout=timedelta(seconds=seconds))
    job = job_of(dag, cluster)
    ti = TaskInstance(job)

    with pytest.raises(AirflowException) as failure:
        job.execute(context_of(job, ti))

    assert f"failed: it did not end within its timeout of {seconds} s." in str(failure.value)
    assert f"within its timeout of {seconds} s" in ti.xcoms["failure"]
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


# --- In the triggerer -------------------------------------------------------------------------

CAN_DEFER = hasattr(KubernetesPodTrigger, "safe_to_cancel")
needs_trigger = pytest.mark.skipif(
    not CAN_DEFER, reason="this release of the provider leaves pods, so no task is deferred"
)


class Deferred:
    """A job whose task has handed it to the triggerer, and what each resumption is given."""

    def __init__(self, site: Site, cluster: Cluster, job: str, **settings: Any) -> None:
        cluster.job_is(job)
        dag_with(site, deferrable=True, **settings)
        self.site, self.cluster = site, cluster
        self.ti = TaskInstance(self._job())
        with pytest.raises(TaskDeferred) as handed:
            self.start()
        self.trigger = handed.value.trigger
        [self.pod] = cluster.pods()

    def _job(self) -> Any:
        return job_of(self.site.parse()[DAG_ID], self.cluster)

    def start(self) -> None:
        job = self._job()
        job.render_template_fields({})
        job.execute(context_of(job, self.ti))

    def go_on(self, status: str, **event: Any) -> None:
        """Resume in a new process, as Airflow does."""
        job = self._job()
        whole = {
            "status": status,
            "name": self.pod,
            "namespace": NAMESPACE,
            "message": "no",
            **event,
        }
        job.resume_execution("trigger_reentry", {"event": whole}, context_of(job, self.ti))

    def fail(self, error: str) -> None:
        job = self._job()
        job.resume_execution("__fail__", {"error": error}, context_of(job, self.ti))

    def wait_for_end(self) -> None:
        def ended() -> None:
            phase = self.cluster.api.read_namespaced_pod(self.pod, NAMESPACE).status.phase
            if phase not in ("Succeeded", "Failed"):
                raise NotYetError(f"The pod is {phase}.")

        wait_until(ended, seconds=LIMIT, every=0.1)


class OfRuns(TaskInstance):
    """A task instance of a later run, which knows the states of tasks in others."""

    def __init__(self, task: Any, states: dict[str, dict[str, str]]) -> None:
        super().__init__(task, "manual__2")
        self.states = states

    def get_task_states(
        self, dag_id: str, task_ids: list[str], run_ids: list[str]
    ) -> dict[str, dict[str, str]]:
        assert (dag_id, task_ids) == (self.dag_id, [self.task_id])
        return {run: self.states[run] for run in run_ids if run in self.states}


@pytest.fixture
def no_pods_are_left(cluster: Cluster) -> Iterator[None]:
    yield
    for name in cluster.pods():
        cluster.api.delete_namespaced_pod(name, NAMESPACE, grace_period_seconds=0)
    cluster.wait_until_empty()


@needs_trigger
@pytest.mark.slow
@pytest.mark.usefixtures("no_pods_are_left")
class TestDeferred:
    """What becomes of a job that the triggerer waits for."""

    def test_task_ends_and_its_pod_goes_on(self, site: Site, cluster: Cluster) -> None:
        deferred = Deferred(site, cluster, f"sleep 1; {DONE}")

        _, given = deferred.trigger.serialize()
        assert (given["pod_name"], given["pod_namespace"]) == (deferred.pod, NAMESPACE)
        settings = deferred.ti.xcoms["ran_with"]["settings"]
        assert settings["deferrable"] is True
        assert settings.keys() == {"deferrable"} | HINTED
        assert "result_code" not in deferred.ti.xcoms

        deferred.wait_for_end()
        deferred.go_on("success")

        assert deferred.ti.xcoms["result_code"] == "0"
        assert cluster.pods() == []

    def test_reason_of_a_failed_pod_is_told(self, site: Site, cluster: Cluster) -> None:
        error = json.dumps({"level": "ERROR", "message": "The source is on fire."})
        deferred = Deferred(site, cluster, f"echo '{error}'; exit 3")
        deferred.wait_for_end()

        with pytest.raises(AirflowException, match=r"ended with exit code 3 \(Error\)"):
            deferred.go_on("failed")

        assert deferred.ti.xcoms["failure"].endswith("The job said: The source is on fire.")
        assert cluster.pods() == []

    def test_pod_that_is_gone_fails_the_task(self, site: Site, cluster: Cluster) -> None:
        deferred = Deferred(site, cluster, "exec sleep 600")
        cluster.api.delete_namespaced_pod(deferred.pod, NAMESPACE, grace_period_seconds=0)
        cluster.wait_until_empty()

        with pytest.raises(AirflowException, match="it was deleted before it ended"):
            deferred.go_on("error")

    def test_triggerer_that_sees_no_end_is_asked_again_and_then_the_task_waits(
        self, site: Site, cluster: Cluster
    ) -> None:
        deferred = Deferred(site, cluster, f"sleep 3; {DONE}")

        for asked in (1, 2, 3):
            with pytest.raises(TaskDeferred) as again:
                deferred.go_on("error", asked_again=asked - 1)
            assert again.value.trigger.serialize()[1]["trigger_kwargs"]["asked_again"] == asked
        deferred.go_on("error", asked_again=3)

        assert deferred.ti.xcoms["result_code"] == "0"
        assert cluster.pods() == []

    def test_job_without_time_left_is_removed(self, site: Site, cluster: Cluster) -> None:
        deferred = Deferred(site, cluster, "exec sleep 60")

        with pytest.raises(AirflowException, match="had no time left: it is late"):
            deferred.go_on("timeout", message="it is late")

        cluster.wait_until_empty()

    def test_trigger_that_failed_costs_no_job(self, site: Site, cluster: Cluster) -> None:
        deferred = Deferred(site, cluster, f"sleep 1; {DONE}")

        deferred.fail("Trigger failure")

        assert deferred.ti.xcoms["result_code"] == "0"
        assert cluster.pods() == []

    def test_trigger_without_time_left_removes_the_pod(self, site: Site, cluster: Cluster) -> None:
        deferred = Deferred(site, cluster, "exec sleep 60")

        with pytest.raises(AirflowException, match="had no time left: Trigger timeout"):
            deferred.fail("Trigger timeout")

        cluster.wait_until_empty()

    @pytest.mark.parametrize("ended", [False, True], ids=["running", "ended"])
    @pytest.mark.parametrize("later", ["try", "run"])
    def test_pod_of_a_try_that_is_over_goes_before_the_next_one_begins(
        self, site: Site, cluster: Cluster, later: str, ended: bool
    ) -> None:
        deferred = Deferred(site, cluster, "exit 0" if ended else "exec sleep 60")
        if ended:
            deferred.wait_for_end()
        if later == "try":
            deferred.ti.try_number = 2
        else:
            deferred.ti = OfRuns(deferred.ti, {"manual__1": {deferred.ti.task_id: "failed"}})

        with pytest.raises(TaskDeferred):
            deferred.start()

        [pod] = cluster.pods()
        assert pod != deferred.pod

    def test_pod_of_a_run_that_waits_stays(
        self, site: Site, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        deferred = Deferred(site, cluster, "exec sleep 60")
        deferred.ti = OfRuns(deferred.ti, {"manual__1": {deferred.ti.task_id: "deferred"}})
        job = deferred._job()
        monkeypatch.setitem(job.get_or_create_pod.__globals__, "START_SECONDS", 3)

        with pytest.raises(AirflowException, match="still runs, and no two run at once"):
            job.execute(context_of(job, deferred.ti))

        assert cluster.pods() == [deferred.pod]

    def test_stream_that_has_ended_meanwhile_goes_on(self, site: Site, cluster: Cluster) -> None:
        deferred = Deferred(site, cluster, f"sleep 1; {DONE}")
        site.sql("UPDATE {table} SET status = 'disabled'")
        deferred.wait_for_end()
        job = job_of(site.parse(DAG_ID)[DAG_ID], cluster)
        event = {"status": "success", "name": deferred.pod, "namespace": NAMESPACE}

        job.resume_execution("trigger_reentry", {"event": event}, context_of(job, deferred.ti))

        assert deferred.ti.xcoms["result_code"] == "0"
        with pytest.raises(AirflowSkipException):
            job_of(site.parse(DAG_ID)[DAG_ID], cluster).execute(context_of(job, deferred.ti))


@pytest.mark.slow
@pytest.mark.skipif(CAN_DEFER, reason="the trigger of this release of the provider removes pods")
def test_task_waits_itself_where_the_trigger_would_leave_pods(
    site: Site, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.job_is(DONE)

    assert run_job(dag_with(site, deferrable=True), cluster).xcoms["result_code"] == "0"
    assert "so this task waits for its job itself" in caplog.text
