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
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import PurePath
from threading import Event, Thread
from typing import NamedTuple

from airflow.configuration import conf
from airflow.models.dag import DagModel
from airflow.models.dagbag import DagPriorityParsingRequest
from airflow.models.dagrun import DagRun
from airflow.models.serialized_dag import SerializedDagModel
from airflow.utils.session import create_session
from airflow.utils.state import State
from sqlalchemy import func, select, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from yellow_dynamic import history
from yellow_dynamic.factory.logs import one_line
from yellow_dynamic.factory.rules import compute_revision, factory_file_name
from yellow_dynamic.factory.shards import hash_key, rendezvous_owners
from yellow_dynamic.merge_store import engine_of
from yellow_dynamic.monitoring import OperationError
from yellow_dynamic.monitoring.airflow import DagView, dag_id_prefix, is_factory_file
from yellow_dynamic.monitoring.in_airflow import parse_facts
from yellow_dynamic.monitoring.installation import Installation, driver_required
from yellow_dynamic.monitoring.rows import StreamRow, parse_time, read_rows
from yellow_dynamic.monitoring.text import counted, format_error, format_time
from yellow_dynamic.page import metadata

#: How often a table is looked at, and how often one that cannot be read.
EVERY_SECONDS, OUTAGE_SECONDS = 3, 10
#: How often the list of platforms is read from Airflow's database.
PLATFORMS_SECONDS = 60
#: What the interval of parses can be where the tables are watched.
WATCHED_INTERVAL_SECONDS = 600
#: How long after a request the next one for the same file follows, at first and at most.
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 3, 30
#: How long a DAG may take to go after a parse without it: Airflow looks for such once a minute.
GOING_SECONDS = 90
#: For how long Airflow is asked for a file that it does not parse; and how often the rows are
#: compared with its DAGs although they have not changed.
PATIENCE_SECONDS, RECHECK_SECONDS = 10 * 60, 5 * 60
#: So many DAGs are read at once as the scheduler has them.
AT_ONCE = 200
#: After how long a look counts as one that hangs.
HANGING_SECONDS = 60
#: The settings of Airflow that say how long it keeps a DAG that its file has no more, and how long
#: it leaves a DAG as it has stored it for the scheduler.
STALE = ("dag_processor", "stale_dag_threshold")
STORE = ("core", "min_serialized_dag_update_interval")
#: What lets a connection that rests notice a server that is gone.
LIVE = {"keepalives_idle": 30, "tcp_user_timeout": 15_000}

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
        parsed: when Airflow has parsed the file last; None if it has no DAG of it.
        wanted: the streams whose DAGs are to come or to change, with the revision that is wanted,
            or to go, with None.
        useful_after: when Airflow does with the next parse what it has put off, or None.
    """

    parsed: datetime | None
    wanted: dict[str, str | None] = field(default_factory=dict)
    useful_after: datetime | None = None


@dataclass
class Request:
    """What was asked of Airflow for one file since the rows have changed.

    Attributes:
        difference: what it was asked for.
        since: from when on its DAGs are to agree, as time.monotonic() has it.
        due: when it is asked next.
        count: how often it was asked.
        parses: how often Airflow has parsed the file since then.
        is_futile: whether Airflow goes on finding a DAG in the file that is to go.
    """

    difference: Difference
    since: float
    due: float = 0
    count: int = 0
    parses: int = 0
    is_futile: bool = False

    @property
    def has_read_rows(self) -> bool:
        """Whether Airflow has made of the rows what it makes of them.

        The first parse may have read them before they changed.
        """
        return self.parses > 1

    @property
    def is_answered(self) -> bool:
        """Whether no parse would change anything."""
        return self.has_read_rows and (self.difference.useful_after is None or self.is_futile)

    @property
    def is_given_up(self) -> bool:
        return not self.is_answered and time.monotonic() - self.since > PATIENCE_SECONDS

    @property
    def pause(self) -> float:
        """For how many seconds nothing is to be done, at least."""
        after = self.difference.useful_after
        if self.is_given_up:
            return GOING_SECONDS
        if self.is_answered:
            return RECHECK_SECONDS
        if self.has_read_rows and after:
            left = (after - datetime.now(UTC)).total_seconds()
            return max(left, self.due - time.monotonic())
        return 0

    def follow(self, difference: Difference) -> None:
        """Note what the file's DAGs are like now; a parse that changed nothing came too early."""
        before, after = self.difference.useful_after, difference.useful_after
        if difference.parsed != self.difference.parsed:
            self.is_futile = self.has_read_rows and bool(before and after and before < after)
            self.parses += 1
            if not self.has_read_rows:
                self.due = 0
        self.difference = difference

    def take_turn(self) -> bool:
        """Return whether it is time to ask, and note that it was done."""
        now, after = time.monotonic(), self.difference.useful_after
        wait = min(FIRST_WAIT_SECONDS * 2**self.count, LONGEST_WAIT_SECONDS)
        if after and datetime.now(UTC) <= after:
            self.since = now
            if self.has_read_rows:
                self.due = 0
                return False
        elif self.has_read_rows:
            wait = RECHECK_SECONDS if self.is_given_up else GOING_SECONDS
        if self.is_answered or now < self.due:
            return False
        if self.is_given_up and self.count and not self.parses:
            return False
        self.due = now + wait
        self.count += 1
        return True


