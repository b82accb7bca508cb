"""Airflow's own KubernetesPodOperator against the server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from airflow.providers.cncf.kubernetes.callbacks import KubernetesPodOperatorCallback
from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger
from airflow.sdk.exceptions import AirflowException

from .running import IMAGE, Cluster, wait_until


class Recorder(KubernetesPodOperatorCallback):
    """Notes the order of the operator's calls, and the log that the pod has by then."""

    calls: list[str]
    log: str

    @staticmethod
    def on_pod_creation(**_: Any) -> None:
        Recorder.calls.append("creation")

    @staticmethod
    def on_pod_starting(**_: Any) -> None:
        Recorder.calls.append("starting")

    @staticmethod
    def progress_callback(*, line: str, **_: Any) -> None:
        Recorder.calls.append(f"line {line.strip()}")

    @staticmethod
    def on_pod_completion(*, pod: Any, client: Any, **_: Any) -> None:
        response = client.read_namespaced_pod_log(
            *(pod.metadata.name, pod.metadata.namespace), tail_lines=1, _preload_content=False
        )
        Recorder.log = response.data.decode()
        Recorder.calls.append(f"completion {pod.status.phase}")

    @staticmethod
    def on_pod_teardown(**_: Any) -> None:
        Recorder.calls.append("teardown")

    @staticmethod
    def on_pod_cleanup(**_: Any) -> None:
        Recorder.calls.append("cleanup")


@pytest.fixture
def context() -> dict[str, Any]:
    task = SimpleNamespace(
        dag_id="dag", task_id="task", map_index=-1, try_number=1, xcom_push=lambda **_: None
    )
    dag = SimpleNamespace(parent_dag=None)
    return {"ti": task, "run_id": "manual__2025-01-01T00:00:00+00:00", "dag": dag}


@pytest.fixture(autouse=True)
def calls() -> Iterator[list[str]]:
    Recorder.calls, Recorder.log = [], ""
    yield Recorder.calls


def operator(cluster: Cluster, script: str, **options: Any) -> KubernetesPodOperator:
    settings = {
        "task_id": "task",
        "name": "job",
        "namespace": cluster.namespace,
        "image": IMAGE,
        "cmds": ["sh", "-c"],
        "arguments": [script],
        "config_file": str(cluster.server.kubeconfig),
        "in_cluster": False,
        "get_logs": True,
        "on_finish_action": "delete_pod",
        "callbacks": [Recorder],
        "startup_check_interval_seconds": 1,
    }
    return KubernetesPodOperator(**(settings | options))


def test_a_pod_that_succeeds(cluster: Cluster, context: dict[str, Any], calls: list[str]) -> None:
    operator(cluster, "echo one; echo RESULT=0").execute(context)
    assert calls == [
        "creation",
        "starting",
        "line one",
        "line RESULT=0",
        "completion Succeeded",
        "teardown",
        "cleanup",
    ]
    assert Recorder.log == "RESULT=0\n"
    wait_until(lambda: not cluster.api.list_namespaced_pod(cluster.namespace).items, "it is gone")


def test_a_pod_that_fails_shows_its_log(
    cluster: Cluster, context: dict[str, Any], calls: list[str]
) -> None:
    with pytest.raises(AirflowException, match="returned a failure"):
        operator(cluster, "echo the reason; exit 3").execute(context)
    assert "line the reason" in calls
    # The operator raises before it comes to its cleanup callback.
    # The pod itself ends a little later than its container.
    assert [call.split()[0] for call in calls[-2:]] == ["completion", "teardown"]
    assert Recorder.log == "the reason\n"
    wait_until(lambda: not cluster.api.list_namespaced_pod(cluster.namespace).items, "it is gone")


def test_a_kept_pod_is_marked_as_seen(cluster: Cluster, context: dict[str, Any]) -> None:
    with pytest.raises(AirflowException):
        operator(cluster, "exit 1", on_finish_action="keep_pod").execute(context)
    (pod,) = cluster.api.list_namespaced_pod(cluster.namespace).items
    assert pod.metadata.labels["already_checked"] == "True"


def test_an_unknown_image_fails_the_task_at_once(cluster: Cluster, context: dict[str, Any]) -> None:
    with pytest.raises(AirflowException, match="returned a failure") as error:
        operator(cluster, "true", image="no/such:image").execute(context)
    assert "Image cannot be pulled" in str(error.value.__context__)


def test_a_killed_task_takes_its_pod_along(cluster: Cluster, context: dict[str, Any]) -> None:
    task = operator(cluster, "sleep 60")
    task.pod = task.get_or_create_pod(task.build_pod_request_obj(context), context)
    name = task.pod.metadata.name
    cluster.wait_phase(name, "Running")
    task.on_kill()
    wait_until(lambda: not cluster.api.list_namespaced_pod(cluster.namespace).items, "it is gone")


def test_a_deferred_task_is_told_of_the_end(cluster: Cluster) -> None:
    name = cluster.shell("echo hello; sleep 1")
    cluster.wait_phase(name, "Running")
    created = cluster.read(name).metadata.creation_timestamp
    trigger = KubernetesPodTrigger(
        pod_name=name,
        pod_namespace=cluster.namespace,
        trigger_start_time=created,
        base_container_name="base",
        in_cluster=False,
        kubernetes_conn_id=None,
        config_dict=yaml.safe_load(cluster.server.kubeconfig.read_text()),
        poll_interval=0.2,
    )

    async def first_event() -> Any:
        return await anext(aiter(trigger.run()))

    event = asyncio.run(first_event())
    assert (event.payload["status"], event.payload["name"]) == ("success", name)


def test_the_async_hook_reads_pods_events_and_logs(cluster: Cluster) -> None:
    name = cluster.shell("echo hello")
    cluster.wait_end(name)
    hook = AsyncKubernetesHook(
        conn_id=None,
        in_cluster=False,
        config_dict=yaml.safe_load(cluster.server.kubeconfig.read_text()),
    )

    async def read() -> tuple[str, list[str], list[str]]:
        pod = await hook.get_pod(name, cluster.namespace)
        events = await hook.get_pod_events(name, cluster.namespace)
        lines = await hook.read_logs(name, cluster.namespace, container_name="base")
        return pod.status.phase, [event.reason for event in events.items], lines

    phase, reasons, lines = asyncio.run(read())
    assert phase == "Succeeded"
    assert set(reasons) == {"Scheduled", "Pulled", "Created", "Started"}
    assert len(lines) == 1
    assert lines[0].endswith("hello")
