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
