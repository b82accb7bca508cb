"""A real dag-processor, while the database of the ingestion streams has faults of all kinds."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psutil
import pytest
from bad_rows import BAD_CHANGES, BAD_TEXTS, good_config
from conftest import Site
from fault_table import FaultTable
from processors import AIRFLOW_VERSION, CLEANUP_EVERY, STALE_AFTER, DagProcessor
from psycopg2 import sql
from temporary import database_folder
from yellow_models import Model, Store

from one_machine import NotYetError, Postgres, wait_until

pytestmark = pytest.mark.slow

READER = "airflow_reader"
READER_PASSWORD = "@ : / % # ? ' \" \\ & = reads"
#: Long enough for a DAG to be taken out of service, had it been missing from the beginning.
OUTAGE_SECONDS = STALE_AFTER + 2 * CLEANUP_EVERY


@pytest.fixture(scope="module")
def merge_store() -> Iterator[Postgres]:
    """A PostgreSQL server for the merge store alone, which may fail without Airflow's own."""
    with (
        database_folder("merge-store-") as folder,
        merge_store_server(Path(folder) / "data") as server,
    ):
        server.create_role(READER, READER_PASSWORD)
        yield server


def merge_store_server(data_dir: Path) -> Postgres:
    """Return a server on an address that no other run of the tests takes while it is stopped."""
    server = Postgres(data_dir)
    server.address = f"127.84.{os.getpid() // 250 % 250}.{os.getpid() % 250 + 1}"
    return server


@pytest.fixture(scope="module")
def processor(
    postgres: Postgres, merge_store: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DagProcessor]:
    """A running dag-processor that may only read the tables that it is given."""
    env = {
        "DATASURFACE_POSTGRES_HOST": merge_store.address,
        "postgres_USER": READER,
        "postgres_PASSWORD": READER_PASSWORD,
    }
    with DagProcessor(tmp_path_factory.mktemp("processor"), postgres, env) as service:
        yield service


class Estate:
    """One platform on the merge store, whose factory file is for the dag-processor."""

    def __init__(self, site: Site, merge_store: Postgres, processor: DagProcessor) -> None:
        self.site = site
        self.merge_store = merge_store
        self.processor = processor
        # The processor outlives the test: a platform of its own keeps its DAGs apart.
        name = site.database.replace("merge_", "Estate")
        site.model = Model(platform=name, database=site.database)

    @property
    def file_name(self) -> str:
        return self.site.factory_file.name

    @property
    def log(self) -> str:
        return self.processor.log(self.file_name)

    def dag_ids(self, *stream_keys: str) -> list[str]:
        platform = self.site.model.platform.lower()
        return [f"{platform}__{key}_ingestion" for key in stream_keys]

    def merge(self, *stores: str) -> None:
        """Run bootstrap and the merge of a model with these stores."""
        self.site.model.stores = [Store(name) for name in stores]
        self.site.bootstrap()
        self.site.merge_cleanly()
        self.site.sql(f"GRANT SELECT ON {{table}} TO {READER}")

    def deploy(self) -> None:
        self.processor.deploy(self.site.factory_file)


@pytest.fixture
def estate(
    merge_store: Postgres,
    processor: DagProcessor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Estate]:
    """An empty platform; its DAGs leave Airflow after the test."""
    monkeypatch.setenv("PGHOSTADDR", merge_store.address)
    made = Estate(Site(merge_store, tmp_path, monkeypatch), merge_store, processor)
    yield made
    processor.withdraw(made.file_name)


@contextmanager
def stopped(estate: Estate) -> Iterator[None]:
    estate.merge_store.stop()
    try:
        yield
    finally:
        estate.merge_store.start()


@contextmanager
def frozen(estate: Estate) -> Iterator[None]:
    pid_file = estate.merge_store.data_dir / "postmaster.pid"
    server = psutil.Process(int(pid_file.read_text().splitlines()[0]))
    # The parent first, or it would start new children.
    server.send_signal(signal.SIGSTOP)
    processes = [server, *server.children(recursive=True)]
    for process in processes[1:]:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in reversed(processes):
            process.send_signal(signal.SIGCONT)


@contextmanager
def refusing_logins(estate: Estate) -> Iterator[None]:
    set_password = sql.SQL(f"ALTER ROLE {READER} PASSWORD {{}}")
    estate.merge_store.execute(set_password.format(sql.Literal("another")))
    try:
        yield
    finally:
        estate.merge_store.execute(set_password.format(sql.Literal(READER_PASSWORD)))


