"""How fast Airflow's page Streams responds for 10,000 streams."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from airflow.api_fastapi.app import init_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.models.dag import DagModel
from airflow.models.dag_version import DagVersion
from airflow.models.dagbundle import DagBundleModel
from airflow.models.dagcode import DagCode
from airflow.utils.session import create_session
from sqlalchemy import insert, text

from benchmarks import AIRFLOW_DATABASE, Figures
from benchmarks.estate import TABLE, Estate, database
from yellow_dynamic.factory.rules import REVISION_END, build_dag_id, compute_revision
from yellow_dynamic.page import server
from yellow_dynamic.page.listing import StreamQuery
from yellow_dynamic.page.overview import FRESH_SECONDS, OVERVIEW

STREAMS = 10_000
#: Of each stream, and of each DAG.
BATCHES, RUNS = 50, 50
ROUNDS = 5

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


def measure(estate: Estate, *, quick: bool) -> Figures:
    del quick
    estate.install(STREAMS)
    estate.use(STREAMS)
    fill_airflow(estate)
    execute = partial(estate.postgres.execute, database=database(STREAMS))
    execute(WRITE_BATCHES, [STREAMS, BATCHES, BATCHES])
    execute(WRITE_COUNTERS, [BATCHES, STREAMS])
    execute("ANALYZE")
    estate.postgres.execute("ANALYZE", database=AIRFLOW_DATABASE)
    init_auth_manager()
    user = SimpleAuthManagerUser(username="admin", role="admin")
    gc.freeze()

    sides = {"rows of the table alone": measure_best(lambda: execute(f"SELECT * FROM {TABLE}"))}  # noqa: S608
    sides["everything queried anew"] = measure_best(
        lambda: OVERVIEW.answer(patience=None), before=expire_cache
    )
    OVERVIEW.answer(patience=None)
    first = StreamQuery()
    sides["cached, while a newer response is made"] = measure_best(
        lambda: server.list_streams(user, first), before=expire_cache
    )
    sides["cached"] = measure_best(lambda: server.list_streams(user, first))
    OVERVIEW.answer(patience=None)
    searched = StreamQuery(q="store1", order_by=["-good_batch", "stream_key"], offset=1_000)
    sides["cached, searched and sorted"] = measure_best(lambda: server.list_streams(user, searched))
    [platform] = OVERVIEW.answer(patience=None).platforms
    if len(platform.status.streams) != STREAMS or platform.outage:
        raise RuntimeError(f"The page has {len(platform.status.streams)} streams.")
    return {
        "page Streams": {side: {str(STREAMS): {"seconds": sides[side]}} for side in sides},
    }


def expire_cache() -> None:
    """Make the cached response expire."""
    OVERVIEW._asked = time.monotonic() - FRESH_SECONDS - 1


def measure_best(work: Callable[[], Any], before: Callable[[], None] | None = None) -> float:
    """Return the seconds of the fastest of some rounds."""
    found = []
    for _ in range(ROUNDS):
        if before:
            before()
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found)


def fill_airflow(estate: Estate) -> None:
    """Write what Airflow stores of the DAGs of the factory file, and DAG runs."""
    file = str(estate.factory_file)
    common = {"is_stale": False, "is_paused": False, "bundle_name": "dags", "fileloc": file}
    dags = [
        {
            **common,
            "dag_id": build_dag_id("yellowlive", row[0]),
            "description": REVISION_END.format(compute_revision(row[1])),
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
