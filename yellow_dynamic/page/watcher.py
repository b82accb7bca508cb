"""Asks Airflow to parse the factory files whose DAGs are not yet what the rows say.

Airflow parses each file at an interval, changed or not. Its API server looks every few seconds
whether a platform's table has changed, with one short query, and requests a parse of just those
files until their DAGs agree with the rows: a request that comes while its file is being parsed is
lost, so one for each change would not do.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import PurePath
from threading import Event, Thread
from typing import NamedTuple

from airflow.configuration import conf
from airflow.models.dag import DagModel
from airflow.models.dagbag import DagPriorityParsingRequest
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from airflow.utils.state import State
from sqlalchemy import func, select
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from yellow_dynamic import history
from yellow_dynamic.factory.rules import compute_revision, factory_file_name
from yellow_dynamic.factory.shards import hash_key, rendezvous_owners
from yellow_dynamic.merge_store import engine_of
from yellow_dynamic.monitoring import OperationError
from yellow_dynamic.monitoring.airflow import DagView, dag_id_prefix, is_factory_file
from yellow_dynamic.monitoring.installation import Installation
from yellow_dynamic.monitoring.rows import StreamRow, parse_time, read_rows
from yellow_dynamic.monitoring.text import counted, format_error, format_time
from yellow_dynamic.page import metadata

#: How often a table is looked at, and how often one that cannot be read.
EVERY_SECONDS, OUTAGE_SECONDS = 2, 10
#: How often Airflow is asked of which platforms it has factory files.
PLATFORMS_SECONDS = 60
#: What the interval of parses can be where the tables are watched.
WATCHED_INTERVAL_SECONDS = 600
#: How long after a request the next one for the same file follows, at first and at most.
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 2, 30
#: How long a DAG may take to go after a parse without it: Airflow looks for such once a minute.
GOING_SECONDS = 90
#: For how long Airflow is asked for a file that it does not parse; and how often it is then looked
#: at whether Airflow has parsed it after all.
PATIENCE_SECONDS, GIVEN_UP_SECONDS = 10 * 60, 60

log = logging.getLogger(__name__)

find_owners = functools.cache(rendezvous_owners)


class File(NamedTuple):
    """A factory file, as Airflow names it."""

    bundle: str
    path: str


@dataclass
class Difference:
    """What of a file's DAGs is not what the rows say.

    Attributes:
        parsed: when Airflow has parsed the file last; None for never.
        streams: the streams whose DAGs are to come, to change or to go.
        gone_after: from when on a parse takes the DAGs that are to go out of service, or None.
    """

    parsed: datetime | None
    streams: list[str] = field(default_factory=list)
    gone_after: datetime | None = None


@dataclass
class Request:
    """What was asked of Airflow for one file since the rows have changed.

    Attributes:
        difference: what it was asked for.
        since: from when on an answer is expected, as time.monotonic() has it.
        due: when it is asked next.
        count: how often it was asked.
        parses: how often Airflow has parsed the file since then.
    """

    difference: Difference
    since: float
    due: float = 0
    count: int = 0
    parses: int = 0

    @property
    def has_read_rows(self) -> bool:
        """Whether Airflow has made of the rows what it makes of them.

        The first parse may have read them before they changed.
        """
        return self.parses > 1

    @property
    def is_answered(self) -> bool:
        """Whether no parse would change anything: the DAGs that are to go are gone, too."""
        return self.has_read_rows and self.difference.gone_after is None

    @property
    def is_given_up(self) -> bool:
        return not self.is_answered and time.monotonic() - self.since > PATIENCE_SECONDS

    def follow(self, difference: Difference) -> None:
        """Note what the file's DAGs are like now; a parse that changed nothing came too early."""
        if difference.parsed != self.difference.parsed:
            self.parses += 1
            if not self.has_read_rows:
                self.due = 0
        self.difference = difference

    def take_turn(self) -> bool:
        """Return whether it is time to ask, and note that it was done."""
        now, gone_after = time.monotonic(), self.difference.gone_after
        wait = min(FIRST_WAIT_SECONDS * 2**self.count, LONGEST_WAIT_SECONDS)
        if self.has_read_rows and gone_after:
            wait = GOING_SECONDS
            if datetime.now(UTC) <= gone_after:
                # A parse before would change nothing.
                self.since, self.due = now, 0
                return False
        if self.is_answered or self.is_given_up or now < self.due:
            return False
        self.due = now + wait
        self.count += 1
        return True