@contextmanager
def without_its_table(estate: Estate) -> Iterator[None]:
    estate.site.sql("ALTER TABLE {table} RENAME TO away")
    try:
        yield
    finally:
        estate.site.sql(f"ALTER TABLE away RENAME TO {estate.site.table}")


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (stopped, "Connection refused"),
        (frozen, "timeout expired"),
        (refusing_logins, "password authentication failed"),
        (without_its_table, "Run bootstrap with --ringLevel 1"),
    ],
    ids=["stopped", "frozen", "refuses logins", "lost its table"],
)
def test_outage_longer_than_the_stale_threshold_costs_no_dag(
    estate: Estate,
    faults: FaultTable,
    request: pytest.FixtureRequest,
    fault: Callable[[Estate], AbstractContextManager[None]],
    cause: str,
) -> None:
    estate.merge("Kept", "Dropped")
    estate.deploy()
    estate.processor.wait_for(estate.dag_ids("Kept", "Dropped"))

    with fault(estate):
        lost, log = watch_outage(estate)
    ended = time.monotonic()
    estate.merge("Kept", "Late")
    estate.processor.wait_for(estate.dag_ids("Kept", "Late"))
    recovery = time.monotonic() - ended

    faults.record(
        f"database {request.node.callspec.id}, Airflow {AIRFLOW_VERSION}",
        injected=1,
        survived=0 if lost else 1,
        dags_lost=len(lost),
        recovery_seconds=recovery,
    )
    assert cause in log
    assert "last confirmed by the database at 20" in log
    assert READER_PASSWORD not in log


def test_dag_of_a_removed_stream_is_seen_to_be_lost(estate: Estate) -> None:
    """What the tests of outages look for does show when a DAG is really gone."""
    estate.merge("Kept", "Dropped")
    estate.deploy()
    estate.processor.wait_for(estate.dag_ids("Kept", "Dropped"))
    estate.merge("Kept")

    def gone() -> None:
        if not estate.processor.lost(estate.dag_ids("Dropped")):
            raise NotYetError("The DAG is still in service.")

    wait_until(gone, seconds=60)
    assert not estate.processor.lost(estate.dag_ids("Kept"))


def watch_outage(estate: Estate) -> tuple[set[str], str]:
    """Look until a DAG is lost, or the outage is long enough and the snapshot has served twice.

    Returns:
        The DAGs that were lost, and what the log has got meanwhile.
    """
    before = len(estate.log)
    until = time.monotonic() + OUTAGE_SECONDS
    lost: set[str] = set()

    def long_enough() -> str:
        lost.update(estate.processor.lost(estate.dag_ids("Kept", "Dropped")))
        log = estate.log[before:]
        enough = time.monotonic() > until and log.count("Serving the snapshot in") >= 2
        if not lost and not enough:
            raise NotYetError(f"The outage goes on. The log says: {log[-2000:]}")
        return log

    return lost, wait_until(long_enough, seconds=90, every=0.5)


def test_cold_start_without_database_is_a_clear_import_error_and_heals_without_restart(
    estate: Estate, faults: FaultTable
) -> None:
    estate.merge("Kept")

    with stopped(estate):
        estate.deploy()
        text = wait_until(lambda: import_error(estate.processor), seconds=60)
    ended = time.monotonic()
    estate.processor.wait_for(estate.dag_ids("Kept"))
    recovery = time.monotonic() - ended

    for part in (estate.site.table, estate.merge_store.address, "Connection refused", "snapshot"):
        assert part in text
    assert READER_PASSWORD not in text
    faults.record(
        f"cold start without database and snapshot, Airflow {AIRFLOW_VERSION}",
        injected=1,
        survived=1,
        recovery_seconds=recovery,
    )


def import_error(processor: DagProcessor) -> str:
    errors = processor.import_errors()
    if not errors:
        raise NotYetError("There is no import error.")
    [text] = errors
    return text


def test_a_hundred_good_rows_stay_in_service_beside_every_bad_one(
    estate: Estate, faults: FaultTable
) -> None:
    estate.merge("Good1")
    good = estate.dag_ids("Good1", *(f"Row{number}" for number in range(99)))
    bad = insert_rows(estate)
    estate.deploy()
    estate.processor.wait_for(good, seconds=90)

    lost: set[str] = set()
    until = time.monotonic() + OUTAGE_SECONDS

    def long_enough() -> None:
        lost.update(estate.processor.lost(good))
        if time.monotonic() < until:
            raise NotYetError("The DAGs may still become stale.")

    wait_until(long_enough, seconds=60, every=0.5)
    states = estate.processor.dags(estate.site.model.platform.lower())

    assert sorted(states) == sorted([*good, *bad])
    for dag_id in bad:
        state = states[dag_id]
        assert state.active
        assert not state.has_import_errors
        assert state.scheduled
        assert "config-error" in state.tags
    assert all(states[dag_id].scheduled for dag_id in good)
    faults.record(
        f"bad row among 100 good ones, Airflow {AIRFLOW_VERSION}",
        injected=len(bad),
        survived=0 if lost else len(bad),
        dags_lost=len(lost),
    )


def insert_rows(estate: Estate) -> list[str]:
    """Write 99 good rows and every bad one by hand; return the dag ids of the bad ones."""
    site = estate.site
    for number in range(99):
        site.insert(f"Row{number}", json.dumps(good_config(site, f"Row{number}")))
    for number, (text, _) in enumerate(BAD_TEXTS.values()):
        site.insert(f"BadText{number}", text)
    for number, (changes, _) in enumerate(BAD_CHANGES.values()):
        key = f"BadValue{number}"
        site.insert(key, json.dumps(good_config(site, key) | changes))
    site.insert("OddStatus", json.dumps(good_config(site, "OddStatus")), "Active")
    texts = (f"BadText{number}" for number in range(len(BAD_TEXTS)))
    values = (f"BadValue{number}" for number in range(len(BAD_CHANGES)))
    return estate.dag_ids(*texts, *values, "OddStatus")
