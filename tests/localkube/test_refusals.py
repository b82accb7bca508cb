"""What is refused, with the status, reason and field that the real API names."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from kubernetes.client import ApiException

from .running import Cluster

Change = Callable[[dict[str, Any]], None]


def refusal(action: Callable[[], object]) -> dict[str, Any]:
    """Return the Status object that an action is refused with."""
    with pytest.raises(ApiException) as error:
        action()
    status: dict[str, Any] = json.loads(error.value.body)
    assert (status["kind"], status["status"], status["code"]) == (
        *("Status", "Failure"),
        error.value.status,
    )
    return status


def set_meta(**values: Any) -> Change:
    return lambda pod: pod["metadata"].update(values)


def set_spec(**values: Any) -> Change:
    return lambda pod: pod["spec"].update(values)


def set_container(**values: Any) -> Change:
    return lambda pod: pod["spec"]["containers"][0].update(values)


def env(**values: Any) -> Change:
    return set_container(env=[{"name": "X", **values}])


CONTAINER = "spec.containers[0]"


def only_here(change: Change, field: str) -> Any:
    """Return what a localkube refuses because it is none of a real cluster's nodes."""
    return pytest.param(change, field, marks=pytest.mark.localkube)


MOUNT = {"name": "v", "mountPath": "/v"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (set_meta(name="Upper"), "metadata.name"),
        (set_meta(name="under_score"), "metadata.name"),
        (set_meta(name="-dash"), "metadata.name"),
        (set_meta(name="dash-"), "metadata.name"),
        (set_meta(name="two..dots"), "metadata.name"),
        (set_meta(name="slash/es"), "metadata.name"),
        (set_meta(name="../up"), "metadata.name"),
        (set_meta(name="new\nline"), "metadata.name"),
        (set_meta(name="line\n"), "metadata.name"),
        (set_meta(name="a" * 254), "metadata.name"),
        (set_meta(name=""), "metadata.name"),
        (set_meta(name="", generateName="Job_"), "metadata.name"),
        (set_meta(labels={"a": "x" * 64}), "metadata.labels"),
        (set_meta(labels={"a": "x y"}), "metadata.labels"),
        (set_meta(labels={"a": "-x"}), "metadata.labels"),
        (set_meta(labels={"a b": "x"}), "metadata.labels"),
        (set_meta(labels={"": "x"}), "metadata.labels"),
        (set_meta(labels={"x" * 64: "x"}), "metadata.labels"),
        (set_meta(labels={"Up.per/x": "x"}), "metadata.labels"),
        (set_meta(annotations={"a b": "x"}), "metadata.annotations"),
        (set_meta(annotations={"a": "x" * 300_000}), "metadata.annotations"),
        only_here(
            set_meta(annotations={"localkube/fail-with": "Boredom"}),
            "metadata.annotations[localkube/fail-with]",
        ),
        only_here(set_spec(restartPolicy="Always"), "spec.restartPolicy"),
        only_here(set_spec(restartPolicy=None), "spec.restartPolicy"),
        (set_spec(activeDeadlineSeconds=0), "spec.activeDeadlineSeconds"),
        (set_spec(containers=[]), "spec.containers"),
        (set_spec(nodeSelector={"a b": "c"}), "spec.nodeSelector"),
        (set_spec(tolerations=[{"key": "a", "operator": "Like"}]), "spec.tolerations[0].operator"),
        (
            set_container(resources={"limits": {"disk": "1"}}),
            f"{CONTAINER}.resources.limits[disk]",
        ),
        only_here(lambda pod: pod["spec"]["containers"].append({"name": "x"}), "spec.containers"),
        only_here(set_spec(initContainers=[{"name": "x"}]), "spec.initContainers"),
        only_here(
            set_spec(volumes=[{"name": "v", "hostPath": {"path": "/"}}]), "spec.volumes[0].hostPath"
        ),
        (set_spec(volumes=[{"name": "V", "emptyDir": {}}]), "spec.volumes[0].name"),
        only_here(
            set_spec(volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "../../x"}}]),
            "spec.volumes[0].persistentVolumeClaim.claimName",
        ),
        (set_container(name=""), f"{CONTAINER}.name"),
        (set_container(name="a.b"), f"{CONTAINER}.name"),
        (set_container(image=" "), f"{CONTAINER}.image"),
        (set_container(image=None), f"{CONTAINER}.image"),
        (set_container(imagePullPolicy="Sometimes"), f"{CONTAINER}.imagePullPolicy"),
        only_here(set_container(command=[]), f"{CONTAINER}.command"),
        only_here(set_container(workingDir="/elsewhere"), f"{CONTAINER}.workingDir"),
        (env(name="A=B"), f"{CONTAINER}.env[0].name"),
        (env(name="ümlaut"), f"{CONTAINER}.env[0].name"),
        (env(name=""), f"{CONTAINER}.env[0].name"),
        only_here(
            env(valueFrom={"configMapKeyRef": {"name": "x"}}), f"{CONTAINER}.env[0].valueFrom"
        ),
        only_here(
            env(valueFrom={"fieldRef": {"fieldPath": "status.podIP"}}),
            f"{CONTAINER}.env[0].valueFrom.fieldRef.fieldPath",
        ),
        (
            env(valueFrom={"secretKeyRef": {"name": "x"}}),
            f"{CONTAINER}.env[0].valueFrom.secretKeyRef.key",
        ),
        (
            env(value="x", valueFrom={"secretKeyRef": {"name": "x", "key": "y"}}),
            f"{CONTAINER}.env[0].valueFrom",
        ),
        only_here(
            set_container(envFrom=[{"configMapRef": {"name": "x"}}]), f"{CONTAINER}.envFrom[0]"
        ),
        (set_container(volumeMounts=[MOUNT]), f"{CONTAINER}.volumeMounts[0].name"),
        only_here(
            set_container(volumeMounts=[MOUNT | {"mountPath": "/"}]),
            f"{CONTAINER}.volumeMounts[0].mountPath",
        ),
        (
            set_container(volumeMounts=[MOUNT | {"subPath": "a/../../b"}]),
            f"{CONTAINER}.volumeMounts.subPath",
        ),
    ],
)
def test_an_invalid_pod_is_refused(cluster: Cluster, change: Change, field: str) -> None:
    pod = cluster.pod(cluster.container("true"), "fine")
    change(pod)
    status = refusal(lambda: cluster.create(pod))
    assert (status["code"], status["reason"]) == (422, "Invalid")
    assert field in [cause["field"] for cause in status["details"]["causes"]]
    assert field in status["message"]
    assert cluster.api.list_namespaced_pod(cluster.namespace).items == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (set_meta(labels=["a"]), "metadata.labels"),
        (set_meta(labels={"a": 1}), "metadata.labels"),
        (set_meta(name=7), "metadata.name"),
        (set_spec(containers={"name": "x"}), "spec.containers"),
        (set_spec(activeDeadlineSeconds="5"), "spec.activeDeadlineSeconds"),
        (set_spec(activeDeadlineSeconds=True), "spec.activeDeadlineSeconds"),
        (set_container(command="true"), "command"),
        (set_container(args=[1]), "args"),
        (env(value=5), "value"),
        only_here(env(value="half \ud800 a pair"), "UTF-8"),
        (lambda pod: pod.update(kind="Job"), "Pod"),
        (set_meta(namespace="another"), "namespace"),
    ],
)
def test_an_unreadable_pod_is_refused(cluster: Cluster, change: Change, field: str) -> None:
    pod = cluster.pod(cluster.container("true"), "fine")
    change(pod)
    status = refusal(lambda: cluster.create(pod))
    assert (status["code"], status["reason"]) == (400, "BadRequest")
    assert field in status["message"]