@dataclass
class Watcher:
    """Watches the table of one platform, in a thread of its own.

    Attributes:
        installation: the platform.
        problems: the files that Airflow does not parse, for the page.
    """

    installation: Installation
    problems: list[str] = field(default_factory=list)
    stopped: Event = field(default_factory=Event)
    _connection: Connection | None = None
    _revision: int | None = None
    _requests: dict[File, Request] = field(default_factory=dict)
    #: When the rows are compared again without a change, as time.monotonic() and UTC have it.
    _next_look: float = 0
    _next_switch: datetime | None = None
    _outage: str | None = None

    def run(self) -> None:
        """Look until it is stopped."""
        wait: float = 0
        while not self.stopped.wait(wait):
            wait = EVERY_SECONDS
            try:
                self.look()
                self._outage = None
            except (OperationError, SQLAlchemyError) as error:
                self._say(format_error(error))
                wait = OUTAGE_SECONDS
            except Exception:
                log.exception("A look at the table of platform %r failed.", self.installation.name)
                wait = OUTAGE_SECONDS
            if wait == OUTAGE_SECONDS:
                self._disconnect()
        self._disconnect()

    def look(self) -> None:
        """Ask Airflow for the files that differ, if the rows have changed or are not followed.

        Raises:
            OperationError: there is no login.
            sqlalchemy.exc.SQLAlchemyError: the table or Airflow's own database cannot be read.
        """
        revision = self._read_revision()
        switched = self._next_switch is not None and self._next_switch <= datetime.now(UTC)
        if revision != self._revision or switched:
            self._requests = {}
        elif time.monotonic() < self._next_look:
            return
        rows = {row.stream_key: row for row in read_rows(self.installation)}
        with create_session(scoped=False) as session:
            airflow = AirflowSide.read(session, self.installation)
            found = airflow.compare(rows)
            self._ask(session, found)
        self._revision, self._next_switch = revision, find_next_switch(rows.values())
        self._next_look = self._plan_next_look(bool(airflow.ending))

    def _read_revision(self) -> int:
        """Return the newest revision of the table, over a connection that stays open."""
        if self._connection is not None:
            try:
                return history.last_revision(self._connection, self.installation.table)
            except SQLAlchemyError:
                # Servers and poolers end connections that rest.
                self._disconnect()
        engine = engine_of(self.installation.store_url(), self.installation.name)
        connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self._connection = connection
        return history.last_revision(connection, self.installation.table)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _ask(self, session: Session, found: dict[File, Difference]) -> None:
        """Request a parse of the files that differ, for those whose turn it is."""
        now = time.monotonic()
        former = self._requests
        self._requests = {}
        for file, difference in found.items():
            request = former.get(file) or Request(difference, now)
            request.follow(difference)
            self._requests[file] = request
            if request.take_turn():
                request_parse(session, file)
                log.info(
                    "Asked Airflow to parse %s: the DAGs of %s are not what the rows say (%s).",
                    file.path,
                    counted(len(difference.streams), "stream"),
                    ", ".join(difference.streams[:3]),
                )
        problems = [
            describe_file_given_up(file, request.difference)
            for file, request in self._requests.items()
            if request.is_given_up
        ]
        for problem in problems:
            if problem not in self.problems:
                log.warning("%s", problem)
        self.problems = problems

    def _plan_next_look(self, is_ending: bool) -> float:
        """Return when the rows are compared again, even if they have not changed."""
        requests = self._requests.values()
        if is_ending or any(not (each.is_answered or each.is_given_up) for each in requests):
            return 0
        return time.monotonic() + GIVEN_UP_SECONDS if self.problems else float("inf")

    def _say(self, reason: str) -> None:
        """Log why the table cannot be read, once."""
        if reason != self._outage:
            log.warning("Changes arrive with Airflow's next parse alone. %s", reason)
        self._outage = reason


