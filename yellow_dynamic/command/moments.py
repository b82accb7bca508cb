"""Times as an operator types them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from yellow_dynamic.monitoring import OperationError

SPAN = re.compile(r"(\d{1,6})([mhdw])")
UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment(text: str, *, ahead: bool = False) -> datetime:
    """Return a time without its zone, which is UTC, to the second.

    Args:
        text: ISO 8601, such as 2026-11-26 or "2026-11-26 08:00", in UTC where it names no zone; or
            how long from now, such as 90m, 12h, 7d or 2w.
        ahead: whether that is in the future; else it is in the past.

    Raises:
        OperationError: it is neither, or in the past where it must be ahead.
    """
    now = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    try:
        if span := SPAN.fullmatch(text):
            distance = timedelta(**{UNITS[span[2]]: int(span[1])})
            found = now + distance if ahead else now - distance
        else:
            found = datetime.fromisoformat(text)
            if found.tzinfo is not None:
                found = found.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        raise OperationError(
            f"{text!r} is no time: give one such as 2026-11-26, '2026-11-26 08:00' (UTC) or "
            "2026-11-26T08:00+01:00, or how long from now, such as 90m, 12h, 7d or 2w."
        ) from None
    if ahead and found <= now:
        raise OperationError(f"{text!r} is over: it is {now} UTC now.")
    return found.replace(microsecond=0)
