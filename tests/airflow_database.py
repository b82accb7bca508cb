"""Metadata databases for Airflow, whose tables are created once and copied."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from one_machine import Postgres, clean_environment

_TEMPLATE, _UNFINISHED = "airflow_template", "airflow_unfinished"
#: Names a folder that the workers of a run share.
SHARED_FOLDER = "TESTS_SHARED_FOLDER"


def create_airflow_database(postgres: Postgres, name: str) -> None:
    """Create a database as `airflow db migrate` leaves it."""
    if not postgres.execute("SELECT 1 FROM pg_database WHERE datname = %s", (_TEMPLATE,)):
        # Nobody copies one that is not finished.
        postgres.execute(f"DROP DATABASE IF EXISTS {_UNFINISHED}")
        postgres.create_database(_UNFINISHED)
        if SHARED_FOLDER in os.environ:
            _migrate_once(postgres, Path(os.environ[SHARED_FOLDER]))
        else:
            _migrate(postgres)
        postgres.execute(f"ALTER DATABASE {_UNFINISHED} RENAME TO {_TEMPLATE}")
    postgres.create_database(name, template=_TEMPLATE)


def _migrate_once(postgres: Postgres, folder: Path) -> None:
    """Migrate the database, or load what another worker's server has migrated."""
    url = postgres.url(_UNFINISHED, "postgresql").render_as_string(hide_password=False)
    dump, unfinished = folder / "airflow.sql", folder / "unfinished.sql"
    with (folder / "airflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        migrated = dump.exists()
        if not migrated:
            _migrate(postgres)
            _run(postgres.programs / "pg_dump", url, "--file", unfinished)
            unfinished.rename(dump)
    if migrated:
        options = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1")
        _run(postgres.programs / "psql", url, *options, "--file", dump)


def _run(*command: str | Path) -> None:
    subprocess.run(command, env=clean_environment(), check=True, stdout=subprocess.DEVNULL)


def _migrate(postgres: Postgres) -> None:
    url = postgres.url(_UNFINISHED).render_as_string(hide_password=False)
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [sys.executable, "-m", "airflow", "db", "migrate"],
            env=clean_environment(
                AIRFLOW_HOME=home,
                AIRFLOW__CORE__LOAD_EXAMPLES="False",
                AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=url,
            ),
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr[-3000:]
