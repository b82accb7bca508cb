"""Which kinds of stream the parity tests found equal; the run ends with a table of them.

`tests/conftest.py` registers this module as a plugin. What the tests found comes with their
reports, so it arrives from parallel workers too.
"""

from __future__ import annotations

from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table."""
    reports = [report for group in terminalreporter.stats.values() for report in group]
    properties = [
        value
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == "parity" and report.when == "call"
    ]
    if not properties:
        return
    from airflow import __version__

    terminalreporter.section(f"static against dynamic DAGs on Airflow {__version__}")
    heading = ("platform", "stream", "streams", "serialized DAG", "pod", "pod over HTTP")
    cells: dict[tuple[str, str], list[str]] = {}
    for platform, kind, column, text in properties:
        row = cells.setdefault((platform, kind), ["-"] * 4)
        row[heading.index(column) - 2] = text
    lines = [heading, *((*key, *row) for key, row in sorted(cells.items()))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heading))]
    for line in lines:
        cells_of_line = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        terminalreporter.write_line("  ".join(cells_of_line).rstrip())
