"""A running Airflow of the installed release, with the same questions to ask on either."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from processors import DagProcessor

import one_machine
from one_machine import ChildProcess, Postgres, stop_together


def as_object(value: Any) -> Any:
    """Return what JSON text holds, and any other value as it is."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


class Killed:
    """What both releases have: processes of which one can be lost."""

    _components: Any
    _processes: list[ChildProcess]

    @contextmanager
    def without(self, component: str) -> Iterator[None]:
        """Kill a component and all that it has started, and start it anew at the end."""
        index = list(self._components).index(component)
        # Out of the list, in which one that has ended by itself is an error.
        killed = self._processes.pop(index)
        for process in killed.family():
            process.kill()
        killed.ended_within(10)
        yield
        self._processes.insert(index, self._spawn(component))

    def _spawn(self, *command: str) -> ChildProcess:
        raise NotImplementedError


class Airflow3(one_machine.Airflow, Killed):
    """Airflow 3, asked through its REST API."""

    def __init__(self, folder: Path, postgres: Postgres, env: Mapping[str, str]) -> None:
        """Prepare an Airflow.

        Args:
            folder: AIRFLOW_HOME; its DAG folder is `dags` below it.
            postgres: The server that gets its metadata database.
            env: Further environment variables of all its processes.
        """
        database = f"airflow_{folder.parent.name}"
        postgres.create_database(database)
        self.dags_dir = folder / "dags"
        self.dags_dir.mkdir(parents=True)
        super().__init__(folder, self.dags_dir, postgres.url(database), env=env, triggerer=True)

    @property
    def env(self) -> dict[str, str]:
        """The environment of all its processes."""
        return self._env

    def fail(self, dag_id: str, run_id: str) -> None:
        """Let a run fail, as people do by hand."""
        self._request("PATCH", f"dags/{dag_id}/dagRuns/{run_id}", json={"state": "failed"})

    def create_pool(self, name: str, slots: int) -> None:
        pool = {"name": name, "slots": slots, "include_deferred": True}
        self._request("POST", "pools", json=pool)

    def services(self) -> dict[str, int]:
        """Return the ids of the living services, which are new after a restart."""
        jobs = self.get("jobs", is_alive=True)["jobs"]
        return {job["job_type"]: job["id"] for job in jobs}

    def tags(self, dag_id: str) -> set[str]:
        return {tag["name"] for tag in self.get(f"dags/{dag_id}/details")["tags"]}

    def record(self, dag_id: str, run_id: str, task_id: str, key: str) -> tuple[Any, Any]:
        """Return an XCom of a task, and the rendered field of its name."""
        task = f"dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task_id}"
        xcom = self.get(f"{task}/xcomEntries/{key}", deserialize=False)["value"]
        return as_object(xcom), as_object(self.get(task)["rendered_fields"].get(key))

    def asset_events(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the events of all Assets, each with what it carries."""
        events = self.get("assets/events", limit=100)["asset_events"]
        return [(event["uri"], event["extra"]) for event in events]


#: What the button of Airflow 2's page does.
FAIL = """
import sys
from airflow.api.common.mark_tasks import set_dag_run_state_to_failed
from airflow.models import DagBag
dag = DagBag(read_dags_from_db=True).get_dag(sys.argv[1])
set_dag_run_state_to_failed(dag=dag, run_id=sys.argv[2], commit=True)
"""


class Airflow2(DagProcessor, Killed):
    """Airflow 2.11 with the LocalExecutor, asked through its database, its command and its logs.

    Answers have the shape of those of Airflow 3's REST API.
    """

    _components = ("dag-processor", "scheduler", "triggerer")

    def __init__(self, folder: Path, postgres: Postgres, env: Mapping[str, str]) -> None:
        """Prepare an Airflow.

        Args:
            folder: For everything it keeps.
            postgres: The server that gets its metadata database.
            env: Further environment variables of all its processes.
        """
        folder.mkdir()
        tuning = {
            "AIRFLOW__CORE__PARALLELISM": "6",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
            "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "1",
            "AIRFLOW__SCHEDULER__MIN_FILE_PROCESS_INTERVAL": "3",
            "AIRFLOW__SCHEDULER__STALE_DAG_THRESHOLD": "10",
        }
        super().__init__(folder, postgres, {**tuning, **env})
        self.database = f"airflow_{folder.parent.name}"
        self.env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = postgres.url(
            self.database
        ).render_as_string(hide_password=False)
        self.dags_dir.mkdir()
        self._processes: list[ChildProcess] = []

    def prepare(self) -> None:
        """Create the metadata database."""
        self._metadata.create_database(self.database)
        self._run("db", "migrate")

    def start(self) -> None:
        self._processes = [self._spawn(component) for component in self._components]

    def stop(self) -> None:
        stop_together(self._processes, patience=1.5)
        self._processes = []

    def raise_if_ended(self) -> None:
        """Raise `ServiceError` with the end of its log when a process has ended by itself."""
        for process in self._processes:
            process.raise_if_ended()

    def services(self) -> dict[str, int]:
        """Return the ids of the living services, which are new after a restart."""
        jobs = self._rows("SELECT job_type, id FROM job WHERE state = 'running'")
        return {kind: number for kind, number in jobs if kind != "LocalTaskJob"}

    def dag_ids(self) -> set[str]:
        """Return the ids of all DAGs in service."""
        return {dag_id for (dag_id,) in self._rows("SELECT dag_id FROM dag WHERE is_active")}

    def tags(self, dag_id: str) -> set[str]:
        rows = self._rows("SELECT name FROM dag_tag WHERE dag_id = %s", [dag_id])
        return {name for (name,) in rows}

    def trigger(self, dag_id: str) -> str:
        """Start a run of a DAG now and return its run id."""
        before = {run["dag_run_id"] for run in self.runs(dag_id)}
        self._run("dags", "trigger", dag_id)
        [new] = {
            run["dag_run_id"]
            for run in self.runs(dag_id)
            if run["run_type"] == "manual" and not run["conf"]
        } - before
        return str(new)

    def clear(self, dag_id: str, run_id: str) -> None:
        """Let a run that has ended run again."""
        [(moment,)] = self._rows(
            "SELECT execution_date FROM dag_run WHERE dag_id = %s AND run_id = %s",
            [dag_id, run_id],
        )
        at = moment.isoformat()
        self._run("tasks", "clear", dag_id, "--yes", "--start-date", at, "--end-date", at)

    def fail(self, dag_id: str, run_id: str) -> None:
        """Let a run fail, as people do by hand."""
        done = subprocess.run(
            [sys.executable, "-c", FAIL, dag_id, run_id],
            env=self.env,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]

    def create_pool(self, name: str, slots: int) -> None:
        self._run("pools", "set", name, str(slots), "a pool", "--include-deferred")

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return the runs of a DAG, newest first."""
        rows = self._rows(
            "SELECT run_id, run_type, state, data_interval_end, queued_at, start_date, end_date, "
            "extract(epoch FROM end_date - start_date)::float, conf "
            "FROM dag_run WHERE dag_id = %s ORDER BY id DESC",
            [dag_id],
        )
        return [
            {
                "dag_id": dag_id,
                "dag_run_id": run_id,
                "run_type": run_type,
                "state": state,
                **{
                    name: moment and moment.isoformat()
                    for name, moment in zip(
                        ("run_after", "queued_at", "start_date", "end_date"), moments, strict=True
                    )
                },
                "duration": duration,
                "conf": pickle.loads(conf) if conf else {},
            }
            for run_id, run_type, state, *moments, duration, conf in rows
        ]

    def record(self, dag_id: str, run_id: str, task_id: str, key: str) -> tuple[Any, Any]:
        """Return an XCom of a task, and the rendered field of its name."""
        [(xcom, rendered)] = self._rows(
            "SELECT value, rendered_fields "
            "FROM xcom JOIN rendered_task_instance_fields USING (dag_id, run_id, task_id) "
            "WHERE dag_id = %s AND run_id = %s AND task_id = %s AND key = %s",
            [dag_id, run_id, task_id, key],
        )
        return json.loads(bytes(xcom)), as_object(as_object(rendered)[key])

    def asset_events(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the events of all Datasets, each with what it carries."""
        rows = self._rows(
            "SELECT uri, event.extra FROM dataset_event AS event "
            "JOIN dataset ON dataset.id = event.dataset_id ORDER BY event.id"
        )
        return [(uri, as_object(extra)) for uri, extra in rows]

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        rows = self._rows(
            "SELECT task_id, state FROM task_instance WHERE dag_id = %s AND run_id = %s",
            [dag_id, run_id],
        )
        return [{"task_id": task_id, "state": state} for task_id, state in rows]

    def task_log(self, dag_id: str, run_id: str, task_id: str, attempt: int = 1) -> str:
        """Return the log of one attempt of a task."""
        folder = self._logs / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task_id}"
        return (folder / f"attempt={attempt}.log").read_text(encoding="utf-8")

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._metadata.execute(query, values, self.database)

    def _run(self, *command: str) -> None:
        process = self._spawn(*command)
        try:
            process.wait(180)
        finally:
            process.stop()