def test_all_problems_of_a_pod_are_told_at_once(cluster: Cluster) -> None:
    pod = cluster.pod(cluster.container("true", env=[{"name": "A=B"}]), "Bad_Name")
    status = refusal(lambda: cluster.create(pod))
    assert len(status["details"]["causes"]) == 2
    assert status["message"].startswith('Pod "Bad_Name" is invalid: [metadata.name: Invalid value')


@pytest.mark.parametrize(
    "variable",
    [
        {"name": "A=B", "value": "hush"},
        {"name": "A", "value": "hush", "valueFrom": {"secretKeyRef": {"name": "x", "key": "y"}}},
        {"name": "A", "value": ["hush"]},
    ],
)
def test_no_refusal_repeats_the_value_of_a_variable(
    cluster: Cluster, variable: dict[str, Any]
) -> None:
    pod = cluster.pod(cluster.container("true", env=[variable]))
    assert "hush" not in json.dumps(refusal(lambda: cluster.create(pod)))


def test_a_name_that_is_taken_is_a_conflict(cluster: Cluster) -> None:
    pod = cluster.pod(cluster.container("true"), "one")
    cluster.create(pod)
    status = refusal(lambda: cluster.create(pod))
    assert (status["code"], status["reason"]) == (409, "AlreadyExists")
    assert status["message"] == 'pods "one" already exists'


def test_what_does_not_exist_is_not_found(cluster: Cluster) -> None:
    api, namespace = cluster.api, cluster.namespace
    for action in (
        lambda: api.read_namespaced_pod("none", namespace),
        lambda: api.delete_namespaced_pod("none", namespace),
        lambda: api.patch_namespaced_pod("none", namespace, {}),
        lambda: api.read_namespaced_pod_log("none", namespace),
        lambda: api.read_namespaced_secret("none", namespace),
        lambda: api.read_namespaced_event("none", namespace),
    ):
        status = refusal(action)
        assert (status["code"], status["reason"]) == (404, "NotFound")
        assert '"none" not found' in status["message"]


