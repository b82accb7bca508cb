"""One whole installation for these tests: PostgreSQL, Kubernetes, Airflow and the two commands."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from deployment_files import cluster_objects
from kubernetes.client import CoreV1Api
from kubernetes.config import new_client_from_config
from merge_command import Commands
from processors import IS_AIRFLOW_2
from real_cluster import IS_REAL, RealKube
from yellow_models import IMAGE, NAMESPACE, Model, login_secret

from one_machine import LocalKube, NotYetError, Postgres, wait_until
from yellow_dynamic import RunSettings

from .airflows import Airflow2, Airflow3

STEADY, BUSY, SLOW = "Customers", "Orders", "Shipments"
BROKEN, FRAGILE, LEAVING = "Payments", "Returns", "Leads"
STREAMS = (STEADY, BUSY, SLOW, BROKEN, FRAGILE, LEAVING)

#: What the pods run instead of the real job. It knows its stream by the argument --store-name.
JOB = """#!/bin/sh
while [ "$1" != --store-name ]; do shift; done
cd {state} && mkdir -p "$2" && echo run >> "$2/runs"
runs=$(wc -l < "$2/runs")
code=0
case $2 in
    {busy}) [ $((runs % 3)) = 0 ] || code=1;;
    {slow})
        [ ! -e running ] || touch overlap
        touch running; sleep 6; rm running;;
    {broken}) echo '{{"level": "ERROR", "message": "The source is on fire."}}'; code=-1;;
    {fragile}) [ "$runs" != 1 ] || exec sleep 600;;
