"""All that bootstrap and merge give a platform: a real Airflow runs it, with the real jobs."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow_names import IS_AIRFLOW_2
from checkouts import Checkouts
from cluster_site import ClusterSite
from datasurface_host import PYTHON, python_path
from merge_command import TESTS, Commands
from psycopg2 import sql
from real_cluster import IS_REAL
from transforming import OUTPUT, TRANSFORMER
from yellow_models import IMAGE, UNIT_START, login_secret

from one_machine import LocalKube, NotYetError, Postgres, wait_until
from yellow_dynamic import __version__
from yellow_dynamic.factory.rules import build_dag_id

from .installation import NAMESPACE, Installation, succeeded

pytestmark = pytest.mark.scheduler

INFRASTRUCTURE = f"{UNIT_START}_infrastructure"
#: The model, in the terms of a Commands' eco.py; {source} is the database of its stores.
MODEL = """
from transforming import transform
transform(model, source={source!r})
# A real job works on all datasets of its store, whichever it is given, and fails where it has two.
model.stores[1].datasets = ["x"]
for store in model.stores:
    store.trigger = ExternallyTriggered("By hand")
model.platformArguments["assets"] = True
"""
#: A DAG of somebody else, who waits for two datasets, as dbt would.
CONSUMER = """
from datetime import datetime
try:
    from airflow.sdk import DAG, Asset
    from airflow.providers.standard.operators.empty import EmptyOperator
except ImportError:
    from airflow import DAG
    from airflow.datasets import Dataset as Asset
    from airflow.operators.empty import EmptyOperator
waits_for = [Asset(f"datasurface://yellowlive/{name}") for name in ("Store1/customers", "Each/x")]
start = datetime(2025, 1, 1)
with DAG("reports", schedule=waits_for, start_date=start, is_paused_upon_creation=False):
    EmptyOperator(task_id="build")
"""
REPORTS = "reports"
STREAMS = ("Store1", "Each_x", TRANSFORMER, OUTPUT)
TABLES = ("customers", "addresses", "x")


class WholePlatform(Installation):
    """An installation whose pods run DataSurface's own jobs, and whose model has a transformer."""

    def __init__(self, postgres: Postgres, folder: Path) -> None:
        super().__init__(postgres, folder, streams=())
        self.checkouts = Checkouts(folder / "git", self.model_volume)
        self.kube = LocalKube(
            folder / "kube",
            {IMAGE: PYTHON.parent},
            {
                "PGHOSTADDR": postgres.address,
                "PYTHONPATH": python_path(str(TESTS)),
                **self.checkouts.environment,
            },
        )
        self.source = f"source_{folder.name}"

    def fill_source(self) -> None:
        """Create the tables that the streams read."""
        self.postgres.create_database(self.source)
        for table in TABLES:
            self.postgres.execute(
                sql.SQL(
                    "CREATE TABLE {table} (id int PRIMARY KEY, name varchar(100));"
                    "INSERT INTO {table} VALUES (1, 'ann'), (2, 'bob')"
                ).format(table=sql.Identifier(table)),
                database=self.source,
            )

    @property
    def checked_in_commit(self) -> str | None:
        """The commit of the live model, or None where it is in no repository."""
        return self.checkouts.commit

    @property
    def model_volume(self) -> Path:
        return LocalKube(self.folder / "kube", {}, {}).volume_dir(NAMESPACE, "test-git-model-cache")

    def _commands(self, streams: tuple[str, ...]) -> Commands:
        del streams
        also = MODEL.format(source=self.source)
        return Commands(self.folder / "model", self.model, also=also)

    def install(self) -> None:
        """Run both rings of bootstrap, and copy all DAG files; Airflow is to merge the model."""
        self.fill_source()
        commands = self._commands(())
        for ring in (0, 1):
            succeeded(commands.bootstrap(ring, **self._login))
        for file in commands.files.glob("*.py"):
            file.rename(self.dags / file.name)
        (self.dags / "reports.py").write_text(CONSUMER)
        self.checkouts.check_in(self.folder / "model")

    def fill_cluster(self) -> None:
        """Create the secrets that the jobs' pods ask for, with the real login."""
        login = login_secret("postgres", self.postgres.user, self.postgres.password)
        self.kube.create_secret(NAMESPACE, "postgres", login)
        self.kube.create_secret(NAMESPACE, "git", {"token": "none"})

    def wait_for_dags(self, streams: tuple[str, ...], seconds: float = 60) -> None:
        """Wait until Airflow has these streams' DAGs, and the two others, and no more."""
        expected = {INFRASTRUCTURE, REPORTS, *(build_dag_id("yellowlive", key) for key in streams)}

        def exactly_these() -> None:
            self.airflow.raise_if_ended()
            assert self.airflow.import_errors() == []
            if (found := self.airflow.dag_ids()) != expected:
                raise NotYetError(f"Airflow's DAGs are {sorted(found)}, not {sorted(expected)}.")

        wait_until(exactly_these, seconds=seconds)

    def states_of_ended(self, dag_id: str, run_id: str = "") -> dict[str, str]:
        """Return the states of the tasks of this run, or of the first one, once it has ended."""

        def ended() -> dict[str, Any]:
            self.airflow.raise_if_ended()
            runs = [run for run in self.airflow.runs(dag_id) if run_id in ("", run["dag_run_id"])]
            for run in runs[-1:]:
                if run["state"] in ("success", "failed"):
                    return run
            raise NotYetError(f"{dag_id} has no such run that has ended: {self.all_runs()}")

        run = wait_until(ended, seconds=240, every=0.5)
        states = self.states(run)
        logs = {task: self.log(run, task) for task, state in states.items() if state == "failed"}
        assert not logs, json.dumps(logs, indent=1)[-6000:]
        return states

    def all_runs(self) -> dict[str, list[tuple[str, dict[str, str]]]]:
        """Return the states of all runs and of their tasks, by DAG id."""
        return {
            dag_id: [(run["state"], self.states(run)) for run in self.airflow.runs(dag_id)]
            for dag_id in sorted(self.airflow.dag_ids())
        }

    def recorded_merges(self) -> list[dict[str, Any]]:
        """Return what each merge said of itself in the history."""
        found = self.postgres.execute(
            "SELECT DISTINCT revision, about FROM yellowlive_airflow_dsg_history ORDER BY 1",
            database=self.model.database,
        )
        return [json.loads(about) for _, about in found]

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        return self.postgres.execute(
            sql.SQL("SELECT id, name FROM {} ORDER BY id").format(sql.Identifier(table)),
            database=self.model.database,
        )


