"""The rights that Airflow needs in the namespace of the jobs, each taken away in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airflow_names import AirflowException
from cluster.admission_site import DAG_ID, DONE, Place, wait_for
from conftest import Site
from deployment_files import AIRFLOW_RIGHTS
from kubernetes import client
from pod_runs import TaskInstance
from real_cluster import RealKube

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(scope="module")
def kube() -> Iterator[RealKube]:
    with RealKube() as running:
        yield running


@pytest.fixture(scope="module")
def place(kube: RealKube, tmp_path_factory: pytest.TempPathFactory) -> Place:
    made = Place(kube, tmp_path_factory.mktemp("role"))
    made.job_is(f"sleep 1; {DONE}")
    return made


@pytest.fixture
def dag(installed: Site) -> Any:
    return installed.parse()[DAG_ID]


def grant(place: Place, without: str = "") -> None:
    """Let the account have what is needed, but for one verb such as `get pods/log`."""
    api = client.RbacAuthorizationV1Api(place.client)
    [role] = [each["metadata"]["name"] for each in place.manifests if each["kind"] == "Role"]
    rules = [
        {
            "apiGroups": [""],
            "resources": [resource],
            "verbs": [verb for verb in verbs if f"{verb} {resource}" != without],
        }
        for resource, verbs in AIRFLOW_RIGHTS.items()
    ]
    rules = [rule for rule in rules if rule["verbs"]]
    api.replace_namespaced_role(role, place.namespace, {"metadata": {"name": role}, "rules": rules})
    user = f"system:serviceaccount:{place.namespace}:{place.account}"

    def is_in_force() -> bool:
        return all(
            may(place, user, verb, resource) == (f"{verb} {resource}" != without)
            for resource, verbs in AIRFLOW_RIGHTS.items()
            for verb in verbs
        )

    wait_for(is_in_force, "the role is in force", 30)


def may(place: Place, user: str, verb: str, resource: str) -> bool:
    kind, _, part = resource.partition("/")
    attributes = {"namespace": place.namespace, "verb": verb, "resource": kind, "subresource": part}
    review = client.AuthorizationV1Api(place.client).create_subject_access_review(
        {"spec": {"user": user, "resourceAttributes": attributes}}
    )
    return bool(review.status.allowed)


@pytest.fixture(autouse=True)
def no_pods_are_left(place: Place) -> Iterator[None]:
    yield
    for name in place.pods():
        place.api.delete_namespaced_pod(name, place.namespace, grace_period_seconds=0)
    wait_for(lambda: not place.api.list_namespaced_pod(place.namespace).items, "no pods are left")


def run(place: Place, dag: Any) -> TaskInstance:
    """Run a job whose task waits for it."""
    return place.run(dag, 20)


def run_deferred(place: Place, dag: Any) -> TaskInstance:
    """Run a job whose end a trigger waits for, with the rights of the account too."""
    return place.run_deferred(dag, 20)


WAYS = pytest.mark.parametrize("way", [run, run_deferred], ids=["waits", "deferred"])
Way = Callable[[Place, Any], TaskInstance]


@WAYS
def test_role_of_the_page_is_enough(dag: Any, place: Place, way: Way) -> None:
    grant(place)

    assert way(place, dag).xcoms["result_code"] == "0"
    assert place.pods() == []


@WAYS
@pytest.mark.parametrize("without", ["create pods", "list pods", "get pods"])
def test_right_that_is_missing_fails_the_task_by_name(
    dag: Any, place: Place, way: Way, without: str
) -> None:
    grant(place, without)
    verb, resource = without.split()

    with pytest.raises(AirflowException) as failed:
        way(place, dag)

    assert f'cannot {verb} resource "{resource}" in API group' in str(failed.value)
    assert "HTTP response" not in str(failed.value)


@WAYS
def test_job_without_the_right_to_read_logs_has_no_result_and_the_right_is_named(
    dag: Any, place: Place, way: Way
) -> None:
    grant(place, "get pods/log")

    result = way(place, dag).xcoms["result_code"]

    assert result.startswith("unreadable: 403 pods")
    assert 'cannot get resource "pods/log"' in result


@WAYS
def test_job_without_the_right_to_read_events_is_done_all_the_same(
    dag: Any, place: Place, way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    grant(place, "list events")

    assert way(place, dag).xcoms["result_code"] == "0"
    # The trigger has a log of its own.
    assert way is run_deferred or 'cannot list resource "events"' in caplog.text


def test_job_without_the_right_to_delete_leaves_its_pod_and_the_next_run_says_so(
    installed: Site, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    grant(place, "delete pods")

    assert run(place, installed.parse()[DAG_ID]).xcoms["result_code"] == "0"
    assert 'could not be removed: 403 pods "yellowlive-store1-job-' in caplog.text

    with pytest.raises(AirflowException, match='cannot delete resource "pods"'):
        run(place, installed.parse()[DAG_ID])


def test_failed_job_needs_no_further_right(dag: Any, place: Place) -> None:
    grant(place)
    place.job_is("exit 3")
    try:
        with pytest.raises(AirflowException, match="ended with exit code 3"):
            run(place, dag)
    finally:
        place.job_is(f"sleep 1; {DONE}")
    assert place.pods() == []
