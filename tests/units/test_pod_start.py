"""What a job's task makes of a pod that does not start, or is refused, and of its own end."""

from __future__ import annotations

import json
import traceback
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.exceptions import AirflowException
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from kubernetes.client import (
    ApiException,
    CoreV1Event,
    CoreV1EventList,
    V1Container,
    V1ContainerState,
    V1ContainerStateRunning,
    V1ContainerStateTerminated,
    V1ContainerStateWaiting,
    V1ContainerStatus,
    V1ObjectMeta,
    V1ObjectReference,
    V1Pod,
    V1PodCondition,
    V1PodSecurityContext,
    V1PodSpec,
    V1PodStatus,
    V1SecurityContext,
)
from pytest_mock import MockerFixture
from units.conftest import row
from urllib3.exceptions import HTTPError

from yellow_dynamic.factory import kube
from yellow_dynamic.factory import pod as pod_module
from yellow_dynamic.factory.dag import DagBuilder
from yellow_dynamic.factory.kube import failed_pod_reason
from yellow_dynamic.factory.platform import Platform


def pod(*states: V1ContainerState, phase: str = "Pending", **status: Any) -> V1Pod:
    """Return a pod whose job and sidecar are in these states."""
    containers = [
        V1ContainerStatus(
            name=name, image="i", image_id="i", ready=False, restart_count=0, state=state
        )
        for name, state in zip(("base", "sidecar"), states, strict=False)
    ]
    return V1Pod(
        metadata=V1ObjectMeta(name="store1-job-abc", namespace="ns", uid="1"),
        status=V1PodStatus(container_statuses=containers or None, phase=phase, **status),
    )


def waiting(reason: str, message: str | None = None) -> V1Pod:
    return pod(V1ContainerState(waiting=V1ContainerStateWaiting(reason=reason, message=message)))


def condition(message: str) -> V1PodCondition:
    return V1PodCondition(
        type="PodScheduled", status="False", reason="Unschedulable", message=message
    )


def event(name: str, second: int, kind: str, reason: str, message: str) -> CoreV1Event:
    return CoreV1Event(
        metadata=V1ObjectMeta(name=name),
        involved_object=V1ObjectReference(uid="1"),
        last_timestamp=datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC),
        type=kind,
        reason=reason,
        message=message,
    )


RUNNING = V1ContainerState(running=V1ContainerStateRunning())
FAILED = V1ContainerState(terminated=V1ContainerStateTerminated(exit_code=1, reason="Error"))
SUCCEEDED = V1ContainerState(terminated=V1ContainerStateTerminated(exit_code=0))
CREATING = waiting("ContainerCreating")
BACK_OFF = waiting("ImagePullBackOff", "connection refused")
UNSCHEDULABLE = pod(conditions=[condition('persistentvolumeclaim "model" not found.')])
SIDECAR_RUNS = pod(BACK_OFF.status.container_statuses[0].state, RUNNING)
NO_IMAGE = waiting("ErrImagePull", "manifest unknown")
SIDECAR_HAS_NO_IMAGE = pod(V1ContainerState(), NO_IMAGE.status.container_statuses[0].state)


@pytest.fixture
def api(mocker: MockerFixture) -> Any:
    """The Kubernetes API of a job's task, without any event; no time passes."""
    mocker.patch.object(pod_module.time, "sleep")
    client = mocker.patch.object(KubernetesPodOperator, "client")
    client.list_namespaced_event.return_value = CoreV1EventList(items=[])
    return client


@pytest.fixture
def job(platform: Platform, api: Any) -> Any:
    """The job's task."""
    [dag] = DagBuilder(platform).build_dags([row("A")]).values()
    return dag.get_task("snapshot_merge_job")


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (BACK_OFF, "ImagePullBackOff: connection refused"),
        (SIDECAR_RUNS, "ImagePullBackOff: connection refused"),
        (waiting("CreateContainerConfigError", 'secret "a" not found'), 'secret "a" not found'),
        (UNSCHEDULABLE, 'Unschedulable: persistentvolumeclaim "model" not found'),
        (CREATING, "phase Pending"),
        (SIDECAR_HAS_NO_IMAGE, "phase Pending"),
    ],
)
def test_pod_that_may_still_start_is_waited_for_with_its_reason_logged_once(
    job: Any, api: Any, caplog: pytest.LogCaptureFixture, now: V1Pod, said: str
) -> None:
    api.read_namespaced_pod.side_effect = [now, now, pod(RUNNING)]

    with caplog.at_level("INFO"):
        job.await_pod_start(pod())

    [message] = caplog.messages
    assert said in message
    assert ("has not started the job yet" in message) is ("Pending" not in said)


