"""The streams that a command acts on."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from sqlalchemy.exc import SQLAlchemyError

from yellow_dynamic.monitoring import OperationError
from yellow_dynamic.monitoring.installation import Installation
from yellow_dynamic.monitoring.rows import StreamRow, read_rows
from yellow_dynamic.monitoring.selection import Selection
from yellow_dynamic.monitoring.text import format_error

PlatformRows = list[tuple[Installation, list[StreamRow]]]


def check_selection(selection: Selection) -> None:
    """Raise OperationError if a selection has neither a condition nor --all, or has both."""
    chosen = bool(selection.patterns or selection.by_value)
    if chosen == selection.everything:
        raise OperationError(
            "Say which streams: STREAM (a key or a pattern such as 'Erp_*'), --store or "
            "--source-credential; or --all, alone, for every stream."
        )


def require_some(selection: Selection | None, count: int, platforms: list[str]) -> None:
    """Raise OperationError if a selection matches no stream of the platforms."""
    if selection is None or count:
        return
    names = ", ".join(platforms)
    raise OperationError(
        f"No stream of {names} is selected by {selection}, which is no platform either. The "
        "command `streams` lists them all."
    )


def unknown_stream(stream_key: str, platforms: list[str], known: Collection[str]) -> str:
    """Return the message that platforms have no such stream, with known keys like it."""
    keys = sorted(known)
    close = difflib.get_close_matches(stream_key, keys, n=3) or keys[:10]
    return (
        f"There is no stream {stream_key!r} on {', '.join(platforms)}; there is, for example: "
        f"{', '.join(close) or 'none'}. The command `streams` lists them all."
    )


def read_all_rows(installations: list[Installation]) -> tuple[PlatformRows, list[str]]:
    """Return the rows of each platform that can be read, and the errors of the others.

    Raises:
        OperationError: the login of the only one is missing.
        sqlalchemy.exc.SQLAlchemyError: the only table cannot be read.
    """
    rows: PlatformRows = []
    failures = []
    for each in installations:
        try:
            rows.append((each, read_rows(each)))
        except (OperationError, SQLAlchemyError) as error:
            if len(installations) == 1:
                raise
            failures.append(format_error(error))
    return rows, failures


def find_stream(
    installations: list[Installation], stream_key: str
) -> tuple[Installation, StreamRow, list[str]]:
    """Return the one row of this key among the platforms, and its platform.

    Returns:
        The platform, the row, and the errors of platforms that cannot be read and may have such a
        stream too.

    Raises:
        OperationError: no platform that can be read has the stream, or more than one has it.
        sqlalchemy.exc.SQLAlchemyError: the only table cannot be read.
    """
    platforms, failures = read_all_rows(installations)
    rows = [(each, row) for each, of_platform in platforms for row in of_platform]
    found = [(each, row) for each, row in rows if row.stream_key == stream_key]
    names = [each.name for each in ([each for each, _ in found] or installations)]
    if len(found) > 1:
        raise OperationError(
            f"Several platforms have a stream {stream_key!r}: {', '.join(names)}. Give one with "
            "--platform."
        )
    if not found:
        unknown = unknown_stream(stream_key, names, {row.stream_key for _, row in rows})
        raise OperationError(" ".join([unknown, *failures]))
    return (*found[0], failures)


def find_selected(installations: list[Installation], selection: Selection) -> PlatformRows:
    """Return the selected rows of each platform.

    Raises:
        OperationError: no row is selected, or a platform that may have one cannot be read.
    """
    if selection.single is not None:
        installation, row, failures = find_stream(installations, selection.single)
        found = [(installation, [row])]
    else:
        answers, failures = read_all_rows(installations)
        found = [
            (each, [row for row in rows if selection.matches(row.stream_key, row.config)])
            for each, rows in answers
        ]
    if failures:
        raise OperationError(
            f"Other platforms may have a stream {selection.single or 'like these'!r} too and "
            "cannot be asked, so nothing was changed. Name its platform with --platform. "
            + " ".join(failures)
        )
    count = sum(len(rows) for _, rows in found)
    require_some(selection, count, [each.name for each, _ in found])
    return found
