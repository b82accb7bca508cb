"""The state of each stream: its row, its DAG, Airflow's view of it, and its batches."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy.exc import SQLAlchemyError

from yellow_dynamic.factory.rules import FAILED_BATCH, compute_revision, get_batch_key
from yellow_dynamic.monitoring import OperationError, batches
from yellow_dynamic.monitoring.airflow import AirflowView, DagView
from yellow_dynamic.monitoring.batches import Batch, Delivery
from yellow_dynamic.monitoring.in_airflow import BuiltDag, LoadedFactory
from yellow_dynamic.monitoring.installation import Installation
from yellow_dynamic.monitoring.rows import StreamRow, find_starters, read_rows
from yellow_dynamic.monitoring.selection import Selection
from yellow_dynamic.monitoring.text import format_error, format_time

if TYPE_CHECKING:
    # It needs httpx, which an API server may lack.
    from yellow_dynamic.monitoring.airflow_api import AirflowApi


class State(enum.StrEnum):
    """The state of a stream; docs/operating.md says what each one means."""

    HEALTHY = "healthy"
    DISABLED = "disabled"
    PAUSED = "paused"
    ENDING = "ending"
    SNAPSHOT = "served from snapshot"
    WAITING = "waiting"
    NOT_MERGED = "not merged"
    BROKEN = "broken"
    MISSING = "missing"
    FAILING = "failing"
    LATE = "late"
    LEFT_OVER = "left over"
    STATIC = "static file"

    @property
    def is_well(self) -> bool:
        """Whether nothing is wrong; an operator may have disabled the stream or paused its DAG."""
        return self in (State.HEALTHY, State.DISABLED, State.PAUSED, State.ENDING)

    @property
    def colour(self) -> str:
        if not self.is_well:
            return "red"
        return "green" if self is State.HEALTHY else "yellow"


class Finding(NamedTuple):
    """A state, and why."""

    state: State
    reason: str = ""


@dataclass
class StreamStatus:
    """The state of one stream, and what it follows from; None is what was not read."""

    stream_key: str
    dag_id: str
    state: State
    reason: str = ""
    row: str | None = None
    dag: str | None = None
    airflow: str | None = None
    newest_batch: Batch | None = None
    good_batch: Batch | None = None

    def as_json(self) -> dict[str, Any]:
        found = {"newest_batch": self.newest_batch, "good_batch": self.good_batch}
        batches = {name: batch and batch.as_json() for name, batch in found.items()}
        return {**asdict(self), **batches}


@dataclass(frozen=True)
class StreamFilter:
    """The streams to list.

    Attributes:
        states: streams in one of these states; in any state if it is empty.
        selection: streams that it selects; all streams if it is None.
    """

    states: Collection[State] = ()
    selection: Selection | None = None

    def selects(self, stream_key: str, config: dict[str, Any]) -> bool:
        return self.selection is None or self.selection.matches(stream_key, config)


EVERY_STREAM = StreamFilter()


@dataclass
class PlatformStatus:
    """The listed streams of a platform, and the problems of the platform itself.

    Attributes:
        platform: its name in the model.
        streams: the listed streams.
        problems: those of the platform.
        selected: how many streams are selected, in any state.
        count: how many streams the platform has.
    """

    platform: str
    streams: list[StreamStatus]
    problems: list[str] = field(default_factory=list)
    selected: int = 0
    count: int = 0

    @property
    def is_well(self) -> bool:
        return not self.problems and all(stream.state.is_well for stream in self.streams)

    def as_json(self) -> dict[str, Any]:
        streams = [stream.as_json() for stream in self.streams]
        return {**asdict(self), "streams": streams, "well": self.is_well}


@dataclass
class Sources:
    """What was read of a platform; None is what was not, or could not be, read.

    `unread` says that the table cannot be read now, and since when its rows are known.
    """

    installation: Installation
    rows: dict[str, StreamRow] | None = None
    model: dict[str, str] | None = None
    factory: LoadedFactory | None = None
    static: list[str] = field(default_factory=list)
    airflow: AirflowView | None = None
    deliveries: dict[str, Delivery] | None = None
    late_after: datetime | None = None
    problems: list[str] = field(default_factory=list)
    unread: str | None = None
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(tzinfo=None))

    @cached_property
    def configs(self) -> dict[str, dict[str, Any]]:
        """The configuration of each row by its key."""
        return {key: row.config for key, row in (self.rows or {}).items()}

    @property
    def time_zone(self) -> str:
        """The time zone of the schedules, as Airflow has it; UTC where Airflow was not asked."""
        zones = [source.time_zone for source in (self.airflow, self.factory) if source]
        return next(filter(None, zones), "UTC")


def read_sources(
    installation: Installation,
    *,
    load: bool,
    api: AirflowApi | None,
    late_after: datetime | None = None,
) -> Sources:
    """Read the model, the table, the batches, the factory file and Airflow.

    Args:
        installation: the platform.
        load: whether to load the factory file with Airflow's Python.
        api: Airflow's REST API, or None.
        late_after: a stream without a good batch since this time (UTC) is late; None is for late
            by its schedule.

    Raises:
        OperationError: one of them cannot be read. If it is the table, that is a problem of the
            platform instead.
    """
    sources = Sources(installation, late_after=late_after)
    try:
        read_store(sources)
    except SQLAlchemyError as error:
        sources.problems.append(format_error(error))
    if installation.model:
        sources.model = installation.model.rows
    if load:
        sources.factory = installation.load()
    sources.static = installation.static_files()
    if api:
        sources.airflow = api.view(installation.airflow_name)
    return sources


def read_store(sources: Sources) -> None:
    """Read the table and the batches; unreadable batches are a problem of the platform.

    Raises:
        OperationError: the login is missing.
        sqlalchemy.exc.SQLAlchemyError: the table cannot be read.
    """
    installation = sources.installation
    sources.rows = {row.stream_key: row for row in read_rows(installation)}
    try:
        with installation.transaction("read the batches beside") as connection:
            sources.deliveries = batches.read_deliveries(connection, installation.settings)
    except OperationError as error:
        sources.problems.append(str(error))


def platform_status(sources: Sources, wanted: StreamFilter = EVERY_STREAM) -> PlatformStatus:
    """Return the status of the wanted streams, of all streams that any source has."""
    installation, factory, airflow = sources.installation, sources.factory, sources.airflow
    built = {
        dag.facts.stream or installation.stream_key(dag_id): dag
        for dag_id, dag in (factory.dags if factory else {}).items()
    }
    seen = {
        (dag.facts and dag.facts.stream) or installation.stream_key(dag_id): dag
        for dag_id, dag in (airflow.dags if airflow else {}).items()
    }
    in_service = {key for key, view in seen.items() if not view.stale}
    keys = {*(sources.rows or {}), *(sources.model or {}), *built, *in_service}
    problems = [*sources.problems, *(airflow.problems if airflow else ())]
    if factory and factory.error:
        problems.append(f"The factory file cannot be loaded: {factory.error}")
        if sources.rows is None and factory.guessed_folder:
            problems.append(
                "What Airflow serves from its snapshot is not known: AIRFLOW_HOME is not set, and "
                f"{factory.guessed_folder} has none that can be used. Set AIRFLOW_HOME, or "
                "YELLOW_DYNAMIC_SNAPSHOT_DIR, as for Airflow, or let --python start Airflow's own."
            )
    streams = [stream_status(sources, key, built.get(key), seen.get(key)) for key in sorted(keys)]
    configs = sources.configs
    selected = [
        each
        for each in streams
        if wanted.selects(each.stream_key, configs.get(each.stream_key, {}))
    ]
    shown = [each for each in selected if not wanted.states or each.state in wanted.states]
    shown.sort(key=lambda stream: stream.state.is_well)
    return PlatformStatus(installation.name, shown, problems, len(selected), len(streams))


def stream_status(
    sources: Sources, key: str, built: BuiltDag | None, seen: DagView | None
) -> StreamStatus:
    row = sources.rows.get(key) if sources.rows is not None else None
    finding = next(diagnose(sources, key, row, built, seen), Finding(State.HEALTHY))
    delivery = find_delivery(sources, key)
    return StreamStatus(
        key,
        # The DAG of a bad row may have another id.
        seen.dag_id if seen else sources.installation.dag_id(key),
        *finding,
        newest_batch=delivery and delivery.newest,
        good_batch=delivery and delivery.good,
        row=str(row.status) if row else None,
        dag=dag_label(built) if sources.factory else None,
        airflow=airflow_label(seen) if sources.airflow else None,
    )


def dag_label(built: BuiltDag | None) -> str:
    if built is None:
        return "none"
    return "not valid" if built.facts.problem else "built"


def airflow_label(view: DagView | None) -> str:
    if view is None:
        return "not there"
    if view.stale:
        return "out of service"
    return "paused" if view.paused else "in service"


def diagnose(
    sources: Sources,
    key: str,
    row: StreamRow | None,
    built: BuiltDag | None,
    seen: DagView | None,
) -> Iterator[Finding]:
    """Yield the findings on a stream, the most important first."""
    if row is None or row.is_disabled:
        yield from diagnose_ending(built, seen)
    yield from diagnose_row(sources, key, row, seen)
    if row is not None and row.is_disabled:
        return
    if row is not None or sources.rows is None:
        if sources.factory is not None:
            yield from diagnose_factory(sources, sources.factory, row, built)
        if sources.airflow is not None:
            yield from diagnose_airflow(sources.airflow, row, seen)
    if row is not None:
        yield from diagnose_batch(sources, row)
        if wait := find_idle_starter(sources, row.stream_key):
            yield Finding(State.WAITING, f"it {wait}")
        if late := find_lateness(sources, row, seen):
            yield Finding(State.LATE, late)
    yield from diagnose_reading(sources)


def diagnose_ending(built: BuiltDag | None, seen: DagView | None) -> Iterator[Finding]:
    # Only Airflow itself knows whether there is a run.
    facts = (seen.facts if not seen.stale else None) if seen else built and built.facts
    if facts and facts.ending:
        yield Finding(State.ENDING, "it is disabled or removed, and a run of it has not ended")


def diagnose_row(
    sources: Sources, key: str, row: StreamRow | None, seen: DagView | None
) -> Iterator[Finding]:
    if sources.rows is None:
        in_service = seen is not None and not seen.stale
        if not (in_service or (sources.factory and sources.factory.reading.source == "snapshot")):
            yield Finding(State.BROKEN, "the table cannot be read")
    elif row is None:
        if key in (sources.model or {}):
            reason = "the model has it and the table does not; run handleModelMerge"
            yield Finding(State.MISSING, reason)
        reason = "there is a DAG and no row; it goes with Airflow's next parses"
        yield Finding(State.LEFT_OVER, reason)
    elif sources.model is not None and key not in sources.model:
        reason = "the model does not have it; run handleModelMerge to remove it"
        yield Finding(State.NOT_MERGED, reason)
    elif sources.model is not None and sources.model[key] != row.config_json:
        reason = "its row is not what the model says; see `yellow-dynamic plan`"
        yield Finding(State.NOT_MERGED, reason)
    elif row.is_disabled:
        if seen is not None and not seen.stale:
            reason = "it is disabled, and Airflow has not taken its DAG away yet"
            yield Finding(State.WAITING, reason)
        yield Finding(State.DISABLED, row.why_disabled)


def diagnose_factory(
    sources: Sources, factory: LoadedFactory, row: StreamRow | None, built: BuiltDag | None
) -> Iterator[Finding]:
    if factory.error:
        yield Finding(State.BROKEN, "the factory file cannot be loaded; see above")
    elif built is None and row is not None and not factory.reading.reason:
        file = f"{sources.installation.dag_id(row.stream_key)}.py"
        for path in sources.static:
            if PurePath(path).name == file:
                reason = f"its DAG comes from {path} until that file is deleted"
                yield Finding(State.STATIC, reason)
        yield Finding(State.MISSING, "the factory file does not find its row where it reads")
    elif built and built.facts.problem:
        yield Finding(State.BROKEN, built.facts.problem)
    elif (
        built
        and row
        and not factory.reading.reason
        and built.facts.revision != compute_revision(row.config_json)
    ):
        reason = "the factory file reads another configuration than this table's"
        yield Finding(State.WAITING, reason)


def diagnose_airflow(
    airflow: AirflowView, row: StreamRow | None, seen: DagView | None
) -> Iterator[Finding]:
    for file, error in airflow.import_errors.items():
        if seen is None or seen.stale or seen.import_errors:
            yield Finding(State.BROKEN, f"Airflow could not import {file}: {error}")
    if seen is None or seen.stale:
        yield Finding(State.MISSING, f"its DAG is {airflow_label(seen)} in Airflow")
        return
    if seen.facts and seen.facts.problem:
        yield Finding(State.BROKEN, seen.facts.problem)
    elif seen.facts and row and seen.facts.revision != compute_revision(row.config_json):
        reason = (
            f"Airflow has another revision of it, from its parse at {seen.last_parsed}; its "
            f"row was changed at {row.updated_at} UTC"
        )
        yield Finding(State.WAITING, reason)
    yield from diagnose_runs(seen)


def diagnose_runs(seen: DagView) -> Iterator[Finding]:
    """Yield what its runs say, and who paused it; a stream that a failure stopped is not well."""
    stopped = describe_pause(seen) if seen.paused else seen.obstacle
    if seen.failure or seen.paused_by_airflow:
        failure = str(seen.failure) if seen.failure else None
        yield Finding(State.FAILING, "; ".join(filter(None, (stopped, failure))))
    elif stopped:
        yield Finding(State.PAUSED if seen.paused else State.WAITING, stopped)


def describe_pause(seen: DagView) -> str:
    """Return who paused a DAG, as far as it is known, and what to do where a failure did."""
    unpause = f"so no run follows (correct the cause, then: airflow dags unpause {seen.dag_id})"
    if at := seen.paused_by_airflow:
        return f"Airflow itself paused it at {at} because its runs failed, {unpause}"
    text = "it is paused in Airflow"
    if seen.pause_unknown:
        text += f" (by whom is not known: {seen.pause_unknown})"
    return f"{text}, {unpause}" if seen.failure else text


def diagnose_reading(sources: Sources) -> Iterator[Finding]:
    factory = sources.factory
    if factory and factory.reading.reason:
        yield Finding(State.SNAPSHOT, factory.reading.reason)
    elif sources.unread:
        yield Finding(State.SNAPSHOT, sources.unread)
    elif sources.rows is None:
        yield Finding(State.SNAPSHOT, "the table cannot be read, and Airflow has its DAG")


NOTHING = Delivery(None, None)


def find_delivery(sources: Sources, stream_key: str) -> Delivery | None:
    """Return the last batches of a stream; None if they are unknown, or its job has none."""
    config = sources.configs.get(stream_key)
    if config is None or sources.deliveries is None:
        return None
    key = get_batch_key(config)
    return None if key is None else sources.deliveries.get(key, NOTHING)


def diagnose_batch(sources: Sources, row: StreamRow) -> Iterator[Finding]:
    delivery = find_delivery(sources, row.stream_key)
    newest = delivery and delivery.newest
    if newest and newest.status == FAILED_BATCH:
        reason = f"its batch {newest.number} failed at {format_time(newest.ended)}"
        yield Finding(State.FAILING, reason)


# --- What a stream waits for ------------------------------------------------------------------


def find_idle_starter(sources: Sources, key: str, asked: set[str] | None = None) -> str | None:
    """Return for which stream that does not deliver a stream waits, and why; None for none.

    Airflow starts a stream when all the streams that start it have delivered.
    """
    asked = {key} if asked is None else asked
    for starter in find_starters(sources.configs.get(key, {})):
        if starter not in asked:
            asked.add(starter)
            if why := why_idle(sources, starter) or find_idle_starter(sources, starter, asked):
                return f"waits for the stream {starter}, which {why}"
    return None


def why_idle(sources: Sources, key: str) -> str | None:
    """Return why a stream is not meant to deliver, or None."""
    row = (sources.rows or {}).get(key)
    if row is None:
        return "has no row"
    if row.is_disabled:
        until = (row.disabled_until or "").replace("T", " ")
        return f"is disabled until {until} UTC" if until else "is disabled"
    dag = sources.airflow and sources.airflow.dags.get(sources.installation.dag_id(key))
    return "is paused in Airflow" if dag and not dag.stale and dag.paused else None


# --- When a stream is late --------------------------------------------------------------------


def find_lateness(sources: Sources, row: StreamRow, seen: DagView | None) -> str | None:
    """Return why a stream is late, or None. Nothing else decides that.

    An ingestion is late by its batches, a transformer by its runs that succeeded.
    """
    delivery = find_delivery(sources, row.stream_key)
    if delivery is None:
        known, last = find_good_run(sources, row.stream_key, seen)
        what, newest = "run", None
    else:
        known, last = True, delivery.good and delivery.good.ended
        what, newest = "batch", delivery.newest
    due = sources.late_after or batches.due_since(
        row.stream_key, sources.configs, sources.now, sources.time_zone
    )
    since = last or row.created_at
    if not (known and due and since and since < due):
        return None
    text = f"no good {what} since {format_time(since)}"
    if last is None:
        text = f"no good {what} yet, and its row is there since {format_time(since)}"
    if newest and delivery and newest != delivery.good:
        text += f"; batch {newest.number} is {newest.status} since {format_time(newest.started)}"
    return text


def find_good_run(sources: Sources, key: str, seen: DagView | None) -> tuple[bool, datetime | None]:
    """Return whether the good runs of a transformer are known, and when the last one ended.

    What a transformer starts, the ingestion of its output, has batches only after such a run.
    """
    if get_batch_key(sources.configs.get(key, {})) is not None:
        return False, None
    started = [
        delivery
        for each, config in sources.configs.items()
        if key in find_starters(config) and (delivery := find_delivery(sources, each))
    ]
    ended = [delivery.good.ended for delivery in started if delivery.good]
    if seen:
        ended.append(seen.good_run)
    return bool(seen or started), max(filter(None, ended), default=None)
