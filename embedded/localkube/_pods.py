"""Which pods are accepted: the real API's rules, and the limits of a local process."""

from __future__ import annotations

from localkube._admission import check_resources
from localkube._errors import Json, Problems
from localkube._validation import (
    LABEL_RULE,
    MAP,
    MAX_INT,
    META,
    SUBDOMAIN_RULE,
    Shape,
    check_env_name,
    check_labels,
    check_meta,
    check_shape,
    is_label,
    is_subdomain,
)

FAIL_WITH = "localkube/fail-with"
FAILURES = ["Evicted", "OOMKilled"]
FIELDS = ["metadata.name", "metadata.namespace"]
_OPERATORS = ["Equal", "Exists"]
_PULL_POLICIES = ["Always", "IfNotPresent", "Never"]

_KEY_REF: Shape = {"name": str, "key": str, "optional": bool}
_ENV: Shape = {
    "name": str,
    "value": str,
    "valueFrom": {"secretKeyRef": _KEY_REF, "fieldRef": {"fieldPath": str}},
}
_CONTAINER: Shape = {
    "name": str,
    "image": str,
    "command": [str],
    "args": [str],
    "imagePullPolicy": str,
    "workingDir": str,
    "env": [_ENV],
    "envFrom": [{"prefix": str, "secretRef": {"name": str, "optional": bool}}],
    "resources": {"requests": MAP, "limits": MAP},
    "volumeMounts": [{"name": str, "mountPath": str, "subPath": str}],
}
_POD: Shape = {
    "metadata": META,
    "spec": {
        "containers": [_CONTAINER],
        "initContainers": [{}],
        "ephemeralContainers": [{}],
        "restartPolicy": str,
        "nodeSelector": MAP,
        "tolerations": [{"operator": str}],
        "priorityClassName": str,
        "serviceAccountName": str,
        "activeDeadlineSeconds": int,
        "terminationGracePeriodSeconds": int,
        "volumes": [{"name": str, "persistentVolumeClaim": {"claimName": str}, "emptyDir": {}}],
    },
}


def check_pod(pod: Json) -> None:
    """Refuse a pod that the real API would refuse, or that no local process can be.

    Raises:
        ApiError: 400 for wrong types, 422 for everything else, all of it in one answer.
    """
    check_shape(pod, _POD, "")
    problems = Problems()
    check_meta(problems, pod["metadata"])
    _check_failure(problems, pod["metadata"])
    spec = pod.get("spec", {})
    _check_spec(problems, spec)
    _check_volumes(problems, spec.get("volumes", []))
    containers = spec.get("containers", [])
    if not containers:
        problems.required("spec.containers")
    elif len(containers) > 1:
        problems.forbidden("spec.containers", "localkube runs one container per pod")
    for index, container in enumerate(containers[:1]):
        _check_container(problems, container, f"spec.containers[{index}]", spec)
    problems.raise_if_any("Pod", pod["metadata"].get("name", ""))


def check_pod_change(old: Json, new: Json) -> None:
    """Refuse a change of anything but a pod's labels and annotations.

    Raises:
        ApiError: 400 or 422.
    """
    check_shape(new, {"metadata": META}, "")
    problems = Problems()
    check_meta(problems, new["metadata"])
    _check_failure(problems, new["metadata"])
    if new["metadata"].get("uid", old["metadata"]["uid"]) != old["metadata"]["uid"]:
        problems.invalid("metadata.uid", new["metadata"]["uid"], "field is immutable")
    if new.get("spec") != old["spec"]:
        problems.forbidden("spec", "localkube changes only labels and annotations of a pod")
    problems.raise_if_any("Pod", old["metadata"]["name"])


def _check_failure(problems: Problems, meta: Json) -> None:
    failure = meta.get("annotations", {}).get(FAIL_WITH)
    if failure is not None and failure not in FAILURES:
        problems.unsupported(f"metadata.annotations[{FAIL_WITH}]", failure, FAILURES)


def _check_spec(problems: Problems, spec: Json) -> None:
    policy = spec.get("restartPolicy", "Always")
    if policy not in ("Always", "OnFailure", "Never"):
        problems.unsupported("spec.restartPolicy", policy, ["Always", "OnFailure", "Never"])
    elif policy != "Never":
        problems.forbidden("spec.restartPolicy", "localkube starts no container again")
    for field in ("initContainers", "ephemeralContainers"):
        if spec.get(field):
            problems.forbidden(f"spec.{field}", "localkube runs one container per pod")
    check_labels(problems, "spec.nodeSelector", spec.get("nodeSelector", {}))
    for index, toleration in enumerate(spec.get("tolerations", [])):
        operator = toleration.get("operator", "Equal")
        if operator not in _OPERATORS:
            problems.unsupported(f"spec.tolerations[{index}].operator", operator, _OPERATORS)
    if not 1 <= spec.get("activeDeadlineSeconds", 1) <= MAX_INT:
        why = f"must be between 1 and {MAX_INT}, inclusive"
        problems.invalid("spec.activeDeadlineSeconds", spec["activeDeadlineSeconds"], why)


