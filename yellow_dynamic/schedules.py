"""Schedules: what Airflow's presets mean, and the same schedule some minutes later."""

from __future__ import annotations

import hashlib
from typing import Any

from croniter import croniter

from yellow_dynamic.factory.rules import cron_problem

#: Airflow's presets as cron expressions.
CRON_OF_PRESET = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@quarterly": "0 0 1 */3 *",
    "@yearly": "0 0 1 1 *",
}


def offset_of(key: str, schedule: str, minutes: int) -> int:
    """Return by how many minutes a stream starts later than its schedule says.

    Args:
        key: the stream's, which alone decides among the minutes that are possible.
        schedule: a cron expression or preset.
        minutes: over which the streams are spread.
    """
    possible = min(minutes, room_of(schedule))
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:8], "big") % possible if possible > 0 else 0


def room_of(schedule: str) -> int:
    """Return how many minutes later a schedule can be at most, and one; 0 is not at all."""
    if (times := minutes_and_hours(schedule)) is None:
        return 0
    minutes, hours, _ = times
    if len(minutes) == 60:
        return 0
    if len(hours) == HOURS:
        return 60
    return 60 * (HOURS - max(hours)) - minutes[0] if len(minutes) == 1 else 60 - max(minutes)


def moved_schedule(schedule: str, offset: int) -> str:
    """Return a schedule whose times are some minutes later; see `room_of`."""
    times = minutes_and_hours(schedule)
    assert times is not None
    minutes, hours, rest = times
    later = schedule_field(sorted({(minute + offset) % 60 for minute in minutes}))
    if len(hours) == HOURS:
        return f"{later} * {rest}"
    return f"{later} {schedule_field([h + (minutes[0] + offset) // 60 for h in hours])} {rest}"


HOURS = 24


def minutes_and_hours(schedule: str) -> tuple[list[int], list[int], str] | None:
    """Return a schedule's minutes and hours, and the rest of it; None for one of another form."""
    parts = CRON_OF_PRESET.get(schedule, schedule).split()
    if len(parts) != 5 or cron_problem("schedule_string", " ".join(parts)):
        return None
    minutes, hours, *_ = croniter(" ".join(parts)).expanded
    return numbers_of(minutes, 60), numbers_of(hours, HOURS), " ".join(parts[2:])


def numbers_of(expanded: list[Any], of: int) -> list[int]:
    """Return the numbers of a field as croniter expands it, where "*" is all of them."""
    return list(range(of)) if "*" in expanded else sorted(map(int, expanded))


def schedule_field(values: list[int]) -> str:
    """Return a field of a cron expression with these values."""
    return ",".join(map(str, values))