def test_api_that_is_away_for_a_while_does_not_end_the_wait(
    job: Any, api: Any, caplog: pytest.LogCaptureFixture
) -> None:
    api.read_namespaced_pod.side_effect = [*[HTTPError("refused")] * 9, pod(RUNNING)]

    job.await_pod_start(pod())

    assert "The Kubernetes API, or the pod's node, has no answer: refused." in caplog.text


def test_newest_event_says_what_no_state_does(
    job: Any, api: Any, caplog: pytest.LogCaptureFixture
) -> None:
    missing = 'MountVolume.SetUp failed: secret "a" not found'
    api.list_namespaced_event.return_value = CoreV1EventList(
        items=[
            event("b", 2, "Warning", "FailedMount", missing),
            event("a", 1, "Normal", "Scheduled", "assigned"),
        ]
    )
    api.read_namespaced_pod.side_effect = [CREATING, pod(RUNNING)]

    job.await_pod_start(pod())

    assert f"Kubernetes has not started the job yet: FailedMount: {missing}." in caplog.text


@pytest.mark.parametrize(
    "now", [pod(RUNNING), pod(FAILED), pod(SUCCEEDED, RUNNING), pod(phase="Succeeded")]
)
def test_job_that_runs_or_has_run_is_not_waited_for(job: Any, api: Any, now: V1Pod) -> None:
    api.read_namespaced_pod.side_effect = [now]
    job.startup_timeout_seconds = -1

    job.await_pod_start(pod())


ROOT = "container has runAsNonRoot and image will run as root (pod: x, container: base)"


def test_pod_that_failed_before_its_job_began_fails_the_task(job: Any, api: Any) -> None:
    api.read_namespaced_pod.side_effect = [pod(phase="Failed")]

    with pytest.raises(AirflowException, match="The pod failed before its job began"):
        job.await_pod_start(pod())


@pytest.mark.parametrize(
    "now",
    [
        NO_IMAGE,
        waiting("ErrImagePull", "unexpected status from HEAD request: 403 Forbidden"),
        waiting("ImagePullBackOff", 'image reference "No/such": invalid reference format'),
        waiting("ImagePullBackOff", "ErrImagePull: registry.example.org/a:1: not found"),
        waiting("InvalidImageName", "couldn't parse image name"),
        waiting("ErrImageNeverPull", "image is not present with pull policy of Never"),
        waiting("CreateContainerConfigError", ROOT),
    ],
)
def test_pod_that_can_never_start_fails_the_task_at_once(job: Any, api: Any, now: V1Pod) -> None:
    api.read_namespaced_pod.side_effect = [now]

    with pytest.raises(AirflowException, match="it could not start, "):
        job.await_pod_start(pod())


@pytest.mark.parametrize("now", [BACK_OFF, CREATING, UNSCHEDULABLE])
def test_pod_whose_time_is_over_fails_the_task(job: Any, api: Any, now: V1Pod) -> None:
    api.read_namespaced_pod.side_effect = [now]
    job.startup_timeout_seconds = -1

    with pytest.raises(AirflowException, match="it could not start, "):
        job.await_pod_start(pod())


def test_reason_of_a_failed_pod_repeats_no_variable() -> None:
    said = 'environment variable value can\'t contain null(\\x00): "PASSWORD=hush"'
    ended = V1ContainerStateTerminated(exit_code=128, reason="StartError", message=said)
    failed = pod(V1ContainerState(terminated=ended))
    failed.metadata = V1ObjectMeta(name="store1-job-abc")

    assert failed_pod_reason(failed) == "its container ended with exit code 128 (StartError)"


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (UNSCHEDULABLE, "its task could not wait for its end: 403 no log for you"),
        (pod(FAILED, RUNNING, phase="Running"), "its container ended with exit code 1 (Error)"),
        (pod(SUCCEEDED, FAILED), "its container ended with exit code 1 (Error), container sidecar"),
        (pod(RUNNING, phase="Running"), "its task could not wait for its end: 403 no log for you"),
    ],
)
def test_reason_of_a_failed_pod_is_its_jobs_first(now: V1Pod, said: str) -> None:
    reason = kube.failed_pod_reason(now, now, refusal("no log for you"))

    assert reason.startswith(said)