@dataclass
class Watcher:
    """Watches the table of one platform, in a thread of its own.

    Attributes:
        installation: the platform.
        in_service: whether any DAG of the platform is; else the platform may be gone.
    """

    installation: Installation
    in_service: bool = True
    stopped: Event = field(default_factory=Event)
    _connection: Connection | None = None
    _revision: int | None = None
    _requests: dict[File, Request] = field(default_factory=dict)
    #: The revisions that the scheduler was seen to have.
    _scheduled: dict[str, str | None] = field(default_factory=dict)
    #: The DAGs of streams that have ended, which are there for their last runs.
    _ending: frozenset[str] = frozenset()
    #: When the rows are compared without a change, as time.monotonic() and UTC have it.
    _next_look: float = 0
    _next_switch: datetime | None = None
    _began: float | None = None
    _outage: str | None = None
    _given_up: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """Why changes do not arrive as fast as they should."""
        began = self._began
        if began is not None and time.monotonic() - began > HANGING_SECONDS:
            return [self._describe_outage("a query has no answer.")]
        return [self._outage] if self._outage else self._given_up

    def run(self) -> None:
        """Look until it is stopped."""
        wait: float = 0
        while not self.stopped.wait(wait):
            self._began, wait = time.monotonic(), EVERY_SECONDS
            try:
                self.look()
                self._outage = None
            except (OperationError, SQLAlchemyError) as error:
                wait = OUTAGE_SECONDS
                self._note_outage(format_error(error))
            except Exception as error:  # noqa: BLE001 - the next look may go well
                wait = OUTAGE_SECONDS
                self._note_outage(repr(error))
            self._began = None
        self._disconnect()

    def look(self) -> None:
        """Ask Airflow for the files that differ, if the rows have changed or are not followed.

        Raises:
            OperationError: there is no login or no history.
            sqlalchemy.exc.SQLAlchemyError: the table or Airflow's own database cannot be read.
        """
        revision = self._read_revision()
        switched = self._next_switch is not None and self._next_switch <= datetime.now(UTC)
        is_new = revision != self._revision or switched
        if not is_new and time.monotonic() < self._next_look and not self._has_run_ended():
            return
        rows = read_rows(self.installation)
        wanted = {
            row.stream_key: compute_revision(row.config_json) for row in rows if not row.is_disabled
        }
        doubtful = {key for key in wanted if self._scheduled.get(key) != wanted[key]}
        with create_session(scoped=False) as session:
            airflow = AirflowSide.read(session, self.installation, doubtful)
            self._ask(session, airflow.compare(wanted), is_new=is_new)
        self._scheduled |= {key: stored.revision for key, stored in airflow.stored.items()}
        self._revision, self._next_switch = revision, find_next_switch(rows)
        self._ending = airflow.ending
        pauses = [RECHECK_SECONDS, *(request.pause for request in self._requests.values())]
        self._next_look = time.monotonic() + min(pauses)

    def _read_revision(self) -> int:
        """Return the newest revision of the table, over a connection that stays open."""
        if self._connection is not None:
            try:
                return read_revision(self._connection, self.installation)
            except SQLAlchemyError:
                # Servers and poolers end connections that rest.
                self._disconnect()
        with driver_required():
            engine = engine_of(self.installation.store_url(), self.installation.name, **LIVE)
        self._connection = engine.connect()
        with self._connection.begin():
            if not history.is_readable(self._connection, self.installation.table):
                raise OperationError(history.no_history_message(self.installation.table))
        return read_revision(self._connection, self.installation)

    def _disconnect(self) -> None:
        # What the table becomes meanwhile may have the same revision.
        connection, self._connection, self._revision = self._connection, None, None
        if connection is not None:
            connection.close()

    def _has_run_ended(self) -> bool:
        """Return whether the last run of a stream that has ended is over."""
        if not self._ending:
            return False
        with create_session(scoped=False) as session:
            return find_running(session, self._ending) != self._ending

    def _ask(self, session: Session, found: dict[File, Difference], *, is_new: bool) -> None:
        """Request a parse of the files that differ, for those whose turn it is."""
        former, self._requests = self._requests, {}
        for file, difference in sorted(found.items()):
            request = self._requests[file] = renew(former.get(file), difference, is_new=is_new)
            if request.take_turn():
                request_parse(session, file)
                log.info(
                    "Asked Airflow to parse %s: the DAGs of %s are not what the rows say (%s).",
                    file.path,
                    counted(len(difference.wanted), "stream"),
                    name_some(difference.wanted),
                )
        given_up = [
            describe_file_given_up(file, request.difference)
            for file, request in self._requests.items()
            if request.is_given_up and self.in_service
        ]
        for problem in given_up:
            if problem not in self._given_up:
                log.warning("%s", problem)
        self._given_up = given_up

    def _describe_outage(self, reason: str) -> str:
        return (
            f"Platform {self.installation.name!r} is not watched now, so changes of its rows "
            f"arrive with Airflow's next parse: {reason}"
        )

    def _note_outage(self, reason: str) -> None:
        """Log why the platform cannot be watched, once, and begin anew."""
        outage = self._describe_outage(reason)
        if outage != self._outage and self.in_service:
            log.warning("%s", outage)
        self._outage = outage
        try:
            self._disconnect()
        except SQLAlchemyError as error:
            log.debug("The connection is lost already: %r.", error)


