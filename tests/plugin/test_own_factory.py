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
from datasurface_host import JOBS_SOURCE
from merge_command import Commands

from one_machine import free_port

HAS_PROVIDER = importlib.util.find_spec("airflow.providers.postgres") is not None
pytestmark = [
    # What Airflow deprecates in it is not ours.
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(JOBS_SOURCE is None, reason="needs DATASURFACE_SRC, a real DataSurface"),
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
    return commands.output / "YellowLive" / "yellowlive_factory_dag.py"


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

    monkeypatch.setenv("PGHOSTADDR", "127.0.0.1")
    monkeypatch.setenv("PGPORT", str(free_port()))
    file.write_text(file.read_text().replace(":5432", f":{free_port()}"))

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
