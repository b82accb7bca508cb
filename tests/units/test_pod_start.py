"""What a job's task makes of a pod whose start the provider gives up, and of its own end."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.exceptions import AirflowException
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from kubernetes.client import (
    V1ContainerState,
    V1ContainerStateRunning,
    V1ContainerStateTerminated,
    V1ContainerStateWaiting,
    V1ContainerStatus,
    V1ObjectMeta,
    V1Pod,
    V1PodStatus,
)
from pytest_mock import MockerFixture
from units.conftest import row

from yellow_dynamic.factory import pod as pod_module
from yellow_dynamic.factory.dag import DagBuilder
from yellow_dynamic.factory.kube import failed_pod_reason
from yellow_dynamic.factory.platform import Platform


def pod(*states: V1ContainerState) -> V1Pod:
    """Return a pod whose job and sidecar are in these states."""
    containers = [
        V1ContainerStatus(
            name=name, image="i", image_id="i", ready=False, restart_count=0, state=state
        )
        for name, state in zip(("base", "sidecar"), states, strict=False)
    ]
    return V1Pod(status=V1PodStatus(container_statuses=containers or None))


def waiting(reason: str, message: str | None = None) -> V1Pod:
    return pod(V1ContainerState(waiting=V1ContainerStateWaiting(reason=reason, message=message)))


RUNS = pod(V1ContainerState(running=V1ContainerStateRunning()))
HAS_RUN = pod(V1ContainerState(terminated=V1ContainerStateTerminated(exit_code=1)))
BACK_OFF = waiting("ImagePullBackOff", "connection refused")
SIDECAR_RUNS = pod(
    V1ContainerState(waiting=V1ContainerStateWaiting(reason="ImagePullBackOff")),
    V1ContainerState(running=V1ContainerStateRunning()),
)


@pytest.fixture
def job(platform: Platform, mocker: MockerFixture) -> Any:
    """The job's task; its provider gives the pod up once, and no time passes."""
    mocker.patch.object(pod_module.time, "sleep")
    mocker.patch.object(
        KubernetesPodOperator,
        "await_pod_start",
        side_effect=[AirflowException("Image cannot be pulled"), None],
    )
    mocker.patch.object(KubernetesPodOperator, "client")
    [dag] = DagBuilder(platform).build_dags([row("A")]).values()
    return dag.get_task("snapshot_merge_job")


@pytest.mark.parametrize(
    "now", [waiting("ErrImagePull"), BACK_OFF, waiting("ContainerCreating"), SIDECAR_RUNS]
)
def test_pod_that_may_still_start_is_looked_at_again(
    job: Any, mocker: MockerFixture, caplog: pytest.LogCaptureFixture, now: V1Pod
) -> None:
    mocker.patch.object(pod_module, "read_current_pod", return_value=now)

    job.await_pod_start(pod())

    assert KubernetesPodOperator.await_pod_start.call_count == 2
    vars(pod_module.time)["sleep"].assert_called_once_with(10)
    assert "Kubernetes has not started the job yet: " in caplog.text


@pytest.mark.parametrize("now", [RUNS, HAS_RUN])
def test_job_whose_image_came_after_the_provider_had_looked_goes_on(
    job: Any, mocker: MockerFixture, now: V1Pod
) -> None:
    mocker.patch.object(pod_module, "read_current_pod", return_value=now)
    job.startup_timeout_seconds = -1

    job.await_pod_start(pod())

    assert KubernetesPodOperator.await_pod_start.call_count == 1


@pytest.mark.parametrize(
    "now",
    [
        None,
        pod(),
        waiting("ErrImagePull", "manifest unknown"),
        waiting("ErrImagePull", "unexpected status from HEAD request: 403 Forbidden"),
        waiting("ImagePullBackOff", 'image reference "No/such": invalid reference format'),
        waiting("CreateContainerConfigError"),
    ],
)
def test_pod_that_cannot_start_fails_the_task_at_once(
    job: Any, mocker: MockerFixture, now: V1Pod | None
) -> None:
    mocker.patch.object(pod_module, "read_current_pod", return_value=now)

    with pytest.raises(AirflowException, match="Image cannot be pulled"):
        job.await_pod_start(pod())


@pytest.mark.parametrize("now", [BACK_OFF, waiting("ContainerCreating")])
def test_pod_whose_time_is_over_is_not_looked_at_again(
    job: Any, mocker: MockerFixture, now: V1Pod
) -> None:
    mocker.patch.object(pod_module, "read_current_pod", return_value=now)
    job.startup_timeout_seconds = -1

    with pytest.raises(AirflowException, match="Image cannot be pulled"):
        job.await_pod_start(pod())


def test_reason_of_a_failed_pod_repeats_no_variable() -> None:
    said = 'environment variable value can\'t contain null(\\x00): "PASSWORD=hush"'
    ended = V1ContainerStateTerminated(exit_code=128, reason="StartError", message=said)
    failed = pod(V1ContainerState(terminated=ended))
    failed.metadata = V1ObjectMeta(name="store1-job-abc")

    assert failed_pod_reason(failed) == "its container ended with exit code 128 (StartError)"


def test_killed_task_logs_what_may_have_ended_it(
    job: Any, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    mocker.patch.object(job, "process_pod_deletion")
    job.pod = V1Pod(metadata=V1ObjectMeta(name="store1-job-abc"))

    job.on_kill()

    assert "so the job's pod store1-job-abc is removed" in caplog.text
    assert "could not send its heartbeats to Airflow's API server" in caplog.text
    job.process_pod_deletion.assert_called_once_with(job.pod, reraise=False)