def renew(request: Request | None, difference: Difference, *, is_new: bool) -> Request:
    """Return what is asked for a file: the request as before, or a new one for new differences."""
    if request:
        before, now = request.difference.wanted.items(), difference.wanted.items()
        if (now <= before and not is_new) or (now == before and request.is_answered):
            request.follow(difference)
            return request
    # A file that Airflow does not parse is no better for another change.
    is_waiting = request and not request.parses and request.difference.parsed == difference.parsed
    return Request(difference, request.since if request and is_waiting else time.monotonic())


def read_revision(connection: Connection, installation: Installation) -> int:
    """Return the newest revision of a table; no session is left with settings or a transaction."""
    with connection.begin():
        connection.execute(text("SET LOCAL statement_timeout = '10s'"))
        return history.last_revision(connection, installation.table)


class Stored(NamedTuple):
    """The revision that the scheduler has of a stream's DAG, and since when."""

    revision: str | None
    at: datetime


@dataclass(frozen=True)
class AirflowSide:
    """What Airflow has of a platform.

    Attributes:
        installation: the platform.
        dags: its DAGs by the keys of their streams.
        files: its files by their paths on the DAG processor's disk.
        parsed: when each file was parsed last.
        ending: the IDs of the DAGs of streams that have ended and still have a run.
        stored: what the scheduler has of those that may differ from what is listed.
    """

    installation: Installation
    dags: dict[str, DagView]
    files: dict[str | None, File]
    parsed: dict[File, datetime]
    ending: frozenset[str]
    stored: dict[str, Stored] = field(default_factory=dict)

    @classmethod
    def read(
        cls, session: Session, installation: Installation, doubtful: Collection[str] = ()
    ) -> AirflowSide:
        """Read Airflow's own database.

        Args:
            session: of it.
            installation: the platform.
            doubtful: streams whose DAGs are read as the scheduler has them, too. Airflow may store
                these later than what it lists.
        """
        views = list(metadata.dag_views(session, installation.airflow_name))
        dags = {
            (view.facts and view.facts.stream) or installation.stream_key(view.dag_id): view
            for view in views
        }
        newest = func.max(DagModel.last_parsed_time)
        place = (DagModel.fileloc, DagModel.bundle_name, DagModel.relative_fileloc)
        query = (
            select(*place, newest)
            .where(
                DagModel.dag_id.startswith(
                    dag_id_prefix(installation.airflow_name), autoescape=True
                ),
                DagModel.bundle_name.is_not(None),
                DagModel.relative_fileloc.is_not(None),
                DagModel.last_parsed_time.is_not(None),
            )
            .group_by(*place)
            .order_by(newest)
        )
        found = [
            (path, File(bundle, relative), parsed)
            for path, bundle, relative, parsed in session.execute(query)
            if is_factory_file(installation.airflow_name, path)
        ]
        ended = [
            view.dag_id for view in views if view.facts and view.facts.ending and not view.stale
        ]
        return cls(
            installation,
            dags,
            {path: file for path, file, _ in found},
            {file: parsed for _, file, parsed in found},
            find_running(session, ended),
            read_stored(session, {dags[key].dag_id: key for key in dags.keys() & doubtful}),
        )

    @functools.cached_property
    def files_by_name(self) -> dict[str, File]:
        return {PurePath(file.path).name: file for file in self.files.values()}

    @functools.cached_property
    def owners(self) -> list[int]:
        """The number of the file that each bucket of streams belongs to."""
        return find_owners(tuple(range(1, int(self.installation.settings["factory_shards"]) + 1)))

    def compare(self, wanted: dict[str, str]) -> dict[File, Difference]:
        """Return the files whose DAGs are not what is wanted.

        Args:
            wanted: the revision of each stream that is to have a DAG.
        """
        found: dict[File, Difference] = {}
        for key in sorted({*wanted, *self.dags}):
            revision, dag = wanted.get(key), self.dags.get(key)
            file = self._find_file(key, dag)
            if file is None or self._agrees(key, revision, dag):
                continue
            difference = found.setdefault(file, Difference(self.parsed.get(file)))
            difference.wanted[key] = revision
            moments = (difference.useful_after, self._find_moment(key, revision, dag))
            difference.useful_after = max(filter(None, moments), default=None)
        return found

    def _agrees(self, key: str, wanted: str | None, dag: DagView | None) -> bool:
        served = None if dag is None or dag.stale else dag
        if served and served.file not in self.files:
            # A static file beside the factory file has this stream.
            return True
        if wanted is None:
            return served is None or served.dag_id in self.ending
        if served is None:
            return False
        stored = self.stored.get(key)
        is_listed = served.facts is None or served.facts.revision == wanted
        return is_listed and (stored is None or stored.revision == wanted)

    def _find_moment(self, key: str, wanted: str | None, dag: DagView | None) -> datetime | None:
        """Return when Airflow does with a DAG that differs what it puts off, or None.

        It keeps one in service that its file has no more, and stores a DAG that was stored just
        before, only after some time.
        """
        if dag is None or dag.last_parsed is None:
            return None
        if wanted is None:
            return put_off(datetime.fromisoformat(dag.last_parsed), *STALE)
        stored = self.stored.get(key)
        return put_off(stored.at, *STORE) if stored else None

    def _find_file(self, key: str, dag: DagView | None) -> File | None:
        """Return the file that has a stream's DAG, or is to have it; None if none is known."""
        if dag and not dag.stale and dag.file in self.files:
            return self.files[dag.file]
        number = self.owners[hash_key(key)]
        name = f"{factory_file_name(self.installation.airflow_name, number)}.py"
        if name in self.files_by_name or not self.files:
            return self.files_by_name.get(name)
        # It has no DAG yet, or is not there, which Airflow does not mind.
        *_, beside = self.files.values()
        return beside._replace(path=str(PurePath(beside.path).with_name(name)))


