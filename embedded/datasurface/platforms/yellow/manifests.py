"""The Kubernetes objects that a Yellow platform needs before its first run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import yaml

from datasurface.md import Ecosystem
from datasurface.platforms.yellow.naming import isLegalNamespace, requireK8sName
from datasurface.platforms.yellow.provider import YellowPlatformServiceProvider

#: What every object is labelled with.
_LABELS: Final = {"app.kubernetes.io/part-of": "datasurface"}
#: MERGE, which ingestion jobs run, needs PostgreSQL 15.
_POSTGRES_IMAGE: Final = "postgres:15"
_POSTGRES_STORAGE: Final = "10Gi"
_AIRFLOW_STORAGE: Final = "5Gi"
_SERVICE_ACCOUNT: Final = "airflow-service-account"
_ROLE: Final = "airflow-pod-manager"
#: Airflow's KubernetesPodOperator puts this label on each pod it starts.
_JOB_POD_LABEL: Final = {"kubernetes_pod_operator": "True"}

Manifest = dict[str, Any]


def renderYaml(manifests: Iterable[Manifest]) -> str:
    """Return the manifests as one YAML text, a document each."""
    # LibYAML's, where PyYAML has it, writes the same in a quarter of the time.
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return str(yaml.dump_all(manifests, Dumper=dumper, explicit_start=True, sort_keys=False))


def modelCacheClaimName(eco: Ecosystem) -> str:
    """Return the name of the volume claim on which pods share copies of the model.

    Raises:
        ValueError: The ecosystem's name has nothing that Kubernetes could keep.
    """
    return f"{requireK8sName('ecosystem', eco.name)}-git-model-cache"


def mergeServiceName(psp: YellowPlatformServiceProvider) -> str | None:
    """Return the name of the Kubernetes Service behind the merge store's host name.

    Returns:
        The Service in the provider's namespace, or None when the host is anywhere else, and so is
        not for us to create.
    """
    host = psp.mergeStore.hostPortPair.hostName
    service, _, domain = host.partition(".")
    namespace = psp.namespace
    inNamespace = ("", namespace, f"{namespace}.svc", f"{namespace}.svc.cluster.local")
    isService = isLegalNamespace(service) and service[0].isalpha() and service != "localhost"
    return service if isService and domain in inNamespace else None


def bootstrapManifests(eco: Ecosystem, psp: YellowPlatformServiceProvider) -> list[Manifest]:
    """Return the objects that one services provider needs, in the order to create them.

    Platforms of one provider share them: applying each platform's file changes nothing more.

    Args:
        eco: The ecosystem whose model the pods read.
        psp: The provider on whose namespace, host and volumes everything runs.

    Raises:
        ValueError: A name has nothing that Kubernetes could keep.
    """
    airflow = requireK8sName("Airflow", psp.airflowName)
    manifests = [_namespace(psp.namespace), *_podManager(psp.namespace)]
    manifests.append(_claim(f"{airflow}-dags-pvc", psp.namespace, _AIRFLOW_STORAGE))
    manifests.append(_claim(f"{airflow}-logs-pvc", psp.namespace, _AIRFLOW_STORAGE))
    if psp.git_cache_enabled:
        manifests.append(_modelCache(eco, psp))
    service = mergeServiceName(psp)
    if service is not None:
        manifests.extend(_postgres(service, psp))
    manifests.append(_jobPolicy(psp.namespace))
    return manifests


def _object(kind: str, apiVersion: str, name: str, namespace: str, **body: Any) -> Manifest:
    metadata = {"name": name, "namespace": namespace, "labels": dict(_LABELS)}
    return {"apiVersion": apiVersion, "kind": kind, "metadata": metadata, **body}


def _namespace(namespace: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": namespace, "labels": dict(_LABELS)},
    }


def _podManager(namespace: str) -> list[Manifest]:
    """The account Airflow runs as: it starts pods and reads them, and runs nothing inside them."""
    rbac = "rbac.authorization.k8s.io"
    rules = [
        _rule("pods", "create", "get", "list", "watch", "delete", "patch"),
        _rule("pods/log", "get"),
        _rule("events", "get", "list", "watch"),
    ]
    return [
        _object("ServiceAccount", "v1", _SERVICE_ACCOUNT, namespace),
        _object("Role", f"{rbac}/v1", _ROLE, namespace, rules=rules),
        _object(
            "RoleBinding",
            f"{rbac}/v1",
            f"{_ROLE}-binding",
            namespace,
            subjects=[{"kind": "ServiceAccount", "name": _SERVICE_ACCOUNT, "namespace": namespace}],
            roleRef={"kind": "Role", "name": _ROLE, "apiGroup": rbac},
        ),
    ]


def _rule(resource: str, *verbs: str) -> dict[str, Any]:
    return {"apiGroups": [""], "resources": [resource], "verbs": list(verbs)}


def _claim(
    name: str,
    namespace: str,
    size: str,
    *,
    mode: str = "ReadWriteOnce",
    storageClass: str | None = None,
) -> Manifest:
    spec: dict[str, Any] = {
        "accessModes": [mode],
        "resources": {"requests": {"storage": size}},
    }
    if storageClass is not None:
        spec["storageClassName"] = storageClass
    return _object("PersistentVolumeClaim", "v1", name, namespace, spec=spec)


def _modelCache(eco: Ecosystem, psp: YellowPlatformServiceProvider) -> Manifest:
    return _claim(
        modelCacheClaimName(eco),
        psp.namespace,
        psp.git_cache_storage_size,
        mode=psp.git_cache_access_mode,
        storageClass=psp.git_cache_storage_class,
    )


def _postgres(service: str, psp: YellowPlatformServiceProvider) -> list[Manifest]:
    """The merge store's database, its address and its disk."""
    namespace, claim = psp.namespace, f"{service}-pvc"
    port = psp.mergeStore.hostPortPair.port
    selector = {"app": service}
    serviceSpec = {
        "selector": selector,
        "ports": [{"name": "postgres", "port": port, "targetPort": "postgres"}],
    }
    return [
        _claim(claim, namespace, _POSTGRES_STORAGE),
        _object("Service", "v1", service, namespace, spec=serviceSpec),
        _object(
            "Deployment",
            "apps/v1",
            service,
            namespace,
            spec={
                "replicas": 1,
                # Two servers must never share the disk, not even during an update.
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": selector},
                "template": {
                    "metadata": {"labels": {**_LABELS, **selector}},
                    "spec": _postgresPod(claim, psp),
                },
            },
        ),
        _databasePolicy(service, namespace),
    ]


