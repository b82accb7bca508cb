"""The DAG that merges the model, makes its views, and checks what came of it."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kubernetes_validate
import pytest
from airflow_names import (
    AirflowException,
    AirflowFailException,
    DagSerialization,
    check_as_airflow_does,
    schedule_of,
)
from conftest import Site, import_file, problems, registered_dags
from deployment_files import KUBERNETES_VERSIONS, login, one
from kubernetes.client import ApiClient
from pod_runs import NO_CLUSTER, Cluster, TaskInstance, allow_this_thread, context_of, made_ready
from transforming import KEYS, transform
from yellow_models import PROVIDERS_BOOTSTRAP, UNIT_START, Model, bootstrap

from one_machine import free_port
from yellow_dynamic import RunSettings, SlackWebhook

DAG_ID = f"{UNIT_START}_infrastructure"
PODS = ("merge_model", "reconcile_views")


def infrastructure(site: Site, files: dict[str, str] | None = None) -> Any:
    """Return the DAG of the file that bootstrap writes, beside the factory file."""
    file = site.folder / f"{DAG_ID}_dag.py"
    file.write_text((files or site.bootstrap())[file.name])
    [dag] = registered_dags(import_file(file)).values()
    return dag


def check(dag: Any) -> None:
    """Run the task `check`."""
    dag.get_task("check").python_callable()


def test_dag_merges_then_makes_views_then_checks(site: Site) -> None:
    dag = infrastructure(site)

    assert dag.dag_id == DAG_ID
    assert {task.task_id: set(task.downstream_task_ids) for task in dag.tasks} == {
        "merge_model": {"reconcile_views"},
        "reconcile_views": {"check"},
        "check": set(),
    }
    assert schedule_of(dag) is None
    assert (dag.catchup, dag.max_active_runs, dag.is_paused_upon_creation) == (False, 1, None)
    check_as_airflow_does(dag)
    DagSerialization.to_dict(dag)


def test_factory_file_has_no_dag_of_its_own(installed: Site) -> None:
    assert list(installed.parse()) == ["yellowlive__Store1_ingestion"]


@pytest.mark.skipif(PROVIDERS_BOOTSTRAP, reason="this release has no such file")
def test_former_factory_file_of_transformers_defines_nothing(installed: Site) -> None:
    files = installed.bootstrap()
    other = installed.folder / "yellowlive_datatransformer_factory_dag.py"
    other.write_text(files[other.name])

    assert registered_dags(import_file(other)) == {}


def test_platform_may_give_it_a_schedule(site: Site) -> None:
    site.model.platformArguments = {"infrastructureSchedule": "*/10 * * * *"}

    assert schedule_of(infrastructure(site)) == "*/10 * * * *"


@pytest.mark.parametrize("schedule", ["every day", 7, "0 0 30 2 *"])
def test_schedule_that_is_none_is_refused(site: Site, schedule: Any) -> None:
    eco = Model(platformArguments={"infrastructureSchedule": schedule}).build()

    tree = eco.lintAndHydrateCaches()

    [text] = [text for text in problems(tree) if "infrastructureSchedule" in text]
    assert repr(schedule) in text and "'YellowLive'" in text
    with pytest.raises(ValueError, match="infrastructureSchedule"):
        bootstrap(eco.getDataPlatformOrThrow("YellowLive"), eco, 0)


def test_pods_run_what_the_jobs_run(site: Site, tmp_path: Path) -> None:
    template = {"spec": {"securityContext": {"runAsUser": 7}}}
    site.model = Model(
        database=site.database,
        postgresCredential="Merge_Cred",
        gitCredential="Git_Cred",
        branch="release/1_x $(git_TOKEN)",
        platformArguments={"runs": RunSettings(podTemplate=template)},
    )
    site.login(site.postgres.user, site.postgres.password)
    files = site.bootstrap()
    dag = infrastructure(site, files)
    ends = {"merge_model": "_model_merge_job", "reconcile_views": "_reconcile_views_job"}

    for task_id in PODS:
        pod = pod_of_task(dag.get_task(task_id), tmp_path)
        [container] = pod["spec"]["containers"]
        job = one(files[f"{UNIT_START}{ends[task_id]}.yaml"])["spec"]["template"]["spec"]
        [of_job] = job["containers"]
        assert container["command"] + container["args"] == of_job["command"]
        assert login(container) == login(of_job)
        assert container["image"] == of_job["image"]
        assert mounts(pod["spec"]) == mounts(job)
        assert pod["spec"]["securityContext"] == job["securityContext"]
        assert job["securityContext"]["runAsUser"] == 7
        assert container["securityContext"] == of_job["securityContext"]
        for version in KUBERNETES_VERSIONS:
            kubernetes_validate.validate(pod, version, strict=True)


@pytest.mark.parametrize(
    ("conf", "allowed"), [({"allow_removals": 12}, "12"), ({}, None), (None, None)]
)
def test_run_with_a_configuration_may_allow_removals(
    site: Site, conf: dict[str, int] | None, allowed: str | None
) -> None:
    task = infrastructure(site).get_task("merge_model")

    task.pre_execute({"dag_run": SimpleNamespace(conf=conf)})

    given = {variable.name: variable.value for variable in task.env_vars}
    assert given.get("YELLOW_DYNAMIC_ALLOW_REMOVALS") == allowed
    assert given["DATASURFACE_USER"] == DAG_ID


@pytest.mark.parametrize("value", ["many", "$(postgres_PASSWORD)", -1, {"a": 1}])
def test_configuration_of_a_run_that_is_no_number_fails_before_the_command(
    site: Site, value: Any
) -> None:
    task = infrastructure(site).get_task("merge_model")

    with pytest.raises(AirflowException, match="allow_removals of the run's configuration is"):
        task.pre_execute({"dag_run": SimpleNamespace(conf={"allow_removals": value})})


def pod_of_task(task: Any, folder: Path) -> Any:
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(NO_CLUSTER)
    task.config_file = str(kubeconfig)
    return ApiClient().sanitize_for_serialization(task.build_pod_request_obj())


def mounts(spec: Any) -> dict[str, str]:
    """Return what is mounted where: the kind of the volume, and a claim's name."""
    sources = {
        volume["name"]: volume.get("persistentVolumeClaim", {}).get("claimName", "empty")
        for volume in spec["volumes"]
    }
    [container] = spec["containers"]
    return {mount["mountPath"]: sources[mount["name"]] for mount in container["volumeMounts"]}


