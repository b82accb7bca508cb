"""What the infrastructure DAG of DataSurface 0.0.56 and 0.0.57 does, and what ours does instead.

Each fault is one test of both: it has to fail with the base's classes, and to pass with ours.
"""

from __future__ import annotations

from typing import Any

import pytest
from airflow_names import IS_AIRFLOW_2
from conftest import Site, import_file, registered_dags
from datasurface_host import commands_take_providers
from merge_command import Commands, options

from datasurface.platforms.yellow import YellowDataPlatform

pytestmark = [
    # What Airflow deprecates in the base's file is not ours.
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(
        not commands_take_providers(),
        reason="needs DATASURFACE_SRC with DataSurface 0.0.56 or 0.0.57",
    ),
]
on_airflow_2 = pytest.mark.skipif(
    not IS_AIRFLOW_2, reason="the base's file loads on Airflow 2 alone"
)

BASE = """
from datasurface.platforms.yellow import YellowDataPlatform, YellowPlatformServiceProvider
model.platformClass = YellowDataPlatform
model.providerClass = YellowPlatformServiceProvider
"""
OURS = ""


def either(reason: type[BaseException]) -> pytest.MarkDecorator:
    """Run a test with the base's classes, which have to fail for this reason, and with ours."""
    fails = pytest.mark.xfail(strict=True, raises=reason)
    return pytest.mark.parametrize(
        "classes", [pytest.param(BASE, id="base", marks=fails), pytest.param(OURS, id="ours")]
    )


TWO_STORES = "[Store('Good'), Store('Other')]"
TWO_DAGS = ["yellowlive__Good_ingestion", "yellowlive__Other_ingestion"]


def installed(site: Site, classes: str, stores: str = TWO_STORES, also: str = "") -> Commands:
    """Run both rings into folders of their own, and a merge."""
    commands = Commands(site.folder / "model", site.model, stores, also=classes + also)
    ring_1 = Commands(site.folder / "ring-1", site.model, stores, also=classes + also)
    for done in (commands.bootstrap(0), ring_1.bootstrap(1), commands.merge()):
        assert done.returncode == 0, done.stderr
    return commands


def dags_of(commands: Commands) -> dict[str, Any]:
    """Return all DAGs of the DAG files that bootstrap wrote."""
    found: dict[str, Any] = {}
    for file in sorted(commands.files.glob("*_dag.py")):
        found |= {dag.dag_id: dag for dag in registered_dags(import_file(file)).values()}
    return found


def streams_of(commands: Commands) -> list[str]:
    return sorted(dag_id for dag_id in dags_of(commands) if "__" in dag_id)


@pytest.mark.skipif(IS_AIRFLOW_2, reason="the fault is Airflow 3's")
@either(TypeError)
def test_it_has_dags_on_airflow_3(site: Site, classes: str) -> None:
    assert streams_of(installed(site, classes)) == TWO_DAGS


@on_airflow_2
@either(AssertionError)
def test_streams_stay_while_the_database_is_away(
    site: Site, monkeypatch: pytest.MonkeyPatch, classes: str
) -> None:
    commands = installed(site, classes)
    assert streams_of(commands) == TWO_DAGS or pytest.fail("The files give no DAGs at all.")

    # Where nobody listens.
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.254")

    assert streams_of(commands) == TWO_DAGS


@on_airflow_2
@either(AssertionError)
def test_bad_row_costs_only_its_own_stream(site: Site, classes: str) -> None:
    commands = installed(site, classes)
    assert streams_of(commands) == TWO_DAGS or pytest.fail("The files give no DAGs at all.")

    site.sql("UPDATE {table} SET config_json = '{{' WHERE stream_key = 'Other'")

    assert streams_of(commands) == TWO_DAGS


@on_airflow_2
@either(AssertionError)
def test_store_with_a_login_of_its_own_takes_no_dag_away(site: Site, classes: str) -> None:
    stores = "[Store('Good'), Store('Other', credential='source_login')]"

    assert streams_of(installed(site, classes, stores)) == TWO_DAGS


@either(SyntaxError)
def test_ring_1_leaves_the_dag_files_of_ring_0_as_they_are(site: Site, classes: str) -> None:
    commands = Commands(site.folder / "model", site.model, also=classes)
    commands.bootstrap(0)

    assert commands.bootstrap(1).returncode == 0

    for file in commands.files.glob("*_dag.py"):
        compile(file.read_text(), str(file), "exec")


