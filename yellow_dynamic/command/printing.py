"""How the operator's command prints: texts of rows and models as they are, never as markup."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from yellow_dynamic.monitoring.changes import KeyChange
from yellow_dynamic.monitoring.text import canonical_json

#: Wide enough that no line of a table breaks where nobody reads it on a screen.
WIDTH_WITHOUT_TERMINAL = 10_000
#: What each column but the first takes at least, frame and all.
COLUMN_LEAST = 6


def printable(text: str) -> str:
    """Return the text as it may stand on a terminal: rows and models are written by others."""
    return text if text.isprintable() else ascii(text)[1:-1]


def escape_what_the_output_cannot_hold() -> None:
    """Let characters that the output's encoding lacks be printed as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, default=str))


def print_line(text: str | Text, style: str = "", *, err: bool = False) -> None:
    """Print one line as it is, without markup, and without breaks where it is longer."""
    line = Text(printable(text), style=style) if isinstance(text, str) else text
    console = Console(stderr=err)
    if console.color_system is None:
        # Rich takes five times as long, and a report may have tens of thousands of lines.
        print(line.plain, file=console.file)
    else:
        console.print(line, soft_wrap=True)


def print_values(values: dict[str, Any]) -> None:
    for key, value in values.items():
        print_line(f"  {key} = {value if isinstance(value, str) else canonical_json(value)}")


def print_table(title: str, headings: Iterable[str], rows: Iterable[Iterable[str | Text]]) -> None:
    """Print a table, a line a row; on a narrow terminal all columns but the first are cut."""
    headings = list(headings)
    cells = [
        [Text(printable(cell)) if isinstance(cell, str) else cell for cell in row] for row in rows
    ]
    first = max(map(len, [headings[0], *(row[0].plain for row in cells)]))
    table = Table(title=Text(title), title_justify="left")
    for number, heading in enumerate(headings):
        least = None if number else first
        table.add_column(heading, no_wrap=True, overflow="ellipsis", min_width=least)
    if cells:
        # One cell a column: Rich takes four times as long for a cell as for a line of one.
        table.add_row(*map(Text("\n").join, zip(*cells, strict=True)))
    width = WIDTH_WITHOUT_TERMINAL
    if Console().is_terminal:
        width = max(Console().width, first + COLUMN_LEAST * len(headings))
    # A terminal that Rich calls dumb has 80 columns for it, unless both are given.
    Console(width=width, height=Console().height).print(table)


#: The sign and the colour of a change.
SIGNS = {"added": ("+", "green"), "changed": ("~", "yellow"), "removed": ("-", "red")}


def print_key_change(change: KeyChange) -> None:
    sign, colour = SIGNS[change.action]
    old, new = canonical_json(change.old), canonical_json(change.new)
    if change.action == "changed":
        print_line(f"      {sign} {change.key}: {old} -> {new}", style=colour)
    else:
        value = new if change.action == "added" else old
        print_line(f"      {sign} {change.key} = {value}", style=colour)
