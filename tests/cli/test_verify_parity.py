"""`yellow-dynamic verify-parity`: static files against the factory's DAGs, by a real Airflow."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Site
from run_settings import EVERYTHING
from static_files import write_static_files
from typer.testing import CliRunner, Result
from yellow_models import IMAGE, SINGLE, Store

from datasurface.md import CronTrigger
from one_machine import free_port
from yellow_dynamic.command.app import app
from yellow_dynamic.command.parity import BY_SETTING
from yellow_dynamic.run_settings import ARGUMENT_KEYS

pytestmark = pytest.mark.embedded

STORE1 = "yellowlive__Store1_ingestion"


@pytest.fixture
def both(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A platform of three streams with its static files in `static` and its DAGs in `dags`."""
    monkeypatch.setenv("COLUMNS", "300")
    site.model.stores = [Store("Store1"), Store("Pair", ["a", "b"], SINGLE)]
    site.bootstrap()
    site.merge_cleanly()
    write_static_files(site, site.folder / "static")
    (site.folder / "dags").mkdir()
    shutil.move(site.factory_file, site.folder / "dags")
    return site


def verify(site: Site, *extra: str, **changes: Any) -> Result:
    options = {
        "platform": "YellowLive",
        "static": site.folder / "static",
        "dags": site.folder / "dags",
        **changes,
    }
    argv = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return CliRunner().invoke(app, ["verify-parity", *argv, *extra])


