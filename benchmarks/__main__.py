"""Run the benchmark: `python -m benchmarks`, or `python -m benchmarks --quick` for less of it."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks import AIRFLOW_DATABASE
from one_machine import Postgres, clean_environment, end_on_signals

SIZES = {
    "full parse": (100, 1_000, 10_000),
    "task start": (10, 1_000, 10_000),
    "DAG-processor pass": (1_000, 10_000),
    "population": (1_000, 10_000, 100_000),
    "one change": (10, 10_000),
    "bootstrap": (1_000,),
}
QUICK_SIZES = {
    "full parse": (100, 1_000),
    "task start": (10, 1_000, 10_000),
    "DAG-processor pass": (10, 50),
    "population": (1_000, 10_000),
    "one change": (10, 10_000),
    "bootstrap": (1_000,),
}
ROUNDS = 5


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller sizes")
    quick = parser.parse_args().quick
    end_on_signals()
    with (
        tempfile.TemporaryDirectory(prefix="benchmarks-", ignore_cleanup_errors=True) as folder,
        Postgres(Path(folder) / "data") as postgres,
    ):
        set_environment(postgres, Path(folder))
        return measure_all(postgres, Path(folder), quick)


def set_environment(postgres: Postgres, folder: Path) -> None:
    """Make the settings of this process and its children those of the benchmark alone."""
    postgres.create_database(AIRFLOW_DATABASE)
    url = postgres.url(AIRFLOW_DATABASE).render_as_string(hide_password=False)
    settings = clean_environment(
        AIRFLOW_HOME=str(folder / "airflow"),
        AIRFLOW__CORE__DAGS_FOLDER=str(folder / "dags"),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT="0",
        AIRFLOW__LOGGING__LOGGING_LEVEL="ERROR",
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=url,
        # Git-sync's DAG folder is read-only: nothing that is compiled stays, but for the static
        # files, which are compiled before.
        PYTHONDONTWRITEBYTECODE="1",
        # dag-factory would tell its makers about each parse.
        DO_NOT_TRACK="1",
    )
    os.environ.clear()
    os.environ.update(settings)
    sys.dont_write_bytecode = True


@contextmanager
def migration(log: Path) -> Iterator[None]:
    """Make Airflow's tables beside what the block does.

    Raises:
        RuntimeError: when Airflow cannot make them; it holds what Airflow said.
    """
    command = [sys.executable, "-m", "airflow", "db", "migrate"]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield
        if process.wait():
            raise RuntimeError(f"Airflow cannot make its tables: {log.read_text()}")
    finally:
        process.kill()
        process.wait()


def measure_all(postgres: Postgres, folder: Path, quick: bool) -> int:
    """Measure, print, write down; return the process's exit status."""
    # Only now, when Airflow finds its settings.
    from benchmarks import comparisons, report
    from benchmarks.estate import Estate
    from benchmarks.measure import in_new_process

    logging.disable(logging.WARNING)
    estate = Estate(postgres, folder)
    sizes = QUICK_SIZES if quick else SIZES
    with migration(folder / "migration.log"):
        for size in sorted({size for group in sizes.values() for size in group}):
            in_new_process(partial(estate.install, size))
    comparisons.import_everything(estate)
    # As Airflow's DAG processor does before it forks.
    gc.freeze()
    measured = {}
    for name, function in comparisons.ALL.items():
        print(f"{name}: {', '.join(f'{size:,}' for size in sizes[name])} streams ...", flush=True)
        measured[name] = function(estate, sizes[name], ROUNDS)
    return report.publish(measured, quick=quick, rounds=ROUNDS)


if __name__ == "__main__":
    sys.exit(main())
