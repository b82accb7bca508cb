"""No two pods of a stream at once, and every run ends, whatever happens to a real Airflow.

YELLOW_DYNAMIC_TIMES multiplies how often each thing happens, 1 if not set.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import psutil
import pytest
from fault_table import FaultTable
from processors import AIRFLOW_VERSION, IS_AIRFLOW_2

from one_machine import NotYetError, Postgres, ServiceError, wait_until

from .installation import NAMESPACE, Installation, dag_id

pytestmark = pytest.mark.scheduler

TIMES = int(os.getenv("YELLOW_DYNAMIC_TIMES", "1"))
FILLED, KILLED, CLEARED, DISABLED, REMOVED = "Filled", "Killed", "Cleared", "Disabled", "Removed"
CUT, TWIN = "Cut", "Twin"
ALL = (FILLED, KILLED, CLEARED, TWIN, DISABLED, REMOVED, CUT)

#: In the half of the year that is over, minute by minute; and when somebody asks.
TRIGGERS = dict.fromkeys(ALL, "ExternallyTriggered('By hand')") | {
    FILLED: "CronTrigger('Minutes', '* * * 1-6 *')"
}
#: A job that notes when another one of its stream runs beside it. It ends by itself, or when it is
#: asked to.
JOB = """#!/bin/sh
while [ "$1" != --store-name ]; do shift; done
cd {state}
trap 'rmdir "running-$2"; exit 143' TERM
mkdir "running-$2" 2>/dev/null || touch "overlap-$2"
case $2 in Killed) n=8;; Cleared|Twin) n=20;; Disabled|Removed) n=25;; Cut) n=600;; *) n=0.2;; esac
sleep $n & wait $!
rmdir "running-$2"
echo "DATASURFACE_RESULT_CODE=0"
"""


@pytest.fixture(scope="module")
def busy(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A running platform whose Airflow finds out soon that a worker is dead."""
    section = "AIRFLOW__SCHEDULER__"
    soon = {
        f"{section}TASK_INSTANCE_HEARTBEAT_TIMEOUT": "6",
        f"{section}TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
        f"{section}TASK_INSTANCE_HEARTBEAT_SEC": "1",
        # Airflow 2, where a cleared task waits as one does that is to be tried again.
        "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "2",
        f"{section}SCHEDULER_ZOMBIE_TASK_THRESHOLD": "6",
        f"{section}ZOMBIE_DETECTION_INTERVAL": "2",
        f"{section}LOCAL_TASK_JOB_HEARTBEAT_SEC": "1",
    }
    whole = Installation(
        postgres,
        tmp_path_factory.mktemp("overlap"),
        ALL,
        job=JOB,
        triggers=TRIGGERS,
        airflow_settings=soon,
    )
    with whole.running():
        yield whole


def has_ended(pod: Any) -> bool:
    """Return whether the job of a pod has ended; Kubernetes changes the phase a moment later."""
    return any(
        container.name == "base" and container.state.terminated
        for container in pod.status.container_statuses or []
    )


@contextmanager
def most_pods(installation: Installation) -> Iterator[Counter[str]]:
    """Count, by stream, how many pods were seen at once that had not ended."""
    most: Counter[str] = Counter()
    ended = threading.Event()
    api = installation.kubernetes

    def look() -> None:
        while not ended.wait(0.05):
            now = Counter(
                pod.metadata.name.split("-")[1].capitalize()
                for pod in api.list_namespaced_pod(NAMESPACE).items
                if pod.status.phase in ("Pending", "Running") and not has_ended(pod)
            )
            for stream, pods in now.items():
                most[stream] = max(most[stream], pods)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield most
    finally:
        ended.set()
        watcher.join()


def assert_no_overlap(installation: Installation, stream: str, most: Counter[str]) -> None:
    assert most[stream] == 1
    assert not (installation.jobs / f"overlap-{stream}").exists()


def states(installation: Installation, stream: str) -> Counter[str]:
    """Return how many runs of a stream are in which state."""
    query = "SELECT state, count(*) FROM dag_run WHERE dag_id = %s GROUP BY 1"
    return Counter(dict(rows(installation, query, dag_id(stream))))


def rows(installation: Installation, query: str, *values: Any) -> list[tuple[Any, ...]]:
    database = f"airflow_{installation.folder.name}"
    return list(installation.postgres.execute(query, values, database=database))


def all_ended(installation: Installation, stream: str, at_least: int, seconds: float) -> None:
    """Wait until so many runs have ended and none is left."""

    def ended() -> None:
        installation.airflow.raise_if_ended()
        found = states(installation, stream)
        if found["running"] + found["queued"] or sum(found.values()) < at_least:
            raise NotYetError(f"The runs of {stream} are {dict(found)}.")

    wait_until(ended, seconds=seconds, every=0.5)


def running_job(installation: Installation, stream: str) -> tuple[str, int]:
    """Return run id and process of the stream's job, once its pod runs."""
    installation.pod_of(stream)

    def found() -> tuple[str, int]:
        query = (
            "SELECT run_id, pid FROM task_instance WHERE dag_id = %s "
            "AND task_id = 'snapshot_merge_job' AND state = 'running' AND pid IS NOT NULL"
        )
        for run_id, pid in rows(installation, query, dag_id(stream)):
            return run_id, pid
        raise NotYetError(f"No job of {stream} runs.")

    run: tuple[str, int] = wait_until(found, seconds=60, every=0.1)
    return run


