"""A namespace of the real cluster for one test, whose jobs run without any volume of the node."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow_names import TaskDeferred
from deployment_files import cluster_objects
from kubernetes import client
from pod_runs import Cluster, TaskInstance, allow_this_thread, context_of, job_of
from real_cluster import RealKube
from yellow_models import NAMESPACE, Model, login_secret

from one_machine import NotYetError, wait_until

DAG_ID = "yellowlive__Store1_ingestion"
DONE = "echo DATASURFACE_RESULT_CODE=0"
#: How the API calls a user that is not root.
NOT_ROOT = {"runAsNonRoot": True, "runAsUser": 10001, "fsGroup": 10001}

_numbers = itertools.count(1)


class Place(Cluster):
    """A namespace with what jobs need, where `python` in the image is the test's script."""

    def __init__(self, kube: RealKube, folder: Path, **labels: str) -> None:
        self.namespace = f"{NAMESPACE}-admission-{next(_numbers)}"
        kube.create_namespace(self.namespace, **labels)
        for name, data in {
            "postgres": login_secret("postgres", "u", "planted-secret"),
            "git": {"token": "planted-token"},
        }.items():
            kube.create_secret(self.namespace, name, data)
        self.manifests = cluster_objects(Model(namespace=self.namespace))
        self.account = kube.prepare(self.namespace, self.manifests)
        path = kube.write_kubeconfig(folder / "kubeconfig", self.namespace, self.account)
        super().__init__(folder / "bin", kube, path)
        self.client = kube.connect()
        self.job_is(DONE)

    def job_is(self, script: str) -> None:
        """Let `python` in the image be this shell script."""
        body = {"metadata": {"name": "programs"}, "data": {"python": f"#!/bin/sh\n{script}\n"}}
        known = [
            each.metadata.name for each in self.api.list_namespaced_config_map(self.namespace).items
        ]
        if "programs" in known:
            self.api.replace_namespaced_config_map("programs", self.namespace, body)
        else:
            self.api.create_namespaced_config_map(self.namespace, body)

    def give_programs(self, pod: Any) -> Any:
        """Let the job's container run the script, which comes from a ConfigMap."""
        source = client.V1ConfigMapVolumeSource(name="programs", default_mode=0o755)
        pod.spec.volumes = [
            *(pod.spec.volumes or ()),
            client.V1Volume(name="programs", config_map=source),
        ]
        job = pod.spec.containers[0]
        mount = client.V1VolumeMount(name="programs", mount_path="/programs")
        job.volume_mounts = [*(job.volume_mounts or ()), mount]
        path = client.V1EnvVar(name="PATH", value="/programs:/opt/venv/bin:/usr/bin:/bin")
        job.env = [*(job.env or ()), path]
        return pod

    def remove(self) -> None:
        """Remove the namespace."""
        self.kube.remove_namespace(self.namespace)

    def quota(self, name: str = "quota", **hard: str) -> None:
        """Create a ResourceQuota; `_` stands for the point in the names of resources."""
        spec = {"hard": {key.replace("_", "."): value for key, value in hard.items()}}
        self.api.create_namespaced_resource_quota(
            self.namespace, {"metadata": {"name": name}, "spec": spec}
        )
        wait_until(lambda: self._find_quota(name), seconds=60)

    def _find_quota(self, name: str) -> None:
        """Raise NotYetError until Kubernetes counts by a quota."""
        quota = self.api.read_namespaced_resource_quota(name, self.namespace)
        if not (quota.status and quota.status.hard):
            raise NotYetError(f"The quota {name} does not count yet.")

    def limits(self, **limit: dict[str, str]) -> None:
        """Create a LimitRange of containers."""
        spec = {"limits": [{"type": "Container", **limit}]}
        self.api.create_namespaced_limit_range(
            self.namespace, {"metadata": {"name": "limits"}, "spec": spec}
        )

    def pods(self) -> list[str]:
        """Return the names of the job's pods that nobody has deleted."""
        found = self.api.list_namespaced_pod(self.namespace, label_selector="dag_id").items
        return [pod.metadata.name for pod in found if not pod.metadata.deletion_timestamp]

    def job(self, dag: Any, start_seconds: int = 60, **attributes: Any) -> Any:
        """Return the operator of a stream's job, for this namespace."""
        job = job_of(dag, self)
        vars(job).update(
            namespace=self.namespace,
            startup_timeout_seconds=start_seconds,
            schedule_timeout_seconds=start_seconds,
        )
        job.startup_check_interval_seconds = 1
        vars(job).update(attributes)
        return job

    def run(self, dag: Any, start_seconds: int = 60, **attributes: Any) -> TaskInstance:
        """Run a stream's job in this namespace, and return what that left of itself."""
        job = self.job(dag, start_seconds, **attributes)
        ti = TaskInstance(job)
        allow_this_thread()
        job.render_template_fields({})
        job.execute(context_of(job, ti))
        return ti

    def run_deferred(self, dag: Any, start_seconds: int = 60, **attributes: Any) -> TaskInstance:
        """Run a stream's job, whose end a trigger waits for."""

        def new_job() -> Any:
            more = {"deferrable": True, "poll_interval": 1, **attributes}
            return self.job(dag, start_seconds, **more)

        job = new_job()
        ti = TaskInstance(job)
        allow_this_thread()
        job.render_template_fields({})
        go_on: Any = functools.partial(job.execute, context_of(job, ti))
        for _ in range(6):
            try:
                go_on()
            except TaskDeferred as handed:
                event = asyncio.run(first_event(handed.trigger))
                job = new_job()
                go_on = functools.partial(
                    job.resume_execution, "trigger_reentry", {"event": event}, context_of(job, ti)
                )
            else:
                return ti
        raise AssertionError("the task is deferred for ever")

    def refusal(self, dag: Any, start_seconds: int = 60, **attributes: Any) -> str:
        """Run a stream's job that fails, and return what the operator reads as the reason."""
        with pytest.raises(Exception) as failed:
            self.run(dag, start_seconds, **attributes)
        assert self.pods() == []
        return str(failed.value)


async def first_event(trigger: Any) -> dict[str, Any]:
    """Return what a trigger says in the end."""
    async for event in trigger.run():
        return dict(event.payload)
    raise AssertionError("the trigger has no event")


def wait_for(reached: Callable[[], Any], what: str, seconds: float = 90) -> None:
    """Wait until something is true."""

    def look() -> None:
        if not reached():
            raise NotYetError(f"not yet: {what}")

    wait_until(look, seconds=seconds, every=0.5)


def template(**spec: Any) -> dict[str, Any]:
    """Return a PodTemplateSpec as rows have it."""
    base = spec.pop("base", {})
    return {"spec": {**spec, "containers": [{"name": "base", **base}]}}
