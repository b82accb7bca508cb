"""The disposable Kubernetes cluster that `make test-cluster` runs tests on.

KUBECONFIG leads to it, as its administrator. CLUSTER_IMAGE is an image with the jobs that it can
pull; where it is not set, the tests that run on both kinds of cluster use a localkube.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, utils
from kubernetes.client import ApiException
from kubernetes.config import new_client_from_config
from yellow_models import IMAGE, NAMESPACE

from one_machine import NotYetError, Service, ServiceError, wait_until

#: Whether the tests run on it.
IS_REAL = "CLUSTER_IMAGE" in os.environ
#: For how many seconds the tests of pods wait for something that has to come.
LIMIT = 180 if IS_REAL else 60
#: How many seconds a pod has that is to start and then to be too late.
START = 20 if IS_REAL else 1


class RealKube(Service):
    """The cluster, as its administrator; namespaces that are made here are removed in the end."""

    def __init__(self) -> None:
        self.kubeconfig = Path(os.getenv("KUBECONFIG") or "~/.kube/config").expanduser()
        self._namespaces: list[str] = []

    def api(self) -> client.CoreV1Api:
        """Return the API of pods and all else that is in no group."""
        return client.CoreV1Api(self.connect())

    def connect(self) -> client.ApiClient:
        """Return a client of the administrator."""
        return new_client_from_config(str(self.kubeconfig))

    def start(self) -> None:
        """See that the cluster has what the tests need.

        Raises:
            ServiceError: With all that is missing.
        """
        if problems := self._problems():
            raise ServiceError(
                f"The cluster of {self.kubeconfig} does not do for the tests: {' '.join(problems)}"
            )

    def stop(self) -> None:
        """Remove what the tests made."""
        self.remove_namespaces()

    def remove_namespaces(self) -> None:
        """Remove the namespaces that were made here."""
        for namespace in self._namespaces:
            self.api().delete_namespace(namespace)
        self._namespaces.clear()

    def create_namespace(self, name: str, **labels: str) -> None:
        """Create a namespace, after one of its name that is being removed, with its account."""
        wait_until(lambda: self._create_namespace(name, labels), seconds=180)
        self._namespaces.append(name)
        wait_until(lambda: self._find_account(name), seconds=30)

    def remove_namespace(self, name: str) -> None:
        """Remove a namespace before the end."""
        self.api().delete_namespace(name)
        self._namespaces.remove(name)

    def create_secret(self, namespace: str, name: str, data: Mapping[str, str]) -> None:
        """Create a Secret from plain texts, and its namespace if that is new."""
        if namespace not in self._namespaces:
            self.create_namespace(namespace)
        secret = {"metadata": {"name": name}, "stringData": dict(data)}
        self.api().create_namespaced_secret(namespace, secret)

    def prepare(self, namespace: str, manifests: Sequence[dict[str, Any]]) -> str:
        """Create what a namespace needs from DataSurface's own file, as docs/deployment.md says it.

        Returns:
            The name of the service account that Airflow runs as.
        """
        needed = [
            each
            for each in manifests
            if each["kind"] in ("ServiceAccount", "Role", "RoleBinding")
            or each["metadata"]["name"].endswith("git-model-cache")
        ]
        for manifest in needed:
            utils.create_from_dict(self.connect(), manifest, namespace=namespace)
        [account] = [each for each in needed if each["kind"] == "ServiceAccount"]
        return str(account["metadata"]["name"])

    def write_kubeconfig(self, path: Path, namespace: str, account: str, hours: float = 6) -> Path:
        """Write the way to the cluster as a service account, with a token for so long."""
        request = {"spec": {"expirationSeconds": int(hours * 3600)}}
        granted = self.api().create_namespaced_service_account_token(account, namespace, request)
        config = yaml.safe_load(self.kubeconfig.read_text())
        contexts = {each["name"]: each["context"] for each in config["contexts"]}
        context = {**contexts[config["current-context"]], "user": account, "namespace": namespace}
        config |= {
            "users": [{"name": account, "user": {"token": granted.status.token}}],
            "contexts": [{"name": account, "context": context}],
            "current-context": account,
        }
        path.write_text(yaml.safe_dump(config))
        return path

    def _create_namespace(self, name: str, labels: Mapping[str, str]) -> None:
        try:
            self.api().create_namespace({"metadata": {"name": name, "labels": dict(labels)}})
        except ApiException as error:
            if "being deleted" not in str(error.body):
                raise
            raise NotYetError(f"{name} is being deleted.") from error

    def _find_account(self, namespace: str) -> None:
        try:
            self.api().read_namespaced_service_account("default", namespace)
            self.api().read_namespaced_config_map("kube-root-ca.crt", namespace)
        except ApiException as error:
            raise NotYetError(f"{namespace} has no service account yet: {error.reason}") from error

    def _problems(self) -> list[str]:
        """Return what is missing, each with what to do."""
        if not self.kubeconfig.exists():
            return ["there is no such file; set KUBECONFIG."]
        try:
            nodes = self.api().list_node().items
        except Exception as error:  # noqa: BLE001 - the message names the error
            return [f"it cannot be asked ({error!r:.300})."]
        ready = [
            node
            for node in nodes
            if any(
                each.type == "Ready" and each.status == "True" for each in node.status.conditions
            )
        ]
        if not ready:
            return [f"none of its {len(nodes)} nodes is ready."]
        return self._missing_images()

    def _missing_images(self) -> list[str]:
        name = f"{NAMESPACE}-probe"
        program = "import datasurface.cmd.platform, yellow_dynamic"
        self.create_namespace(name)
        try:
            container = {"name": "base", "image": IMAGE, "command": ["python", "-c", program]}
            spec = {"restartPolicy": "Never", "containers": [container]}
            self.api().create_namespaced_pod(name, {"metadata": {"name": "probe"}, "spec": spec})
            return list(filter(None, [self._end_of_probe(name)]))
        finally:
            self.remove_namespace(name)

    def _end_of_probe(self, namespace: str) -> str | None:
        """Return why the image does not do, or None."""
        until = time.monotonic() + 600
        state: Any = None
        while time.monotonic() < until:
            pod = self.api().read_namespaced_pod("probe", namespace)
            if pod.status.phase == "Succeeded":
                return None
            [status] = pod.status.container_statuses or [None]
            state = status and status.state
            if pod.status.phase == "Failed":
                log = self.api().read_namespaced_pod_log("probe", namespace)
                return f"CLUSTER_IMAGE {IMAGE} has no DataSurface with yellow_dynamic: {log[-300:]}"
            if state and state.waiting and "ImagePullBackOff" in str(state.waiting.reason):
                break
            time.sleep(1)
        return f"a pod of CLUSTER_IMAGE {IMAGE} does not run: {state!s:.500}"
