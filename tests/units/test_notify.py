"""What a notification of a failed run says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from yellow_dynamic.factory.notify import (
    failure_message,
    failure_reason,
    notification_settings,
    run_link,
)
from yellow_dynamic.factory.platform import Platform


def context(dag_id: str, pull: Any = lambda **_: ["", "disk full"]) -> dict[str, Any]:
    return {
        "dag": SimpleNamespace(dag_id=dag_id, task_ids={"b", "a"}),
        "run_id": "manual__2026-01-01T00:00:00+00:00",
        "ti": SimpleNamespace(xcom_pull=pull),
        "reason": "task_failure",
    }


def test_message_names_platform_stream_run_and_reason(platform: Platform) -> None:
    subject, message = failure_message(platform, context("yellowlive__Store1_ingestion"))

    assert subject == "YellowLive: stream Store1 failed"
    assert message.splitlines()[:2] == [
        "YellowLive: stream Store1 failed in the run manual__2026-01-01T00:00:00+00:00.",
        "disk full",
    ]


def test_dag_that_is_no_streams_is_named_itself(platform: Platform) -> None:
    assert failure_message(platform, context("other"))[0] == "YellowLive: DAG other failed"


def test_reason_is_airflows_own_where_no_task_has_pushed_one() -> None:
    def fail(**_: Any) -> Any:
        raise OSError("no API")

    assert failure_reason(context("x", lambda **_: None)) == "task_failure"
    assert failure_reason(context("x", fail)) == "task_failure"
    # What an XCom backend returns whose object is gone.
    lost = "file:///xcoms/x/manual__1/check_result/1.json"
    assert failure_reason(context("x", lambda **_: [lost])) == "task_failure"


def test_run_id_is_quoted_in_the_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example/")

    assert list(run_link("dag", "manual__1+0:0")) == [
        "https://airflow.example/dags/dag/runs/manual__1%2B0%3A0"
    ]


def test_only_settings_of_notifications_name_recipients(platform: Platform) -> None:
    assert notification_settings(platform) == {}

    platform.settings["on_failure_slack_connection"] = "slack"

    assert notification_settings(platform) == {"on_failure_slack_connection": "slack"}
