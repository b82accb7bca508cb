"""The life of a pod: phases, logs, events, deletion."""

from __future__ import annotations

import contextlib
import random
import re
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest
from kubernetes import watch
from kubernetes.client import ApiException
from real_cluster import LIMIT, START

from .running import IMAGE, Cluster, is_running, wait_until


def state(pod: Any) -> Any:
    return pod.status.container_statuses[0].state


def test_a_watch_sees_a_pod_pass_through_its_phases(cluster: Cluster) -> None:
    phases: list[str] = []
    stream = watch.Watch()
    version = cluster.api.list_namespaced_pod(cluster.namespace).metadata.resource_version
    # One that ends at once has no time to run.
    name = cluster.shell("trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done")
    for event in stream.stream(
        cluster.api.list_namespaced_pod,
        cluster.namespace,
        resource_version=version,
        timeout_seconds=LIMIT,
    ):
        phase = event["object"].status.phase
        if phase not in phases:
            phases.append(phase)
            if phase == "Running":
                wait_until(lambda: "ready" in cluster.log(name), "the trap is set")
                cluster.api.delete_namespaced_pod(name, cluster.namespace)
        if phase == "Succeeded":
            stream.stop()
    assert phases == ["Pending", "Running", "Succeeded"]


def test_a_pod_that_succeeds_has_exit_code_times_and_conditions(cluster: Cluster) -> None:
    pod = cluster.wait_end(cluster.shell("echo done"))
    terminated = state(pod).terminated
    assert pod.status.phase == "Succeeded"
    assert (terminated.exit_code, terminated.reason) == (0, "Completed")
    assert pod.status.start_time <= terminated.started_at <= terminated.finished_at
    conditions = {condition.type: condition.status for condition in pod.status.conditions}
    assert conditions == {
        "PodReadyToStartContainers": "False",
        "Initialized": "True",
        "Ready": "False",
        "ContainersReady": "False",
        "PodScheduled": "True",
    }
    assert {c.reason for c in pod.status.conditions if c.status == "False"} == {
        None,
        "PodCompleted",
    }


def test_a_pod_that_fails_keeps_its_exit_code_and_its_log(cluster: Cluster) -> None:
    name = cluster.shell("echo out; echo err >&2; exit 3")
    pod = cluster.wait_end(name)
    assert pod.status.phase == "Failed"
    assert (state(pod).terminated.exit_code, state(pod).terminated.reason) == (3, "Error")
    # They are two streams, which come in any order.
    assert sorted(cluster.log(name).splitlines()) == ["err", "out"]


def test_container_ends_before_its_pod_does(cluster: Cluster) -> None:
    name = cluster.shell("sleep 0.1")

    pod = cluster.wait(
        name, lambda pod: bool(pod.status.container_statuses and state(pod).terminated)
    )

    assert pod.status.phase in ("Pending", "Running")
    assert cluster.wait_end(name).status.phase == "Succeeded"


def test_streams_are_lines_of_their_own(cluster: Cluster) -> None:
    name = cluster.shell("printf half; echo error >&2; printf ' a line'")
    cluster.wait_end(name)
    assert sorted(cluster.log(name).replace("half a line", "\n").split()) == ["error"]


# A container's first process cannot end itself by a signal where it has its own process ids.
@pytest.mark.localkube
def test_a_pod_ended_by_a_signal_has_128_and_its_number(cluster: Cluster) -> None:
    # Kubernetes makes one dollar of two.
    pod = cluster.wait_end(cluster.shell("kill -9 $$$$"))
    assert state(pod).terminated.exit_code == 137


def test_a_running_pod_is_ready(cluster: Cluster) -> None:
    pod = cluster.wait_phase(cluster.shell("sleep 60"), "Running")
    assert pod.status.container_statuses[0].ready
    assert state(pod).running.started_at
    assert {c.type for c in pod.status.conditions if c.status == "True"} >= {"Ready"}


