"""How old an answer of the page may be, and who waits for a newer one."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from processors import IS_AIRFLOW_2
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

if IS_AIRFLOW_2:
    pytest.skip("Airflow 2 has no place for such a page.", allow_module_level=True)

from airflow.models.dagrun import DagRun
from airflow.models.errors import ParseImportError

from yellow_dynamic.page.metadata import good_runs, import_errors
from yellow_dynamic.page.overview import FRESH_SECONDS, OLD_SECONDS, Answer, Overview


class Asked(Overview):
    """An overview that is answered when the test lets it be."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.may_answer = threading.Event()
        self.error: Exception | None = None

    def _ask_all(self) -> Answer:
        self.count += 1
        assert self.may_answer.wait(30)
        if self.error:
            raise self.error
        return Answer(datetime.now(UTC), [], {})

    def grow_older(self, seconds: float) -> None:
        """Let the answer that is kept be so much older."""
        self._asked -= seconds


@pytest.fixture
def overview() -> Asked:
    """An overview that keeps an answer already."""
    asked = Asked()
    asked.may_answer.set()
    asked.answer()
    return asked


def test_requests_at_the_same_time_share_one_answer(overview: Asked) -> None:
    assert overview.answer() is overview.answer()
    assert overview.count == 1


def test_older_answer_is_asked_for_anew(overview: Asked) -> None:
    before = overview.answer()
    overview.grow_older(FRESH_SECONDS)

    assert overview.answer(patience=None) is not before
    assert overview.count == 2


def test_nobody_waits_long_for_a_newer_answer(overview: Asked) -> None:
    before = overview.answer()
    overview.grow_older(FRESH_SECONDS)
    overview.may_answer.clear()

    # Not even one who comes later, and nothing is asked twice.
    assert [overview.answer(patience=0.01) for _ in range(3)] == [before] * 3
    overview.may_answer.set()
    assert overview.answer(patience=None) is not before
    assert overview.count == 2


def test_answer_that_is_much_too_old_is_not_given(overview: Asked) -> None:
    before = overview.answer()
    overview.grow_older(OLD_SECONDS)

    assert overview.answer(patience=0) is not before


def test_browser_is_told_that_a_newer_answer_comes() -> None:
    now = datetime.now(UTC)

    assert not Answer(now, [], {}).is_old
    assert Answer(now - timedelta(seconds=2 * FRESH_SECONDS), [], {}).is_old


def test_database_that_is_away_is_asked_again_by_the_next(overview: Asked) -> None:
    overview.grow_older(OLD_SECONDS)
    overview.error = ConnectionError("away")
    with pytest.raises(ConnectionError):
        overview.answer()
    overview.error = None

    assert overview.answer().platforms == []
    assert overview.count == 3


def test_import_errors_are_read_from_sqlite_too() -> None:
    with Session(create_engine("sqlite://")) as session:
        ParseImportError.__table__.create(session.connection())
        for file in ("yellowlive_factory_dag.py", "other.py"):
            session.add(ParseImportError(filename=file, stacktrace="E: no", bundle_name="b"))

        assert import_errors(session) == {"yellowlive_factory_dag.py": "E: no"}


def test_last_good_run_of_each_transformer_is_read() -> None:
    first, second = (f"yellowlive__{key}_datatransformer" for key in ("A", "B"))
    other = "yellowlive__Store1_ingestion"
    of_first = [(first, "success", 1), (first, "success", 3), (first, "failed", 4)]
    with Session(create_engine("sqlite://")) as session:
        DagRun.__table__.create(session.connection())
        for dag_id, state, day in [*of_first, (second, "failed", 5), (other, "success", 6)]:
            ended = datetime(2026, 11, day, tzinfo=UTC)
            run = {"dag_id": dag_id, "run_id": str(day), "state": state, "end_date": ended}
            more = {"run_type": "manual", "run_after": ended, "log_template_id": None}
            session.execute(DagRun.__table__.insert().values(**run, **more))

        found = dict(good_runs(session, [first, second, other]))

    assert found == {first: datetime(2026, 11, 3)}
