"""Who may read the history, and that nobody who changes rows can rewrite it."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import psycopg2
import pytest
from conftest import Site
from psycopg2 import errors
from recorded import changes, unrecorded

PASSWORD = "its password"
Run = Callable[[str], None]
REWRITES = (
    "DELETE FROM {table}_history",
    "UPDATE {table}_history SET login = 'somebody'",
    "TRUNCATE {table}_history",
    "INSERT INTO {table}_history SELECT * FROM {table}_history",
)


@pytest.fixture
def editor(installed: Site) -> Run:
    """Run a statement as a role that may change all rows, and no more."""
    role = f"editor_{installed.database}"
    installed.postgres.create_role(role, PASSWORD)
    installed.sql(f"GRANT ALL ON {{table}} TO {role}")

    def run(statement: str) -> None:
        with installed.postgres.connect(installed.database, role, PASSWORD) as connection:
            connection.cursor().execute(statement.format(table=installed.table))
            connection.commit()

    return run


def test_role_that_changes_rows_needs_no_right_on_the_history(installed: Site, editor: Run) -> None:
    editor("UPDATE {table} SET status = 'disabled'")

    change = changes(installed)[-1]
    assert (change["action"], change["login"]) == ("disabled", f"editor_{installed.database}")


@pytest.mark.parametrize(
    "statement",
    [
        *REWRITES,
        "DROP TABLE {table}_history",
        "ALTER TABLE {table} DISABLE TRIGGER {table}_updated",
        "DROP TRIGGER {table}_updated ON {table}",
        "DROP FUNCTION {table}_record() CASCADE",
        "SELECT {table}_record()",
        "CREATE TEMP TABLE mine (LIKE {table}); CREATE TRIGGER mine AFTER INSERT ON mine "
        "REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION {table}_record()",
        "SET session_replication_role = replica; DELETE FROM {table}",
    ],
)
def test_role_that_changes_rows_cannot_rewrite_history(
    installed: Site, editor: Run, statement: str
) -> None:
    before = changes(installed)

    with pytest.raises(psycopg2.Error) as refusal:
        editor(statement)

    assert isinstance(refusal.value, (errors.InsufficientPrivilege, errors.FeatureNotSupported)), (
        refusal.value
    )
    assert changes(installed) == before
    assert unrecorded(installed) == {}


def test_search_path_of_the_editor_leads_the_record_nowhere_else(
    installed: Site, editor: Run
) -> None:
    editor(
        "CREATE TEMP TABLE {table}_history (LIKE {table}); "
        "SET search_path = pg_temp, public; UPDATE public.{table} SET status = 'disabled'"
    )

    assert changes(installed)[-1]["action"] == "disabled"


def test_role_set_in_a_session_is_recorded_as_its_login(installed: Site, editor: Run) -> None:
    other = f"other_{secrets.token_hex(3)}"
    installed.postgres.create_role(other, PASSWORD)
    installed.sql(f"GRANT {other} TO editor_{installed.database}")
    installed.sql(f"GRANT SELECT, UPDATE ON {{table}} TO {other}")

    editor(f"SET ROLE {other}; UPDATE {{table}} SET status = 'disabled'")  # noqa: S608

    assert changes(installed)[-1]["login"] == f"editor_{installed.database}"


@pytest.mark.parametrize("statement", REWRITES)
def test_owner_does_not_change_it_by_mistake(installed: Site, statement: str) -> None:
    with pytest.raises(errors.InsufficientPrivilege, match="is append-only"):
        installed.sql(statement)

    assert len(changes(installed)) == 1


def test_who_reads_the_rows_reads_their_history_and_no_more(site: Site) -> None:
    """As Airflow's role does, of a table that had no history yet."""
    role = f"reader_{site.database}"
    site.postgres.create_role(role, PASSWORD)
    site.sql(f"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {role}")
    site.sql("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC")

    site.bootstrap()
    site.merge_cleanly()

    def held(table: str) -> set[tuple[str, str]]:
        found = site.sql(
            "SELECT grantee, privilege_type FROM information_schema.role_table_grants "
            "WHERE table_name = %s AND grantee <> current_user",
            (table,),
        )
        return set(found)

    assert ("PUBLIC", "DELETE") in held("yellowlive_airflow_dsg")
    assert held("yellowlive_airflow_dsg_history") == {("PUBLIC", "SELECT"), (role, "SELECT")}
