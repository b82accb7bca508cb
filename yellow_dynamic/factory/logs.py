"""Log lines."""

from __future__ import annotations

import logging

log = logging.getLogger("yellow_dynamic.factory")


def one_line(text: str) -> str:
    """Return the text fit for a log: nothing in it can begin a line or move the cursor."""
    text = " ".join(text.split())
    return text if text.isprintable() else ascii(text)
