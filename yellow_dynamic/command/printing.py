"""How the operator's command prints: texts of rows and models as they are, never as markup."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

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


#: Where a command prints, while standard output is not its own.
_output: TextIO | None = None


def output() -> TextIO:
    """Return where a command prints."""
    return _output or sys.stdout


@contextmanager
def own_output() -> Iterator[None]:
    """Let what a model prints, its threads and its processes, go to standard error.

    Only the functions of this module print to standard output then. As a thread may print at any
    time, that does not end before the process, except where the output was replaced within it.
    """
    global _output
    before = sys.stdout
    if before is None or sys.stderr is None:
        # It was started without one of them.
        yield
        return
    before.flush()
    is_whole_process = before is sys.__stdout__
    _output = detach_output(before) if is_whole_process else before
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        _output.flush()
        if not is_whole_process:
            sys.stdout, _output = before, None


def detach_output(stream: TextIO) -> TextIO:
    """Return a stream to standard output, and let its number be standard error."""
    own = os.fdopen(os.dup(1), "w", encoding=stream.encoding, errors=stream.errors)
    os.dup2(2, 1)
    return own


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, default=str), file=output())


def print_line(text: str | Text, style: str = "", *, err: bool = False) -> None:
    """Print one line as it is, without markup, and without breaks where it is longer."""
    line = Text(printable(text), style=style) if isinstance(text, str) else text
    console = Console(file=sys.stderr if err else output())
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
    console = Console(file=output())
    if console.is_terminal:
        width = max(console.width, first + COLUMN_LEAST * len(headings))
    # A terminal that Rich calls dumb has 80 columns for it, unless both are given.
    Console(file=output(), width=width, height=console.height).print(table)


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
