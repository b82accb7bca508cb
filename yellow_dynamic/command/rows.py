"""The rows of a platform's table, as an operator sees and changes them."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy
from rich.text import Text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from yellow_dynamic import contract, history
from yellow_dynamic.command import CommandError
from yellow_dynamic.command.in_airflow import BuiltDag
from yellow_dynamic.command.platform import Installation
from yellow_dynamic.command.printing import (
    as_json,
    counted,
    print_line,
    print_table,
    print_values,
    printable,
)
from yellow_dynamic.merge_store import config_table, quoted_name


@dataclass
class StreamRow:
    """One row of the table; times are UTC."""

    stream_key: str
    config_json: str | None
    status: str | None
    created_at: datetime | None
    updated_at: datetime | None
    disabled_until: str | None = None
    disabled_by: history.Change | None = None

    @property
    def is_off(self) -> bool:
        """Whether it is disabled at this moment."""
        return contract.is_switched_off(self.status, self.disabled_until)

    @property
    def why_disabled(self) -> str:
        """Who disabled it, when, until when and why, as far as that is known."""
        if self.status != contract.DISABLED:
            return ""
        change, until = self.disabled_by, self.disabled_until
        words = []
        if change:
            words.append(f"by {change.who} at {as_time(change.changed_at)}")
        if until:
            over = "" if self.is_off else ", which is over"
            words.append(f"until {until.replace('T', ' ')} UTC{over}")
        reason = change and change.audit_metadata.get("reason")
        return f"{', '.join(words)}{f': {reason}' if reason else ''}"

    @property
    def config(self) -> dict[str, Any]:
        """The configuration; what is no JSON object is one value under the key config_json."""
        return as_object(self.config_json)

    def as_json(self) -> dict[str, Any]:
        """Return the row for programs, its configuration as an object."""
        times = {
            name: time.isoformat(timespec="seconds") if time else None
            for name, time in (("created_at", self.created_at), ("updated_at", self.updated_at))
        }
        return {
            "stream_key": self.stream_key,
            "status": self.status,
            "disabled": self.disabled,
            **times,
            "config": self.config,
        }

    @property
    def disabled(self) -> dict[str, Any] | None:
        """Who disabled it and so on, for programs; None where nobody did."""
        if self.status != contract.DISABLED:
            return None
        change = self.disabled_by
        return {
            "until": self.disabled_until,
            "by": change and change.who,
            "at": change and change.changed_at.isoformat(timespec="seconds"),
            "reason": change and change.audit_metadata.get("reason"),
        }


def as_object(config_json: str | None) -> dict[str, Any]:
    """Return a configuration; what is no JSON object is one value under the key config_json."""
    try:
        value = json.loads(config_json) if config_json is not None else {}
    except (ValueError, RecursionError):
        value = config_json
    return value if isinstance(value, dict) else {"config_json": value}


def read_rows(installation: Installation) -> list[StreamRow]:
    """Return the rows of the platform's table in the order of their keys.

    Raises:
        CommandError: the login is missing.
        sqlalchemy.exc.SQLAlchemyError: the table cannot be read.
    """
    table = config_table(installation.table)
    with installation.transaction("read") as connection:
        until = contract.DISABLED_UNTIL.format(table=quoted_name(connection, table))
        query = sqlalchemy.select(*table.c, sqlalchemy.literal_column(until))
        rows = [
            StreamRow(*tuple(row)) for row in connection.execute(query.order_by(table.c.stream_key))
        ]
        add_who_disabled(connection, installation.table, rows)
        return rows


def add_who_disabled(connection: Connection, table: str, rows: list[StreamRow]) -> None:
    """Add to the disabled rows the change that disabled them, where it is on record."""
    off = [row.stream_key for row in rows if row.status == contract.DISABLED]
    if not (off and history.is_readable(connection, table)):
        return
    changes = history.history_table(table)
    conditions = (changes.c.action == "disabled", changes.c.stream_key.in_(off))
    newest_last = reversed(history.find_changes(connection, changes, *conditions))
    found = {change.stream_key: change for change in newest_last}
    for row in rows:
        row.disabled_by = found.get(row.stream_key)


def row_problems(row: StreamRow, installation: Installation) -> Iterator[str]:
    """Yield why a factory file of this release refuses a row."""
    try:
        config = contract.parsed_config(row.config_json)
    except contract.BadRowError as error:
        yield f"{row.stream_key}: {error}"
        return
    settings = contract.overlaid(installation.settings, config)
    for problem in contract.row_problems(
        row.stream_key, row.status, settings, installation.airflow_name
    ):
        yield f"{row.stream_key}: {problem}"


def in_words(error: CommandError | SQLAlchemyError) -> str:
    """Return in one line what could not be done and what to do, without the statement."""
    if isinstance(error, CommandError):
        return " ".join(str(error).split())
    cause = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
    text = " ".join([f"{cause.rstrip('.')}.", *getattr(error, "__notes__", [])])
    return " ".join(text.split())


def read_each(
    installations: list[Installation],
) -> tuple[list[tuple[Installation, list[StreamRow]]], list[str]]:
    """Return the rows of each platform that could be asked, and why others could not.

    Raises:
        CommandError: the login of the only one is missing.
        sqlalchemy.exc.SQLAlchemyError: the only table cannot be read.
    """
    answers, failures = [], []
    for each in installations:
        try:
            answers.append((each, read_rows(each)))
        except (CommandError, SQLAlchemyError) as error:
            if len(installations) == 1:
                raise
            failures.append(in_words(error))
    return answers, failures


def find_stream(
    installations: list[Installation], stream_key: str
) -> tuple[Installation, StreamRow, list[str]]:
    """Return the one row of this key among the platforms, and its platform.

    Returns:
        The platform, the row, and why other platforms, which may have such a stream too, could not
        be asked.

    Raises:
        CommandError: no platform that could be asked has the stream, or more than one.
        sqlalchemy.exc.SQLAlchemyError: the only table cannot be read.
    """
    answers, failures = read_each(installations)
    rows = [(each, row) for each, of_platform in answers for row in of_platform]
    found = [(each, row) for each, row in rows if row.stream_key == stream_key]
    names = ", ".join(each.name for each in ([each for each, _ in found] or installations))
    if len(found) > 1:
        raise CommandError(
            f"Several platforms have a stream {stream_key!r}: {names}. Give one with --platform."
        )
    if not found:
        keys = sorted({row.stream_key for _, row in rows})
        close = difflib.get_close_matches(stream_key, keys, n=3) or keys[:10]
        raise CommandError(
            f"There is no stream {stream_key!r} on {names}; there is, for example: "
            f"{', '.join(close) or 'none'}. The command `streams` lists them all. "
            + " ".join(failures)
        )
    return (*found[0], failures)


# --- streams ----------------------------------------------------------------------------------

COLOURS = {contract.ACTIVE: "green", contract.DISABLED: "yellow"}


@dataclass
class StreamsReport:
    """The rows of some platforms."""

    platforms: list[tuple[Installation, list[StreamRow]]]
    differs: bool = field(default=False, init=False)

    def as_json(self) -> dict[str, Any]:
        return {
            "platforms": [
                {
                    "platform": each.name,
                    "table": each.table,
                    "streams": [row.as_json() for row in rows],
                }
                for each, rows in self.platforms
            ]
        }

    def show(self) -> None:
        for installation, rows in self.platforms:
            count = counted(len(rows), "stream")
            title = f"{installation.name}: {count} in table {installation.table}"
            headings = [
                "stream", "status", "schedule", "ingestion", "datasets", "created", "changed"
            ]  # fmt: skip
            cells = [cells_of(row) for row in rows]
            if any(row.why_disabled for row in rows):
                headings.append("disabled")
                cells = [[*cell, row.why_disabled] for cell, row in zip(cells, rows, strict=True)]
            print_table(title, headings, cells)


def cells_of(row: StreamRow) -> list[str | Text]:
    return [
        row.stream_key,
        Text(printable(str(row.status)), COLOURS.get(str(row.status), "red")),
        schedule_of(row),
        str(row.config.get("ingestion_type", "?")),
        dataset_count(row.config.get("datasets")),
        *map(as_time, (row.created_at, row.updated_at)),
    ]


def schedule_of(row: StreamRow) -> str:
    """Return when Airflow starts the stream, as the factory file reads it."""
    if starters := row.config.get("started_by"):
        return f"after {', '.join(starters) if isinstance(starters, list) else starters}"
    schedule = row.config.get("schedule_string", contract.DEFAULT_SCHEDULE)
    if schedule in contract.NO_SCHEDULE:
        return "none, others trigger it"
    return schedule if isinstance(schedule, str) else json.dumps(schedule)


def dataset_count(datasets: Any) -> str:
    return str(len(datasets)) if isinstance(datasets, list) else "?"


def as_time(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC" if time else "never"


# --- show -------------------------------------------------------------------------------------


@dataclass
class StreamReport:
    """One row, and its DAG as Airflow will see it or why there is none."""

    installation: Installation
    row: StreamRow
    dag: BuiltDag | None
    no_dag: str | None
    differs: bool = field(default=False, init=False)

    def as_json(self) -> dict[str, Any]:
        dag = self.dag and {"problem": self.dag.facts.problem, **(self.dag.form or {})}
        name = self.installation.name
        return {"platform": name, **self.row.as_json(), "dag": dag, "no_dag": self.no_dag}

    def show(self) -> None:
        row = self.row
        print_line(f"Stream {row.stream_key} of platform {self.installation.name}", style="bold")
        print_line(f"Row of table {self.installation.table}:")
        print_values(
            {
                "status": row.status,
                **({"disabled": row.why_disabled} if row.why_disabled else {}),
                "created_at": as_time(row.created_at),
                "updated_at": as_time(row.updated_at),
                "revision": contract.revision_of(row.config_json),
            }
        )
        print_line("Its configuration:")
        print_values(row.config)
        if self.dag is None:
            print_line(f"No DAG: {self.no_dag}")
        else:
            print_line(f"DAG {self.installation.dag_id(row.stream_key)}, as Airflow will see it:")
            print_dag(self.dag)


def report_of_stream(installation: Installation, row: StreamRow) -> StreamReport:
    """Let Airflow build the DAG of a row."""
    if row.is_off:
        return StreamReport(installation, row, None, "the stream is disabled.")
    dag_id = installation.dag_id(row.stream_key)
    try:
        loaded = installation.load(dag_id)
    except CommandError as error:
        return StreamReport(installation, row, None, str(error))
    if loaded.error:
        reason = f"the factory file cannot be loaded: {loaded.error}"
        return StreamReport(installation, row, None, reason)
    # A bad row's DAG may have another id than the row's.
    dag = loaded.dags.get(dag_id) or next(iter(loaded.dags.values()), None)
    missing = "the factory file finds no row of this stream where it reads."
    return StreamReport(installation, row, dag, None if dag else missing)


def print_dag(built: BuiltDag) -> None:
    if built.facts.problem or built.form is None:
        print_line(f"  not valid: {built.facts.problem}", style="red")
        return
    dag, tasks, pods = (built.form[part] for part in ("dag", "tasks", "pods"))
    timetable = dag["timetable"].get("__var") or {}
    print_values(
        {
            "schedule": timetable.get("expression", "none"),
            "max_active_runs": dag.get("max_active_runs"),
            "tags": sorted(dag.get("tags", [])),
            "tasks": [
                f"{name} >> {', '.join(task.get('downstream_task_ids') or [])}".removesuffix(" >> ")
                for name, task in tasks.items()
            ],
        }
    )
    for task, pod in pods.items():
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


# --- Two configurations -----------------------------------------------------------------------


@dataclass
class KeyChange:
    """A key of a stream's configuration that is added, changed or removed."""

    key: str
    action: str
    old: Any
    new: Any

    def show(self) -> None:
        sign, colour = SIGNS[self.action]
        values = [as_json(self.old), as_json(self.new)]
        if self.action == "changed":
            print_line(f"      {sign} {self.key}: {values[0]} -> {values[1]}", style=colour)
        else:
            value = values[1 if self.action == "added" else 0]
            print_line(f"      {sign} {self.key} = {value}", style=colour)


#: The sign and the colour of a change.
SIGNS = {"added": ("+", "green"), "changed": ("~", "yellow"), "removed": ("-", "red")}


def compare_configs(old: str | None, new: str | None) -> list[KeyChange]:
    """Return the keys in which two texts of a configuration differ, in the keys' order.

    A text that is no JSON object is one value under the key `config_json`. None is a row that is
    not there.
    """
    before, after = as_object(old), as_object(new)
    changes = []
    for key in sorted(before.keys() | after.keys()):
        if key not in before or key not in after:
            action = "removed" if key in before else "added"
        elif as_json(before[key]) != as_json(after[key]):
            action = "changed"
        else:
            continue
        changes.append(KeyChange(key, action, before.get(key), after.get(key)))
    return changes