def put_off(time: datetime, *setting: str) -> datetime:
    """Return a time and the seconds of one of Airflow's settings later."""
    return time + timedelta(seconds=conf.getint(*setting))


def read_stored(session: Session, keys: dict[str, str]) -> dict[str, Stored]:
    """Return what the scheduler has of the DAGs of streams, by their keys.

    Args:
        session: of Airflow's database.
        keys: those of the streams by the IDs of their DAGs.
    """
    stored = {}
    ids = list(keys)
    for start in range(0, len(ids), AT_ONCE):
        part = ids[start : start + AT_ONCE]
        dags = SerializedDagModel.get_latest_serialized_dags(dag_ids=part, session=session)
        for each in dags:
            facts = parse_facts((each.data or {}).get("dag", {}).get("doc_md"))
            if facts.stream is not None:
                stored[keys[each.dag_id]] = Stored(facts.revision, each.last_updated)
    return stored


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


def name_some(keys: Collection[str]) -> str:
    """Return the first of these keys, fit for a line."""
    return one_line(", ".join(list(keys)[:3]))[:200]


def describe_file_given_up(file: File, difference: Difference) -> str:
    """Return which file Airflow does not parse, what that means, and what to look at."""
    streams, parsed = difference.wanted, difference.parsed
    last = f"parsed it last at {format_time(parsed)}" if parsed else "has no DAG of it"
    return (
        f"Airflow was asked for {PATIENCE_SECONDS // 60} minutes to parse {file.path} and {last}, "
        f"so the DAGs of {counted(len(streams), 'stream')} are not what the rows say "
        f"({name_some(streams)}). Check that the DAG processor runs, and read its log of "
        "the file."
    )


