"""The command `status`: prints the state of each stream."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from yellow_dynamic.command.printing import print_line, print_table, printable
from yellow_dynamic.monitoring.status import PlatformStatus, State, StreamStatus
from yellow_dynamic.monitoring.text import counted, format_time, shortened


@dataclass
class StatusReport:
    """The status of some platforms."""

    platforms: list[PlatformStatus]

    @property
    def differs(self) -> bool:
        return not all(each.is_well for each in self.platforms)

    def as_json(self) -> dict[str, Any]:
        platforms = [each.as_json() for each in self.platforms]
        return {"well": not self.differs, "platforms": platforms}

    def show(self) -> None:
        for each in self.platforms:
            print_status(each)


def print_status(status: PlatformStatus) -> None:
    counts = Counter(stream.state for stream in status.streams)
    numbers = ", ".join(f"{counts[state]} {state}" for state in State if counts[state])
    print_line(
        f"{status.platform}: {listed_streams(status)}{f': {numbers}' if numbers else ''}.",
        style="bold",
    )
    for problem in status.problems:
        print_line(problem, style="red")
    if status.streams:
        columns = [*zip(HEADINGS, *map(status_cells, status.streams), strict=True)]
        headings, *rows = zip(*filter(has_values, columns), strict=True)
        print_table("", map(str, headings), rows)
    print_reasons(status)
    print_summary(status, numbers)


def listed_streams(status: PlatformStatus) -> str:
    """Return how many streams are listed, and how many there are."""
    if status.problems and not status.count:
        return "its streams are not known"
    listed = counted(len(status.streams), "stream")
    return listed if len(status.streams) == status.count else f"{listed} of {status.count}"


def print_reasons(status: PlatformStatus) -> None:
    """Print each reason once, with the streams that have it."""
    reasons: dict[tuple[State, str], list[str]] = {}
    for stream in status.streams:
        if stream.reason:
            reasons.setdefault((stream.state, stream.reason), []).append(stream.stream_key)
    for (state, reason), keys in reasons.items():
        streams = keys[0] if len(keys) == 1 else f"{len(keys)} streams ({shortened(keys)})"
        print_line(Text.assemble((state, state.colour), printable(f" {streams}: {reason}")))


def print_summary(status: PlatformStatus, numbers: str) -> None:
    if not status.is_well:
        text = f"Not all is well: {numbers}." if numbers else "Not all is well."
    elif len(status.streams) == status.count:
        text = f"All is well: {numbers or 'no streams'}."
    else:
        text = f"Of {status.count - len(status.streams)} of them nothing is said here."
    print_line(text, style="green" if status.is_well else "red")


NOT_READ = "not asked"
HEADINGS = ("stream", "state", "last good batch", "rows", "now", "row", "DAG", "Airflow")


def status_cells(stream: StreamStatus) -> list[str | Text]:
    good, newest = stream.good_batch, stream.newest_batch
    return [
        stream.stream_key,
        Text(stream.state, stream.state.colour),
        f"{format_time(good.ended)}, {good.number}" if good else "",
        good.rows if good else "",
        f"batch {newest.number} {newest.status}" if newest and newest != good else "",
        stream.row or "none",
        stream.dag or NOT_READ,
        stream.airflow or NOT_READ,
    ]


def has_values(column: tuple[str | Text, ...]) -> bool:
    """Return whether a column has a value below its heading."""
    return set(map(str, column[1:])) != {NOT_READ}
