"""Compares the DAGs of static files with those of the factory file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Difference:
    """One key in which the two forms of a DAG differ; a form without the key has None."""

    key: str
    static: Any
    dynamic: Any


@dataclass
class Stream:
    """How the static and the dynamic DAG of one id compare."""

    dag_id: str
    result: str
    differences: list[Difference] = field(default_factory=list)


def compare(static: dict[str, Any], dynamic: dict[str, Any]) -> list[Stream]:
    """Return how the DAGs of both sides compare, in the order of their ids."""
    streams = []
    for dag_id in sorted(static.keys() | dynamic.keys()):
        if dag_id not in dynamic:
            streams.append(Stream(dag_id, "only static"))
        elif dag_id not in static:
            streams.append(Stream(dag_id, "only dynamic"))
        else:
            streams.append(compare_dag(dag_id, static[dag_id], dynamic[dag_id]))
    return streams


def compare_dag(dag_id: str, static: dict[str, Any], dynamic: dict[str, Any]) -> Stream:
    if dynamic["problem"]:
        # Such a DAG has nothing in common with the static one but its id.
        reason = Difference("configuration", None, dynamic["problem"])
        return Stream(dag_id, "differs", [reason])
    found = [
        difference
        for part in ("dag", "tasks", "pods")
        for difference in differences(part, static[part], dynamic[part])
    ]
    return Stream(dag_id, "differs" if found else "equal", found)


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
