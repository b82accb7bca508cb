"""What the tests of the factory's modules share; nothing here starts a server or renders a file."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from yellow_dynamic.factory import rules
from yellow_dynamic.factory.database import Row
from yellow_dynamic.factory.platform import Platform

SETTINGS: dict[str, Any] = {
    "batch_counter_table": "yellowlive_batch_counter",
    "batch_metrics_table": "yellowlive_batch_metrics",
    "config_table": "yellowlive_airflow_dsg",
    "datasurface_docker_image": "datasurface/datasurface:1",
    "ecosystem_k8s_name": "test",
    "factory_shards": 1,
    "git_cache_enabled": False,
    "git_credential_name": "Git_Cred",
    "git_credential_secret_name": "git-cred",
    "git_repo_branch": "main",
    "git_repo_url": "https://github.com/acme/models",
    "namespace_name": "ns-test",
    "original_platform_name": "YellowLive",
    "platform_name": "yellowlive",
    "plugin_version": "0.0.0",
    "postgres_credential_name": "Merge_Cred",
    "postgres_credential_secret_name": "merge-cred",
    "postgres_database": "merge",
    "postgres_hostname": "db.example",
    "postgres_port": 5432,
}


def config(key: str, **changes: Any) -> dict[str, Any]:
    """Return a valid configuration of a stream without what its platform has too."""
    return {
        "stream_key": key,
        "store_name": key,
        "datasets": ["people"],
        "single_dataset": False,
        "ingestion_type": "sql_snapshot",
        "schedule_string": "@hourly",
        **changes,
    }


def row(key: str, **changes: Any) -> Row:
    """Return the row of an active stream."""
    return Row(key, json.dumps(config(key, **changes)), "active", "2026-01-02T03:04:05")


@pytest.fixture(autouse=True)
def empty_caches() -> None:
    """Let no test get from a cache what another one has put there."""
    for cached in (rules.find_text_problem, rules.cron_problem):
        cached.cache_clear()


@pytest.fixture
def platform(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """A platform whose factory file is in a folder of its own, as are its snapshots."""
    monkeypatch.setenv("YELLOW_DYNAMIC_SNAPSHOT_DIR", str(tmp_path / "snapshots"))
    return Platform(dict(SETTINGS), str(tmp_path / "yellowlive_factory_dag.py"))


@pytest.fixture
def clock(mocker: MockerFixture) -> SimpleNamespace:
    """The time, which passes only while something sleeps."""
    now = SimpleNamespace(time=0.0)

    def sleep(seconds: float) -> None:
        now.time += seconds

    mocker.patch("time.sleep", sleep)
    mocker.patch("time.monotonic", lambda: now.time)
    return now
