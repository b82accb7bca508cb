"""Schedules, and the same schedules some minutes later."""

from __future__ import annotations

import pytest

from yellow_dynamic.schedules import moved_schedule, offset_of, room_of


@pytest.mark.parametrize(
    ("schedule", "minutes"),
    [
        ("every day", 0),
        ("0 0 1 1 *", 1440),
        ("0 0 * * * *", 0),
        ("* * * * *", 0),
        ("*/1 3 * * *", 0),
        ("@hourly", 60),
        ("5,35 * * * *", 60),
        ("5 0-23 * * *", 60),
        ("@daily", 1440),
        ("30 2 * * 1-5", 1290),
        ("0 6,18 * * *", 360),
        ("0,30 3 * * *", 30),
    ],
)
def test_schedule_stays_within_its_hour_or_its_day(schedule: str, minutes: int) -> None:
    assert room_of(schedule) == minutes


@pytest.mark.parametrize(
    ("schedule", "offset", "moved"),
    [
        ("@hourly", 5, "5 * * * *"),
        ("5,35 * * * *", 30, "5,35 * * * *"),
        ("50,20 * * * *", 15, "5,35 * * * *"),
        ("@daily", 61, "1 1 * * *"),
        ("30 2,14 * * 1-5", 45, "15 3,15 * * 1-5"),
        ("0,30 3 1 * *", 10, "10,40 3 1 * *"),
        ("@quarterly", 1439, "59 23 1 */3 *"),
    ],
)
def test_schedule_is_moved_by_minutes(schedule: str, offset: int, moved: str) -> None:
    assert moved_schedule(schedule, offset) == moved


def test_offset_of_a_stream_is_the_same_for_ever() -> None:
    """A release that computed it otherwise would move all schedules."""
    keys = ("Store1", "Store2_dataset")
    assert [offset_of(key, "@hourly", 30) for key in keys] == [5, 16]
    assert [offset_of(key, "@daily", 5000) for key in keys] == [1205, 286]
    assert offset_of("Store1", "* * * * *", 30) == 0
    assert offset_of("Store1", "@hourly", 0) == 0
