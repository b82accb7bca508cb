"""The factory's DAGs against the files that the static platform renders from the same model."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import urllib3
from conftest import Site, import_file, registered_dags
from pod_runs import Cluster, pod_of, run_job
from static_files import write_static_files
from stream_kinds import PLATFORMS, STREAMS, comparable, comparable_pod
from yellow_models import SINGLE, Model, Store

from datasurface.md import CronTrigger
from yellow_dynamic.datasurface_adapter import DATASURFACE
from yellow_dynamic.monitoring.airflow_python import both_sides

pytestmark = pytest.mark.embedded

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
        self.prefix = DATASURFACE.k8s_name(site.model.platform)
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
        for column, form in (
            ("serialized DAG", comparable),
            ("pod", lambda dag: comparable_pod(pod_of(dag))),
        ):
            static, dynamic = ([form(d[i]) for i in ids] for d in (pair.static, pair.dynamic))
            record(kind, column, verdict(static, dynamic))
            assert static == dynamic


@pytest.mark.slow
def test_schedules_are_in_the_time_zone_of_the_static_dags(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.model.stores = [Store("Daily", trigger=CronTrigger("Daily", "0 6 * * *"))]
    site.bootstrap()
    site.merge_cleanly()
    write_static_files(site, site.folder / "static")
    monkeypatch.setenv("AIRFLOW__CORE__DEFAULT_TIMEZONE", "Europe/Berlin")

    sides = both_sides(str(site.folder / "static"), str(site.folder), "yellowlive", "")

    [static], [dynamic] = (
        [dag.form["dag"] for dag in side.values() if dag.form]
        for side in (sides.static, sides.dynamic)
    )
    assert static["timezone"] == dynamic["timezone"] == "Europe/Berlin"
    for key in ("timetable", "start_date"):
        assert static[key] == dynamic[key]


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
        static, dynamic = map(comparable_pod, sent_pods)
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
