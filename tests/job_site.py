"""A source, a merge store and a model on disk, for the tests of the ingestion job."""

from __future__ import annotations

import itertools
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from psycopg2 import sql

from datasurface.platforms.yellow import jobs
from datasurface.platforms.yellow.logging_utils import JsonHandler, set_context
from one_machine import Postgres

ID = {"name": "id", "type": ["Integer"], "key": True}
NAME = {"name": "name", "type": ["VarChar", 100]}

MODEL = Path(__file__).parent / "embedded" / "job_model" / "eco.py"

_numbers = itertools.count(1)


class JobSite:
    """A stream's source database and merge store, and the model that the job reads.

    Change `spec`, then call `write_model` to give the job another model.
    """

    def __init__(
        self,
        postgres: Postgres,
        folder: Path,
        environment: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        number = next(_numbers)
        self.postgres = postgres
        self.folder = folder
        self.environment = environment
        self._capsys = capsys
        self.spec: dict[str, Any] = {
            "platform": "YellowLive",
            "strategy": "live_only",
            "store": "Store1",
            "consistency": "MULTI_DATASET",
            "datasets": {"people": [ID, NAME]},
            "tables": {},
            "kafka": False,
            "source": f"job_source_{number}",
            "merge": f"job_merge_{number}",
        }
        self.databases = (self.spec["source"], self.spec["merge"])
        for database in self.databases:
            postgres.create_database(database)
        for credential in ("merge_login", "source_login"):
            self.login(credential, postgres.user, postgres.password)
        self.assigned = True

    def login(self, credential: str, user: str, password: str) -> None:
        """Set what the job finds for a credential."""
        self.environment.setenv(f"{credential}_USER", user)
        self.environment.setenv(f"{credential}_PASSWORD", password)

    def write_model(self, **changes: Any) -> None:
        """Write the model, after changing entries of its `spec`."""
        self.spec.update(changes)
        shutil.copy(MODEL, self.folder)
        (self.folder / "model.json").write_text(json.dumps(self.spec))
        assignment = {
            "dataPlatform": self.spec["platform"],
            "documentation": "All of it",
            "productionStatus": "PRODUCTION",
            "deprecationsAllowed": "NEVER",
            "status": "PROVISIONED",
        }
        group = {"dsgName": "DSG", "workspace": "Consumer", "assignments": [assignment]}
        mapping = self.folder / "dsg_platform_mapping.json"
        mapping.write_text(json.dumps([group] if self.assigned else []))

    def arguments(self, *, dataset: str | None = None, **changes: str) -> list[str]:
        """Return the command line that a pod of this stream gets."""
        flags = {
            "platform_name": self.spec["platform"],
            "store_name": self.spec["store"],
            "git_repo_path": str(self.folder),
            "git_repo_owner": "acme",
            "git_repo_name": "models",
            "git_repo_branch": "main",
            "git_platform_repo_credential_name": "git",
            **({"dataset_name": dataset} if dataset else {}),
            **changes,
        }
        pairs = [(f"--{name.replace('_', '-')}", value) for name, value in flags.items()]
        return [part for pair in pairs for part in pair]

    def run(self, *, dataset: str | None = None, **changes: str) -> int:
        """Run the job in this process and return the code of its last line of output."""
        self._capsys.readouterr()
        returned = jobs.main(self.arguments(dataset=dataset, **changes))
        printed = self._capsys.readouterr()
        self.log = log_entries(printed.err)
        self.error_output = printed.err
        last = printed.out.splitlines()[-1]
        assert last == f"DATASURFACE_RESULT_CODE={returned}"
        return returned

    def cycle(self, dataset: str | None = None) -> None:
        """Ingest a batch and merge it."""
        assert self.run(dataset=dataset) == 1, self.error_output
        assert self.run(dataset=dataset) == 0, self.error_output

    def failure(self, *, dataset: str | None = None, **changes: str) -> str:
        """Run a job that has to fail, and return the one line with its reason."""
        assert self.run(dataset=dataset, **changes) == -1
        errors = [entry for entry in self.log if entry["level"] == "ERROR"]
        assert len(errors) == 1
        assert "exception" not in errors[0]
        assert "\n" not in errors[0]["message"]
        return str(errors[0]["message"])

    def start(self, dataset: str | None = None) -> subprocess.Popen[str]:
        """Start the job as the process that a pod runs."""
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "datasurface.platforms.yellow.jobs",
                *self.arguments(dataset=dataset),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def source(self, statement: str | sql.Composable, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement in the source."""
        return self.postgres.execute(statement, values, database=self.spec["source"])

    def merge(self, statement: str | sql.Composable, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement in the merge store."""
        return self.postgres.execute(statement, values, database=self.spec["merge"])

    def table(self, dataset: str, purpose: str = "merge") -> str:
        """Return the name of one of a dataset's tables in the merge store."""
        return f"{self.spec['platform']}_{self.spec['store']}_{dataset}_{purpose}".lower()

    def content(self, dataset: str = "people", where: str = "true") -> list[tuple[Any, ...]]:
        """Return a merge table's rows in the model's columns, sorted."""
        return self._rows("merge", self.table(dataset), dataset, where)

    def live_equals_source(self, dataset: str = "people") -> bool:
        """Tell whether merge table and source table hold the same, by a hash of everything."""
        live = "ds_surf_batch_out = 2147483647"
        where = live if self.spec["strategy"] == "batch_milestoned" else "true"
        source = self.spec["tables"].get(dataset, dataset)
        return self._hash("source", source, dataset) == self._hash(
            "merge", self.table(dataset), dataset, where
        )

    def batches(self) -> list[tuple[Any, ...]]:
        """Return key, id and status of every batch, in order."""
        table = f"{self.spec['platform']}_batch_metrics".lower()
        return self.merge(
            sql.SQL("SELECT key, batch_id, batch_status FROM {} ORDER BY 1, 2").format(
                sql.Identifier(table)
            )
        )

    def counts(self) -> tuple[Any, ...]:
        """Return inserted, updated, deleted and total of the last batch."""
        table = f"{self.spec['platform']}_batch_metrics".lower()
        return self.merge(
            sql.SQL(
                "SELECT records_inserted, records_updated, records_deleted, total_records "
                "FROM {} ORDER BY batch_id DESC LIMIT 1"
            ).format(sql.Identifier(table))
        )[0]

    def _rows(self, side: str, table: str, dataset: str, where: str) -> list[tuple[Any, ...]]:
        return self.postgres.execute(
            sql.SQL("SELECT {} FROM {} WHERE {} ORDER BY 1").format(
                self._columns(dataset), sql.Identifier(table), sql.SQL(where)
            ),
            database=self.spec[side],
        )

    def _hash(self, side: str, table: str, dataset: str, where: str = "true") -> Any:
        return self.postgres.execute(
            sql.SQL(
                "SELECT count(*), md5(string_agg(md5(ROW({columns})::text), '' ORDER BY "
                "md5(ROW({columns})::text))) FROM {table} WHERE {where}"
            ).format(
                columns=self._columns(dataset),
                table=sql.Identifier(table),
                where=sql.SQL(where),
            ),
            database=self.spec[side],
        )

    def _columns(self, dataset: str) -> sql.Composed:
        columns: Sequence[dict[str, Any]] = self.spec["datasets"][dataset]
        return sql.SQL(", ").join(sql.Identifier(column["name"]) for column in columns)


def log_entries(errors: str) -> list[dict[str, Any]]:
    """Return the log in a job's standard error, without what the model's code printed."""
    return [json.loads(line) for line in errors.splitlines() if line.startswith("{")]


@contextmanager
def job_logging_undone() -> Iterator[None]:
    """Take back, in the end, what a job in this process did to the root logger."""
    root = logging.getLogger()
    level = root.level
    try:
        yield
    finally:
        set_context()
        root.setLevel(level)
        for handler in [h for h in root.handlers if isinstance(h, JsonHandler)]:
            root.removeHandler(handler)
