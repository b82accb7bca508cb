"""Metadata databases for Airflow, whose tables are created once and copied."""

from __future__ import annotations

import subprocess
import sys
import tempfile

from psycopg2 import sql

from one_machine import Postgres, clean_environment

_TEMPLATE = "airflow_template"


def create_airflow_database(postgres: Postgres, name: str) -> None:
    """Create a database as `airflow db migrate` leaves it."""
    if not postgres.execute("SELECT 1 FROM pg_database WHERE datname = %s", (_TEMPLATE,)):
        postgres.create_database(_TEMPLATE)
        _migrate(postgres, _TEMPLATE)
    postgres.execute(
        sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
            sql.Identifier(name), sql.Identifier(_TEMPLATE)
        )
    )


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
