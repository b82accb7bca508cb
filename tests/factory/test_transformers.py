"""The DAGs of transformers, which are streams like the others."""

from __future__ import annotations

import json
from typing import Any

import kubernetes_validate
import pytest
from airflow_names import IS_AIRFLOW_2, DagSerialization, assets_of, check_as_airflow_does
from conftest import Site
from deployment_files import KUBERNETES_VERSIONS
from pod_runs import Cluster, pod_of, run_job
from transforming import KEYS, OUTPUT, TRANSFORMER, transform

from datasurface.md import Credential, CronTrigger
from datasurface.md.credential import CredentialType
from one_machine import free_port

TRANSFORMER_DAG = "yellowlive__Producer_datatransformer"
OUTPUT_DAG = "yellowlive__Totals_dt_ingestion"


@pytest.fixture
def transforming(site: Site) -> Site:
    """A model with a transformer, bootstrapped and merged."""
    transform(site.model)
    site.bootstrap()
    site.merge_cleanly()
    return site


def announced_by(dag: Any) -> set[str]:
    """Return what the DAG's tasks announce as delivered."""
    return {asset.uri for task in dag.tasks for asset in task.outlets}


def test_transformer_and_output_have_the_ids_that_datasurface_gives_them(
    transforming: Site,
) -> None:
    dags = transforming.parse()

    assert sorted(dags) == sorted(
        [
            *(f"yellowlive__{key}_ingestion" for key in KEYS if key != TRANSFORMER),
            TRANSFORMER_DAG,
        ]
    )
    for dag in dags.values():
        check_as_airflow_does(dag)
        DagSerialization.to_dict(dag)
        assert "config-error" not in dag.tags
    assert "datatransformer" in dags[TRANSFORMER_DAG].tags
    assert {"ingestion", "datatransformer"} <= set(dags[OUTPUT_DAG].tags)


def test_deliveries_start_the_transformer_and_then_its_output(transforming: Site) -> None:
    dags = transforming.parse()

    waits = {dag_id: assets_of(dags[dag_id]) for dag_id in (TRANSFORMER_DAG, OUTPUT_DAG)}

    inputs = ("yellowlive__Store1_ingestion", "yellowlive__Each_x_ingestion")
    assert waits[TRANSFORMER_DAG] == set().union(*(announced_by(dags[key]) for key in inputs))
    assert len(waits[TRANSFORMER_DAG]) == 2
    assert waits[OUTPUT_DAG] == announced_by(dags[TRANSFORMER_DAG])
    # Nobody waits for these, and an announcement costs a process.
    assert not announced_by(dags["yellowlive__Each_y_ingestion"])
    assert not announced_by(dags[OUTPUT_DAG])


def test_only_a_delivery_is_announced(transforming: Site) -> None:
    for dag in transforming.parse().values():
        for task in dag.tasks:
            assert not task.outlets or task.task_id == "wait_for_trigger"


def test_cron_starts_the_transformer_where_it_has_one(site: Site) -> None:
    transform(site.model, trigger=CronTrigger("Nightly", "0 3 * * *"))
    site.bootstrap()
    site.merge_cleanly()

    dag = site.parse()[TRANSFORMER_DAG]

    assert (dag.schedule_interval if IS_AIRFLOW_2 else dag.schedule) == "0 3 * * *"


def test_pod_runs_the_transformers_job(site: Site) -> None:
    transform(site.model, credential=Credential("Code_Token", CredentialType.API_TOKEN))
    site.bootstrap()
    site.merge_cleanly()
    dags = site.parse()

    job = dags[TRANSFORMER_DAG].get_task("datatransformer_job")

    assert job.cmds == ["python", "-m", "datasurface.platforms.yellow.transformerjob"]
    assert " ".join(job.arguments) == (
        "--platform-name YellowLive --workspace-name Producer --operation run-datatransformer "
        "--working-folder /workspace/datatransformer "
        "--git-repo-path /cache/git-models --git-repo-owner acme --git-repo-name models "
        "--git-repo-branch main --git-platform-repo-credential-name git "
        "--use-git-cache --max-cache-age-minutes 5"
    )
    secrets = {
        variable.name: variable.value_from.secret_key_ref.name
        for variable in job.env_vars
        if variable.value_from
    }
    assert secrets["Code_Token_TOKEN"] == "code-token"
    assert {"postgres_USER", "postgres_PASSWORD", "git_TOKEN"} <= secrets.keys()
    assert {mount.mount_path for mount in job.volume_mounts} == {
        "/cache/git-models",
        "/workspace/datatransformer",
    }
    output = dags[OUTPUT_DAG].get_task("snapshot_merge_job")
    assert output.arguments[2:4] == ["--store-name", "Totals"]
    assert [mount.mount_path for mount in output.volume_mounts] == ["/cache/git-models"]


