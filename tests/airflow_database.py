"""Metadata databases for Airflow, whose tables are created once and copied."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from psycopg2 import sql

from one_machine import Postgres, clean_environment

_TEMPLATE = "airflow_template"
#: Names a folder that the workers of a run share.
SHARED_FOLDER = "TESTS_SHARED_FOLDER"


def create_airflow_database(postgres: Postgres, name: str) -> None:
    """Create a database as `airflow db migrate` leaves it."""
    if not postgres.execute("SELECT 1 FROM pg_database WHERE datname = %s", (_TEMPLATE,)):
        postgres.create_database(_TEMPLATE)
        if SHARED_FOLDER in os.environ:
            _migrate_once(postgres, Path(os.environ[SHARED_FOLDER]))
        else:
            _migrate(postgres, _TEMPLATE)
    postgres.execute(
        sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
            sql.Identifier(name), sql.Identifier(_TEMPLATE)
        )
    )


def _migrate_once(postgres: Postgres, folder: Path) -> None:
    """Migrate the template, or load what another worker's server has migrated."""
    url = postgres.url(_TEMPLATE, "postgresql").render_as_string(hide_password=False)
    dump = folder / "airflow.sql"
    with (folder / "airflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        migrated = dump.exists()
        if not migrated:
            _migrate(postgres, _TEMPLATE)
            _run(postgres.programs / "pg_dump", url, "--file", dump)
    if migrated:
        _run(postgres.programs / "psql", url, "--quiet", "--set=ON_ERROR_STOP=1", "--file", dump)


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _migrate(postgres: Postgres, database: str) -> None:
    url = postgres.url(database).render_as_string(hide_password=False)
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
