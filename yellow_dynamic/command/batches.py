"""The command `batches`: prints the newest batches of streams."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from yellow_dynamic.command.printing import print_line, print_table
from yellow_dynamic.monitoring.batches import Batch, PlatformBatches
from yellow_dynamic.monitoring.text import counted, format_time


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
                    format_time(batch.started),
                    format_duration(batch),
                    batch.rows,
                    "" if batch.total is None else str(batch.total),
                ]
                for key, batch in found
            ]
            print_table(title, headings, rows)
            if len(found) == self.limit:
                print_line(f"These are the newest {self.limit}; --limit shows more.")


def format_duration(batch: Batch) -> str:
    """Return how long a batch took, to the second."""
    if batch.started is None or batch.ended is None:
        return ""
    return str(batch.ended - batch.started).partition(".")[0]
