"""The job's result on its way from the pod to the branch, over real HTTP."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from airflow_names import AirflowException
from conftest import Site
from pod_runs import (
    NAMESPACE,
    Cluster,
    TaskInstance,
    change,
    context_of,
    dag_of,
    job_of,
    run_job,
    why_the_job_failed,
)
from real_cluster import IS_REAL, START


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "result"),
    [
        (
            "echo DATASURFACE_RESULT_CODE=0; echo DATASURFACE_RESULT_CODE=-1; echo closing words",
            "-1",
        ),
        ("echo all quiet", ""),
        ("printf DATASURFACE_RESULT_CODE=1", "1"),
        ("head -c 1000000 /dev/zero | tr '\\0' x; echo; echo DATASURFACE_RESULT_CODE=1", "1"),
    ],
    ids=["the last of two", "none", "without the end of a line", "after a line of 1 MB"],
)
def test_result_is_read_from_the_pods_log(
    installed: Site,
    cluster: Cluster,
    script: str,
    result: str,
) -> None:
    cluster.job_is(script)

    ti = run_job(dag_of(installed), cluster)

    assert ti.xcoms["result_code"] == result


@pytest.mark.slow
def test_job_that_exits_non_zero_fails_its_task(installed: Site, cluster: Cluster) -> None:
    cluster.job_is("echo DATASURFACE_RESULT_CODE=0; exit 3")

    reason = why_the_job_failed(installed, cluster)

    assert reason == "its container ended with exit code 3 (Error)."


@pytest.mark.slow
def test_command_that_is_not_in_the_image_is_named(installed: Site, cluster: Cluster) -> None:
    job = job_of(dag_of(installed), cluster)
    job.cmds = ["no-such-command"]

    with pytest.raises(
        AirflowException, match=r'exit code 128 \(StartError: .*"no-such-command": '
    ):
        job.execute(context_of(job, TaskInstance(job)))


@pytest.mark.slow
@pytest.mark.localkube
@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (
            "OOMKilled",
            "its container ended with exit code 137 (OOMKilled). Raise its limit of memory: "
            "resources of RunSettings.",
        ),
        ("Evicted", "Evicted: The node was low on resource: memory."),
    ],
)
def test_killed_pod_fails_its_task_although_its_job_was_done(
    installed: Site, cluster: Cluster, how: str, reason: str
) -> None:
    cluster.job_is("echo DATASURFACE_RESULT_CODE=0; exec sleep 60")
    mark = {"metadata": {"annotations": {"localkube/fail-with": how}}}

    with cluster.once_a_pod_runs(
        lambda name: cluster.api.patch_namespaced_pod(name, NAMESPACE, mark)
    ):
        assert why_the_job_failed(installed, cluster) == reason


@pytest.mark.slow
@pytest.mark.parametrize("grace", [0, 30])
def test_pod_deleted_under_its_task_fails_it(installed: Site, cluster: Cluster, grace: int) -> None:
    cluster.job_is("echo DATASURFACE_RESULT_CODE=0; exec sleep 60")

    with cluster.once_a_pod_runs(
        lambda name: cluster.api.delete_namespaced_pod(name, NAMESPACE, grace_period_seconds=grace)
    ):
        reason = why_the_job_failed(installed, cluster)

    assert reason == "it was deleted before it ended."


@pytest.mark.slow
def test_image_that_cannot_be_pulled_fails_the_task_at_once(
    installed: Site, cluster: Cluster
) -> None:
    change(installed, datasurface_docker_image="no/such:image")

    reason = why_the_job_failed(installed, cluster)

    assert re.match("it could not start, (ErrImagePull|ImagePullBackOff): ", reason)
    assert "no/such:image" in reason
    assert "not found" in reason


@pytest.mark.slow
def test_secret_that_does_not_exist_fails_the_task(installed: Site, cluster: Cluster) -> None:
    change(installed, git_credential_secret_name="absent")
    job = job_of(dag_of(installed), cluster)
    job.startup_timeout_seconds = START

    with pytest.raises(AirflowException, match=r"CreateContainerConfigError: .*absent"):
        job.execute(context_of(job, TaskInstance(job)))

    cluster.wait_until_empty()


@pytest.mark.slow
def test_retry_takes_over_the_pod_that_still_runs(
    installed: Site, cluster: Cluster, tmp_path: Path
) -> None:
    jobs, go_on = tmp_path / "jobs", tmp_path / "go-on"
    cluster.job_is(
        f"echo started >> {jobs}; until [ -e {go_on} ]; do sleep 0.1; done;"
        "echo DATASURFACE_RESULT_CODE=1"
    )
    lost = job_of(dag_of(installed), cluster)
    context = context_of(lost, TaskInstance(lost))
    lost.get_or_create_pod(lost.build_pod_request_obj(context), context)
    job = job_of(dag_of(installed), cluster)
    ti = TaskInstance(job)
    ti.try_number = 2

    find = job.get_or_create_pod

    def find_and_go_on(*args: Any, **options: Any) -> Any:
        pod = find(*args, **options)
        go_on.touch()
        return pod

    vars(job)["get_or_create_pod"] = find_and_go_on
    job.execute(context_of(job, ti))

    assert ti.xcoms["result_code"] == "1"
    assert jobs.read_text() == "started\n"


@pytest.mark.slow
def test_retry_after_a_lost_pod_runs_the_job_anew(
    installed: Site, cluster: Cluster, tmp_path: Path
) -> None:
    jobs = tmp_path / "jobs"
    cluster.job_is(
        f"echo started >> {jobs}; [ $(wc -l < {jobs}) = 1 ] && exec sleep 60;"
        "echo DATASURFACE_RESULT_CODE=0"
    )
    with cluster.once_a_pod_runs(
        lambda name: cluster.api.delete_namespaced_pod(name, NAMESPACE, grace_period_seconds=0)
    ):
        why_the_job_failed(installed, cluster)

    ti = run_job(dag_of(installed), cluster)

    assert ti.xcoms["result_code"] == "0"
    assert jobs.read_text() == "started\nstarted\n"


@pytest.mark.slow
def test_job_sees_its_credentials_and_model_folder(
    installed: Site, cluster: Cluster, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    cluster.job_is(f'echo "$postgres_USER $git_TOKEN $DATASURFACE_PLATFORM_NAME $*" > {seen}')

    run_job(dag_of(installed), cluster)

    text = seen.read_text()
    assert text.startswith("u planted-token YellowLive -m datasurface.platforms.yellow.jobs")
    # Processes of this machine see the claim's own folder.
    claim = (
        "/cache/git-models"
        if IS_REAL
        else cluster.kube.volume_dir(NAMESPACE, "test-git-model-cache")
    )
    assert f"--git-repo-path {claim} " in text


@pytest.mark.slow
def test_no_value_of_the_model_is_expanded_into_a_secret(
    installed: Site, cluster: Cluster, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    branch = "$(postgres_PASSWORD)$$(git_TOKEN)$postgres_USER{{ conf }}"
    change(installed, git_repo_branch=branch)
    cluster.job_is(f'printf "%s\\n" "$@" > {seen}')

    run_job(dag_of(installed), cluster)

    assert branch in seen.read_text().splitlines()
