"""The tasks."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger
from kubernetes.client import ApiException
from kubernetes.client import models as k8s

from yellow_dynamic.factory.compat import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    Asset,
    BaseOperator,
)
from yellow_dynamic.factory.database import read_newest_batch
from yellow_dynamic.factory.kube import (
    failed_pod_reason,
    find_waiting,
    has_started,
    is_live,
    through_outage,
)
from yellow_dynamic.factory.logs import log, one_line
from yellow_dynamic.factory.platform import Platform
from yellow_dynamic.factory.pod import JobPodOperator, refusals_as_failures
from yellow_dynamic.factory.result import (
    DONE,
    GOOD_RESULTS,
    JOB_ERROR,
    MORE,
    NO_RESULT,
    RESULT_KEY,
    UNREADABLE,
    ResultFromLog,
)
from yellow_dynamic.factory.rules import COMMITTED_BATCH, FAILURE, RAN_WITH

CHECK_TASK = "check_result"


def push_xcom(ti: Any, key: str, value: Any) -> None:
    """Push what `yellow-dynamic status` and the page read as an XCom; no task fails for it."""
    try:
        ti.xcom_push(key=key, value=value)
    except Exception as error:  # noqa: BLE001 - the run is worth more than its record
        log.warning("Airflow does not keep %s of this run: %r.", key, error)


def pull_xcom(ti: Any, task_id: str, key: str) -> Any:
    """Return an XCom of this run, or None where there is none or Airflow does not say."""
    try:
        return ti.xcom_pull(task_ids=task_id, key=key)
    except Exception as error:  # noqa: BLE001 - the run is worth more than its record
        log.warning("Airflow does not say what it keeps as %s of this run: %r.", key, error)
        return None


def push_failure(ti: Any, reason: str) -> None:
    """Push why a task fails."""
    push_xcom(ti, FAILURE, one_line(reason)[:1000])


# How often the triggerer is asked again to wait for a pod whose end it did not see; what counts it.
MAX_REDEFERRALS, REDEFERRALS = 3, "asked_again"
# How Airflow says that no triggerer has waited to the end.
TRIGGER_TIMEOUT = "Trigger timeout"


@functools.cache
def can_defer() -> bool:
    """Return whether the provider's trigger removes the pod of a task that is ended by hand."""
    defer = inspect.signature(KubernetesPodOperator.invoke_defer_method)
    return hasattr(KubernetesPodTrigger, "safe_to_cancel") and "context" in defer.parameters


class IngestionPodOperator(JobPodOperator):
    """Runs a stream's job, and keeps on record what it ran with and what it brought.

    The record is an XCom of the task and its Rendered tab in Airflow.
    """

    # In Airflow's metadata database one and the same, whichever file has the code.
    __module__ = "yellow_dynamic"

    template_fields: tuple[str, ...] = ("ran_with",)
    template_fields_renderers = {"ran_with": "json"}  # noqa: RUF012 - as Airflow has it
    # Airflow 3 writes the tab once more when the task ends.
    overwrite_rtif_after_execution = True
    ran_with: dict[str, Any] | None = None
    platform: Platform
    #: What of the row came from RunSettings.
    run_settings: dict[str, Any] | None = None
    stream_key = revision = batch_key = None
    #: Whether the stream's row is disabled or gone, so that no job may begin.
    ended = False

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:  # noqa: ARG002
        """Fill in what the tab shows; nothing is a template."""
        self.ran_with = {
            "stream": self.stream_key,
            "revision": self.revision,
            "row": row_source(self.platform),
            "image": self.image,
            "arguments": self.arguments,
            **({"settings": self.run_settings} if self.run_settings else {}),
        }

    def execute(self, context: Any) -> Any:
        """Run the job; an Asset has an event when a batch of it was committed.

        Where the triggerer is to wait for the job, this ends with TaskDeferred.
        """
        if self.ended:
            raise AirflowSkipException(
                "The stream was disabled, or removed from the model, before the job of this run "
                "began, so it does not run."
            )
        if self.deferrable and not can_defer():
            log.warning(
                "The installed release of the Kubernetes provider leaves the pods of deferred "
                "tasks that are failed by hand, so this task waits for its job itself."
            )
            self.deferrable = False
        push_xcom(context["ti"], RAN_WITH, self.ran_with)
        return self.run_and_record(context, super().execute)

    def trigger_reentry(self, context: Any, event: dict[str, Any]) -> Any:
        """Go on when the triggerer has waited for the job, as if this task itself had waited."""
        found = pull_xcom(context["ti"], self.task_id, RAN_WITH)
        # An XCom backend that has lost the value returns its address.
        self.ran_with = found if isinstance(found, dict) else self.ran_with
        return self.run_and_record(context, functools.partial(self.resume, event=event))

    def resume(self, context: Any, event: dict[str, Any]) -> Any:
        """Wait for the rest of the job, or have the triggerer do so where it saw no end of it."""
        name, said = event["name"], one_line(str(event.get("message")))
        with refusals_as_failures():
            pod = self.read_pod(name, event["namespace"])
        if pod is None:
            # Its node may still be ending it.
            time.sleep(self.kill_seconds)
            raise AirflowException(f"The job's pod {name} failed: {failed_pod_reason(None)}.")
        self.pod = self.pod_request_obj = pod
        if is_live(pod):
            if event["status"] == "timeout":
                if not has_started(pod):
                    said = f"{said} Last: {find_waiting(self.client, pod).text}."
                self.process_pod_deletion(pod, reraise=False)
                raise AirflowException(f"The job's pod {name} had no time left: {said}")
            asked = event.get(REDEFERRALS, 0)
            log.warning("The triggerer saw no end of pod %s: %s.", name, said)
            if self.deferrable and asked < MAX_REDEFERRALS:
                self.trigger_kwargs = {REDEFERRALS: asked + 1}
                self.invoke_defer_method(context=context)
        return self.execute_sync(context)

    def read_pod(self, name: str, namespace: str) -> k8s.V1Pod | None:
        try:
            return through_outage(self.client.read_namespaced_pod, name, namespace)
        except ApiException as error:
            if error.status != 404:
                raise
            return None

    def resume_execution(self, next_method: str, next_kwargs: Any, context: Any) -> Any:
        """Go on after the triggerer, also where Airflow has only to say that it failed."""
        if next_method != "__fail__":
            return super().resume_execution(next_method, next_kwargs, context)
        ti, said = context["ti"], (next_kwargs or {}).get("error")
        name, namespace = (
            ti.xcom_pull(task_ids=self.task_id, key=key) for key in ("pod_name", "pod_namespace")
        )
        status = "timeout" if said == TRIGGER_TIMEOUT else "error"
        event = {"name": name, "namespace": namespace, "status": status, "message": said}
        return self.trigger_reentry(context, {**event, REDEFERRALS: MAX_REDEFERRALS})

    def run_and_record(self, context: Any, work: Callable[[Any], Any]) -> Any:
        """Do the work of the task, and push what it brought or why it failed."""
        try:
            done = work(context)
            self.raise_for_retry(ResultFromLog.result)
        except Exception as error:
            last = ResultFromLog.errors.last
            said = f" The job said: {last.rstrip('.')}." if last else ""
            push_failure(context["ti"], f"{error}{said}")
            raise
        batch = (
            read_newest_batch(self.platform, self.batch_key)
            if ResultFromLog.result in GOOD_RESULTS
            else None
        )
        if batch is not None:
            self.ran_with = {**(self.ran_with or {}), "batch": batch}
            push_xcom(context["ti"], RAN_WITH, self.ran_with)
        self.announce(batch, context)
        return done

    def raise_for_retry(self, code: str | None) -> None:
        """Fail where the job reported an error and is to be tried again for it."""
        if self.retries and code is not None and code not in GOOD_RESULTS:
            raise AirflowException(describe_result(code, None))

    def announce(self, batch: dict[str, Any] | None, context: Any) -> None:
        """Let the Assets of the task have an event each, if a batch was committed."""
        if ResultFromLog.result != DONE or (batch and batch["status"] != COMMITTED_BATCH):
            self.outlets: list[Asset] = []
        for asset in self.outlets:
            context["outlet_events"][asset].extra = batch or {}


