"""What Airflow's own database says of the platforms: their factory files, DAGs and runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from airflow import __version__ as airflow_version
from airflow.configuration import conf
from airflow.jobs.job import Job
from airflow.models.dag import DagModel
from airflow.models.dagcode import DagCode
from airflow.models.dagrun import DagRun
from airflow.models.errors import ParseImportError
from airflow.models.log import Log
from airflow.models.pool import Pool as AirflowPool
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.models.xcom import XComModel
from sqlalchemy import case, func, literal, or_, select, tuple_
from sqlalchemy.orm import Session, aliased

from yellow_dynamic.factory.rules import (
    FAILURE,
    RAN_WITH,
    TRANSFORMER_END,
    parse_dag_id,
    parse_failure,
)
from yellow_dynamic.monitoring.airflow import (
    FAILED,
    PAUSE_EVENTS,
    REASONS,
    SUCCESS,
    WAITING_STATES,
    AirflowView,
    DagView,
    Failure,
    Pool,
    WaitingTask,
    add_obstacles,
    dag_id_prefix,
    default_failure_reason,
    executor_names,
    is_factory_file,
    parse_revision,
    paused_by_airflow,
)
from yellow_dynamic.monitoring.in_airflow import Facts, last_line, parse_facts, parse_settings
from yellow_dynamic.monitoring.installation import Installation
from yellow_dynamic.monitoring.text import format_time

#: What the names of factory files are like, in SQL; DataSurface has files of such names too.
FACTORY_FILES = r"%\_factory\_dag%.py"
#: Among so many of the newest runs one is looked for that says where its row came from.
NEWEST_RUNS = 20


class Factory(NamedTuple):
    """A platform of which Airflow has a factory file.

    Attributes:
        installation: the platform, as the file says.
        dag_id: one of its DAGs.
        in_service: whether any DAG of the file is; else the platform may be gone.
    """

    installation: Installation
    dag_id: str
    in_service: bool


class RunRecord(NamedTuple):
    """Where a run's row came from, in its own words, and when it said so."""

    row: str
    at: str


def find_factories(session: Session) -> list[Factory]:
    """Return the platforms of which Airflow has a factory file, by their names.

    The settings come from the text of the file as Airflow keeps it.
    """
    serves = or_(~DagModel.is_stale, DagModel.has_import_errors)
    # A DAG that is out of service has the settings of the time when it went.
    served = func.min(case((~DagModel.is_stale, DagModel.dag_id)))
    of_files = (
        select(
            func.coalesce(served, func.min(DagModel.dag_id)),
            func.max(case((serves, 1), else_=0)),
        )
        .where(DagModel.fileloc.like(FACTORY_FILES, escape="\\"))
        .group_by(DagModel.fileloc)
        .order_by(func.max(DagModel.last_parsed_time))
    )
    found: dict[str, Factory] = {}
    for dag_id, in_service in session.execute(of_files).all():
        code = DagCode.get_latest_dagcode(dag_id, session=session)
        settings = parse_settings(code.source_code) if code else None
        if settings:
            name = str(settings["original_platform_name"])
            before = found.get(name)
            if not (before and before.in_service and not in_service):
                found[name] = Factory(Installation(name, settings), dag_id, bool(in_service))
    return [found[name] for name in sorted(found)]


def import_errors(session: Session) -> dict[str, str]:
    """Return why Airflow could not import factory files, by file."""
    columns = (ParseImportError.filename, ParseImportError.stacktrace)
    # Not by concat(), which older SQLite lacks.
    name = literal("/") + ParseImportError.filename
    query = select(*columns).where(name.like(FACTORY_FILES, escape="\\"))
    return {str(file): last_line(trace) for file, trace in session.execute(query)}


