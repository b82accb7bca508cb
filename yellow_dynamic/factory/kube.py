"""What the Kubernetes API says of pods."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from kubernetes.client import ApiException
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential
from urllib3.exceptions import HTTPError

from yellow_dynamic.factory.constants import JOB_CONTAINER
from yellow_dynamic.factory.logs import one_line

# Why the containers of a pod wait for what may still come.
PASSING_START_REASONS = (
    "ErrImagePull", "ImagePullBackOff", "ContainerCreating", "PodInitializing",
)  # fmt: skip
# What container runtimes say of an image that no waiting brings.
NO_SUCH_IMAGE = re.compile(
    "not found|manifest unknown|denied|unauthorized|forbidden|does not exist|invalid reference",
    re.I,
)


def is_transient(error: BaseException) -> bool:
    """Return whether an error of the Kubernetes API is one that passes by itself."""
    if isinstance(error, ApiException):
        status = error.status or 0
        used_up = status == 403 and "exceeded quota" in str(error.body)
        return used_up or status == 429 or status >= 500
    return isinstance(error, HTTPError)


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
    if pod.status.phase in ("Succeeded", "Failed"):
        return False
    return not any(
        container.name == JOB_CONTAINER and container.state.terminated
        for container in pod.status.container_statuses or []
    )


def has_started(pod: Any) -> bool:
    """Return whether a pod's job runs or has run; a sidecar may run before it does.

    None is a pod that is gone.
    """
    return any(
        container.name == JOB_CONTAINER and (container.state.running or container.state.terminated)
        for container in (pod and pod.status.container_statuses) or []
    )


def passing_start_problem(pod: Any) -> str | None:
    """Return why a pod's containers do not run yet, if they may later; None is a gone pod."""
    for container in (pod and pod.status.container_statuses) or []:
        waiting = container.state.waiting
        if waiting and waiting.reason in PASSING_START_REASONS:
            words = format_state(waiting)
            return None if NO_SUCH_IMAGE.search(words) else words
    return None


def failed_pod_reason(pod: Any) -> str:
    """Return why a pod failed, from its state; None is a pod that is gone."""
    if pod is None or pod.metadata.deletion_timestamp:
        return "it was deleted before it ended"
    if pod.status.reason == "DeadlineExceeded":
        return f"it did not end within its timeout of {pod.spec.active_deadline_seconds} s"
    if pod.status.reason:
        return format_state(pod.status)
    for container in pod.status.container_statuses or []:
        ended, waiting = container.state.terminated, container.state.waiting
        if waiting:
            return f"its container could not start, {format_state(waiting)}"
        if ended and ended.exit_code:
            return f"its container ended with exit code {ended.exit_code} ({format_state(ended)})"
    return f"it was in phase {pod.status.phase}; the error before this one says what happened"


def format_state(state: Any) -> str:
    """Return the reason and the message of a state.

    A runtime that cannot set an environment variable repeats its value, which may be a password.
    """
    message = None if "environment variable" in (state.message or "") else state.message
    return one_line(": ".join(filter(None, (state.reason, message)))).rstrip(".")
