"""An installation whose DAG folder Airflow 3 takes from git, commit by commit."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from processors import IS_AIRFLOW_2

from one_machine import NotYetError, Postgres, wait_until

from .installation import Installation, dag_id

pytestmark = [
    pytest.mark.scheduler,
    pytest.mark.skipif(IS_AIRFLOW_2, reason="Airflow 2 has no DAG bundles"),
]

LONG, OTHER = "Parcels", "Letters"
#: Longer than the test needs to commit, and Airflow to follow.
JOB = """#!/bin/sh
while [ "$1" != --store-name ]; do shift; done
until [ -e {state}/committed ]; do sleep 0.2; done
echo "DATASURFACE_RESULT_CODE=0"
"""


class InGit(Installation):
    """An installation whose DAG folder is a checkout that Airflow clones."""

    def __init__(self, postgres: Postgres, folder: Path) -> None:
        bundle = {
            "name": "from_git",
            "classpath": "airflow.providers.git.bundles.git.GitDagBundle",
            "kwargs": {
                "repo_url": str(folder / "airflow" / "dags"),
                "tracking_ref": "main",
                "refresh_interval": 1,
            },
        }
        super().__init__(
            postgres,
            folder,
            (LONG, OTHER),
            job=JOB,
            triggers=dict.fromkeys((LONG, OTHER), "ExternallyTriggered('By hand')"),
            airflow_settings={
                "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
                "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(folder / "bundles"),
            },
        )

    def install(self) -> None:
        super().install()
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=What bootstrap wrote")

    def git(self, *command: str) -> str:
        author = ("-c", "user.name=Operator", "-c", "user.email=operator@localhost")
        done = subprocess.run(
            ["git", *author, *command], cwd=self.dags, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def files(self) -> dict[str, str]:
        """Return the file of each DAG, as Airflow has it."""
        found = self.airflow.get("dags")["dags"]
        return {dag["dag_id"]: Path(dag["relative_fileloc"]).name for dag in found}


@pytest.fixture
def in_git(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InGit]:
    whole = InGit(postgres, tmp_path_factory.mktemp("in_git"))
    with whole.running():
        yield whole


def test_run_goes_on_when_a_commit_moves_its_stream_to_another_factory_file(in_git: InGit) -> None:
    before = in_git.files()
    runs = {stream: in_git.airflow.trigger(dag_id(stream)) for stream in (LONG, OTHER)}
    for stream in runs:
        in_git.pod_of(stream)
    first = in_git.git("rev-parse", "HEAD")

    in_git.model.platformArguments["factoryShards"] = 2
    in_git.install()
    assert in_git.git("rev-parse", "HEAD") != first

    def moved() -> None:
        if len(set(in_git.files().values())) == 1:
            raise NotYetError("All DAGs are in one file.")

    wait_until(moved, seconds=120)
    assert in_git.files() != before
    (in_git.jobs / "committed").touch()

    for stream in runs:
        [run] = in_git.ended(stream)
        assert run["state"] == "success", in_git.log(run, "check_result")
