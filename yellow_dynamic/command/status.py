"""Whether each stream arrived: its row, the DAG built from it, and Airflow's view of that DAG."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import PurePath
from typing import Any, NamedTuple

from rich.text import Text
from sqlalchemy.exc import SQLAlchemyError

from yellow_dynamic import contract
from yellow_dynamic.command.airflow_api import AirflowApi, AirflowView, DagView
from yellow_dynamic.command.in_airflow import BuiltDag, LoadedFactory
from yellow_dynamic.command.platform import Installation
from yellow_dynamic.command.printing import print_line, print_table
from yellow_dynamic.command.rows import StreamRow, in_words, read_rows


class State(enum.StrEnum):
    """What is to be said of a stream in one word."""

    HEALTHY = "healthy"
    DISABLED = "disabled"
    PAUSED = "paused"
    ENDING = "ending"
    SNAPSHOT = "served from snapshot"
    WAITING = "waiting"
    NOT_MERGED = "not merged"
    BROKEN = "broken"
    MISSING = "missing"
    LEFT_OVER = "left over"
    STATIC = "static file"

    @property
    def well(self) -> bool:
        """Whether nothing is wrong: a person switched the stream off, or paused its DAG."""
        return self in (State.HEALTHY, State.DISABLED, State.PAUSED, State.ENDING)

    @property
    def colour(self) -> str:
        if not self.well:
            return "red"
        return "green" if self is State.HEALTHY else "yellow"


class Finding(NamedTuple):
    """A state, and why."""

    state: State
    reason: str = ""


@dataclass
class StreamStatus:
    """One stream: what the row, the factory file and Airflow say of it, and what follows.

    What has no row, or was not asked for, is None.
    """

    stream_key: str
    dag_id: str
    state: State
    reason: str = ""
    row: str | None = None
    dag: str | None = None
    airflow: str | None = None


@dataclass
class PlatformStatus:
    """All streams of a platform, and what is wrong with the platform itself."""

    platform: str
    streams: list[StreamStatus]
    problems: list[str] = field(default_factory=list)

    @property
    def well(self) -> bool:
        return not self.problems and all(stream.state.well for stream in self.streams)

    def show(self) -> None:
        for problem in self.problems:
            print_line(problem, style="red")
        headings = ("stream", "row", "DAG", "Airflow", "state", "reason")
        rows: list[list[str | Text]] = [
            [
                stream.stream_key,
                stream.row or "none",
                stream.dag or "not asked",
                stream.airflow or "not asked",
                Text(stream.state, stream.state.colour),
                stream.reason,
            ]
            for stream in self.streams
        ]
        print_table(f"{self.platform}: {len(rows)} streams", headings, rows)
        counts = Counter(stream.state for stream in self.streams)
        numbers = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        text = f"{'All is well' if self.well else 'Not all is well'}: {numbers or 'no streams'}."
        print_line(text, style="green" if self.well else "red")


@dataclass
class StatusReport:
    """The status of some platforms."""

    platforms: list[PlatformStatus]

    @property
    def differs(self) -> bool:
        return not all(each.well for each in self.platforms)

    def as_json(self) -> dict[str, Any]:
        platforms = [{**asdict(each), "well": each.well} for each in self.platforms]
        return {"well": not self.differs, "platforms": platforms}

    def show(self) -> None:
        for each in self.platforms:
            each.show()


@dataclass
class Sources:
    """All that is known of a platform; None is what could not, or should not, be asked."""

    installation: Installation
    rows: dict[str, StreamRow] | None = None
    model: dict[str, str] | None = None
    factory: LoadedFactory | None = None
    static: list[str] = field(default_factory=list)
    airflow: AirflowView | None = None
    problems: list[str] = field(default_factory=list)


def sources_of(installation: Installation, *, load: bool, api: AirflowApi | None) -> Sources:
    """Ask the model, the table, the factory file and Airflow.

    Args:
        installation: the platform.
        load: whether Airflow's Python is to load the factory file.
        api: Airflow's REST API, or None.

    Raises:
        CommandError: one of them cannot be asked; that the table cannot be read is a problem of
            the platform instead.
    """
    sources = Sources(installation)
    try:
        sources.rows = {row.stream_key: row for row in read_rows(installation)}
    except SQLAlchemyError as error:
        sources.problems.append(in_words(error))
    if installation.model:
        sources.model = installation.model.rows
    if load:
        sources.factory = installation.load()
    sources.static = installation.static_files()
    if api:
        sources.airflow = api.view(installation.airflow_name)
    return sources


def platform_status(sources: Sources) -> PlatformStatus:
    """Return the status of every stream that the model, the table, the file or Airflow knows."""
    installation, factory, airflow = sources.installation, sources.factory, sources.airflow
    built = {
        dag.facts.stream or installation.stream_of(dag_id): dag
        for dag_id, dag in (factory.dags if factory else {}).items()
    }
    seen = {
        (dag.facts and dag.facts.stream) or installation.stream_of(dag_id): dag
        for dag_id, dag in (airflow.dags if airflow else {}).items()
    }
    in_service = {key for key, view in seen.items() if not view.stale}
    keys = {*(sources.rows or {}), *(sources.model or {}), *built, *in_service}
    problems = [*sources.problems]
    if factory and factory.error:
        problems.append(f"The factory file cannot be loaded: {factory.error}")
    streams = [stream_status(sources, key, built.get(key), seen.get(key)) for key in sorted(keys)]
    return PlatformStatus(installation.name, streams, problems)


def stream_status(
    sources: Sources, key: str, built: BuiltDag | None, seen: DagView | None
) -> StreamStatus:
    row = sources.rows.get(key) if sources.rows is not None else None
    finding = next(findings(sources, key, row, built, seen), Finding(State.HEALTHY))
    return StreamStatus(
        key,
        sources.installation.dag_id(key),
        *finding,
        row=str(row.status) if row else None,
        dag=word_of_dag(built) if sources.factory else None,
        airflow=word_of(seen) if sources.airflow else None,
    )


def word_of_dag(built: BuiltDag | None) -> str:
    if built is None:
        return "none"
    return "not valid" if built.facts.problem else "built"


def word_of(view: DagView | None) -> str:
    if view is None:
        return "not there"
    if view.stale:
        return "out of service"
    return "paused" if view.paused else "in service"


def findings(
    sources: Sources,
    key: str,
    row: StreamRow | None,
    built: BuiltDag | None,
    seen: DagView | None,
) -> Iterator[Finding]:
    """Yield what is to be said of a stream, the most important first."""
    if row is None or row.is_off:
        yield from about_ending(built, seen)
    yield from about_row(sources, key, row, seen)
    if row is not None and row.is_off:
        return
    if sources.factory is not None and (row is not None or sources.rows is None):
        yield from about_factory(sources, sources.factory, row, built)
    if sources.airflow is not None and row is not None:
        yield from about_airflow(sources.airflow, row, seen)


def about_ending(built: BuiltDag | None, seen: DagView | None) -> Iterator[Finding]:
    # Only Airflow itself knows whether there is a run.
    facts = (seen.facts if not seen.stale else None) if seen else built and built.facts
    if facts and facts.ending:
        yield Finding(State.ENDING, "it is disabled or removed, and a run of it has not ended")


def about_row(
    sources: Sources, key: str, row: StreamRow | None, seen: DagView | None
) -> Iterator[Finding]:
    if sources.rows is None:
        if not (sources.factory and sources.factory.reading.source == "snapshot"):
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
    elif row.is_off:
        if seen is not None and not seen.stale:
            reason = "it is disabled, and Airflow has not taken its DAG away yet"
            yield Finding(State.WAITING, reason)
        yield Finding(State.DISABLED, row.why_disabled)


def about_factory(
    sources: Sources, factory: LoadedFactory, row: StreamRow | None, built: BuiltDag | None
) -> Iterator[Finding]:
    if factory.error:
        yield Finding(State.BROKEN, "the factory file cannot be loaded; see above")
    elif factory.reading.reason:
        yield Finding(State.SNAPSHOT, factory.reading.reason)
    elif built is None and row is not None:
        file = f"{sources.installation.dag_id(row.stream_key)}.py"
        for path in sources.static:
            if PurePath(path).name == file:
                reason = f"its DAG comes from {path} until that file is deleted"
                yield Finding(State.STATIC, reason)
        yield Finding(State.MISSING, "the factory file does not find its row where it reads")
    elif built and built.facts.problem:
        yield Finding(State.BROKEN, built.facts.problem)
    elif built and row and built.facts.revision != contract.revision_of(row.config_json):
        reason = "the factory file reads another configuration than this table's"
        yield Finding(State.WAITING, reason)


def about_airflow(airflow: AirflowView, row: StreamRow, seen: DagView | None) -> Iterator[Finding]:
    for file, error in airflow.import_errors.items():
        if seen is None or seen.stale or seen.import_errors:
            yield Finding(State.BROKEN, f"Airflow could not import {file}: {error}")
    if seen is None or seen.stale:
        yield Finding(State.MISSING, f"its DAG is {word_of(seen)} in Airflow")
        return
    if seen.facts and seen.facts.problem:
        yield Finding(State.BROKEN, seen.facts.problem)
    elif seen.facts and seen.facts.revision != contract.revision_of(row.config_json):
        reason = (
            f"Airflow has another revision of it, from its parse at {seen.last_parsed}; its "
            f"row was changed at {row.updated_at} UTC"
        )
        yield Finding(State.WAITING, reason)
    if seen.paused:
        yield Finding(State.PAUSED, "it is paused in Airflow")
