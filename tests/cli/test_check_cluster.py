"""`yellow-dynamic check --namespace`: what Kubernetes has for a platform, over its API."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import (
    ApiException,
    CoreV1Api,
    V1ConfigMap,
    V1ConfigMapEnvSource,
    V1ConfigMapKeySelector,
    V1EnvFromSource,
    V1EnvVar,
    V1EnvVarSource,
)
from kubernetes.config import new_client_from_config
from pytest_mock import MockerFixture
from yellow_models import login_keys, login_secret

from one_machine import LocalKube

from .conftest import Operator

NAMESPACE = "ns-test"
IMAGE = "apache/airflow:3.3.2"
COMPONENTS = ("scheduler", "dag-processor")
USER, PASSWORD = login_keys("postgres")
NO_PYTHON = ("--python", f"{shlex.quote(sys.executable)} -I -S")


@pytest.fixture(scope="module")
def kube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKube]:
    """A cluster whose image of Airflow has a program that only waits."""
    folder = tmp_path_factory.mktemp("kube")
    programs = folder / "programs"
    programs.mkdir()
    (programs / "airflow").write_text("#!/bin/sh\nexec sleep 600\n")
    (programs / "airflow").chmod(0o755)
    with LocalKube(folder / "state", {IMAGE: programs}, {}) as kube:
        login = login_secret("postgres", "u", "planted-secret-6")
        reader = {"postgres_USER": "u", "postgres_PASSWORD": "planted-secret-6"}
        kube.create_secret(NAMESPACE, "postgres", login)
        kube.create_secret(NAMESPACE, "postgres-airflow-reader", reader)
        kube.create_secret(NAMESPACE, "git", {"token": "planted-secret-6"})
        yield kube


@pytest.fixture
def core(kube: LocalKube, monkeypatch: pytest.MonkeyPatch) -> Iterator[CoreV1Api]:
    """The cluster's API; Airflow's pods in it are removed afterwards, and secrets put back."""
    monkeypatch.setenv("KUBECONFIG", str(kube.kubeconfig))
    core = CoreV1Api(new_client_from_config(str(kube.kubeconfig)))
    secrets = core.list_namespaced_secret(NAMESPACE).items
    yield core
    for pod in core.list_namespaced_pod(NAMESPACE).items:
        core.delete_namespaced_pod(pod.metadata.name, NAMESPACE, grace_period_seconds=0)
    for secret in core.list_namespaced_secret(NAMESPACE).items:
        core.delete_namespaced_secret(secret.metadata.name, NAMESPACE)
    for secret in secrets:
        secret.metadata.resource_version = secret.metadata.uid = None
        core.create_namespaced_secret(NAMESPACE, secret)


def pod(component: str, **changes: Any) -> dict[str, Any]:
    """Return a pod of Airflow as its Helm chart makes it, with a helper container beside."""
    container = {
        "name": component,
        "image": IMAGE,
        "command": ["airflow"],
        "env": [{"name": "AIRFLOW_HOME", "value": "/opt/airflow"}],
        "envFrom": [{"secretRef": {"name": "postgres-airflow-reader"}}],
        "volumeMounts": [{"name": "dags", "mountPath": "/opt/airflow/dags"}],
        **changes,
    }
    return {
        "metadata": {
            "name": f"airflow-{component}-7d9f-x1",
            "labels": {"component": component, "tier": "airflow"},
        },
        "spec": {
            "restartPolicy": "Never",
            "containers": [container],
            "volumes": [{"name": "dags", "emptyDir": {}}],
        },
    }


def install(core: CoreV1Api, **changes: Any) -> None:
    """Create the scheduler and the DAG processor, with changes of their containers."""
    for component in COMPONENTS:
        core.create_namespaced_pod(NAMESPACE, pod(component, **changes))


def checked(operator: Operator) -> dict[str, dict[str, Any]]:
    """Return the checks of Kubernetes by their names."""
    words = ("--dags", operator.factory, "--namespace", NAMESPACE, "--json")
    result = operator("check", *words, *NO_PYTHON)
    assert result.exit_code == 2, result.output
    assert "planted-secret-6" not in result.output
    [platform] = json.loads(result.stdout)["platforms"]
    return {
        each["name"]: each
        for each in platform["checks"]
        if each["name"].startswith(("secret", "pod", *COMPONENTS))
    }


def failed(operator: Operator) -> dict[str, dict[str, Any]]:
    found = {name: each for name, each in checked(operator).items() if not each["passed"]}
    assert all(each["fix"] for each in found.values())
    return found


def test_all_pass_where_secrets_variables_and_file_are_there(
    merged: Operator, core: CoreV1Api
) -> None:
    folder = {"name": "dags", "mountPath": str(merged.dags)}
    install(core, volumeMounts=[folder])

    found = checked(merged)

    assert list(found) == [
        "secret git in ns-test",
        "secret postgres in ns-test",
        *(
            f"pod airflow-{component}-7d9f-x1 has the {what}"
            for component in COMPONENTS
            for what in ("login", "merge store's address", "factory file mounted")
        ),
    ]
    assert [name for name, each in found.items() if not each["passed"]] == []
    assert found["secret postgres in ns-test"]["detail"] == f"has {PASSWORD}, {USER}"


def test_missing_secret_and_missing_key_fail_with_the_command(
    merged: Operator, core: CoreV1Api
) -> None:
    core.delete_namespaced_secret("git", NAMESPACE)
    core.patch_namespaced_secret("postgres", NAMESPACE, {"data": {PASSWORD: None}})

    found = failed(merged)

    assert found["secret git in ns-test"]["fix"] == (
        "kubectl create secret generic git -n ns-test --from-literal=token=..."
    )
    assert found["secret postgres in ns-test"]["detail"] == f"it lacks {PASSWORD}"
    assert found["secret postgres in ns-test"]["fix"] == (
        "kubectl patch secret postgres -n ns-test "
        f"""-p '{{"stringData": {{"{PASSWORD}": "..."}}}}'"""
    )


def test_secrets_of_rows_are_wanted_too(merged: Operator, core: CoreV1Api) -> None:
    merged.edit("Store1", source_credential_secret_name="crm", namespace_name="ns-jobs")

    found = failed(merged)

    assert found["secret crm in ns-jobs"]["detail"] == "it is not there"
    assert "secret postgres in ns-jobs" in found


def test_missing_pods_are_named(merged: Operator, core: CoreV1Api) -> None:
    found = failed(merged)

    assert found["scheduler"]["detail"] == "no pod of it in ns-test"
    assert found["dag-processor"]["fix"] == "kubectl get pods -n ns-test -l component=dag-processor"


def test_pod_without_login_address_or_file_fails_with_the_command(
    merged: Operator, core: CoreV1Api
) -> None:
    install(core, env=[{"name": "DATASURFACE_POSTGRES_DATABASE", "value": "airflow"}], envFrom=[])

    found = failed(merged)

    for component in COMPONENTS:
        name = f"pod airflow-{component}-7d9f-x1"
        login = found[f"{name} has the login"]
        assert login["detail"] == "it lacks postgres_USER, postgres_PASSWORD"
        assert login["fix"].startswith(f"kubectl patch pod/{name[4:]} -n ns-test -p '")
        patch = json.loads(login["fix"].split("'")[1])
        [container] = patch["spec"]["template"]["spec"]["containers"]
        assert container["name"] == component
        address = found[f"{name} has the merge store's address"]
        assert address["detail"] == (
            "DATASURFACE_POSTGRES_DATABASE is airflow, and the merge store's is "
            f"{merged.site.database}"
        )
        assert f"-c {component} DATASURFACE_POSTGRES_HOST=pg-data.ns-test.svc" in address["fix"]
        assert str(merged.factory) in found[f"{name} has the factory file mounted"]["detail"]


def test_secret_of_the_login_is_made_before_a_pod_refers_to_it(
    merged: Operator, core: CoreV1Api
) -> None:
    core.delete_namespaced_secret("postgres-airflow-reader", NAMESPACE)
    core.create_namespaced_pod(NAMESPACE, pod("scheduler", envFrom=[]))

    login = failed(merged)["pod airflow-scheduler-7d9f-x1 has the login"]

    assert login["detail"] == (
        "it lacks postgres_USER, postgres_PASSWORD; secret postgres-airflow-reader in ns-test: "
        "it is not there"
    )
    create, _, patch = login["fix"].partition(" && ")
    assert create == (
        "kubectl create secret generic postgres-airflow-reader -n ns-test "
        "--from-literal=postgres_USER=... --from-literal=postgres_PASSWORD=..."
    )
    [container] = json.loads(patch.split("'")[1])["spec"]["template"]["spec"]["containers"]
    assert {each["valueFrom"]["secretKeyRef"]["name"] for each in container["env"]} == {
        "postgres-airflow-reader"
    }


def test_address_may_be_in_the_variables_or_in_the_factory_file_alone(
    merged: Operator, core: CoreV1Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = {"name": "DATASURFACE_POSTGRES_HOST", "value": "pooler.example.org"}
    from_secret = {"secretKeyRef": {"name": "postgres-airflow-reader", "key": "postgres_USER"}}
    database = {"name": "DATASURFACE_POSTGRES_DATABASE", "valueFrom": from_secret}
    core.create_namespaced_pod(NAMESPACE, pod("scheduler", env=[host, database]))
    core.create_namespaced_pod(NAMESPACE, pod("dag-processor"))
    names = [f"pod airflow-{each}-7d9f-x1 has the merge store's address" for each in COMPONENTS]

    found = checked(merged)
    monkeypatch.setenv("DATASURFACE_POSTGRES_HOST", "pooler.example.org")
    found_there = checked(merged)

    assert (found[names[0]]["passed"], found[names[1]]["passed"]) == (False, True)
    assert "that in the factory file" in found[names[1]]["detail"]
    # The command reaches the merge store by the same other way.
    assert found_there[names[0]]["passed"]


def test_variables_of_a_config_map_count(
    merged: Operator, core: CoreV1Api, mocker: MockerFixture
) -> None:
    install(core)
    pods = core.list_namespaced_pod(NAMESPACE)
    for each in pods.items:
        each.spec.containers[0].env_from = [
            V1EnvFromSource(config_map_ref=V1ConfigMapEnvSource(name="merge-store"))
        ]
        selector = V1ConfigMapKeySelector(name="merge-store", key="port")
        each.spec.containers[0].env = [
            V1EnvVar(
                name="DATASURFACE_POSTGRES_PORT",
                value_from=V1EnvVarSource(config_map_key_ref=selector),
            )
        ]
    data = {"postgres_USER": "u", "postgres_PASSWORD": "p", "port": "1"}
    mocker.patch.object(CoreV1Api, "list_namespaced_pod", return_value=pods)
    mocker.patch.object(
        CoreV1Api, "read_namespaced_config_map", return_value=V1ConfigMap(data=data)
    )

    found = checked(merged)

    assert found["pod airflow-scheduler-7d9f-x1 has the login"]["passed"]
    detail = found["pod airflow-scheduler-7d9f-x1 has the merge store's address"]["detail"]
    assert detail == "DATASURFACE_POSTGRES_PORT is 1, and the merge store's is 5432"


def test_variable_from_a_secret_counts_only_where_its_key_is_there(
    merged: Operator, core: CoreV1Api
) -> None:
    reference = {"secretKeyRef": {"name": "postgres", "key": "no_such_key", "optional": True}}
    user = {"secretKeyRef": {"name": "postgres", "key": USER}}
    install(
        core,
        envFrom=[],
        env=[
            {"name": "postgres_USER", "valueFrom": user},
            {"name": "postgres_PASSWORD", "valueFrom": reference},
        ],
    )

    found = failed(merged)

    detail = found["pod airflow-scheduler-7d9f-x1 has the login"]["detail"]
    assert detail == "it lacks postgres_PASSWORD"


def test_file_that_comes_from_a_config_map_must_be_in_it(
    merged: Operator, core: CoreV1Api, mocker: MockerFixture
) -> None:
    scheduler = pod("scheduler", volumeMounts=[{"name": "dags", "mountPath": str(merged.dags)}])
    install(core, volumeMounts=[{"name": "dags", "mountPath": str(merged.dags)}])
    pods = core.list_namespaced_pod(NAMESPACE)
    for each in pods.items:
        each.spec.volumes[0].empty_dir = None
        each.spec.volumes[0].config_map = mocker.Mock()
        each.spec.volumes[0].config_map.name = "dags"
    mocker.patch.object(CoreV1Api, "list_namespaced_pod", return_value=pods)
    config_map = V1ConfigMap(data={"another.py": ""})
    mocker.patch.object(CoreV1Api, "read_namespaced_config_map", return_value=config_map)
    name = f"pod {scheduler['metadata']['name']} has the factory file mounted"

    lacking = failed(merged)[name]
    config_map.data = {merged.factory.name: ""}

    assert lacking["detail"] == f"ConfigMap dags lacks {merged.factory.name}"
    assert "kubectl create configmap dags -n ns-test" in lacking["fix"]
    assert checked(merged)[name]["passed"]


def test_kubernetes_that_cannot_be_reached_or_refuses_is_an_error(
    merged: Operator,
    core: CoreV1Api,
    tmp_path: Path,
    mocker: MockerFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ("check", "--dags", merged.factory, "--namespace", NAMESPACE, *NO_PYTHON)
    refusal = ApiException(status=403, reason="Forbidden")
    mocker.patch.object(CoreV1Api, "read_namespaced_secret", side_effect=refusal).__name__ = "get"
    refused = merged(*words)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    no_config = merged(*words)

    assert (refused.exit_code, no_config.exit_code) == (1, 1)
    assert "Kubernetes answers 403 Forbidden" in refused.stderr
    assert "There is no access to Kubernetes" in no_config.stderr