@dataclass(frozen=True)
class AirflowSide:
    """What Airflow has of a platform.

    Attributes:
        installation: the platform.
        dags: its DAGs by the keys of their streams.
        files: its files by their paths on the DAG processor's disk.
        parsed: when each file was parsed last.
        ending: the IDs of the DAGs of streams that have ended and still have a run.
    """

    installation: Installation
    dags: dict[str, DagView]
    files: dict[str | None, File]
    parsed: dict[File, datetime]
    ending: frozenset[str]

    @classmethod
    def read(cls, session: Session, installation: Installation) -> AirflowSide:
        views = list(metadata.dag_views(session, installation.airflow_name))
        dags = {
            (view.facts and view.facts.stream) or installation.stream_key(view.dag_id): view
            for view in views
        }
        newest = func.max(DagModel.last_parsed_time)
        place = (DagModel.fileloc, DagModel.bundle_name, DagModel.relative_fileloc)
        of_platform = DagModel.dag_id.startswith(
            dag_id_prefix(installation.airflow_name), autoescape=True
        )
        query = select(*place, newest).where(of_platform).group_by(*place).order_by(newest)
        found = [
            (path, File(bundle, relative), parsed)
            for path, bundle, relative, parsed in session.execute(query)
            if is_factory_file(installation.airflow_name, path)
        ]
        files = {path: file for path, file, _ in found}
        parsed = {file: at for _, file, at in found}
        ended = [
            view.dag_id for view in views if view.facts and view.facts.ending and not view.stale
        ]
        return cls(installation, dags, files, parsed, find_running(session, ended))

    def compare(self, rows: dict[str, StreamRow]) -> dict[File, Difference]:
        """Return the files whose DAGs are not what the rows say."""
        found: dict[File, Difference] = {}
        for key in sorted({*rows, *self.dags}):
            file = self._find_file(key)
            if file in self.parsed and not self._agrees(rows.get(key), self.dags.get(key)):
                difference = found.setdefault(file, Difference(self.parsed[file]))
                difference.streams.append(key)
                ends = (difference.gone_after, self._find_end(rows.get(key), self.dags.get(key)))
                difference.gone_after = max(filter(None, ends), default=None)
        return found

    def _find_end(self, row: StreamRow | None, dag: DagView | None) -> datetime | None:
        """Return from when on a parse takes a DAG that is to go out of service, or None.

        Airflow takes out one that its file has not had for as long.
        """
        if dag is None or not (row is None or row.is_disabled) or dag.last_parsed is None:
            return None
        threshold = conf.getint("dag_processor", "stale_dag_threshold")
        return datetime.fromisoformat(dag.last_parsed) + timedelta(seconds=threshold)

    def _agrees(self, row: StreamRow | None, dag: DagView | None) -> bool:
        served = None if dag is None or dag.stale else dag
        if served and served.file not in self.files:
            # A static file beside the factory file has this stream.
            return True
        if row is None or row.is_disabled:
            return served is None or served.dag_id in self.ending
        if served is None:
            return False
        return served.facts is None or served.facts.revision == compute_revision(row.config_json)

    def _find_file(self, key: str) -> File | None:
        """Return the file that has a stream's DAG, or is to have it; None where there is none."""
        dag = self.dags.get(key)
        if dag and not dag.stale and dag.file in self.files:
            return self.files[dag.file]
        count = int(self.installation.settings["factory_shards"])
        number = find_owners(tuple(range(1, count + 1)))[hash_key(key)]
        name = f"{factory_file_name(self.installation.airflow_name, number)}.py"
        files = {PurePath(file.path).name: file for file in self.files.values()}
        return files.get(name)


