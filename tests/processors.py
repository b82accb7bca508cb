"""A real dag-processor of the installed Airflow, and what it makes of the files in its folder."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from airflow_database import create_airflow_database
from psycopg2 import sql

from one_machine import ChildProcess, NotYetError, Postgres, Service, clean_environment, wait_until

AIRFLOW_VERSION = ".".join(version("apache-airflow").split(".")[:2])
IS_AIRFLOW_2 = AIRFLOW_VERSION.startswith("2.")

#: Seconds after which Airflow takes a DAG out of service that its file no longer yields.
STALE_AFTER = 4
#: Seconds between two looks at which DAGs these are.
CLEANUP_EVERY = 1

_STATES = sql.SQL(
    "SELECT dag_id, {active}, is_paused, has_import_errors, next_dagrun_create_after IS NOT NULL, "
    "array(SELECT name FROM dag_tag WHERE dag_tag.dag_id = dag.dag_id) "
    "FROM dag WHERE starts_with(dag_id, %s)"
).format(active=sql.SQL("is_active" if IS_AIRFLOW_2 else "NOT is_stale"))
_PARSED = re.compile(
    r"Platform [^:]+: (\d+) ingestion DAGs, \d+ of them not valid, from the [^,]+, in \d+ ms"
)


class DagState(NamedTuple):
    """What Airflow's database says of one DAG."""

    active: bool
    paused: bool
    has_import_errors: bool
    scheduled: bool
    tags: set[str]


