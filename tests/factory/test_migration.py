"""From static files to the factory file, and what Airflow's own database makes of both."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from airflow_database import create_airflow_database
from airflow_names import IS_AIRFLOW_2
from conftest import Site, drop_database
from sqlalchemy.orm import Session
from static_files import write_static_files
from warm_python import AIRFLOW, warm_python
from yellow_models import Store

from datasurface.md import CronTrigger
from one_machine import Postgres

pytestmark = pytest.mark.embedded

#: As often as each line of input says: what the DAG processor does with the DAG folder, and then a
#: run of each DAG, as Airflow keeps only a version that has run when the DAG changes.
SYNC = """
import json, os, sys
os.environ.update(json.loads(sys.argv[1]))
from airflow import settings
settings.initialize()
from airflow.api.common.trigger_dag import trigger_dag
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
from airflow.utils.types import DagRunTriggeredByType

manager = DagBundlesManager()
manager.sync_bundles_to_db()
[bundle] = manager.get_all_dag_bundles()
for sync, times in enumerate(sys.stdin):
    for number in range(int(times)):
        bag = DagBag(bundle.path, bundle_path=bundle.path, bundle_name=bundle.name)
        assert not bag.import_errors, bag.import_errors
        sync_bag_to_db(bag, bundle.name, None)
        for dag_id in bag.dags:
            run_id = f"sync-{sync}-{number}"
            trigger_dag(dag_id, triggered_by=DagRunTriggeredByType.TEST, run_id=run_id)
    print("done", flush=True)