def test_events_tell_the_story_of_a_pod(cluster: Cluster) -> None:
    name = cluster.shell("exit 0")
    cluster.wait_end(name)
    events = cluster.events(name)
    assert [event.reason for event in events] == ["Scheduled", "Pulled", "Created", "Started"]
    assert {event.type for event in events} == {"Normal"}
    assert events[0].involved_object.uid == cluster.read(name).metadata.uid


def test_a_command_that_does_not_exist_fails_with_a_reason(cluster: Cluster) -> None:
    name = cluster.create(cluster.pod(cluster.container("no-such-command")))
    pod = cluster.wait_end(name)
    terminated = state(pod).terminated
    assert (terminated.exit_code, terminated.reason) == (128, "StartError")
    assert "no-such-command" in terminated.message
    assert re.search("No such file|not found", terminated.message)
    assert cluster.log(name) == ""
    wait_until(lambda: cluster.events(name)[-1].reason == "Failed", "the event is there")


def test_an_unknown_image_keeps_the_pod_pending(cluster: Cluster) -> None:
    container = cluster.container("true") | {"image": "no/such:image"}
    name = cluster.create(cluster.pod(container))
    pod = cluster.wait_waiting(name, "ImagePullBackOff")
    assert pod.status.phase == "Pending"
    why = 'Back-off pulling image "no/such:image"'
    assert state(pod).waiting.message.startswith(f"{why}: ErrImagePull: rpc error: code = NotFound")

    def told() -> bool:
        events = {(each.type, each.reason, each.message) for each in cluster.events(name)}
        return events >= {
            ("Normal", "Pulling", 'Pulling image "no/such:image"'),
            ("Warning", "Failed", "Error: ErrImagePull"),
            ("Normal", "BackOff", why),
            ("Warning", "Failed", "Error: ImagePullBackOff"),
        }

    wait_until(told, "all events are there")
    cluster.api.delete_namespaced_pod(name, cluster.namespace)
    cluster.wait_gone(name)


@pytest.mark.localkube
def test_an_unknown_image_is_told_with_the_option_that_gives_it(cluster: Cluster) -> None:
    name = cluster.create(cluster.pod(cluster.container("true", image="no/such:image")))
    pod = cluster.wait_waiting(name, "ImagePullBackOff")
    assert "--image no/such:image=BIN_DIR" in state(pod).waiting.message


@pytest.mark.parametrize(
    ("fields", "reason", "message"),
    [
        (
            {"image": "no//such:image"},
            "InvalidImageName",
            'Failed to apply default image tag "no//such:image": couldn\'t parse image name '
            '"no//such:image": invalid reference format',
        ),
        (
            {"image": "no/such:image", "imagePullPolicy": "Never"},
            "ErrImageNeverPull",
            'Container image "no/such:image" is not present with pull policy of Never',
        ),
    ],
)
def test_an_image_that_is_never_pulled_keeps_the_pod_pending(
    cluster: Cluster, fields: dict[str, str], reason: str, message: str
) -> None:
    name = cluster.create(cluster.pod(cluster.container("true", **fields)))
    pod = cluster.wait_waiting(name, reason)
    assert (pod.status.phase, state(pod).waiting.message) == ("Pending", message)


def test_a_deadline_ends_a_running_pod(cluster: Cluster) -> None:
    script = "trap 'exit 7' TERM; while :; do sleep 0.05; done"
    pod = cluster.pod(cluster.container("sh", "-c", script), activeDeadlineSeconds=START)
    ended = cluster.wait_end(cluster.create(pod))
    assert (ended.status.phase, ended.status.reason) == ("Failed", "DeadlineExceeded")
    assert state(ended).terminated.exit_code == 7


def test_a_deadline_ends_a_pod_that_cannot_start(cluster: Cluster) -> None:
    container = cluster.container("true") | {"image": "no/such:image"}
    name = cluster.create(cluster.pod(container, activeDeadlineSeconds=1))
    ended = cluster.wait_end(name)
    assert (ended.status.phase, ended.status.reason) == ("Failed", "DeadlineExceeded")
    with pytest.raises(ApiException, match="waiting to start"):
        cluster.log(name)


