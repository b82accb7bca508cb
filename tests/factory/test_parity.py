"""The factory's DAGs against the files that the static platform renders from the same model."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import urllib3
from airflow_names import DagSerialization
from conftest import Site, import_file, registered_dags
from pod_runs import Cluster, pod_of, run_job
from static_files import write_static_files
from yellow_models import SINGLE, Model, Store

from datasurface.md import CronTrigger, ExternallyTriggered

pytestmark = pytest.mark.embedded

HUNDRED = [f"dataset_{number}" for number in range(100)]
STREAMS = {
    "SQL, all datasets in one": Store("Multi"),
    "SQL, one per dataset": Store("Single", ["a", "b"], SINGLE),
    "SQL, 100 datasets in one": Store("Wide", HUNDRED),
    "SQL, one for each of 100": Store("Long", HUNDRED, SINGLE),
    "SQL, login of its own": Store("OwnLogin", credential="Source_Cred"),
    "capitals and underscores": Store("Upper_CASE", ["Data_SET", "x_"], SINGLE),
    "name of 120 characters": Store("x" * 120),
    "cron on weekdays": Store("Nightly", trigger=CronTrigger("Nightly", "0 3 * * 1-5")),
    "external trigger": Store("By_Hand", trigger=ExternallyTriggered("By hand")),
    "Kafka": Store("Topic", ["events"], SINGLE, kafka=True),
    "Kafka without a trigger": Store("Always", ["clicks"], SINGLE, trigger=None, kafka=True),
}
PLATFORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no git cache": {"providerArguments": {"git_cache_enabled": False}},
    "awkward names": {
        "platform": "Yellow_Live No.1",
        "name": "Donn\u00e9es d'\u00c9t\u00e9",
        "postgresCredential": "Merge_Cred",
        "gitCredential": "Git_Cred",
        "branch": "release/1_x",
    },
}
#: What may differ: where the file is, and the page about the DAG.
LOCATIONS = ("fileloc", "relative_fileloc", "doc_md", "_task_module")

Record = Callable[[str, object], None]


class Pair:
    """The static and the dynamic DAGs of one platform, by id."""

    def __init__(self, site: Site, platform: str) -> None:
        site.model = Model(
            stores=list(STREAMS.values()), database=site.database, **PLATFORMS[platform]
        )
        site.login(site.postgres.user, site.postgres.password)
        site.bootstrap()
        site.merge_cleanly()
        self.prefix = site.model.buildPlatform().to_k8s_name(site.model.platform)
        self.dynamic = site.parse()
        self.static: dict[str, Any] = {}
        for path in write_static_files(site, site.folder / "static"):
            self.static |= {d.dag_id: d for d in registered_dags(import_file(path)).values()}

    def ids_of(self, kind: str) -> list[str]:
        """Return the DAGs that one kind of stream must have."""
        store = STREAMS[kind]
        keys = [store.name]
        if store.consistency is SINGLE:
            keys = [f"{store.name}_{dataset}" for dataset in store.datasets]
        return [f"{self.prefix}__{key}_ingestion" for key in keys]


@pytest.fixture(params=PLATFORMS)
def pair(request: pytest.FixtureRequest, site: Site) -> Pair:
    return Pair(site, request.param)


@pytest.fixture
def record(
    request: pytest.FixtureRequest, record_property: Record
) -> Callable[[str, str, str], None]:
    """Note one cell of the table at the end of the run."""
    platform = request.node.callspec.params["pair"]
    return lambda kind, column, text: record_property("parity", (platform, kind, column, text))


def verdict(static: list[Any], dynamic: list[Any]) -> str:
    return "equal" if static == dynamic else "DIFFERENT"


def test_factory_builds_the_static_dags(
    pair: Pair, record: Callable[[str, str, str], None]
) -> None:
    ids = [dag_id for kind in STREAMS for dag_id in pair.ids_of(kind)]
    assert sorted(pair.static) == sorted(pair.dynamic) == sorted(ids)

    for kind in STREAMS:
        ids = pair.ids_of(kind)
        record(kind, "streams", str(len(ids)))
        for column, form in (("serialized DAG", comparable), ("pod", pod_of)):
            static, dynamic = ([form(d[i]) for i in ids] for d in (pair.static, pair.dynamic))
            record(kind, column, verdict(static, dynamic))
            assert static == dynamic


@pytest.mark.slow
def test_pods_that_reach_kubernetes_are_equal(
    pair: Pair,
    cluster: Cluster,
    sent_pods: list[dict[str, Any]],
    record: Callable[[str, str, str], None],
) -> None:
    cluster.job_is("echo DATASURFACE_RESULT_CODE=0")

    for kind in STREAMS:
        dag_id = pair.ids_of(kind)[-1]
        ends = [run_job(side[dag_id], cluster).xcoms for side in (pair.static, pair.dynamic)]
        static, dynamic = sent_pods
        sent_pods.clear()
        record(kind, "pod over HTTP", verdict([static], [dynamic]))
        assert static == dynamic
        assert static["spec"]["containers"][0]["args"]
        assert [end["result_code"] for end in ends] == ["0", "0"]


@pytest.fixture
def sent_pods(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The bodies of the requests that create pods, without the random end of the pod's name."""
    pods: list[dict[str, Any]] = []
    send = urllib3.PoolManager.urlopen

    def send_and_note(manager: Any, method: str, url: str, *args: Any, **options: Any) -> Any:
        if method == "POST" and url.endswith("/pods"):
            pod = json.loads(options["body"])
            name, _, _ = pod["metadata"]["name"].rpartition("-")
            pod["metadata"]["name"] = name
            pods.append(pod)
        return send(manager, method, url, *args, **options)

    monkeypatch.setattr(urllib3.PoolManager, "urlopen", send_and_note)
    return pods


def comparable(dag: Any) -> Any:
    return without_locations(DagSerialization.to_dict(dag))


def without_locations(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_locations(v) for key, v in value.items() if key not in LOCATIONS}
    if isinstance(value, list):
        return [without_locations(item) for item in value]
    return value
