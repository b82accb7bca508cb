"""What the Kubernetes API says of pods."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from kubernetes.client import ApiException
from kubernetes.utils import parse_quantity
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential,
)
from urllib3.exceptions import HTTPError

from yellow_dynamic.factory.constants import JOB_CONTAINER
from yellow_dynamic.factory.logs import log, one_line

# How long the Kubernetes API, or a pod's node, may be away while a job runs: the job goes on
# meanwhile. Some clusters have no API for minutes while they are upgraded.
OUTAGE_SECONDS = 10 * 60
# How long an API, or a kubelet, that has just started may refuse what it allows later.
API_START_SECONDS = 60
OUT_OF_MEMORY = "OOMKilled"
MORE_MEMORY = "Raise its limit of memory: resources of RunSettings"
# The phases of a pod that has ended.
ENDED_PHASES = ("Succeeded", "Failed")
# The reasons and messages of a container that can never start.
NEVER_STARTS = re.compile(
    "^(InvalidImageName|ErrImageNeverPull|CreateContainerConfigError: .*runAsNonRoot)"
    "|(ErrImagePull|ImagePullBackOff): .*"
    "(not found|manifest unknown|denied|unauthorized|forbidden|does not exist|invalid reference)",
    re.IGNORECASE | re.DOTALL,
)
# What lets a pod pass that a namespace refuses, by what Kubernetes says of it.
REMEDIES = {
    "violates PodSecurity.*runAsNonRoot": 'Set runs=RunSettings(podTemplate={"spec": '
    '{"securityContext": {"runAsNonRoot": True}}}) of the platform, with "runAsUser" where the '
    'image runs as root, and "fsGroup" for the volume of the model.',
    "(failed|exceeded) quota|(usage|ratio) per |less than or equal to .* limit": "Change resources "
    "of RunSettings, or the LimitRange or ResourceQuota of the namespace.",
}
QUOTA = re.compile(r"exceeded quota: .*requested: (\S+), used: \S+, limited: (\S+)")


def is_transient(error: BaseException | None) -> bool:
    """Return whether an error of the Kubernetes API is one that passes by itself."""
    if not isinstance(error, ApiException):
        return isinstance(error, HTTPError)
    status, said = error.status or 0, api_error_message(error)
    # Another pod was counted in the same moment.
    is_conflict = status == 409 and "object has been modified" in said
    return is_conflict or status == 429 or status >= 500 or (status == 403 and is_used_up(said))


def is_used_up(refusal: str) -> bool:
    """Return whether a quota refuses a pod, and has room for it once others have ended."""
    if found := QUOTA.search(refusal):
        requested, limited = (
            dict(each.rsplit("=", 1) for each in part.split(",")) for part in found.groups()
        )
        return all(
            parse_quantity(amount) <= parse_quantity(limited[name])
            for name, amount in requested.items()
        )
    return "exceeded quota" in refusal


def describe_refusal(error: BaseException) -> str:
    """Return what the Kubernetes API says of an error, and what to do where that is known."""
    said = api_error_message(error)
    advice = [text for words, text in REMEDIES.items() if re.search(words, said)]
    return " ".join([f"{said}.", *advice])


def may_be_starting(error: BaseException | None) -> bool:
    """Return whether an API that starts may answer so, or a kubelet that knows no pod yet.

    It is for a call that was allowed before.
    """
    if not isinstance(error, ApiException):
        return False
    return error.status in (401, 403) or (error.status == 404 and "pods/log" in str(error.body))


def find_api_error(error: BaseException | None) -> ApiException | HTTPError | None:
    """Return the error of a call to the Kubernetes API that led to this one, or None."""
    while error is not None and not isinstance(error, (ApiException, HTTPError)):
        error = error.__context__
    return error


def api_error_message(error: BaseException | None) -> str:
    """Return what the Kubernetes API, or the way to it, says of an error."""
    if not isinstance(error, ApiException):
        return one_line(str(error))
    try:
        said = json.loads(error.body)["message"]
    except (ValueError, TypeError, KeyError):
        said = error.reason
    if error.status == 401:
        said = f"{said} (Airflow's token for Kubernetes has expired or was revoked)"
    return one_line(f"{error.status} {said}").rstrip(".")


def with_retries(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Return what a call to the Kubernetes API does; an error that passes gets four attempts."""
    return Retrying(
        retry=retry_if_exception(is_transient),
        stop=stop_after_attempt(4),
        wait=wait_exponential(max=5),
        reraise=True,
    )(call, *args, **options)