def read_airflow_view(session: Session, airflow_name: str, errors: dict[str, str]) -> AirflowView:
    """Return what Airflow has of a platform.

    Args:
        session: of Airflow's database.
        airflow_name: the platform's name in the ids of its DAGs.
        errors: those of all factory files, by file.
    """
    views = {view.dag_id: view for view in dag_views(session, airflow_name)}
    for dag_id, failure in failures(session, airflow_name):
        if dag_id in views and not views[dag_id].stale:
            views[dag_id].failure = failure
    add_reasons(session, [view for view in views.values() if view.failure])
    add_pauses(session, {view.dag_id: view for view in views.values() if view.paused})
    executors = executor_names(conf.get_mandatory_value("core", "executor"))
    add_obstacles(views, waiting_tasks(session, airflow_name), read_pools(session), executors)
    for dag_id, ended in good_runs(session, views):
        views[dag_id].good_run = ended
    own = {file: why for file, why in errors.items() if is_factory_file(airflow_name, file)}
    zone = find_time_zone(session, views)
    return AirflowView(str(airflow_version), views, own, time_zone=zone)


def find_time_zone(session: Session, views: dict[str, DagView]) -> str | None:
    """Return the time zone of the DAGs' schedules; None where no DAG is in service."""
    ids = [view.dag_id for view in views.values() if not view.stale][:1]
    if not ids:
        return None
    found = SerializedDagModel.get_latest_serialized_dags(dag_ids=ids, session=session)
    zones = [(each.data or {}).get("dag", {}).get("timezone") for each in found]
    return next((str(zone) for zone in zones if zone), None)


def dag_views(session: Session, airflow_name: str) -> Iterator[DagView]:
    query = select(
        DagModel.dag_id,
        DagModel.is_stale,
        DagModel.is_paused,
        DagModel.has_import_errors,
        DagModel.fileloc,
        DagModel.last_parsed_time,
        DagModel.description,
    ).where(DagModel.dag_id.startswith(dag_id_prefix(airflow_name), autoescape=True))
    undescribed = {}
    for dag_id, stale, paused, errors, file, parsed, description in session.execute(query):
        key = parse_dag_id(airflow_name, dag_id)
        if key is None:
            continue
        at = parsed.isoformat() if parsed else None
        view = DagView(dag_id, bool(stale), bool(paused), bool(errors), file, at, facts=None)
        if revision := parse_revision(description):
            view.facts = Facts(key, revision, problem=None)
        elif not stale:
            undescribed[dag_id] = view
        yield view
    if undescribed:
        add_pages(session, undescribed)


def add_pages(session: Session, views: dict[str, DagView]) -> None:
    """Add what the pages of DAGs say whose descriptions do not say it."""
    of_ids = SerializedDagModel.get_latest_serialized_dags(dag_ids=list(views), session=session)
    for serialized in of_ids:
        page = (serialized.data or {}).get("dag", {}).get("doc_md")
        views[serialized.dag_id].facts = parse_facts(page) if page else None


def failures(session: Session, airflow_name: str) -> Iterator[tuple[str, Failure]]:
    """Yield the DAGs whose last run that ended has failed, and that run."""
    failed, later = aliased(DagRun), aliased(DagRun)
    overcome = (
        select(later.id)
        .where(
            later.dag_id == failed.dag_id,
            later.state.in_((SUCCESS, FAILED)),
            later.end_date > failed.end_date,
        )
        .exists()
    )
    query = select(failed.dag_id, failed.run_id, failed.end_date).where(
        failed.state == FAILED,
        failed.dag_id.startswith(dag_id_prefix(airflow_name), autoescape=True),
        ~overcome,
    )
    for dag_id, run_id, ended in session.execute(query.order_by(failed.end_date)):
        yield dag_id, Failure(run_id, format_time(ended))


def add_reasons(session: Session, views: list[DagView]) -> None:
    """Add to failed runs what their tasks said, or else which task failed."""
    runs = {(view.dag_id, view.failure.run_id): view.failure for view in views if view.failure}
    for (dag_id, run_id), said in said_by_tasks(session, list(runs)[-REASONS:]):
        runs[dag_id, run_id].reason = said


