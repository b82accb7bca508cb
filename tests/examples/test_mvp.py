"""The MVP example through the two commands, as a user types them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from conftest import import_file, registered_dags
from merge_command import commands_python, shows_no_traceback
from yellow_models import PROVIDERS_BOOTSTRAP

from one_machine import Postgres

MODEL = Path(__file__).parents[2] / "examples" / "mvp"
PLATFORMS = ("YellowLive", "YellowForensic")

pytestmark = pytest.mark.skipif(
    PROVIDERS_BOOTSTRAP, reason="the example is for DataSurface 0.0.36 to 0.0.38"
)

PLANNED_CONFIG = {
    "stream_key": "Store1",
    "single_dataset": False,
    "datasets": ["customers", "addresses"],
    "store_name": "Store1",
    "ingestion_type": "sql_snapshot",
    "namespace_name": "ns-kub-pg-test",
    "platform_name": "yellowlive",
    "original_platform_name": "YellowLive",
    "postgres_hostname": "pg-data.ns-kub-pg-test.svc.cluster.local",
    "postgres_database": "datasurface_merge",
    "postgres_port": 5432,
    "postgres_credential_secret_name": "postgres",
    "git_credential_secret_name": "git",
    "slack_credential_secret_name": "slack",
    "datasurface_docker_image": "registry.example.org/datasurface:1",
    "git_repo_url": "https://github.com/billynewport/mvpmodel",
    "git_repo_branch": "main",
    "source_credential_secret_name": "postgres",
}


def datasurface(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of DataSurface's commands."""
    return subprocess.run(
        [commands_python(), "-m", "datasurface.cmd.platform", command, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )


def bootstrap(output: Path, ring: int) -> None:
    done = datasurface(
        "generatePlatformBootstrap", f"--ringLevel={ring}", f"--model={MODEL}",
        f"--output={output}", "--platform", *PLATFORMS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def merge(output: Path, model: Path = MODEL) -> subprocess.CompletedProcess[str]:
    return datasurface(
        "handleModelMerge", f"--model={model}", f"--output={output}", "--platform", *PLATFORMS
    )


def test_two_commands_give_the_plans_files_rows_and_dags(
    merge_store: Postgres, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    bootstrap(output, 0)
    bootstrap(output, 1)
    done = merge(output)
    assert done.returncode == 0, done.stderr

    for platform in PLATFORMS:
        files = {path.name for path in (output / platform).iterdir()}
        name = platform.lower()
        # A real DataSurface renders more, which stays.
        assert {
            "kubernetes-bootstrap.yaml",
            f"{name}_infrastructure_dag.py",
            f"{name}_factory_dag.py",
            f"{name}-airflow-values.yaml",
            f"{name}-airflow-patch.yaml",
            f"{name}-airflow-reader.sql",
            f"{name}-bootstrap-job.yaml",
            f"{name}_model_merge_job.yaml",
            f"{name}_reconcile_views_job.yaml",
            f"{platform}-secrets.md",
            "terraform_code",
        } <= files
        assert not [file for file in files if file.endswith("_ingestion.py")]
        dags = registered_dags(import_file(output / platform / f"{name}_factory_dag.py"))
        assert list(dags) == [f"{name}__Store1_ingestion"]
        assert dags[f"{name}__Store1_ingestion"].schedule == "* * * * *"

    [(key, status, text)] = merge_store.execute(
        "SELECT stream_key, status, config_json FROM yellowlive_airflow_dsg",
        database="datasurface_merge",
    )
    assert (key, status) == ("Store1", "active")
    config = json.loads(text)
    assert {name: config.pop(name) for name in PLANNED_CONFIG} == PLANNED_CONFIG
    assert config == {
        "schedule_string": "* * * * *",
        "git_cache_enabled": True,
        "git_cache_storage_class": "standard",
        "git_cache_access_mode": "ReadWriteOnce",
        "git_cache_storage_size": "5Gi",
        "git_cache_max_age_minutes": 5,
    }


def test_merge_without_a_database_says_so_and_exits_non_zero(
    merge_store: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOSTADDR", "127.77.77.77")
    monkeypatch.setenv("postgres_PASSWORD", "planted-password")

    done = merge(tmp_path / "output")

    assert done.returncode == 1
    assert "pg-data.ns-kub-pg-test.svc.cluster.local" in done.stderr
    assert "datasurface_merge" in done.stderr
    assert shows_no_traceback(done)
    assert "planted-password" not in done.stdout + done.stderr
    assert not list((tmp_path / "output").rglob("*.*"))


def test_merge_without_a_login_names_the_credential(
    merge_store: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("postgres_PASSWORD")

    done = merge(tmp_path / "output")

    assert done.returncode == 1
    assert "postgres" in done.stderr
    assert shows_no_traceback(done)


def test_merge_before_bootstrap_says_which_command_is_missing(
    merge_store: Postgres, tmp_path: Path
) -> None:
    done = merge(tmp_path / "output")

    assert done.returncode == 1
    assert "--ringLevel 1" in done.stderr
    assert shows_no_traceback(done)