def airflow(installation: Installation, *command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "airflow", *command],
        env=installation.airflow.env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_backfill_runs_one_job_after_the_other(busy: Installation, faults: FaultTable) -> None:
    runs = 5 * TIMES
    first, last = (
        "2025-06-01T00:00:00+00:00",
        f"2025-06-01T{(runs - 1) // 60:02}:{(runs - 1) % 60:02}:00+00:00",
    )

    with most_pods(busy) as most:
        if IS_AIRFLOW_2:
            airflow(busy, "dags", "backfill", dag_id(FILLED), "-s", first, "-e", last)
        else:
            airflow(
                *(busy, "backfill", "create", "--dag-id", dag_id(FILLED)),
                *("--from-date", first, "--to-date", last, "--max-active-runs", "5"),
            )
        all_ended(busy, FILLED, runs, 60 + 15 * runs)

    assert_no_overlap(busy, FILLED, most)
    # The last minute of the half year has a scheduled run besides.
    assert set(states(busy, FILLED)) == {"success"}
    faults.record(f"backfilled run, Airflow {AIRFLOW_VERSION}", injected=runs, survived=runs)


def test_dead_workers_pod_and_the_next_one_do_not_overlap(
    busy: Installation, faults: FaultTable
) -> None:
    with most_pods(busy) as most:
        for _ in range(TIMES):
            busy.airflow.trigger(dag_id(KILLED))
            _, pid = running_job(busy, KILLED)
            task = psutil.Process(pid)
            worker = task.parent()
            assert worker is not None
            worker.kill()
            with contextlib.suppress(psutil.NoSuchProcess):
                task.kill()
            busy.airflow.trigger(dag_id(KILLED))
            all_ended(busy, KILLED, 2, 180)

    assert_no_overlap(busy, KILLED, most)
    assert states(busy, KILLED) == {"failed": TIMES, "success": TIMES}
    faults.record(f"worker killed, Airflow {AIRFLOW_VERSION}", injected=TIMES, survived=TIMES)


@pytest.mark.parametrize("streams", [[CLEARED], [CLEARED, TWIN]], ids=["one", "two at once"])
def test_cleared_run_waits_for_its_own_ending_pod(
    busy: Installation, faults: FaultTable, streams: list[str]
) -> None:
    for stream in streams:
        busy.airflow.trigger(dag_id(stream))
    before = {stream: running_job(busy, stream) for stream in streams}

    with most_pods(busy) as most:
        for _ in range(TIMES):
            for stream, (run_id, _) in before.items():
                busy.airflow.clear(dag_id(stream), run_id)
            before = {
                stream: wait_until(partial(another_job, busy, stream, pid), seconds=240, every=0.2)
                for stream, (_, pid) in before.items()
            }
        for stream in streams:
            all_ended(busy, stream, 1, 240)

    for stream, (run_id, _) in before.items():
        assert_no_overlap(busy, stream, most)
        [state] = [run["state"] for run in busy.runs(stream) if run["dag_run_id"] == run_id]
        assert state == "success"
    cleared = TIMES * len(streams)
    what = f"running run cleared, Airflow {AIRFLOW_VERSION}"
    faults.record(what, injected=cleared, survived=cleared)


def another_job(installation: Installation, stream: str, before: int) -> tuple[str, int]:
    """Return run id and process of the stream's job, if it is not the former one."""
    job = running_job(installation, stream)
    if job[1] == before:
        raise NotYetError(f"The cleared job of {stream} still runs.")
    return job


@pytest.mark.skipif(IS_AIRFLOW_2, reason="Airflow 2 has no API server.")
def test_task_that_airflow_ends_without_api_server_says_what_may_have_ended_it(
    busy: Installation,
) -> None:
    busy.airflow.trigger(dag_id(CUT))
    running_job(busy, CUT)

    def gone() -> None:
        for pod in busy.kubernetes.list_namespaced_pod(NAMESPACE).items:
            if f"-{CUT.lower()}-job-" in pod.metadata.name:
                raise NotYetError("The job's pod is still there.")

    with busy.airflow.without("api-server"):
        wait_until(gone, seconds=240, every=0.5)
    all_ended(busy, CUT, 1, 180)

    def read_log() -> str:
        try:
            [run] = busy.runs(CUT)
            return busy.log(run, "snapshot_merge_job")
        except ServiceError as error:
            raise NotYetError("The API server has not started yet.") from error

    log = wait_until(read_log, seconds=180, every=1)
    why = log.index("it could not send its heartbeats to Airflow's API server")
    assert why < log.index("Deleting pod ")


@pytest.mark.parametrize("stream", [DISABLED, REMOVED])
def test_run_whose_stream_ends_meanwhile_goes_on_to_its_end(
    busy: Installation, faults: FaultTable, stream: str
) -> None:
    """Its job takes longer than Airflow needs to take a DAG out of service."""
    busy.airflow.trigger(dag_id(stream))
    running_job(busy, stream)
    if stream == DISABLED:
        busy.postgres.execute(
            "UPDATE yellowlive_airflow_dsg SET status = 'disabled' WHERE stream_key = %s",
            [stream],
            database=busy.model.database,
        )
    else:
        busy.delete_row(stream)

    all_ended(busy, stream, 1, 120)

    assert states(busy, stream) == {"success": 1}
    [run] = busy.runs(stream)
    assert busy.states(run) == {
        "snapshot_merge_job": "success",
        "check_result": "success",
        "reschedule_immediately": "skipped",
        "wait_for_trigger": "success",
    }

    def gone() -> None:
        if dag_id(stream) in busy.airflow.dag_ids():
            raise NotYetError(f"{stream} is in service.")

    wait_until(gone, seconds=90, every=0.5)
    faults.record(
        f"stream {stream.lower()} while it runs, Airflow {AIRFLOW_VERSION}", injected=1, survived=1
    )