esac
echo "DATASURFACE_RESULT_CODE=$code"
"""


class Installation:
    """The platform YellowLive as its operator has it: only the factory file in the DAG folder."""

    def __init__(
        self,
        postgres: Postgres,
        folder: Path,
        streams: tuple[str, ...] = STREAMS,
        images: Mapping[str, Path] | None = None,
        job: str = JOB,
        triggers: Mapping[str, str] | None = None,
        airflow_settings: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare an installation.

        Args:
            postgres: The server for the merge store and Airflow's own database.
            folder: For everything else; its name sets the databases' names.
            streams: The streams of the model, each due every minute.
            images: Further container images, as folders of commands.
            job: What the pods run instead of the real job.
            triggers: The triggers of streams that are not due every minute, in the terms of
                `datasurface.md`.
            airflow_settings: Further environment variables of Airflow's services.
        """
        self.postgres = postgres
        self.folder = folder
        self.streams = streams
        self.job = job
        self.triggers = triggers or {}
        self.told: list[str] = []
        self.jobs = folder / "jobs"
        self.model = Model(database=f"merge_{folder.name}")
        self.kube: Any = LocalKube(folder / "kube", {IMAGE: folder / "bin", **(images or {})}, {})
        self.kubeconfig = folder / "kube" / "kubeconfig"
        if IS_REAL:
            self.kube = RealKube()
            self.model.platformArguments["runs"] = RunSettings(podTemplate=self.own_programs())
        postgres.create_database(self.model.database)
        self._login = {"postgres_USER": postgres.user, "postgres_PASSWORD": postgres.password}
        self.parsing_environment = self.make_environment()
        airflow_of_this_release: Any = Airflow2 if IS_AIRFLOW_2 else Airflow3
        self.airflow: Airflow3 = airflow_of_this_release(
            folder / "airflow", postgres, {**self.parsing_environment, **(airflow_settings or {})}
        )
        self.dags = self.airflow.dags_dir

    def make_environment(self) -> dict[str, str]:
        """Return what Airflow needs to read the streams, and to reach Kubernetes."""
        return {
            **self._login,
            "KUBECONFIG": str(self.kubeconfig),
            "PGHOSTADDR": self.postgres.address,
        }

    @contextmanager
    def running(self, seconds: float = 60) -> Iterator[None]:
        """Install and start everything, with a DAG for each of the streams after so long."""
        self.airflow.prepare()
        self.set_up()
        with self.kube:
            self.fill_cluster()
            with self.airflow:
                self.wait_for_dags(self.streams, seconds)
                yield

    def set_up(self) -> None:
        """Bootstrap and merge, put the factory file into the DAG folder, and fill the cluster."""
        for path in (self.jobs, self.folder / "bin"):
            path.mkdir()
        job = self.folder / "bin" / "python"
        job.write_text(
            self.job.format(state=self.jobs, busy=BUSY, slow=SLOW, broken=BROKEN, fragile=FRAGILE)
        )
        job.chmod(0o755)
        self.install()

    def install(self) -> None:
        """Bootstrap and merge, and put the factory files into the DAG folder."""
        commands = self._commands(self.streams)
        for ring in (0, 1):
            succeeded(commands.bootstrap(ring, **self._login))
        self.merge(self.streams)
        for factory in commands.files.glob("yellowlive_factory_dag*.py"):
            factory.rename(self.dags / factory.name)

    def fill_cluster(self) -> None:
        """Create the secrets that the jobs' pods ask for, and a real cluster's account."""
        self.kube.create_secret(NAMESPACE, "postgres", login_secret("postgres", "u", "p"))
        self.kube.create_secret(NAMESPACE, "git", {"token": "t"})
        if isinstance(self.kube, RealKube):
            self.kubeconfig.parent.mkdir(exist_ok=True)
            account = self.kube.prepare(NAMESPACE, cluster_objects(self.model))
            self.kube.write_kubeconfig(self.kubeconfig, NAMESPACE, account)

    def own_programs(self) -> dict[str, Any]:
        """Return a pod template by which a real cluster's pods run the programs of `bin`."""
        folder = str(self.folder)
        path = {"name": "PATH", "value": f"{folder}/bin:/usr/bin:/bin"}
        mount = {"name": "tests", "mountPath": folder}
        base = {"name": "base", "env": [path], "volumeMounts": [mount]}
        volume = {"name": "tests", "hostPath": {"path": folder}}
        return {"spec": {"containers": [base], "volumes": [volume]}}

    def merge(self, streams: tuple[str, ...]) -> None:
        """Run handleModelMerge on a model with these streams, each due every minute."""
        succeeded(self._commands(streams).merge(**self._login))

    def _commands(self, streams: tuple[str, ...]) -> Commands:
        made = (
            f"Store({name!r}, trigger={self.triggers[name]})"
            if name in self.triggers
            else f"Store({name!r})"
            for name in streams
        )
        stores = f"[{', '.join(made)}]"
        return Commands(self.folder / "model", self.model, stores)

    @property
    def kubernetes(self) -> CoreV1Api:
        return CoreV1Api(new_client_from_config(str(self.kube.kubeconfig)))

    def pod_of(self, stream: str) -> str:
        """Return the name of the running pod of a stream, as soon as there is one."""

        def found() -> str:
            for pod in self.kubernetes.list_namespaced_pod(NAMESPACE).items:
                if f"-{stream.lower()}-job-" in pod.metadata.name and pod.status.phase == "Running":
                    return str(pod.metadata.name)
            raise NotYetError(f"No pod of {stream} is running.")

        return str(wait_until(found, seconds=120))

    def runs(self, stream: str) -> list[dict[str, Any]]:
        """Return the started runs of a stream, oldest first."""
        runs = self.airflow.runs(dag_id(stream))
        return sorted((run for run in runs if run["start_date"]), key=lambda run: run["start_date"])

    def ended(self, stream: str, at_least: int = 1) -> list[dict[str, Any]]:
        """Return the ended runs of a stream, oldest first, once there are so many."""

        def enough() -> list[dict[str, Any]]:
            self.airflow.raise_if_ended()
            found = [run for run in self.runs(stream) if run["state"] in ("success", "failed")]
            if len(found) < at_least:
                raise NotYetError(f"{len(found)} of {at_least} runs of {stream} have ended.")
            return found

        runs: list[dict[str, Any]] = wait_until(enough, seconds=240, every=0.5)
        return runs

    def states(self, run: dict[str, Any]) -> dict[str, str]:
        """Return the states of a run's tasks by task id."""
        tasks = self.airflow.task_instances(run["dag_id"], run["dag_run_id"])
        return {task["task_id"]: task["state"] for task in tasks}

    def log(self, run: dict[str, Any], task: str, attempt: int = 1) -> str:
        """Return the log of a task, from Airflow's API."""
        return self.airflow.task_log(run["dag_id"], run["dag_run_id"], task, attempt)

    def wait_for_dags(self, streams: tuple[str, ...], seconds: float = 60) -> None:
        """Wait until Airflow's DAGs are exactly those of these streams."""
        expected = {dag_id(stream) for stream in streams}

        def exactly_these() -> None:
            self.airflow.raise_if_ended()
            assert self.airflow.import_errors() == []
            found = self.airflow.dag_ids()
            if found != expected:
                raise NotYetError(f"Airflow's DAGs are {sorted(found)}, not {sorted(expected)}.")

        wait_until(exactly_these, seconds=seconds)

    def dag_folder_state(self) -> dict[str, tuple[str, int]]:
        """Return content hash and modification time of every file in the DAG folder."""
        return {
            file.name: (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns)
            for file in self.dags.rglob("*.py")
        }

    def insert_row(self, key: str, **changes: Any) -> None:
        """Write or replace a row by hand: the configuration of another stream with changes."""
        self.delete_row(key)
        self.postgres.execute(
            "INSERT INTO yellowlive_airflow_dsg SELECT %s, (config_json::jsonb || %s::jsonb)::text,"
            " 'active', now(), now() FROM yellowlive_airflow_dsg WHERE stream_key = %s",
            [key, json.dumps({"stream_key": key, "store_name": key, **changes}), STEADY],
            database=self.model.database,
        )

    @contextmanager
    def row(self, key: str, **changes: Any) -> Iterator[None]:
        """Have a row that was written by hand in the table for a while, and its DAG in Airflow."""
        self.insert_row(key, **changes)
        self.wait_for_dag(key)
        try:
            yield
        finally:
            self.delete_row(key)

        def gone() -> None:
            if dag_id(key) in self.airflow.dag_ids():
                raise NotYetError(f"The DAG of {key} is still there.")

        wait_until(gone, seconds=60)

    def wait_for_dag(self, stream: str) -> None:
        """Wait until Airflow has a DAG of this stream."""

        def found() -> None:
            if dag_id(stream) not in self.airflow.dag_ids():
                raise NotYetError(f"{stream} has no DAG.")

        wait_until(found, seconds=60)

    def delete_row(self, key: str) -> None:
        self.postgres.execute(
            "DELETE FROM yellowlive_airflow_dsg WHERE stream_key = %s",
            [key],
            database=self.model.database,
        )


def dag_id(stream: str) -> str:
    return f"yellowlive__{stream}_ingestion"


def moment(text: str) -> datetime:
    """Return a time as Airflow's API writes it."""
    return datetime.fromisoformat(text)


def seconds_between(start: str, end: str) -> float:
    return (moment(end) - moment(start)).total_seconds()


def succeeded(process: subprocess.CompletedProcess[str]) -> None:
    assert process.returncode == 0, process.stderr
