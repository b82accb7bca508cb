"""The job's pod, and the operator that runs it."""

from __future__ import annotations

import base64
import hashlib
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodManager
from kubernetes.client import ApiException
from kubernetes.client import models as k8s
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_exponential,
)
from urllib3.exceptions import HTTPError

from yellow_dynamic.factory.compat import AirflowException
from yellow_dynamic.factory.kube import (
    API_START_SECONDS,
    ENDED_PHASES,
    NEVER_STARTS,
    OUTAGE_SECONDS,
    Note,
    api_error_message,
    describe_refusal,
    failed_pod_reason,
    find_api_error,
    find_waiting,
    has_started,
    is_live,
    is_transient,
    job_end,
    may_be_starting,
    read_current_pod,
    read_events,
    through_outage,
    with_retries,
)
from yellow_dynamic.factory.logs import log

# How long a job that is due waits for a former pod of its stream to end, and for what may pass by
# itself: a quota that is used up, an API that does not answer.
START_SECONDS = 60 * 60
# How long its pod may then take until it runs; images of some gigabytes are pulled in this time.
POD_START_SECONDS = 15 * 60
# How long Kubernetes may take to end a pod whose time is up, before its node counts as lost.
LOST_NODE_SECONDS = 5 * 60
# What takes longer than this has followed the job's log, and not only tried to.
FOLLOWED_SECONDS = 2 * 60
# How long a pod that has ended is left to its own run, which reads its log and removes it.
OWNER_SECONDS = 20
# Says which run a deferred job's pod is of; Kubernetes' labels take no run id as it is.
RUN_ANNOTATION = "yellow-dynamic/deferred-run"
# The states of a task that nobody goes on with.
TERMINAL_STATES = ("success", "failed", "skipped", "upstream_failed", "removed")

# What the operators of all our pods are given.
POD_OPTIONS: dict[str, Any] = {
    "startup_timeout_seconds": POD_START_SECONDS,
    # Backfills keep no limit of active runs.
    "max_active_tis_per_dag": 1,
    "get_logs": True,
    "log_events_on_failure": True,
    # Hundreds of lines that would bury the reason.
    "log_pod_spec_on_failure": False,
    "do_xcom_push": False,
    "on_finish_action": "delete_pod",
    # Whatever Airflow's configuration has as default.
    "deferrable": False,
}

# Airflow does not say in the task's log that its worker was stopped or had no API server.
KILLED = (
    "Airflow ends this task before its job has ended, so the job's pod {} is removed. If no line "
    "above says why (a timeout; the task was marked or cleared by hand), the task's worker was "
    "stopped, or it could not send its heartbeats to Airflow's API server: the worker's own log "
    "says so. For outages of the API server, run two of them, or raise [workers] "
    "max_failed_heartbeats. The next run goes on where this one ended."
)
# Since when this task knows, by their uids, of pods that have ended and were not its own.
SEEN_ENDED: dict[str, float] = {}


class NotYetError(AirflowException):
    """The job's pod cannot be had yet; the text says why."""


class NotStartedError(AirflowException):
    """The pod is there, and its job does not run; the text says why."""


