"""What printing costs: a platform may have 10,000 streams, and a history many changes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from rich.text import Text

from yellow_dynamic.command.printing import print_line, print_table

HEADINGS = ("stream", "status", "schedule", "changed")


def count_calls(function: Callable[[], None]) -> int:
    """Return how many functions of Python a call runs."""
    calls = 0

    def count(frame: FrameType, event: str, argument: Any) -> None:
        del frame, argument
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(before)
    return calls


def print_streams(count: int) -> None:
    rows: list[list[str | Text]] = [
        [f"Store{number:05}", Text("active", "green"), "0 6 * * *", "2026-11-29 13:00:00 UTC"]
        for number in range(count)
    ]
    print_table("streams", HEADINGS, rows)


def test_table_of_many_streams_takes_few_calls_a_cell(capsys: pytest.CaptureFixture[str]) -> None:
    print_streams(1)

    calls = count_calls(lambda: print_streams(200)) - count_calls(lambda: print_streams(100))

    assert calls / (100 * len(HEADINGS)) < 150
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("│ Store") for line in lines) == 301
    assert lines[-2].split() == [
        *("│", "Store00099", "│", "active", "│", "0", "6", "*", "*", "*", "│"),
        *("2026-11-29", "13:00:00", "UTC", "│"),
    ]


def test_table_without_a_row_has_its_headings_alone(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("streams", HEADINGS, [])

    assert [line for line in capsys.readouterr().out.splitlines() if "│" in line] == []


def test_line_that_is_piped_takes_few_calls(capsys: pytest.CaptureFixture[str]) -> None:
    print_line("a line", style="red")

    assert count_calls(lambda: print_line("[b]another", style="red")) < 100
    assert capsys.readouterr().out == "a line\n[b]another\n"