class ClusterPlatform(WholePlatform):
    """The same on a real cluster, with a database of its own, set up by the files of ring 0."""

    def __init__(self, postgres: Postgres, folder: Path) -> None:
        """Take the server of Airflow's own database, and a new folder."""
        self.site = ClusterSite(folder)
        super().__init__(postgres, folder)
        # Its pods run the image's own programs.
        del self.model.platformArguments["runs"]
        self.site.model = self.model
        self.psql = postgres.programs / "psql"
        self.postgres = self.site.postgres

    @property
    def checked_in_commit(self) -> str | None:
        return self.site.commit

    def make_environment(self) -> dict[str, str]:
        """What Airflow gets: the reader's login, and the way from here into the cluster."""
        return {
            "postgres_USER": "airflow_reader",
            "postgres_PASSWORD": self.site.reader_password,
            "DATASURFACE_POSTGRES_HOST": self.site.postgres.address,
            "KUBECONFIG": str(self.site.kubeconfig),
        }

    @contextmanager
    def running(self, seconds: float = 120) -> Iterator[None]:
        self.airflow.prepare()
        with self.site.kube, self.site.prepared():
            self.fill_source()
            self.install()
            with self.airflow:
                self.wait_for_dags(self.streams, seconds)
                yield

    def install(self) -> None:
        """Write ring 0, and run its Job and its SQL as they say it; fetch the factory file."""
        commands = self._commands(())
        succeeded(commands.bootstrap(0))
        self.site.check_in(self.folder / "model")
        factory = commands.files / "yellowlive_factory_dag.py"
        written = factory.read_text()
        self.site.run_head(commands.files / f"{UNIT_START}-bootstrap-job.yaml", commands.files)
        # Kubernetes may lose the last lines of a log.
        assert factory.read_text().splitlines()[-1] == written.splitlines()[-1]
        self.site.grant_reader(commands.files, self.psql)
        for file in commands.files.glob("*.py"):
            shutil.copy(file, self.dags / file.name)
        (self.dags / "reports.py").write_text(CONSUMER)


@pytest.fixture(scope="module")
def platform(
    postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WholePlatform]:
    """The platform, bootstrapped and not yet merged."""
    kind = ClusterPlatform if IS_REAL else WholePlatform
    whole = kind(postgres, tmp_path_factory.mktemp("whole"))
    with whole.running():
        yield whole


