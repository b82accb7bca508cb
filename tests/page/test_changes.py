"""How fast a change of a row is in Airflow, whose interval of parsing is far longer.

A real API server watches the table, and a real DAG processor parses what is asked of it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Site
from processors import IS_AIRFLOW_2
from watching_airflow import WatchingAirflow
from yellow_models import Store

from datasurface.md import CronTrigger
from one_machine import NotYetError, wait_until
from yellow_dynamic.factory.rules import compute_revision
from yellow_dynamic.page.airflow_plugin import FIRST_AIRFLOW

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(IS_AIRFLOW_2, reason=f"The page needs Airflow {FIRST_AIRFLOW}."),
]

STREAMS = [f"S{number:02}" for number in range(12)]
IN_SERVICE = """
SELECT dag_id, description, (
    SELECT data -> 'dag' ->> 'description' FROM serialized_dag
    WHERE serialized_dag.dag_id = dag.dag_id ORDER BY created_at DESC LIMIT 1
) FROM dag WHERE NOT is_stale AND dag_id LIKE 'yellowlive%'
"""
HOURLY = CronTrigger("Hourly", "0 * * * *")


class Estate:
    """A platform of two factory files, whose Airflow parses a file only where it is asked to."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.airflow = WatchingAirflow(
            site,
            f"airflow_of_{site.database}",
            AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL="100000",
            AIRFLOW__DAG_PROCESSOR__PARSING_CLEANUP_INTERVAL="1",
            AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL="6",
        )

    def set_up(self) -> None:
        """Bootstrap and merge."""
        site = self.site
        site.model.stores = [Store(name, trigger=HOURLY) for name in STREAMS]
        site.model.platformArguments["factoryShards"] = 2
        files = site.bootstrap()
        site.merge_cleanly()
        (site.folder / "dags").mkdir()
        for name, text in files.items():
            if name.startswith("yellowlive_factory_dag"):
                (site.folder / "dags" / name).write_text(text, encoding="utf-8")

    def change(self, key: str) -> None:
        """Change the schedule of a stream."""
        minute = random.randrange(1_000_000)
        self.site.sql(
            "UPDATE {table} SET config_json = regexp_replace(config_json, "
            '\'"schedule_string": "[^"]*"\', %s) WHERE stream_key = %s',
            (f'"schedule_string": "{minute % 60} {minute % 24} * * *"', key),
        )

    def expected(self) -> dict[str, str]:
        """Return the revision of each stream that is to have a DAG."""
        rows = self.site.sql("SELECT stream_key, config_json FROM {table} WHERE status = 'active'")
        return {key: compute_revision(config) for key, config in rows}

    def in_service(self) -> dict[str, str]:
        """Return the end of what the DAG of each stream says, as Airflow lists and schedules it."""
        self.airflow.raise_if_ended()
        found = {}
        for dag_id, listed, scheduled in self.airflow.sql(IN_SERVICE):
            key = dag_id.removeprefix("yellowlive__").removesuffix("_ingestion")
            found[key] = listed[-13:-1] if listed == scheduled else f"{listed} / {scheduled}"
        return found

    @property
    def log(self) -> str:
        """The log of the API server."""
        return (self.airflow.home / "logs" / "api-server.log").read_text(encoding="utf-8")

    def wait(self) -> None:
        """Wait until Airflow has what the rows say."""

        def agrees() -> None:
            expected, found = self.expected(), self.in_service()
            if expected != found:
                differing = {key for key in expected | found if expected.get(key) != found.get(key)}
                raise NotYetError(f"Airflow does not have the rows of {sorted(differing)}.")

        wait_until(agrees, seconds=120, every=0.2)


@pytest.fixture(scope="module")
def estate(
    make_site: Callable[[Path, pytest.MonkeyPatch], Site],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Estate]:
    """A platform whose DAGs are in Airflow."""
    with pytest.MonkeyPatch.context() as environment:
        made = Estate(make_site(tmp_path_factory.mktemp("changes"), environment))
        made.set_up()
        with made.airflow:
            made.wait()
            yield made


def test_changed_added_and_removed_streams_arrive_without_the_interval(estate: Estate) -> None:
    estate.site.model.stores = [
        *(Store(name, trigger=CronTrigger("Nightly", "30 2 * * *")) for name in STREAMS[2:]),
        *(Store(f"New{number}", trigger=HOURLY) for number in range(6)),
    ]
    estate.site.merge_cleanly()

    estate.wait()


def test_changes_during_parses_are_not_lost(estate: Estate) -> None:
    estate.wait()
    for _ in range(25):
        estate.change(random.choice(list(estate.expected())))
        time.sleep(random.random() / 2)

    estate.wait()


def test_stream_whose_time_is_over_comes_back(estate: Estate) -> None:
    [key, *_] = estate.expected()
    estate.site.sql(
        "UPDATE {table} SET status = 'disabled', "
        "disabled_until = timezone('UTC', now()) + interval '15 s' WHERE stream_key = %s",
        (key,),
    )
    estate.wait()

    def is_over() -> None:
        if key not in estate.in_service():
            raise NotYetError("Airflow has no DAG of it yet.")

    wait_until(is_over, seconds=120, every=0.2)
    estate.site.sql("UPDATE {table} SET status = 'active', disabled_until = NULL")


def test_dag_of_an_ended_stream_goes_when_its_run_has_ended(estate: Estate) -> None:
    estate.wait()
    [key, *_] = estate.expected()
    dag_id = f"yellowlive__{key}_ingestion"
    run_id = estate.airflow.trigger(dag_id)
    estate.site.sql("UPDATE {table} SET status = 'disabled' WHERE stream_key = %s", (key,))

    def is_ending() -> None:
        if not estate.in_service().get(key, "").startswith("run has ende"):
            raise NotYetError("The DAG does not say that its stream ends.")

    wait_until(is_ending, seconds=120, every=0.2)
    estate.airflow.end_run(dag_id, run_id, "success")

    estate.wait()
    estate.site.sql("UPDATE {table} SET status = 'active' WHERE stream_key = %s", (key,))
    estate.wait()


def test_outage_of_the_table_is_waited_out(estate: Estate) -> None:
    estate.site.sql("ALTER TABLE {table}_history RENAME TO away")

    def is_noticed() -> None:
        if "is not watched now" not in estate.log:
            raise NotYetError("The API server has not noticed that it cannot read the history.")

    wait_until(is_noticed, seconds=60, every=0.2)
    estate.site.sql("ALTER TABLE away RENAME TO {table}_history")
    [key, *_] = estate.expected()
    estate.change(key)

    estate.wait()