def test_no_value_of_the_model_is_code_or_a_template(site: Site) -> None:
    hostile = "'); raise SystemExit #\n{{ 7 * 7 }} \" \\ \u2028"
    site.model.branch = hostile
    site.model.providerArguments = {"datasurfaceDockerImage": hostile}
    dag = infrastructure(site)

    for task_id in PODS:
        task = dag.get_task(task_id)
        task.render_template_fields({})
        assert task.image == hostile
        assert hostile in task.arguments


# --- Its check --------------------------------------------------------------------------------


def test_check_passes_where_every_row_becomes_a_dag(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    transform(site.model)
    dag = infrastructure(site)
    site.merge_cleanly()
    site.sql("UPDATE {table} SET status = 'disabled' WHERE stream_key = 'Each_y'")
    caplog.set_level(logging.INFO)

    check(dag)

    assert f"{len(KEYS) - 1} streams are active, 1 are disabled." in caplog.messages
    # It is not a parse of Airflow's, and leaves no trace of one.
    assert not site.snapshots.exists()


def test_check_names_the_rows_that_become_no_dag(installed: Site) -> None:
    dag = infrastructure(installed)
    installed.insert("Broken", "{}")

    with pytest.raises(AirflowFailException) as failed:
        check(dag)

    assert str(failed.value).startswith("1 of 2 streams have no DAG that can run")
    assert "'Broken'" in str(failed.value)


def test_check_fails_where_the_table_cannot_be_read(
    installed: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    dag = infrastructure(installed)
    installed.parse()
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.1")
    monkeypatch.setenv("DATASURFACE_POSTGRES_PORT", str(free_port()))

    # There is a snapshot, which serves Airflow and tells nothing of this merge.
    with pytest.raises(AirflowFailException, match=r"cannot be read.* is up"):
        check(dag)


def test_check_fails_without_the_factory_file(installed: Site) -> None:
    dag = infrastructure(installed)
    installed.factory_file.unlink()

    with pytest.raises(AirflowFailException, match=r"There is no .*_factory_dag\.py"):
        check(dag)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("from __future__ import annotations\n", "is not whole"),
        ("raise SystemExit(3)\n", r"cannot be imported \(SystemExit"),
        ("PLATFORM = {", r"cannot be imported \(SyntaxError"),
    ],
)
def test_check_names_a_damaged_factory_file_and_a_failure_still_ends(
    installed: Site, text: str, problem: str
) -> None:
    installed.model.platformArguments = {"onFailure": SlackWebhook("slack")}
    dag = infrastructure(installed)
    installed.factory_file.write_text(text)

    with pytest.raises(AirflowFailException, match=problem):
        check(dag)
    dag.on_failure_callback({})


def test_check_fails_without_table_and_snapshot(
    installed: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    dag = infrastructure(installed)
    monkeypatch.setenv("DATASURFACE_POSTGRES_PORT", str(free_port()))

    with pytest.raises(AirflowFailException, match="There is no snapshot to serve instead"):
        check(dag)


# --- Its pods ---------------------------------------------------------------------------------


def run(task: Any, cluster: Cluster) -> None:
    allow_this_thread()
    made_ready(task, cluster).execute(context_of(task, TaskInstance(task)))


@pytest.mark.slow
@pytest.mark.parametrize("task_id", PODS)
def test_task_ends_as_its_command_does(site: Site, cluster: Cluster, task_id: str) -> None:
    cluster.job_is("echo well")
    run(infrastructure(site).get_task(task_id), cluster)
    cluster.job_is("echo ill; exit 3")
    with pytest.raises(AirflowException, match=r"failed: its container ended with exit code 3"):
        run(infrastructure(site).get_task(task_id), cluster)
    assert cluster.pods() == []