def _postgresPod(claim: str, psp: YellowPlatformServiceProvider) -> dict[str, Any]:
    secret = requireK8sName("credential", psp.postgresCredential.name)
    container = {
        "name": "postgres",
        "image": _POSTGRES_IMAGE,
        "ports": [{"name": "postgres", "containerPort": 5432}],
        "env": [
            _secretVariable("POSTGRES_USER", secret),
            _secretVariable("POSTGRES_PASSWORD", secret),
            {"name": "POSTGRES_DB", "value": psp.mergeStore.databaseName},
            # A new volume may hold lost+found, which initdb takes for data.
            {"name": "PGDATA", "value": "/var/lib/postgresql/data/pgdata"},
        ],
        "readinessProbe": {
            "exec": {"command": ["sh", "-c", 'pg_isready -U "$POSTGRES_USER" -d "$POSTGRES_DB"']},
            "periodSeconds": 5,
        },
        "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}},
        "volumeMounts": [{"name": "data", "mountPath": "/var/lib/postgresql/data"}],
    }
    return {
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
    }


def _secretVariable(key: str, secret: str) -> dict[str, Any]:
    return {"name": key, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def _databasePolicy(service: str, namespace: str) -> Manifest:
    """Only pods of the namespace reach the database, and only on its port."""
    return _object(
        "NetworkPolicy",
        "networking.k8s.io/v1",
        f"{service}-network-policy",
        namespace,
        spec={
            "podSelector": {"matchLabels": {"app": service}},
            "policyTypes": ["Ingress"],
            "ingress": [
                {
                    "from": [{"podSelector": {}}],
                    "ports": [{"protocol": "TCP", "port": "postgres"}],
                }
            ],
        },
    )


def _jobPolicy(namespace: str) -> Manifest:
    """Nothing connects to a job's pod: jobs only call out."""
    return _object(
        "NetworkPolicy",
        "networking.k8s.io/v1",
        "datasurface-job-network-policy",
        namespace,
        spec={"podSelector": {"matchLabels": dict(_JOB_POD_LABEL)}, "policyTypes": ["Ingress"]},
    )