class JobPodOperator(KubernetesPodOperator):
    """Runs the job's pod, and never beside another pod of its task.

    A task's pod has one name, so that Kubernetes itself refuses a second one; where the triggerer
    waits, one for each try of a run. Nothing is templated: a value of the model is never a Jinja
    template.
    """

    template_fields: tuple[str, ...] = ()
    name: str
    deferrable: bool
    #: When the Kubernetes API was away before the pod was there, as time.monotonic() has it.
    last_outage = -math.inf
    #: How long a node may take to end a job whose pod was deleted by force, which Kubernetes
    #: forgets at once; the next job would begin beside it.
    kill_seconds = 10
    #: The pod as the provider read it last; a drain removes it as soon as it has ended.
    seen: k8s.V1Pod | None = None

    def build_pod_request_obj(self, context: Any = None, **more: Any) -> k8s.V1Pod:
        """Return the pod to run; that of a run has its stream's name."""
        if context is not None:
            own, ti = self.dag_id, context["ti"]
            if self.deferrable:
                # The triggerer removes pods by name, and may be late with that of an earlier try.
                own = f"{own} {ti.run_id} {ti.try_number}"
            digest = hashlib.sha256(own.encode()).digest()
            end = "-" + base64.b32encode(digest[:5]).decode().lower()
            self.name = self.name.removesuffix(end) + end
            self.random_name_suffix = False
        pod: k8s.V1Pod = super().build_pod_request_obj(context, **more)
        if context is not None and self.deferrable:
            of_run = {RUN_ANNOTATION: context["ti"].run_id}
            pod.metadata.annotations = {**(pod.metadata.annotations or {}), **of_run}
        restrict(pod.spec)
        container = pod.spec.containers[0]
        # Those of a template come first, and the job's own win.
        container.env = list({variable.name: variable for variable in container.env or ()}.values())
        return pod

    def get_or_create_pod(self, pod_request_obj: k8s.V1Pod, context: Any) -> k8s.V1Pod:
        """Return this run's pod, once no other pod of the stream is left.

        Raises:
            AirflowException: when Kubernetes refuses the pod, or another one of the stream, or
                what else stood in the way, did not go within START_SECONDS.
        """

        def say(state: RetryCallState) -> None:
            if state.outcome is not None and state.next_action is not None:
                wait = state.next_action.sleep
                log.warning("%s Next look in %d s.", state.outcome.exception(), wait)

        try:
            return Retrying(
                retry=retry_if_exception_type(NotYetError),
                stop=stop_after_delay(START_SECONDS),
                wait=wait_exponential(max=15),
                before_sleep=say,
                reraise=True,
            )(self.only_pod, pod_request_obj, context)
        except NotYetError as error:
            reason = f"The job was not started within {START_SECONDS // 60} minutes. {error}"
            raise AirflowException(reason) from None

    def only_pod(self, wanted: k8s.V1Pod, context: Any) -> k8s.V1Pod:
        """Return this run's pod, or raise NotYetError with what stands in its way."""
        try:
            pods = self.pods_by_label(wanted.metadata.namespace, context)
            self.remove_orphaned(pods, context)
            own = [self.own_pod(pod, context) for pod in pods if is_live(pod)]
            return own[0] if own else self.created_pod(wanted, context)
        except (ApiException, HTTPError) as error:
            if isinstance(error, HTTPError) or (error.status or 0) >= 500:
                self.last_outage = time.monotonic()
            starts = time.monotonic() - self.last_outage < API_START_SECONDS
            if is_transient(error) or (starts and may_be_starting(error)):
                raise NotYetError(
                    f"Kubernetes has no room or no answer: {api_error_message(error)}."
                ) from None
            raise AirflowException(
                f"Kubernetes refuses the job's pod {wanted.metadata.name}: "
                f"{describe_refusal(error)}"
            ) from error

    def pods_by_label(self, namespace: str, context: Any) -> list[k8s.V1Pod]:
        """Return the task's pods of any name, as other releases gave them."""
        labels = self._get_ti_pod_labels(context, include_try_number=False)
        selector = ",".join(f"{name}={labels[name]}" for name in ("dag_id", "task_id"))
        pods: list[k8s.V1Pod] = self.client.list_namespaced_pod(
            namespace, label_selector=f"{selector},!airflow-worker"
        ).items
        return pods

    def remove_orphaned(self, pods: list[k8s.V1Pod], context: Any) -> None:
        """Remove the pods of deferred tries that are over; raise NotYetError if one still runs."""
        for pod in pods:
            if not pod.metadata.deletion_timestamp and is_orphaned(pod, context):
                self.remove(pod)
                if is_live(pod):
                    raise NotYetError(
                        f"The former pod {pod.metadata.name}, which nobody waits for, is being "
                        "removed."
                    )

    def own_pod(self, pod: k8s.V1Pod, context: Any) -> k8s.V1Pod:
        """Return the stream's living pod if this run may go on with it, or raise NotYetError."""
        name, namespace = pod.metadata.name, pod.metadata.namespace
        own = self._get_ti_pod_labels(context, include_try_number=False)
        labels = pod.metadata.labels or {}
        if pod.metadata.deletion_timestamp:
            raise NotYetError(
                f"The former pod {name} is being deleted and has not ended. If its node is "
                f"lost for good: kubectl delete pod {name} --namespace {namespace} --force."
            )
        if any(labels.get(label) != value for label, value in own.items()):
            raise NotYetError(
                f"The former pod {name} (run {labels.get('run_id', 'unknown')!a:.100}) still "
                "runs, and no two run at once. If it hangs: kubectl delete pod "
                f"{name} --namespace {namespace}."
            )
        log.info("Going on with pod %s, which this run had started before.", name)
        return pod

    def created_pod(self, wanted: k8s.V1Pod, context: Any) -> k8s.V1Pod:
        """Create the pod; where Kubernetes has one of its name, that one goes first."""
        name, namespace = wanted.metadata.name, wanted.metadata.namespace
        body = self.client.api_client.sanitize_for_serialization(wanted)
        try:
            return self.client.create_namespaced_pod(namespace, body)
        except ApiException as error:
            if error.status != 409 or is_transient(error):
                raise
        pod = self.client.read_namespaced_pod(name, namespace)
        if is_live(pod):
            return self.own_pod(pod, context)
        seen = SEEN_ENDED.setdefault(pod.metadata.uid, time.monotonic())
        if time.monotonic() - seen > OWNER_SECONDS:
            self.remove(pod)
        raise NotYetError(f"The former pod {name} has ended and is to be removed.")

    @cached_property
    def pod_manager(self) -> PodManager:
        """The provider's, which reads this pod through outages; `seen` keeps what it read last."""
        manager: PodManager = super().pod_manager

        def read_and_keep(pod: k8s.V1Pod) -> k8s.V1Pod:
            self.seen = through_outage(self.read_anew, pod)
            return self.seen

        vars(manager)["read_pod"] = read_and_keep
        return manager

    def find_pod(self, namespace: str, context: Any, **_: Any) -> k8s.V1Pod | None:  # noqa: ARG002
        """Return the task's pod as it is now; it is found without labels, which a hook may set."""
        return None if self.pod is None else read_current_pod(self.client, self.pod)

    def await_pod_start(self, pod: k8s.V1Pod) -> None:
        """Wait until the job runs, and log why it does not yet.

        Raises:
            AirflowException: when the pod failed.
            NotStartedError: when the job can never run, or did not start in its time.
        """
        until = time.monotonic() + self.startup_timeout_seconds
        before = None
        while (waiting := self.read_waiting(pod)) is not None:
            if NEVER_STARTS.search(waiting.text) or time.monotonic() > until:
                raise NotStartedError(f"it could not start, {waiting.text}")
            if waiting != before and waiting.is_problem:
                log.warning("Kubernetes has not started the job yet: %s.", waiting.text)
            elif waiting != before:
                log.info("The job's pod is being started: %s.", waiting.text)
            before = waiting
            time.sleep(self.startup_check_interval_seconds)

    def read_waiting(self, pod: k8s.V1Pod) -> Note | None:
        """Return why the job of a pod does not run yet, or None if it runs or has run."""
        try:
            now = self.client.read_namespaced_pod(pod.metadata.name, pod.metadata.namespace)
        except (ApiException, HTTPError) as error:
            now = self.wait_for_kubernetes(pod, error)
        if now.status.phase == "Failed" and not has_started(now):
            raise AirflowException("The pod failed before its job began.")
        has_run = has_started(now) or now.status.phase == "Succeeded"
        return None if has_run else find_waiting(self.client, now)

    def _read_pod_events(self, pod: k8s.V1Pod, **_: Any) -> None:
        """Log the events of this pod, and not those of a former one of its name."""
        for note in read_events(self.client, pod):
            log_note("Event of the pod: %s.", note)

    def _read_pod_container_states(self, *_: Any, **__: Any) -> None:
        """Do nothing: the error says how a container ended, without the values of variables."""

    def patch_already_checked(self, *_: Any, **__: Any) -> None:
        """Do nothing: an ended pod is removed, and no run goes on with it."""

    def _handle_api_exception(self, exc: ApiException, pod: k8s.V1Pod) -> None:  # noqa: ARG002
        """Raise it: await_pod_completion renews a login, and the provider would for ever."""
        raise exc

    def execute_sync(self, context: Any) -> Any:
        """Start the pod, if it is not there yet, and wait for its end."""
        with refusals_as_failures():
            return super().execute_sync(context)

    def is_istio_enabled(self, pod: k8s.V1Pod) -> bool:
        """Return whether a pod has ended when its job has, whatever other containers do.

        So the provider asks, who knows only one sidecar that outlives its job.
        """
        return pod.status.phase not in ENDED_PHASES or job_end(pod) is not None

    def await_pod_completion(self, pod: k8s.V1Pod) -> Any:
        """Follow the job's log until its container has ended, through outages too."""
        looks, failing = 6, None
        while True:
            began = time.monotonic()
            try:
                return super().await_pod_completion(pod)
            except (AirflowException, ApiException, HTTPError) as error:
                now = self.wait_for_kubernetes(pod, error)
                if failing is None or time.monotonic() - began > FOLLOWED_SECONDS:
                    failing = time.monotonic()
                # A job that runs is waited for, also where its log cannot be had for long.
                may_pass = is_live(now) and is_transient(find_api_error(error))
                looks -= not (may_pass and time.monotonic() - failing < OUTAGE_SECONDS)
                if now.metadata.deletion_timestamp or (not looks and is_live(now)):
                    raise
                if not looks:
                    return None
                log.warning(
                    "The log of pod %s cannot be followed: %s. Next look in 5 s; lines from before "
                    "may come once more.",
                    pod.metadata.name,
                    api_error_message(find_api_error(error)),
                )
                time.sleep(5)

    def wait_for_kubernetes(self, pod: k8s.V1Pod, error: Exception) -> k8s.V1Pod:
        """Return the pod as it is after an outage, or raise the error if it does not pass."""
        found = find_api_error(error)
        if not (is_transient(found) or may_be_starting(found)):
            raise error
        return through_outage(self.read_anew, pod)

    def read_anew(self, pod: k8s.V1Pod) -> k8s.V1Pod:
        """Return the pod as it is; a login that Kubernetes refuses is read from its file anew."""
        try:
            return self.client.read_namespaced_pod(pod.metadata.name, pod.metadata.namespace)
        except ApiException as error:
            if error.status == 401:
                for made_with_login in ("hook", "client", "pod_manager"):
                    self.__dict__.pop(made_with_login, None)
            raise

    def on_kill(self) -> None:
        """Remove the pod of a task that is ended from outside, and log what may have ended it."""
        self._killed = True
        if self.pod is not None:
            log.warning("%s", KILLED.format(self.pod.metadata.name))
            self.process_pod_deletion(self.pod, reraise=False)

    def process_pod_deletion(self, pod: k8s.V1Pod, *, reraise: bool = True) -> bool:
        """Remove the pod; what Kubernetes says against it is logged, or raised."""
        try:
            self.remove(pod)
        except (ApiException, HTTPError) as error:
            if reraise:
                raise
            log.warning(
                "The pod %s could not be removed: %s. The next run removes it.",
                pod.metadata.name,
                api_error_message(error),
            )
            return False
        return True

    def remove(self, pod: k8s.V1Pod) -> None:
        """Delete this pod, and not a later one of its name."""
        name, namespace = pod.metadata.name, pod.metadata.namespace
        log.info("Deleting pod %s.", name)
        this_one = k8s.V1Preconditions(uid=pod.metadata.uid)
        options = k8s.V1DeleteOptions(preconditions=this_one)
        try:
            with_retries(self.client.delete_namespaced_pod, name, namespace, body=options)
        except ApiException as error:
            if error.status not in (404, 409):
                raise

    def cleanup(self, *, pod: Any, remote_pod: Any, **more: Any) -> None:
        """Remove the pod; where that fails the task, the error says what became of the pod."""
        failed = remote_pod is not None and remote_pod.status.phase != "Succeeded"
        state = read_current_pod(self.client, remote_pod) if failed else remote_pod
        if failed and state is None and is_live(remote_pod) and not self._killed:
            time.sleep(self.kill_seconds)
        try:
            super().cleanup(pod=pod, remote_pod=remote_pod, **more)
        # Old releases of the provider ask for a pod that is gone, and pass on Kubernetes' answer;
        # and they look for the job's state in a pod that has none yet.
        except (AirflowException, ApiException, TypeError) as error:
            cause = error.__context__
            is_known = isinstance(cause, NotStartedError)
            seen = self.seen or remote_pod
            reason = cause if is_known else failed_pod_reason(state, seen, cause)
            # Not from the provider's own, which repeats what a container said at its end.
            raise AirflowException(
                f"The job's pod {remote_pod.metadata.name} failed: {reason}."
            ) from cause


