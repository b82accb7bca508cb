"""Starts runs of streams now, through Airflow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from rich.text import Text

from yellow_dynamic.command.printing import print_line, print_table
from yellow_dynamic.command.selection import check_selection, find_selected
from yellow_dynamic.monitoring.airflow_api import AirflowApi, Triggered
from yellow_dynamic.monitoring.installation import Installation
from yellow_dynamic.monitoring.rows import StreamRow
from yellow_dynamic.monitoring.selection import Selection
from yellow_dynamic.monitoring.text import counted


@dataclass
class Started:
    """A run that was started, or why none was."""

    platform: str
    stream_key: str
    run_id: str | None
    reason: str | None


@dataclass
class TriggerReport:
    """What became of some streams."""

    streams: list[Started]

    @property
    def differs(self) -> bool:
        return any(each.run_id is None for each in self.streams)

    def as_json(self) -> dict[str, Any]:
        return {"streams": [asdict(each) for each in self.streams]}

    def show(self) -> None:
        started = sum(each.run_id is not None for each in self.streams)
        rows: list[list[str | Text]] = [
            [
                each.stream_key,
                each.platform,
                Text(
                    each.run_id or f"not started: {each.reason}", "green" if each.run_id else "red"
                ),
            ]
            for each in self.streams
        ]
        print_table("Runs", ["stream", "platform", "run"], rows)
        print_line(f"{started} of {counted(len(self.streams), 'run')} started.")


def trigger_streams(
    installations: list[Installation],
    selection: Selection,
    api: AirflowApi,
    confirm: Callable[[str], None],
) -> TriggerReport:
    """Start a run of each selected stream.

    Args:
        installations: the platforms.
        selection: which of their streams.
        api: Airflow.
        confirm: is given the question whether to go on where there is more than one; raises
            where the answer is no.

    Raises:
        OperationError: there is no such stream, or a platform or Airflow cannot be read.
        sqlalchemy.exc.SQLAlchemyError: a table cannot be read.
    """
    check_selection(selection)
    found = find_selected(installations, selection)
    count = sum(len(rows) for _, rows in found)
    if count > 1:
        confirm(f"Start {counted(count, 'run')} now?")
    return TriggerReport([each for them, rows in found for each in start_runs(them, rows, api)])


def start_runs(installation: Installation, rows: list[StreamRow], api: AirflowApi) -> list[Started]:
    """Start a run of each stream of a platform that is not disabled."""
    keys = [row.stream_key for row in rows if not row.is_disabled]
    runs = dict(zip(keys, api.trigger([installation.dag_id(key) for key in keys]), strict=True))
    disabled = Triggered(None, "it is disabled")
    return [
        Started(installation.name, row.stream_key, run.run_id, run.reason)
        for row in rows
        for run in [runs.get(row.stream_key, disabled)]
    ]
