"""The factory's DAGs against the files that the static platform renders from the same model."""

from __future__ import annotations

import tempfile
from typing import Any

import pytest
from airflow.serialization.serialized_objects import DagSerialization
from conftest import Site, import_file, registered_dags
from kubernetes.client import ApiClient
from yellow_models import SINGLE, Model, Store

from datasurface.md import CronTrigger, ExternallyTriggered
from datasurface.platforms.yellow import YellowDataPlatform

pytestmark = pytest.mark.embedded

STREAMS = [
    Store("Multi"),
    Store("Single", ["a", "B_c"], SINGLE),
    Store("Nightly", trigger=CronTrigger("Nightly", "0 3 * * 1-5")),
    Store("By_Hand", trigger=ExternallyTriggered("By hand")),
    Store("OwnLogin", credential="Source_Cred"),
    Store("Topic", ["events"], SINGLE, kafka=True),
    Store("Wide", [f"dataset_{number}" for number in range(100)]),
]
#: What may differ: where the file is, and the page about the DAG.
LOCATIONS = ("fileloc", "relative_fileloc", "doc_md", "_task_module")
#: The operator reads a kubeconfig even where it only builds a pod.
NO_CLUSTER = """
apiVersion: v1
kind: Config
current-context: none
contexts: [{name: none, context: {cluster: none, user: none}}]
clusters: [{name: none, cluster: {server: "http://127.0.0.1:9"}}]
users: [{name: none, user: {}}]
"""


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"providerArguments": {"git_cache_enabled": False}},
        {"platform": "Yellow_Live No.1"},
        {"postgresCredential": "Merge_Cred", "gitCredential": "Git_Cred"},
    ],
    ids=["plain", "no git cache", "awkward platform name", "awkward credential names"],
)
def test_factory_builds_the_static_dags(site: Site, settings: dict[str, Any]) -> None:
    site.model = Model(stores=STREAMS, database=site.database, **settings)
    site.login(site.postgres.user, site.postgres.password)
    site.bootstrap()
    site.merge_cleanly()

    dynamic = site.parse()
    static = static_dags(site)

    assert len(static) == len(STREAMS) + 1
    assert sorted(dynamic) == sorted(static)
    for dag_id, dag in dynamic.items():
        assert comparable(dag) == comparable(static[dag_id])
        assert pod_of(dag) == pod_of(static[dag_id])


def static_dags(site: Site) -> dict[str, Any]:
    """Render the static platform's files, and return their DAGs by id."""
    from datasurface.md import ValidationTree

    model = Model(**{**vars(site.model), "platformClass": YellowDataPlatform})
    graph = model.graph(site.folder)
    tree = ValidationTree(graph.eco)
    files = graph.platform.createGraphHandler(graph).renderGraph(
        graph.platform.getCredentialStore(), tree
    )
    assert not tree.hasErrors()
    dags: dict[str, Any] = {}
    for name, text in files.items():
        if name.endswith("_ingestion.py"):
            path = site.folder / name
            path.write_text(text)
            dags |= {dag.dag_id: dag for dag in registered_dags(import_file(path)).values()}
    return dags


def comparable(dag: Any) -> Any:
    return without_locations(DagSerialization.to_dict(dag))


def without_locations(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_locations(v) for key, v in value.items() if key not in LOCATIONS}
    if isinstance(value, list):
        return [without_locations(item) for item in value]
    return value


def pod_of(dag: Any) -> Any:
    """Return the pod that the operator would send, but for its random name."""
    job = dag.get_task("snapshot_merge_job")
    job.random_name_suffix = False
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as kubeconfig:
        kubeconfig.write(NO_CLUSTER)
        kubeconfig.flush()
        job.config_file = kubeconfig.name
        return ApiClient().sanitize_for_serialization(job.build_pod_request_obj())
