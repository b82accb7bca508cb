"""Reads that succeed and show less than there is, or in another form."""

from __future__ import annotations

import os
import time
from typing import Any

import psycopg2
import pytest
from conftest import Site, import_file, problems, render

pytestmark = pytest.mark.from_the_field("a read that shows less than there is")

DAG_ID = "yellowlive__Store1_ingestion"
PASSWORD = "reads-only-7"


def become_reader(site: Site, *, search_path: str = "") -> str:
    """Let the factory file read by a role that may only SELECT, and return its name."""
    role = f"reader_{site.database}"
    site.postgres.create_role(role, PASSWORD)
    site.sql(f"GRANT SELECT ON {{table}} TO {role}")
    if search_path:
        site.sql(f"ALTER ROLE {role} SET search_path = {search_path}")
    site.login(role, PASSWORD)
    return role


def table_rows(module: Any) -> Any:
    return module.read_table(module.BUILDER.platform, module.ALL_ROWS).rows


def reading(site: Site) -> tuple[list[str], dict[str, Any]]:
    """Parse, and return the DAGs in service and what the file says of its reading."""
    module = import_file(site.factory_file)
    dags = [name for name, value in vars(module).items() if name.endswith("_ingestion")]
    return dags, dict(module.READING)


def test_row_security_that_hides_rows_is_an_outage(installed: Site, driver: str) -> None:
    become_reader(installed)
    assert reading(installed)[0] == [DAG_ID]
    installed.sql("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")

    dags, said = reading(installed)

    assert dags == [DAG_ID]
    assert (said["source"], said["cause"]) == ("snapshot", "row security")
    assert "give the role BYPASSRLS" in said["reason"]


def test_empty_table_in_the_readers_own_schema_is_an_outage(installed: Site) -> None:
    role = become_reader(installed)
    assert reading(installed)[0] == [DAG_ID]
    installed.sql(f"CREATE SCHEMA {role} AUTHORIZATION {role}")
    installed.sql(f"CREATE TABLE {role}.yellowlive_airflow_dsg (LIKE {{table}})")
    installed.sql(f"GRANT SELECT ON {role}.yellowlive_airflow_dsg TO {role}")

    dags, said = reading(installed)

    assert dags == [DAG_ID]
    assert said["cause"] == "no table"
    assert f"is not the one in schema '{role}' that this role sees" in said["reason"]
    assert "bootstrap made the one in schema 'public'" in said["reason"]


def test_without_a_snapshot_the_wrong_table_is_an_error_and_not_no_streams(
    installed: Site,
) -> None:
    role = become_reader(installed)
    installed.sql(f"CREATE SCHEMA {role} AUTHORIZATION {role}")
    installed.sql(f"CREATE TABLE {role}.yellowlive_airflow_dsg (LIKE {{table}})")
    installed.sql(f"GRANT SELECT ON {role}.yellowlive_airflow_dsg TO {role}")

    with pytest.raises(Exception, match="bootstrap made the one in schema 'public'"):
        reading(installed)


def test_database_that_was_rebuilt_without_a_merge_is_an_outage_for_a_day(
    installed: Site,
) -> None:
    assert reading(installed)[0] == [DAG_ID]
    installed.sql("DROP TABLE {table}")
    installed.bootstrap()

    dags, said = reading(installed)

    assert dags == [DAG_ID]
    assert (said["source"], said["cause"]) == ("snapshot", "empty")
    assert "has no row, and no merge has emptied it" in said["reason"]

    yesterday = time.time() - 25 * 60 * 60
    os.utime(installed.snapshots / "yellowlive.json", (yesterday, yesterday))
    dags, said = reading(installed)
    assert said["source"] == "database"


def test_merge_that_fills_a_rebuilt_table_ends_the_outage(installed: Site) -> None:
    reading(installed)
    installed.sql("DELETE FROM {table}")
    assert reading(installed)[1]["source"] == "snapshot"

    installed.merge_cleanly()

    assert reading(installed) == ([DAG_ID], {**reading(installed)[1], "source": "database"})


def test_merge_that_may_empty_the_table_says_so_to_airflow(installed: Site) -> None:
    reading(installed)
    installed.model.platformArguments = {"allowEmpty": True}
    # A real DataSurface has no model without a store.
    graph = installed.model.graph(installed.folder)
    graph.storesToIngest.clear()
    _, tree = render(graph)
    assert problems(tree) == []

    module = import_file(installed.factory_file)

    assert module.READING["source"] == "database"
    assert not module.BUILDER.build_dags(table_rows(module))

    installed.merge_cleanly()
    reading(installed)
    installed.sql("DELETE FROM {table}")
    assert reading(installed)[1]["cause"] == "empty"


def test_comment_is_the_dbas(installed: Site) -> None:
    installed.sql("COMMENT ON TABLE {table} IS 'Ask Ada before you touch this.'")

    installed.bootstrap()

    comment = "SELECT obj_description('{table}'::regclass)"
    assert installed.sql(comment) == [("Ask Ada before you touch this.",)]


