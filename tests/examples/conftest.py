"""What the tests of the examples share."""

from __future__ import annotations

from pathlib import Path

import pytest

from one_machine import Postgres


@pytest.fixture
def merge_store(postgres: Postgres, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Postgres:
    """The merge store that the examples name, empty."""
    postgres.execute("DROP DATABASE IF EXISTS datasurface_merge")
    postgres.create_database("datasurface_merge")
    monkeypatch.setenv("postgres_USER", postgres.user)
    monkeypatch.setenv("postgres_PASSWORD", postgres.password)
    monkeypatch.setenv("YELLOW_DYNAMIC_SNAPSHOT_DIR", str(tmp_path / "snapshots"))
    return postgres
