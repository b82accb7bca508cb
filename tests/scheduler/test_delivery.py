"""What `yellow-dynamic status` says of streams that a real Airflow 3 runs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from processors import IS_AIRFLOW_2
from typer.testing import CliRunner

from yellow_dynamic.command.app import app

from .installation import BROKEN, STEADY, Installation, dag_id

pytestmark = [
    pytest.mark.scheduler,
    pytest.mark.skipif(IS_AIRFLOW_2, reason="This Airflow 2 has no web server to ask."),
]


@pytest.fixture
def platform(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command prints for programs of the platform, once two streams have run."""
    for stream in (BROKEN, STEADY):
        installation.ended(stream)
    airflow = installation.airflow
    for name, value in {
        **installation.parsing_environment,
        "AIRFLOW_API_USER": airflow.user,
        "AIRFLOW_API_PASSWORD": airflow.password,
    }.items():
        monkeypatch.setenv(name, value)
    words = ["status", "--dags", str(installation.dags), "--airflow-url", airflow.address, "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2, result.output
    [found] = json.loads(result.stdout)["platforms"]
    return dict(found)


def test_failing_stream_is_said_with_its_run_and_what_its_job_said(
    installation: Installation, platform: dict[str, Any]
) -> None:
    streams = {each["stream_key"]: each for each in platform["streams"]}

    runs = {run["dag_run_id"] for run in installation.runs(BROKEN)}
    state, reason = streams[BROKEN]["state"], streams[BROKEN]["reason"]
    assert state == "failing"
    assert reason.split()[2] in runs
    assert "(DATASURFACE_RESULT_CODE=-1): The source is on fire. Its output is in" in reason
    assert streams[BROKEN]["dag_id"] == dag_id(BROKEN)
    assert streams[STEADY]["state"] != "failing"
    assert not platform["well"]