@pytest.mark.localkube
def test_a_pod_can_be_made_to_run_out_of_memory(cluster: Cluster) -> None:
    name = cluster.shell("echo started; sleep 60")
    cluster.wait_phase(name, "Running")
    annotation = {"metadata": {"annotations": {"localkube/fail-with": "OOMKilled"}}}
    cluster.api.patch_namespaced_pod(name, cluster.namespace, annotation)
    ended = cluster.wait_end(name)
    assert ended.status.phase == "Failed"
    assert (state(ended).terminated.exit_code, state(ended).terminated.reason) == (137, "OOMKilled")


@pytest.mark.localkube
def test_a_pod_can_be_made_to_be_evicted(cluster: Cluster) -> None:
    pod = cluster.pod(cluster.container("sleep", "60"))
    pod["metadata"]["annotations"] = {"localkube/fail-with": "Evicted"}
    ended = cluster.wait_end(cluster.create(pod))
    assert (ended.status.phase, ended.status.reason) == ("Failed", "Evicted")


def test_labels_select_pods(cluster: Cluster) -> None:
    for name, labels in {"a": {"app": "x", "tier": "1"}, "b": {"app": "y"}, "c": {}}.items():
        pod = cluster.pod(cluster.container("true"), name)
        pod["metadata"]["labels"] = labels
        cluster.create(pod)

    def names(selector: str) -> list[str]:
        pods = cluster.api.list_namespaced_pod(cluster.namespace, label_selector=selector).items
        return [pod.metadata.name for pod in pods]

    assert names("") == ["a", "b", "c"]
    assert names("app=x") == names("app==x,tier=1") == ["a"]
    assert names("app!=x") == ["b", "c"]
    assert names("app") == names("app in (x, y)") == ["a", "b"]
    assert names("!app") == names("app notin (x,y)") == ["c"]
    assert names("app=x,tier=2") == []


def test_an_unreadable_selector_is_refused(cluster: Cluster) -> None:
    for options in (
        {"label_selector": "a=b=c"},
        {"label_selector": "a in b"},
        {"label_selector": "a=b,"},
        {"label_selector": "a=" + "x" * 64},
        {"label_selector": "a=-x"},
        {"label_selector": "a b=c"},
        {"field_selector": "spec.bogus=1"},
    ):
        with pytest.raises(ApiException) as error:
            cluster.api.list_namespaced_pod(cluster.namespace, **options)
        assert error.value.status == 400


def test_fields_select_pods(cluster: Cluster) -> None:
    for name in ("a", "b"):
        cluster.create(cluster.pod(cluster.container("true"), name))
    cluster.wait_phase("a", "Succeeded")
    for selector in ("metadata.name=a", "metadata.name=a,status.phase=Succeeded"):
        found = cluster.api.list_namespaced_pod(cluster.namespace, field_selector=selector).items
        assert [pod.metadata.name for pod in found] == ["a"]


def test_a_watch_shows_pods_that_come_into_and_leave_its_selection(cluster: Cluster) -> None:
    name = cluster.shell("sleep 60")
    cluster.wait_phase(name, "Running")
    seen: list[str] = []
    stream = watch.Watch()
    version = cluster.api.list_namespaced_pod(cluster.namespace).metadata.resource_version
    for value in ("yes", "no"):
        patch = {"metadata": {"labels": {"picked": value}}}
        cluster.api.patch_namespaced_pod(name, cluster.namespace, patch)
    for event in stream.stream(
        cluster.api.list_namespaced_pod,
        cluster.namespace,
        label_selector="picked=yes",
        resource_version=version,
        timeout_seconds=LIMIT,
    ):
        seen.append(event["type"])
        if event["type"] == "DELETED":
            stream.stop()
    assert seen == ["ADDED", "DELETED"]


def test_a_watch_of_a_version_that_is_too_old_is_told_to_list_again(cluster: Cluster) -> None:
    with pytest.raises(ApiException) as error:
        next(
            watch.Watch().stream(
                cluster.api.list_namespaced_pod, cluster.namespace, resource_version="1"
            )
        )
    assert error.value.status == 410


