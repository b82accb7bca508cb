"""Notifications of runs that failed."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

from airflow.configuration import conf

from yellow_dynamic.factory.compat import AirflowException
from yellow_dynamic.factory.logs import log, one_line
from yellow_dynamic.factory.platform import Platform
from yellow_dynamic.factory.rules import FAILURE, ON_FAILURE, parse_dag_id, parse_failure

# What a row or a job says is data to Airflow's notifier: its template is only these two.
MESSAGE_TEMPLATE, SUBJECT_TEMPLATE = "{{ failure_message }}", "{{ failure_subject }}"


class FailureNotifier:
    """Notifies by the notifier of Airflow that a platform names."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform

    def notify_failure(self, context: Any) -> None:
        """Send a notification of a run that failed.

        Airflow calls it where it parses the factory file.
        """
        subject, message = failure_message(self.platform, context)
        context["failure_subject"] = subject
        context["failure_message"] = html.escape(message, quote=False)
        airflow_notifier(self.platform)(context)


def notification_settings(platform: Platform) -> dict[str, Any]:
    """Return the settings that name the recipients of notifications; empty where there are none."""
    return {key: value for key, value in platform.settings.items() if key.startswith(ON_FAILURE)}


def airflow_notifier(platform: Platform) -> Any:
    """Return Airflow's own notifier, which no parse and no task needs to import."""
    settings = platform.settings
    try:
        if connection := settings.get("on_failure_slack_connection"):
            from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier

            return SlackWebhookNotifier(slack_webhook_conn_id=connection, text=MESSAGE_TEMPLATE)
        from airflow.providers.smtp.notifications.smtp import SmtpNotifier
    except ImportError as error:
        raise AirflowException(
            f"Nobody is told of failed runs of {platform.label}, as Airflow's image lacks the "
            f"provider of the notifier: {error}."
        ) from None
    return SmtpNotifier(
        smtp_conn_id=settings["on_failure_mail_connection"],
        to=settings["on_failure_mail_to"].split(","),
        subject=SUBJECT_TEMPLATE,
        html_content=f"<p style='white-space: pre-line'>{MESSAGE_TEMPLATE}</p>",
    )


def failure_message(platform: Platform, context: Any) -> tuple[str, str]:
    """Return in one line that a run failed, and in some lines which one, why and where to look."""
    dag_id, run_id = context["dag"].dag_id, context["run_id"]
    key = parse_dag_id(platform.name, dag_id)
    what = f"DAG {dag_id}" if key is None else f"stream {one_line(key)}"
    subject = f"{platform.label}: {what} failed"
    lines = [f"{subject} in the run {run_id}.", failure_reason(context)]
    return subject, "\n".join([*lines, *run_link(dag_id, run_id)])


def failure_reason(context: Any) -> str:
    """Return the reason that the failed task has pushed as an XCom, or else Airflow's own."""
    reasons: Iterable[Any] = ()
    try:
        if (ti := context.get("ti")) is not None:
            found = ti.xcom_pull(task_ids=sorted(context["dag"].task_ids), key=FAILURE)
            # Airflow 2 reads the XComs only now.
            reasons = list(found or ())
    except Exception as error:  # noqa: BLE001 - the notification is sent all the same
        log.warning("Airflow does not say why the run %s failed: %r.", context["run_id"], error)
    return next(filter(None, map(parse_failure, reasons)), str(context.get("reason")))


def run_link(dag_id: str, run_id: str) -> Iterator[str]:
    """Yield the address of a run in Airflow's UI, if Airflow's configuration has one."""
    run = quote(run_id, safe="")
    if base := conf.get("api", "base_url", fallback=""):
        yield f"{base.rstrip('/')}/dags/{dag_id}/runs/{run}"
    elif base := conf.get("webserver", "base_url", fallback=""):  # Airflow 2
        yield f"{base.rstrip('/')}/dags/{dag_id}/grid?dag_run_id={run}"
