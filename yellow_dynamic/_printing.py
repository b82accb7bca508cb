"""What the operator's command prints: texts of rows and models as they are, never as markup."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from yellow_dynamic import _parity
from yellow_dynamic._checks import Check
from yellow_dynamic._drift import StreamDrift
from yellow_dynamic._factory import revision
from yellow_dynamic._installation import Installation
from yellow_dynamic._plan import KeyChange, Plan, StreamChange, as_json
from yellow_dynamic._status import HEALTHY, WELL, PlatformStatus
from yellow_dynamic._streams import StreamRow, schedule_of

SIGNS = {"added": ("+", "green"), "changed": ("~", "yellow"), "removed": ("-", "red")}


def printable(text: str) -> str:
    """Return the text as it may stand on a terminal: rows and models are written by others."""
    return text if text.isprintable() else ascii(text)[1:-1]


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, default=str))


def print_line(text: str, style: str = "") -> None:
    """Print one line as it is, without markup, and without breaks where it is longer."""
    Console().print(Text(printable(text), style=style), soft_wrap=True)


def print_table(title: str, headings: list[str], rows: list[list[str | Text]]) -> None:
    table = Table(title=Text(title), title_justify="left")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) if isinstance(cell, str) else cell for cell in row))
    Console().print(table)


# --- plan -------------------------------------------------------------------------------------


def print_plan(plan: Plan) -> None:
    print_line(f"Platform {plan.platform}, table {plan.table}", style="bold")
    for stream in plan.streams:
        print_change(stream)
    print_line(f"Plan: {plan.population}.")


def print_change(stream: StreamChange) -> None:
    sign, colour = SIGNS[stream.action]
    kept = "" if stream.status == "active" else f" (its status stays {stream.status!r})"
    print_line(f"  {sign} stream {stream.stream_key}{kept}", style=colour)
    if stream.action != "removed":
        for key in stream.keys:
            print_line(f"      {key_change(key)}", style=SIGNS[key.action][1])
    if stream.action == "changed" and not stream.keys:
        print_line(
            "      the same values in another writing; a merge writes them as it always does"
        )


def key_change(change: KeyChange) -> str:
    """Return the change of one key in a line, values as JSON."""
    sign, values = SIGNS[change.action][0], [as_json(change.old), as_json(change.new)]
    if change.action == "changed":
        return f"{sign} {change.key}: {values[0]} -> {values[1]}"
    return f"{sign} {change.key} = {values[1 if change.action == 'added' else 0]}"


# --- streams and show -------------------------------------------------------------------------

COLOURS = {"active": "green", "disabled": "yellow"}


def print_streams(installation: Installation, rows: list[StreamRow]) -> None:
    title = f"{installation.name}: {len(rows)} streams in table {installation.table}"
    headings = ["stream", "status", "schedule", "ingestion", "datasets", "created", "changed"]
    cells: list[list[str | Text]] = [
        [
            row.stream_key,
            Text(printable(str(row.status)), COLOURS.get(str(row.status), "red")),
            schedule_of(row),
            str(row.config.get("ingestion_type", "?")),
            dataset_count(row.config.get("datasets")),
            *map(as_time, (row.created_at, row.updated_at)),
        ]
        for row in rows
    ]
    print_table(title, headings, cells)


def dataset_count(datasets: Any) -> str:
    return str(len(datasets)) if isinstance(datasets, list) else "?"


def as_time(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S}" if time else "never"


def print_stream(installation: Installation, row: StreamRow) -> None:
    print_line(f"Stream {row.stream_key} of platform {installation.name}", style="bold")
    print_line(f"Row of table {installation.table}:")
    print_values(
        {
            "status": row.status,
            "created_at": as_time(row.created_at),
            "updated_at": as_time(row.updated_at),
            "revision": revision(row.config_json),
        }
    )
    print_line("Its configuration:")
    print_values(row.config)


def print_values(values: dict[str, Any]) -> None:
    for key, value in values.items():
        print_line(f"  {key} = {value if isinstance(value, str) else as_json(value)}")


def print_dag(dag_id: str, dag: dict[str, Any]) -> None:
    """Print a DAG as `_airflow_dags.py` describes it."""
    print_line(f"DAG {dag_id}, as Airflow will see it:")
    if dag["problem"]:
        print_line(f"  not valid: {dag['problem']}", style="red")
        return
    timetable = dag["dag"]["timetable"].get("__var") or {}
    print_values(
        {
            "schedule": timetable.get("expression", "none"),
            "max_active_runs": dag["dag"].get("max_active_runs"),
            "tags": sorted(dag["dag"].get("tags", [])),
            "tasks": [
                f"{name} >> {', '.join(task.get('downstream_task_ids') or [])}".removesuffix(" >> ")
                for name, task in dag["tasks"].items()
            ],
        }
    )
    for task, pod in dag["pods"].items():
        print_pod(task, pod)


def print_pod(task: str, pod: dict[str, Any]) -> None:
    container = pod["spec"]["containers"][0]
    print_line(f"  pod of {task}:")
    print_values(
        {
            "  namespace": pod["metadata"].get("namespace"),
            "  image": container["image"],
            "  command": " ".join([*container["command"], *container.get("args", [])]),
            "  volumes": [mount["mountPath"] for mount in container.get("volumeMounts", [])],
        }
    )
    for variable in container.get("env", []):
        secret = variable.get("valueFrom", {}).get("secretKeyRef", {})
        value = variable.get("value", f"key {secret.get('key')} of secret {secret.get('name')}")
        print_line(f"    {variable['name']} = {value}")


# --- drift ------------------------------------------------------------------------------------


def print_drift(installation: Installation, drifts: list[StreamDrift]) -> None:
    print_line(f"Platform {installation.name}, table {installation.table}", style="bold")
    for drift in drifts:
        certainly = " certainly" if drift.certain else ""
        print_line(f"  stream {drift.stream_key} was{certainly} edited by hand:", style="red")
        for sign in drift.signs:
            print_line(f"      {sign}")
        for key in drift.keys:
            print_line(f"      {key_change(key)}", style=SIGNS[key.action][1])
    if installation.model is None:
        print_line("No model was given, so values were not compared.", style="yellow")
    print_line(f"{len(drifts)} streams were edited by hand.", style="red" if drifts else "green")


# --- status -----------------------------------------------------------------------------------


def print_status(status: PlatformStatus) -> None:
    for problem in status.problems:
        print_line(problem, style="red")
    cells: list[list[str | Text]] = [
        [
            stream.stream_key,
            stream.row or "none",
            stream.dag or "not asked",
            stream.airflow or "not asked",
            Text(stream.state, state_colour(stream.state)),
            stream.reason,
        ]
        for stream in status.streams
    ]
    headings = ["stream", "row", "DAG", "Airflow", "state", "reason"]
    print_table(f"{status.platform}: {len(cells)} streams", headings, cells)
    counts = Counter(stream.state for stream in status.streams)
    numbers = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    text = f"{'All is well' if status.well else 'Not all is well'}: {numbers or 'no streams'}."
    print_line(text, style="green" if status.well else "red")


def state_colour(state: str) -> str:
    if state not in WELL:
        return "red"
    return "green" if state == HEALTHY else "yellow"


# --- check ------------------------------------------------------------------------------------


def print_checks(platform: str, checks: list[Check]) -> None:
    print_line(f"Platform {platform}", style="bold")
    for check in checks:
        word, colour = ("pass", "green") if check.passed else ("fail", "red")
        line = Text.assemble((f"  {word}  ", colour), printable(f"{check.name}: {check.detail}"))
        Console().print(line, soft_wrap=True)
        if check.mend:
            print_line(f"        mend: {check.mend}", style="yellow")
    failed = sum(not check.passed for check in checks)
    print_line(
        f"{len(checks) - failed} of {len(checks)} checks pass.", "red" if failed else "green"
    )


# --- verify-parity ----------------------------------------------------------------------------


def print_parity(title: str, streams: list[_parity.Stream]) -> None:
    """Print the streams, and then what differs."""
    rows: list[list[str | Text]] = [
        [stream.dag_id, Text(stream.result, "green" if stream.result == "equal" else "red")]
        for stream in streams
    ]
    print_table(title, ["DAG", "result"], rows)
    for stream in streams:
        if stream.differences:
            values: list[list[str | Text]] = [
                [each.key, as_text(each.static), as_text(each.dynamic)]
                for each in stream.differences
            ]
            print_table(stream.dag_id, ["key", "static", "dynamic"], values)


def as_text(value: Any) -> str:
    if value is None:
        return "(absent)"
    return value if isinstance(value, str) else json.dumps(value)


def print_static_files(beside: list[str], collide: list[str]) -> None:
    """Say which static files are left in the DAG folder, and what that means."""
    if beside:
        print_line(
            f"{len(beside)} static files lie beside the factory file. Their DAGs come from them "
            f"and not from the table, until you delete them: {', '.join(beside)}"
        )
    if collide:
        print_line(
            f"{len(collide)} static files elsewhere in the DAG folder define DAGs that the "
            "factory file defines too. Delete them, or move them beside the factory file to let "
            f"them go first: {', '.join(collide)}"
        )