def through_outage(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Return what a call to the Kubernetes API does, after an outage of up to OUTAGE_SECONDS.

    The call is one that was allowed before.
    """
    away = time.monotonic()

    def passes(error: BaseException) -> bool:
        nonlocal away
        if is_transient(error):
            away = time.monotonic()
            return True
        return may_be_starting(error) and time.monotonic() - away < API_START_SECONDS

    def say(state: RetryCallState) -> None:
        if state.outcome is not None and state.next_action is not None:
            error, wait = state.outcome.exception() or OSError(), state.next_action.sleep
            log.warning(
                "The Kubernetes API, or the pod's node, has no answer: %s. The job goes on "
                "meanwhile. Next look in %d s.",
                api_error_message(error),
                wait,
            )

    return Retrying(
        retry=retry_if_exception(passes),
        stop=stop_after_delay(OUTAGE_SECONDS),
        wait=wait_exponential(max=15),
        before_sleep=say,
        reraise=True,
    )(call, *args, **options)


def read_current_pod(client: Any, pod: Any) -> Any:
    """Return the pod as Kubernetes has it now, or None if it is gone."""
    try:
        now = with_retries(client.read_namespaced_pod, pod.metadata.name, pod.metadata.namespace)
    except ApiException as error:
        return None if error.status == 404 else pod
    except HTTPError:
        return pod
    return now if now.metadata.uid == pod.metadata.uid else None


def is_live(pod: Any) -> bool:
    """Return whether the job in a pod may still run; a sidecar may outlive it."""
    return pod.status.phase not in ENDED_PHASES and job_end(pod) is None


def has_started(pod: Any) -> bool:
    """Return whether a pod's job runs or has run; a sidecar may run before it does.

    None is a pod that is gone.
    """
    return any(
        container.name == JOB_CONTAINER and (container.state.running or container.state.terminated)
        for container in (pod and pod.status.container_statuses) or []
    )


class Note(NamedTuple):
    """What Kubernetes says of a pod."""

    text: str
    is_problem: bool


def find_waiting(client: Any, pod: Any) -> Note:
    """Return the last that Kubernetes says of why the job of a pod does not run yet."""
    for condition in pod.status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False":
            return Note(format_state(condition), True)
    for container in statuses_before_job(pod):
        waiting = container.state.waiting
        if waiting and waiting.message:
            return Note(format_state(waiting), True)
    return (read_events(client, pod) or [Note(f"phase {pod.status.phase}", False)])[-1]


def read_events(client: Any, pod: Any) -> list[Note]:
    """Return the events of a pod, the newest last."""
    try:
        events = with_retries(
            client.list_namespaced_event,
            pod.metadata.namespace,
            field_selector=f"involvedObject.uid={pod.metadata.uid}",
        ).items
    except (ApiException, HTTPError) as error:
        return [Note(f"its events cannot be read, {api_error_message(error)}", True)]
    return [
        Note(format_state(each), each.type != "Normal") for each in sorted(events, key=event_time)
    ]


def event_time(event: Any) -> tuple[str, str]:
    """Return when an event was seen last; names of later ones follow those of earlier ones."""
    seen = event.series and event.series.last_observed_time
    seen = seen or event.last_timestamp or event.event_time or event.metadata.creation_timestamp
    return seen.isoformat(), event.metadata.name


def all_statuses(pod: Any) -> list[Any]:
    """Return the states of a pod's containers, that of the job first."""
    others = [*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])]
    return sorted(others, key=lambda container: bool(container.name != JOB_CONTAINER))


def statuses_before_job(pod: Any) -> list[Any]:
    """Return the states of the job's container and of those that it starts after."""
    beside = pod.status.container_statuses or []
    job = [container for container in beside if container.name == JOB_CONTAINER]
    return [*job, *(pod.status.init_container_statuses or [])]


def has_failed(pod: Any) -> bool:
    """Return whether a pod's job has failed; what other containers do after it does not count."""
    if (ended := job_end(pod)) is not None:
        return bool(ended.exit_code)
    return bool(pod.status.phase == "Failed")


def job_end(pod: Any) -> Any:
    """Return how the container of a pod's job has ended, or None."""
    for container in pod.status.container_statuses or []:
        if container.name == JOB_CONTAINER:
            return container.state.terminated
    return None


def failed_pod_reason(pod: Any, seen: Any = None, error: BaseException | None = None) -> str:
    """Return why a pod failed.

    Args:
        pod: as it is now; None where it is gone.
        seen: as it was last seen.
        error: what kept its task from waiting for its end.
    """
    if pod is None or pod.metadata.deletion_timestamp:
        return f"it was deleted before it ended{disruption(pod or seen)}"
    if pod.status.reason == "DeadlineExceeded":
        return f"it did not end within its timeout of {pod.spec.active_deadline_seconds} s"
    if pod.status.reason:
        return format_state(pod.status)
    for container in all_statuses(pod):
        ended = container.state.terminated
        if ended and ended.exit_code:
            name = "" if container.name == JOB_CONTAINER else f", container {container.name}"
            advice = f". {MORE_MEMORY}" if ended.reason == OUT_OF_MEMORY else ""
            how = format_state(ended)
            return f"its container ended with exit code {ended.exit_code} ({how}){name}{advice}"
    if found := find_api_error(error):
        return f"its task could not wait for its end: {api_error_message(found)}"
    return f"it was in phase {pod.status.phase}; the error before this one says what happened"


def disruption(pod: Any) -> str:
    """Return what part of Kubernetes removed a pod, as the pod itself says, or nothing."""
    for condition in (pod and pod.status.conditions) or []:
        if condition.type == "DisruptionTarget":
            return f" ({format_state(condition)})"
    return ""


def ran_out_of_memory(pod: Any) -> bool:
    """Return whether a process in a pod was killed for its container's limit of memory.

    The container itself may go on and succeed, if it was not its first process.
    """
    states = [container.state.terminated for container in pod.status.container_statuses or []]
    return any(ended and ended.reason == OUT_OF_MEMORY for ended in states)


def format_state(state: Any) -> str:
    """Return the reason and the message of a state.

    A runtime that cannot set an environment variable repeats its value, which may be a password.
    """
    message = None if "environment variable" in (state.message or "") else state.message
    return one_line(": ".join(filter(None, (state.reason, message)))).rstrip(". ")
