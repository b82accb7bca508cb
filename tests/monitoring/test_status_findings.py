"""The state of a stream by its row, and by what Airflow has of its DAG and its runs."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from yellow_dynamic.factory.rules import compute_revision
from yellow_dynamic.monitoring.airflow import AirflowView, DagView, Failure
from yellow_dynamic.monitoring.batches import Batch, Delivery
from yellow_dynamic.monitoring.in_airflow import Facts
from yellow_dynamic.monitoring.installation import Installation
from yellow_dynamic.monitoring.rows import StreamRow, find_dependents
from yellow_dynamic.monitoring.status import Sources, State, StreamStatus, platform_status

ROW = StreamRow("Store1", "{}", "active", None, None)
PLATFORM = Installation("YellowLive", {"platform_name": "yellowlive"})
GOOD = Facts("Store1", compute_revision("{}"), None)
NOW = datetime(2026, 11, 26, 12)
LONG_AGO = NOW - timedelta(days=30)


def dag_view(key: str, facts: Facts | None, **of_airflow: Any) -> DagView:
    known: dict[str, Any] = {
        "stale": False,
        "paused": False,
        "import_errors": False,
        "file": "file.py",
        "last_parsed": "2026-01-01",
    }
    return DagView(PLATFORM.dag_id(key), facts=facts, **known | of_airflow)


def found_of(facts: Facts | None, **of_airflow: Any) -> StreamStatus:
    """Return the status of a stream whose DAG Airflow has like this."""
    view = dag_view("Store1", facts, **of_airflow)
    airflow = AirflowView("3.3.2", {view.dag_id: view}, {})
    [stream] = platform_status(Sources(PLATFORM, {"Store1": ROW}, airflow=airflow)).streams
    return stream


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        (GOOD, State.HEALTHY),
        (Facts("Store1", compute_revision("[]"), None), State.WAITING),
        (Facts("Store1", compute_revision("{}"), "it is bad"), State.BROKEN),
        (Facts("Store1", None, "it is bad"), State.BROKEN),
        # The DAG of another file has a page that says nothing of a revision.
        (Facts(None, None, None), State.WAITING),
        (None, State.HEALTHY),
    ],
)
def test_page_of_a_dag_says_whether_the_row_has_arrived(facts: Facts | None, state: State) -> None:
    assert found_of(facts).state is state


def test_dag_out_of_service_is_missing_and_a_paused_one_paused() -> None:
    assert found_of(GOOD, stale=True).state is State.MISSING
    assert found_of(GOOD, paused=True).state is State.PAUSED


# --- Who paused it ----------------------------------------------------------------------------

FAILURE = Failure("run_7", "2026-11-26 11:00:00 UTC", "The source is on fire.")
UNPAUSE = (
    "so no run follows (correct the cause, then: airflow dags unpause yellowlive__Store1_ingestion)"
)


def test_stream_that_airflow_paused_because_it_failed_is_failing() -> None:
    at = "2026-11-26 11:00:01 UTC"
    found = found_of(GOOD, paused=True, failure=FAILURE, paused_by_airflow=at)

    assert found.state is State.FAILING
    assert found.reason == (
        f"Airflow itself paused it at {at} because its runs failed, {UNPAUSE}; {FAILURE}"
    )
    # Its failed runs may be deleted since.
    assert found_of(GOOD, paused=True, paused_by_airflow=at).state is State.FAILING


def test_stream_that_a_user_paused_after_a_failure_is_failing() -> None:
    found = found_of(GOOD, paused=True, failure=FAILURE)

    assert found.state is State.FAILING
    assert found.reason == f"it is paused in Airflow, {UNPAUSE}; {FAILURE}"


def test_stream_that_was_paused_is_well_and_says_what_is_not_known() -> None:
    unknown = "this login cannot read Airflow's audit log"

    found = found_of(GOOD, paused=True, pause_unknown=unknown)

    assert (found.state, found.state.is_well) == (State.PAUSED, True)
    assert found.reason == f"it is paused in Airflow (by whom is not known: {unknown})"


# --- What keeps a run from its end ------------------------------------------------------------


def test_run_that_cannot_start_is_not_well() -> None:
    found = found_of(GOOD, obstacle="no pool")

    assert (found.state, found.reason) == (State.WAITING, "no pool")
    assert not found.state.is_well
    failing = found_of(GOOD, obstacle="no pool", failure=FAILURE)
    assert (failing.state, failing.reason) == (State.FAILING, f"no pool; {FAILURE}")


def test_what_could_not_be_read_of_airflow_is_a_problem_of_the_platform() -> None:
    airflow = AirflowView("3.3.2", {}, {}, ["What tasks wait for is not known."])

    status = platform_status(Sources(PLATFORM, {}, airflow=airflow))

    assert status.problems == ["What tasks wait for is not known."]
    assert not status.is_well


# --- Streams that others start ----------------------------------------------------------------

TRANSFORMER = "Sums_datatransformer"
CONFIGS: dict[str, dict[str, Any]] = {
    "Store1": {"store_name": "Store1"},
    "Store2": {"store_name": "Store2"},
    TRANSFORMER: {
        "ingestion_type": "transformer",
        "schedule_string": None,
        "started_by": ["Store1", "Store2"],
    },
    "Out_dt": {"store_name": "Out", "schedule_string": None, "started_by": [TRANSFORMER]},
}
CRON = {"ingestion_type": "transformer", "schedule_string": "0 6 * * *"}


def rows_of(
    configs: dict[str, dict[str, Any]], disabled: str = "", until: str | None = None
) -> dict[str, StreamRow]:
    return {
        key: StreamRow(
            key,
            json.dumps(config),
            "disabled" if key == disabled else "active",
            LONG_AGO,
            LONG_AGO,
            until if key == disabled else None,
        )
        for key, config in configs.items()
    }


def statuses(rows: dict[str, StreamRow], **sources: Any) -> dict[str, tuple[State, str]]:
    found = platform_status(Sources(PLATFORM, rows, now=NOW, **sources)).streams
    return {each.stream_key: (each.state, each.reason) for each in found}


def test_what_waits_for_a_disabled_stream_is_waiting_and_says_for_which() -> None:
    found = statuses(rows_of(CONFIGS, disabled="Store2"))

    assert found["Store1"] == (State.HEALTHY, "")
    waits = "waits for the stream Store2, which is disabled"
    assert found[TRANSFORMER] == (State.WAITING, f"it {waits}")
    assert found["Out_dt"] == (
        State.WAITING,
        f"it waits for the stream {TRANSFORMER}, which {waits}",
    )


def test_until_when_a_stream_is_disabled_is_said_of_what_waits_for_it() -> None:
    found = statuses(rows_of(CONFIGS, disabled="Store1", until="9999-01-01T06:00:00"))

    assert found[TRANSFORMER][1].endswith("Store1, which is disabled until 9999-01-01 06:00:00 UTC")


def test_stream_without_a_row_and_a_paused_one_are_waited_for_too() -> None:
    rows = rows_of({**CONFIGS, TRANSFORMER: {**CONFIGS[TRANSFORMER], "started_by": ["Gone"]}})
    views = [dag_view(key, None, paused=key == "Store1") for key in CONFIGS]
    airflow = AirflowView("3.3.2", {view.dag_id: view for view in views}, {})

    assert statuses(rows)[TRANSFORMER][1] == "it waits for the stream Gone, which has no row"
    paused = statuses(rows_of(CONFIGS), airflow=airflow)
    assert paused["Store1"][0] is State.PAUSED
    assert paused[TRANSFORMER] == (
        State.WAITING,
        "it waits for the stream Store1, which is paused in Airflow",
    )


def test_streams_that_start_each_other_do_not_hang_the_status() -> None:
    ring = {"A": {"started_by": ["B"]}, "B": {"started_by": ["A"]}}

    assert statuses(rows_of(ring))["A"] == (State.HEALTHY, "")


def test_streams_that_stop_with_a_disabled_one_are_found() -> None:
    rows = rows_of(CONFIGS)

    assert find_dependents(["Store1"], rows.values()) == ["Out_dt", TRANSFORMER]
    assert find_dependents(["Out_dt"], rows.values()) == []
    off = rows_of(CONFIGS, disabled=TRANSFORMER)
    assert find_dependents(["Store1"], off.values()) == []


# --- When a transformer is late ---------------------------------------------------------------


def transformer_status(**of_sources: Any) -> tuple[State, str]:
    output = {"store_name": "Out", "schedule_string": None, "started_by": [TRANSFORMER]}
    return statuses(rows_of({TRANSFORMER: CRON, "Out_dt": output}), **of_sources)[TRANSFORMER]


def ran(at: datetime | None) -> AirflowView:
    views = [dag_view(TRANSFORMER, None, good_run=at), dag_view("Out_dt", None)]
    return AirflowView("3.3.2", {view.dag_id: view for view in views}, {})


def test_transformer_that_never_ran_is_late() -> None:
    late = (State.LATE, "no good run yet, and its row is there since 2026-10-27 12:00:00 UTC")

    assert transformer_status(deliveries={}) == late
    assert transformer_status(airflow=ran(None)) == late


def test_transformer_that_has_not_run_for_three_times_its_schedule_is_late() -> None:
    hour = timedelta(hours=1)
    third = datetime(2026, 11, 24, 6)

    assert transformer_status(airflow=ran(third + hour)) == (State.HEALTHY, "")
    assert transformer_status(airflow=ran(third - hour)) == (
        State.LATE,
        "no good run since 2026-11-24 05:00:00 UTC",
    )
    assert transformer_status(airflow=ran(third - hour), late_after=third - 2 * hour) == (
        State.HEALTHY,
        "",
    )


def test_batch_of_its_output_says_that_a_transformer_ran() -> None:
    batch = Batch(1, "committed", 1, 0, 0, 1, NOW, NOW)

    assert transformer_status(deliveries={"Out": Delivery(batch, batch)}) == (State.HEALTHY, "")
    # Another metadata database knows no runs.
    both = transformer_status(deliveries={"Out": Delivery(batch, batch)}, airflow=ran(None))
    assert both == (State.HEALTHY, "")


def test_transformer_of_which_nothing_is_known_is_not_late() -> None:
    assert statuses(rows_of({TRANSFORMER: CRON}), deliveries={})[TRANSFORMER][0] is State.HEALTHY
    assert transformer_status() == (State.HEALTHY, "")


# --- The time zone of the schedules -----------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "state"),
    [("Europe/Berlin", State.LATE), ("UTC", State.HEALTHY), (None, State.HEALTHY)],
)
def test_stream_is_late_by_the_time_zone_that_airflow_has(zone: str | None, state: State) -> None:
    config = json.dumps({"store_name": "Store1", "schedule_string": "0 6 * * *"})
    row = StreamRow("Store1", config, "active", None, None)
    ended = datetime(2026, 7, 1, 12)
    batch = Batch(1, "committed", 1, 0, 0, 1, ended, ended)
    view = dag_view("Store1", Facts("Store1", compute_revision(config), None))
    sources = Sources(
        PLATFORM,
        {"Store1": row},
        airflow=AirflowView("3.3.2", {view.dag_id: view}, {}, time_zone=zone),
        deliveries={"Store1": Delivery(batch, batch)},
        # In Berlin it is half past six, and the delivery of today is due.
        now=datetime(2026, 7, 4, 4, 30),
    )

    [stream] = platform_status(sources).streams

    assert stream.state is state
