"""What Airflow needs while many jobs run at once: each waited for by its task, or by the triggerer.

python -m benchmarks.waiting [JOBS] [SECONDS]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.__main__ import set_environment
from one_machine import NotYetError, Postgres, end_on_signals, wait_until
from yellow_dynamic import RunSettings

if TYPE_CHECKING:
    from scheduler.installation import Installation

#: Long enough for all jobs to run at once, where their waiting allows it.
JOBS, SECONDS = 200, 240
#: Of the LocalExecutor where the triggerer waits: for jobs that start and that end.
FEW_SLOTS = 4
#: Of the memory that a waiting job takes in its task.
TARGET = 0.1
JOB = """#!/bin/sh
sleep {seconds}
echo "DATASURFACE_RESULT_CODE=0"
"""
STATES = {
    "dag_run": "SELECT state, count(*) FROM dag_run GROUP BY 1",
    "task_instance": "SELECT state, count(*) FROM task_instance "
    "WHERE task_id = 'snapshot_merge_job' GROUP BY 1",
}
#: Between two runs that are asked for: a LocalExecutor that has far more to start than workers
#: to start it blocks.
PACE_SECONDS = 0.3
#: Between two looks at Airflow's processes.
LOOK_SECONDS = 3


@dataclass
class Look:
    """Airflow at a moment: its memory in MB, its processes, and how many jobs are waited for."""

    memory: float
    processes: int
    waiting: int


@dataclass
class Side:
    """What one way of waiting took."""

    name: str
    slots: int
    looks: list[Look]
    seconds: float

    @property
    def idle(self) -> Look:
        return self.looks[0]

    @property
    def peak_memory(self) -> float:
        return max(look.memory for look in self.looks)

    @property
    def most_processes(self) -> int:
        return max(look.processes for look in self.looks)

    @property
    def most_waiting(self) -> int:
        return max(look.waiting for look in self.looks)

    @property
    def per_job(self) -> float:
        """MB that a waiting job took: what Airflow had more at its peak, by the most at once."""
        return (self.peak_memory - self.idle.memory) / self.most_waiting


def main() -> int:
    given = [int(word) for word in sys.argv[1:]]
    jobs, seconds = [*given, *(JOBS, SECONDS)[len(given) :]]
    end_on_signals()
    with (
        tempfile.TemporaryDirectory(prefix="benchmarks-", ignore_cleanup_errors=True) as folder,
        Postgres(Path(folder) / "data") as postgres,
    ):
        set_environment(postgres, Path(folder))
        os.environ["PGHOSTADDR"] = postgres.address
        sides = [
            measure(postgres, Path(folder) / name, jobs, seconds, slots, deferrable=deferrable)
            for name, slots, deferrable in (("task", jobs, False), ("triggerer", FEW_SLOTS, True))
        ]
    return report(sides, jobs, seconds)


def measure(
    postgres: Postgres, folder: Path, jobs: int, seconds: int, slots: int, *, deferrable: bool
) -> Side:
    """Run all jobs at once, and look at Airflow meanwhile."""
    from scheduler.installation import dag_id

    folder.mkdir()
    streams = tuple(f"S{number}" for number in range(jobs))
    with installed(postgres, folder, streams, seconds, slots, deferrable=deferrable) as whole:
        # What the services do at their start is over.
        time.sleep(30)
        looks = [look(whole)]
        begun = time.monotonic()
        for stream in streams:
            whole.airflow.trigger(dag_id(stream))
            time.sleep(PACE_SECONDS)

        def all_done() -> None:
            whole.airflow.raise_if_ended()
            looks.append(look(whole))
            states = states_of(whole, "dag_run")
            if states.get("success", 0) < jobs:
                raise NotYetError(f"The runs are {states}.")

        wait_until(all_done, seconds=1800, every=LOOK_SECONDS)
        took = time.monotonic() - begun
        assert states_of(whole, "dag_run") == {"success": jobs}
    return Side(folder.name, slots, looks, took)


@contextmanager
def installed(
    postgres: Postgres,
    folder: Path,
    streams: tuple[str, ...],
    seconds: int,
    slots: int,
    *,
    deferrable: bool,
) -> Iterator[Installation]:
    # Only now, when Airflow finds its settings.
    from scheduler.installation import Installation

    whole = Installation(
        postgres,
        folder,
        streams,
        job=JOB.replace("{seconds}", str(seconds)),
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


def look(whole: Installation) -> Look:
    """Look at all processes of Airflow: what they have in common counts once."""
    processes = [process for service in whole.airflow._processes for process in service.family()]
    memory = sum(map(own_memory, {process.pid for process in processes}))
    states = states_of(whole, "task_instance")
    waiting = states.get("running", 0) + states.get("deferred", 0)
    return Look(memory, len(processes), waiting)


def own_memory(pid: int) -> float:
    """Return a process's share of the memory, in MB."""
    try:
        return float(psutil.Process(pid).memory_full_info().pss) / 1e6
    except psutil.Error:
        return 0.0


def states_of(whole: Installation, table: str) -> dict[Any, int]:
    """Return how many runs, or tasks that run jobs, are in which state."""
    return dict(whole.postgres.execute(STATES[table], database=f"airflow_{whole.folder.name}"))


def report(sides: list[Side], jobs: int, seconds: int) -> int:
    """Print both sides and their ratio, and return 1 where the target is missed."""
    print(f"\n{jobs} jobs of {seconds} s at once, LocalExecutor:\n")
    print("waited for by  slots  idle MB  peak MB  most jobs  MB a job  processes  all done after")
    for side in sides:
        print(
            f"the {side.name:9}{side.slots:7}{side.idle.memory:9.0f}{side.peak_memory:9.0f}"
            f"{side.most_waiting:11}{side.per_job:10.1f}"
            f"{f'{side.idle.processes} to {side.most_processes}':>11}{side.seconds:14.0f} s"
        )
    ratio = sides[1].per_job / sides[0].per_job
    met = ratio <= TARGET
    print(f"\nmemory of a waiting job: {ratio:.3f} of {TARGET}: {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
