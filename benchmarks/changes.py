"""What Airflow pays while nothing changes, and how long a change of a row takes to arrive."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
from watching_airflow import WatchingAirflow
from yellow_models import bootstrap

from benchmarks import Figures
from benchmarks.estate import TABLE, Estate, database, model
from one_machine import NotYetError, wait_until
from yellow_dynamic.factory.rules import compute_revision

STREAMS, QUICK_STREAMS = 1_000, 200
STREAMS_IN_A_FILE = 100
IDLE_SECONDS, QUICK_IDLE_SECONDS = 120, 60
#: Between two changes, at most; some come while a file is parsed for the one before.
PAUSE_SECONDS = 10
LONGEST_SECONDS = 900
CHANGE = (
    f"UPDATE {TABLE} SET config_json = regexp_replace(config_json, "  # noqa: S608 - our own name
    '\'"schedule_string": "[^"]*"\', %s) WHERE stream_key = %s RETURNING config_json'
)
COUNT = "SELECT count(*) FROM dag WHERE NOT is_stale"
#: As the scheduler has them.
STORED = (
    "SELECT DISTINCT ON (dag_id) dag_id, data -> 'dag' ->> 'description' FROM serialized_dag "
    "WHERE dag_id = ANY(%s) ORDER BY dag_id, created_at DESC"
)


def measure(estate: Estate, *, quick: bool) -> Figures:
    streams = QUICK_STREAMS if quick else STREAMS
    estate.install(streams)
    changes = 5 if quick else 50
    files = streams // STREAMS_IN_A_FILE
    sides = {
        "at the interval": run(estate, "interval", streams, 1, 30, changes // 5, quick=quick),
        "watched": run(estate, "watched", streams, files, 600, changes, quick=quick),
    }
    return {"changes": {side: {str(streams): figures} for side, figures in sides.items()}}


def run(
    estate: Estate,
    name: str,
    streams: int,
    files: int,
    interval: int,
    changes: int,
    *,
    quick: bool,
) -> dict[str, float]:
    """Let an Airflow rest, then change rows, and see when it has them.

    Args:
        estate: has the merge store with the rows.
        name: of the folder, and of Airflow's database.
        streams: how many there are.
        files: how many factory files they are divided among.
        interval: of Airflow's parses, in seconds.
        changes: how many rows are changed.
        quick: whether to rest for a shorter time.
    """
    estate.use(streams)
    folder = estate.folder / name
    write_files(streams, files, folder / "dags")
    airflow = WatchingAirflow(
        SimpleNamespace(postgres=estate.postgres, folder=folder),  # type: ignore[arg-type]
        f"airflow_{name}",
        DATASURFACE_POSTGRES_DATABASE=database(streams),
        AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL=str(interval),
        AIRFLOW__DAG_PROCESSOR__STALE_DAG_THRESHOLD="50",
        AIRFLOW__YELLOW_DYNAMIC__WATCH_CHANGES=str(name == "watched"),
    )
    with airflow:
        wait_until(lambda: expect(airflow, streams), seconds=LONGEST_SECONDS, every=1)
        # The first parses, and what the services do at their start, are over.
        time.sleep(60)
        idle = QUICK_IDLE_SECONDS if quick else IDLE_SECONDS
        before = cpu_seconds(estate, airflow)
        time.sleep(idle)
        spent = {part: now - before[part] for part, now in cpu_seconds(estate, airflow).items()}
        seconds = list(change_rows(estate, airflow, streams, changes))
    return {
        "files": files,
        "interval_seconds": interval,
        "idle_cpu_seconds": (spent["dag-processor"] + spent["database"]) * 60 / idle,
        "api_cpu_seconds": spent["api-server"] * 60 / idle,
        "changes": len(seconds),
        "median_seconds": statistics.median(seconds),
        "longest_seconds": max(seconds),
    }


def write_files(streams: int, count: int, folder: Path) -> None:
    """Write the factory files of a platform that has so many."""
    folder.mkdir(parents=True)
    eco = model(streams, platformArguments={"factoryShards": count}).build()
    for name, text in bootstrap(eco.getDataPlatformOrThrow("YellowLive"), eco, 0).items():
        if name.startswith("yellowlive_factory_dag"):
            (folder / name).write_text(text, encoding="utf-8")


def expect(airflow: WatchingAirflow, streams: int) -> None:
    airflow.raise_if_ended()
    [(count,)] = airflow.sql(COUNT)
    if count < streams:
        raise NotYetError(f"Airflow has {count} of {streams} DAGs.")


def cpu_seconds(estate: Estate, airflow: WatchingAirflow) -> dict[str, float]:
    """Return the CPU time of Airflow's services and of the database server so far."""
    pid_file = estate.postgres.data_dir / "postmaster.pid"
    server = psutil.Process(int(pid_file.read_text().splitlines()[0]))
    families = {
        component: service.family()
        for component, service in zip(airflow._components, airflow._processes, strict=True)
    }
    families["database"] = [server, *server.children(recursive=True)]
    return {part: sum(map(process_seconds, family)) for part, family in families.items()}


def process_seconds(process: psutil.Process) -> float:
    """Return the CPU time of a process and of its children that have ended."""
    try:
        return float(sum(process.cpu_times()[:4]))
    except psutil.NoSuchProcess:
        return 0.0


def change_rows(
    estate: Estate, airflow: WatchingAirflow, streams: int, count: int
) -> Iterator[float]:
    """Change rows at random moments, and yield after how many seconds Airflow has each.

    Raises:
        one_machine.ServiceError: a change has not arrived after LONGEST_SECONDS.
    """
    chosen = random.Random(7).sample([row[0] for row in estate.rows(streams)], count)
    pending: dict[str, tuple[str, float]] = {}
    for number, key in enumerate(chosen):
        schedule = f'"schedule_string": "{number % 60} {number % 24} 1 * *"'
        [(config,)] = estate.postgres.execute(CHANGE, (schedule, key), database=database(streams))
        pending[f"yellowlive__{key}_ingestion"] = (compute_revision(config), time.monotonic())
        until = time.monotonic() + random.random() * PAUSE_SECONDS
        while time.monotonic() < until:
            yield from take_arrived(airflow, pending)
            time.sleep(0.1)

    def all_arrived() -> None:
        arrived.extend(take_arrived(airflow, pending))
        if pending:
            raise NotYetError(f"Airflow has not {', '.join(pending)}.")

    arrived: list[float] = []
    wait_until(all_arrived, seconds=LONGEST_SECONDS, every=0.1)
    yield from arrived


def take_arrived(
    airflow: WatchingAirflow, pending: dict[str, tuple[str, float]]
) -> Iterator[float]:
    """Take the changes out that Airflow has, and yield after how many seconds."""
    found: dict[str, Any] = dict(airflow.sql(STORED, list(pending)))
    for dag_id, (revision, changed) in list(pending.items()):
        if revision in (found.get(dag_id) or ""):
            del pending[dag_id]
            yield time.monotonic() - changed
