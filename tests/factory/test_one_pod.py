"""No two pods of a stream at once, and what stands in a job's way, over real HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from airflow_names import IS_AIRFLOW_2, AirflowException
from conftest import Site
from kube_proxy import Fault, KubeProxy, kube_proxy
from kubernetes.client import ApiException, V1DeleteOptions, V1Preconditions
from pod_runs import NAMESPACE, Cluster, TaskInstance, context_of, job_of, run_job
from real_cluster import LIMIT

from one_machine import NotYetError, wait_until
from yellow_dynamic.factory.kube import read_events

pytestmark = [
    pytest.mark.slow,
    pytest.mark.from_the_field("a stream beside itself, and what stands in its job's way"),
]

DAG_ID = "yellowlive__Store1_ingestion"
DONE = "echo DATASURFACE_RESULT_CODE=0"


@pytest.fixture
def proxy(cluster: Cluster, tmp_path: Path) -> Iterator[KubeProxy]:
    with kube_proxy(cluster.kubeconfig, tmp_path) as running:
        yield running


@pytest.fixture(autouse=True)
def no_pods_are_left(cluster: Cluster) -> Iterator[None]:
    yield
    for name in cluster.pods():
        cluster.api.delete_namespaced_pod(name, NAMESPACE, grace_period_seconds=0)
    cluster.wait_until_empty()


def dag_with(site: Site, **constants: float) -> Any:
    """Return the stream's DAG of a factory file with other values of these constants."""
    names = vars(site.module())
    assert constants.keys() <= names.keys()
    names.update(constants)
    return names[DAG_ID]


def start_job(site: Site, cluster: Cluster, run_id: str) -> str:
    """Start the pod of a run whose worker then dies, and return its name."""
    job = job_of(site.parse()[DAG_ID], cluster)
    context = context_of(job, TaskInstance(job, run_id))
    pod = job.get_or_create_pod(job.build_pod_request_obj(context), context)
    name = str(pod.metadata.name)

    def runs() -> None:
        if cluster.api.read_namespaced_pod(name, NAMESPACE).status.phase != "Running":
            raise NotYetError(f"{name} does not run yet")

    wait_until(runs, seconds=LIMIT, every=0.1)
    return name


def in_background(function: Any, *args: Any, **options: Any) -> Future[Any]:
    """Run a function in a thread that does not outlive the tests."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(function(*args, **options))
        except BaseException as error:  # noqa: BLE001 - whoever asks for the result gets it
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def may_run(pod: Any) -> bool:
    """Return whether a pod's job has not ended; the pod itself ends a little later."""
    ended = [each.state.terminated for each in pod.status.container_statuses or []]
    return pod.status.phase in ("Pending", "Running") and not any(ended)


@contextmanager
def most_pods(cluster: Cluster) -> Iterator[list[int]]:
    """Watch how many jobs run at once; the list gets each number that was seen."""
    seen: list[int] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.02):
            pods = cluster.api.list_namespaced_pod(NAMESPACE).items
            seen.append(sum(map(may_run, pods)))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()


def gate(tmp_path: Path) -> tuple[Path, str]:
    """Return a file, and a job that ends well when the file is there."""
    file = tmp_path / "go-on"
    return (
        file,
        f"echo started >> {tmp_path}/jobs; until [ -e {file} ]; do sleep 0.05; done; {DONE}",
    )


