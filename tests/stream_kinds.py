"""Every kind of stream and of platform that changes what a DAG is, and a DAG as it compares."""

from __future__ import annotations

from typing import Any

from airflow_names import DagSerialization
from yellow_models import SINGLE, Store

from datasurface.md import CronTrigger, ExternallyTriggered
from yellow_dynamic.command.parity import BY_DESIGN

HUNDRED = [f"dataset_{number}" for number in range(100)]
STREAMS = {
    "SQL, all datasets in one": Store("Multi"),
    "SQL, one per dataset": Store("Single", ["a", "b"], SINGLE),
    "SQL, 100 datasets in one": Store("Wide", HUNDRED),
    "SQL, one for each of 20": Store("Long", HUNDRED[:20], SINGLE),
    "SQL, login of its own": Store("OwnLogin", credential="Source_Cred"),
    "capitals and underscores": Store("Upper_CASE", ["Data_SET", "x_"], SINGLE),
    "name of 120 characters": Store("x" * 120),
    "cron on weekdays": Store("Nightly", trigger=CronTrigger("Nightly", "0 3 * * 1-5")),
    "external trigger": Store("By_Hand", trigger=ExternallyTriggered("By hand")),
    "Kafka": Store("Topic", ["events"], SINGLE, kafka=True),
    "Kafka without a trigger": Store("Always", ["clicks"], SINGLE, trigger=None, kafka=True),
}
PLATFORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no git cache": {"providerArguments": {"git_cache_enabled": False}},
    "awkward names": {
        "platform": "Yellow_Live No.1",
        "name": "Donn\u00e9es d'\u00c9t\u00e9",
        "postgresCredential": "Merge_Cred",
        "gitCredential": "Git_Cred",
        "branch": "release/1_x",
    },
}
#: What may differ: where the file is, and the page about the DAG.
LOCATIONS = ("fileloc", "relative_fileloc", "doc_md", "_task_module")


def comparable(dag: Any) -> Any:
    """Return what a DAG is, without what a dynamic one has by design."""
    form = without_locations(DagSerialization.to_dict(dag))
    for task in form["dag"]["tasks"]:
        of_task = task.get("__var", task)
        path = f"tasks.{of_task['task_id']}"
        for name in [name for name in of_task if f"{path}.{name}" in BY_DESIGN]:
            del of_task[name]
    for name in [name for name in form["dag"] if f"dag.{name}" in BY_DESIGN]:
        del form["dag"][name]
    return form


def comparable_pod(pod: Any) -> Any:
    """Return a pod without what that of a dynamic DAG has by design."""
    [job] = pod["spec"]["containers"]
    for part, path in ((pod["spec"], "spec"), (job, "spec.containers.base")):
        for name in [
            name for name in part if f"pods.snapshot_merge_job.{path}.{name}" in BY_DESIGN
        ]:
            del part[name]
    return pod


def without_locations(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_locations(v) for key, v in value.items() if key not in LOCATIONS}
    if isinstance(value, list):
        return [without_locations(item) for item in value]
    return value
