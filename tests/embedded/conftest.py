"""Fixtures for the tests of the ingestion job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from job_site import JobSite, job_logging_undone
from psycopg2 import sql

from one_machine import Postgres


@pytest.fixture
def site(
    postgres: Postgres,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[JobSite]:
    """A source with an empty table `people`, and a live-only model of it."""
    made = JobSite(postgres, tmp_path, monkeypatch, capsys)
    made.source("CREATE TABLE people (id int PRIMARY KEY, name varchar(100))")
    made.write_model()
    with job_logging_undone():
        yield made
    for database in made.databases:
        postgres.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))
