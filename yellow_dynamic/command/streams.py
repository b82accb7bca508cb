"""The commands `streams` and `show`: the rows of the table, and the DAG of one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rich.text import Text

from yellow_dynamic.command.printing import print_line, print_table, print_values, printable
from yellow_dynamic.factory.rules import ACTIVE, DISABLED, compute_revision
from yellow_dynamic.monitoring import OperationError
from yellow_dynamic.monitoring.in_airflow import BuiltDag
from yellow_dynamic.monitoring.installation import Installation
from yellow_dynamic.monitoring.rows import StreamRow, describe_schedule
from yellow_dynamic.monitoring.text import counted, format_time

COLOURS = {ACTIVE: "green", DISABLED: "yellow"}


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
            cells = [row_cells(row) for row in rows]
            if any(row.why_disabled for row in rows):
                headings.append("disabled")
                cells = [[*cell, row.why_disabled] for cell, row in zip(cells, rows, strict=True)]
            print_table(title, headings, cells)


def row_cells(row: StreamRow) -> list[str | Text]:
    config = row.config
    schedule = describe_schedule(config)
    return [
        row.stream_key,
        Text(printable(str(row.status)), COLOURS.get(str(row.status), "red")),
        "none, others trigger it" if schedule == "none" else schedule,
        str(config.get("ingestion_type", "?")),
        count_datasets(config.get("datasets")),
        *map(format_time, (row.created_at, row.updated_at)),
    ]


def count_datasets(datasets: Any) -> str:
    return str(len(datasets)) if isinstance(datasets, list) else "?"


# --- show -------------------------------------------------------------------------------------


@dataclass
class StreamReport:
    """One row, and its DAG as Airflow will see it, or why there is none."""

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
                "created_at": format_time(row.created_at),
                "updated_at": format_time(row.updated_at),
                "revision": compute_revision(row.config_json),
            }
        )
        print_line("Its configuration:")
        print_values(row.config)
        if self.dag is None:
            print_line(f"No DAG: {self.no_dag}")
        else:
            print_line(f"DAG {self.installation.dag_id(row.stream_key)}, as Airflow will see it:")
            print_dag(self.dag)


def build_stream_report(installation: Installation, row: StreamRow) -> StreamReport:
    """Return the report on a row, with the DAG that Airflow builds of it."""
    if row.is_disabled:
        return StreamReport(installation, row, None, "the stream is disabled.")
    dag_id = installation.dag_id(row.stream_key)
    try:
        loaded = installation.load(dag_id)
    except OperationError as error:
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
