"""How the server filters, sorts and counts the list of streams."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from processors import IS_AIRFLOW_2
from pydantic import ValidationError

if IS_AIRFLOW_2:
    pytest.skip("Airflow 2 has no place for such a page.", allow_module_level=True)

from yellow_dynamic.monitoring.airflow import AirflowView, DagView, Failure
from yellow_dynamic.monitoring.batches import Batch
from yellow_dynamic.monitoring.status import PlatformStatus, State, StreamStatus
from yellow_dynamic.page.listing import ListedStream, StreamPage, StreamQuery, find_page
from yellow_dynamic.page.overview import PlatformView

NOW = datetime(2026, 11, 29)
XCOM = "The source refused the login."


def batch(hours: int) -> Batch:
    """Return a good batch that ended so many hours ago."""
    return Batch(1, "committed", 1, 0, 0, 1, NOW, NOW - timedelta(hours=hours))


def platform(
    name: str, *streams: StreamStatus, failure: Failure | None = None
) -> list[ListedStream]:
    dags = {
        each.dag_id: DagView(each.dag_id, False, False, False, None, None, None, failure)
        for each in streams
    }
    view, status = AirflowView("3.3", dags, {}), PlatformStatus(name, list(streams))
    factory: Any = SimpleNamespace(installation=SimpleNamespace(name=name))
    whole = PlatformView(factory, status, view, None, None)
    return [ListedStream(whole, stream) for stream in streams]


def stream(key: str, state: State = State.HEALTHY, **values: Any) -> StreamStatus:
    return StreamStatus(key, f"dag_{key}", state, **values)


FAILURE = Failure("manual", "2026-11-29 00:00 UTC", XCOM)
STREAMS = [
    *platform(
        "YellowA",
        stream("c", State.LATE, good_batch=batch(48)),
        stream("a", good_batch=batch(2)),
        stream("d", good_batch=batch(1)),
    ),
    *platform(
        "YellowB", stream("b", State.FAILING, reason=str(FAILURE)), stream("e"), failure=FAILURE
    ),
]


def find(can_read_xcoms: bool = True, **values: Any) -> StreamPage:
    return find_page(STREAMS, StreamQuery(**values), lambda _: can_read_xcoms)


def keys(can_read_xcoms: bool = True, **values: Any) -> str:
    page = find(can_read_xcoms, **values)
    return "".join(listed.stream.stream_key for listed in page.streams)


@pytest.mark.parametrize(
    ("order_by", "expected"),
    [
        (["state"], "bcade"),
        (["-state"], "adecb"),
        (["stream_key"], "abcde"),
        (["-stream_key"], "edcba"),
        (["-platform", "stream_key"], "beacd"),
        (["state", "-stream_key"], "bceda"),
        # Without a batch they are last, in whichever order.
        (["good_batch"], "cadbe"),
        (["-good_batch"], "dacbe"),
    ],
)
def test_streams_are_sorted(order_by: list[str], expected: str) -> None:
    assert keys(order_by=order_by) == expected


def test_problems_are_first_by_default() -> None:
    assert keys() == "bcade"


def test_page_has_its_streams_and_the_counts_have_all() -> None:
    page = find(order_by=["stream_key"], limit=2, offset=3)

    assert keys(order_by=["stream_key"], limit=2, offset=3) == "de"
    assert page.total_entries == 5
    assert page.states == Counter({State.HEALTHY: 3, State.LATE: 1, State.FAILING: 1})
    assert keys(offset=5) == ""
    assert (keys(limit=0), find(limit=0).total_entries) == ("", 5)


def test_counts_of_the_states_are_of_what_else_the_query_names() -> None:
    page = find(platform=["YellowA"], state=["late", "failing"])

    assert (len(page.streams), page.total_entries) == (1, 1)
    assert page.states == Counter({State.HEALTHY: 2, State.LATE: 1})


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"platform": ["YellowB"]}, "be"),
        ({"platform": ["YellowC"]}, ""),
        ({"state": ["healthy", "late"]}, "cade"),
        ({"q": "LATE"}, "c"),
        ({"q": "its run manual failed"}, "b"),
        ({"q": "no such text"}, ""),
    ],
)
def test_streams_are_filtered(values: dict[str, Any], expected: str) -> None:
    assert keys(**values) == expected


def test_search_does_not_find_xcoms_that_the_user_cannot_read() -> None:
    assert keys(True, q="refused the login") == "b"
    assert keys(False, q="refused the login") == ""
    # What is no XCom is found by all.
    assert keys(False, q="its run manual failed") == "b"


@pytest.mark.parametrize(
    "values",
    [
        {"limit": 101},
        {"limit": -1},
        {"offset": -1},
        {"order_by": ["size"]},
        {"order_by": ["state"] * 4},
        {"state": ["ill"]},
    ],
)
def test_values_that_are_not_valid_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(values))):
        StreamQuery(**values)
