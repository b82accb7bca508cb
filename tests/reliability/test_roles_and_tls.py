"""The two roles of the documentation are enough, and TLS can be required."""

from __future__ import annotations

import datetime
import re
import ssl
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from conftest import Site
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from merge_command import Commands, shows_no_traceback
from pg_proxy import PostgresProxy
from reading_role import run_reader_file
from sqlalchemy.exc import OperationalError, ProgrammingError

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "deployment.md"
DAG_ID = "yellowlive__Store1_ingestion"


def documented_sql() -> str:
    """Return the SQL of the documentation, which an administrator runs."""
    [found] = re.findall(r"```sql\n(.*?)```", DOCUMENTATION.read_text(), flags=re.DOTALL)
    return str(found)


class Roles:
    """The documented roles under names of their own, on a server that grants PUBLIC nothing."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.jobs = f"jobs_{site.database}"
        self.reader = f"reader_{site.database}"
        site.postgres.execute(f"REVOKE ALL ON DATABASE {site.database} FROM PUBLIC")
        site.sql("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        statements = documented_sql()
        for documented, real in {
            "datasurface_merge": site.database,
            "datasurface_jobs": self.jobs,
        }.items():
            assert documented in statements
            statements = statements.replace(documented, real)
        site.sql(statements)

    def log_in_as_jobs(self) -> None:
        self.site.login(self.jobs, "choose one")

    def log_in_as_reader(self) -> None:
        self.site.login(self.reader, "choose another one")

    def create_reader(self) -> None:
        """Run the file of ring 0, as an administrator, and set the role's password."""
        run_reader_file(self.site, "--variable", f"reader={self.reader}")
        self.site.sql(f"ALTER ROLE {self.reader} PASSWORD 'choose another one'")


@pytest.fixture
def roles(site: Site) -> Roles:
    return Roles(site)


def test_documented_roles_are_enough_for_bootstrap_merge_and_parse(
    site: Site, roles: Roles
) -> None:
    roles.log_in_as_jobs()
    site.bootstrap()
    roles.create_reader()
    site.merge_cleanly()
    roles.log_in_as_reader()

    assert list(site.parse()) == [DAG_ID]
    assert list(site.parse(DAG_ID)) == [DAG_ID]


def test_commands_run_under_the_documented_role(site: Site, roles: Roles) -> None:
    roles.log_in_as_jobs()
    commands = Commands(site.folder / "model", site.model)

    for done in (commands.bootstrap(0), commands.bootstrap(1), commands.merge()):
        assert done.returncode == 0, done.stderr
    assert site.sql("SELECT stream_key FROM {table}") == [("Store1",)]


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO yellowlive_airflow_dsg (stream_key) VALUES ('x')",
        "DELETE FROM yellowlive_airflow_dsg",
        "LOCK TABLE yellowlive_airflow_dsg IN EXCLUSIVE MODE",
        "SELECT * FROM yellowlive_store1_customers_merge",
        "CREATE TABLE mine (x int)",
    ],
)
def test_documented_reader_can_do_nothing_else(site: Site, roles: Roles, statement: str) -> None:
    roles.log_in_as_jobs()
    site.bootstrap()
    roles.create_reader()
    site.sql("CREATE TABLE IF NOT EXISTS yellowlive_store1_customers_merge (id int)")

    with (
        site.postgres.connect(site.database, roles.reader, "choose another one") as reader,
        pytest.raises(psycopg2.errors.InsufficientPrivilege),
    ):
        reader.cursor().execute(statement)


def test_merge_under_the_reader_says_what_to_grant(site: Site, roles: Roles) -> None:
    roles.log_in_as_jobs()
    site.bootstrap()
    roles.create_reader()
    roles.log_in_as_reader()

    with pytest.raises(ProgrammingError) as failure:
        site.merge()

    [note] = failure.value.__notes__
    assert "SELECT, INSERT, UPDATE and DELETE on the table" in note
    assert repr(roles.reader) in note


def test_bootstrap_under_a_role_that_may_not_create_says_what_to_grant(
    site: Site, roles: Roles
) -> None:
    site.login(site.postgres.user, site.postgres.password)
    site.bootstrap()
    roles.create_reader()
    site.sql("DROP TABLE {table}")
    site.sql(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {roles.reader}")
    roles.log_in_as_reader()

    done = Commands(site.folder / "model", site.model).bootstrap(1)

    assert done.returncode == 1
    assert "permission denied" in done.stderr
    assert "Grant the role CREATE on the schema" in done.stderr
    assert shows_no_traceback(done)


# --- TLS --------------------------------------------------------------------------------------


def write_certificate(folder: Path, host: str) -> Path:
    """Write a self-signed certificate of the host and its key into one file, and return it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "The merge store of the tests")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / f"{host}.pem"
    file.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return file


@pytest.fixture
def tls_server(installed: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The installed site, its server behind TLS with a certificate of the model's host name.

    The server of the tests is built without TLS, so the proxy before it speaks it; the client's
    side is what runs everywhere, libpq.
    """
    certificate = write_certificate(installed.folder, installed.model.host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with PostgresProxy((installed.postgres.address, installed.postgres.port), context) as proxy:
        monkeypatch.setenv("PGHOSTADDR", proxy.address)
        monkeypatch.setenv("PGSSLMODE", "verify-full")
        monkeypatch.setenv("PGSSLROOTCERT", str(certificate))
        yield installed


def test_merge_and_parse_run_over_verified_tls(tls_server: Site) -> None:
    done = Commands(tls_server.folder / "model", tls_server.model, "[Store('New')]").merge()

    assert done.returncode == 0, done.stderr
    assert list(tls_server.parse()) == ["yellowlive__New_ingestion"]


def test_certificate_of_another_host_is_refused(
    tls_server: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls_server.model.host = "other.example"

    with pytest.raises(OperationalError, match="does not match host name"):
        tls_server.merge()
    monkeypatch.setenv("DATASURFACE_POSTGRES_HOST", "other.example")
    with pytest.raises(Exception, match="does not match host name") as failure:
        tls_server.parse()
    assert tls_server.postgres.password not in str(failure.value)


def test_certificate_of_an_unknown_issuer_is_refused(
    tls_server: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLROOTCERT", str(write_certificate(tmp_path, "stranger.example")))

    with pytest.raises(OperationalError, match="certificate verify failed"):
        tls_server.merge()
    with pytest.raises(Exception, match="certificate verify failed"):
        tls_server.parse()


def test_server_without_tls_is_refused_where_tls_is_required(
    installed: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLMODE", "require")

    done = Commands(installed.folder / "model", installed.model).merge()
    with pytest.raises(Exception, match="server does not support SSL, but SSL was required"):
        installed.parse()

    assert done.returncode == 1
    assert "server does not support SSL, but SSL was required" in done.stderr
    assert shows_no_traceback(done)
