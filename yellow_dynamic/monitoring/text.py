"""How values are written in messages and reports."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from yellow_dynamic.monitoring import OperationError

#: A list in a message names this many entries.
LISTED = 5


def format_time(time: datetime | None) -> str:
    """Return a time as users see it."""
    return f"{time:%Y-%m-%d %H:%M:%S} UTC" if time else "never"


def format_until(until: str) -> str:
    """Return until when a stream is disabled, as users see it."""
    return f"until {until.replace('T', ' ')} UTC"


def format_error(error: OperationError | SQLAlchemyError) -> str:
    """Return in one line what failed and what to do, without the SQL statement."""
    if isinstance(error, OperationError):
        return " ".join(str(error).split())
    cause = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
    text = " ".join([f"{cause.rstrip('.')}.", *getattr(error, "__notes__", [])])
    return " ".join(text.split())


def canonical_json(value: Any) -> str:
    """Return a text that is equal for equal JSON values only: in Python, true is 1."""
    return json.dumps(value, sort_keys=True)


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number of things, such as `1 stream` or `2 streams`."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def shortened(texts: list[str]) -> str:
    """Return the first of some texts, and how many more there are."""
    more = f"; and {len(texts) - LISTED} more" if len(texts) > LISTED else ""
    return "; ".join(texts[:LISTED]) + more
