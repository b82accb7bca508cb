"""Who is told of a run that failed, through Airflow's own notifiers."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from airflow_names import AirflowException
from conftest import Site, import_file, registered_dags
from told import mail_server, slack_webhook
from warm_python import AIRFLOW, warm_python
from yellow_models import UNIT_START

from yellow_dynamic import EMail, SlackWebhook

DAG_ID = "yellowlive__Store1_ingestion"
REASON = "The source said: {{ 7 * 7 }} <b>&"


class FailedTask:
    """A task instance of Airflow, whose tasks have kept a reason."""

    def xcom_pull(self, *, task_ids: list[str], key: str) -> list[str | None]:
        """Return what each task has kept under a key."""
        assert (len(task_ids), key) == (4, "failure")
        return [None, REASON, None, None]


def telling(site: Site, told: Any) -> dict[str, Any]:
    """Return the DAGs of a platform that tells people of failed runs."""
    site.model.platformArguments["onFailure"] = told
    site.bootstrap()
    site.merge_cleanly()
    site.insert("Broken", "{}")
    return site.parse()


def fail(dag: Any, **more: Any) -> None:
    """Do what Airflow does when a run has failed."""
    callbacks = dag.on_failure_callback
    callback = callbacks[0] if isinstance(callbacks, list) else callbacks
    callback({"dag": dag, "run_id": "manual__2026-11-27T03:00:00+00:00", **more})


def test_slack_channel_is_told_which_stream_failed_and_why(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    dag = telling(site, SlackWebhook("slack_failures"))[DAG_ID]
    with slack_webhook() as (texts, connection):
        monkeypatch.setenv("AIRFLOW_CONN_SLACK_FAILURES", connection)
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.org/")
        fail(dag, ti=FailedTask(), reason="task_failure")

    assert texts[0].splitlines() == [
        "YellowLive: stream Store1 failed in the run manual__2026-11-27T03:00:00+00:00.",
        # Nothing that a job says is a template, or markup of Slack.
        "The source said: {{ 7 * 7 }} &lt;b&gt;&amp;",
        f"https://airflow.example.org/dags/{DAG_ID}/runs/manual__2026-11-27T03%3A00%3A00%2B00%3A00",
    ]


def test_mail_says_which_stream_failed_and_why(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    to = ["night@example.org", "day@example.org"]
    dag = telling(site, EMail(to, "mail_of_failures"))[DAG_ID]
    with mail_server() as (box, connection):
        monkeypatch.setenv("AIRFLOW_CONN_MAIL_OF_FAILURES", connection)
        fail(dag, ti=FailedTask(), reason="task_failure")

    [mail] = box.mails
    assert mail["Subject"] == "YellowLive: stream Store1 failed"
    assert mail["To"] == "night@example.org, day@example.org"
    [part] = [part for part in mail.walk() if part.get_content_type() == "text/html"]
    assert "The source said: {{ 7 * 7 }} &lt;b&gt;&amp;" in part.get_content()


def test_run_that_no_task_explains_is_told_with_airflows_reason(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    dag = telling(site, SlackWebhook("slack_failures"))[DAG_ID]
    with slack_webhook() as (texts, connection):
        monkeypatch.setenv("AIRFLOW_CONN_SLACK_FAILURES", connection)
        fail(dag, reason="timed_out")

    assert texts[0].splitlines()[1] == "timed_out"


def test_stream_whose_row_is_not_valid_is_told_too(site: Site) -> None:
    dags = telling(site, SlackWebhook("slack_failures"))

    assert all(dag.on_failure_callback for dag in dags.values())
    assert "yellowlive__Broken_ingestion" in dags


def test_dag_that_merges_the_model_tells_the_same_people(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.model.platformArguments["onFailure"] = SlackWebhook("slack_failures")
    files = site.bootstrap()
    file = site.folder / f"{UNIT_START}_infrastructure_dag.py"
    file.write_text(files[file.name], encoding="utf-8")
    [dag] = registered_dags(import_file(file)).values()
    with slack_webhook() as (texts, connection):
        monkeypatch.setenv("AIRFLOW_CONN_SLACK_FAILURES", connection)
        fail(dag, reason="task_failure")

    first, reason = texts[0].splitlines()[:2]
    assert first.startswith(
        f"YellowLive: DAG {UNIT_START}_infrastructure failed in the run manual__"
    )
    assert reason == "task_failure"


def test_nobody_is_told_unless_the_platform_says_who(installed: Site) -> None:
    assert not installed.parse()[DAG_ID].on_failure_callback
    assert "'notifies': False" in installed.bootstrap()[f"{UNIT_START}_infrastructure_dag.py"]


def test_missing_provider_costs_no_dag_and_is_named(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "airflow.providers.slack.notifications.slack_webhook"
    monkeypatch.setitem(sys.modules, module, None)
    dag = telling(site, SlackWebhook("slack_failures"))[DAG_ID]

    with pytest.raises(AirflowException, match="Nobody is told of failed runs of YellowLive, as"):
        fail(dag)


def test_no_parse_imports_a_notifier(site: Site) -> None:
    telling(site, SlackWebhook("slack_failures"))
    code = (
        "import sys, json, importlib.util as u\n"
        f"spec = u.spec_from_file_location('factory', {str(site.factory_file)!r})\n"
        "module = u.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        f"assert {DAG_ID!r} in vars(module)\n"
        "print(json.dumps([name for name in sys.modules if '.notifications' in name]))\n"
    )
    command = [warm_python(*AIRFLOW), "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert json.loads(done.stdout.splitlines()[-1]) == []


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ("slack_failures", "it must be a SlackWebhook or an EMail"),
        (SlackWebhook("no connection\n"), "which cannot be the id of a connection of Airflow"),
        (EMail("nobody"), "it has 'nobody', which is no mail address"),
        (EMail([]), "it has None, which is no mail address"),
        (EMail(None), "it has None, which is no mail address"),  # type: ignore[arg-type]
        (EMail("a@b.org,c@d.org"), "which is no mail address"),
    ],
)
def test_platform_that_names_nobody_to_tell_is_refused(site: Site, told: Any, problem: str) -> None:
    site.model.platformArguments["onFailure"] = told

    with pytest.raises(ValueError, match="onFailure of platform 'YellowLive'") as refused:
        site.bootstrap()

    assert problem in str(refused.value)
