"""Each task in a worker of its own, as Airflow's KubernetesExecutor runs them.

The workers share no disk: each has an AIRFLOW_HOME and a copy of the factory file, which end with
it. The logs go to remote logging.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from one_machine import Postgres

from .installation import BUSY, NAMESPACE, Installation, dag_id

pytestmark = pytest.mark.scheduler

WORKER_IMAGE = "airflow/worker:latest"

#: The entry point of a worker's image: a home of its own, which is gone afterwards.
WORKER = """#!/bin/sh
shift # python
export AIRFLOW_HOME=$(mktemp -d {folder}/worker-XXXXXXXX)
export AIRFLOW__CORE__DAGS_FOLDER="$AIRFLOW_HOME/dags"
cp -r {dags} "$AIRFLOW_HOME/dags"
echo "$AIRFLOW_HOME" >> {folder}/workers
{python} "$@"
code=$?
rm -r "$AIRFLOW_HOME"
exit $code
"""


def installation_of_workers(postgres: Postgres, folder: Path) -> Installation:
    """Return an installation whose tasks run in pods."""
    logging = {
        "PYTHONPATH": str(Path(__file__).parent),
        "REMOTE_LOGS": str(folder / "remote-logs"),
        "AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS": "remote_logs.LOGGING_CONFIG",
    }
    template = folder / "worker.json"
    installation = Installation(
        postgres,
        folder,
        streams=(BUSY,),
        images={WORKER_IMAGE: folder / "worker-bin"},
        airflow_settings={
            "AIRFLOW__CORE__EXECUTOR": "KubernetesExecutor",
            "AIRFLOW__KUBERNETES_EXECUTOR__IN_CLUSTER": "False",
            "AIRFLOW__KUBERNETES_EXECUTOR__NAMESPACE": NAMESPACE,
            "AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE": str(template),
            **logging,
        },
    )
    environment = {
        **installation.parsing_environment,
        **logging,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{installation.airflow.address}/execution/",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    template.write_text(json.dumps(worker_pod(environment)))
    return installation


def worker_pod(environment: dict[str, str]) -> dict[str, object]:
    """Return the pod from which the executor makes that of each task."""
    variables = [{"name": name, "value": value} for name, value in environment.items()]
    container = {"name": "base", "image": WORKER_IMAGE, "command": ["worker"], "env": variables}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "worker"},
        "spec": {"containers": [container], "restartPolicy": "Never"},
    }


def test_result_finds_its_way_between_workers_that_share_no_disk(
    postgres: Postgres, tmp_path: Path
) -> None:
    folder = tmp_path / "executor"
    folder.mkdir()
    installation = installation_of_workers(postgres, folder)
    worker = folder / "worker-bin" / "worker"
    worker.parent.mkdir()
    worker.write_text(WORKER.format(folder=folder, dags=installation.dags, python=sys.executable))
    worker.chmod(0o755)

    with installation.running():
        more, *_, done = installation.ended(BUSY, at_least=3)[:3]

        assert installation.states(more)["reschedule_immediately"] == "success"
        assert installation.states(done)["wait_for_trigger"] == "success"
        log = installation.log(more, "snapshot_merge_job")
        assert "DATASURFACE_RESULT_CODE=1" in log
    workers = (folder / "workers").read_text().split()
    # The empty task at the end needs no worker.
    assert len(workers) == len(set(workers)) >= 8
    assert not list((folder / "airflow" / "logs").glob(f"dag_id={dag_id(BUSY)}/**/*.log"))
