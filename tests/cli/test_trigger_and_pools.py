"""`yellow-dynamic trigger` and `pools`, and what `check` says of pools, on a real Airflow."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Site
from watching_airflow import WatchingAirflow

from one_machine import NotYetError, wait_until
from yellow_dynamic import RunSettings

from .conftest import Operator

pytestmark = pytest.mark.slow

SETTINGS = {
    "Store1": RunSettings(pool="erp", poolSlots=3),
    "Pair_a": RunSettings(pool="erp", deferrable=True),
    "Pair_b": RunSettings(pool="crm"),
}


class Watched(Operator):
    """An operator whose streams have pools, and whose DAG folder a real Airflow watches."""

    def __init__(self, site: Site) -> None:
        site.model.platformArguments = {"runsOf": SETTINGS}
        super().__init__(site)
        self.bootstrap()
        self.merge()
        self.airflow = WatchingAirflow(site, "airflow_of_trigger")

    def ask(self, command: str, *words: Any) -> tuple[int, dict[str, Any]]:
        """Return the exit code of a command and what it prints for programs."""
        address = ("--model", self.model, "--airflow-url", self.airflow.address)
        result = self(command, *words, *address, "--json")
        assert result.exit_code in (0, 2), result.output
        return result.exit_code, json.loads(result.stdout)

    def pools(self, *words: Any) -> tuple[int, dict[str, dict[str, Any]]]:
        code, found = self.ask("pools", *words)
        [platform] = found["platforms"]
        return code, {pool["name"]: pool for pool in platform["pools"]}

    def pool_check(self) -> dict[str, Any]:
        _, found = self.ask("check", "--dags", self.dags)
        [platform] = found["platforms"]
        [check] = [each for each in platform["checks"] if each["name"] == "Airflow has the pools"]
        return dict(check)


@pytest.fixture(scope="module")
def running(
    make_site: Callable[[Path, pytest.MonkeyPatch], Site],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Watched]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("COLUMNS", "300")
        watched = Watched(make_site(tmp_path_factory.mktemp("trigger"), environment))
        for name, value in (
            ("USER", watched.airflow.user),
            ("PASSWORD", watched.airflow.password),
        ):
            environment.setenv(f"AIRFLOW_API_{name}", value)
        with watched.airflow:
            wait_until(lambda: has_dags(watched), seconds=60)
            yield watched


def has_dags(watched: Watched) -> None:
    if len(watched.airflow.dag_ids()) != 3:
        raise NotYetError(f"Airflow has {watched.airflow.dag_ids()}.")


@pytest.fixture
def watched(running: Watched) -> Iterator[Watched]:
    yield running
    running.airflow.remove_pools()


# --- pools ------------------------------------------------------------------------------------


def test_missing_pools_are_listed_and_made_with_a_size(watched: Watched) -> None:
    code, pools = watched.pools()

    assert code == 2
    assert {name: (pool["streams"], pool["slots"]) for name, pool in pools.items()} == {
        "crm": (1, None),
        "erp": (2, None),
    }
    assert pools["erp"]["problem"] == "Airflow has no such pool, so none of its jobs runs"

    code, pools = watched.pools("--slots", 4)

    assert code == 0
    assert [(pool["made"], pool["slots"], pool["problem"]) for pool in pools.values()] == [
        (True, 4, None)
    ] * 2
    [erp] = [pool for pool in watched.airflow.get("pools")["pools"] if pool["name"] == "erp"]
    assert (erp["slots"], erp["include_deferred"]) == (4, True)
    assert watched.pools()[0] == 0


def test_pool_that_is_there_stays_as_it_is(watched: Watched) -> None:
    watched.airflow.set_pool("erp", slots=7, include_deferred=True)

    _, pools = watched.pools("--slots", 4)

    assert (pools["erp"]["slots"], pools["erp"]["made"]) == (7, False)


@pytest.mark.parametrize(
    ("pool", "problem"),
    [
        ({"slots": 2, "include_deferred": True}, "it has 2 slots, and a job takes 3"),
        ({"slots": 9, "include_deferred": False}, "it does not count the jobs that the triggerer"),
    ],
    ids=["too small", "without deferred jobs"],
)
def test_pool_that_does_not_do_is_told(
    watched: Watched, pool: dict[str, Any], problem: str
) -> None:
    watched.airflow.set_pool("crm", slots=1)
    watched.airflow.set_pool("erp", **pool)

    code, pools = watched.pools("--slots", 4)

    assert code == 2
    assert problem in pools["erp"]["problem"]
    check = watched.pool_check()
    assert (check["passed"], problem in check["detail"]) == (False, True)
    assert check["fix"].startswith("airflow pools set erp ")


def test_pools_are_shown_to_people(watched: Watched) -> None:
    watched.airflow.set_pool("crm", slots=-1)
    result = watched("pools", "--model", watched.model, "--airflow-url", watched.airflow.address)

    assert result.exit_code == 2
    assert "YellowLive: 2 pools" in result.stdout
    assert "unlimited" in result.stdout
    assert "--slots N makes the missing ones" in result.stdout


def test_check_finds_a_missing_pool_and_says_how_to_make_it(watched: Watched) -> None:
    check = watched.pool_check()

    assert not check["passed"]
    assert "erp: Airflow has no such pool" in check["detail"]
    words = check["fix"].split()
    assert words[:2] == ["yellow-dynamic", "pools"]
    assert watched(*words[1:], "--model", watched.model).exit_code == 0
    assert watched.pool_check()["passed"]


def test_check_finds_that_nobody_waits_for_deferred_jobs(watched: Watched) -> None:
    """The Airflow of these tests has no triggerer."""
    _, found = watched.ask("check", "--dags", watched.dags)

    [platform] = found["platforms"]
    [check] = [it for it in platform["checks"] if it["name"] == "Airflow's triggerer runs"]
    assert not check["passed"]
    assert check["detail"] == "no triggerer is alive, so no run of 1 stream ends: Pair_a"
    assert check["fix"].startswith("airflow triggerer")


# --- trigger ----------------------------------------------------------------------------------


def test_run_of_one_stream_is_started(watched: Watched) -> None:
    code, found = watched.ask("trigger", "Store1")

    assert code == 0
    [started] = found["streams"]
    runs = watched.airflow.runs("yellowlive__Store1_ingestion")
    assert started["run_id"] in {run["dag_run_id"] for run in runs if run["run_type"] == "manual"}


def test_what_started_and_what_did_not_is_listed(watched: Watched) -> None:
    watched("disable", "Pair_a", "--model", watched.model)
    watched.airflow.pause("yellowlive__Pair_b_ingestion", True)
    # Its DAG, which says what is wrong, has an id that Airflow takes.
    watched.site.insert("No where", watched.rows()["Store1"][1])
    try:
        result = watched(
            *("trigger", "--all", "--yes", "--model", watched.model),
            *("--airflow-url", watched.airflow.address),
        )
    finally:
        watched.site.sql("DELETE FROM {table} WHERE stream_key = 'No where'")
        watched("enable", "Pair_a", "--model", watched.model)
        watched.airflow.pause("yellowlive__Pair_b_ingestion", False)

    assert result.exit_code == 2
    lines = {line.split("│")[1].strip(): line for line in result.stdout.splitlines() if "│" in line}
    assert "not started: it is disabled" in lines["Pair_a"]
    assert "not started: it is paused in Airflow" in lines["Pair_b"]
    assert "not started: Airflow has no DAG of it" in lines["No where"]
    assert "manual__" in lines["Store1"]
    assert "1 of 4 runs started." in result.stdout


def test_streams_are_chosen_as_elsewhere(watched: Watched) -> None:
    address = ("--model", watched.model, "--airflow-url", watched.airflow.address)

    code, found = watched.ask("trigger", "--store", "Pair", "--yes")
    asked = watched("trigger", "Pair_*", *address)
    none = watched("trigger", "Sap_*", *address)
    nobody = watched("trigger", *address)
    nowhere = watched("trigger", "Store1", "--model", watched.model)

    assert [each["stream_key"] for each in found["streams"]] == ["Pair_a", "Pair_b"]
    assert code == 0
    assert asked.exit_code == none.exit_code == nobody.exit_code == nowhere.exit_code == 1
    assert "Start 2 runs now? There is nobody to ask here" in asked.output
    assert "No stream of YellowLive is selected by 'Sap_*'" in none.output
    assert "Say which streams" in nobody.output
    assert "Give --airflow-url, or set AIRFLOW_API_URL" in nowhere.output