def find_running(session: Session, dag_ids: Iterable[str]) -> frozenset[str]:
    """Return which of these DAGs have a run that has not ended."""
    query = select(DagRun.dag_id).where(
        DagRun.dag_id.in_(dag_ids), DagRun.state.in_(State.unfinished_dr_states)
    )
    return frozenset(session.scalars(query))


def find_next_switch(rows: Iterable[StreamRow]) -> datetime | None:
    """Return when the next stream is no longer disabled, or None."""
    times = [parse_time(row.disabled_until) for row in rows if row.is_disabled]
    return min((time.replace(tzinfo=UTC) for time in times if time), default=None)


def request_parse(session: Session, file: File) -> None:
    """Request a parse of a file, if none is requested."""
    same = select(DagPriorityParsingRequest.id).where(
        DagPriorityParsingRequest.bundle_name == file.bundle,
        DagPriorityParsingRequest.relative_fileloc == file.path,
    )
    if session.scalar(same) is not None:
        return
    try:
        with session.begin_nested():
            session.add(DagPriorityParsingRequest(file.bundle, file.path))
    except IntegrityError:
        log.debug("Another API server has requested %s in the same moment.", file.path)


def describe_file_given_up(file: File, difference: Difference) -> str:
    """Return which file Airflow does not parse, what that means, and what to look at."""
    streams, parsed = difference.streams, difference.parsed
    last = f"parsed it last at {format_time(parsed)}" if parsed else "has no DAG of it"
    return (
        f"Airflow was asked for {PATIENCE_SECONDS // 60} minutes to parse {file.path} and {last}, "
        f"so the DAGs of {counted(len(streams), 'stream')} are not what the rows say "
        f"({', '.join(streams[:3])}). See that the DAG processor runs, and what its log says of "
        "the file."
    )


class Watchers:
    """Has a watcher for each platform of which Airflow has a factory file."""

    def __init__(self) -> None:
        self._by_name: dict[str, Watcher] = {}
        self._is_started = False

    def start(self) -> None:
        """Watch from now on, beside what this process does."""
        self._is_started = True
        Thread(target=self.run, name="watchers of yellow_dynamic", daemon=True).start()

    def run(self) -> None:
        """Watch the platforms that there are, until the process ends."""
        while True:
            try:
                self.update()
            except Exception as error:  # noqa: BLE001 - the next time may go well
                log.warning("The platforms to watch cannot be read: %r.", error)
            time.sleep(PLATFORMS_SECONDS)

    def update(self) -> None:
        """Start the watchers of new platforms, and stop those of former ones."""
        with create_session(scoped=False) as session:
            found = {
                each.installation.name: each.installation
                for each in metadata.find_factories(session)
                if each.in_service
            }
        for name in self._by_name.keys() - found.keys():
            self._by_name.pop(name).stopped.set()
        for name, installation in found.items():
            if name in self._by_name:
                self._by_name[name].installation = installation
                continue
            watcher = self._by_name[name] = Watcher(installation)
            Thread(target=watcher.run, name=f"watcher of {name}", daemon=True).start()

    def describe(self) -> str:
        """Return how a change of a row comes to Airflow here, and what would make that cheaper."""
        interval = conf.getint("dag_processor", "min_file_process_interval")
        if not self._is_started:
            return (
                f"Airflow parses each file every {interval} s, and changes of rows arrive with the "
                "next parse. [yellow_dynamic] watch_changes would let them arrive within seconds."
            )
        text = (
            f"Changes of rows arrive after {EVERY_SECONDS} s and a parse of their file: Airflow's "
            "API server watches the tables."
        )
        if interval < WATCHED_INTERVAL_SECONDS:
            text += (
                f" So the parses every {interval} s are not needed: set [dag_processor] "
                f"min_file_process_interval = {WATCHED_INTERVAL_SECONDS}."
            )
        return text

    def problems(self, name: str) -> list[str]:
        """Return the problems of the watcher of a platform."""
        watcher = self._by_name.get(name)
        return watcher.problems if watcher else []


#: Those of this process, if they were started.
WATCHERS = Watchers()