def test_click_merges_the_model_and_every_dag_runs_to_success(
    platform: WholePlatform, record_property: Any
) -> None:
    started = platform.airflow.trigger(INFRASTRUCTURE)
    states = platform.states_of_ended(INFRASTRUCTURE, started)
    assert states == dict.fromkeys(("merge_model", "reconcile_views", "check"), "success")
    platform.wait_for_dags(STREAMS)
    merge = {"by": INFRASTRUCTURE, "command": "merge", "release": __version__}
    commit = platform.checked_in_commit
    of_model = {"commit": commit, "dirty": False} if commit else {}
    assert platform.recorded_merges() == [merge | of_model]

    for key in ("Store1", "Each_x"):
        platform.airflow.trigger(build_dag_id("yellowlive", key))
    # Nobody starts these: the deliveries of the streams do.
    transformed = platform.states_of_ended(build_dag_id("yellowlive", TRANSFORMER))
    ingested = platform.states_of_ended(build_dag_id("yellowlive", OUTPUT))

    assert transformed["datatransformer_job"] == "success"
    assert transformed["wait_for_trigger"] == "success"
    assert ingested["snapshot_merge_job"] == "success"

    def merged() -> list[tuple[Any, ...]]:
        rows = platform.rows("yellowlive_totals_totals_merge")
        if not rows:
            raise NotYetError("The output is not merged yet.")
        return rows

    assert wait_until(merged, seconds=120, every=0.5) == [(1, "ANN"), (2, "BOB")]
    for table in ("store1_customers", "store1_addresses", "each_x"):
        assert platform.rows(f"yellowlive_{table}_merge") == [(1, "ann"), (2, "bob")]
    assert_runs_are_on_record(platform)
    assert_datasets_start_who_waits_for_them(platform)
    states = {
        run["dag_id"]: run["state"]
        for dag_id in sorted(platform.airflow.dag_ids())
        for run in platform.airflow.runs(dag_id)
    }
    assert set(states.values()) <= {"success", "running", "queued"}
    assert states.keys() == platform.airflow.dag_ids()


def test_view_that_differs_from_the_model_is_made_again(platform: WholePlatform) -> None:
    """DataSurface itself would wait for its own transaction, without end."""
    [(view,)] = platform.postgres.execute(
        "SELECT viewname FROM pg_views WHERE viewname LIKE '%livedsg%store1%customers%live'",
        database=platform.model.database,
    )
    platform.postgres.execute(
        sql.SQL("CREATE OR REPLACE VIEW {} AS SELECT id, name FROM {} WHERE false").format(
            sql.Identifier(view), sql.Identifier("yellowlive_store1_customers_merge")
        ),
        database=platform.model.database,
    )

    started = platform.airflow.trigger(INFRASTRUCTURE)

    states = platform.states_of_ended(INFRASTRUCTURE, started)
    assert states == dict.fromkeys(("merge_model", "reconcile_views", "check"), "success")
    assert platform.rows(view) == [(1, "ann"), (2, "bob")]


JOBS = ("bootstrap-job", "ring1_init_job", "model_merge_job", "reconcile_views_job")


@pytest.mark.cluster
@pytest.mark.parametrize("job", JOBS)
def test_job_of_ring_0_runs_again_by_the_commands_in_its_head(
    platform: ClusterPlatform, job: str
) -> None:
    """Kubernetes keeps what a Job is: it is replaced, whether it ended, runs or is gone."""
    [file] = (platform.folder / "model" / "output" / platform.model.unit).glob(
        f"{UNIT_START}?{job}.yaml"
    )

    platform.site.run_head(file, file.parent)
    platform.site.run_head(file, file.parent)

    name = yaml.safe_load(file.read_text())["metadata"]["name"]
    condition = f"kubectl get job {name} -n {NAMESPACE} -o jsonpath={{.status.succeeded}}"
    assert platform.site.kubectl.run(condition) == "1"
    platform.site.kubectl("delete", "job", name, "--namespace", NAMESPACE)
    platform.site.run_head(file, file.parent)
    assert platform.site.kubectl.run(condition) == "1"


def assert_runs_are_on_record(platform: WholePlatform) -> None:
    """What a run ran with, and the batch that it brought, stand in Airflow."""
    dag_id = build_dag_id("yellowlive", "Store1")
    # DataSurface's jobs commit a batch in a later run than the one that begins it.
    last = platform.airflow.runs(dag_id)[0]["dag_run_id"]
    platform.states_of_ended(dag_id, last)
    xcom, rendered = platform.airflow.record(dag_id, last, "snapshot_merge_job", "ran_with")

    # Airflow 2 keeps the fields as they are when the task begins.
    assert rendered == {key: xcom[key] for key in rendered}
    assert xcom.keys() - rendered.keys() == ({"batch"} if IS_AIRFLOW_2 else set())
    assert (xcom["stream"], xcom["row"], xcom["image"]) == ("Store1", "database", IMAGE)
    assert "--store-name" in xcom["arguments"]
    batch = xcom["batch"]
    assert (batch["number"], batch["status"], batch["inserted"]) == (1, "committed", 4)


def assert_datasets_start_who_waits_for_them(platform: WholePlatform) -> None:
    """Each dataset had one event, with its batch, and the DAG that waits for two ran once."""
    platform.states_of_ended(REPORTS)
    events = dict(platform.airflow.asset_events())
    names = ("Store1/customers", "Store1/addresses", "Each/x")
    counts = Counter(uri for uri, _ in platform.airflow.asset_events())

    assert len(platform.airflow.runs(REPORTS)) == 1
    for name in names:
        uri = f"datasurface://yellowlive/{name}"
        assert counts[uri] == 1
        assert (events[uri]["number"], events[uri]["status"]) == (1, "committed")
