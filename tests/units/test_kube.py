"""How the factory reads answers of the Kubernetes API about a pod; no API is needed."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.client import (
    ApiException,
    V1ContainerState,
    V1ContainerStateTerminated,
    V1ContainerStatus,
    V1ObjectMeta,
    V1Pod,
    V1PodCondition,
    V1PodStatus,
)
from urllib3.exceptions import HTTPError, ProtocolError

from yellow_dynamic.factory import kube
from yellow_dynamic.factory.kube import failed_pod_reason, find_api_error, through_outage


def answer(status: int, message: str = "") -> ApiException:
    error = ApiException(status=status, reason="a reason")
    error.body = json.dumps({"message": message})
    return error


STARTING_KUBELET = answer(404, "the server could not find the requested resource ( pods/log x)")


class Server:
    """Answers with these errors first, the last of them until the time is up."""

    def __init__(self, clock: SimpleNamespace, error: Exception, until: float) -> None:
        self.clock, self.error, self.until = clock, error, until

    def read(self) -> str:
        if self.clock.time < self.until:
            raise self.error
        return "a pod"


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (answer(500, "dial tcp: connection refused"), 540),
        (answer(503), 540),
        (ProtocolError("Connection aborted."), 540),
        (answer(401), 40),
        (answer(403, "cannot get resource"), 40),
        (STARTING_KUBELET, 40),
    ],
)
def test_outage_is_waited_out(
    clock: SimpleNamespace, caplog: pytest.LogCaptureFixture, error: Exception, seconds: float
) -> None:
    assert through_outage(Server(clock, error, seconds).read) == "a pod"
    assert "has no answer: " in caplog.text


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (answer(500), 700),
        (answer(401), 100),
        (answer(403), 100),
        (answer(404, 'pods "x" not found'), 1),
        (answer(400), 1),
    ],
)
def test_fault_that_does_not_pass_is_raised(
    clock: SimpleNamespace, error: Exception, seconds: float
) -> None:
    with pytest.raises(ApiException):
        through_outage(Server(clock, error, seconds).read)


def test_error_of_the_api_is_found_behind_that_of_the_provider() -> None:
    refused = HTTPError("connection refused")
    wrapped = ValueError("There was an error reading the kubernetes API")
    wrapped.__context__ = refused

    assert find_api_error(wrapped) is refused
    assert find_api_error(ValueError("no pod")) is None
    assert find_api_error(None) is None


def pod(
    phase: str = "Failed",
    *,
    conditions: Any = None,
    deleted: bool = False,
    ended: tuple[int, str] | None = None,
    **status: Any,
) -> V1Pod:
    """Return a pod; `ended` is the exit code and the reason of its container's end."""
    containers = None
    if ended is not None:
        terminated = V1ContainerStateTerminated(exit_code=ended[0], reason=ended[1])
        containers = [
            V1ContainerStatus(
                name="base",
                image="i",
                image_id="i",
                ready=False,
                restart_count=0,
                state=V1ContainerState(terminated=terminated),
            )
        ]
    return V1Pod(
        metadata=V1ObjectMeta(deletion_timestamp="2026-01-01" if deleted else None),
        status=V1PodStatus(
            phase=phase, conditions=conditions, container_statuses=containers, **status
        ),
    )


EVICTED = [
    V1PodCondition(type="Ready", status="False"),
    V1PodCondition(
        type="DisruptionTarget",
        status="True",
        reason="EvictionByEvictionAPI",
        message="Eviction API: evicting",
    ),
]


@pytest.mark.parametrize(
    ("now", "seen", "reason"),
    [
        (pod(ended=(137, "Error")), None, "its container ended with exit code 137 (Error)"),
        (
            pod(ended=(3, "OOMKilled")),
            None,
            "its container ended with exit code 3 (OOMKilled). " + kube.MORE_MEMORY,
        ),
        # The kubelet ends its messages of disks so.
        (pod(reason="Evicted", message="Too much. "), None, "Evicted: Too much"),
        (None, pod(), "it was deleted before it ended"),
        (pod(deleted=True), None, "it was deleted before it ended"),
        (
            None,
            pod(conditions=EVICTED),
            "it was deleted before it ended (EvictionByEvictionAPI: Eviction API: evicting)",
        ),
        (
            pod(deleted=True, conditions=EVICTED),
            pod(),
            "it was deleted before it ended (EvictionByEvictionAPI: Eviction API: evicting)",
        ),
    ],
)
def test_reason_of_a_failed_pod_is_what_its_state_says(
    now: V1Pod | None, seen: V1Pod | None, reason: str
) -> None:
    assert failed_pod_reason(now, seen) == reason


def test_pod_whose_end_was_not_seen_fails_with_what_hid_it() -> None:
    reason = failed_pod_reason(pod("Running"), None, answer(500, "no route to host"))

    assert reason == "its task could not wait for its end: 500 no route to host"
    assert "the error before this one" in failed_pod_reason(pod("Running"))