def test_bytes_that_are_no_text_cost_only_their_row(
    installed: Site, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database in SQL_ASCII holds whatever was put into it."""
    database = f"ascii_{installed.database}"
    installed.sql(
        f"CREATE DATABASE {database} ENCODING SQL_ASCII LC_COLLATE 'C' LC_CTYPE 'C' "
        "TEMPLATE template0"
    )
    [(config,)] = installed.sql("SELECT config_json FROM {table}")
    installed.database = database
    monkeypatch.setenv("DATASURFACE_POSTGRES_DATABASE", database)
    monkeypatch.setenv("PGCLIENTENCODING", "SQL_ASCII")
    with psycopg2.connect(
        host=installed.postgres.address,
        port=installed.postgres.port,
        user=installed.postgres.user,
        password=installed.postgres.password,
        dbname=database,
    ) as connection:
        cursor = connection.cursor()
        cursor.execute(
            "CREATE TABLE yellowlive_airflow_dsg (stream_key VARCHAR(255) PRIMARY KEY, "
            "config_json TEXT, status VARCHAR(50), created_at TIMESTAMP, updated_at TIMESTAMP)"
        )
        for key in ("Store1", "Bad"):
            cursor.execute(
                "INSERT INTO yellowlive_airflow_dsg VALUES (%s, %s, 'active', now(), now())",
                (key, config.replace('"Store1"', f'"{key}"')),
            )
        cursor.execute(
            "UPDATE yellowlive_airflow_dsg SET config_json = "
            "replace(config_json, 'main', 'm' || chr(252) || 'll') WHERE stream_key = 'Bad'"
        )

    module = import_file(installed.factory_file)

    dags = {name: dag for name, dag in vars(module).items() if name.endswith("_ingestion")}
    assert sorted(dags) == ["yellowlive__Bad_ingestion", DAG_ID]
    assert "config-error" not in dags[DAG_ID].tags
    assert "config-error" in dags["yellowlive__Bad_ingestion"].tags


def give_times_a_zone(site: Site) -> None:
    site.sql(f"ALTER DATABASE {site.database} SET timezone = 'Asia/Kolkata'")
    for column in ("created_at", "updated_at"):
        site.sql(
            f"ALTER TABLE {{table}} ALTER {column} TYPE TIMESTAMPTZ "
            f"USING {column} AT TIME ZONE 'UTC'"
        )


def test_times_with_a_zone_are_those_of_utc(installed: Site, driver: str) -> None:
    module = import_file(installed.factory_file)
    [before] = table_rows(module)
    give_times_a_zone(installed)

    [after] = table_rows(module)

    assert after == before


@pytest.mark.from_the_field("time, place or encoding of another process")
@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_stream_is_disabled_until_the_same_moment_in_every_zone(
    installed: Site, driver: str, zone: str
) -> None:
    module = import_file(installed.factory_file)
    installed.sql("ALTER TABLE {table} ALTER disabled_until TYPE TIMESTAMPTZ")
    installed.sql(f"ALTER DATABASE {installed.database} SET timezone = '{zone}'")

    def is_off(after: str) -> bool:
        installed.sql(
            "UPDATE {table} SET status = 'disabled', disabled_until = now() + %s::interval",
            [after],
        )
        [row] = table_rows(module)
        return bool(row.is_off)

    assert (is_off("1 hour"), is_off("-1 hour")) == (True, False)


@pytest.mark.from_the_field("time, place or encoding of another process")
@pytest.mark.parametrize(
    ("time", "read", "disabled"),
    [
        ("infinity", None, True),
        ("-infinity", "-infinity", False),
        ("294276-12-31", "294276-12-31T00:00:00", True),
    ],
)
def test_time_that_python_has_not_costs_no_stream(
    installed: Site, driver: str, time: str, read: str | None, disabled: bool
) -> None:
    installed.sql(
        "UPDATE {table} SET status = 'disabled', disabled_until = %s, updated_at = %s",
        (time, time),
    )

    [row] = table_rows(import_file(installed.factory_file))

    assert (row.disabled_until, row.is_off) == (read, disabled)
    assert row.updated_at == (read or "infinity")


@pytest.mark.from_the_field("time, place or encoding of another process")
def test_login_with_bytes_that_are_no_text_is_one_that_is_refused(
    installed: Site, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed.login("jos\udce9", "caf\udce9")

    with pytest.raises(Exception, match=r'"jos\\xe9".* Check the login') as refused:
        reading(installed)

    assert "caf" not in str(refused.value)


def test_merge_writes_the_times_of_now_into_columns_with_a_zone(installed: Site) -> None:
    give_times_a_zone(installed)
    installed.model.branch = "other"

    installed.merge_cleanly()

    [(age,)] = installed.sql("SELECT extract(epoch FROM now() - updated_at)::float FROM {table}")
    assert 0 <= age < 60


def test_missing_table_names_the_schemas_that_have_one(installed: Site) -> None:
    role = become_reader(installed, search_path="elsewhere")
    installed.sql(f"GRANT USAGE ON SCHEMA public TO {role}")

    with pytest.raises(Exception) as failure:
        reading(installed)

    text = str(failure.value)
    assert "There is one in schema public, which the role's search_path does not name" in text
    assert "Or else: run bootstrap with --ringLevel 1" in text


def test_bootstrap_that_makes_a_second_table_warns(
    installed: Site, caplog: pytest.LogCaptureFixture
) -> None:
    installed.sql("CREATE SCHEMA elsewhere")
    installed.sql(f"ALTER DATABASE {installed.database} SET search_path = elsewhere")

    installed.bootstrap()

    assert "in schema 'elsewhere'" in caplog.text
    assert "The schemas public have a table 'yellowlive_airflow_dsg' too" in caplog.text
