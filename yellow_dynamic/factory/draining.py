"""The streams that have ended, and still have a run.

Airflow ends no run of a DAG that is out of service. So the DAG of a stream that is disabled or
gone stays, without a schedule, for as long as it has a run.
"""

from __future__ import annotations

import functools
import json
import time

from yellow_dynamic.factory.acceptance import format_reason, validated
from yellow_dynamic.factory.compat import DAG
from yellow_dynamic.factory.dag import DagBuilder
from yellow_dynamic.factory.files import snapshot_path, write_atomic
from yellow_dynamic.factory.logs import log
from yellow_dynamic.factory.platform import Platform
from yellow_dynamic.factory.rules import build_dag_id
from yellow_dynamic.factory.snapshot import DRAINING, read_draining

# For how long at most a stream that has ended keeps its DAG where Airflow does not say whether it
# has a run.
DRAINING_SECONDS = 24 * 60 * 60
# How long a parse asks Airflow for runs.
ASKING_SECONDS = 5
UNFINISHED = ("null", "scheduled", "queued", "running", "restarting", "deferred")


def draining_dags(builder: DagBuilder) -> dict[str, DAG]:
    """Return the DAGs of the noted streams that have a run, and forget the others."""
    platform = builder.platform
    noted = read_draining(platform)
    if not (noted and can_take_out_of_service()):
        return {}
    ids = {build_dag_id(platform.name, key): key for key in noted}
    running = {ids[dag_id] for dag_id in dags_with_active_runs(ids, noted)}
    if running != noted.keys():
        forget_drained(platform, {key: noted[key] for key in running})
    return build_draining_dags(
        builder, {dag_id: key for dag_id, key in ids.items() if key in running}
    )


def forget_drained(platform: Platform, running: dict[str, float]) -> None:
    """Note only these streams as ended, with a warning where that cannot be written."""
    path = snapshot_path(platform, DRAINING)
    try:
        if running:
            write_atomic(path, json.dumps(running))
        else:
            path.unlink()
    except OSError as error:
        log.warning("The note %s cannot be written: %s.", path, error.strerror or error)


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


def dags_with_active_runs(ids: dict[str, str], noted: dict[str, float]) -> set[str]:
    """Return which of the DAGs have a run that has not ended, as far as Airflow says."""
    until = time.monotonic() + ASKING_SECONDS
    try:
        return {dag_id for dag_id in ids if time.monotonic() > until or has_active_run(dag_id)}
    except Exception as error:  # noqa: BLE001 - whatever is asked, the DAGs are registered
        log.info("Airflow does not say whether %s have a run: %r.", ", ".join(ids), error)
    return {dag_id for dag_id, key in ids.items() if time.time() - noted[key] < DRAINING_SECONDS}


def has_active_run(dag_id: str) -> bool:
    """Ask Airflow whether a DAG has a run that has not ended."""
    try:
        from airflow.sdk.execution_time import comms, task_runner
    except ImportError:  # Airflow 2
        return has_active_run_in_database(dag_id)
    from airflow.dag_processing.processor import ToManager
    from pydantic import TypeAdapter

    if "GetTICount" not in str(ToManager):
        raise LookupError("its DAG processor has no answer to this question")
    supervisor = task_runner.SUPERVISOR_COMMS
    # Airflow 3.3 answers, and then does not know its own answer.
    known, supervisor.body_decoder = supervisor.body_decoder, TypeAdapter(comms.TICount)
    try:
        answer = supervisor.send(comms.GetTICount(dag_id=dag_id, states=list(UNFINISHED)))
    finally:
        supervisor.body_decoder = known
    return bool(answer.count)


def has_active_run_in_database(dag_id: str) -> bool:
    """Return whether a DAG has a run that has not ended, by the metadata database of Airflow 2."""
    from airflow.models import DagRun
    from airflow.utils.session import create_session

    with create_session() as session:
        runs = session.query(DagRun).filter(DagRun.dag_id == dag_id)
        return runs.filter(DagRun.state.in_(("queued", "running"))).first() is not None