def refusal(result: Result) -> str:
    """Return the one line of a run that could not compare."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    return line


def update_config(site: Site, key: str, **changes: Any) -> None:
    site.sql(
        "UPDATE {table} SET config_json = (config_json::jsonb || %s::jsonb)::text "
        "WHERE stream_key = %s",
        (json.dumps(changes), key),
    )


@pytest.mark.slow
def test_equal_streams_are_listed_and_end_with_status_0(both: Site) -> None:
    result = verify(both, python=f"env ANY=1 {shlex.quote(sys.executable)}")

    assert result.exit_code == 0, result.output
    for key in ("Store1", "Pair_a", "Pair_b"):
        [line] = [line for line in result.stdout.splitlines() if f"__{key}_ingestion" in line]
        assert "equal" in line
    assert "YellowLive on Airflow " in result.stdout
    # Neither the snapshot of Airflow nor anything else is touched.
    assert not both.snapshots.exists()


@pytest.mark.slow
def test_each_kind_of_difference_is_shown_with_both_values(both: Site) -> None:
    update_config(both, "Store1", datasurface_docker_image="acme/jobs:2", git_repo_branch="next")
    update_config(both, "Pair_a", stream_key="another's")
    both.sql("DELETE FROM {table} WHERE stream_key = 'Pair_b'")
    (both.folder / "static" / "yellowlive__Pair_b_ingestion.py").rename(
        both.folder / "static" / "yellowlive__Old_ingestion.py"
    )
    update_config(both, "Store1", schedule_string="0 3 * * *")

    result = verify(both)

    assert result.exit_code == 2, result.output
    lines = result.stdout.splitlines()
    [image] = [line for line in lines if "pods.snapshot_merge_job.spec.containers.base.im" in line]
    assert IMAGE in image
    assert "acme/jobs:2" in image
    assert any("dag.timetable" in line and "0 3 * * *" in line for line in lines)
    assert any("yellowlive__Pair_b_ingestion" in line and "only static" in line for line in lines)
    assert 'its config_json is that of stream "another\'s"' in result.stdout


@pytest.mark.slow
def test_what_settings_of_the_model_bring_is_named_as_that(both: Site) -> None:
    both.model.stores[0].trigger = CronTrigger("Hourly", "0 * * * *")
    write_static_files(both, both.folder / "static")
    both.model.platformArguments = {"runs": EVERYTHING}
    both.merge_cleanly()
    update_config(both, "Pair_a", namespace_name="elsewhere")

    result = verify(both)
    found = json.loads(verify(both, "--json").stdout)

    assert result.exit_code == 2, result.output
    streams = {each["dag_id"]: each for each in found["platforms"][0]["streams"]}
    assert {key: stream["result"] for key, stream in streams.items()} == {
        STORE1: "equal but for settings",
        "yellowlive__Pair_a_ingestion": "differs",
        "yellowlive__Pair_b_ingestion": "equal but for settings",
    }
    by = {each["key"]: each["setting"] for each in streams[STORE1]["differences"]}
    assert None not in by.values()
    # What is seen neither in a serialized DAG nor in a pod.
    seen = set(ARGUMENT_KEYS.values()) - {"start_timeout_seconds", "deferrable"}
    assert {*BY_SETTING, "pod_template"} == set(by.values()) == seen
    assert {
        each["key"]
        for each in streams["yellowlive__Pair_a_ingestion"]["differences"]
        if each["setting"] is None
    } == {
        "pods.snapshot_merge_job.metadata.namespace",
        "pods.snapshot_merge_job.spec.containers.base.env.DATASURFACE_NAMESPACE.value",
    }
    assert any(
        "dag.dagrun_timeout" in line and "dag_run_timeout_seconds" in line
        for line in result.stdout.splitlines()
    )


@pytest.mark.slow
def test_json_holds_the_same_for_programs(both: Site) -> None:
    update_config(both, "Store1", namespace_name="elsewhere")
    (both.folder / "static" / "yellowlive__Pair_b_ingestion.py").unlink()

    result = verify(both, "--json")

    assert result.exit_code == 2, result.output
    whole = json.loads(result.stdout)
    [found] = whole["platforms"]
    assert (found["platform"], found["equal"], whole["equal"]) == ("YellowLive", False, False)
    assert {stream["dag_id"]: stream["result"] for stream in found["streams"]} == {
        "yellowlive__Pair_a_ingestion": "equal",
        "yellowlive__Pair_b_ingestion": "only dynamic",
        STORE1: "differs",
    }
    [store1] = [stream for stream in found["streams"] if stream["dag_id"] == STORE1]
    assert {
        "key": "pods.snapshot_merge_job.metadata.namespace",
        "static": "ns-test",
        "dynamic": "elsewhere",
        "setting": None,
    } in store1["differences"]
    assert found["static_files_beside_the_factory"] == found["static_files_that_collide"] == []


@pytest.mark.slow
def test_static_files_left_beside_the_factory_file_are_named_and_compared(both: Site) -> None:
    write_static_files(both, both.folder / "dags")

    result = verify(both, static=both.folder / "dags")

    assert result.exit_code == 0, result.output
    assert "3 static files lie beside the factory file" in result.stdout
    assert f"{both.folder}/dags/{STORE1}.py" in result.stdout


@pytest.mark.slow
def test_static_files_elsewhere_in_the_dag_folder_collide(both: Site) -> None:
    write_static_files(both, both.folder / "dags" / "old")

    result = verify(both)

    assert result.exit_code == 2, result.output
    assert "3 static files elsewhere in the DAG folder define DAGs that" in result.stdout
    assert f"{both.folder}/dags/old/{STORE1}.py" in result.stdout


@pytest.mark.slow
def test_database_that_is_away_is_an_error_though_there_is_a_snapshot(
    both: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(both.folder / "dags" / both.factory_file.name, both.factory_file)
    both.parse()
    assert both.snapshots.exists()
    monkeypatch.setenv("DATASURFACE_POSTGRES_PORT", str(free_port()))

    line = refusal(verify(both))

    assert both.table in line
    assert "Connection refused" in line
    assert both.postgres.password not in line


@pytest.mark.slow
def test_static_file_that_cannot_be_loaded_is_named_with_its_reason(both: Site) -> None:
    broken = both.folder / "static" / f"{STORE1}.py"
    broken.write_text("# airflow dag\nraise RuntimeError('half a file')\n")

    line = refusal(verify(both))

    assert f"{broken} cannot be loaded: RuntimeError: half a file" in line


@pytest.mark.slow
def test_two_static_files_of_one_dag_are_named(both: Site) -> None:
    copies = both.folder / "static" / "copy"
    copies.mkdir()
    first = both.folder / "static" / f"{STORE1}.py"
    shutil.copy(first, copies)

    line = refusal(verify(both))

    assert f"Two files define the DAG {STORE1}: " in line
    assert str(copies / first.name) in line


def test_folder_that_is_not_there_is_named(both: Site) -> None:
    assert "There is no folder /not/there." in refusal(verify(both, static="/not/there"))
    assert "There is no folder /not/there." in refusal(verify(both, dags="/not/there"))


def test_folder_without_static_files_of_the_platform_is_named(both: Site, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    line = refusal(verify(both, static=tmp_path / "empty"))

    assert "There is no static file yellowlive__*_ingestion.py in" in line


def test_missing_factory_file_is_said_with_those_that_are_there(both: Site) -> None:
    (both.folder / "dags" / "yellowlive_factory_dag.py").rename(
        both.folder / "dags" / "other_factory_dag.py"
    )

    line = refusal(verify(both))

    assert "There is no factory file yellowlive_factory_dag.py in" in line
    assert "other_factory_dag.py" in line
    assert "generatePlatformBootstrap with --ringLevel 0" in line


def test_two_factory_files_are_named(both: Site) -> None:
    (both.folder / "dags" / "old").mkdir()
    factory = both.folder / "dags" / "yellowlive_factory_dag.py"
    shutil.copy(factory, both.folder / "dags" / "old")

    line = refusal(verify(both))

    assert "Two files define the same DAGs; delete all but one of: " in line
    assert f"{factory}" in line


def test_python_without_airflow_is_told_from_the_right_one(both: Site) -> None:
    # Without the module `site` a Python does not see what is installed.
    line = refusal(verify(both, python=f"{shlex.quote(sys.executable)} -I -S"))

    assert "Airflow is not installed for" in line
    assert "Give --python the command that starts Airflow's Python." in line


def test_command_that_cannot_be_started_is_named(both: Site) -> None:
    line = refusal(verify(both, python="/not/there/python"))

    assert "'/not/there/python' cannot be started (No such file or directory)" in line


def test_last_words_of_a_command_that_fails_are_shown(both: Site) -> None:
    line = refusal(verify(both, python="sh -c 'echo no such pod >&2; exit 3'"))

    assert "ended with exit code 3 and without an answer" in line
    assert "Its last words: no such pod" in line


def test_command_that_is_no_python_is_named(both: Site) -> None:
    assert "(echo) ended with exit code 0 and without an answer" in refusal(
        verify(both, python="echo")
    )
    assert "is not a command: No closing quotation" in refusal(verify(both, python="'"))
