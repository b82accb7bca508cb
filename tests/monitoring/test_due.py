"""When a stream is late: it should have delivered three times since it last did."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from yellow_dynamic.monitoring.batches import due_since

#: A Thursday.
NOW = datetime(2026, 11, 26, 12, 0, 30)


def due(config: dict[str, Any], **others: dict[str, Any]) -> datetime | None:
    return due_since("It", {"It": config, **others}, NOW)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (datetime(2026, 7, 10, 5, 30), datetime(2026, 7, 8, 4)),
        (datetime(2026, 12, 10, 5, 30), datetime(2026, 12, 8, 5)),
        # Summer time ends on October 25.
        (datetime(2026, 10, 26, 6), datetime(2026, 10, 24, 4)),
    ],
    ids=["summer", "winter", "change"],
)
def test_schedule_is_in_the_time_zone_of_airflow(now: datetime, expected: datetime) -> None:
    daily = {"It": {"schedule_string": "0 6 * * *"}}

    assert due_since("It", daily, now, "Europe/Berlin") == expected


def test_unknown_time_zone_is_utc() -> None:
    daily = {"It": {"schedule_string": "0 6 * * *"}}

    for zone in ("Nowhere/Atlantis", "", "../etc/passwd"):
        assert due_since("It", daily, NOW, zone) == datetime(2026, 11, 24, 6)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("@hourly", datetime(2026, 11, 26, 9)),
        ("*/10 * * * *", datetime(2026, 11, 26, 11, 30)),
        ("0 6 * * 1-5", datetime(2026, 11, 24, 6)),
        ("0 6 * * 1", datetime(2026, 11, 9, 6)),
        ("@quarterly", datetime(2026, 4, 1)),
        (None, None),
        ("None", None),
        ("@once", None),
        ("@continuous", None),
        ("every day", None),
        (7, None),
    ],
)
def test_third_time_before_now_is_when_it_had_to_deliver(
    schedule: Any, expected: datetime | None
) -> None:
    assert due({"schedule_string": schedule}) == expected


def test_stream_without_a_schedule_of_its_own_is_due_hourly() -> None:
    assert due({}) == datetime(2026, 11, 26, 9)


def test_started_stream_is_due_as_often_as_the_slowest_that_starts_it() -> None:
    started = {"schedule_string": None, "started_by": ["Fast", "Slow"]}
    fast, slow = {"schedule_string": "@hourly"}, {"schedule_string": "0 6 * * *"}

    assert due(started, Fast=fast, Slow=slow) == datetime(2026, 11, 24, 6)
    assert due(started, Fast=fast, Slow={"schedule_string": None}) is None
    assert due(started, Fast=fast) is None
    assert due(started, Fast=fast, Slow={"schedule_string": None, "started_by": ["It"]}) is None
