"""What the factory file makes of a good row."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow_names import AirflowFailException, check_as_airflow_does, schedule_of
from conftest import Site
from yellow_models import IMAGE, SINGLE, Store, login_keys

from datasurface.md import Credential, ExternallyTriggered
from datasurface.md.credential import CredentialType

DAG_ID = "yellowlive__Store1_ingestion"


def environment_of(dag: Any) -> dict[str, str | tuple[str, str]]:
    """Return the pod's variables: a plain value, or the secret and the key it comes from."""
    variables = dag.get_task("snapshot_merge_job").env_vars
    return {
        variable.name: variable.value
        or (variable.value_from.secret_key_ref.name, variable.value_from.secret_key_ref.key)
        for variable in variables
    }


def test_active_row_becomes_the_plans_dag(installed: Site) -> None:
    dags = installed.parse()

    assert list(dags) == [DAG_ID]
    dag = dags[DAG_ID]
    assert (dag.catchup, dag.max_active_runs, dag.is_paused_upon_creation) == (False, 1, None)
    assert set(dag.tags) == {"datasurface", "ingestion", "yellowlive", "Store1"}
    downstream = {task.task_id: set(task.downstream_task_ids) for task in dag.tasks}
    assert downstream == {
        "snapshot_merge_job": {"check_result"},
        "check_result": {"reschedule_immediately", "wait_for_trigger"},
        "reschedule_immediately": set(),
        "wait_for_trigger": set(),
    }
    assert dag.get_task("reschedule_immediately").trigger_dag_id == DAG_ID


def test_pod_runs_the_job_of_the_stream(installed: Site) -> None:
    job = installed.parse()[DAG_ID].get_task("snapshot_merge_job")

    assert job.cmds == ["python", "-m", "datasurface.platforms.yellow.jobs"]
    assert " ".join(job.arguments) == (
        "--platform-name YellowLive --store-name Store1 --operation snapshot-merge "
        "--git-repo-path /cache/git-models --git-repo-owner acme --git-repo-name models "
        "--git-repo-branch main --git-platform-repo-credential-name git "
        "--use-git-cache --max-cache-age-minutes 5"
    )
    assert (job.namespace, job.image) == ("ns-test", IMAGE)
    assert job.volumes[0].persistent_volume_claim.claim_name == "test-git-model-cache"
    assert job.volume_mounts[0].mount_path == "/cache/git-models"


def test_single_dataset_stream_names_its_dataset(site: Site) -> None:
    site.model.stores = [Store("S", ["a", "b"], SINGLE)]
    site.bootstrap()
    site.merge_cleanly()

    dags = site.parse()

    assert list(dags) == ["yellowlive__S_a_ingestion", "yellowlive__S_b_ingestion"]
    arguments = dags["yellowlive__S_b_ingestion"].get_task("snapshot_merge_job").arguments
    assert arguments[-2:] == ["--dataset-name", "b"]


def test_variables_carry_the_credentials_own_names_and_secrets_the_kubernetes_ones(
    site: Site,
) -> None:
    site.model.postgresCredential = "Merge_Cred"
    site.model.gitCredential = "git_cred"
    site.model.stores = [Store("Store1", credential="Source_Cred")]
    site.model.platformArguments = {
        "slackCredential": Credential("Slack_Cred", CredentialType.API_TOKEN),
        "slackChannel": "#alerts",
    }
    site.login(site.postgres.user, site.postgres.password)
    site.bootstrap()
    site.merge_cleanly()

    assert environment_of(site.parse()[DAG_ID]) == {
        "DATASURFACE_PLATFORM_NAME": "YellowLive",
        "DATASURFACE_NAMESPACE": "ns-test",
        "DATASURFACE_SLACK_CHANNEL": "#alerts",
        "Merge_Cred_USER": ("merge-cred", login_keys("merge-cred")[0]),
        "Merge_Cred_PASSWORD": ("merge-cred", login_keys("merge-cred")[1]),
        "git_cred_TOKEN": ("git-cred", "token"),
        "Slack_Cred_TOKEN": ("slack-cred", "token"),
        "Source_Cred_USER": ("source-cred", login_keys("source-cred")[0]),
        "Source_Cred_PASSWORD": ("source-cred", login_keys("source-cred")[1]),
    }