class DagProcessor(Service):
    """A standalone dag-processor with a DAG folder and a metadata database of its own."""

    def __init__(self, folder: Path, metadata: Postgres, env: Mapping[str, str]) -> None:
        """Prepare a dag-processor.

        Args:
            folder: For its DAG folder, AIRFLOW_HOME and logs; must exist.
            metadata: The server that gets its metadata database.
            env: Further environment variables of the processor and its parses.
        """
        self.folder = folder
        self.dags_dir = folder / "dags"
        self.snapshots = folder / "snapshots"
        self._logs = folder / "logs"
        self._metadata = metadata
        self.database = f"airflow_{folder.name.replace('-', '_')}"
        self._process: ChildProcess | None = None
        self.env = clean_environment(**{**self._settings(), **env})

    @property
    def pid(self) -> int:
        """The process id of the processor's manager."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Create the metadata database and start the processor; files can be deployed then."""
        self.dags_dir.mkdir()
        create_airflow_database(self._metadata, self.database)
        self._process = self._spawn("dag-processor")

    def stop(self) -> None:
        """Stop the processor. Does nothing when it is not running."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def deploy(self, file: Path) -> None:
        """Put a DAG file into the folder, whole at once."""
        self._write(file.name, file.read_text(encoding="utf-8"))

    def withdraw(self, file_name: str) -> None:
        """Take a file's DAGs out of service; does nothing when there is no such file."""
        if (self.dags_dir / file_name).exists():
            # Airflow 2.11 breaks down when a file is deleted while it is parsed.
            self._write(file_name, "# There is no airflow dag here.\n")

    def dags(self, prefix: str) -> dict[str, DagState]:
        """Return the state of every DAG whose id starts with `prefix`."""
        self.raise_if_ended()
        rows = self._metadata.execute(_STATES, (prefix,), self.database)
        return {
            dag_id: DagState(active, paused, has_import_errors, scheduled, set(tags))
            for dag_id, active, paused, has_import_errors, scheduled, tags in rows
        }

    def files(self, prefix: str) -> dict[str, str]:
        """Return the name of the file that Airflow has each DAG from."""
        rows = self._metadata.execute(
            "SELECT dag_id, fileloc FROM dag WHERE starts_with(dag_id, %s)",
            (prefix,),
            self.database,
        )
        return {dag_id: Path(file).name for dag_id, file in rows}

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement that returns rows on Airflow's metadata database."""
        return self._metadata.execute(statement, values, self.database)

    def lost(self, dag_ids: Iterable[str]) -> set[str]:
        """Return those DAGs that would not run: unknown, stale, paused or in a broken file."""
        states = self.dags("")
        broken_files = bool(self.import_errors())
        return {
            dag_id
            for dag_id in dag_ids
            if (state := states.get(dag_id)) is None
            or not state.active
            or state.paused
            or state.has_import_errors
            or broken_files
        }

    def import_errors(self) -> list[str]:
        """Return the traceback texts of files that failed to import."""
        self.raise_if_ended()
        rows = self._metadata.execute("SELECT stacktrace FROM import_error", (), self.database)
        return [text for (text,) in rows]

    def wait_for(self, dag_ids: Iterable[str], seconds: float = 60) -> None:
        """Wait until all these DAGs are in service.

        Raises:
            ServiceError: When that takes longer; it names those that are not.
        """
        wanted = set(dag_ids)

        def in_service() -> None:
            if missing := self.lost(wanted):
                raise NotYetError(f"Not in service: {missing}; {self.import_errors()}")

        wait_until(in_service, seconds=seconds, every=0.3)

    def log(self, file_name: str) -> str:
        """Return the log of all parses of a file so far; it only ever grows."""
        paths = sorted(self._logs.rglob(f"{file_name}.log"))
        # Airflow 2 links the folder of the day as "latest" too.
        return "".join(
            path.read_text(errors="replace") for path in paths if "latest" not in path.parts
        )

    def raise_if_ended(self) -> None:
        """Raise `ServiceError` with the end of its log when the processor has ended by itself."""
        assert self._process is not None
        self._process.raise_if_ended()

    def _write(self, file_name: str, text: str) -> None:
        arriving, file = self.dags_dir / f".{file_name}", self.dags_dir / file_name
        arriving.write_text(text, encoding="utf-8")
        if file.exists():
            # Python takes a .pyc file for that of a text with the same size and second of change.
            changed = max(arriving.stat().st_mtime, file.stat().st_mtime + 1)
            os.utime(arriving, (changed, changed))
        arriving.replace(file)

    def _spawn(self, *command: str) -> ChildProcess:
        return ChildProcess(
            f"`airflow {' '.join(command)}`",
            [sys.executable, "-m", "airflow", *command],
            env=self.env,
            log=self.folder / f"{'-'.join(command)}.log",
        )

    def _settings(self) -> dict[str, str]:
        """Return Airflow's settings as environment variables, for either release."""
        section = "SCHEDULER" if IS_AIRFLOW_2 else "DAG_PROCESSOR"
        url = self._metadata.url(self.database).render_as_string(hide_password=False)
        return {
            "AIRFLOW_HOME": str(self.folder / "home"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags_dir),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url,
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self._logs),
            "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(self._logs),
            "AIRFLOW__SCHEDULER__CHILD_PROCESS_LOG_DIRECTORY": str(self._logs),
            "AIRFLOW__SCHEDULER__STANDALONE_DAG_PROCESSOR": "True",
            "AIRFLOW__SCHEDULER__PARSING_CLEANUP_INTERVAL": str(CLEANUP_EVERY),
            "AIRFLOW__SCHEDULER__DAG_DIR_LIST_INTERVAL": "1",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "1",
            "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
            f"AIRFLOW__{section}__MIN_FILE_PROCESS_INTERVAL": "1",
            f"AIRFLOW__{section}__STALE_DAG_THRESHOLD": str(STALE_AFTER),
            f"AIRFLOW__{section}__PARSING_PROCESSES": "1",
            "YELLOW_DYNAMIC_SNAPSHOT_DIR": str(self.snapshots),
        }


def dags_of_parses(log: str) -> list[int]:
    """Return how many DAGs each parse yielded, from the log of a factory file."""
    return [int(dags) for dags in _PARSED.findall(log)]
