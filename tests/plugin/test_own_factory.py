"""What a real DataSurface's own factory file does where README says that ours does better.

Its file needs Airflow's provider for PostgreSQL, which the tests install nowhere else.
"""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import pytest
from airflow.exceptions import AirflowTimetableInvalid
from airflow_names import IS_AIRFLOW_2, check_as_airflow_does
from conftest import Site, import_file, registered_dags
from datasurface_host import JOBS_SOURCE, commands_take_providers
from merge_command import Commands, options
from transforming import transform

HAS_PROVIDER = importlib.util.find_spec("airflow.providers.postgres") is not None
pytestmark = [
    # What Airflow deprecates in it is not ours.
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(JOBS_SOURCE is None, reason="needs DATASURFACE_SRC, a real DataSurface"),
    pytest.mark.skipif(commands_take_providers(), reason="this release has none of its own"),
    pytest.mark.skipif(not HAS_PROVIDER, reason="needs apache-airflow-providers-postgres"),
]
on_airflow_2 = pytest.mark.skipif(not IS_AIRFLOW_2, reason="the file loads on Airflow 2 alone")

BASE = """
from datasurface.platforms.yellow import YellowDataPlatform
model.platformClass = YellowDataPlatform
"""
TWO_STORES = "[Store('Good'), Store('Other')]"


def own_factory(site: Site, stores: str = TWO_STORES, also: str = "") -> Any:
    """Bootstrap and merge the base's platform, and return its factory file."""
    commands = Commands(site.folder / "model", site.model, stores, also=BASE + also)
    for done in (commands.bootstrap(0), commands.bootstrap(1), commands.merge()):
        assert done.returncode == 0, done.stderr
    return commands.files / "yellowlive_factory_dag.py"


def streams_of(file: Any) -> list[str]:
    return sorted(dag_id for dag_id in registered_dags(import_file(file)) if "__" in dag_id)


@pytest.mark.skipif(IS_AIRFLOW_2, reason="the fault is Airflow 3's")
def test_it_does_not_load_on_airflow_3(site: Site) -> None:
    with pytest.raises(TypeError, match="provide_context"):
        import_file(own_factory(site))


@on_airflow_2
def test_it_has_no_stream_while_the_database_is_away(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = own_factory(site)
    assert streams_of(file) == ["yellowlive__Good_ingestion", "yellowlive__Other_ingestion"]

    # Where nobody listens.
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.254")

    assert streams_of(file) == []


@on_airflow_2
@pytest.mark.parametrize("config", ["{", json.dumps({"stream_key": "Bad"})])
def test_one_bad_row_costs_it_all_streams(site: Site, config: str) -> None:
    file = own_factory(site)
    site.insert("Bad", config)

    assert streams_of(file) == []


@on_airflow_2
def test_external_trigger_is_a_schedule_that_airflow_refuses(site: Site) -> None:
    stores = "[Store('Odd', trigger=ExternallyTriggered('By hand'))]"
    [dag] = [
        dag
        for dag_id, dag in registered_dags(import_file(own_factory(site, stores))).items()
        if "__Odd_" in dag_id
    ]

    with pytest.raises(AirflowTimetableInvalid, match="Exactly 5, 6 or 7 columns"):
        check_as_airflow_does(dag)


@on_airflow_2
def test_its_pods_name_a_credential_with_capitals_as_the_job_does_not(site: Site) -> None:
    stores = "[Store('Good', credential='Source_Cred')]"
    dags = registered_dags(import_file(own_factory(site, stores)))

    variables = dags["yellowlive__Good_ingestion"].get_task("snapshot_merge_job").env_vars

    names = {variable.name for variable in variables}
    assert "Source_Cred_USER" not in names


@on_airflow_2
def test_two_of_its_runs_may_overlap(site: Site) -> None:
    dags = registered_dags(import_file(own_factory(site)))

    assert dags["yellowlive__Good_ingestion"].max_active_runs > 1


def test_its_merge_forgets_what_was_disabled(site: Site) -> None:
    own_factory(site)
    site.sql("UPDATE {table} SET status = 'disabled'")
    Commands(site.folder / "model", site.model, TWO_STORES, also=BASE).merge()

    assert site.sql("SELECT DISTINCT status FROM {table}") == [("active",)]


def test_its_merge_succeeds_where_it_wrote_nothing(site: Site) -> None:
    own_factory(site)
    site.sql("DROP TABLE {table}")

    done = Commands(site.folder / "model", site.model, TWO_STORES, also=BASE).merge()

    assert done.returncode == 0


@on_airflow_2
def test_its_transformers_run_what_ours_run(site: Site) -> None:
    also = "\nfrom transforming import transform\ntransform(model)"
    folder = own_factory(site, also=also).parent
    own = registered_dags(import_file(folder / "yellowlive_datatransformer_factory_dag.py"))
    transform(site.model)
    site.bootstrap()
    site.merge_cleanly()

    ours = site.parse()

    transformer, output = "yellowlive__Producer_datatransformer", "yellowlive__Totals_dt_ingestion"
    assert {transformer, output} <= own.keys() & ours.keys()
    for dag_id, task_id, our_task_id in (
        (transformer, "datatransformer_job", "datatransformer_job"),
        (output, "output_ingestion_job", "snapshot_merge_job"),
    ):
        before, after = own[dag_id].get_task(task_id), ours[dag_id].get_task(our_task_id)
        assert after.cmds == before.cmds
        assert options(after.arguments) == options(before.arguments)
        # Two of Slack are given by 0.0.36, and hold nothing.
        names = {v.name for v in before.env_vars} - {"_TOKEN", "DATASURFACE_SLACK_CHANNEL"}
        assert names <= {v.name for v in after.env_vars}
        mounts = {mount.mount_path for mount in before.volume_mounts}
        assert mounts <= {mount.mount_path for mount in after.volume_mounts}
    job = ours[transformer].get_task("datatransformer_job")
    own_job = own[transformer].get_task("datatransformer_job")
    assert job.container_resources == own_job.container_resources
