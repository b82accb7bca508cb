"""Who may read the history, and that nobody who changes rows can rewrite it."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import psycopg2
import pytest
from conftest import Site
from psycopg2 import errors
from recorded import changes, unrecorded
from sqlalchemy.exc import ProgrammingError
from yellow_models import Store

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


@pytest.fixture
def handed_over(site: Site) -> Site:
    """A platform whose tables were given to another role by ALTER TABLE, as scripts do.

    That role logs in, and the model has one more stream.
    """
    admin, app = (site.create_role(start, PASSWORD) for start in ("admin", "app"))
    for role in (admin, app):
        site.sql(f"GRANT ALL ON SCHEMA public TO {role}")
    site.login(admin, PASSWORD)
    site.bootstrap()
    site.merge_cleanly()
    for (table,) in site.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        site.sql(f"ALTER TABLE public.{table} OWNER TO {app}")
    site.login(app, PASSWORD)
    site.model.stores.append(Store("Store2"))
    return site


def advice_of(refused: pytest.ExceptionInfo[ProgrammingError]) -> str:
    [note] = refused.value.__notes__
    return note


@pytest.mark.parametrize("step", [Site.merge_cleanly, Site.bootstrap])
def test_owner_without_the_functions_is_told_the_statements(
    handed_over: Site, step: Callable[[Site], None]
) -> None:
    with pytest.raises(ProgrammingError) as refused:
        step(handed_over)

    advice = advice_of(refused)
    assert "Nothing was changed." in advice
    assert "The table was given to another role without the functions" in advice
    _, _, rest = advice.partition("Let an administrator run ")
    statements, _, _ = rest.partition("; then run this again.")
    assert statements.count("ALTER FUNCTION yellowlive_airflow_dsg_") == 3
    handed_over.sql(statements)

    handed_over.bootstrap()
    handed_over.merge_cleanly()

    assert unrecorded(handed_over) == {}


def test_administrator_who_runs_ring_1_gives_the_functions_to_the_owner(handed_over: Site) -> None:
    [app] = handed_over.sql(
        "SELECT relowner::regrole::text FROM pg_class WHERE relname = %s", [handed_over.table]
    )
    handed_over.login(handed_over.postgres.user, handed_over.postgres.password)

    handed_over.bootstrap()

    owners = handed_over.sql(
        "SELECT DISTINCT proowner::regrole::text FROM pg_proc WHERE proname LIKE 'yellowlive%%'"
    )
    assert owners == [app]
    handed_over.login(app[0], PASSWORD)
    handed_over.merge_cleanly()
    assert unrecorded(handed_over) == {}
