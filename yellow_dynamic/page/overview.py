"""What the page says of all platforms: the same as `yellow-dynamic status`, asked by a server."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from threading import Lock

from airflow.utils.session import create_session
from sqlalchemy.exc import SQLAlchemyError

from yellow_dynamic.monitoring import OperationError
from yellow_dynamic.monitoring.airflow import AirflowView
from yellow_dynamic.monitoring.installation import Installation
from yellow_dynamic.monitoring.status import PlatformStatus, Sources, platform_status
from yellow_dynamic.monitoring.text import format_error, format_time
from yellow_dynamic.page import metadata
from yellow_dynamic.page.metadata import Factory
from yellow_dynamic.page.shapes import search_text
from yellow_dynamic.page.store import Table, load_table
from yellow_dynamic.page.watcher import WATCHERS

#: An answer that is older is asked for anew. For the new one nobody waits longer than
#: PATIENCE_SECONDS, unless the old one is older than OLD_SECONDS.
FRESH_SECONDS = 5.0
PATIENCE_SECONDS = 0.3
OLD_SECONDS = 600
AT_ONCE = 8

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlatformView:
    """What is known of one platform.

    Attributes:
        factory: its settings, and a DAG of its factory file.
        status: all of its streams.
        airflow: what Airflow has of it.
        table: what was read of its merge store last; None where it could not be read yet.
        outage: why its table cannot be read now, since when, and what Airflow does; or None.
    """

    factory: Factory
    status: PlatformStatus
    airflow: AirflowView
    table: Table | None
    outage: str | None

    @property
    def installation(self) -> Installation:
        return self.factory.installation

    @cached_property
    def search_texts(self) -> dict[str, str]:
        """The text of each stream that a search looks in, by the ID of its DAG."""
        return {
            stream.dag_id: search_text(stream, self.table, self.airflow.dags.get(stream.dag_id))
            for stream in self.status.streams
        }


@dataclass(frozen=True)
class Answer:
    """All platforms at one time.

    Attributes:
        at: when Airflow was asked, UTC.
        platforms: those of which Airflow has a factory file.
        import_errors: why Airflow could not import factory files of no platform, by file.
    """

    at: datetime
    platforms: list[PlatformView]
    import_errors: dict[str, str]

    @property
    def is_old(self) -> bool:
        """Whether a newer answer is on its way."""
        return (datetime.now(UTC) - self.at).total_seconds() > FRESH_SECONDS + PATIENCE_SECONDS


@dataclass
class Overview:
    """Asks Airflow's database and the merge stores, and keeps the answer for a few seconds.

    While a merge store cannot be read, what was read of it last is said again, as such.
    """

    _lock: Lock = field(default_factory=Lock)
    _answer: Answer | None = None
    _asked: float = -OLD_SECONDS
    _coming: Future[Answer] | None = None
    _tables: dict[str, Table] = field(default_factory=dict)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "streams"))

    def answer(self, patience: float | None = PATIENCE_SECONDS) -> Answer:
        """Return what was known a few seconds ago, if it can be had at once; else an older answer.

        Who gets an older one can ask again soon: a newer one is on its way.

        Args:
            patience: so many seconds the newer one is waited for; None is without end.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: Airflow's own database cannot be read.
        """
        with self._lock:
            age = time.monotonic() - self._asked
            if self._coming is None and age > FRESH_SECONDS:
                self._coming = self._pool.submit(self._ask)
            coming, answer = self._coming, self._answer
        if coming is None:
            assert answer is not None
            return answer
        if answer is None or age > OLD_SECONDS:
            return coming.result()
        try:
            return coming.result(patience)
        except TimeoutError:
            return answer

    def _ask(self) -> Answer:
        try:
            answer = self._ask_all()
        except BaseException:
            with self._lock:
                self._coming = None
            raise
        with self._lock:
            self._answer, self._asked, self._coming = answer, time.monotonic(), None
        return answer

    def _ask_all(self) -> Answer:
        at = datetime.now(UTC)
        with ThreadPoolExecutor(AT_ONCE) as pool, create_session(scoped=False) as session:
            factories = metadata.find_factories(session)
            tables = [pool.submit(load_table, each.installation) for each in factories]
            errors = metadata.import_errors(session)
            names = [each.installation.airflow_name for each in factories]
            views = [metadata.read_airflow_view(session, name, errors) for name in names]
        known = map(self._platform, factories, tables, views)
        # A platform without a DAG in service is there as long as its table is.
        platforms = [it for it in known if it.factory.in_service or not it.outage]
        of_platforms = {file for view in views for file in view.import_errors}
        others = {file: why for file, why in errors.items() if file not in of_platforms}
        return Answer(at, platforms, others)

    def _platform(
        self,
        factory: Factory,
        reading: Future[Table],
        view: AirflowView,
    ) -> PlatformView:
        installation = factory.installation
        table: Table | None = None
        outage: str | None = None
        try:
            table = self._tables[installation.name] = reading.result()
        except (OperationError, SQLAlchemyError) as error:
            table = self._tables.get(installation.name)
            outage = about_outage(format_error(error), table, newest_record(installation))
            if factory.in_service:
                log.warning("The page Streams cannot read a platform's table: %s", outage)
        sources = copy(table.sources) if table else Sources(installation)
        sources.airflow = view
        sources.problems = [*sources.problems, *WATCHERS.problems(installation.name)]
        if outage and table:
            sources.unread = (
                f"its row is that of {format_time(table.at)}, when the table was read last"
            )
        status = platform_status(sources)
        return PlatformView(factory, status, view, table, outage)


def newest_record(installation: Installation) -> metadata.RunRecord | None:
    with create_session(scoped=False) as session:
        return metadata.find_newest_record(session, installation.airflow_name)


def about_outage(reason: str, table: Table | None, record: metadata.RunRecord | None) -> str:
    """Return what it means that a table cannot be read: since when, and what Airflow does."""
    read = (
        f"It was read here last at {format_time(table.at)}" if table else "It was not read here yet"
    )
    runs = "where the newest runs had their rows from is not known"
    if record:
        runs = f"the newest run that says so, at {record.at}, had its row from: {record.row}"
    return (
        f"{reason} {read}; {runs}. The DAGs stay as they are, as long as the DAG processor serves "
        "them from its snapshot of the table. A change of the model arrives when it can be read."
    )


#: The one of this process, for the page and the metrics.
OVERVIEW = Overview()
