"""Run a DAG's job as Airflow does, in a pod of a local Kubernetes API."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from airflow_names import AirflowException, OutletEventAccessors
from kubernetes.client import ApiClient, CoreV1Api
from kubernetes.client import models as k8s
from kubernetes.config import new_client_from_config
from kubernetes.watch import Watch
from real_cluster import LIMIT, RealKube
from yellow_models import NAMESPACE

from one_machine import LocalKube, NotYetError, wait_until

#: The operator reads a kubeconfig even where it only builds a pod.
NO_CLUSTER = """
apiVersion: v1
kind: Config
current-context: none
contexts: [{name: none, context: {cluster: none, user: none}}]
clusters: [{name: none, cluster: {server: "http://127.0.0.1:9"}}]
users: [{name: none, user: {}}]
"""


class Cluster:
    """A Kubernetes API whose one image runs a script that the test gives."""

    def __init__(
        self, bin_dir: Path, kube: LocalKube | RealKube, kubeconfig: Path | None = None
    ) -> None:
        """Take a cluster that runs.

        Args:
            bin_dir: the folder with the image's programs.
            kube: the cluster.
            kubeconfig: how Airflow reaches it, if not as its administrator.
        """
        self.bin_dir = bin_dir
        self.kube: Any = kube
        self.kubeconfig = kubeconfig or kube.kubeconfig

    @cached_property
    def api(self) -> CoreV1Api:
        return CoreV1Api(new_client_from_config(str(self.kube.kubeconfig)))

    def give_programs(self, pod: k8s.V1Pod) -> k8s.V1Pod:
        """Let a pod see this machine's folder of the tests, and run the programs of `bin_dir`.

        A localkube has them in its image.
        """
        if isinstance(self.kube, RealKube):
            folder = str(self.bin_dir.parent.parent)
            here = k8s.V1Volume(name="tests", host_path=k8s.V1HostPathVolumeSource(path=folder))
            pod.spec.volumes = [*(pod.spec.volumes or ()), here]
            mount = k8s.V1VolumeMount(name="tests", mount_path=folder)
            path = k8s.V1EnvVar(name="PATH", value=f"{self.bin_dir}:/usr/bin:/bin")
            for container in pod.spec.containers:
                container.volume_mounts = [*(container.volume_mounts or ()), mount]
                container.env = [*(container.env or ()), path]
        return pod

    def job_is(self, script: str) -> None:
        """Let `python` in the image be this shell script."""
        python = self.bin_dir / "python"
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)

    def pods(self) -> list[str]:
        """Return the names of all pods."""
        return [pod.metadata.name for pod in self.api.list_namespaced_pod(NAMESPACE).items]

    def wait_until_empty(self) -> None:
        """Wait until all pods are gone, which those that never ran take a moment for."""

        def look() -> None:
            if found := self.pods():
                raise NotYetError(f"There are pods: {found}.")

        wait_until(look, seconds=LIMIT, every=0.1)

    @contextmanager
    def once_a_pod_runs(self, act: Callable[[str], Any]) -> Iterator[None]:
        """Do something to the pod that the block starts, as soon as its job runs."""

        def watch() -> None:
            stream = Watch().stream(
                self.api.list_namespaced_pod, namespace=NAMESPACE, timeout_seconds=LIMIT
            )
            for event in stream:
                if event["object"].status.phase == "Running":
                    act(event["object"].metadata.name)
                    return
            raise NotYetError("No pod has run for 30 s.")

        with ThreadPoolExecutor(1) as others:
            done = others.submit(watch)
            try:
                yield
            finally:
                done.result(LIMIT)


class TaskInstance:
    """What the operator asks of a task instance when no Airflow runs it."""

    def __init__(self, task: Any, run_id: str = "manual__1") -> None:
        self.xcoms: dict[str, Any] = {}
        self.dag_id, self.task_id, self.run_id = task.dag_id, task.task_id, run_id
        self.try_number, self.map_index = 1, -1
        self.start_date = datetime.now(UTC)

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value

    def xcom_pull(self, task_ids: str, key: str) -> Any:
        assert task_ids == self.task_id
        return self.xcoms.get(key)


def job_task(dag: Any) -> Any:
    """Return the task of a stream's DAG that runs its job."""
    [task_id] = dag.get_task("check_result").upstream_task_ids
    return dag.get_task(task_id)


def job_of(dag: Any, cluster: Cluster, kubeconfig: Path | None = None) -> Any:
    """Return the operator that runs the DAG's job, ready to be executed on the cluster."""
    return made_ready(job_task(dag), cluster, kubeconfig)


def made_ready(task: Any, cluster: Cluster, kubeconfig: Path | None = None) -> Any:
    """Return a task that runs a pod, ready to be executed on the cluster."""
    # KUBECONFIG would do, but the client reads it only once, when it is first imported.
    task.config_file = str(kubeconfig or cluster.kubeconfig)
    task.startup_check_interval_seconds = 0.2
    if not isinstance(cluster.kube, RealKube):
        # It forgets no pod before that has ended.
        task.kill_seconds = 0
    build = task.build_pod_request_obj
    vars(task)["build_pod_request_obj"] = lambda *args, **options: cluster.give_programs(
        build(*args, **options)
    )
    return task


def context_of(job: Any, ti: TaskInstance) -> dict[str, Any]:
    """Return what Airflow hands to an operator that it executes."""
    return {
        "ti": ti,
        "task_instance": ti,
        "dag": job.dag,
        "run_id": ti.run_id,
        "outlet_events": OutletEventAccessors(),
    }


def run_job(
    dag: Any, cluster: Cluster, *, run_id: str = "manual__1", kubeconfig: Path | None = None
) -> TaskInstance:
    """Execute the task of the DAG that runs its job, and return what that left of itself."""
    job = job_of(dag, cluster, kubeconfig)
    ti = TaskInstance(job, run_id)
    allow_this_thread()
    job.execute(context_of(job, ti))
    return ti


def dag_of(site: Any) -> Any:
    """Return the DAG of a site's stream Store1."""
    return site.parse()["yellowlive__Store1_ingestion"]


def why_the_job_failed(site: Any, cluster: Cluster) -> str:
    """Run a job that fails, and return the reason in the error that ends its task's log."""
    with pytest.raises(AirflowException) as failure:
        run_job(dag_of(site), cluster)
    cluster.wait_until_empty()
    name, _, reason = str(failure.value).removeprefix("The job's pod ").partition(" failed: ")
    assert name.startswith("yellowlive-store1-job-")
    return reason


def change(site: Any, **changes: Any) -> None:
    """Change the configuration of all streams."""
    site.sql(
        "UPDATE {table} SET config_json = (config_json::jsonb || %s::jsonb)::text",
        (json.dumps(changes),),
    )


def allow_this_thread() -> None:
    """Let Airflow 2, which keeps it by thread, execute an operator in this one."""
    try:
        from airflow.models.baseoperator import ExecutorSafeguard
    except ImportError:
        return
    sentinel = getattr(ExecutorSafeguard, "_sentinel", None)
    if sentinel is not None and not hasattr(sentinel, "callers"):
        sentinel.callers = {}


def pod_of(dag: Any) -> Any:
    """Return the pod that the operator would send, but for its random name."""
    job = job_task(dag)
    job.random_name_suffix = False
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as kubeconfig:
        kubeconfig.write(NO_CLUSTER)
        kubeconfig.flush()
        job.config_file = kubeconfig.name
        return ApiClient().sanitize_for_serialization(job.build_pod_request_obj())