def add_pauses(session: Session, views: dict[str, DagView]) -> None:
    """Add to paused DAGs whether Airflow itself paused them, by the newest entry of its log."""
    query = select(Log.dag_id, Log.event, Log.owner, Log.dttm).where(
        Log.dag_id.in_(views), Log.event.in_(PAUSE_EVENTS)
    )
    for dag_id, event, owner, at in session.execute(query.order_by(Log.id)):
        by_airflow = paused_by_airflow(event, owner)
        views[dag_id].paused_by_airflow = format_time(at) if by_airflow else None


def waiting_tasks(session: Session, airflow_name: str) -> list[WaitingTask]:
    """Return the tasks of a platform that wait to be started, or for the triggerer."""
    query = (
        select(
            TaskInstance.dag_id,
            TaskInstance.run_id,
            TaskInstance.task_id,
            TaskInstance.state,
            TaskInstance.pool,
            TaskInstance.pool_slots,
            Trigger.created_date,
            Job.latest_heartbeat,
            TaskInstance.executor,
        )
        .outerjoin(Trigger, TaskInstance.trigger_id == Trigger.id)
        .outerjoin(Job, Trigger.triggerer_id == Job.id)
        .where(
            TaskInstance.state.in_(WAITING_STATES),
            TaskInstance.dag_id.startswith(dag_id_prefix(airflow_name), autoescape=True),
        )
    )
    return [WaitingTask(*row) for row in session.execute(query)]


def read_pools(session: Session) -> dict[str, Pool]:
    query = select(AirflowPool.pool, AirflowPool.slots, AirflowPool.include_deferred)
    return {name: Pool(slots, deferred) for name, slots, deferred in session.execute(query)}


def good_runs(session: Session, dag_ids: Iterable[str]) -> Iterator[tuple[str, datetime]]:
    """Yield the DAGs of transformers, which have no batches, and when a run succeeded last."""
    transformers = [dag_id for dag_id in dag_ids if dag_id.endswith(TRANSFORMER_END)]
    query = (
        select(DagRun.dag_id, func.max(DagRun.end_date))
        .where(DagRun.dag_id.in_(transformers), DagRun.state == SUCCESS)
        .group_by(DagRun.dag_id)
    )
    for dag_id, ended in session.execute(query) if transformers else ():
        if ended:
            yield dag_id, ended.astimezone(UTC).replace(tzinfo=None)


def said_by_tasks(
    session: Session, runs: Iterable[tuple[str, str]]
) -> Iterator[tuple[tuple[str, str], str]]:
    tasks = select(TaskInstance.dag_id, TaskInstance.run_id, TaskInstance.task_id).where(
        tuple_(TaskInstance.dag_id, TaskInstance.run_id).in_(runs), TaskInstance.state == FAILED
    )
    for dag_id, run_id, task_id in session.execute(tasks):
        yield (dag_id, run_id), default_failure_reason(task_id)
    records = select(XComModel).where(
        tuple_(XComModel.dag_id, XComModel.run_id).in_(runs), XComModel.key == FAILURE
    )
    for record in session.scalars(records):
        if said := parse_failure(XComModel.deserialize_value(record)):
            yield (record.dag_id, record.run_id), said


def find_newest_record(session: Session, airflow_name: str) -> RunRecord | None:
    """Return what one of a platform's newest runs says of where its row came from."""
    newest = (
        select(DagRun.id)
        .where(DagRun.dag_id.startswith(dag_id_prefix(airflow_name), autoescape=True))
        .order_by(DagRun.id.desc())
        .limit(NEWEST_RUNS)
        .subquery()
    )
    query = (
        select(XComModel)
        .join(newest, XComModel.dag_run_id == newest.c.id)
        .where(XComModel.key == RAN_WITH)
        .order_by(XComModel.timestamp.desc())
        .limit(1)
    )
    record: Any = session.scalar(query)
    said = XComModel.deserialize_value(record) if record else None
    # An XCom backend that keeps values elsewhere leaves an address here.
    if not (isinstance(said, dict) and "row" in said):
        return None
    return RunRecord(str(said["row"]), format_time(record.timestamp))