def test_a_credential_that_serves_twice_is_given_once(installed: Site) -> None:
    variables = installed.parse()[DAG_ID].get_task("snapshot_merge_job").env_vars

    names = [variable.name for variable in variables]
    assert len(names) == len(set(names))
    assert "postgres_USER" in names
    assert not [name for name in names if name.startswith("_")]


@pytest.mark.embedded
def test_kafka_stream_gets_the_connect_credentials(site: Site) -> None:
    site.model.stores = [Store("K", ["t"], SINGLE, kafka=True)]
    site.bootstrap()
    site.merge_cleanly()

    variables = environment_of(site.parse()["yellowlive__K_t_ingestion"])

    assert variables["connect_API_KEY"] == ("connect", "api_key")
    assert variables["connect_API_SECRET"] == ("connect", "api_secret")


@pytest.mark.parametrize(
    ("trigger", "schedule"),
    [(None, "@hourly"), (ExternallyTriggered("By hand"), None)],
    ids=["no trigger", "external trigger"],
)
def test_schedule_without_a_cron(site: Site, trigger: Any, schedule: str | None) -> None:
    config = '"schedule_string": null' if schedule is None else None
    site.model.stores = [Store("Store1", trigger=trigger or ExternallyTriggered("By hand"))]
    site.bootstrap()
    site.merge_cleanly()
    if config is None:
        # DataSurface refuses a SQL snapshot without a trigger; rows of old releases have no key.
        site.sql("UPDATE {table} SET config_json = (config_json::jsonb - 'schedule_string')::text")

    assert schedule_of(site.parse()[DAG_ID]) == schedule


def change_row(site: Site, **changes: Any) -> None:
    """Overlay the configuration of the one row, by hand."""
    site.sql(
        "UPDATE {table} SET config_json = (config_json::jsonb || %s::jsonb)::text",
        (json.dumps(changes),),
    )


@pytest.mark.parametrize(
    ("text", "schedule"),
    [("None", None), ("", None), ("@quarterly", "@quarterly"), ("@once", "@once")],
)
def test_schedule_of_a_row_written_by_hand(
    installed: Site, text: str, schedule: str | None
) -> None:
    change_row(installed, schedule_string=text)

    dag = installed.parse()[DAG_ID]

    assert "config-error" not in dag.tags
    assert schedule_of(dag) == schedule
    check_as_airflow_does(dag)


@pytest.mark.parametrize("branch", ["{{ 7 * 7 }}", "{% raw %}", "release.yaml", "release.json"])
def test_no_value_is_a_template_or_a_template_file(installed: Site, branch: str) -> None:
    change_row(installed, git_repo_branch=branch)
    dag = installed.parse()[DAG_ID]
    dag.resolve_template_files()
    job = dag.get_task("snapshot_merge_job")

    job.render_template_fields({})

    assert branch in job.arguments


def test_without_git_cache_nothing_is_mounted(site: Site) -> None:
    site.model.providerArguments = {"git_cache_enabled": False}
    site.bootstrap()
    site.merge_cleanly()

    job = site.parse()[DAG_ID].get_task("snapshot_merge_job")

    assert (job.volumes, job.volume_mounts) == ([], [])
    assert "--use-git-cache" not in job.arguments


def test_row_wins_over_the_rendered_settings(installed: Site) -> None:
    installed.model.providerArguments = {"datasurfaceDockerImage": "datasurface/datasurface:2"}
    installed.model.branch = "release"
    installed.merge_cleanly()

    job = installed.parse()[DAG_ID].get_task("snapshot_merge_job")

    assert job.image == "datasurface/datasurface:2"
    assert "release" in job.arguments


def test_documentation_shows_configuration_revision_and_time(installed: Site) -> None:
    before = installed.parse()[DAG_ID].doc_md
    installed.model.branch = "other"
    installed.merge_cleanly()

    after = installed.parse()[DAG_ID].doc_md

    assert '"git_repo_branch": "main"' in before
    assert '"git_repo_branch": "other"' in after
    assert before.split("Revision `")[1][:12] != after.split("Revision `")[1][:12]