"""


class Metadata:
    """Airflow's own database, which a program fills from the DAG folder as Airflow does."""

    def __init__(self, site: Site) -> None:
        self.postgres: Postgres = site.postgres
        self.database = f"airflow_of_{site.database}"
        create_airflow_database(self.postgres, self.database)
        url = self.postgres.url(self.database).render_as_string(hide_password=False)
        self._settings = {
            "AIRFLOW__CORE__DAGS_FOLDER": str(site.folder / "dags"),
            # Else Airflow does not look at a DAG again that it has just stored.
            "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url,
        }
        self._python = warm_python(*AIRFLOW)
        self._log = site.folder / "airflow.log"
        self._program: subprocess.Popen[str] | None = None

    def set_at_import(self, setting: str, value: str) -> None:
        """Set what Airflow reads only when it is imported, for an Airflow that is not there yet."""
        self._settings[setting] = value
        self._python = sys.executable

    def sync(self, times: int = 1) -> None:
        """Let Airflow read the DAG folder some times, each followed by a run of every DAG."""
        self._program = self._program or self._start()
        assert self._program.stdin is not None and self._program.stdout is not None
        self._program.stdin.write(f"{times}\n")
        lines = iter(self._program.stdout.readline, "")
        assert "done\n" in lines, self._log.read_text()[-3000:]

    def close(self) -> None:
        """End the program, and remove the database."""
        if self._program is not None:
            self._program.kill()
            self._program.communicate()
        drop_database(self.postgres, self.database)

    def versions(self) -> dict[str, int]:
        """Return how many versions Airflow keeps of each DAG."""
        rows = self.sql("SELECT dag_id, count(*) FROM dag_version GROUP BY dag_id")
        return {str(dag_id): int(count) for dag_id, count in rows}

    def files(self) -> dict[str, str]:
        """Return the file of each DAG that is not stale."""
        rows = self.sql("SELECT dag_id, relative_fileloc FROM dag WHERE NOT is_stale")
        return {str(dag_id): str(file) for dag_id, file in rows}

    def sql(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.postgres.execute(statement, values, database=self.database)

    def _start(self) -> subprocess.Popen[str]:
        with self._log.open("w") as log:
            return subprocess.Popen(
                [self._python, "-c", SYNC, json.dumps(self._settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                bufsize=1,
            )


@pytest.fixture
def metadata(site: Site) -> Iterator[Metadata]:
    """Airflow's database for the site, whose DAG folder has the factory file of two streams."""
    if IS_AIRFLOW_2:
        pytest.skip("Airflow 2 has no DAG versions")
    site.model.stores = [Store("One"), Store("Two")]
    site.bootstrap()
    site.merge_cleanly()
    (site.folder / "dags").mkdir()
    made = Metadata(site)
    yield made
    made.close()


def install_factory(site: Site) -> Path:
    return site.factory_file.rename(site.folder / "dags" / site.factory_file.name)


ONE, TWO = "yellowlive__One_ingestion", "yellowlive__Two_ingestion"


@pytest.mark.slow
def test_airflow_keeps_one_version_until_a_row_changes_and_then_makes_one_more(
    site: Site, metadata: Metadata
) -> None:
    install_factory(site)
    metadata.sync(times=10)
    assert metadata.versions() == {ONE: 1, TWO: 1}
    assert metadata.sql("SELECT count(*) FROM dag_run") == [(20,)]

    site.model.stores[1].trigger = CronTrigger("Nightly", "0 3 * * *")
    site.merge_cleanly()
    metadata.sync(times=3)

    assert metadata.versions() == {ONE: 1, TWO: 2}


@pytest.mark.slow
def test_migration_keeps_each_dag_with_its_history_and_its_pause(
    site: Site, metadata: Metadata
) -> None:
    dags = site.folder / "dags"
    static = write_static_files(site, dags)
    metadata.sync()
    metadata.sql("UPDATE dag SET is_paused = true WHERE dag_id = %s", [TWO])

    # Parallel operation: the factory file is there and leaves all to the static files.
    factory = install_factory(site)
    metadata.sync()
    assert metadata.files() == {ONE: f"{ONE}.py", TWO: f"{TWO}.py"}
    assert metadata.versions() == {ONE: 1, TWO: 1}

    # Cutover, one stream at first.
    parked = [path.rename(site.folder / path.name) for path in static]
    parked[1].rename(static[1])
    metadata.sync()
    assert metadata.files() == {ONE: factory.name, TWO: f"{TWO}.py"}
    static[1].rename(parked[1])
    metadata.sync()
    assert metadata.files() == {ONE: factory.name, TWO: factory.name}

    # Rollback.
    factory.unlink()
    for path, back in zip(parked, static, strict=True):
        path.rename(back)
    metadata.sync()
    assert metadata.files() == {ONE: f"{ONE}.py", TWO: f"{TWO}.py"}
    assert metadata.sql("SELECT dag_id FROM dag WHERE is_paused") == [(TWO,)]
    runs = metadata.sql("SELECT dag_id, count(*) FROM dag_run GROUP BY dag_id ORDER BY dag_id")
    assert runs == [(ONE, 5), (TWO, 5)]
    assert metadata.sql("SELECT count(*) FROM import_error") == [(0,)]


def test_stream_with_a_static_file_beside_the_factory_file_is_left_to_it(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.model.stores = [Store("Old"), Store("New")]
    site.bootstrap()
    site.merge_cleanly()
    write_static_files(site, site.folder)
    (site.folder / "yellowlive__New_ingestion.py").unlink()

    assert list(site.parse()) == ["yellowlive__New_ingestion"]
    [warning] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith("1 static DAG files lie beside ")
    assert warning.endswith(": yellowlive__Old_ingestion.py.")
    # A task that Airflow starts from the factory file finds its DAG there.
    assert list(site.parse("yellowlive__Old_ingestion")) == ["yellowlive__Old_ingestion"]

    (site.folder / "yellowlive__Old_ingestion.py").unlink()
    assert len(site.parse()) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("airflow_pauses", "word"), [(True, None), (False, None), (True, False), (False, True)]
)
def test_new_dag_is_paused_as_airflow_says_unless_the_model_does(
    site: Site, metadata: Metadata, airflow_pauses: bool, word: bool | None
) -> None:
    if not airflow_pauses:
        metadata.set_at_import("AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION", "False")
    site.model.platformArguments = {"pausedAtCreation": word}
    site.bootstrap()
    install_factory(site)

    metadata.sync()

    expected = airflow_pauses if word is None else word
    assert metadata.sql("SELECT DISTINCT is_paused FROM dag") == [(expected,)]


@pytest.mark.slow
def test_page_reads_the_time_zone_of_the_schedules(site: Site, metadata: Metadata) -> None:
    from yellow_dynamic.page.metadata import read_airflow_view

    metadata.set_at_import("AIRFLOW__CORE__DEFAULT_TIMEZONE", "Europe/Berlin")
    install_factory(site)
    metadata.sync()
    engine = sqlalchemy.create_engine(metadata.postgres.url(metadata.database))

    with Session(engine) as session:
        view = read_airflow_view(session, "yellowlive", {})
        nobody = read_airflow_view(session, "other", {})
    engine.dispose()

    assert (view.time_zone, nobody.time_zone) == ("Europe/Berlin", None)
