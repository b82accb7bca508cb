"""The state of a stream by what Airflow has of its DAG."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from yellow_dynamic.factory.rules import compute_revision
from yellow_dynamic.monitoring.airflow import AirflowView, DagView
from yellow_dynamic.monitoring.batches import Batch, Delivery
from yellow_dynamic.monitoring.in_airflow import Facts
from yellow_dynamic.monitoring.installation import Installation
from yellow_dynamic.monitoring.rows import StreamRow
from yellow_dynamic.monitoring.status import Sources, State, platform_status

ROW = StreamRow("Store1", "{}", "active", None, None)
PLATFORM = Installation("YellowLive", {"platform_name": "yellowlive"})


def status_with(facts: Facts | None, *, stale: bool = False, paused: bool = False) -> State:
    """Return the state of a stream whose DAG Airflow has with such a page."""
    dag_id = "yellowlive__Store1_ingestion"
    view = DagView(dag_id, stale, paused, False, "file.py", "2026-01-01", facts)
    airflow = AirflowView("3.3.2", {dag_id: view}, {})
    [stream] = platform_status(Sources(PLATFORM, {"Store1": ROW}, airflow=airflow)).streams
    return stream.state


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        (Facts("Store1", compute_revision("{}"), None), State.HEALTHY),
        (Facts("Store1", compute_revision("[]"), None), State.WAITING),
        (Facts("Store1", compute_revision("{}"), "it is bad"), State.BROKEN),
        (Facts("Store1", None, "it is bad"), State.BROKEN),
        # The DAG of another file has a page that says nothing of a revision.
        (Facts(None, None, None), State.WAITING),
        (None, State.HEALTHY),
    ],
)
def test_page_of_a_dag_says_whether_the_row_has_arrived(facts: Facts | None, state: State) -> None:
    assert status_with(facts) is state


def test_dag_out_of_service_is_missing_and_a_paused_one_paused() -> None:
    good = Facts("Store1", compute_revision("{}"), None)

    assert status_with(good, stale=True) is State.MISSING
    assert status_with(good, paused=True) is State.PAUSED


@pytest.mark.parametrize(
    ("zone", "state"),
    [("Europe/Berlin", State.LATE), ("UTC", State.HEALTHY), (None, State.HEALTHY)],
)
def test_stream_is_late_by_the_time_zone_that_airflow_has(zone: str | None, state: State) -> None:
    config = json.dumps({"store_name": "Store1", "schedule_string": "0 6 * * *"})
    row = StreamRow("Store1", config, "active", None, None)
    ended = datetime(2026, 7, 1, 12)
    batch = Batch(1, "committed", 1, 0, 0, 1, ended, ended)
    dag_id = "yellowlive__Store1_ingestion"
    facts = Facts("Store1", compute_revision(config), None)
    view = DagView(dag_id, False, False, False, "file.py", "2026-01-01", facts)
    sources = Sources(
        PLATFORM,
        {"Store1": row},
        airflow=AirflowView("3.3.2", {dag_id: view}, {}, zone),
        deliveries={"Store1": Delivery(batch, batch)},
        # In Berlin it is half past six, and the delivery of today is due.
        now=datetime(2026, 7, 4, 4, 30),
    )

    [stream] = platform_status(sources).streams

    assert stream.state is state
