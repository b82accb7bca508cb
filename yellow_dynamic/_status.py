"""Whether each stream arrived: its row, the DAG built from it, and Airflow's view of that DAG."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from datasurface.md import ValidationTree
from yellow_dynamic._airflow_api import AirflowApi, AirflowView, DagView
from yellow_dynamic._factory import load_factory, revision, static_files
from yellow_dynamic._installation import Installation, refuse_errors
from yellow_dynamic._streams import DISABLED, StreamRow, read_rows

HEALTHY, PAUSED, SNAPSHOT, MISSING = "healthy", "paused", "served from snapshot", "missing"
BROKEN, WAITING, LEFT_OVER, STATIC = "broken", "waiting", "left over", "static file"
NOT_MERGED = "not merged"

#: The states in which nothing is wrong: a person switched the stream off, or paused its DAG.
WELL = (HEALTHY, DISABLED, PAUSED)

_REVISION = re.compile(r"Revision `([0-9a-f]+)`")


@dataclass
class StreamStatus:
    """One stream: what the row, the factory file and Airflow say of it, and what follows.

    What has no row, or was not asked for, is None.
    """

    stream_key: str
    dag_id: str
    state: str
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
        return not self.problems and all(stream.state in WELL for stream in self.streams)


@dataclass
class Sources:
    """All that is known of a platform; None is what could not, or should not, be asked."""

    installation: Installation
    rows: dict[str, StreamRow] | None
    model: dict[str, str] | None
    factory: dict[str, Any] | None
    static: list[str]
    airflow: AirflowView | None
    problems: list[str]


def model_rows(installation: Installation) -> dict[str, str] | None:
    """Return the rows that the model asks for, or None where no model is given.

    Raises:
        CommandError: a merge of the model would be refused.
    """
    if installation.model is None:
        return None
    tree = ValidationTree(installation.model.eco)
    rows = installation.model.rows(tree)
    refuse_errors(tree, f"The model of platform {installation.name!r} has errors; see above.")
    return rows


def platform_status(sources: Sources) -> PlatformStatus:
    """Return the status of every stream that the model, the table, the file or Airflow knows."""
    factory, airflow = sources.factory, sources.airflow
    built = by_stream(sources, factory["dags"]) if factory else {}
    seen = by_stream(sources, airflow.dags) if airflow else {}
    in_service = {key for key, view in seen.items() if not view.stale}
    keys = {*(sources.rows or {}), *(sources.model or {}), *built, *in_service}
    problems = [*sources.problems]
    if factory and factory["error"]:
        problems.append(f"The factory file cannot be loaded: {factory['error']}")
    streams = [stream_status(sources, key, built.get(key), seen.get(key)) for key in sorted(keys)]
    return PlatformStatus(sources.installation.name, streams, problems)


def by_stream(sources: Sources, dags: dict[str, Any]) -> dict[str, Any]:
    """Return the DAGs by the keys of their streams, whatever their ids."""
    start, end = sources.installation.dag_id("\0").split("\0")
    # The id of a bad row's DAG does not always name the row; its page does.
    names = {f"The stream {key!a:.300} of": key for key in sources.rows or {}}
    found = {}
    for dag_id, dag in dags.items():
        page = (dag.doc_md if isinstance(dag, DagView) else dag["doc_md"]) or ""
        named = [key for name, key in names.items() if "### Not valid" in page and name in page]
        found[named[0] if named else dag_id.removeprefix(start).removesuffix(end)] = dag
    return found


def stream_status(
    sources: Sources, key: str, built: dict[str, Any] | None, seen: DagView | None
) -> StreamStatus:
    row = sources.rows.get(key) if sources.rows is not None else None
    state, reason = next(iter(findings(sources, key, row, built, seen)), (HEALTHY, ""))
    return StreamStatus(
        key,
        sources.installation.dag_id(key),
        state,
        reason,
        row=str(row.status) if row else None,
        dag=word_of_dag(built) if sources.factory else None,
        airflow=word_of(seen) if sources.airflow else None,
    )


def word_of_dag(built: dict[str, Any] | None) -> str:
    if built is None:
        return "none"
    return "not valid" if built["problem"] else "built"


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
    built: dict[str, Any] | None,
    seen: DagView | None,
) -> list[tuple[str, str]]:
    """Return what is to be said of a stream, the most important first."""
    found = [*about_row(sources, key, row, seen)]
    if row is not None and row.status == DISABLED:
        return found
    if sources.factory is not None and (row is not None or sources.rows is None):
        found += about_factory(sources, row, built)
    if sources.airflow is not None and row is not None:
        found += about_airflow(sources.airflow, row, seen)
    return found


def about_row(
    sources: Sources, key: str, row: StreamRow | None, seen: DagView | None
) -> list[tuple[str, str]]:
    in_service = seen is not None and not seen.stale
    if sources.rows is None:
        snapshot = sources.factory and sources.factory["snapshot"]
        return [] if snapshot else [(BROKEN, "the table cannot be read")]
    if row is None:
        if key in (sources.model or {}):
            return [(MISSING, "the model has it and the table does not; run handleModelMerge")]
        return [(LEFT_OVER, "there is a DAG and no row; it goes with Airflow's next parses")]
    if sources.model is not None and key not in sources.model:
        return [(NOT_MERGED, "the model does not have it; run handleModelMerge to remove it")]
    if sources.model is not None and sources.model[key] != row.config_json:
        return [(NOT_MERGED, "its row is not what the model says; see `yellow-dynamic plan`")]
    if row.status == DISABLED:
        if in_service:
            return [(WAITING, "it is disabled, and Airflow has not taken its DAG away yet")]
        return [(DISABLED, "")]
    return []


def about_factory(
    sources: Sources, row: StreamRow | None, built: dict[str, Any] | None
) -> list[tuple[str, str]]:
    factory = sources.factory
    assert factory is not None
    if factory["error"]:
        return [(BROKEN, "the factory file cannot be loaded; see above")]
    if factory["snapshot"]:
        return [(SNAPSHOT, factory["snapshot"])]
    if built is None and row is not None:
        file = f"{sources.installation.dag_id(row.stream_key)}.py"
        static = [path for path in sources.static if PurePath(path).name == file]
        if static:
            return [(STATIC, f"its DAG comes from {static[0]} until that file is deleted")]
        return [(MISSING, "the factory file does not find its row where it reads")]
    if built and built["problem"]:
        return [(BROKEN, built["problem"])]
    if built and row and revision_of(built["doc_md"]) != revision(row.config_json):
        return [(WAITING, "the factory file reads another configuration than this table's")]
    return []


def about_airflow(
    airflow: AirflowView, row: StreamRow, seen: DagView | None
) -> list[tuple[str, str]]:
    errors = [f"{file}: {error}" for file, error in airflow.import_errors.items()]
    if errors and (seen is None or seen.stale or seen.import_errors):
        return [(BROKEN, f"Airflow could not import {errors[0]}")]
    if seen is None or seen.stale:
        return [(MISSING, f"its DAG is {word_of(seen)} in Airflow")]
    if "config-error" in seen.tags:
        return [(BROKEN, (seen.doc_md or "").strip().splitlines()[-1].strip())]
    if seen.doc_md and revision_of(seen.doc_md) != revision(row.config_json):
        return [
            (
                WAITING,
                f"Airflow has another revision of it, from its parse at {seen.last_parsed}; its "
                f"row was changed at {row.updated_at} UTC",
            )
        ]
    return [(PAUSED, "it is paused in Airflow")] if seen.paused else []


def revision_of(doc_md: str | None) -> str | None:
    """Return the revision that the page about a DAG names."""
    found = _REVISION.search(doc_md or "")
    return found[1] if found else None


def in_words(error: SQLAlchemyError) -> str:
    """Return what the database refused and what to do, without the statement."""
    cause = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
    return " ".join([f"{cause.rstrip('.')}.", *getattr(error, "__notes__", [])])


def sources_of(
    installation: Installation, python: str | None, dags: str | None, api: AirflowApi | None
) -> Sources:
    """Ask the model, the table, the factory file and Airflow.

    Args:
        installation: the platform.
        python: the command that starts Airflow's Python; None where it is not to be asked.
        dags: Airflow's DAG folder, or None.
        api: Airflow's REST API, or None.

    Raises:
        CommandError: one of them cannot be asked; that the table cannot be read is a problem of
            the platform instead.
    """
    problems = []
    rows = None
    try:
        rows = {row.stream_key: row for row in read_rows(installation)}
    except SQLAlchemyError as error:
        problems.append(in_words(error))
    return Sources(
        installation,
        rows,
        model_rows(installation),
        None if python is None else load_factory(installation, python),
        static_files(installation, dags, python),
        api.view(installation.airflow_name) if api else None,
        problems,
    )
