"""What a job's task makes of a pod whose start the provider gives up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.exceptions import AirflowException
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from pytest_mock import MockerFixture
from units.conftest import row

from yellow_dynamic.factory import pod as pod_module
from yellow_dynamic.factory.dag import DagBuilder
from yellow_dynamic.factory.platform import Platform


def pod(phase: str, reason: str | None = None, message: str = "connection refused") -> Any:
    """Return a pod whose one container waits for this reason, or runs."""
    waiting = SimpleNamespace(reason=reason, message=message) if reason else None
    state = SimpleNamespace(waiting=waiting, terminated=None)
    return SimpleNamespace(
        status=SimpleNamespace(phase=phase, container_statuses=[SimpleNamespace(state=state)])
    )


UNSCHEDULED = SimpleNamespace(status=SimpleNamespace(phase="Pending", container_statuses=None))


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
    "now",
    [
        pod("Pending", "ErrImagePull"),
        pod("Pending", "ImagePullBackOff"),
        # The image came after the provider had looked.
        pod("Pending", "ContainerCreating"),
        pod("Running"),
        pod("Succeeded"),
    ],
)
def test_pod_that_may_still_start_is_waited_for(job: Any, mocker: MockerFixture, now: Any) -> None:
    mocker.patch.object(pod_module, "read_current_pod", return_value=now)

    job.await_pod_start(pod("Pending"))

    assert KubernetesPodOperator.await_pod_start.call_count == 2


@pytest.mark.parametrize(
    "now",
    [
        None,
        UNSCHEDULED,
        pod("Failed"),
        pod("Pending", "ErrImagePull", "manifest unknown"),
        pod("Pending", "CreateContainerConfigError"),
    ],
)
def test_pod_that_cannot_start_fails_the_task_at_once(
    job: Any, mocker: MockerFixture, now: Any
) -> None:
    mocker.patch.object(pod_module, "read_current_pod", return_value=now)

    with pytest.raises(AirflowException, match="Image cannot be pulled"):
        job.await_pod_start(pod("Pending"))


def test_pod_is_waited_for_no_longer_than_its_timeout(job: Any, mocker: MockerFixture) -> None:
    mocker.patch.object(pod_module, "read_current_pod", return_value=pod("Pending", "ErrImagePull"))
    job.startup_timeout_seconds = -1

    with pytest.raises(AirflowException, match="Image cannot be pulled"):
        job.await_pod_start(pod("Pending"))