def test_run_waits_for_the_pod_that_a_dead_worker_left(
    installed: Site, cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    go_on, script = gate(tmp_path)
    cluster.job_is(script)
    left = start_job(installed, cluster, "scheduled__1")

    with most_pods(cluster) as seen:
        dag = dag_with(installed, OWNER_SECONDS=0.5)
        second = in_background(run_job, dag, cluster, run_id="scheduled__2")
        wait_until(lambda: said(caplog, "still runs"), seconds=LIMIT, every=0.1)
        go_on.touch()
        ti = second.result(LIMIT)

    assert ti.xcoms["result_code"] == "0"
    assert (tmp_path / "jobs").read_text() == "started\nstarted\n"
    assert max(seen) == 1
    assert f"The former pod {left} (run 'scheduled__1') still runs" in caplog.text
    assert f"kubectl delete pod {left} --namespace {NAMESPACE}" in caplog.text


def holds(file: Path, words: str) -> None:
    if not file.exists() or words not in file.read_text():
        raise NotYetError(f"not yet in {file.name}: {words}")


def said(caplog: pytest.LogCaptureFixture, words: str) -> None:
    if words not in caplog.text:
        raise NotYetError(f"not yet said: {words}")


def test_pod_of_a_run_of_the_former_release_is_waited_for(
    installed: Site, cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its name had a random end, and so had the static DAGs'."""
    go_on, script = gate(tmp_path)
    cluster.job_is(script)
    job = job_of(installed.parse()[DAG_ID], cluster)
    context = context_of(job, TaskInstance(job, "scheduled__1"))
    former = job.build_pod_request_obj(context)
    former.metadata.name = "yellowlive-store1-job-x7zk2abc"
    job.pod_manager.create_pod(former)

    with most_pods(cluster) as seen:
        second = in_background(run_job, installed.parse()[DAG_ID], cluster, run_id="scheduled__2")
        wait_until(lambda: said(caplog, "yellowlive-store1-job-x7zk2abc"), seconds=LIMIT, every=0.1)
        go_on.touch()
        assert second.result(LIMIT).xcoms["result_code"] == "0"

    assert max(seen) == 1


def test_pod_that_is_ending_is_waited_for_and_never_attached_to(
    installed: Site, cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Clearing a run lets its own pod end, which takes as long as its job wishes."""
    marks = tmp_path / "marks"
    cluster.job_is(
        f"trap 'sleep 2; echo end >> {marks}; exit 1' TERM; echo start >> {marks};"
        f"[ $(wc -l < {marks}) = 1 ] || {{ {DONE}; exit; }}; while :; do sleep 0.1; done"
    )
    left = start_job(installed, cluster, "manual__1")
    wait_until(lambda: holds(marks, "start"), seconds=LIMIT, every=0.1)
    cluster.api.delete_namespaced_pod(left, NAMESPACE)

    with most_pods(cluster) as seen:
        ti = run_job(installed.parse()[DAG_ID], cluster)

    assert ti.xcoms["result_code"] == "0"
    assert marks.read_text() == "start\nend\nstart\n"
    assert max(seen) == 1
    assert "is being deleted and has not ended" in caplog.text


def test_two_jobs_that_start_in_the_same_moment_run_one_after_the_other(
    installed: Site, cluster: Cluster, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    cluster.job_is(f"echo start >> {marks}; sleep 0.5; echo end >> {marks}; {DONE}")
    # The parsing context is that of the process, so the DAGs are built one after the other.
    dags = [installed.parse()[DAG_ID] for _ in range(4)]

    with ThreadPoolExecutor(4) as others:
        runs = [
            others.submit(run_job, dag, cluster, run_id=f"run_{number}")
            for number, dag in enumerate(dags)
        ]
        results = [run.result(LIMIT).xcoms["result_code"] for run in runs]

    assert results == ["0"] * 4
    assert marks.read_text() == "start\nend\n" * 4


def test_job_that_waited_too_long_fails_with_what_stands_in_its_way(
    installed: Site, cluster: Cluster, tmp_path: Path
) -> None:
    _, script = gate(tmp_path)
    cluster.job_is(script)
    left = start_job(installed, cluster, "scheduled__1")
    dag = dag_with(installed, START_SECONDS=2)

    with pytest.raises(AirflowException) as failure:
        run_job(dag, cluster, run_id="scheduled__2")

    assert str(failure.value).startswith("The job was not started within 0 minutes. The former")
    assert f"kubectl delete pod {left} " in str(failure.value)
    assert cluster.pods() == [left]


def test_ended_pod_that_nobody_removed_is_removed(installed: Site, cluster: Cluster) -> None:
    cluster.job_is(DONE)
    job = job_of(installed.parse()[DAG_ID], cluster)
    context = context_of(job, TaskInstance(job, "scheduled__1"))
    pod = job.get_or_create_pod(job.build_pod_request_obj(context), context)

    def ended() -> None:
        if (
            cluster.api.read_namespaced_pod(pod.metadata.name, NAMESPACE).status.phase
            != "Succeeded"
        ):
            raise NotYetError("it runs")

    wait_until(ended, seconds=LIMIT, every=0.1)
    dag = dag_with(installed, OWNER_SECONDS=0.5)

    assert run_job(dag, cluster).xcoms["result_code"] == "0"
    assert cluster.pods() == []


def test_events_of_former_pods_of_its_name_are_not_those_of_a_pod(
    installed: Site, cluster: Cluster
) -> None:
    """Kubernetes keeps events for an hour, and shows them by the name of the pod."""
    cluster.job_is(DONE)
    run_job(installed.parse()[DAG_ID], cluster, run_id="scheduled__1")
    job = job_of(installed.parse()[DAG_ID], cluster)
    context = context_of(job, TaskInstance(job, "scheduled__2"))
    pod = job.get_or_create_pod(job.build_pod_request_obj(context), context)

    def started() -> list[str]:
        events = [note.text for note in read_events(job.client, pod)]
        if not any(event.startswith("Started") for event in events):
            raise NotYetError(f"the events are {events}")
        return events

    events = wait_until(started, seconds=LIMIT, every=0.1)

    assert sum(event.startswith("Started") for event in events) == 1
    of_its_name = f"involvedObject.name={pod.metadata.name}"
    found = cluster.api.list_namespaced_event(NAMESPACE, field_selector=of_its_name).items
    assert len({event.involved_object.uid for event in found}) > 1


def test_lost_worker_that_wakes_up_does_not_remove_its_successors_pod(
    installed: Site, cluster: Cluster, tmp_path: Path
) -> None:
    go_on, script = gate(tmp_path)
    cluster.job_is(script)
    lost = job_of(installed.parse()[DAG_ID], cluster)
    context = context_of(lost, TaskInstance(lost, "scheduled__1"))
    lost.pod = lost.get_or_create_pod(lost.build_pod_request_obj(context), context)
    cluster.api.delete_namespaced_pod(lost.pod.metadata.name, NAMESPACE, grace_period_seconds=0)
    cluster.wait_until_empty()
    name = start_job(installed, cluster, "scheduled__2")

    lost.on_kill()

    pod = cluster.api.read_namespaced_pod(name, NAMESPACE)
    assert (pod.status.phase, pod.metadata.deletion_timestamp) == ("Running", None)
    go_on.touch()


def test_kubernetes_deletes_only_the_pod_that_is_meant(
    installed: Site, cluster: Cluster, tmp_path: Path
) -> None:
    _, script = gate(tmp_path)
    cluster.job_is(script)
    name = start_job(installed, cluster, "scheduled__1")
    other = V1DeleteOptions(preconditions=V1Preconditions(uid="another"))

    with pytest.raises(
        ApiException, match=r"the UID in the precondition \(another\) does not match"
    ):
        cluster.api.delete_namespaced_pod(name, NAMESPACE, body=other)


# --- What passes by itself --------------------------------------------------------------------

POD_QUOTA = (
    'pods "x" is forbidden: exceeded quota: compute, requested: pods=1, used: pods=10, '
    "limited: pods=10"
)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (403, POD_QUOTA),
        (429, "too many requests"),
        (500, "etcdserver: request timed out"),
        (503, "apiserver not ready"),
    ],
)
def test_fault_that_passes_does_not_end_the_run(
    installed: Site,
    cluster: Cluster,
    proxy: KubeProxy,
    caplog: pytest.LogCaptureFixture,
    status: int,
    message: str,
) -> None:
    cluster.job_is(DONE)
    proxy.faults.append(Fault("POST", "/pods$", status, message, times=2))

    ti = run_job(installed.parse()[DAG_ID], cluster, kubeconfig=proxy.kubeconfig)

    assert ti.xcoms["result_code"] == "0"
    assert f"Kubernetes has no room or no answer: {status} {message}. Next look in" in caplog.text


@pytest.mark.parametrize(
    "faults",
    [
        [Fault("GET", "/log.*follow", 404, "could not find the requested resource (pods/log x)")],
        [
            Fault("GET", "/log.*follow", 404, "could not find the requested resource (pods/log x)"),
            Fault("GET", "/pods/[^/]*$", 403, "pods is forbidden: User cannot get resource"),
        ],
    ],
    ids=["a kubelet that starts", "an API that starts, too"],
)
def test_log_that_cannot_be_followed_for_a_while_does_not_end_the_run(
    installed: Site,
    cluster: Cluster,
    proxy: KubeProxy,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    faults: list[Fault],
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    cluster.job_is(f"sleep 1; {DONE}")
    job = job_of(installed.parse()[DAG_ID], cluster, proxy.kubeconfig)
    start = job.await_pod_start

    def start_and_fail(*args: Any, **options: Any) -> None:
        start(*args, **options)
        proxy.faults += faults

    vars(job)["await_pod_start"] = start_and_fail
    ti = TaskInstance(job)
    job.execute(context_of(job, ti))

    assert ti.xcoms["result_code"] == "0"
    # Older providers try again without a word.
    if not IS_AIRFLOW_2:
        assert "cannot be followed: 404 could not find the requested resource" in caplog.text
    assert cluster.pods() == []


def test_pod_that_kubernetes_refuses_for_good_fails_the_run_at_once(
    installed: Site, cluster: Cluster, proxy: KubeProxy
) -> None:
    refusal = 'pods is forbidden: User "airflow" cannot create resource "pods"'
    proxy.faults.append(Fault("POST", "/pods$", 403, refusal, times=9))

    with pytest.raises(AirflowException) as failure:
        run_job(installed.parse()[DAG_ID], cluster, kubeconfig=proxy.kubeconfig)

    assert "Kubernetes refuses the job's pod yellowlive-store1-job-" in str(failure.value)
    assert refusal in str(failure.value)
    assert sum(request[0] == "POST" for request in proxy.seen) == 1


@pytest.mark.localkube
def test_registry_that_is_away_for_a_while_does_not_end_the_run(
    installed: Site, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.job_is(DONE)
    away = cluster.bin_dir.with_name("away")
    cluster.bin_dir.rename(away)

    run = in_background(run_job, installed.parse()[DAG_ID], cluster)
    wait_until(lambda: image_has_not_come(cluster), seconds=LIMIT, every=0.1)
    away.rename(cluster.bin_dir)
    assert run.result(LIMIT).xcoms["result_code"] == "0"
    assert "Kubernetes has not started the job yet: " in caplog.text
    assert "connection refused" in caplog.text


def image_has_not_come(cluster: Cluster) -> None:
    for pod in cluster.api.list_namespaced_pod(NAMESPACE).items:
        [status] = pod.status.container_statuses or [None]
        if status and status.state.waiting and "Image" in status.state.waiting.reason:
            return
    raise NotYetError("No pull has failed.")


def test_pod_that_cannot_be_removed_is_left_to_the_next_run(
    installed: Site, cluster: Cluster, proxy: KubeProxy, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.job_is(DONE)
    proxy.faults.append(Fault("DELETE", "/pods/", 500, "etcdserver: no leader", times=9))

    ti = run_job(installed.parse()[DAG_ID], cluster, kubeconfig=proxy.kubeconfig)

    assert ti.xcoms["result_code"] == "0"
    assert "could not be removed: 500 etcdserver: no leader. The next run" in caplog.text


# --- The result -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("faults", "what"),
    [
        ([Fault("GET", "/log.*tailLines", 200, "", times=1)], "an empty first answer"),
        ([Fault("GET", "/log.*tailLines", 200, "a new file\n", times=9)], "rotated away"),
        ([Fault("GET", "/log.*tailLines", 500, "cannot read", times=9)], "unreadable"),
    ],
    ids=["empty first answer", "rotated away", "unreadable"],
)
def test_result_that_was_followed_counts_where_the_log_does_not_have_it(
    installed: Site,
    cluster: Cluster,
    proxy: KubeProxy,
    monkeypatch: pytest.MonkeyPatch,
    faults: list[Fault],
    what: str,
) -> None:
    # One that ends too soon may not be followed at all.
    cluster.job_is(f"sleep 1; {DONE}; sleep 1")
    proxy.faults += faults
    job = job_of(installed.parse()[DAG_ID], cluster, proxy.kubeconfig)
    monkeypatch.setitem(type(job).remove.__globals__, "OUTAGE_SECONDS", 1)
    ti = TaskInstance(job)

    job.execute(context_of(job, ti))

    assert ti.xcoms["result_code"] == "0", what


def test_log_that_cannot_be_read_is_not_a_job_that_printed_nothing(
    installed: Site, cluster: Cluster, proxy: KubeProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.job_is("echo quiet")
    proxy.faults.append(Fault("GET", "/log.*tailLines", 500, "cannot read the log", times=9))
    job = job_of(installed.parse()[DAG_ID], cluster, proxy.kubeconfig)
    monkeypatch.setitem(type(job).remove.__globals__, "OUTAGE_SECONDS", 1)
    ti = TaskInstance(job)

    job.execute(context_of(job, ti))

    assert ti.xcoms["result_code"] == "unreadable: 500 cannot read the log"


def test_labels_that_a_mutation_hook_replaces_do_not_hide_the_result(
    installed: Site, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.job_is("echo DATASURFACE_RESULT_CODE=1")

    def hook(pod: Any) -> None:
        pod.metadata.labels = {"cost-centre": "42"}

    # The operator's module first: if this imports it, it is to take the real hook for its own.
    monkeypatch.setattr(
        "airflow.providers.cncf.kubernetes.operators.pod.pod_mutation_hook", hook, raising=False
    )
    monkeypatch.setattr("airflow.settings.pod_mutation_hook", hook)
    seen = []
    create = cluster.api.__class__.create_namespaced_pod

    def create_and_note(api: Any, namespace: str, body: Any, **options: Any) -> Any:
        seen.append(body["metadata"]["labels"])
        return create(api, namespace, body, **options)

    monkeypatch.setattr(cluster.api.__class__, "create_namespaced_pod", create_and_note)

    ti = run_job(installed.parse()[DAG_ID], cluster)

    assert seen == [{"cost-centre": "42"}]
    assert ti.xcoms["result_code"] == "1"
    assert cluster.pods() == []


def test_end_of_a_log_with_lines_of_megabytes_takes_little_memory(
    installed: Site, cluster: Cluster
) -> None:
    module = installed.module()
    line = b"x" * 1_000_000 + b"\n"
    most = []

    class Response:
        """A log as the API streams it."""

        def stream(self, size: int) -> Iterator[bytes]:
            for _ in range(300):
                for at in range(0, len(line), size):
                    yield line[at : at + size]
            yield b"DATASURFACE_RESULT_CO"
            yield b"DE=1\n"

        def close(self) -> None:
            most.append("closed")

    class Client:
        """The one call of the Kubernetes client."""

        def read_namespaced_pod_log(self, *_: Any, **__: Any) -> Response:
            return Response()

    import tracemalloc

    tracemalloc.start()
    pod = type("Pod", (), {"metadata": type("Meta", (), {"name": "a", "namespace": "b"})})
    code = module.result_in_log(Client(), pod)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert (code, most) == ("1", ["closed"])
    assert peak < 2_000_000