@pytest.mark.parametrize(
    ("now", "has_failed"),
    [
        (pod(FAILED, RUNNING, phase="Running"), True),
        (pod(SUCCEEDED, FAILED, phase="Failed"), False),
        (pod(phase="Failed"), True),
        (pod(SUCCEEDED, RUNNING, phase="Running"), False),
    ],
)
def test_job_of_a_pod_decides_whether_it_failed(job: Any, now: V1Pod, has_failed: bool) -> None:
    assert kube.has_failed(now) is has_failed
    assert job.is_istio_enabled(now) is (now.status.container_statuses is not None)


# --- While the job runs -------------------------------------------------------------------------

RUNS = pod(RUNNING, phase="Running")


@pytest.fixture
def follow(job: Any, clock: Any, mocker: MockerFixture) -> Any:
    """Let the provider follow the log for some seconds, and fail with this error."""

    def set_up(error: Exception, seconds: float) -> Any:
        def fail(_: Any) -> None:
            clock.time += seconds
            raise error

        return mocker.patch.object(KubernetesPodOperator, "await_pod_completion", side_effect=fail)

    return set_up


def test_log_that_no_node_gives_is_given_up_with_the_outage(
    job: Any, api: Any, clock: Any, follow: Any
) -> None:
    api.read_namespaced_pod.return_value = RUNS
    follow(refusal("dial tcp 10.0.0.7:10250: i/o timeout", 500), 15)

    with pytest.raises(ApiException):
        job.await_pod_completion(RUNS)

    assert kube.OUTAGE_SECONDS < clock.time < 2 * kube.OUTAGE_SECONDS


def test_log_that_breaks_now_and_then_is_followed_to_the_end_of_the_job(
    job: Any, api: Any, clock: Any, follow: Any
) -> None:
    broken = follow(refusal("stream error", 500), 0).side_effect
    hours = [180.0] * 40

    def follow_for_a_while(now: V1Pod) -> None:
        if hours:
            clock.time += hours.pop()
            broken(now)

    follow(Exception(), 0).side_effect = follow_for_a_while
    api.read_namespaced_pod.return_value = RUNS

    job.await_pod_completion(RUNS)

    assert clock.time > 40 * 180


def test_login_that_only_logs_refuse_is_not_renewed_for_ever(
    job: Any, api: Any, mocker: MockerFixture
) -> None:
    manager = mocker.patch.object(KubernetesPodOperator, "pod_manager")
    logs = manager.fetch_requested_container_logs
    logs.side_effect = refusal("Unauthorized", 401)
    api.read_namespaced_pod.return_value = RUNS

    with pytest.raises(ApiException, match="401"):
        job.await_pod_completion(RUNS)

    assert logs.call_count == 6


@pytest.mark.parametrize("deferred", [False, True])
def test_pod_is_read_through_an_outage_whichever_part_asks(
    job: Any, api: Any, clock: Any, deferred: bool
) -> None:
    api.read_namespaced_pod.side_effect = [*[HTTPError("refused")] * 20, RUNS]

    if deferred:
        assert job.read_pod("store1-job-abc", "ns") is RUNS
    else:
        assert job.pod_manager.read_pod(RUNS) is job.seen is RUNS
    assert clock.time > 200


