"""What Airflow needs while many jobs run at once and tasks, or the triggerer, wait for them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from scheduler.installation import Installation, dag_id

from benchmarks import Figures
from benchmarks.estate import Estate
from one_machine import NotYetError, Postgres, wait_until
from yellow_dynamic import RunSettings

#: Long enough for all jobs to run at once, where their waiting allows it.
JOBS, SECONDS = 200, 240
#: Of the LocalExecutor where the triggerer waits: for jobs that start and that end.
FEW_SLOTS = 4
JOB = """#!/bin/sh
sleep {seconds}
echo "DATASURFACE_RESULT_CODE=0"
"""
STATES = {
    "dag_run": "SELECT state, count(*) FROM dag_run GROUP BY 1",
    "task_instance": "SELECT state, count(*) FROM task_instance "
    "WHERE task_id = 'snapshot_merge_job' GROUP BY 1",
}
#: Between two DAG runs that are triggered: a LocalExecutor that has far more tasks to start than
#: workers to start them blocks.
PACE_SECONDS = 0.3
#: Between two samples of Airflow's processes.
SAMPLE_SECONDS = 3


@dataclass
class Sample:
    """Airflow at a moment: its memory in MB, its processes, and how many jobs it waits for."""

    memory: float
    processes: int
    waiting: int


def measure(estate: Estate, *, quick: bool) -> Figures:
    del quick
    sides = {
        "the task": run_jobs(estate, "task", JOBS, deferrable=False),
        "the triggerer": run_jobs(estate, "triggerer", FEW_SLOTS, deferrable=True),
    }
    return {"waiting for jobs": {side: {str(JOBS): sides[side]} for side in sides}}


def run_jobs(estate: Estate, name: str, slots: int, *, deferrable: bool) -> dict[str, float]:
    """Run all jobs at once, and sample Airflow's processes meanwhile."""
    folder = estate.folder / name
    folder.mkdir()
    streams = tuple(f"S{number}" for number in range(JOBS))
    with running_installation(
        estate.postgres, folder, streams, slots, deferrable=deferrable
    ) as whole:
        # What the services do at their start is over.
        time.sleep(30)
        idle = take_sample(whole)
        samples = [idle]
        begun = time.monotonic()
        for stream in streams:
            whole.airflow.trigger(dag_id(stream))
            time.sleep(PACE_SECONDS)

        def all_done() -> None:
            whole.airflow.raise_if_ended()
            samples.append(take_sample(whole))
            states = count_states(whole, "dag_run")
            if states.get("success", 0) < JOBS:
                raise NotYetError(f"The runs are {states}.")

        wait_until(all_done, seconds=1800, every=SAMPLE_SECONDS)
        took = time.monotonic() - begun
        assert count_states(whole, "dag_run") == {"success": JOBS}
    peak = max(sample.memory for sample in samples)
    waiting = max(sample.waiting for sample in samples)
    return {
        "jobs": JOBS,
        "job_seconds": SECONDS,
        "slots": slots,
        "idle_megabytes": idle.memory,
        "peak_megabytes": peak,
        "jobs_at_once": waiting,
        "job_megabytes": (peak - idle.memory) / waiting,
        "processes": max(sample.processes for sample in samples),
        "seconds": took,
    }


@contextmanager
def running_installation(
    postgres: Postgres,
    folder: Path,
    streams: tuple[str, ...],
    slots: int,
    *,
    deferrable: bool,
) -> Iterator[Installation]:
    whole = Installation(
        postgres,
        folder,
        streams,
        job=JOB.replace("{seconds}", str(SECONDS)),
        triggers=dict.fromkeys(streams, "ExternallyTriggered('By hand')"),
        airflow_settings={
            "AIRFLOW__CORE__PARALLELISM": str(slots),
            "AIRFLOW__CORE__DEFAULT_POOL_TASK_SLOT_COUNT": str(len(streams)),
            "AIRFLOW__SCHEDULER__MAX_DAGRUNS_PER_LOOP_TO_SCHEDULE": "100",
            # A parse a minute, so that parses are not what is measured.
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "60",
        },
    )
    whole.model.platformArguments |= {"runs": RunSettings(deferrable=deferrable)}
    with whole.running(seconds=300):
        yield whole


def take_sample(whole: Installation) -> Sample:
    """Sample all processes of Airflow; memory that they share counts once."""
    processes = [process for service in whole.airflow._processes for process in service.family()]
    memory = sum(map(read_memory, {process.pid for process in processes}))
    states = count_states(whole, "task_instance")
    waiting = states.get("running", 0) + states.get("deferred", 0)
    return Sample(memory, len(processes), waiting)


def read_memory(pid: int) -> float:
    """Return a process's share of the memory, in MB."""
    try:
        return float(psutil.Process(pid).memory_full_info().pss) / 1e6
    except psutil.Error:
        return 0.0


def count_states(whole: Installation, table: str) -> dict[Any, int]:
    """Return the number of DAG runs, or of tasks that run jobs, by their state."""
    return dict(whole.postgres.execute(STATES[table], database=f"airflow_{whole.folder.name}"))
