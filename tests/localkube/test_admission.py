"""What the real API asks beyond a pod's form: service account, quotas, quantities, fields."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from kubernetes.client import ApiException
from real_cluster import IS_REAL

from .running import Cluster, wait_until
from .test_refusals import refusal

SLEEP = ("sh", "-c", "sleep 60")


def pod_with(cluster: Cluster, resources: Any = None, **spec: Any) -> dict[str, Any]:
    fields = {} if resources is None else {"resources": resources}
    return cluster.pod(cluster.container(*SLEEP, **fields), "job", **spec)


def set_quota(cluster: Cluster, **hard: str) -> None:
    hard = {name.replace("_", "."): text for name, text in hard.items()}
    quota = {"metadata": {"name": "compute"}, "spec": {"hard": hard}}
    cluster.api.create_namespaced_resource_quota(cluster.namespace, quota)

    def counted() -> bool:
        found = cluster.api.read_namespaced_resource_quota("compute", cluster.namespace)
        return not IS_REAL or bool(found.status.used)

    wait_until(counted, "the quota is counted")


def test_service_account_must_be_there(cluster: Cluster) -> None:
    pod = pod_with(cluster, serviceAccountName="ingestion")

    status = refusal(lambda: cluster.create(pod))

    assert (status["code"], status["reason"]) == (403, "Forbidden")
    assert status["message"] == (
        f'pods "job" is forbidden: error looking up service account {cluster.namespace}/ingestion:'
        ' serviceaccount "ingestion" not found'
    )
    account = {"metadata": {"name": "ingestion"}}
    cluster.api.create_namespaced_service_account(cluster.namespace, account)
    cluster.create(pod)
    cluster.create({**pod_with(cluster, serviceAccountName="default"), "metadata": {"name": "b"}})


def test_priority_class_must_be_there(cluster: Cluster) -> None:
    status = refusal(lambda: cluster.create(pod_with(cluster, priorityClassName="batch")))

    assert (status["code"], status["reason"]) == (403, "Forbidden")
    assert status["message"] == (
        'pods "job" is forbidden: no PriorityClass with name batch was found'
    )


def test_quota_that_is_used_up_is_named_with_its_figures(cluster: Cluster) -> None:
    set_quota(cluster, pods="1", requests_memory="1Gi")
    asks = {"requests": {"memory": "512Mi"}}
    first = cluster.create(pod_with(cluster, asks))

    second = {**pod_with(cluster, asks), "metadata": {"name": "second"}}
    status = refusal(lambda: cluster.create(second))

    assert (status["code"], status["reason"]) == (403, "Forbidden")
    assert status["message"] == (
        'pods "second" is forbidden: exceeded quota: compute, requested: pods=1, used: pods=1, '
        "limited: pods=1"
    )
    cluster.api.delete_namespaced_pod(first, cluster.namespace, grace_period_seconds=0)
    cluster.wait_gone(first)

    def created() -> bool:
        with contextlib.suppress(ApiException):
            cluster.create(second)
            return True
        return False

    wait_until(created, "there is room again")


def test_quota_of_memory_wants_every_pod_to_say_how_much(cluster: Cluster) -> None:
    set_quota(cluster, limits_memory="1Gi")

    status = refusal(lambda: cluster.create(pod_with(cluster)))

    assert status["message"].endswith("failed quota: compute: must specify limits.memory for: base")
    refused = refusal(lambda: cluster.create(pod_with(cluster, {"limits": {"memory": "2Gi"}})))
    assert refused["message"].endswith(
        "requested: limits.memory=2Gi, used: limits.memory=0, limited: limits.memory=1Gi"
    )
    cluster.create(pod_with(cluster, {"limits": {"memory": "1Gi"}}))


@pytest.mark.localkube
def test_quota_of_something_else_is_refused(cluster: Cluster) -> None:
    status = refusal(lambda: set_quota(cluster, secrets="5"))

    assert [cause["field"] for cause in status["details"]["causes"]] == ["spec.hard[secrets]"]


@pytest.mark.parametrize("text", ["1x", "1 Gi", "", "1.2.3", "0x10"])
def test_quantity_that_is_none_cannot_be_read(cluster: Cluster, text: str) -> None:
    status = refusal(lambda: cluster.create(pod_with(cluster, {"requests": {"cpu": text}})))

    assert (status["code"], status["reason"]) == (400, "BadRequest")
    assert "quantities must match the regular expression" in status["message"]


@pytest.mark.parametrize("text", ["1", "500m", "1.5", "2Gi", "1e3", "5k"])
def test_quantity_of_every_form_is_taken(cluster: Cluster, text: str) -> None:
    cluster.create(pod_with(cluster, {"limits": {"memory": text}}))


def test_request_beyond_its_limit_is_refused(cluster: Cluster) -> None:
    resources = {"requests": {"cpu": "2"}, "limits": {"cpu": "500m"}}

    status = refusal(lambda: cluster.create(pod_with(cluster, resources)))

    [cause] = status["details"]["causes"]
    assert cause["field"] == "spec.containers[0].resources.requests"
    assert cause["message"].endswith('"2": must be less than or equal to cpu limit of 500m')


def test_unknown_fields_are_refused_where_the_client_asks_for_it(cluster: Cluster) -> None:
    tolerations = [{"operator": "Exists", "keyz": "a"}]
    pod = pod_with(cluster, {"limits": {"cpu": "1"}}, nodeSelectr={}, tolerations=tolerations)
    create = cluster.api.create_namespaced_pod

    status = refusal(lambda: create(cluster.namespace, pod, field_validation="Strict"))

    assert status["message"] == (
        'Pod in version "v1" cannot be handled as a Pod: strict decoding error: '
        'unknown field "spec.nodeSelectr", unknown field "spec.tolerations[0].keyz"'
    )
    create(cluster.namespace, pod)


def test_variable_that_is_given_twice_brings_a_warning(cluster: Cluster) -> None:
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}, {"name": "A", "value": "2"}]
    pod = cluster.pod(cluster.container("sh", "-c", "echo $A", env=env))

    create = cluster.api.create_namespaced_pod_with_http_info
    created, _, headers = create(cluster.namespace, pod)

    assert 'hides previous definition of \\"A\\", which may be dropped' in headers["Warning"]
    cluster.wait_end(created.metadata.name)
    assert cluster.log(created.metadata.name) == "2\n"