def test_end_of_a_job_repeats_no_variable(
    job: Any, api: Any, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    said = 'environment variable value can\'t contain null(\\x00): "PASSWORD=hush"'
    ended = V1ContainerStateTerminated(exit_code=128, reason="StartError", message=said)
    failed = pod(V1ContainerState(terminated=ended), phase="Failed")
    api.read_namespaced_pod.return_value = failed

    with caplog.at_level("DEBUG"), pytest.raises(AirflowException) as raised:
        job.cleanup(pod=failed, remote_pod=failed)

    assert "exit code 128 (StartError)" in str(raised.value)
    logged = caplog.text + "".join(capfd.readouterr())
    assert "Deleting pod" in logged
    assert "hush" not in "".join(traceback.format_exception(raised.value)) + logged


# --- What Kubernetes refuses ------------------------------------------------------------------


def refusal(message: str, status: int = 403) -> ApiException:
    error = ApiException(status=status)
    error.body = json.dumps({"message": message})
    return error


QUOTA = 'pods "a" is forbidden: exceeded quota: q, requested: {}, used: {}, limited: {}'


@pytest.mark.parametrize(
    ("message", "status", "passes"),
    [
        (QUOTA.format("pods=1", "pods=2", "pods=2"), 403, True),
        (QUOTA.format("pods=1", "pods=0", "pods=0"), 403, False),
        (QUOTA.format("cpu=1,memory=1Gi", "cpu=2,memory=0", "cpu=2,memory=1000Mi"), 403, False),
        (QUOTA.format("requests.cpu=100m", "requests.cpu=1", "requests.cpu=1"), 403, True),
        ("failed quota: q: must specify limits.memory for: base", 403, False),
        ("Operation cannot be fulfilled: the object has been modified", 409, True),
        ('pods "a" already exists', 409, False),
        ('failed calling webhook "a"', 500, True),
    ],
)
def test_refusal_passes_only_where_waiting_can_help(
    message: str, status: int, passes: bool
) -> None:
    assert kube.is_transient(refusal(message, status)) is passes


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ('violates PodSecurity "restricted:latest": runAsNonRoot != true', '"runAsNonRoot": True'),
        ("failed quota: q: must specify limits.memory for: base", "Change resources of"),
        ("maximum memory usage per Container is 100Mi, but request is 256Mi", "Change resources"),
        (QUOTA.format("pods=1", "pods=0", "pods=0"), "or the LimitRange or ResourceQuota"),
    ],
)
def test_refusal_names_the_setting_that_lets_the_pod_pass(message: str, advice: str) -> None:
    said = kube.describe_refusal(refusal(message))

    assert said.startswith(f"403 {message}. ")
    assert advice in said


def test_refusal_of_anything_else_has_no_advice() -> None:
    assert kube.describe_refusal(refusal("no such thing")) == "403 no such thing."


def test_template_has_the_last_word_on_the_rights_of_a_pod() -> None:
    own = V1SecurityContext(privileged=True)
    spec = V1PodSpec(
        containers=[V1Container(name="base", security_context=own), V1Container(name="other")],
        security_context=V1PodSecurityContext(run_as_user=7),
    )

    pod_module.restrict(spec)

    assert spec.security_context.run_as_user == 7
    assert spec.security_context.seccomp_profile.type == "RuntimeDefault"
    assert spec.containers[0].security_context == own
    assert spec.containers[1].security_context is None


def test_api_that_was_away_may_refuse_at_first_what_it_allows_later(
    job: Any, clock: Any, mocker: MockerFixture
) -> None:
    # The answers to this task's list; each next one comes after 15 s.
    answers = [*[HTTPError("refused")] * 20, *[refusal("pods is forbidden")] * 3, []]
    mocker.patch.object(job, "pods_by_label", side_effect=answers)
    mocker.patch.object(job, "created_pod", return_value=RUNS)

    assert job.get_or_create_pod(pod(), {}) is RUNS


def test_pod_that_is_refused_without_an_outage_fails_the_task_at_once(
    job: Any, mocker: MockerFixture
) -> None:
    refused = mocker.patch.object(job, "pods_by_label", side_effect=refusal("pods is forbidden"))

    with pytest.raises(AirflowException, match="403 pods is forbidden"):
        job.get_or_create_pod(pod(), {})

    refused.assert_called_once()


def test_killed_task_logs_what_may_have_ended_it(
    job: Any, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    mocker.patch.object(job, "process_pod_deletion")
    job.pod = V1Pod(metadata=V1ObjectMeta(name="store1-job-abc"))

    job.on_kill()

    assert "so the job's pod store1-job-abc is removed" in caplog.text
    assert "could not send its heartbeats to Airflow's API server" in caplog.text
    job.process_pod_deletion.assert_called_once_with(job.pod, reraise=False)


def test_pod_that_was_deleted_by_force_has_time_to_end(job: Any, mocker: MockerFixture) -> None:
    mocker.patch.object(pod_module, "read_current_pod", return_value=None)
    mocker.patch.object(KubernetesPodOperator, "cleanup", side_effect=AirflowException("failed"))
    runs = V1Pod(metadata=V1ObjectMeta(name="store1-job"), status=V1PodStatus(phase="Running"))

    with pytest.raises(AirflowException, match="pod store1-job failed: it was deleted before it"):
        job.cleanup(pod=runs, remote_pod=runs)

    vars(pod_module.time)["sleep"].assert_called_once_with(10)