def test_kubernetes_takes_the_pods_of_transformers(transforming: Site) -> None:
    dags = transforming.parse()

    for dag_id in (TRANSFORMER_DAG, OUTPUT_DAG):
        for version in KUBERNETES_VERSIONS:
            kubernetes_validate.validate(pod_of(dags[dag_id]), version, strict=True)


@pytest.mark.slow
@pytest.mark.parametrize(("code", "handed_on"), [("0", "0"), ("-1", "-1"), ("", "")])
def test_result_of_the_transformers_job_is_handed_on(
    transforming: Site, cluster: Cluster, code: str, handed_on: str
) -> None:
    cluster.job_is(f"echo DATASURFACE_RESULT_CODE={code}" if code else "true")

    ti = run_job(transforming.parse()[TRANSFORMER_DAG], cluster)

    assert ti.xcoms["result_code"] == handed_on


def test_snapshot_serves_transformers_while_the_database_is_away(
    transforming: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {dag_id: DagSerialization.to_dict(dag) for dag_id, dag in transforming.parse().items()}
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.1")
    monkeypatch.setenv("DATASURFACE_POSTGRES_PORT", str(free_port()))

    during = transforming.parse()

    assert without_files(before) == without_files(
        {dag_id: DagSerialization.to_dict(dag) for dag_id, dag in during.items()}
    )
    assert list(transforming.parse(TRANSFORMER_DAG)) == [TRANSFORMER_DAG]


def without_files(forms: dict[str, Any]) -> str:
    """Return serialized DAGs as text, without the names of the modules that made them."""
    return "\n".join(
        line
        for line in json.dumps(forms, indent=1, sort_keys=True, default=str).splitlines()
        if "_task_module" not in line
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"started_by": "Store1"}, "started_by is 'Store1', not a list of at least one name"),
        ({"started_by": []}, "started_by is [], not a list of at least one name"),
        ({"schedule_string": "@daily"}, "it has both a schedule_string and started_by"),
        ({"workspace_name": None}, "workspace_name is not given"),
        ({"starts_others": "yes"}, "starts_others is 'yes', not true or false"),
        ({"ingestion_type": "magic"}, "ingestion_type is 'magic', not one this version knows"),
    ],
)
def test_bad_row_of_a_transformer_costs_only_its_own_stream(
    transforming: Site, change: dict[str, Any], reason: str
) -> None:
    transforming.sql(
        "UPDATE {table} SET config_json = (config_json::jsonb || %s::jsonb)::text "
        "WHERE stream_key = %s",
        (json.dumps(change), TRANSFORMER),
    )

    dags = transforming.parse()

    broken = {dag_id for dag_id, dag in dags.items() if "config-error" in dag.tags}
    assert broken == {TRANSFORMER_DAG}
    assert len(dags) == len(KEYS)
    assert reason in dags[TRANSFORMER_DAG].doc_md


def test_key_that_is_none_of_a_transformer_is_refused_for_one(transforming: Site) -> None:
    [(text,)] = transforming.sql(
        "SELECT config_json FROM {table} WHERE stream_key = %s", (TRANSFORMER,)
    )
    transforming.insert("Odd", json.dumps(json.loads(text) | {"stream_key": "Odd"}))

    odd = transforming.parse()["yellowlive__Odd_ingestion"]

    assert "its key does not end in _datatransformer" in odd.doc_md


def test_removed_transformer_keeps_its_dag_until_its_run_has_ended(
    transforming: Site,
) -> None:
    module = transforming.module()
    dags = module.build_draining_dags(module.BUILDER, {TRANSFORMER_DAG: TRANSFORMER})

    [dag] = dags.values()

    assert dag.get_task("datatransformer_job").ended
    assert "ending" in dag.tags


def test_task_of_a_transformer_builds_its_own_dag_alone(transforming: Site) -> None:
    assert list(transforming.parse(TRANSFORMER_DAG)) == [TRANSFORMER_DAG]
    assert list(transforming.parse(OUTPUT_DAG)) == [OUTPUT_DAG]


def test_disabled_transformer_has_no_dag(transforming: Site) -> None:
    transforming.sql("UPDATE {table} SET status = 'disabled' WHERE stream_key = %s", (TRANSFORMER,))

    # An Airflow 2 without a database does not say that the stream has no run.
    dags = {dag_id for dag_id, dag in transforming.parse().items() if "ending" not in dag.tags}
    assert TRANSFORMER_DAG not in dags
    assert OUTPUT_DAG in dags


def test_output_of_a_transformer_is_noted_as_one(transforming: Site) -> None:
    page = transforming.parse()[OUTPUT_DAG].doc_md

    assert f'"stream": "{OUTPUT}"' in page
    assert '"ingestion_type": "transformer_output"' in page