class Watchers:
    """The watchers of all platforms that Airflow has a factory file for."""

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
            found = {each.installation.name: each for each in metadata.find_factories(session)}
        for name, watcher in list(self._by_name.items()):
            if name in found and watcher.installation == found[name].installation:
                watcher.in_service = found[name].in_service
            else:
                # The platform is gone, or its settings have changed.
                self._by_name.pop(name).stopped.set()
        for name in found.keys() - self._by_name.keys():
            watcher = Watcher(found[name].installation, found[name].in_service)
            Thread(target=watcher.run, name=f"watcher of {name}", daemon=True).start()
            self._by_name[name] = watcher

    def describe(self) -> str:
        """Return how a change of a row comes to Airflow here, and what would make that cheaper."""
        interval = conf.getint("dag_processor", "min_file_process_interval")
        if not self._is_started:
            return (
                f"Airflow parses each file every {interval} s, and changes of rows arrive with the "
                "next parse. [yellow_dynamic] watch_changes would let them arrive within seconds."
            )
        watched = (
            f"Changes of rows arrive after {EVERY_SECONDS} s and a parse of their file: Airflow's "
            "API server watches the tables."
        )
        watchers = list(self._by_name.values())
        if (
            interval >= WATCHED_INTERVAL_SECONDS
            or not watchers
            or any(watcher.problems for watcher in watchers)
        ):
            return watched
        return (
            f"{watched} So the parses every {interval} s, as [dag_processor] "
            "min_file_process_interval of the API server says, are not needed: set it to "
            f"{WATCHED_INTERVAL_SECONDS}."
        )

    def problems(self, name: str) -> list[str]:
        """Return the problems of the watcher of a platform."""
        watcher = self._by_name.get(name)
        return watcher.problems if watcher else []


#: Those of this process, if they were started.
WATCHERS = Watchers()