def row_source(platform: Platform) -> str:
    """Return where this process read the row that its task runs with."""
    age = platform.reading["age"]
    if age is None:
        return "database"
    confirmed = datetime.now(timezone.utc) - timedelta(seconds=age)
    return f"snapshot, last confirmed by the database at {confirmed:%Y-%m-%d %H:%M:%S} UTC"


class ConfigErrorOperator(BaseOperator):
    """Fails with the reason why its row could not become a DAG."""

    __module__ = "yellow_dynamic"

    def __init__(self, *, reason: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reason = reason

    def execute(self, context: Any) -> None:
        push_failure(context["ti"], self.reason)
        raise AirflowFailException(self.reason)


def choose_next_task(ti: Any, dag: Any, **_: Any) -> str:
    """Return the task that follows the job's result, or fail with what went wrong."""
    [job_task] = dag.get_task(CHECK_TASK).upstream_task_ids
    code = ti.xcom_pull(task_ids=job_task, key=RESULT_KEY)
    # Not by the tag, which a stream's own key may be.
    if code == MORE and not dag.get_task(job_task).ended:
        return "reschedule_immediately"
    if code in GOOD_RESULTS:
        return "wait_for_trigger"
    if code is None:
        # The job's task pushes a result, if only NO_RESULT, before it succeeds by itself.
        log.warning(
            "The task %s has handed on no result, so it was marked as success by hand. The run "
            "ends as if its job had nothing more to do.",
            job_task,
        )
        return "wait_for_trigger"
    said = ti.xcom_pull(task_ids=job_task, key=JOB_ERROR)
    reason = f"{describe_result(code, said)} Its output is in the log of task {job_task}."
    push_failure(ti, reason)
    raise AirflowFailException(reason)


def describe_result(code: str, said: str | None) -> str:
    """Return what went wrong in a job that ended with none of the GOOD_RESULTS.

    Args:
        code: the result that its task pushed.
        said: the last error in its log.
    """
    if code.startswith(UNREADABLE):
        reason = (
            f"ended well, but its log cannot be read ({code.removeprefix(UNREADABLE)}), so its "
            "result is not known. The next run goes on where it ended"
        )
    elif code == NO_RESULT:
        reason = "printed no line DATASURFACE_RESULT_CODE=N, so it did not end in order"
    elif code == "-1":
        reason = "reported an error (DATASURFACE_RESULT_CODE=-1)"
    else:
        reason = f"printed the unknown result DATASURFACE_RESULT_CODE={code!a}"
    return f"The job {reason}: {said.rstrip('.')}." if said else f"The job {reason}."
