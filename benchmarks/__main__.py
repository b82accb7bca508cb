"""Run the benchmarks: `python -m benchmarks`, or with `--quick` for fewer and smaller ones.

All parts run even if one fails or misses a target; the exit status is 1 then. To run single parts,
name them.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
import tempfile
from functools import partial
from pathlib import Path

from airflow_database import create_airflow_database

from benchmarks import AIRFLOW_DATABASE, Figures, report
from benchmarks.measure import run_in_child
from one_machine import Postgres, clean_environment, end_on_signals

PARTS = ("comparisons", "stored", "year", "page", "settings", "waiting", "changes")
#: Takes half an hour.
SLOW_PARTS = {"waiting", "changes"}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller sizes")
    parser.add_argument("part", nargs="*", help=f"of {', '.join(PARTS)}; default: all")
    options = parser.parse_args(arguments)
    if unknown := set(options.part) - set(PARTS):
        parser.error(f"unknown part: {', '.join(sorted(unknown))}")
    end_on_signals()
    failures = []
    for part in options.part or PARTS:
        if options.quick and part in SLOW_PARTS and not options.part:
            continue
        print(f"Part {part} ...", flush=True)
        try:
            figures = run_in_child(partial(measure, part, quick=options.quick))
        except RuntimeError:
            failures.append(f"part {part} failed; its error is above")
        else:
            report.record(part, figures, quick=options.quick)
    failures += report.publish()
    for failure in failures:
        print(f"FAILED: {failure}")
    return int(bool(failures))


def measure(part: str, *, quick: bool) -> Figures:
    """Measure one part, on a PostgreSQL of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="benchmarks-", ignore_cleanup_errors=True) as folder,
        Postgres(Path(folder) / "data") as postgres,
    ):
        set_environment(postgres, Path(folder))
        # Only now, when Airflow finds its settings.
        from benchmarks.estate import Estate

        module = importlib.import_module(f"benchmarks.{part}")
        logging.disable(logging.WARNING)
        figures: Figures = module.measure(Estate(postgres, Path(folder)), quick=quick)
        return figures


def set_environment(postgres: Postgres, folder: Path) -> None:
    """Make the settings of this process and its children those of the benchmark alone."""
    create_airflow_database(postgres, AIRFLOW_DATABASE)
    url = postgres.url(AIRFLOW_DATABASE).render_as_string(hide_password=False)
    settings = clean_environment(
        AIRFLOW_HOME=str(folder / "airflow"),
        AIRFLOW__CORE__DAGS_FOLDER=str(folder / "dags"),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT="0",
        AIRFLOW__LOGGING__LOGGING_LEVEL="ERROR",
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=url,
        # The benchmark itself compiles the DAG files, where .pyc files are to be measured.
        PYTHONDONTWRITEBYTECODE="1",
        # dag-factory would tell its makers about each parse.
        DO_NOT_TRACK="1",
    )
    os.environ.clear()
    os.environ.update(settings)
    sys.dont_write_bytecode = True


if __name__ == "__main__":
    sys.exit(main())