def _check_volumes(problems: Problems, volumes: list[Json]) -> None:
    names: set[str] = set()
    for index, volume in enumerate(volumes):
        path = f"spec.volumes[{index}]"
        name = volume.get("name", "")
        if not is_label(name):
            problems.invalid(f"{path}.name", name, LABEL_RULE)
        if name in names:
            problems.duplicate(f"{path}.name", name)
        names.add(name)
        kinds = sorted(volume.keys() - {"name"})
        if kinds == ["persistentVolumeClaim"]:
            claim = volume["persistentVolumeClaim"].get("claimName", "")
            if not is_subdomain(claim):
                problems.invalid(f"{path}.persistentVolumeClaim.claimName", claim, SUBDOMAIN_RULE)
        elif kinds not in (["emptyDir"], []):
            why = "localkube has persistentVolumeClaim and emptyDir volumes only"
            problems.forbidden(f"{path}.{kinds[0]}", why)


def _check_container(problems: Problems, container: Json, path: str, spec: Json) -> None:
    name = container.get("name", "")
    if not name:
        problems.required(f"{path}.name")
    elif not is_label(name):
        problems.invalid(f"{path}.name", name, LABEL_RULE)
    image = container.get("image", "")
    if not image:
        problems.required(f"{path}.image")
    elif image != image.strip():
        problems.invalid(f"{path}.image", image, "must not have leading or trailing whitespace")
    pull = container.get("imagePullPolicy", "Always")
    if pull not in _PULL_POLICIES:
        problems.unsupported(f"{path}.imagePullPolicy", pull, _PULL_POLICIES)
    if not container.get("command"):
        why = "an image is a folder of executables here and has no command of its own"
        problems.required(f"{path}.command", why)
    check_resources(problems, container, path)
    for index, variable in enumerate(container.get("env", [])):
        _check_variable(problems, variable, f"{path}.env[{index}]")
    for index, source in enumerate(container.get("envFrom", [])):
        _check_env_source(problems, source, f"{path}.envFrom[{index}]")
    volumes = {volume.get("name") for volume in spec.get("volumes", [])}
    _check_mounts(problems, container.get("volumeMounts", []), f"{path}.volumeMounts", volumes)
    if "workingDir" in container and not _inside_mount(container):
        why = "it must be in one of the container's volumes: other folders of an image do not exist"
        problems.invalid(f"{path}.workingDir", container["workingDir"], why)


def _inside_mount(container: Json) -> bool:
    folder = container["workingDir"].rstrip("/") + "/"
    return any(
        folder.startswith(mount.get("mountPath", "").rstrip("/") + "/")
        for mount in container.get("volumeMounts", [])
    )


def _check_variable(problems: Problems, variable: Json, path: str) -> None:
    check_env_name(problems, f"{path}.name", variable.get("name", ""))
    if "valueFrom" not in variable:
        return
    source = variable["valueFrom"]
    if variable.get("value"):
        # The value itself may be a password, so it is not shown.
        why = "may not be specified when `value` is not empty"
        problems.invalid(f"{path}.valueFrom", "", why)
    kinds = sorted(source)
    if kinds == ["secretKeyRef"]:
        for field in ("name", "key"):
            if not source["secretKeyRef"].get(field):
                problems.required(f"{path}.valueFrom.secretKeyRef.{field}")
    elif kinds == ["fieldRef"]:
        field = source["fieldRef"].get("fieldPath", "")
        if field not in FIELDS:
            problems.unsupported(f"{path}.valueFrom.fieldRef.fieldPath", field, FIELDS)
    else:
        problems.forbidden(f"{path}.valueFrom", "localkube has one secretKeyRef or fieldRef here")


def _check_env_source(problems: Problems, source: Json, path: str) -> None:
    if source.get("prefix"):
        check_env_name(problems, f"{path}.prefix", source["prefix"])
    if sorted(source.keys() - {"prefix"}) != ["secretRef"]:
        problems.forbidden(path, "localkube has secretRef here only")
    elif not source["secretRef"].get("name"):
        problems.required(f"{path}.secretRef.name")


def _check_mounts(
    problems: Problems, mounts: list[Json], path: str, volumes: set[str | None]
) -> None:
    seen: set[str] = set()
    for index, mount in enumerate(mounts):
        at = f"{path}[{index}]"
        folder = mount.get("mountPath", "")
        if not folder.startswith("/") or not folder.strip("/"):
            problems.invalid(f"{at}.mountPath", folder, "must be an absolute path below /")
        if folder in seen:
            problems.invalid(f"{at}.mountPath", folder, "must be unique")
        seen.add(folder)
        if mount.get("name") not in volumes:
            problems.invalid(f"{at}.name", mount.get("name", ""), "must name a volume of the pod")
        sub_path = mount.get("subPath", "")
        if sub_path.startswith("/") or ".." in sub_path.split("/"):
            # So the real API names the field.
            why = "must not contain '..'" if ".." in sub_path else "must be a relative path"
            problems.invalid(f"{path}.subPath", sub_path, why)
        if mount.get("subPathExpr"):
            problems.forbidden(f"{at}.subPathExpr", "localkube has subPath only")