def test_a_watch_ends_at_its_timeout(cluster: Cluster) -> None:
    response = cluster.api.list_namespaced_pod(
        cluster.namespace,
        watch=True,
        timeout_seconds=1,
        _preload_content=False,
        # It would raise where the watch went on.
        _request_timeout=60,
    )
    assert response.data == b""


def test_labels_and_annotations_can_be_patched_and_removed(cluster: Cluster) -> None:
    name = cluster.shell("sleep 60")

    def patch(**meta: Any) -> Any:
        body = {"metadata": meta}
        return cluster.api.patch_namespaced_pod(name, cluster.namespace, body).metadata

    assert patch(labels={"a": "1", "b": "2"}).labels == {"a": "1", "b": "2"}
    assert patch(labels={"a": None}, annotations={"note": "x y"}).labels == {"b": "2"}
    assert cluster.read(name).metadata.annotations == {"note": "x y"}


def test_nothing_else_of_a_pod_can_be_patched(cluster: Cluster) -> None:
    name = cluster.shell("sleep 60")
    for change, status in (
        ({"spec": {"restartPolicy": "Always"}}, 422),
        ({"metadata": {"uid": "other"}}, 422),
        ({"metadata": {"name": "other"}}, 400),
    ):
        with pytest.raises(ApiException) as error:
            cluster.api.patch_namespaced_pod(name, cluster.namespace, change)
        assert error.value.status == status
    change = {"status": {"phase": "Unknown"}}
    after = cluster.api.patch_namespaced_pod(name, cluster.namespace, change)
    assert after.status.phase != "Unknown"


