"""What Airflow's page Streams answers for 10,000 streams, against reading their rows alone.

python -m benchmarks.page
"""

from __future__ import annotations

import gc
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import AIRFLOW_DATABASE
from benchmarks.__main__ import migration, set_environment
from one_machine import Postgres

STREAMS = 10_000
#: Of each stream, and of each DAG.
BATCHES, RUNS = 50, 50
ROUNDS = 5
#: A person waits no longer for a page.
LONGEST_SECONDS = 1.0

WRITE_BATCHES = """\
INSERT INTO yellowlive_batch_metrics (
    key, batch_id, batch_status, batch_start_time, batch_end_time,
    records_inserted, records_updated, records_deleted, total_records
)
SELECT 'Store' || stream, batch, 'committed', ended - interval '1 minute', ended, 5, 6, 7, 8
FROM generate_series(0, %s - 1) AS stream, generate_series(1, %s) AS batch,
    LATERAL (SELECT now()::timestamp - (%s - batch) * interval '1 hour' AS ended) AS times
"""
WRITE_COUNTERS = """\
INSERT INTO yellowlive_batch_counter (key, "currentBatch")
SELECT 'Store' || stream, %s FROM generate_series(0, %s - 1) AS stream
"""

WRITE_RUNS = """\
INSERT INTO dag_run (
    dag_id, run_id, run_type, state, logical_date, run_after, start_date, end_date,
    clear_number, span_status
)
SELECT dag_id, 'run' || run, 'scheduled', 'success', at, at, at, at, 0, 'ended'
FROM dag, generate_series(1, :runs) AS run,
    LATERAL (SELECT now() - run * interval '1 hour' AS at) AS times
"""


def main() -> int:
    with (
        tempfile.TemporaryDirectory(prefix="benchmarks-", ignore_cleanup_errors=True) as folder,
        Postgres(Path(folder) / "data") as postgres,
    ):
        set_environment(postgres, Path(folder))
        with migration(Path(folder) / "migration.log"):
            pass
        return measure(postgres, Path(folder))


def measure(postgres: Postgres, folder: Path) -> int:
    """Print what takes how long, and return 1 where the page takes too long."""
    # Only now, when Airflow finds its settings.
    from airflow.api_fastapi.app import init_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    from benchmarks.estate import TABLE, Estate, database
    from yellow_dynamic.page import server
    from yellow_dynamic.page.listing import StreamQuery
    from yellow_dynamic.page.overview import OVERVIEW

    logging.disable(logging.WARNING)
    estate = Estate(postgres, folder)
    estate.install(STREAMS)
    estate.use(STREAMS)
    fill_airflow(estate)
    postgres.execute(WRITE_BATCHES, [STREAMS, BATCHES, BATCHES], database=database(STREAMS))
    postgres.execute(WRITE_COUNTERS, [BATCHES, STREAMS], database=database(STREAMS))
    for name in (database(STREAMS), AIRFLOW_DATABASE):
        postgres.execute("ANALYZE", database=name)
    init_auth_manager()
    user = SimpleAuthManagerUser(username="admin", role="admin")
    gc.freeze()

    alone = best(lambda: postgres.execute(f"SELECT * FROM {TABLE}", database=database(STREAMS)))  # noqa: S608
    newest = best(lambda: OVERVIEW.answer(patience=None), before=forget)
    OVERVIEW.answer(patience=None)
    first = StreamQuery()
    waited = best(lambda: server.list_streams(user, first), before=forget)
    kept = best(lambda: server.list_streams(user, first))
    OVERVIEW.answer(patience=None)
    searched = StreamQuery(q="store1", order_by=["-good_batch", "stream_key"], offset=1_000)
    found = best(lambda: server.list_streams(user, searched))
    [platform] = OVERVIEW.answer(patience=None).platforms
    if len(platform.status.streams) != STREAMS or platform.outage:
        raise RuntimeError(f"The page has {len(platform.status.streams)} streams.")
    print(f"page of {STREAMS:,} streams with {BATCHES} batches and {RUNS} runs each:")
    for what, seconds in (
        ("their rows alone", alone),
        ("all that the page says, asked anew", newest),
        ("an answer while a newer one is on its way", waited),
        ("an answer that is kept", kept),
        ("the same, searched and sorted", found),
    ):
        print(f"  {what}: {seconds * 1000:.0f} ms, {seconds / alone:.1f} x the rows")
    return int(waited >= LONGEST_SECONDS)


def forget() -> None:
    """Let the answer that is kept be older than it may be."""
    from yellow_dynamic.page.overview import FRESH_SECONDS, OVERVIEW

    OVERVIEW._asked = time.monotonic() - FRESH_SECONDS - 1


def best(work: Callable[[], Any], before: Callable[[], None] | None = None) -> float:
    """Return the seconds of the fastest of some rounds."""
    found = []
    for _ in range(ROUNDS):
        if before:
            before()
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found)


def fill_airflow(estate: Any) -> None:
    """Write what Airflow keeps of the DAGs of the factory file, and runs of theirs."""
    from airflow.models.dag import DagModel
    from airflow.models.dag_version import DagVersion
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.dagcode import DagCode
    from airflow.utils.session import create_session
    from sqlalchemy import insert, text

    from yellow_dynamic import contract

    file = str(estate.factory_file)
    common = {"is_stale": False, "is_paused": False, "bundle_name": "dags", "fileloc": file}
    dags = [
        {
            **common,
            "dag_id": contract.dag_id_of("yellowlive", row[0]),
            "description": contract.REVISION_END.format(contract.revision_of(row[1])),
            **dict.fromkeys(("max_active_tasks", "max_active_runs"), 1),
            "max_consecutive_failed_dag_runs": 0,
            "has_task_concurrency_limits": False,
        }
        for row in estate.rows(STREAMS)
    ]
    with create_session(scoped=False) as session:
        session.add(DagBundleModel(name="dags"))
        session.flush()
        session.execute(insert(DagModel), dags)
        version = DagVersion(dag_id=dags[0]["dag_id"], version_number=1, bundle_name="dags")
        session.add(version)
        session.add(DagCode(version, file, estate.factory_file.read_text(encoding="utf-8")))
        session.execute(text(WRITE_RUNS), {"runs": RUNS})


if __name__ == "__main__":
    sys.exit(main())
