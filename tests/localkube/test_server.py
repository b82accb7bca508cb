"""The server process: who may connect, how it starts, and that nothing outlives it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError

import psutil
import pytest
import yaml
from kubernetes import client, config
from kubernetes.client import ApiException, VersionApi

from .running import IMAGE, Cluster, Server, is_running, wait_until

pytestmark = pytest.mark.localkube

Start = Callable[..., Server]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "localkube", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


def url(server: Server) -> str:
    settings = yaml.safe_load(server.kubeconfig.read_text())
    address: str = settings["clusters"][0]["cluster"]["server"]
    return address


def test_it_says_where_it_listens_and_writes_a_private_kubeconfig(server: Server) -> None:
    pattern = r"localkube ready at (http://127\.0\.0\.1:\d+), kubeconfig (.+)\n"
    found = re.fullmatch(pattern, server.ready)
    assert found is not None
    assert found[1] == url(server)
    assert found[2] == str(server.kubeconfig)
    assert stat.S_IMODE(server.kubeconfig.stat().st_mode) == 0o600
    context = yaml.safe_load(server.kubeconfig.read_text())["contexts"][0]["context"]
    assert context["namespace"] == "default"


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer ", "Basic eDp5", "Bearer \xff"])
def test_nothing_is_told_without_the_token(server: Server, header: str | None) -> None:
    for path in ("/api/v1/namespaces/default/secrets", "/version", "/no-such-path"):
        request = urllib.request.Request(url(server) + path)
        if header:
            request.add_header("Authorization", header)
        with pytest.raises(HTTPError) as error:
            urllib.request.urlopen(request)
        assert error.value.code == 401
        assert json.loads(error.value.read())["reason"] == "Unauthorized"


def test_token_may_stand_in_the_path_as_kubectl_sends_none_over_http(server: Server) -> None:
    settings = yaml.safe_load(server.kubeconfig.with_name("kubeconfig-of-kubectl").read_text())
    address = settings["clusters"][0]["cluster"]["server"]

    with urllib.request.urlopen(f"{address}/api/v1/namespaces") as answer:
        assert json.loads(answer.read())["kind"] == "NamespaceList"
    with pytest.raises(HTTPError) as error:
        urllib.request.urlopen(f"{address[:-1]}/api/v1/namespaces")
    assert error.value.code == 401


def test_a_client_with_another_token_is_told_so(server: Server, tmp_path: Path) -> None:
    settings = yaml.safe_load(server.kubeconfig.read_text())
    settings["users"][0]["user"]["token"] += "x"
    other = tmp_path / "kubeconfig"
    other.write_text(yaml.safe_dump(settings))
    api = client.CoreV1Api(config.new_client_from_config(str(other)))
    with pytest.raises(ApiException) as error:
        api.list_namespaced_pod("default")
    assert error.value.status == 401


def test_every_start_has_its_own_token(start: Start, tmp_path: Path) -> None:
    tokens = set()
    for _ in range(2):
        server = start(tmp_path / "state")
        tokens.add(yaml.safe_load(server.kubeconfig.read_text())["users"][0]["user"]["token"])
        server.stop()
    assert len(tokens) == 2
    assert min(map(len, tokens)) >= 40


def test_it_listens_on_loopback_only(server: Server) -> None:
    connections = psutil.Process(server.process.pid).net_connections("inet")
    addresses = {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}
    assert addresses == {"127.0.0.1"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.org", ""])
def test_other_hosts_are_refused(tmp_path: Path, host: str) -> None:
    ended = run("--state-dir", str(tmp_path), "--host", host)
    assert ended.returncode == 2
    assert "not a loopback address" in ended.stderr


def test_a_port_in_use_is_one_clear_message(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run("--state-dir", str(tmp_path), "--port", str(port))
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1
    assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr


def test_a_port_can_be_chosen(start: Start, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    assert url(start(tmp_path, "--port", str(port))) == f"http://127.0.0.1:{port}"


def test_a_state_folder_serves_one_server(server: Server) -> None:
    before = server.kubeconfig.read_text()
    ended = run("--state-dir", str(server.state_dir))
    assert ended.returncode == 1
    assert "Another localkube uses the state folder" in ended.stderr
    assert server.kubeconfig.read_text() == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--image", "name-only"), "is not NAME=BIN_DIR"),
        (("--image", "name=/no/such/folder"), "is no folder"),
        (("--env", "Ä=hush"), "is not the NAME of a NAME=VALUE"),
        (("--env", "novalue"), "is not the NAME of a NAME=VALUE"),
        (("--port", "70000"), "is not a port"),
    ],
)
def test_wrong_arguments_are_told(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    ended = run("--state-dir", str(tmp_path), *arguments)
    assert ended.returncode == 2
    assert told in ended.stderr
    assert "hush" not in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_state_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = run("--state-dir", str(tmp_path / "file" / "state"))
    assert ended.returncode == 1
    assert "The state folder" in ended.stderr
    assert "Traceback" not in ended.stderr


def pod_processes(cluster: Cluster, pids: Path) -> list[int]:
    """Start a pod that will not go by itself, and return its processes."""
    script = f"trap '' TERM; (trap '' TERM; sleep 301) & setsid sleep 302 & echo $! $$$$ > {pids}"
    cluster.shell(f"{script}; while :; do sleep 0.1; done")
    wait_until(lambda: pids.exists() and pids.read_text().count(" ") == 1, "the pod runs")
    found = [int(pid) for pid in pids.read_text().split()]
    assert all(is_running(pid) for pid in found)
    shim = psutil.Process(found[1]).ppid()
    return [*found, shim, *(child.pid for child in psutil.Process(shim).children(recursive=True))]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_all_pods_and_exits_with_0(start: Start, tmp_path: Path, number: int) -> None:
    server = start(tmp_path / "state")
    family = pod_processes(Cluster(server), tmp_path / "pids")
    assert server.stop(number) == 0
    assert not [pid for pid in family if is_running(pid)]
    assert server.process.stderr is not None
    assert server.process.stderr.read() == ""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of orphaned processes")
def test_no_pod_outlives_a_server_that_was_killed(start: Start, tmp_path: Path) -> None:
    server = start(tmp_path / "state")
    family = pod_processes(Cluster(server), tmp_path / "pids")
    server.stop(signal.SIGKILL)
    wait_until(lambda: not [pid for pid in family if is_running(pid)], "no process is left")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of a parent's death")
def test_no_container_outlives_the_server_and_its_guard_killed_together(
    start: Start, tmp_path: Path
) -> None:
    server, pids = start(tmp_path / "state"), tmp_path / "pids"
    Cluster(server).shell(f"echo $$$$ $PPID > {pids}; while :; do sleep 0.1; done")
    wait_until(lambda: pids.exists() and " " in pids.read_text(), "the pod runs")
    container, guard = (int(pid) for pid in pids.read_text().split())
    os.kill(guard, signal.SIGSTOP)
    server.stop(signal.SIGKILL)
    os.kill(guard, signal.SIGKILL)
    wait_until(lambda: not is_running(container), "the container is gone")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of a parent's death")
def test_a_pod_ends_with_the_process_that_guards_it(cluster: Cluster, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    name = cluster.shell(f"sleep 303 & echo $! $$$$ $PPID > {pids}; wait")
    cluster.wait_phase(name, "Running")
    wait_until(lambda: pids.exists() and pids.read_text().count(" ") == 2, "the pod runs")
    grandchild, container, guard = (int(pid) for pid in pids.read_text().split())
    os.kill(guard, signal.SIGKILL)
    pod = cluster.wait_end(name)
    assert pod.status.container_statuses[0].state.terminated.exit_code == 137
    wait_until(lambda: not (is_running(grandchild) or is_running(container)), "nothing is left")


def test_a_stop_ends_open_watches_and_logs(start: Start, tmp_path: Path) -> None:
    server = start(tmp_path / "state")
    cluster = Cluster(server)
    name = cluster.shell("echo begin; sleep 60")
    cluster.wait_phase(name, "Running")
    log = cluster.api.read_namespaced_pod_log(
        name, cluster.namespace, follow=True, _preload_content=False
    )
    watching = cluster.api.list_namespaced_pod(
        cluster.namespace, watch=True, _preload_content=False
    )
    assert next(log.stream(amt=None)) == b"begin\n"
    assert server.stop() == 0
    watching.close()


def test_pods_of_an_earlier_start_are_forgotten(start: Start, tmp_path: Path) -> None:
    server = start(tmp_path / "state")
    cluster = Cluster(server)
    cluster.wait_end(cluster.shell("echo log"))
    server.stop()
    assert list((tmp_path / "state" / "pods").iterdir())
    again = start(tmp_path / "state")
    assert again.api().list_pod_for_all_namespaces().items == []
    assert not (tmp_path / "state" / "pods").exists()


def test_clients_can_discover_what_there_is(cluster: Cluster) -> None:
    assert VersionApi(cluster.api.api_client).get_code().git_version.endswith("localkube")
    resources = {resource.name for resource in cluster.api.get_api_resources().resources}
    plain = {"namespaces", "pods", "secrets", "events", "serviceaccounts", "resourcequotas"}
    assert resources == {*plain, "pods/log"}


def test_an_idle_server_rests(server: Server, cluster: Cluster) -> None:
    cluster.wait_phase(cluster.shell("sleep 60"), "Running")
    process = psutil.Process(server.process.pid)
    before = process.cpu_times()
    psutil.Process(server.process.pid).cpu_percent(interval=1.0)
    after = process.cpu_times()
    assert (after.user + after.system) - (before.user + before.system) < 0.2


def test_it_runs_without_a_shell_or_terminal(start: Start, tmp_path: Path) -> None:
    server = start(tmp_path, env={"PATH": "", "HOME": "/nonexistent"})
    cluster = Cluster(server)
    name = cluster.create(cluster.pod(cluster.container("python", "-c", "print('ran')")))
    assert cluster.wait_end(name).status.phase == "Succeeded"
    assert cluster.read(name).spec.containers[0].image == IMAGE
