"""What a merge advises when the database refuses it, each time for the cause at hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing

import pytest
from conftest import Site
from sqlalchemy.exc import SQLAlchemyError
from yellow_models import Store

pytestmark = pytest.mark.from_the_field("a merge that the database refuses")

PASSWORD = "merges-9"


def role_of(site: Site) -> str:
    return f"merger_{site.database}"


def read_only(site: Site) -> None:
    site.sql(f"ALTER ROLE {role_of(site)} SET default_transaction_read_only = on")


def wrong_password(site: Site) -> None:
    site.login(role_of(site), "another")


def row_security(site: Site) -> None:
    site.sql("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")


def foreign_key(site: Site) -> None:
    site.sql("CREATE TABLE owners (stream varchar REFERENCES {table})")
    site.sql("INSERT INTO owners VALUES ('Store1')")


def not_null(site: Site) -> None:
    site.sql("DELETE FROM {table}")
    site.sql("ALTER TABLE {table} ADD COLUMN owner text NOT NULL")


def connection_limit(site: Site) -> None:
    site.sql(f"ALTER ROLE {role_of(site)} CONNECTION LIMIT 0")


def no_tls(site: Site) -> None:
    site.environment.setenv("PGSSLMODE", "require")


def unknown_service(site: Site) -> None:
    site.environment.setenv("PGSERVICE", "nowhere")


def no_table(site: Site) -> None:
    site.sql("DROP TABLE {table}")


def hidden_table(site: Site) -> None:
    site.sql(f"ALTER ROLE {role_of(site)} SET search_path = nowhere")


def no_rights(site: Site) -> None:
    site.sql(f"REVOKE DELETE ON {{table}} FROM {role_of(site)}")


@pytest.mark.parametrize(
    ("fault", "advice"),
    [
        (read_only, "This is a standby, or the role or the database is set to read only"),
        (wrong_password, "Check the login, and that pg_hba.conf of the server lets it in"),
        (row_security, "Row security would hide rows of the table: give the role BYPASSRLS"),
        (foreign_key, "A foreign key of another table points at a row that goes"),
        (not_null, "A column that was added to the table takes no NULL and has no default"),
        (connection_limit, "Raise the limit of the server, the database or the role"),
        (no_tls, "Check PGSSLMODE and PGSSLROOTCERT here against what the server offers"),
        (unknown_service, "PGSERVICE names it; PGSERVICEFILE is the file that must have it"),
        (no_table, "Run bootstrap with --ringLevel 1 to create the table."),
        (hidden_table, "There is one in schema public, which the role's search_path does not name"),
        (no_rights, "Grant the role CREATE on the schema for bootstrap, and SELECT, INSERT"),
    ],
    ids=lambda each: each.__name__ if callable(each) else "",
)
def test_advice_is_that_of_the_cause(
    installed: Site, fault: Callable[[Site], None], advice: str
) -> None:
    installed.postgres.create_role(role_of(installed), PASSWORD)
    installed.sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {{table}} TO {role_of(installed)}")
    installed.login(role_of(installed), PASSWORD)
    fault(installed)
    installed.model.stores = [Store("New")]

    with pytest.raises(SQLAlchemyError) as failure:
        installed.merge()

    [note] = failure.value.__notes__
    assert f"as user '{role_of(installed)}'. Nothing was changed. {advice}" in note
    if fault is not no_rights:
        assert "Grant" not in note
    assert PASSWORD not in note


def test_view_that_keeps_a_column_from_being_widened_is_named(installed: Site) -> None:
    installed.sql("ALTER TABLE {table} ALTER config_json TYPE varchar(2048)")
    installed.sql("CREATE VIEW configs AS SELECT config_json FROM {table}")

    with pytest.raises(SQLAlchemyError) as failure:
        installed.bootstrap()

    assert "A view or a rule depends on the table; drop it" in failure.value.__notes__[0]


def test_statement_timeout_of_the_role_is_named(installed: Site) -> None:
    installed.sql(f"ALTER DATABASE {installed.database} SET statement_timeout = '200ms'")
    installed.model.stores = [Store("New")]
    with closing(installed.postgres.connect(installed.database)) as other:
        other.cursor().execute("LOCK TABLE yellowlive_airflow_dsg IN EXCLUSIVE MODE")

        with pytest.raises(SQLAlchemyError) as failure:
            installed.merge()

    assert "statement_timeout is too short for it." in failure.value.__notes__[0]


def test_readers_do_not_queue_for_long_behind_a_column_that_is_to_be_widened(
    installed: Site,
) -> None:
    """ALTER TABLE waits for each reader, and whoever comes later waits for ALTER TABLE."""
    installed.sql("ALTER TABLE {table} ALTER config_json TYPE varchar(2048)")
    with closing(installed.postgres.connect(installed.database)) as reader:
        reader.cursor().execute("SELECT * FROM yellowlive_airflow_dsg")
        ring1 = threading.Thread(target=installed.bootstrap)
        ring1.start()
        waited = 0
        for _ in range(30):
            # Whom it keeps for longer, PostgreSQL refuses.
            installed.sql("SET lock_timeout = '10s'; SELECT * FROM {table}")
            [(waiting,)] = installed.sql("SELECT count(*) FROM pg_locks WHERE NOT granted")
            waited += waiting
            time.sleep(0.1)
        reader.rollback()
    ring1.join(60)

    assert waited
    query = "SELECT atttypmod FROM pg_attribute WHERE attrelid = '{table}'::regclass"
    assert installed.sql(f"{query} AND attname = 'config_json'") == [(-1,)]
