"""DAGs and DAG runs as Airflow has them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import PurePath
from typing import NamedTuple

from yellow_dynamic.factory.rules import REVISION_END, build_dag_id, factory_file_name
from yellow_dynamic.monitoring.in_airflow import Facts
from yellow_dynamic.monitoring.text import counted, format_time

#: The states in which a DAG run, or a task instance, ends.
SUCCESS, FAILED = "success", "failed"
#: The end of the description of a stream's DAG.
DESCRIBED = re.compile(re.escape(REVISION_END).replace(r"\{\}", "([0-9a-f]{12})") + "$")
#: The reason of a failed DAG run is read for this many runs.
REASONS = 50
#: The events of Airflow's audit log by which a DAG is paused or unpaused, of all releases.
PAUSE_EVENTS = (
    "paused", "patch_dag", "api.patch_dag", "ui.patch_dag", "cli_dag_pause", "cli_dag_unpause",
)  # fmt: skip
#: The event and the owner of an entry that says that Airflow itself paused a DAG.
PAUSED_BY_AIRFLOW = ("paused", "scheduler")
#: The states of a task that waits to be started, or for the triggerer.
SCHEDULED, DEFERRED = WAITING_STATES = ("scheduled", "deferred")
#: A triggerer takes a deferred task, and says that it is alive, far more often.
TRIGGERER_SECONDS = 60


def parse_revision(description: str | None) -> str | None:
    """Return the revision with which the description of a DAG ends, or None for none."""
    found = DESCRIBED.search(description or "")
    return found[1] if found else None


@dataclass
class Failure:
    """The last DAG run of a DAG, which failed.

    Attributes:
        run_id: its id in Airflow.
        ended: when it ended, as text.
        reason: the message of its task, or which task failed; None if it was not read.
    """

    run_id: str
    ended: str
    reason: str | None = None

    def __str__(self) -> str:
        text = f"its run {self.run_id} failed at {self.ended}"
        return f"{text}: {self.reason}" if self.reason else text


@dataclass
class DagView:
    """A DAG as Airflow has it.

    Attributes:
        facts: what its documentation says; None if Airflow shows none.
        failure: its last run, if that failed.
        paused_by_airflow: when Airflow paused it because of failed runs; None if Airflow did not.
        pause_unknown: why it is not known who paused it, or None.
        obstacle: why a task of its run cannot start or end, or None.
        good_run: when its last run that succeeded ended (UTC); None for a DAG with batches.
    """

    dag_id: str
    stale: bool
    paused: bool
    import_errors: bool
    file: str | None
    last_parsed: str | None
    facts: Facts | None
    failure: Failure | None = None
    paused_by_airflow: str | None = None
    pause_unknown: str | None = None
    obstacle: str | None = None
    good_run: datetime | None = None


@dataclass
class AirflowView:
    """The DAGs of one platform, and what else Airflow says of it.

    Attributes:
        version: Airflow's.
        dags: by id.
        import_errors: those of the factory files, by path.
        problems: what could not be read.
        time_zone: that of the schedules, or None where no DAG is in service.
    """

    version: str
    dags: dict[str, DagView]
    import_errors: dict[str, str]
    problems: list[str] = field(default_factory=list)
    time_zone: str | None = None


@dataclass
class Pool:
    """A pool of Airflow.

    Attributes:
        slots: how many tasks of one slot run at once; a number below 0 is no limit.
        include_deferred: whether it counts deferred tasks.
    """

    slots: int
    include_deferred: bool


class WaitingTask(NamedTuple):
    """A task in one of the WAITING_STATES; times are with a zone.

    Attributes:
        dag_id: the id of its DAG.
        run_id: the id of its run.
        task_id: its own id.
        state: its state.
        pool: the name of its pool.
        pool_slots: how many slots of the pool it takes.
        deferred: when it was deferred, or None.
        triggerer_seen: when the triggerer that has taken it was alive last, or None.
        executor: the executor that it names; None is the first one.
    """

    dag_id: str
    run_id: str
    task_id: str
    state: str
    pool: str
    pool_slots: int
    deferred: datetime | None = None
    triggerer_seen: datetime | None = None
    executor: str | None = None


def paused_by_airflow(event: str, owner: str | None) -> bool:
    """Return whether an entry of the audit log says that Airflow itself paused a DAG."""
    return (event, owner) == PAUSED_BY_AIRFLOW


def pool_problem(pool: Pool | None, slots: int) -> str | None:
    """Return why a job that takes so many slots of a pool never starts, or None."""
    if pool is None:
        return "Airflow has no such pool, so none of its jobs runs"
    if 0 <= pool.slots < slots:
        return (
            f"it has {counted(pool.slots, 'slot')}, and a job takes {slots}, so that job never runs"
        )
    return None


def executor_names(setting: str) -> set[str]:
    """Return the names by which tasks can ask for the executors of `[core] executor`."""
    # As in "CeleryExecutor,alias:path.of.Executor;team1=LocalExecutor".
    entries = (entry.rpartition("=")[2] for entry in re.split("[,;]", setting))
    return {name.strip().rpartition(".")[2] for entry in entries for name in entry.split(":")}


def find_obstacle(
    task: WaitingTask, pools: dict[str, Pool], executors: set[str] | None, now: datetime
) -> str | None:
    """Return why a task waits without an end, and what to do; None if it only waits its turn.

    Args:
        task: the task.
        pools: Airflow's pools by name.
        executors: the names of Airflow's executors; None if they are not known.
        now: with a zone.
    """
    where = f"the task {task.task_id} of its run {task.run_id}"
    if task.state == SCHEDULED:
        name = task.executor
        if name and executors is not None and name.rpartition(".")[2] not in executors:
            return (
                f"{where} names the executor {name!r}, which Airflow does not have (a cluster "
                "policy sets it: add it to [core] executor, or change the policy)"
            )
        problem = pool_problem(pools.get(task.pool), task.pool_slots)
        return problem and (
            f"{where} cannot start in the pool {task.pool!r}: {problem} (set it: airflow pools set "
            f"{shlex.quote(task.pool)} SLOTS jobs --include-deferred)"
        )
    long_ago = now - timedelta(seconds=TRIGGERER_SECONDS)
    since, seen = task.deferred, task.triggerer_seen
    if since is None or since > long_ago or (seen and seen > long_ago):
        return None
    return (
        f"no triggerer of Airflow waits for {where}, deferred at "
        f"{format_time(since.astimezone(UTC))} (start one: airflow triggerer, with --team-name "
        "TEAM where Airflow has teams)"
    )


def add_obstacles(
    views: dict[str, DagView],
    tasks: list[WaitingTask],
    pools: dict[str, Pool],
    executors: set[str] | None,
) -> None:
    """Add to the DAGs why tasks of theirs wait without an end."""
    now = datetime.now(UTC)
    for task in tasks:
        if task.dag_id in views and (obstacle := find_obstacle(task, pools, executors, now)):
            views[task.dag_id].obstacle = obstacle


def dag_id_prefix(airflow_name: str) -> str:
    """Return the prefix of the ids of a platform's DAGs; DAGs of others may have it too."""
    return build_dag_id(airflow_name, "\0").partition("\0")[0]


def is_factory_file(airflow_name: str, file: str) -> bool:
    """Return whether a path is that of a factory file of the platform."""
    name = PurePath(file).stem
    first = factory_file_name(airflow_name)
    return name == first or (name.startswith(f"{first}_") and name[len(first) + 1 :].isdecimal())


def default_failure_reason(task_id: str) -> str:
    """Return the reason of a failed run whose task pushed none."""
    return f"see the log of its task {task_id}"
