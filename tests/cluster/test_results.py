"""Results and ends of jobs on a real Kubernetes: long logs, limits, removed pods, lost nodes.

Tests that change the node call the program CLUSTER_NODE_COMMAND with one word: `stop-kubelet` and
`start-kubelet`, `stop-containerd` and `start-containerd`, `restart-api-server` (it returns when
that answers), `drain SELECTOR` (the pods with this label) and `uncordon`.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.providers.cncf.kubernetes.callbacks import KubernetesPodOperatorCallback
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodManager
from airflow_names import AirflowException
from conftest import Site
from pod_runs import (
    NAMESPACE,
    Cluster,
    TaskInstance,
    change,
    context_of,
    dag_of,
    job_of,
    run_job,
    why_the_job_failed,
)

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

DONE = "echo DATASURFACE_RESULT_CODE=0"
#: 12 MB, which is more than a log file may have (containerLogMaxSize of the kubelet is 10 Mi).
FILL = f"yes {'x' * 999} | head -c 12000000"
#: After this the kubelet, which looks each 10 s, has begun a new file.
ROTATED = "sleep 12"
#: Ends at SIGTERM, which the first process of a container does not do by itself.
WAIT = "trap 'exit 1' TERM; sleep 120 & wait"
NODE_COMMAND = os.getenv("CLUSTER_NODE_COMMAND")

needs_node = pytest.mark.skipif(
    NODE_COMMAND is None,
    reason="stops parts of the node: set CLUSTER_NODE_COMMAND to a program that does so",
)


def command_node(*words: str) -> None:
    subprocess.run([str(NODE_COMMAND), *words], check=True, stdin=subprocess.DEVNULL, timeout=240)


@pytest.fixture(autouse=True)
def one_pod_at_most(cluster: Cluster) -> Iterator[None]:
    """See that no two pods of the stream live at a time, and that none is left."""
    most, ended = 0, threading.Event()

    def count() -> None:
        nonlocal most
        while not ended.wait(0.5):
            with suppress(Exception):
                pods = cluster.api.list_namespaced_pod(NAMESPACE).items
                live = [pod for pod in pods if pod.status.phase in ("Pending", "Running")]
                most = max(most, len(live))

    counter = threading.Thread(target=count)
    counter.start()
    yield
    ended.set()
    counter.join()
    assert most <= 1
    cluster.wait_until_empty()


def template(**spec: Any) -> dict[str, Any]:
    """Return the pod template that RunSettings make of this."""
    return {"spec": {"containers": [{"name": "base"}], **spec}}


# --- Long logs --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        f"{FILL}; {DONE}; {ROTATED}",
        f"{FILL}; {ROTATED}; {DONE}",
        f"{FILL}; {ROTATED}; {FILL}; {DONE}; {ROTATED}; echo closing words",
        f"{FILL.replace('12000000', '200000000')}; {DONE}",
    ],
    ids=["before a rotation", "after a rotation", "between two rotations", "after 200 MB"],
)
def test_result_of_a_log_that_is_rotated(
    installed: Site, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(PodManager, "_log_message", lambda *_, **__: None, raising=False)
    cluster.job_is(script)

    assert run_job(dag_of(installed), cluster).xcoms["result_code"] == "0"


# --- Limits -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "script", "reason"),
    [
        (
            {"resources": {"limits": {"memory": "64Mi"}}},
            "exec tail /dev/zero",
            "its container ended with exit code 137 (OOMKilled). Raise its limit of memory: "
            "resources of RunSettings.",
        ),
        (
            {"resources": {"limits": {"ephemeral-storage": "20Mi"}}},
            f"head -c 60000000 /dev/zero > /tmp/large; {WAIT}",
            "Evicted: Pod ephemeral local storage usage exceeds the total limit of containers "
            "20Mi.",
        ),
        (
            {
                "pod_template": {
                    "spec": {
                        "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "20Mi"}}],
                        "containers": [
                            {
                                "name": "base",
                                "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
                            }
                        ],
                    }
                }
            },
            f"head -c 60000000 /dev/zero > /scratch/large; {WAIT}",
            'Evicted: Usage of EmptyDir volume "scratch" exceeds the limit "20Mi".',
        ),
        ({"timeout_seconds": 3}, WAIT, "it did not end within its timeout of 3 s."),
    ],
    ids=["memory", "disk of the container", "disk of a volume", "time"],
)
def test_job_that_reaches_a_limit_fails_with_it(
    installed: Site, cluster: Cluster, settings: dict[str, Any], script: str, reason: str
) -> None:
    change(installed, **settings)
    cluster.job_is(f"{DONE}; {script}")

    assert why_the_job_failed(installed, cluster) == reason


def test_job_with_a_process_that_was_killed_for_memory_says_so(
    installed: Site, cluster: Cluster
) -> None:
    """The node kills that process alone, or as of cgroup v2 all of its container."""
    change(installed, resources={"limits": {"memory": "64Mi"}})
    cluster.job_is("tail /dev/zero; echo DATASURFACE_RESULT_CODE=-1")
    dag = dag_of(installed)

    with pytest.raises(AirflowException, match=r"\(OOMKilled\)\. Raise its limit of memory"):
        dag.get_task("check_result").python_callable(ti=run_job(dag, cluster), dag=dag)


# --- Removed pods -----------------------------------------------------------------------------


def evict(cluster: Cluster, name: str) -> None:
    eviction = {"metadata": {"name": name, "namespace": NAMESPACE}}
    cluster.api.create_namespaced_pod_eviction(name, NAMESPACE, eviction)


def drain(cluster: Cluster, name: str) -> None:
    """Drain the node of this pod alone."""
    mark = {"drained": NAMESPACE}
    cluster.api.patch_namespaced_pod(name, NAMESPACE, {"metadata": {"labels": mark}})
    try:
        command_node("drain", f"drained={NAMESPACE}")
    finally:
        command_node("uncordon")


def taint(cluster: Cluster, name: str) -> None:
    """Do what Kubernetes does to a node that does not answer; it takes that back by itself."""
    node = cluster.api.read_namespaced_pod(name, NAMESPACE).spec.node_name
    lost = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}
    cluster.api.patch_node(node, {"spec": {"taints": [lost]}})


EVICTED = "EvictionByEvictionAPI: Eviction API: evicting"


@pytest.mark.parametrize(
    ("act", "who"),
    [
        (evict, EVICTED),
        pytest.param(drain, EVICTED, marks=needs_node),
        (taint, "DeletionByTaintManager: Taint manager: deleting due to NoExecute taint"),
    ],
)
def test_job_that_is_evicted_fails_with_who_did_it(
    installed: Site, cluster: Cluster, act: Callable[[Cluster, str], None], who: str
) -> None:
    tolerated = {"key": "node.kubernetes.io/unreachable", "operator": "Exists"}
    at_once = {**tolerated, "effect": "NoExecute", "tolerationSeconds": 0}
    spec = template(terminationGracePeriodSeconds=5, tolerations=[at_once])
    change(installed, pod_template=spec)
    cluster.job_is(f"{DONE}; trap '' TERM; sleep 120")

    with cluster.once_a_pod_runs(lambda name: act(cluster, name)):
        reason = why_the_job_failed(installed, cluster)

    assert reason == f"it was deleted before it ended ({who})."


def test_next_run_begins_after_a_job_that_was_deleted_by_force(
    installed: Site, cluster: Cluster, tmp_path: Path
) -> None:
    """Kubernetes forgets such a pod at once, and its node takes some seconds to end it."""
    beats = tmp_path / "beats"
    tmp_path.chmod(0o777)
    cluster.job_is(
        f"trap '' TERM; [ -e {beats} ] && {{ date +%s%N > {tmp_path}/next; {DONE}; exit; }};"
        f"while sleep 0.1; do date +%s%N > {beats}; done"
    )
    with cluster.once_a_pod_runs(
        lambda name: cluster.api.delete_namespaced_pod(name, NAMESPACE, grace_period_seconds=0)
    ):
        reason = why_the_job_failed(installed, cluster)

    assert run_job(dag_of(installed), cluster).xcoms["result_code"] == "0"

    assert reason == "it was deleted before it ended."
    assert int(beats.read_text()) < int((tmp_path / "next").read_text())


# --- Outages ----------------------------------------------------------------------------------


def stop_for(part: str, seconds: float) -> Callable[[str], None]:
    """Return what stops a part of the node for so long, and waits until it is back."""

    def act(_: str) -> None:
        command_node(f"stop-{part}")
        time.sleep(seconds)
        command_node(f"start-{part}")

    return act


@needs_node
@pytest.mark.parametrize(
    ("part", "seconds", "script"),
    [
        # The node counts as lost after 40 s to 50 s.
        ("kubelet", 60, "sleep 70"),
        ("kubelet", 25, "sleep 8"),
        ("containerd", 10, "sleep 15"),
    ],
    ids=["kubelet", "kubelet, the job ends meanwhile", "containerd"],
)
def test_job_goes_on_while_its_node_does_not_answer(
    installed: Site, cluster: Cluster, part: str, seconds: float, script: str
) -> None:
    cluster.job_is(f"{script}; {DONE}")

    with cluster.once_a_pod_runs(stop_for(part, seconds)):
        ti = run_job(dag_of(installed), cluster)

    assert ti.xcoms["result_code"] == "0"


class RestartBefore(KubernetesPodOperatorCallback):
    """Restarts the API server before the result is read."""

    @staticmethod
    def on_pod_completion(**_: Any) -> None:
        command_node("restart-api-server")


@needs_node
@pytest.mark.parametrize(
    "when", ["while the pod starts", "while the log is followed", "at the end"]
)
def test_api_server_that_is_restarted_does_not_end_the_run(
    installed: Site, cluster: Cluster, when: str
) -> None:
    cluster.job_is(f"sleep 10; {DONE}")
    job = job_of(dag_of(installed), cluster)
    ti = TaskInstance(job)
    restart = threading.Thread(target=command_node, args=("restart-api-server",))
    create = job.created_pod

    def create_and_restart(*args: Any) -> Any:
        pod = create(*args)
        restart.start()
        return pod

    if when == "while the pod starts":
        vars(job)["created_pod"] = create_and_restart
    elif when == "at the end":
        job.callbacks.insert(0, RestartBefore)
    else:
        threading.Timer(5, restart.start).start()

    job.execute(context_of(job, ti))

    assert ti.xcoms["result_code"] == "0"


@pytest.fixture
def revoke(cluster: Cluster) -> Iterator[Callable[..., None]]:
    """Make the service account of Airflow anew, so that its token is not valid any more."""
    account = yaml.safe_load(cluster.kubeconfig.read_text())["current-context"]

    def renew() -> None:
        cluster.kube.write_kubeconfig(cluster.kubeconfig, NAMESPACE, account)

    def act(*, renewed: bool) -> None:
        cluster.api.delete_namespaced_service_account(account, NAMESPACE)
        cluster.api.create_namespaced_service_account(NAMESPACE, {"metadata": {"name": account}})
        if renewed:
            renew()

    yield act
    renew()


def test_token_that_was_renewed_is_read_anew(
    installed: Site, cluster: Cluster, revoke: Callable[..., None]
) -> None:
    # The API server knows a token for 10 s without looking.
    cluster.job_is(f"sleep 15; {DONE}")

    with cluster.once_a_pod_runs(lambda _: revoke(renewed=True)):
        ti = run_job(dag_of(installed), cluster)

    assert ti.xcoms["result_code"] == "0"


def test_job_whose_token_was_revoked_fails_and_its_pod_is_left_to_the_next_run(
    installed: Site,
    cluster: Cluster,
    revoke: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster.job_is(f"sleep 15; {DONE}")
    job = job_of(dag_of(installed), cluster)
    monkeypatch.setitem(type(job).remove.__globals__, "API_START_SECONDS", 5)

    with (
        cluster.once_a_pod_runs(lambda _: revoke(renewed=False)),
        pytest.raises(AirflowException) as failure,
    ):
        job.execute(context_of(job, TaskInstance(job)))

    assert "401 Unauthorized (Airflow's token for Kubernetes has expired or was revoked)" in str(
        failure.value
    )
    revoke(renewed=True)
    assert run_job(dag_of(installed), cluster).xcoms["result_code"] == "0"
