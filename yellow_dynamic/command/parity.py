"""Compares the DAGs of static files with those of the factory file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.text import Text

from yellow_dynamic.command.printing import print_line, print_table
from yellow_dynamic.monitoring.in_airflow import BothSides, BuiltDag

#: What the factory's DAGs have on purpose and static ones have not, and what for.
BY_DESIGN = {
    "tasks.snapshot_merge_job.max_active_tis_per_dag": "no two jobs of a stream at once, those "
    "of backfills included",
    "tasks.wait_for_trigger.outlets": "deliveries of streams that start others are announced",
    "tasks.snapshot_merge_job.template_fields": "a run keeps what it ran with",
    "tasks.snapshot_merge_job.template_fields_renderers": "a run keeps what it ran with",
    "pods.snapshot_merge_job.spec.securityContext": "no pod has rights that its job does not need",
    "pods.snapshot_merge_job.spec.containers.base.securityContext": "the same",
    "dag.is_paused_upon_creation": "Airflow, or pausedAtCreation of the platform, decides whether "
    "new DAGs are paused",
    "dag.description": "it ends with the revision of the stream's configuration",
    "dag._description": "the same on Airflow 2",
    "dag.has_on_failure_callback": "people are told of runs that failed, where onFailure says how",
    "dag.disable_bundle_versioning": "a run takes the file of now, as it takes the rows of now",
}

#: In what the DAGs differ for a key of a row that comes from RunSettings. What a pod_template
#: brings is what it has.
BY_SETTING = {
    "resources": ["pods.snapshot_merge_job.spec.containers.base.resources"],
    "retries": ["tasks.snapshot_merge_job.retries"],
    "retry_delay_seconds": ["tasks.snapshot_merge_job.retry_delay"],
    "timeout_seconds": [
        "tasks.snapshot_merge_job.execution_timeout",
        "pods.snapshot_merge_job.spec.activeDeadlineSeconds",
    ],
    "dag_run_timeout_seconds": ["dag.dagrun_timeout"],
    "pool": ["tasks.snapshot_merge_job.pool"],
    "pool_slots": ["tasks.snapshot_merge_job.pool_slots"],
    "priority_weight": ["tasks.snapshot_merge_job.priority_weight"],
    "queue": ["tasks.snapshot_merge_job.queue"],
    "spread_minutes": ["dag.timetable", "dag.schedule_interval"],
}

#: How the two forms of a DAG may compare.
EQUAL, BUT_FOR_SETTINGS, DIFFERS = "equal", "equal but for settings", "differs"
GOOD = (EQUAL, BUT_FOR_SETTINGS, "no static form")


@dataclass
class Difference:
    """One key in which the two forms of a DAG differ; a form without the key has None.

    Attributes:
        key: the key, with those around it.
        static: its value in the static DAG.
        dynamic: its value in the dynamic one.
        setting: the key of the row, from RunSettings, that brings the difference; else None.
    """

    key: str
    static: Any
    dynamic: Any
    setting: str | None = None


@dataclass
class Stream:
    """How the static and the dynamic DAG of one id compare."""

    dag_id: str
    result: str
    differences: list[Difference] = field(default_factory=list)


@dataclass
class Parity:
    """How all the DAGs of a platform compare, on which Airflow, and the static files left there."""

    platform: str
    sides: BothSides
    streams: list[Stream]

    @property
    def differs(self) -> bool:
        return any(each.result not in GOOD for each in self.streams) or bool(self.sides.collide)

    def as_json(self) -> dict[str, Any]:
        return {
            "platform": self.platform,
            "airflow": self.sides.airflow,
            "equal": not self.differs,
            "streams": [asdict(stream) for stream in self.streams],
            "by_design": BY_DESIGN,
            "static_files_beside_the_factory": self.sides.beside,
            "static_files_that_collide": self.sides.collide,
        }

    def show(self) -> None:
        """Print the streams, what differs, and the static files that are left."""
        rows: list[list[str | Text]] = [
            [stream.dag_id, Text(stream.result, "green" if stream.result in GOOD else "red")]
            for stream in self.streams
        ]
        print_table(f"{self.platform} on Airflow {self.sides.airflow}", ["DAG", "result"], rows)
        for stream in self.streams:
            if stream.differences:
                values = [
                    [each.key, as_text(each.static), as_text(each.dynamic), each.setting or ""]
                    for each in stream.differences
                ]
                print_table(stream.dag_id, ["key", "static", "dynamic", "by setting"], values)
        print_line("Not counted, as the dynamic DAGs have them by design:")
        for key, reason in BY_DESIGN.items():
            print_line(f"  {key}: {reason}")
        if beside := self.sides.beside:
            print_line(
                f"{len(beside)} static files lie beside the factory file. Their DAGs come from "
                f"them and not from the table, until you delete them: {', '.join(beside)}"
            )
        if collide := self.sides.collide:
            print_line(
                f"{len(collide)} static files elsewhere in the DAG folder define DAGs that the "
                "factory file defines too. Delete them, or move them beside the factory file to "
                f"let them go first: {', '.join(collide)}"
            )


@dataclass
class ParityReport:
    """How the DAGs of some platforms compare."""

    platforms: list[Parity]

    @property
    def differs(self) -> bool:
        return any(each.differs for each in self.platforms)

    def as_json(self) -> dict[str, Any]:
        return {"equal": not self.differs, "platforms": [each.as_json() for each in self.platforms]}

    def show(self) -> None:
        for each in self.platforms:
            each.show()


def as_text(value: Any) -> str:
    if value is None:
        return "(absent)"
    return value if isinstance(value, str) else json.dumps(value)


def compare(static: dict[str, BuiltDag], dynamic: dict[str, BuiltDag]) -> list[Stream]:
    """Return how the DAGs of both sides compare, in the order of their ids."""
    streams = []
    for dag_id in sorted(static.keys() | dynamic.keys()):
        if dag_id not in dynamic:
            streams.append(Stream(dag_id, "only static"))
        elif dag_id not in static:
            alone = transforms(dynamic[dag_id])
            streams.append(Stream(dag_id, "no static form" if alone else "only dynamic"))
        else:
            streams.append(compare_dag(dag_id, static[dag_id], dynamic[dag_id]))
    return streams


def transforms(dag: BuiltDag) -> bool:
    """Return whether a DAG belongs to a transformer, for which no static file is rendered."""
    return "datatransformer" in ((dag.form or {}).get("dag") or {}).get("tags", ())


def compare_dag(dag_id: str, static: BuiltDag, dynamic: BuiltDag) -> Stream:
    if dynamic.facts.problem:
        # Such a DAG has nothing in common with the static one but its id.
        reason = Difference("configuration", None, dynamic.facts.problem)
        return Stream(dag_id, DIFFERS, [reason])
    before, after = static.form or {}, without_announcements(dynamic.form or {})
    found = [
        difference
        for part in ("dag", "tasks", "pods")
        for difference in differences(part, before.get(part), after.get(part))
        if not is_below(difference.key, BY_DESIGN)
    ]
    brought = {key: BY_SETTING.get(key, []) for key in dynamic.facts.settings}
    brought["pod_template"] = list(leaves("pods", after.get("templates", {})))
    for difference in found:
        difference.setting = find_setting(difference.key, brought)
    if not found:
        return Stream(dag_id, EQUAL)
    settled = all(difference.setting for difference in found)
    return Stream(dag_id, BUT_FOR_SETTINGS if settled else DIFFERS, found)


def is_below(key: str, keys: Iterable[str]) -> bool:
    """Return whether a key is one of these, or within one of them."""
    return any(f"{key}.".startswith(f"{each}.") for each in keys)


def find_setting(key: str, brought: dict[str, list[str]]) -> str | None:
    """Return which of a row's keys from RunSettings brings the difference in a key.

    Args:
        key: the key.
        brought: the innermost keys that each key of the row brings.
    """
    for setting, keys in brought.items():
        if is_below(key, keys) or any(is_below(each, [key]) for each in keys):
            return setting
    return None


def leaves(key: str, value: Any) -> Iterator[str]:
    """Yield the innermost keys of a value, each with those around it."""
    parts = as_parts(value)
    if parts is None:
        yield key
    for name, part in (parts or {}).items():
        yield from leaves(f"{key}.{name}", part)


def without_announcements(form: dict[str, Any]) -> dict[str, Any]:
    """Return a DAG's form without the dependencies that Airflow derives from its outlets."""
    dag = dict(form.get("dag") or {})
    kinds = ("asset", "dataset")
    dag["dag_dependencies"] = [
        each for each in dag.get("dag_dependencies", ()) if each["dependency_type"] not in kinds
    ]
    return {**form, "dag": dag}


def differences(key: str, static: Any, dynamic: Any) -> Iterator[Difference]:
    """Yield the innermost keys in which two values differ."""
    if static == dynamic:
        return
    parts = as_parts(static), as_parts(dynamic)
    if parts[0] is None or parts[1] is None or parts[0] == parts[1]:
        yield Difference(key, static, dynamic)
        return
    for name in sorted(parts[0].keys() | parts[1].keys()):
        yield from differences(f"{key}.{name}", parts[0].get(name), parts[1].get(name))


def as_parts(value: Any) -> dict[str, Any] | None:
    """Return a value's parts by name, as far as it has such: Kubernetes names items of lists."""
    if isinstance(value, dict):
        return value
    if isinstance(value, list) and all(isinstance(item, dict) and "name" in item for item in value):
        return {item["name"]: item for item in value}
    return None
