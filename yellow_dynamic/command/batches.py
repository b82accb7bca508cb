"""The batches of streams, as an operator sees them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from yellow_dynamic import batches, contract
from yellow_dynamic.batches import Batch
from yellow_dynamic.command import CommandError
from yellow_dynamic.command.platform import Installation
from yellow_dynamic.command.printing import counted, print_line, print_table
from yellow_dynamic.command.rows import as_time, read_rows
from yellow_dynamic.command.selection import Selection


@dataclass
class PlatformBatches:
    """The newest batches of a platform, by the key of their stream, and of how many streams."""

    installation: Installation
    streams: int
    batches: list[tuple[str, Batch]]


@dataclass
class BatchesReport:
    """The newest batches of some platforms."""

    platforms: list[PlatformBatches]
    limit: int
    differs: bool = field(default=False, init=False)

    def as_json(self) -> dict[str, Any]:
        return {
            "platforms": [
                {
                    "platform": each.installation.name,
                    "batches": [
                        {"stream_key": key, **batch.as_json()} for key, batch in each.batches
                    ],
                }
                for each in self.platforms
            ]
        }

    def show(self) -> None:
        headings = ("stream", "batch", "status", "started", "took", "rows", "in the source")
        for each in self.platforms:
            found = each.batches
            title = f"{each.installation.name}: {counted(len(found), 'batch', 'batches')}"
            rows = [
                [
                    key,
                    str(batch.number),
                    batch.status,
                    as_time(batch.started),
                    took(batch),
                    batch.rows,
                    "" if batch.total is None else str(batch.total),
                ]
                for key, batch in found
            ]
            print_table(title, headings, rows)
            if len(found) == self.limit:
                print_line(f"These are the newest {self.limit}; --limit shows more.")


def took(batch: Batch) -> str:
    """Return how long a batch took, to the second."""
    if batch.started is None or batch.ended is None:
        return ""
    return str(batch.ended - batch.started).partition(".")[0]


def find_batches(
    installation: Installation, selection: Selection | None, limit: int
) -> PlatformBatches:
    """Return the newest batches of the selected streams of a platform.

    Raises:
        CommandError: the batches cannot be read.
        sqlalchemy.exc.SQLAlchemyError: the database cannot be asked.
    """
    streams = {
        key: row.stream_key
        for row in read_rows(installation)
        if (key := contract.batch_key_of(row.config))
        and (selection is None or selection.has(row.stream_key, row.config))
    }
    try:
        with installation.transaction("read the batches beside") as connection:
            found = batches.read_batches(connection, installation.settings, streams, limit)
    except batches.UnreadableError as error:
        raise CommandError(str(error)) from None
    named = [(streams[key], batch) for key, batch in found]
    return PlatformBatches(installation, len(streams), named)
