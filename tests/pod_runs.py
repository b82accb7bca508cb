"""Run a DAG's job as Airflow does, in a pod of a local Kubernetes API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from one_machine import LocalKube

IMAGE = "datasurface/datasurface:latest"


class Cluster:
    """A Kubernetes API whose one image runs a script that the test gives."""

    def __init__(self, bin_dir: Path, kube: LocalKube) -> None:
        self.bin_dir = bin_dir
        self.kube = kube

    def job_is(self, script: str) -> None:
        """Let `python` in the image be this shell script."""
        python = self.bin_dir / "python"
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)


class TaskInstance:
    """What the operator asks of a task instance when no Airflow runs it."""

    def __init__(self, task: Any) -> None:
        self.xcoms: dict[str, Any] = {}
        self.dag_id, self.task_id, self.run_id = task.dag_id, task.task_id, "manual__1"
        self.try_number, self.map_index = 1, -1

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value


def run_job(dag: Any, cluster: Cluster) -> TaskInstance:
    """Execute the DAG's task `snapshot_merge_job`, and return what it left of itself."""
    job = dag.get_task("snapshot_merge_job")
    # KUBECONFIG would do, but the client reads it only once, when it is first imported.
    job.config_file = str(cluster.kube.kubeconfig)
    job.startup_check_interval_seconds = 0.2
    ti = TaskInstance(job)
    job.execute({"ti": ti, "task_instance": ti, "dag": dag, "run_id": ti.run_id})
    return ti