def test_a_log_is_followed_line_by_line_to_its_end(cluster: Cluster, tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    name = cluster.shell(
        f"echo first; while [ ! -e {go_on} ]; do sleep 0.05; done; printf 'last, no newline'"
    )
    cluster.wait_phase(name, "Running")
    response = cluster.api.read_namespaced_pod_log(
        name, cluster.namespace, follow=True, _preload_content=False
    )
    chunks = response.stream(amt=None)
    assert next(chunks) == b"first\n"
    go_on.touch()
    assert b"".join(chunks) == b"last, no newline"
    # The pod ends a little later.
    assert cluster.wait_end(name).status.phase == "Succeeded"


def test_a_log_can_be_cut_to_its_last_lines(cluster: Cluster) -> None:
    name = cluster.shell("for i in 1 2 3 4; do echo line $i; done")
    cluster.wait_end(name)
    assert cluster.log(name, tail_lines=2) == "line 3\nline 4\n"
    assert cluster.log(name, tail_lines=99).count("\n") == 4
    assert cluster.log(name, tail_lines=0) == ""


def test_a_log_can_show_times_and_leave_out_old_lines(cluster: Cluster) -> None:
    name = cluster.shell("echo old; sleep 1.1; echo new")
    cluster.wait_end(name)
    stamps, words = zip(
        *(line.split() for line in cluster.log(name, timestamps=True).splitlines()), strict=False
    )
    assert words == ("old", "new")
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", stamp) for stamp in stamps)
    since = cluster.send("GET", f"/pods/{name}/log?sinceTime={stamps[1]}")
    assert since == (200, b"new\n")
    assert cluster.log(name, since_seconds=1000) == "old\nnew\n"


def test_a_log_can_be_cut_to_its_first_bytes(cluster: Cluster) -> None:
    name = cluster.shell("for i in 1 2 3 4; do echo line $i; done")
    cluster.wait_end(name)
    assert cluster.log(name, limit_bytes=9) == "line 1\nli"
    assert cluster.log(name, limit_bytes=9, tail_lines=1) == "line 4\n"


def test_lines_of_any_length_and_any_bytes_come_back_whole(cluster: Cluster) -> None:
    script = (
        "import sys; sys.stdout.buffer.write(b'x' * 100_000 + bytes([10, 255, 0, 13, 10, 10, 122]))"
    )
    name = cluster.create(cluster.pod(cluster.container("python", "-c", script)))
    cluster.wait_end(name)
    response = cluster.api.read_namespaced_pod_log(name, cluster.namespace, _preload_content=False)
    assert response.data == b"x" * 100_000 + b"\n\xff\x00\n\nz"
    stamped = cluster.api.read_namespaced_pod_log(
        name, cluster.namespace, timestamps=True, tail_lines=4, _preload_content=False
    ).data
    assert [len(line) for line in stamped.split(b"\n")] == [100_000 % 16_384 + 31, 33, 31, 32]


def test_there_is_no_log_before_the_container_starts(cluster: Cluster) -> None:
    container = cluster.container("true") | {"image": "no/such:image"}
    name = cluster.create(cluster.pod(container))
    cluster.wait_waiting(name, "ImagePullBackOff")
    with pytest.raises(ApiException) as error:
        cluster.log(name)
    assert error.value.status == 400
    assert "is waiting to start: trying and failing to pull image" in str(error.value.body)


def test_the_log_of_another_container_is_refused(cluster: Cluster) -> None:
    name = cluster.shell("true")
    cluster.wait_end(name)
    assert cluster.log(name, container="base") == ""
    with pytest.raises(ApiException, match="container other is not valid"):
        cluster.log(name, container="other")


def test_deletion_lets_a_pod_end_by_itself_first(cluster: Cluster, tmp_path: Path) -> None:
    farewell, ready = tmp_path / "farewell", tmp_path / "ready"
    name = cluster.shell(
        f"trap 'echo bye > {farewell}; exit 0' TERM; touch {ready}; while :; do sleep 0.05; done"
    )
    wait_until(ready.exists, "the trap is set")
    answered = cluster.api.delete_namespaced_pod(name, cluster.namespace)
    assert answered.metadata.deletion_timestamp
    cluster.wait_gone(name)
    assert farewell.read_text() == "bye\n"
    assert "Killing" in [event.reason for event in cluster.events(name)]


def test_a_pod_that_will_not_end_is_killed_after_its_grace_period(
    cluster: Cluster, tmp_path: Path
) -> None:
    ready = tmp_path / "ready"
    name = cluster.shell(f"trap '' TERM; touch {ready}; while :; do sleep 0.05; done")
    wait_until(ready.exists, "the trap is set")
    seen: list[Any] = []
    watching = threading.Thread(target=lambda: seen.append(cluster.wait_end(name)))
    watching.start()
    cluster.api.delete_namespaced_pod(name, cluster.namespace, grace_period_seconds=1)
    watching.join()
    assert state(seen[0]).terminated.exit_code == 137


def test_deletion_asks_only_the_first_process(cluster: Cluster, tmp_path: Path) -> None:
    ready, end = tmp_path / "ready", tmp_path / "end"
    wait = "while :; do sleep 0.05; done"
    other = f"sh -c 'trap \"echo asked > {end}\" TERM; touch {ready}; {wait}'"
    name = cluster.shell(f"trap 'exit 0' TERM; {other} & {wait}")
    wait_until(ready.exists, "both traps are set")
    cluster.api.delete_namespaced_pod(name, cluster.namespace)
    cluster.wait_gone(name)
    assert not end.exists()


def test_a_deletion_can_only_be_made_shorter(cluster: Cluster) -> None:
    name = cluster.shell("trap '' TERM; echo ready; while :; do sleep 0.05; done")
    cluster.wait_phase(name, "Running")
    wait_until(lambda: "ready" in cluster.log(name), "the trap is set")

    def delete(grace: int) -> int:
        pod = cluster.api.delete_namespaced_pod(name, cluster.namespace, grace_period_seconds=grace)
        seconds: int = pod.metadata.deletion_grace_period_seconds
        return seconds

    assert [delete(300), delete(600), delete(200)] == [300, 300, 200]
    with pytest.raises(ApiException, match=r"object is being deleted: pods .* already exists"):
        cluster.create(cluster.pod(cluster.container("true"), name))
    delete(0)
    with pytest.raises(ApiException) as error:
        cluster.read(name)
    assert error.value.status == 404


def test_an_ended_pod_is_gone_at_once(cluster: Cluster) -> None:
    name = cluster.shell("true")
    uid = cluster.wait_end(name).metadata.uid
    delete = cluster.api.delete_namespaced_pod
    for wanted in ({"uid": "other"}, {"resourceVersion": "1"}):
        with pytest.raises(ApiException, match=r"in the precondition .* does not match") as error:
            delete(name, cluster.namespace, body={"preconditions": wanted})
        assert error.value.status == 409

    answered = delete(name, cluster.namespace, body={"preconditions": {"uid": uid}})

    assert answered.metadata.deletion_grace_period_seconds == 0
    with pytest.raises(ApiException) as error:
        cluster.read(name)
    assert error.value.status == 404


@pytest.mark.localkube
def test_deletion_ends_grandchildren_and_processes_with_their_own_session(
    cluster: Cluster, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    own_session = f"setsid sh -c 'echo $$$$ >> {pids}; exec sleep 98'"
    script = f"(trap '' TERM; sleep 97 & echo $! >> {pids}; wait) & {own_session} & sleep 99"
    name = cluster.shell(f"{script} & echo $! >> {pids}; wait")

    def numbers() -> list[int]:
        return [int(line) for line in pids.read_text().split()] if pids.exists() else []

    wait_until(lambda: len(numbers()) == 3, "all processes have started")
    assert all(is_running(pid) for pid in numbers())
    cluster.api.delete_namespaced_pod(name, cluster.namespace, grace_period_seconds=1)
    wait_until(lambda: not any(is_running(pid) for pid in numbers()), "no process is left")


@pytest.mark.localkube
def test_a_pod_deleted_while_it_starts_leaves_nothing_behind(cluster: Cluster) -> None:
    seconds = f"{random.randrange(10**6, 10**7)}"
    for _ in range(10):
        name = cluster.create(cluster.pod(cluster.container("sleep", seconds)))
        cluster.api.delete_namespaced_pod(name, cluster.namespace, grace_period_seconds=0)
    wait_until(lambda: not cluster.api.list_namespaced_pod(cluster.namespace).items, "all gone")
    family = psutil.Process(cluster.server.process.pid)

    def is_left(process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            return seconds in process.cmdline()
        return False

    wait_until(lambda: not any(map(is_left, family.children(recursive=True))), "none is left")


@pytest.mark.localkube
def test_what_a_pod_leaves_behind_ends_with_it(cluster: Cluster) -> None:
    name = cluster.shell("setsid sleep 96 & echo $!")
    cluster.wait_end(name)
    assert not is_running(int(cluster.log(name)))


@pytest.mark.localkube
def test_a_deleted_pod_takes_its_folder_along(cluster: Cluster) -> None:
    name = cluster.shell("touch made-here; echo kept")
    uid = cluster.wait_end(name).metadata.uid
    (folder,) = (cluster.server.state_dir / "pods").glob(f"*{uid}")
    assert (folder / "base.log").read_bytes().endswith(b"kept\n")
    assert (folder / "work" / "made-here").exists()
    cluster.api.delete_namespaced_pod(name, cluster.namespace)
    wait_until(lambda: not folder.exists(), "the folder is gone")
    with pytest.raises(ApiException) as error:
        cluster.read(name)
    assert error.value.status == 404


def test_the_longest_name_runs(cluster: Cluster) -> None:
    pod = cluster.pod(cluster.container("echo", "here"), ".".join(["a" * 63] * 3))
    name = cluster.create(pod)
    assert cluster.wait_end(name).status.phase == "Succeeded"


def test_a_name_can_be_left_to_the_server(cluster: Cluster) -> None:
    pod = cluster.pod(cluster.container("true"))
    pod["metadata"] = {"generateName": "job-"}
    first, second = cluster.create(pod), cluster.create(pod)
    assert first != second
    assert re.fullmatch(r"job-[a-z0-9]{5}", first)


def test_pods_of_all_namespaces_can_be_listed(cluster: Cluster) -> None:
    name = cluster.shell("true")
    everywhere = cluster.api.list_pod_for_all_namespaces().items
    assert (cluster.namespace, name) in [
        (pod.metadata.namespace, pod.metadata.name) for pod in everywhere
    ]
    assert cluster.read(name).spec.containers[0].image == IMAGE
