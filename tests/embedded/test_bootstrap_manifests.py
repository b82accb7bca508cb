"""The Kubernetes objects in kubernetes-bootstrap.yaml."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate.utils import all_versions
from yellow_models import Model

from datasurface.platforms.yellow import YellowDataPlatform

pytestmark = pytest.mark.embedded

#: The oldest and the newest Kubernetes whose schemas are at hand.
VERSIONS = (all_versions()[0], all_versions()[-1])


def manifests(model: Model) -> list[dict[str, Any]]:
    model.platformClass = YellowDataPlatform
    eco = model.build()
    files = eco.getDataPlatformOrThrow(model.platform).generateBootstrapArtifacts(eco, 0)
    return list(yaml.safe_load_all(files["kubernetes-bootstrap.yaml"]))


def named(found: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {item["metadata"]["name"]: item for item in found if item["kind"] == kind}


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_every_object(version: str) -> None:
    found = manifests(Model())

    assert len(found) > 10
    for manifest in found:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_all_objects_are_in_the_providers_namespace() -> None:
    found = manifests(Model(namespace="ns-other", host="pg-data"))

    assert named(found, "Namespace").keys() == {"ns-other"}
    others = [item for item in found if item["kind"] != "Namespace"]
    assert {item["metadata"]["namespace"] for item in others} == {"ns-other"}


def test_airflow_may_run_pods_and_read_them_but_not_run_commands_in_them() -> None:
    role = named(manifests(Model()), "Role")["airflow-pod-manager"]

    allowed = {rule["resources"][0]: set(rule["verbs"]) for rule in role["rules"]}
    assert allowed == {
        "pods": {"create", "get", "list", "watch", "delete", "patch"},
        "pods/log": {"get"},
        "events": {"get", "list", "watch"},
    }


def test_the_role_is_bound_to_airflows_account() -> None:
    found = manifests(Model())

    binding = named(found, "RoleBinding")["airflow-pod-manager-binding"]
    assert binding["roleRef"]["name"] in named(found, "Role")
    assert [subject["name"] for subject in binding["subjects"]] == ["airflow-service-account"]
    assert "airflow-service-account" in named(found, "ServiceAccount")


def test_the_model_cache_has_the_providers_size_class_and_mode() -> None:
    settings = {
        "git_cache_storage_class": "fast",
        "git_cache_access_mode": "ReadWriteMany",
        "git_cache_storage_size": "7Gi",
    }

    claims = named(manifests(Model(providerArguments=settings)), "PersistentVolumeClaim")

    assert claims["test-git-model-cache"]["spec"] == {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "7Gi"}},
        "storageClassName": "fast",
    }


def test_without_a_model_cache_there_is_no_claim_for_it() -> None:
    claims = named(
        manifests(Model(providerArguments={"git_cache_enabled": False})), "PersistentVolumeClaim"
    )

    assert claims.keys() == {"airflow-dags-pvc", "airflow-logs-pvc", "pg-data-pvc"}


@pytest.mark.parametrize(
    "host",
    ["pg-data", "pg-data.ns-test", "pg-data.ns-test.svc", "pg-data.ns-test.svc.cluster.local"],
)
def test_a_merge_store_in_the_namespace_is_created(host: str) -> None:
    found = manifests(Model(host=host))

    [container] = named(found, "Deployment")["pg-data"]["spec"]["template"]["spec"]["containers"]
    assert named(found, "Service").keys() == {"pg-data"}
    assert {"name": "POSTGRES_DB", "value": "merge"} in container["env"]


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "db.example.com", "pg-data.other.svc.cluster.local"]
)
def test_a_merge_store_elsewhere_is_left_to_its_owner(host: str) -> None:
    found = manifests(Model(host=host))

    kinds = {item["kind"] for item in found}
    assert not kinds & {"Deployment", "Service"}
    assert named(found, "PersistentVolumeClaim").keys() == {
        "airflow-dags-pvc",
        "airflow-logs-pvc",
        "test-git-model-cache",
    }


def test_the_service_and_the_policy_reach_the_database_pod() -> None:
    found = manifests(Model())

    pod = named(found, "Deployment")["pg-data"]["spec"]["template"]
    ports = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
    service = named(found, "Service")["pg-data"]["spec"]
    policy = named(found, "NetworkPolicy")["pg-data-network-policy"]["spec"]
    for selector in (service["selector"], policy["podSelector"]["matchLabels"]):
        assert selector.items() <= pod["metadata"]["labels"].items()
    assert {service["ports"][0]["targetPort"], policy["ingress"][0]["ports"][0]["port"]} <= ports


def test_the_database_login_comes_from_the_secret_under_its_kubernetes_name() -> None:
    found = manifests(Model(postgresCredential="My_Login"))

    [container] = named(found, "Deployment")["pg-data"]["spec"]["template"]["spec"]["containers"]
    sources = [item["valueFrom"] for item in container["env"] if "valueFrom" in item]
    assert sources == [
        {"secretKeyRef": {"name": "my-login", "key": key}}
        for key in ("POSTGRES_USER", "POSTGRES_PASSWORD")
    ]


def test_platforms_of_one_provider_describe_the_same_objects() -> None:
    assert manifests(Model()) == manifests(Model(platform="YellowForensic"))


@pytest.mark.parametrize("version", VERSIONS)
def test_no_value_of_the_model_can_add_an_object_or_change_a_type(version: str) -> None:
    hostile = 'x"\n---\nkind: ClusterRole\n# {{ 1 }} ${HOME} : &a *a !!python/name:os.system\x00'
    plain = manifests(Model())

    found = manifests(
        Model(
            database=hostile,
            providerArguments={
                "git_cache_storage_class": hostile,
                "git_cache_storage_size": "yes",
                "git_cache_access_mode": "null",
            },
        )
    )

    assert [item["kind"] for item in found] == [item["kind"] for item in plain]
    [container] = named(found, "Deployment")["pg-data"]["spec"]["template"]["spec"]["containers"]
    assert {"name": "POSTGRES_DB", "value": hostile} in container["env"]
    cache = named(found, "PersistentVolumeClaim")["test-git-model-cache"]
    assert cache["spec"]["storageClassName"] == hostile
    assert cache["spec"]["resources"]["requests"]["storage"] == "yes"
    kubernetes_validate.validate(named(found, "Deployment")["pg-data"], version, strict=True)
