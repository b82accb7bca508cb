"""How the operator's command prints: texts of rows and models as they are, never as markup."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


def printable(text: str) -> str:
    """Return the text as it may stand on a terminal: rows and models are written by others."""
    return text if text.isprintable() else ascii(text)[1:-1]


def as_json(value: Any) -> str:
    """Return a text that is equal for equal JSON values only: in Python, true is 1."""
    return json.dumps(value, sort_keys=True)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, default=str))


def print_line(text: str | Text, style: str = "") -> None:
    """Print one line as it is, without markup, and without breaks where it is longer."""
    line = Text(printable(text), style=style) if isinstance(text, str) else text
    Console().print(line, soft_wrap=True)


def print_values(values: dict[str, Any]) -> None:
    for key, value in values.items():
        print_line(f"  {key} = {value if isinstance(value, str) else as_json(value)}")


def print_table(title: str, headings: Iterable[str], rows: Iterable[Iterable[str | Text]]) -> None:
    table = Table(title=Text(title), title_justify="left")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) if isinstance(cell, str) else cell for cell in row))
    Console().print(table)
