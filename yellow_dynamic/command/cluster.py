"""What Kubernetes has of a platform: secrets, and Airflow's pods with their variables and files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from kubernetes import client, config
from kubernetes.client import ApiException, CoreV1Api
from urllib3.exceptions import HTTPError

from yellow_dynamic.command.checks import Check, login_patch
from yellow_dynamic.factory.secrets import get_reader_secret
from yellow_dynamic.monitoring import OperationError
from yellow_dynamic.monitoring.installation import Installation
from yellow_dynamic.monitoring.rows import StreamRow
from yellow_dynamic.secrets_page import list_secrets

DEFAULT_DAG_FOLDER = "/opt/airflow/dags"


class Cluster:
    """The Kubernetes API, as one namespace of Airflow's pods needs it.

    Args:
        namespace: where Airflow's pods are.

    Raises:
        OperationError: there is neither a kubeconfig nor a service account.
    """

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self._core = CoreV1Api(cluster_client())
        self._secrets: dict[tuple[str, str], set[str] | None] = {}

    def secret_keys(self, namespace: str, name: str) -> set[str] | None:
        """Return the keys of a secret, and never a value; None is no such secret."""
        if (namespace, name) not in self._secrets:
            found = self._ask(self._core.read_namespaced_secret, name, namespace)
            self._secrets[namespace, name] = None if found is None else set(found.data or {})
        return self._secrets[namespace, name]

    def config_map(self, name: str) -> dict[str, str | None]:
        """Return the texts of a ConfigMap by key; there are none where it is not there."""
        found = self._ask(self._core.read_namespaced_config_map, name, self.namespace)
        return dict(found.data or {}) if found else {}

    def pods(self, component: str) -> list[Any]:
        """Return the pods of a component of Airflow that have not ended."""
        found = self._ask(self._core.list_namespaced_pod, self.namespace)
        return [
            pod
            for pod in (found.items if found else [])
            if is_component(pod, component) and pod.status.phase in ("Pending", "Running")
        ]

    def _ask(self, request: Any, *arguments: str) -> Any:
        """Return the answer; None for what is not there."""
        try:
            return request(*arguments)
        except ApiException as error:
            if error.status == 404:
                return None
            raise OperationError(
                f"Kubernetes answers {error.status} {error.reason} to {request.__name__} "
                f"{' '.join(arguments)}. The role needs get and list on pods, secrets and "
                "configmaps."
            ) from None
        except HTTPError as error:
            raise OperationError(f"The Kubernetes API cannot be reached: {error}") from None


def cluster_client() -> client.ApiClient:
    try:
        return config.new_client_from_config(os.environ.get("KUBECONFIG"))
    except config.ConfigException as error:
        reason = error
    settings = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=settings)
    except config.ConfigException:
        raise OperationError(
            f"There is no access to Kubernetes: {reason} Set KUBECONFIG, or run this in a pod."
        ) from None
    return client.ApiClient(settings)


def is_component(pod: Any, component: str) -> bool:
    """Return whether a pod is of a component, by the Helm chart's label or by its name."""
    labels = pod.metadata.labels or {}
    if "component" in labels:
        return bool(labels["component"] == component)
    return f"airflow-{component}" in (labels.get("app") or pod.metadata.name)


def cluster_checks(
    cluster: Cluster,
    installation: Installation,
    rows: list[StreamRow],
    airflow_version: str,
) -> Iterator[Check]:
    """Yield what the cluster has for a platform.

    Args:
        cluster: the namespace of Airflow's pods.
        installation: the platform.
        rows: its rows, which name the secrets of its jobs.
        airflow_version: Airflow 2 may have its DAG processor inside the scheduler.
    """
    wanted = wanted_secrets(installation, rows)
    for (namespace, name), keys in sorted(wanted.items()):
        yield secret_check(cluster, namespace, name, sorted(keys))
    for component in ("scheduler", "dag-processor"):
        pods = cluster.pods(component)
        if component == "dag-processor" and not pods and airflow_version.startswith("2."):
            yield Check("dag-processor", True, "Airflow 2 parses in its scheduler")
            continue
        if not pods:
            look = f"kubectl get pods -n {cluster.namespace} -l component={component}"
            yield Check(component, False, f"no pod of it in {cluster.namespace}", look)
        for pod in pods:
            yield from pod_checks(cluster, installation, component, pod)


def wanted_secrets(
    installation: Installation, rows: list[StreamRow]
) -> dict[tuple[str, str], set[str]]:
    """Return the keys that the jobs need, by namespace and name of their secrets."""
    wanted: dict[tuple[str, str], set[str]] = {}
    for settings in (installation.settings, *(row.config for row in rows)):
        namespace = settings.get("namespace_name", installation.settings["namespace_name"])
        for _, name, keys in list_secrets(installation.settings, settings):
            if isinstance(name, str) and isinstance(namespace, str):
                wanted.setdefault((namespace, name), set()).update(keys)
    return wanted


def secret_check(cluster: Cluster, namespace: str, name: str, keys: list[str]) -> Check:
    title = f"secret {name} in {namespace}"
    found = cluster.secret_keys(namespace, name)
    if found is None:
        literals = " ".join(f"--from-literal={key}=..." for key in keys)
        fix = f"kubectl create secret generic {name} -n {namespace} {literals}"
        return Check(title, False, "it is not there", fix)
    missing = [key for key in keys if key not in found]
    if missing:
        data = json.dumps({"stringData": dict.fromkeys(missing, "...")})
        fix = f"kubectl patch secret {name} -n {namespace} -p '{data}'"
        return Check(title, False, f"it lacks {', '.join(missing)}", fix)
    return Check(title, True, f"has {', '.join(keys)}")


