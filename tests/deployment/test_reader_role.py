"""The role of the reader's file reads what a merge wrote, and can do no more."""

from __future__ import annotations

from typing import Any

import psycopg2
import pytest
from conftest import Site
from deployment_files import deployment_of
from reading_role import psql, run_reader_file

pytestmark = pytest.mark.embedded


def test_reader_of_the_file_reads_the_table_and_can_do_nothing_else(installed: Site) -> None:
    role = f"reader_{installed.database}"
    installed.postgres.execute(f"REVOKE ALL ON DATABASE {installed.database} FROM PUBLIC")
    installed.sql("REVOKE ALL ON SCHEMA public FROM PUBLIC")

    # Twice: running it again is safe.
    run_reader_file(installed, "--variable", f"reader={role}")
    run_reader_file(installed, "--variable", f"reader={role}")
    installed.sql(f"ALTER ROLE {role} PASSWORD 'its password'")
    installed.login(role, "its password")

    assert list(installed.parse()) == ["yellowlive__Store1_ingestion"]
    with installed.postgres.connect(installed.database, role, "its password") as reader:
        for statement in (
            "SELECT * FROM yellowlive_airflow_dsg_history",
            "SELECT * FROM yellowlive_batch_counter, yellowlive_batch_metrics",
        ):
            reader.cursor().execute(statement)
    for statement in (
        "DELETE FROM yellowlive_airflow_dsg_history",
        "DELETE FROM yellowlive_airflow_dsg",
        "UPDATE yellowlive_airflow_dsg SET status = 'disabled'",
        "DELETE FROM yellowlive_batch_metrics",
        "CREATE TABLE mine (x int)",
    ):
        with (
            installed.postgres.connect(installed.database, role, "its password") as reader,
            pytest.raises(psycopg2.errors.InsufficientPrivilege),
        ):
            reader.cursor().execute(statement)


def test_reader_reads_the_schema_where_bootstrap_made_the_table(site: Site) -> None:
    role = f"reader_{site.database}"
    site.sql("CREATE SCHEMA streams")
    site.sql("CREATE TABLE {table} (stream_key text)")
    site.sql(f"ALTER DATABASE {site.database} SET search_path = streams")
    site.bootstrap()
    site.merge_cleanly()
    site.sql(f"ALTER DATABASE {site.database} RESET search_path")

    run_reader_file(site, "--variable", f"reader={role}")
    site.sql(f"ALTER ROLE {role} PASSWORD 'its password'")
    site.login(role, "its password")

    assert list(site.parse()) == ["yellowlive__Store1_ingestion"]


def test_reader_has_a_name_of_its_own_where_none_is_given(installed: Site) -> None:
    run_reader_file(installed)

    [(can_login, password)] = installed.sql(
        "SELECT rolcanlogin, rolpassword FROM pg_authid WHERE rolname = 'airflow_reader'"
    )
    assert (can_login, password) == (True, None)
    installed.sql(
        f"REVOKE ALL ON DATABASE {installed.database} FROM airflow_reader;"
        "REVOKE ALL ON SCHEMA public FROM airflow_reader;"
        "REVOKE ALL ON {table}, {table}_history, yellowlive_batch_counter, yellowlive_batch_metrics"
        " FROM airflow_reader; DROP ROLE airflow_reader"
    )


def test_hostile_names_of_role_and_database_stay_names(site: Site) -> None:
    hostile = "x\"; DROP TABLE canary; --'\\"
    site.sql("CREATE TABLE canary (alive bool)")
    text = deployment_of(site.model)["-airflow-reader.sql"]
    assert f'"{site.database}"' in text
    site.model.database = hostile
    file = site.folder / "reader.sql"
    file.write_text(deployment_of(site.model)["-airflow-reader.sql"])

    done = psql(site, "--file", str(file), "--variable", f"reader={hostile}")

    # The role is made, and the database of that name is not there.
    assert done.returncode == 3
    assert f'database "{hostile}" does not exist' in done.stderr
    assert site.sql("SELECT count(*) FROM canary") == [(0,)]
    roles: list[Any] = site.sql("SELECT 1 FROM pg_roles WHERE rolname = %s", (hostile,))
    assert roles
    psql(site, "--command", f"DROP ROLE {chr(34)}{hostile.replace(chr(34), chr(34) * 2)}{chr(34)}")
