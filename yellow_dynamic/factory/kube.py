"""What the Kubernetes API says of pods."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from kubernetes.client import ApiException
from kubernetes.utils import parse_quantity
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential
from urllib3.exceptions import HTTPError

from yellow_dynamic.factory.constants import JOB_CONTAINER
from yellow_dynamic.factory.logs import one_line

# The phases of a pod that has ended.
ENDED_PHASES = ("Succeeded", "Failed")
# What Kubernetes says of a container that no waiting starts.
NEVER_STARTS = re.compile(
    "^(InvalidImageName|ErrImageNeverPull)|runAsNonRoot"
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


def is_transient(error: BaseException) -> bool:
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


def api_error_message(error: BaseException) -> str:
    """Return what the Kubernetes API, or the way to it, says of an error."""
    if not isinstance(error, ApiException):
        return one_line(str(error))
    try:
        said = json.loads(error.body)["message"]
    except (ValueError, TypeError, KeyError):
        said = error.reason
    return one_line(f"{error.status} {said}").rstrip(".")


def with_retries(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Return what a call to the Kubernetes API does; an error that passes gets four attempts."""
    return Retrying(
        retry=retry_if_exception(is_transient),
        stop=stop_after_attempt(4),
        wait=wait_exponential(max=5),
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
    for container in all_statuses(pod):
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
    """Return the states of a pod's containers: those that run before the job, it, and others."""
    others = [*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])]
    return sorted(others, key=lambda container: bool(container.name != JOB_CONTAINER))


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


def failed_pod_reason(pod: Any, before: BaseException | None = None) -> str:
    """Return why a pod failed, from its state.

    Args:
        pod: the pod, or None for one that is gone.
        before: the error that ended the wait for a pod that may not have failed itself.
    """
    if pod is None or pod.metadata.deletion_timestamp:
        return "it was deleted before it ended"
    if pod.status.reason == "DeadlineExceeded":
        return f"it did not end within its timeout of {pod.spec.active_deadline_seconds} s"
    if pod.status.reason:
        return format_state(pod.status)
    for container in all_statuses(pod):
        ended = container.state.terminated
        if ended and ended.exit_code:
            name = "" if container.name == JOB_CONTAINER else f", container {container.name}"
            how = format_state(ended)
            return f"its container ended with exit code {ended.exit_code} ({how}){name}"
    said = f": {api_error_message(before)}" if before else ""
    return f"it was in phase {pod.status.phase}{said}"


def format_state(state: Any) -> str:
    """Return the reason and the message of a state.

    A runtime that cannot set an environment variable repeats its value, which may be a password.
    """
    message = None if "environment variable" in (state.message or "") else state.message
    return one_line(": ".join(filter(None, (state.reason, message)))).rstrip(".")