def pod_checks(
    cluster: Cluster, installation: Installation, component: str, pod: Any
) -> Iterator[Check]:
    """Yield what one pod of Airflow needs: the login, the address and the file."""
    container = main_container(pod, component)
    workload, title = workload_name(pod), f"pod {pod.metadata.name}"
    yield login_check(cluster, installation, title, workload, container)
    yield address_check(cluster, installation, title, workload, container)
    yield file_check(cluster, installation, title, pod, container)


def login_check(
    cluster: Cluster, installation: Installation, title: str, workload: str, container: Any
) -> Check:
    """Return the check that the container has the login by which Airflow reads the table."""
    name, wanted = f"{title} has the login", installation.login_names
    given = variables(cluster, container)
    missing = [variable for variable in wanted if variable not in given]
    if not missing:
        return Check(name, True, " and ".join(wanted))
    detail = f"it lacks {', '.join(missing)}"
    patch = login_patch(container.name, installation)
    fix = f"kubectl patch {workload} -n {cluster.namespace} -p '{patch}'"
    # A pod that refers to a secret which is not there does not start.
    reader = get_reader_secret(installation.settings)
    secret = secret_check(cluster, cluster.namespace, reader, wanted)
    if not secret.passed:
        detail, fix = f"{detail}; {secret.name}: {secret.detail}", f"{secret.fix} && {fix}"
    return Check(name, False, detail, fix)


def address_check(
    cluster: Cluster, installation: Installation, title: str, workload: str, container: Any
) -> Check:
    """Return the check that the container reads the table that the merge writes."""
    given, own = variables(cluster, container), installation.address_names
    name = f"{title} has the merge store's address"
    as_here = dict(zip(own, map(str, installation.address), strict=True))
    wrong = [
        f"{key} is {given[key]}, and the merge store's is {value}"
        for key, value in own.items()
        # The value of a secret is not looked at.
        if given.get(key) and given[key] not in (value, as_here[key])
    ]
    if wrong:
        values = " ".join(f"{key}={value}" for key, value in own.items())
        fix = f"kubectl set env {workload} -n {cluster.namespace} -c {container.name} {values}"
        return Check(name, False, "; ".join(wrong), fix)
    named = [key for key in own if key in given]
    return Check(name, True, ", ".join(named) or "that in the factory file; no variable says else")


def main_container(pod: Any, component: str) -> Any:
    """Return the container that runs the component; others beside it are helpers."""
    named = [each for each in pod.spec.containers if component in each.name]
    return min(named, key=lambda each: len(each.name)) if named else pod.spec.containers[0]


def variables(cluster: Cluster, container: Any) -> dict[str, str | None]:
    """Return the container's variables that will have a value; that of a secret is None."""
    found: dict[str, str | None] = {}
    for source in container.env_from or []:
        values: dict[str, str | None] = {}
        if source.secret_ref:
            keys = cluster.secret_keys(cluster.namespace, source.secret_ref.name)
            values = dict.fromkeys(keys or ())
        elif source.config_map_ref:
            values = cluster.config_map(source.config_map_ref.name)
        found |= {f"{source.prefix or ''}{key}": value for key, value in values.items()}
    for variable in container.env or []:
        source = variable.value_from
        if source and source.secret_key_ref:
            keys = cluster.secret_keys(cluster.namespace, source.secret_key_ref.name)
            if source.secret_key_ref.key in (keys or ()):
                found[variable.name] = None
        elif source and source.config_map_key_ref:
            values = cluster.config_map(source.config_map_key_ref.name)
            if source.config_map_key_ref.key in values:
                found[variable.name] = values[source.config_map_key_ref.key]
        elif variable.value:
            found[variable.name] = variable.value
    return found


def workload_name(pod: Any) -> str:
    """Return what made the pod, as kubectl names it."""
    for owner in pod.metadata.owner_references or []:
        if owner.kind == "ReplicaSet":
            return f"deployment/{owner.name.rpartition('-')[0]}"
        return f"{owner.kind.lower()}/{owner.name}"
    return f"pod/{pod.metadata.name}"


def file_check(
    cluster: Cluster,
    installation: Installation,
    title: str,
    pod: Any,
    container: Any,
) -> Check:
    """Return the check that a volume or a ConfigMap mounts the factory file in the container."""
    name = f"{title} has the factory file mounted"
    set_folder = {each.name: each.value for each in container.env or [] if each.value}
    folder = installation.dags or set_folder.get("AIRFLOW__CORE__DAGS_FOLDER") or DEFAULT_DAG_FOLDER
    file = PurePosixPath(folder)
    if file.suffix != ".py":
        file /= installation.factory_file
    mounts = [
        mount
        for mount in container.volume_mounts or []
        if PurePosixPath(mount.mount_path) in (file, *list(file.parents)[:-1])
    ]
    if not mounts:
        values = "kubectl get pod {0} -n {1} -o jsonpath='{{.spec.containers[*].volumeMounts}}'"
        look = values.format(pod.metadata.name, cluster.namespace)
        return Check(name, False, f"no volume of it holds {file}", look)
    mount = max(mounts, key=lambda each: len(each.mount_path))
    volume = next(each for each in pod.spec.volumes if each.name == mount.name)
    if volume.config_map and file.name not in cluster.config_map(volume.config_map.name):
        fix = (
            f"kubectl create configmap {volume.config_map.name} -n {cluster.namespace} "
            f"--from-file={file.name} --dry-run=client -o yaml | kubectl apply -f -"
        )
        return Check(name, False, f"ConfigMap {volume.config_map.name} lacks {file.name}", fix)
    return Check(name, True, f"{mount.mount_path}, from volume {mount.name}")