@contextmanager
def refusals_as_failures() -> Iterator[None]:
    """Let what Kubernetes refuses fail the task with its words alone."""
    try:
        yield
    except ApiException as error:
        raise AirflowException(
            f"Kubernetes refuses what the task needs: {api_error_message(error)}."
        ) from error
    except HTTPError as error:
        raise AirflowException(f"Kubernetes does not answer: {error!s:.300}.") from error


def log_note(text: str, note: Note) -> None:
    """Log what Kubernetes says; a problem is a warning."""
    log.log(logging.WARNING if note.is_problem else logging.INFO, text, note.text)


def restrict(spec: k8s.V1PodSpec) -> None:
    """Give up the rights that no job needs, as an image that runs as root allows it too.

    What a template says instead stays.
    """
    spec.security_context = spec.security_context or k8s.V1PodSecurityContext()
    if spec.security_context.seccomp_profile is None:
        spec.security_context.seccomp_profile = k8s.V1SeccompProfile(type="RuntimeDefault")
    job = spec.containers[0]
    job.security_context = job.security_context or k8s.V1SecurityContext(
        allow_privilege_escalation=False, capabilities=k8s.V1Capabilities(drop=["ALL"])
    )


def is_orphaned(pod: Any, context: Any) -> bool:
    """Return whether a pod is that of a deferred try which is over.

    The triggerer removes the pod of a task that is ended or cleared, if it waits for it at that
    moment; nobody else does.
    """
    run_id = (pod.metadata.annotations or {}).get(RUN_ANNOTATION)
    if run_id is None:
        return False
    if run_id == context["ti"].run_id:
        return bool(pod.metadata.labels["try_number"] != str(context["ti"].try_number))
    return has_finished_in(run_id, context)


def has_finished_in(run_id: str, context: Any) -> bool:
    """Return whether nobody goes on with this task in another run."""
    ti = context["ti"]
    if hasattr(ti, "get_task_states"):
        found = ti.get_task_states(dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[run_id])
        return found.get(run_id, {}).get(ti.task_id, "removed") in TERMINAL_STATES
    # Airflow 2
    runs = type(context["dag_run"]).find(dag_id=ti.dag_id, run_id=run_id)
    others = [run.get_task_instance(ti.task_id) for run in runs]
    return all(other is None or other.state in TERMINAL_STATES for other in others)
