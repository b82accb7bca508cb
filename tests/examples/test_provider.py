"""The example for DataSurface 0.0.56 and 0.0.57, by the commands of its README."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import import_file, registered_dags
from yellow_models import PROVIDERS_BOOTSTRAP

from one_machine import Postgres

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "provider"

pytestmark = pytest.mark.skipif(
    not PROVIDERS_BOOTSTRAP, reason="needs DATASURFACE_SRC with DataSurface 0.0.56 or 0.0.57"
)


def commands() -> list[list[str]]:
    """Return the commands of the README."""
    [block] = re.findall(r"```sh\n(.*?)```", (EXAMPLE / "README.md").read_text(), re.DOTALL)
    lines = block.replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines]


def test_commands_of_its_readme_give_the_dags_of_both_platforms(
    merge_store: Postgres, tmp_path: Path
) -> None:
    for command in commands():
        words = [{"generated": str(tmp_path), "examples/provider": str(EXAMPLE)}.get(w, w)
                 for w in command]  # fmt: skip
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    files = tmp_path / "Test_DP"
    dags = [
        dag.dag_id
        for file in sorted(files.glob("*_factory_dag.py"))
        for dag in registered_dags(import_file(file)).values()
    ]
    assert dags == ["yellowforensic__Store1_ingestion", "yellowlive__Store1_ingestion"]
    assert merge_store.execute(
        "SELECT stream_key FROM yellowforensic_airflow_dsg", database="datasurface_merge"
    ) == [("Store1",)]
    assert {"test_dp_infrastructure_dag.py", "test_dp_model_merge_job.yaml"} <= {
        file.name for file in files.iterdir()
    }
