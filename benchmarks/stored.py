"""What a real DAG processor stores of the DAGs, and how much memory its manager needs for that."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from processors import DagProcessor

from benchmarks import Figures
from benchmarks.estate import Estate, database
from one_machine import NotYetError, wait_until

#: Writes the DAG files of a side into a folder.
WriteFiles = Callable[[Path], None]

STREAMS, QUICK_STREAMS = 1_000, 200
SETTINGS = {
    # Airflow's defaults, which DagProcessor changes for its tests.
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30",
    "AIRFLOW__DAG_PROCESSOR__STALE_DAG_THRESHOLD": "50",
    "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "2",
}
#: All files take minutes to parse where each DAG has its own.
LONGEST_SECONDS = 1800
STATE = "SELECT count(*), min(last_parsed_time), max(last_parsed_time) FROM dag"
SIZES = "SELECT pg_total_relation_size('dag_code'), pg_database_size(current_database())"


def measure(estate: Estate, *, quick: bool) -> Figures:
    streams = QUICK_STREAMS if quick else STREAMS
    estate.install(streams)
    sides: dict[str, WriteFiles] = {
        "factory file": partial(estate.write_factory_file, streams),
        "short factory file": partial(estate.write_short_file, streams),
        "static files": partial(estate.write_static_files, streams),
    }
    return {
        "stored DAGs": {
            name: {str(streams): store(estate, f"side_{number}", write, streams)}
            for number, (name, write) in enumerate(sides.items())
        }
    }


def store(estate: Estate, name: str, write: WriteFiles, streams: int) -> dict[str, float]:
    """Let a DAG processor store all DAGs, then parse all files again."""
    folder = estate.folder / name
    folder.mkdir()
    env = {
        **SETTINGS,
        "PGHOSTADDR": os.environ["PGHOSTADDR"],
        "DATASURFACE_POSTGRES_DATABASE": database(streams),
    }
    with DagProcessor(folder, estate.postgres, env) as processor:
        (ready := folder / "ready").mkdir()
        write(ready)
        for file in sorted(ready.iterdir()):
            file.rename(processor.dags_dir / file.name)

        def query(statement: str) -> Any:
            processor.raise_if_ended()
            return estate.postgres.execute(statement, database=processor.database)[0]

        def all_stored() -> Any:
            count, _, newest = query(STATE)
            if count < streams:
                raise NotYetError(f"{count} of {streams} DAGs; {processor.import_errors()}")
            return newest

        stored = wait_until(all_stored, seconds=LONGEST_SECONDS, every=1)

        def all_parsed_again() -> None:
            if query(STATE)[1] <= stored:
                raise NotYetError("Not all files were parsed again.")

        wait_until(all_parsed_again, seconds=LONGEST_SECONDS, every=1)
        dag_code, whole = query(SIZES)
        return {
            "dags": streams,
            "dag_code_kilobytes": dag_code / streams / 1000,
            "database_megabytes": whole / 1e6,
            "manager_megabytes": read_peak_megabytes(processor.pid),
        }


def read_peak_megabytes(pid: int) -> float:
    """Return the peak memory of a process that still runs."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    [kibibytes] = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(kibibytes) * 1024 / 1e6
