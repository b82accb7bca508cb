"""The streams that have ended, and still have a run.

Airflow ends no run of a DAG that is out of service. So the DAG of a stream that is disabled or
gone stays, without a schedule, for as long as it has a run.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from yellow_dynamic.factory.acceptance import format_reason, validated
from yellow_dynamic.factory.compat import DAG
from yellow_dynamic.factory.dag import DagBuilder
from yellow_dynamic.factory.database import read_ended
from yellow_dynamic.factory.files import describe_disk_error, snapshot_path
from yellow_dynamic.factory.logs import log
from yellow_dynamic.factory.platform import Platform
from yellow_dynamic.factory.rows import Reading
from yellow_dynamic.factory.rules import build_dag_id
from yellow_dynamic.factory.shards import Shard
from yellow_dynamic.factory.snapshot import DRAINING, write_draining

# For how long at most a stream that has ended keeps its DAG where Airflow does not say whether it
# has a run.
DRAINING_SECONDS = 24 * 60 * 60
# How long a parse asks Airflow for runs, and how often.
ASKING_SECONDS = 5
MOST_QUESTIONS = 50
# Of so many streams at most a parse looks up that they have ended.
MOST_ENDED = 200
UNFINISHED = ("null", "scheduled", "queued", "running", "restarting", "deferred")


def draining_dags(builder: DagBuilder, reading: Reading, shard: Shard) -> dict[str, DAG]:
    """Return the DAGs of the streams that have ended and have a run, and forget the others.

    Where Airflow does not say whether a stream has a run, it keeps its DAG.
    """
    noted = reading.ended
    if noted == {} or not can_take_out_of_service():
        return {}
    if noted is None:
        noted = find_ended(builder.platform, reading, shard)
    ids = {key: build_dag_id(builder.platform.name, key) for key in noted}
    answers = ask_for_runs(ids.values())
    oldest = time.time() - DRAINING_SECONDS
    unknown = [key for key in noted if ids[key] not in answers and noted[key] > oldest]
    running = [key for key in noted if answers.get(ids[key])]
    # The next parse starts with the streams for which Airflow has not answered.
    left = {key: noted[key] for key in [*unknown, *running]}
    keep_noted(builder.platform, reading, left)
    return build_draining_dags(builder, {ids[key]: key for key in left})


def find_ended(platform: Platform, reading: Reading, shard: Shard) -> dict[str, float]:
    """Return the streams that have ended, and since when, where there is no note of them.

    The note is lost with the disk of Airflow's DAG processor. The table's history has those that
    were disabled or removed of late; without it, the rows have those that are disabled.
    """
    ended = read_ended(platform) if reading.age is None else None
    if ended is None:
        ended = {row.stream_key: time.time() for row in reading.rows if row.is_off}
    active = {row.stream_key for row in reading.rows if not row.is_off}
    own = [key for key in ended if key not in active and shard.has(key)]
    return {key: ended[key] for key in own[:MOST_ENDED]}


def keep_noted(platform: Platform, reading: Reading, left: dict[str, float]) -> None:
    """Note these streams alone as ended, with a warning where that cannot be written."""
    was_known = reading.ended is not None
    if was_known and list(left) == list(reading.ended or ()):
        return
    if not was_known and reading.age is not None:
        # The history is asked when the database is back.
        return
    try:
        write_draining(platform, left)
    except OSError as error:
        # Where there was no note, the same has been said of the snapshot.
        if was_known:
            path = snapshot_path(platform, DRAINING)
            log.warning("The note %s cannot be written: %s.", path, describe_disk_error(error))


def build_draining_dags(builder: DagBuilder, ids: dict[str, str]) -> dict[str, DAG]:
    """Return the DAGs in which runs of ended streams end; each id is given with its stream."""
    dags = {}
    for dag_id, key in ids.items():
        build = functools.partial(builder.build_draining_dag, dag_id, key)
        try:
            dags[dag_id] = validated(build, policies=builder.has_policies)
        except Exception as error:  # noqa: BLE001 - it would take all DAGs of the file with it
            log.error(
                "Airflow refuses the DAG %s in which a run is to end: %s.",
                ascii(dag_id),
                format_reason(error),
            )
    return dags


def can_take_out_of_service() -> bool:
    """Return whether this parse may be one of those by which Airflow takes DAGs out of service."""
    try:
        from airflow.sdk.execution_time import task_runner
    except ImportError:  # Airflow 2
        return True
    # Only the DAG processor answers questions.
    return hasattr(task_runner, "SUPERVISOR_COMMS")


def ask_for_runs(dag_ids: Iterable[str]) -> dict[str, bool]:
    """Return whether the DAGs have a run that has not ended, as far as Airflow says in time."""
    answers: dict[str, bool] = {}
    until = time.monotonic() + ASKING_SECONDS

    def ask() -> None:
        try:
            for dag_id in list(dag_ids)[:MOST_QUESTIONS]:
                if time.monotonic() < until:
                    answers[dag_id] = has_active_run(dag_id)
        except Exception as error:  # noqa: BLE001 - whatever is asked, the DAGs are registered
            log.info("Airflow does not say whether %s has a run: %r.", dag_id, error)

    # A thread, because neither Airflow's client nor its database has a timeout.
    thread = threading.Thread(target=ask, name="yellow-dynamic-runs", daemon=True)
    thread.start()
    thread.join(ASKING_SECONDS)
    if thread.is_alive():
        log.info("Airflow does not say within %d s which streams have a run.", ASKING_SECONDS)
    return dict(answers)


def has_active_run(dag_id: str) -> bool:
    """Ask Airflow whether a DAG has a run that has not ended."""
    try:
        from airflow.sdk.execution_time import comms, task_runner
    except ImportError:  # Airflow 2
        return has_active_run_in_database(dag_id)
    supervisor = task_runner.SUPERVISOR_COMMS
    accept_counts(supervisor)
    answer = supervisor.send(comms.GetTICount(dag_id=dag_id, states=list(UNFINISHED)))
    return bool(answer.count)


def accept_counts(supervisor: Any) -> None:
    """Let the client of Airflow's DAG processor know the answer to our question.

    Airflow 3.3 answers, and then does not know its own answer. It stays known, as it may come after
    the parse has gone on: until then the client's lock keeps other questions back, so that no
    answer is taken for that to another question.

    Raises:
        LookupError: this release does not answer, or has no such lock.
    """
    from airflow.dag_processing.processor import ToManager
    from airflow.sdk.execution_time.comms import TICount

    known = supervisor.body_decoder
    if hasattr(known, "counts"):
        return
    if "GetTICount" not in str(ToManager) or not hasattr(supervisor, "_thread_lock"):
        raise LookupError("its DAG processor has no answer to this question")

    def validate_python(body: Any) -> Any:
        if body.get("type") == "TICount":
            return TICount(**body)
        return known.validate_python(body)

    supervisor.body_decoder = SimpleNamespace(validate_python=validate_python, counts=True)


def has_active_run_in_database(dag_id: str) -> bool:
    """Return whether a DAG has a run that has not ended, by the metadata database of Airflow 2."""
    from airflow.models import DagRun
    from airflow.utils.session import create_session

    with create_session() as session:
        runs = session.query(DagRun).filter(DagRun.dag_id == dag_id)
        return runs.filter(DagRun.state.in_(("queued", "running"))).first() is not None