def test_a_namespace_must_exist_and_have_a_valid_name(cluster: Cluster) -> None:
    pod = cluster.pod(cluster.container("true"))
    status = refusal(lambda: cluster.api.create_namespaced_pod("nowhere", pod))
    assert (status["code"], status["message"]) == (404, 'namespaces "nowhere" not found')
    status = refusal(lambda: cluster.api.create_namespace({"metadata": {"name": "a.b"}}))
    assert (status["code"], status["reason"]) == (422, "Invalid")
    status = refusal(lambda: cluster.api.create_namespace({"metadata": {"name": "default"}}))
    assert status["reason"] == "AlreadyExists"


@pytest.mark.localkube
def test_commands_cannot_be_run_in_a_pod(cluster: Cluster) -> None:
    name = cluster.shell("true")
    status = refusal(
        lambda: cluster.api.connect_get_namespaced_pod_exec(name, cluster.namespace, command="id")
    )
    assert (status["code"], status["reason"]) == (403, "Forbidden")


@pytest.mark.parametrize(
    ("secret", "code"),
    [
        ({"metadata": {"name": "Upper"}}, 422),
        ({"metadata": {"name": "s"}, "data": {"a b": ""}}, 422),
        ({"metadata": {"name": "s"}, "data": {"a": "A" * 1_500_000}}, 422),
        ({"metadata": {"name": "s"}, "data": {"a": "no base64!"}}, 400),
        ({"metadata": {"name": "s"}, "data": {"a": "ü"}}, 400),
        ({"metadata": {"name": "s"}, "stringData": {"a": "x" * 4_000_000}}, 413),
    ],
)
def test_an_invalid_secret_is_refused(cluster: Cluster, secret: dict[str, Any], code: int) -> None:
    status = refusal(lambda: cluster.api.create_namespaced_secret(cluster.namespace, secret))
    assert status["code"] == code
    assert "no base64!" not in json.dumps(status)


@pytest.mark.parametrize(
    ("method", "path", "body", "kind", "code"),
    [
        ("POST", "/pods", b"{", "application/json", 400),
        ("POST", "/pods", b"[]", "application/json", 400),
        ("POST", "/pods", b"\xff", "application/json", 400),
        ("POST", "/pods", b"[" * 100_000, "application/json", 400),
        ("POST", "/pods", b"kind: Pod", "text/plain", 415),
        ("PATCH", "/secrets/s", b"{}", "application/json", 415),
        ("PATCH", "/secrets/s", b'{"metadata": 1}', "application/merge-patch+json", 422),
        ("PATCH", "/secrets/s", b'{"data": 1}', "application/merge-patch+json", 422),
        ("PUT", "/secrets/s", b'{"metadata": {"name": "t"}}', "application/json", 400),
        ("PUT", "/pods", b"", "application/json", 405),
        ("GET", "/nothing", b"", "application/json", 404),
        ("GET", "/pods?labelSelector=a=b=c", b"", "application/json", 400),
    ],
)
def test_a_request_that_cannot_be_served_gets_a_status(
    cluster: Cluster, method: str, path: str, body: bytes, kind: str, code: int
) -> None:
    cluster.secret("s", a="1")

    answered, answer = cluster.send(method, path, body, kind)

    status = json.loads(answer)
    assert (answered, status["code"], status["kind"]) == (code, code, "Status")
    assert cluster.api.read_namespaced_secret("s", cluster.namespace).data == {"a": "MQ=="}


@pytest.mark.localkube
@pytest.mark.parametrize(
    ("method", "path", "body", "kind", "code"),
    [
        ("POST", "/pods", b"kind: Pod", "application/yaml", 415),
        ("POST", "/pods?dryRun=All", b"{}", "application/json", 400),
        ("PATCH", "/secrets/s", b"[]", "application/json-patch+json", 415),
        ("PATCH", "/secrets/s", b'{"$patch": "delete"}', "application/merge-patch+json", 400),
        ("DELETE", "/secrets/s", b'{"dryRun": ["All"]}', "application/json", 400),
        ("DELETE", "/pods", b"", "application/json", 405),
        ("GET", "/configmaps", b"", "application/json", 404),
        ("GET", "/pods?watch=1&resourceVersion=x", b"", "application/json", 400),
        ("GET", f"/pods?watch=1&timeoutSeconds={'9' * 30}", b"", "application/json", 400),
    ],
)
def test_a_request_that_localkube_cannot_serve_gets_a_status(
    cluster: Cluster, method: str, path: str, body: bytes, kind: str, code: int
) -> None:
    cluster.secret("s", a="1")
    answered, answer = cluster.send(method, path, body, kind)
    assert (answered, json.loads(answer)["code"]) == (code, code)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("sinceTime=x", 400),
        ("tailLines=x", 400),
        ("previous=true", 400),
        ("tailLines=-1", 422),
        ("limitBytes=0", 422),
        ("sinceSeconds=0", 422),
        ("sinceSeconds=5&sinceTime=2020-01-01T00:00:00Z", 422),
    ],
)
def test_a_log_that_cannot_be_served_is_refused(cluster: Cluster, query: str, code: int) -> None:
    name = cluster.shell("true")
    cluster.wait_end(name)
    answered, answer = cluster.send("GET", f"/pods/{name}/log?{query}")
    assert (answered, json.loads(answer)["code"]) == (code, code)
