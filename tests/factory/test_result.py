"""The job's result on its way from the pod to the branch, over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException
from conftest import Site

from one_machine import LocalKube

IMAGE = "datasurface/datasurface:latest"
DAG_ID = "yellowlive__Store1_ingestion"


class Cluster:
    """A Kubernetes API whose one image runs a script that the test gives."""

    def __init__(self, bin_dir: Path, kube: LocalKube) -> None:
        self.bin_dir = bin_dir
        self.kube = kube

    def job_is(self, script: str) -> None:
        """Let `python` in the image be this shell script."""
        python = self.bin_dir / "python"
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("kube")
    (folder / "bin").mkdir()
    with LocalKube(folder / "state", {IMAGE: folder / "bin"}, {}) as kube:
        for name, data in {
            "postgres": {"POSTGRES_USER": "u", "POSTGRES_PASSWORD": "planted-secret"},
            "git": {"token": "planted-token"},
        }.items():
            kube.create_secret("ns-test", name, data)
        yield Cluster(folder / "bin", kube)


class TaskInstance:
    """What the operator asks of a task instance when no Airflow runs it."""

    def __init__(self, task: Any) -> None:
        self.xcoms: dict[str, Any] = {}
        self.dag_id, self.task_id, self.run_id = DAG_ID, task.task_id, "manual__1"
        self.try_number, self.map_index = 1, -1

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value


def run_job(site: Site, cluster: Cluster) -> TaskInstance:
    job = site.parse()[DAG_ID].get_task("snapshot_merge_job")
    # KUBECONFIG would do, but the client reads it only once, when it is first imported.
    job.config_file = str(cluster.kube.kubeconfig)
    ti = TaskInstance(job)
    job.execute({"ti": ti, "task_instance": ti, "dag": job.dag, "run_id": ti.run_id})
    return ti


@pytest.mark.slow
@pytest.mark.parametrize(
    ("output", "result"),
    [
        ("DATASURFACE_RESULT_CODE=1", "1"),
        ("DATASURFACE_RESULT_CODE=0\nsome closing words", "0"),
        ("DATASURFACE_RESULT_CODE=0\nDATASURFACE_RESULT_CODE=-1", "-1"),
        ("DATASURFACE_RESULT_CODE=banana", "banana"),
        ("all quiet", None),
    ],
    ids=["one", "not the last line", "the last of two", "garbage", "none"],
)
def test_result_is_read_from_the_pods_log(
    installed: Site,
    cluster: Cluster,
    output: str,
    result: str | None,
) -> None:
    cluster.job_is(f"cat <<'END'\n{output}\nEND")

    ti = run_job(installed, cluster)

    assert ti.xcoms["result_code"] == result


@pytest.mark.slow
def test_job_that_exits_non_zero_fails_its_task(installed: Site, cluster: Cluster) -> None:
    cluster.job_is("echo DATASURFACE_RESULT_CODE=-1; exit 1")

    with pytest.raises(AirflowException, match="returned a failure"):
        run_job(installed, cluster)


@pytest.mark.slow
def test_job_sees_its_credentials_and_model_folder(
    installed: Site, cluster: Cluster, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    cluster.job_is(f'echo "$postgres_USER $git_TOKEN $DATASURFACE_PLATFORM_NAME $*" > {seen}')

    run_job(installed, cluster)

    text = seen.read_text()
    assert text.startswith("u planted-token YellowLive -m datasurface.platforms.yellow.jobs")
    claim = cluster.kube.volume_dir("ns-test", "test-git-model-cache")
    assert f"--git-repo-path {claim} " in text


@pytest.mark.slow
def test_no_value_of_the_model_is_expanded_into_a_secret(
    installed: Site, cluster: Cluster, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    branch = "$(postgres_PASSWORD)$$(git_TOKEN)$postgres_USER{{ conf }}"
    installed.sql(
        "UPDATE {table} SET config_json = (config_json::jsonb || %s::jsonb)::text",
        (json.dumps({"git_repo_branch": branch}),),
    )
    cluster.job_is(f'printf "%s\\n" "$@" > {seen}')

    run_job(installed, cluster)

    assert branch in seen.read_text().splitlines()