def test_disabled_stream_has_no_dag_and_stays_disabled_after_a_merge(installed: Site) -> None:
    def in_service() -> list[str]:
        # An Airflow 2 without a database does not say that the stream has no run.
        return [dag_id for dag_id, dag in installed.parse().items() if "ending" not in dag.tags]

    installed.sql("UPDATE {table} SET status = 'disabled'")
    assert in_service() == []

    installed.model.branch = "other"
    installed.merge_cleanly()

    assert in_service() == []


class Context:
    """The part of a task instance that the branch uses."""

    def __init__(self, code: str | None, error: str | None = None) -> None:
        self.handed_on = {"result_code": code, "job_error": error}
        self.xcoms: dict[str, str] = {}

    def xcom_pull(self, *, task_ids: str, key: str) -> str | None:
        assert task_ids == "snapshot_merge_job"
        return self.handed_on[key]

    def xcom_push(self, key: str, value: str) -> None:
        self.xcoms[key] = value


@pytest.mark.parametrize(
    ("code", "task"), [("1", "reschedule_immediately"), ("0", "wait_for_trigger")]
)
def test_result_code_chooses_the_next_task(installed: Site, code: str, task: str) -> None:
    assert next_task(installed, code) == task


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("-1", "reported an error"),
        ("", "printed no line"),
        ("7", "unknown result"),
        ("x y", "='x y'"),
        ("unreadable: 500 oh", r"ended well, but its log cannot be read \(500 oh\)"),
    ],
)
def test_any_other_result_fails_the_run_with_the_reason(
    installed: Site, code: str, reason: str
) -> None:
    with pytest.raises(AirflowFailException, match=reason):
        next_task(installed, code)


def test_failed_run_keeps_what_its_job_said_for_the_command(installed: Site) -> None:
    [dag] = installed.parse().values()
    ti = Context("-1", "OperationalError: password authentication failed.")

    with pytest.raises(AirflowFailException) as failure:
        dag.get_task("check_result").python_callable(ti=ti, dag=dag)

    assert str(failure.value) == ti.xcoms["failure"]
    assert ti.xcoms["failure"] == (
        "The job reported an error (DATASURFACE_RESULT_CODE=-1): OperationalError: password "
        "authentication failed. Its output is in the log of task snapshot_merge_job."
    )


def test_job_that_was_marked_as_success_by_hand_ends_its_run_and_is_named(
    installed: Site, caplog: pytest.LogCaptureFixture
) -> None:
    assert next_task(installed, None) == "wait_for_trigger"
    assert "marked as success by hand" in caplog.text


def test_stream_of_the_name_of_a_tag_goes_on_as_any_other(site: Site) -> None:
    site.model.stores = [Store("ending")]
    site.bootstrap()
    site.merge_cleanly()

    assert next_task(site, "1") == "reschedule_immediately"


def next_task(site: Site, code: str | None) -> str:
    """Return which task follows a result, as the DAG's own branch says."""
    [dag] = site.parse().values()
    branch = dag.get_task("check_result").python_callable
    return str(branch(ti=Context(code), dag=dag))


def test_streams_have_no_task_or_dependency_in_common(site: Site) -> None:
    site.model.stores = [Store("One"), Store("Two")]
    site.bootstrap()
    site.merge_cleanly()

    one, two = site.parse().values()

    for task in one.tasks:
        other = two.get_task(task.task_id)
        assert task.dag is one
        assert other.dag is two
        assert task.upstream_task_ids is not other.upstream_task_ids
        assert task.downstream_task_ids is not other.downstream_task_ids
    arguments = [dag.get_task("snapshot_merge_job").arguments for dag in (one, two)]
    assert [("One" in each, "Two" in each) for each in arguments] == [(True, False), (False, True)]
    again = [dag.get_task("reschedule_immediately").trigger_dag_id for dag in (one, two)]
    assert again == [one.dag_id, two.dag_id]
