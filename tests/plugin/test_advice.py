"""What a merge advises when the database refuses it, each time for the cause at hand."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing

import psycopg2
import pytest
from conftest import Site
from pg_proxy import PostgresProxy
from sqlalchemy.exc import SQLAlchemyError
from yellow_models import Store

from one_machine import NotYetError, wait_until
from yellow_dynamic.factory.causes import Cause, classify_error
from yellow_dynamic.factory.database import import_driver

pytestmark = pytest.mark.from_the_field("a merge that the database refuses")

PASSWORD = "merges-9"


def role_of(site: Site) -> str:
    """Return a name that a message about TLS might have in it."""
    return f"ssl_certificate_{site.database}"


def read_only(site: Site) -> None:
    site.sql(f"ALTER ROLE {role_of(site)} SET default_transaction_read_only = on")


def wrong_password(site: Site) -> None:
    site.login(role_of(site), "another")


def row_security(site: Site) -> None:
    site.sql("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")


def foreign_key(site: Site) -> None:
    site.sql("CREATE TABLE owners (stream varchar REFERENCES {table})")
    site.sql("INSERT INTO owners VALUES ('Store1')")


def foreign_key_to_certificates(site: Site) -> None:
    """Its DETAIL names the stream."""
    site.model.stores = [Store("certificates"), Store("SSL")]
    site.merge_cleanly()
    site.sql("CREATE TABLE owners (stream varchar REFERENCES {table})")
    site.sql("INSERT INTO owners VALUES ('certificates')")
    site.model.stores = [Store("New")]


def check_constraint(site: Site) -> None:
    site.sql("ALTER TABLE {table} ADD CHECK (stream_key <> 'New')")


def create_trigger(site: Site, body: str) -> None:
    site.sql(f"CREATE FUNCTION dba() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN {body}; END'")
    site.sql("CREATE TRIGGER dba BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION dba()")


def raising_trigger(site: Site) -> None:
    create_trigger(site, "RAISE EXCEPTION ''not today''")


def trigger_that_raises_another_code(site: Site) -> None:
    create_trigger(site, "RAISE EXCEPTION ''no'' USING ERRCODE = ''insufficient_privilege''")


def trigger_without_its_table(site: Site) -> None:
    create_trigger(site, "INSERT INTO audit VALUES (NEW.stream_key); RETURN NEW")


def renamed_column(site: Site) -> None:
    site.sql("ALTER TABLE {table} RENAME updated_at TO changed_at")


def generated_column(site: Site) -> None:
    site.sql("ALTER TABLE {table} DROP updated_at")
    site.sql("ALTER TABLE {table} ADD updated_at timestamp GENERATED ALWAYS AS (created_at) STORED")


def enum(site: Site) -> None:
    site.sql("CREATE TYPE switch AS ENUM ('active', 'disabled')")
    site.sql("DROP TRIGGER {table}_switched ON {table}")
    site.sql("ALTER TABLE {table} ALTER status TYPE switch USING status::switch")
    site.model.stores = [Store("Store1", ["another"])]


def short_key(site: Site) -> None:
    site.sql("ALTER TABLE {table} ALTER stream_key TYPE varchar(6)")
    site.model.stores = [Store("NewStore")]


def no_connect(site: Site) -> None:
    site.sql(f"REVOKE CONNECT ON DATABASE {site.database} FROM PUBLIC")


def closed_database(site: Site) -> None:
    site.postgres.execute(f"ALTER DATABASE {site.database} ALLOW_CONNECTIONS false")


def no_database(site: Site) -> None:
    site.model.database = "certificates"


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
        (foreign_key_to_certificates, "A foreign key of another table points at a row that goes"),
        (not_null, "A column that was added to the table takes no NULL and has no default"),
        (check_constraint, "A constraint or an index that was added to the table refuses a row"),
        (raising_trigger, "A trigger that was added to the table fails or refuses this"),
        (trigger_that_raises_another_code, "A trigger that was added to the table fails"),
        (trigger_without_its_table, "A trigger that was added to the table fails or refuses this"),
        (renamed_column, "A column of the table was renamed, generated, shortened or given"),
        (generated_column, "A column of the table was renamed, generated, shortened or given"),
        (enum, "A column of the table was renamed, generated, shortened or given another type"),
        (short_key, "A column of the table was renamed, generated, shortened or given another"),
        (no_connect, "Grant the role CONNECT on the database."),
        (closed_database, "The server, or a pooler before it, takes no session now"),
        (
            no_database,
            "Check the name of the database in the model and in DATASURFACE_POSTGRES_DATABASE",
        ),
        (connection_limit, "Raise the limit of the server, the database or the role"),
        (no_tls, "Check PGSSLMODE and PGSSLROOTCERT here against what the server offers"),
        (unknown_service, "PGSERVICE names it; PGSERVICEFILE is the file that must have it"),
        (no_table, "Run bootstrap with --ringLevel 1 to create the table."),
        (hidden_table, "There is one in schema public, which the role's search_path does not name"),
        (no_rights, "Grant the role CREATE on the schema for bootstrap, and SELECT, INSERT"),
    ],
    ids=lambda each: each.__name__ if callable(each) else "",
)
@pytest.mark.usefixtures("driver")
def test_advice_is_that_of_the_cause(
    installed: Site, fault: Callable[[Site], None], advice: str
) -> None:
    installed.postgres.create_role(role_of(installed), PASSWORD)
    installed.sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {{table}} TO {role_of(installed)}")
    installed.login(role_of(installed), PASSWORD)
    installed.model.stores = [Store("New")]
    fault(installed)

    with pytest.raises(SQLAlchemyError) as failure:
        installed.merge()

    [note] = failure.value.__notes__
    assert f"as user '{role_of(installed)}'. Nothing was changed. {advice}" in note
    assert ("Grant" in note) == (fault in (no_rights, no_connect))
    # It has answered.
    assert "is up and can be reached" not in note
    assert PASSWORD not in note


#: A wrong password, a role without a connection left, and no database, as a German server says it.
GERMAN = (
    (
        "28P01",
        "Passwort-Authentifizierung f\u00fcr Benutzer \u00bbcertificates\u00ab fehlgeschlagen",
    ),
    ("53300", "zu viele Verbindungen f\u00fcr Rolle \u00bbSSL\u00ab"),
    ("3D000", "Datenbank \u00bbcertificates\u00ab existiert nicht"),
)


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("encoding", ["utf-8", "iso-8859-1"])
@pytest.mark.parametrize(("code", "message"), GERMAN)
def test_refusal_in_another_language_is_one_of_a_server_that_is_up(
    installed: Site, caplog: pytest.LogCaptureFixture, code: str, message: str, encoding: str
) -> None:
    """libpq passes on the message of a refused connection, and not its SQLSTATE."""
    installed.parse()
    fields = {"S": "FATAL", "V": "FATAL", "C": code, "M": message}
    refusal = {name: value.encode(encoding) for name, value in fields.items()}
    server = (installed.postgres.address, installed.postgres.port)
    with PostgresProxy(server, refusal=refusal) as proxy:
        installed.environment.setenv("PGHOSTADDR", proxy.address)

        with pytest.raises(SQLAlchemyError) as failure:
            installed.merge()
        installed.parse()

    [note] = failure.value.__notes__
    for text in (note, caplog.text):
        assert "The server is up and refuses the connection. Check the login, pg_hba.conf" in text
        assert "Check that the database is up" not in text
    start = message.split()[0]
    assert start in str(failure.value) and start in caplog.text


@pytest.mark.usefixtures("driver")
def test_transactions_in_conflict_are_not_a_server_that_is_away(site: Site) -> None:
    site.sql("CREATE TABLE counted (n int)")
    site.sql("INSERT INTO counted VALUES (1)")
    module, _ = import_driver()
    server = site.postgres
    login = {"user": server.user, "password": server.password, "dbname": site.database}
    with closing(module.connect(host=server.address, port=server.port, **login)) as connection:
        cursor = connection.cursor()
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SELECT n FROM counted")
        site.sql("UPDATE counted SET n = 2")

        with pytest.raises(module.Error) as failure:
            cursor.execute("UPDATE counted SET n = 3")

    assert classify_error(failure.value) is Cause.CONFLICT


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("server closed the connection unexpectedly", Cause.NO_CONNECTION),
        ("SSL connection has been closed unexpectedly", Cause.NO_CONNECTION),
        ("consuming input failed: SSL SYSCALL error: EOF detected", Cause.NO_CONNECTION),
        ('connection to server at "ssl.certificates.example" (10.1.1.1), port 5432 failed: '
         "Connection refused", Cause.NO_CONNECTION),
        ('could not translate host name "certificates" to address', Cause.NO_CONNECTION),
        ("received invalid response to SSL negotiation: H", Cause.NO_CONNECTION),
        ('connection failed: connection to server at "db1" (10.1.1.1), port 5432 failed: server '
         "does not support SSL, but SSL was required", Cause.TLS),
        ("SSL error: certificate verify failed", Cause.TLS),
        ('connection to server at "db1" (10.1.1.1), port 5432 failed: FATAL:  the database system '
         "is in recovery mode", Cause.ENDED),
        ('connection to server at "db1" (10.1.1.1), port 5432 failed: FATAL:  password '
         'authentication failed for user "u"\nconnection to server at "db1" (10.1.1.1), port 5432 '
         'failed: FATAL:  no pg_hba.conf entry for host "10.1.1.2", no encryption', Cause.LOGIN),
        ("FATAL:  role is odd\nDETAIL:  password authentication failed\nHINT:  SSL", Cause.REFUSED),
        ("\u81f4\u547d\u9519\u8bef:  certificate", Cause.REFUSED),
    ],
)  # fmt: skip
def test_attempt_to_connect_is_classified_by_how_its_words_begin(text: str, cause: Cause) -> None:
    assert classify_error(psycopg2.OperationalError(text)) is cause


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
    """ALTER TABLE waits for each reader, and a later reader waits for ALTER TABLE."""
    installed.sql("ALTER TABLE {table} ALTER config_json TYPE varchar(2048)")
    with closing(installed.postgres.connect(installed.database)) as reader:
        reader.cursor().execute("SELECT * FROM yellowlive_airflow_dsg")
        ring1 = threading.Thread(target=installed.bootstrap)
        ring1.start()
        wait_until(lambda: someone_waits(installed), seconds=60)
        # PostgreSQL refuses whom it keeps for longer.
        installed.sql("SET lock_timeout = '10s'; SELECT * FROM {table}")
        assert ring1.is_alive()
        reader.rollback()
    ring1.join(60)

    query = "SELECT atttypmod FROM pg_attribute WHERE attrelid = '{table}'::regclass"
    assert installed.sql(f"{query} AND attname = 'config_json'") == [(-1,)]


def someone_waits(site: Site) -> None:
    if site.sql("SELECT count(*) FROM pg_locks WHERE NOT granted") == [(0,)]:
        raise NotYetError("Nobody waits for a lock.")
