"""A localkube process, and short ways to use it with the real Kubernetes client."""

from __future__ import annotations

import contextlib
import copy
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from kubernetes import client, config, watch
from real_cluster import IS_REAL, LIMIT, RealKube
from yellow_models import NAMESPACE

IMAGE = os.getenv("CLUSTER_IMAGE", "registry.example/tools:1")
CLUSTER_ENV = {"PGHOSTADDR": "127.0.0.7"}

_numbers = itertools.count(1)


class Server:
    """A localkube process."""

    def __init__(self, state_dir: Path, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.state_dir = state_dir
        command = [sys.executable, "-m", "localkube", "--state-dir", str(state_dir), *arguments]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
        )
        assert self.process.stdout is not None
        self.ready = self.process.stdout.readline()

    @property
    def kubeconfig(self) -> Path:
        return self.state_dir / "kubeconfig"

    def api(self) -> client.CoreV1Api:
        return client.CoreV1Api(config.new_client_from_config(str(self.kubeconfig)))

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=20)


class Cluster:
    """One namespace of a server, and short ways to use it."""

    def __init__(self, server: Server | RealKube) -> None:
        self.server: Any = server
        self.api = server.api()
        if isinstance(server, RealKube):
            self.namespace = f"{NAMESPACE}-{next(_numbers)}"
            server.create_namespace(self.namespace)
        else:
            self.namespace = f"ns-{next(_numbers)}"
            self.api.create_namespace({"metadata": {"name": self.namespace}})

    def container(self, *command: str, **fields: Any) -> dict[str, Any]:
        return {"name": "base", "image": IMAGE, "command": list(command), **fields}

    def pod(self, container: dict[str, Any], name: str = "", **spec: Any) -> dict[str, Any]:
        return {
            "metadata": {"name": name or f"pod-{next(_numbers)}"},
            "spec": {"restartPolicy": "Never", "containers": [container], **spec},
        }

    def create(self, pod: dict[str, Any]) -> str:
        readable = isinstance(pod["spec"]["containers"], list)
        wanted = _sharing_files(pod) if IS_REAL and readable else pod
        created = self.api.create_namespaced_pod(self.namespace, wanted)
        name: str = created.metadata.name
        return name

    def shell(self, script: str, **fields: Any) -> str:
        return self.create(self.pod(self.container("sh", "-c", script, **fields)))

    def read(self, name: str) -> Any:
        return self.api.read_namespaced_pod(name, self.namespace)

    def wait(self, name: str, reached: Callable[[Any], bool]) -> Any:
        """Return the pod as soon as a watch shows it as wanted."""
        stream = watch.Watch().stream(
            self.api.list_namespaced_pod,
            self.namespace,
            field_selector=f"metadata.name={name}",
            timeout_seconds=LIMIT,
        )
        for event in stream:
            if reached(event["object"]):
                return event["object"]
        raise AssertionError(f"{name} stayed as it was: {self.read(name).status}")

    def send(
        self, method: str, path: str, body: bytes = b"", kind: str = "application/json"
    ) -> tuple[int, bytes]:
        """Send what no method of the client does; the path is below the namespace."""
        client = self.api.api_client
        headers = {"Content-Type": kind}
        client.update_params_for_auth(headers, [], ["BearerToken"])
        url = f"{client.configuration.host}/api/v1/namespaces/{self.namespace}{path}"
        response = client.rest_client.pool_manager.request(
            method, url, body=body or None, headers=headers, retries=False, timeout=LIMIT
        )
        return response.status, response.data

    def wait_phase(self, name: str, *phases: str) -> Any:
        return self.wait(name, lambda pod: pod.status.phase in phases)

    def wait_end(self, name: str) -> Any:
        return self.wait_phase(name, "Succeeded", "Failed")

    def wait_waiting(self, name: str, reason: str) -> Any:
        def waiting(pod: Any) -> bool:
            statuses = pod.status.container_statuses
            return bool(statuses and statuses[0].state.waiting) and (
                statuses[0].state.waiting.reason == reason
            )

        return self.wait(name, waiting)

    def wait_gone(self, name: str) -> None:
        def gone() -> bool:
            pods = self.api.list_namespaced_pod(self.namespace).items
            return name not in {pod.metadata.name for pod in pods}

        wait_until(gone, f"{name} is gone")

    def log(self, name: str, **options: Any) -> str:
        # The client's own decoding of logs differs between its versions.
        response = self.api.read_namespaced_pod_log(
            name, self.namespace, _preload_content=False, **options
        )
        text: str = response.data.decode()
        return text

    def output(self, script: str, **fields: Any) -> str:
        """Run a script to its end and return what it printed."""
        name = self.shell(script, **fields)
        self.wait_end(name)
        return self.log(name)

    def secret(self, name: str, **data: str) -> None:
        self.api.create_namespaced_secret(
            self.namespace, {"metadata": {"name": name}, "stringData": data}
        )

    def events(self, name: str) -> list[Any]:
        selector = f"involvedObject.name={name}"
        found = self.api.list_namespaced_event(self.namespace, field_selector=selector).items
        return sorted(found, key=lambda event: int(event.metadata.resource_version))


def _sharing_files(pod: dict[str, Any]) -> dict[str, Any]:
    """Return a pod that sees the temporary files of the tests, as a local process does."""
    folder, shared = tempfile.gettempdir(), copy.deepcopy(pod)
    here = {"name": "tests", "hostPath": {"path": folder}}
    shared["spec"].setdefault("volumes", []).append(here)
    for container in shared["spec"]["containers"]:
        mount = {"name": "tests", "mountPath": folder}
        container.setdefault("volumeMounts", []).append(mount)
    return shared


def wait_until(true: Callable[[], bool], what: str) -> None:
    """Wait for something that gives no signal, outside the server."""
    until = time.monotonic() + LIMIT
    while time.monotonic() < until:
        if true():
            return
        time.sleep(0.05)
    raise AssertionError(f"never came true: {what}")


def is_running(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False