@on_airflow_2
@either(AssertionError)
def test_its_merge_merges(site: Site, classes: str) -> None:
    commands = installed(site, classes)
    [infrastructure] = [
        dag for dag_id, dag in dags_of(commands).items() if dag_id.endswith("_infrastructure")
    ]
    [merge] = [task for task in infrastructure.tasks if "merge" in task.task_id]
    words = " ".join(merge.arguments).split()
    again = Commands(
        site.folder / "again", site.model, "[Store('New')]", also=classes,
        unit=words[words.index("--psp") + 1].strip("'\""),
    )  # fmt: skip

    # In a pod it would end well.
    assert again.merge(YELLOW_DYNAMIC_ALLOW_REMOVALS="2").returncode == 0 or pytest.fail(
        "It fails."
    )

    assert site.sql("SELECT stream_key FROM {table}") == [("New",)]


# --- What both have in common -----------------------------------------------------------------

PAIRS = {
    "yellowlive__Each_ingestion": ("snapshot_merge_job", "snapshot_merge_job"),
    "yellowlive__Store1_ingestion": ("snapshot_merge_job", "snapshot_merge_job"),
    "yellowlive__Mark_ingestion": ("snapshot_merge_job", "snapshot_merge_job"),
    "yellowlive__Producer_datatransformer": ("datatransformer_job", "datatransformer_job"),
}
OUTPUT = ("yellowlive__Producer_datatransformer", "output_ingestion_job")


def form(task: Any) -> dict[str, Any]:
    """Return what of a job's task both sides must have alike."""
    return {
        "cmds": task.cmds,
        "arguments": options(task.arguments),
        "environment": {
            (each.name, each.value, each.value_from and each.value_from.secret_key_ref.key)
            for each in task.env_vars
        },
        "claims": [
            each.persistent_volume_claim.claim_name
            for each in task.volumes
            if each.persistent_volume_claim
        ],
        "mounts": {each.mount_path for each in task.volume_mounts},
        "resources": task.container_resources,
        "image": task.image,
        "namespace": task.namespace,
        "image_pull_policy": task.image_pull_policy,
        "priority_weight": task.priority_weight,
        "weight_rule": type(task.weight_rule),
    }


@on_airflow_2
def test_dags_run_what_theirs_run(site: Site) -> None:
    # Where a transformer reads a dataset that is ingested by itself, the base has no DAG for it.
    also = """
from transforming import transform
transform(model)
model.stores[1].consistency = MULTI
model.stores.append(Store("Mark", watermark="id"))
model.priority = "HIGH"
"""
    theirs = dags_of(installed(site, BASE, also=also))
    site.sql("DROP TABLE {table}")
    ours_files = Commands(site.folder / "ours", site.model, also=also)
    for done in (ours_files.bootstrap(0), ours_files.bootstrap(1), ours_files.merge()):
        assert done.returncode == 0, done.stderr

    ours = dags_of(ours_files)

    for dag_id, (their_task, our_task) in PAIRS.items():
        before, after = theirs[dag_id], ours[dag_id]
        assert form(after.get_task(our_task)) == form(before.get_task(their_task)), dag_id
        assert after.max_active_runs == before.max_active_runs
        assert after.catchup is before.catchup
    for dag_id in ("yellowlive__Each_ingestion", "yellowlive__Store1_ingestion"):
        assert ours[dag_id].schedule_interval == theirs[dag_id].schedule_interval
    output = ours["yellowlive__Totals_dt_ingestion"].get_task("snapshot_merge_job")
    assert form(output) == form(theirs[OUTPUT[0]].get_task(OUTPUT[1]))


@on_airflow_2
def test_no_dag_is_there_twice_or_missing_beside_a_platform_of_the_base(site: Site) -> None:
    also = f"{BASE.splitlines()[1]}\nmodel.others = {{'Plain': YellowDataPlatform}}"
    site.model.others = {"Plain": YellowDataPlatform}
    commands = installed(site, OURS, TWO_STORES, also=also)

    defined = [
        dag.dag_id
        for file in sorted(commands.files.glob("*_dag.py"))
        for dag in registered_dags(import_file(file)).values()
    ]

    assert sorted(defined) == [
        "plain__Good_ingestion",
        "plain__Other_ingestion",
        "plain_datatransformer_factory",
        "plain_factory_dag",
        "provider-dynamic_infrastructure",
        "provider_infrastructure",
        *TWO_DAGS,
    ]
