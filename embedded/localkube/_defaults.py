"""What the real API adds to a pod of what it says nothing of."""

from __future__ import annotations

from localkube._errors import Json

_SPEC: Json = {
    "dnsPolicy": "ClusterFirst",
    "enableServiceLinks": True,
    "preemptionPolicy": "PreemptLowerPriority",
    "priority": 0,
    "restartPolicy": "Always",
    "schedulerName": "default-scheduler",
    "securityContext": {},
    "terminationGracePeriodSeconds": 30,
}
_CONTAINER: Json = {
    "resources": {},
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
}
_TOLERATIONS = [
    {"effect": "NoExecute", "key": key, "operator": "Exists", "tolerationSeconds": 300}
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
]


def with_defaults(spec: Json) -> Json:
    """Return a pod's spec as it is kept."""
    account = spec.get("serviceAccountName", "default")
    own: Json = {
        "serviceAccount": account,
        "serviceAccountName": account,
        "tolerations": [*spec.get("tolerations", []), *_TOLERATIONS],
        "containers": [_with_defaults(container) for container in spec["containers"]],
    }
    kept: Json = {**_SPEC, **spec, **own}
    if kept["terminationGracePeriodSeconds"] < 0:
        kept["terminationGracePeriodSeconds"] = 1
    return kept


def _with_defaults(container: Json) -> Json:
    image = container["image"].rpartition("/")[2]
    newest = "@" not in image and image.partition(":")[2] in ("", "latest")
    kept: Json = {**_CONTAINER, "imagePullPolicy": "Always" if newest else "IfNotPresent"}
    kept |= container
    limits = kept["resources"].get("limits", {})
    if limits:
        requests = {**limits, **kept["resources"].get("requests", {})}
        kept["resources"] = {**kept["resources"], "requests": requests}
    return kept


def quality_of_service(pod: Json) -> str:
    """Return the class by which a cluster chooses the pods that it evicts."""
    parts = [container.get("resources", {}) for container in pod["spec"]["containers"]]
    if not any(part.get(kind) for part in parts for kind in ("requests", "limits")):
        return "BestEffort"
    whole = all(
        part.get("limits", {}).keys() >= {"cpu", "memory"}
        and part.get("requests", part["limits"]) == part["limits"]
        for part in parts
    )
    return "Guaranteed" if whole else "Burstable"
