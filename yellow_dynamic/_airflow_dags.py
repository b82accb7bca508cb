"""The half of `yellow-dynamic verify-parity` that runs in Airflow's Python.

That Python has neither yellow_dynamic nor DataSurface and may be in another container, so this
file is handed to it as standard input and imports nothing but Airflow. It prints one line of JSON:
the static and the dynamic DAGs of one platform, or the problem that prevents it.
"""

from __future__ import annotations

import fnmatch
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

#: Where a DAG's file is, and the page about the DAG; these may differ.
NOT_COMPARED = ("fileloc", "relative_fileloc", "doc_md", "_task_module", "_processor_dags_folder")


class CannotCompareError(Exception):
    """The DAGs cannot be read; the text says why and what to do."""


def main(static_folder: str, dag_folder: str, platform: str) -> dict[str, Any]:
    """Return the platform's DAGs from its static files and from its factory file.

    Raises:
        CannotCompareError: a folder, a file, Airflow or the factory's table cannot be read.
    """
    pattern = f"{platform}__*_ingestion.py"
    static_files = find(static_folder, pattern)
    factory = factory_file(dag_folder, platform)
    if not static_files:
        raise CannotCompareError(
            f"There is no static file {pattern} in {static_folder} or below it."
        )
    in_dag_folder = find(dag_folder, pattern)
    with tempfile.TemporaryDirectory() as folder:
        # Airflow's own snapshot is neither written nor served instead of the table.
        os.environ["YELLOW_DYNAMIC_SNAPSHOT_DIR"] = folder
        # The factory file leaves the DAGs of static files beside it alone.
        alone = shutil.copy(factory, folder)
        dynamic = dags_of([Path(alone)])
    return {
        "airflow": airflow_version(),
        "static": dags_of(static_files),
        "dynamic": dynamic,
        "beside": [str(file) for file in in_dag_folder if file.parent == factory.parent],
        "collide": [str(file) for file in in_dag_folder if file.parent != factory.parent],
    }


def find(folder: str, pattern: str) -> list[Path]:
    """Return the files of this name in the folder and below, links followed as Airflow does."""
    if not Path(folder).is_dir():
        raise CannotCompareError(f"There is no folder {folder}.")
    return sorted(
        Path(parent, name)
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in fnmatch.filter(names, pattern)
    )


def factory_file(dag_folder: str, platform: str) -> Path:
    found = find(dag_folder, f"{platform}_factory_dag.py")
    if len(found) == 1:
        return found[0]
    if found:
        files = ", ".join(map(str, found))
        raise CannotCompareError(f"Two files define the same DAGs; delete all but one of: {files}.")
    others = ", ".join(str(file) for file in find(dag_folder, "*_factory_dag.py")) or "none"
    raise CannotCompareError(
        f"There is no factory file {platform}_factory_dag.py in {dag_folder} or below it (factory "
        f"files there: {others}). generatePlatformBootstrap with --ringLevel 0 writes it."
    )


def airflow_version() -> str:
    os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
    try:
        from airflow import __version__
    except ModuleNotFoundError as error:
        raise CannotCompareError(
            f"Airflow is not installed for {sys.executable} ({error}). Give --python the command "
            "that starts Airflow's Python."
        ) from None
    return str(__version__)


def dags_of(files: list[Path]) -> dict[str, Any]:
    """Load DAG files as Airflow does, and describe their DAGs by id."""
    airflow_version()
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # Airflow 2
        from airflow.models.dagbag import DagBag

    described: dict[str, Any] = {}
    for file in files:
        bag = DagBag(dag_folder=str(file))
        for trace in bag.import_errors.values():
            raise CannotCompareError(f"{file} cannot be loaded: {trace.strip().splitlines()[-1]}")
        for dag_id, dag in bag.dags.items():
            if dag_id in described:
                other = described[dag_id]["file"]
                raise CannotCompareError(f"Two files define the DAG {dag_id}: {other} and {file}.")
            described[dag_id] = {"file": str(file), **describe(dag)}
    return described


def describe(dag: Any) -> dict[str, Any]:
    """Return what is compared of a DAG: its serialized form and the pods of its tasks."""
    try:
        from airflow.serialization.serialized_objects import DagSerialization
    except ImportError:  # Airflow 2
        from airflow.serialization.serialized_objects import SerializedDAG as DagSerialization
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

    serialized = without_locations(DagSerialization.to_dict(dag))
    tasks = [task.get("__var", task) for task in serialized["dag"].pop("tasks")]
    return {
        "problem": dag.doc_md if "config-error" in dag.tags else None,
        "dag": serialized["dag"],
        "tasks": {task["task_id"]: task for task in tasks},
        "pods": {
            task.task_id: pod_of(task)
            for task in dag.tasks
            if isinstance(task, KubernetesPodOperator)
        },
    }


def without_locations(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_locations(v) for key, v in value.items() if key not in NOT_COMPARED}
    if isinstance(value, (list, tuple)):
        return [without_locations(item) for item in value]
    return value


def pod_of(task: Any) -> Any:
    """Return the pod that the task would send, but for its random name, without any cluster."""
    from kubernetes.client import ApiClient

    task.random_name_suffix = False
    # The operator asks its hook for no more than this, and the real one wants a cluster.
    task.__dict__["hook"] = SimpleNamespace(is_in_cluster=True, get_namespace=lambda: None)
    return ApiClient().sanitize_for_serialization(task.build_pod_request_obj())


def run(arguments: list[str]) -> None:
    """Print the answer of `main` alone on standard output, whatever Airflow prints."""
    answer_to = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        answer = main(*arguments)
    except CannotCompareError as error:
        answer = {"problem": str(error)}
    with answer_to:
        print(json.dumps(answer, default=str), file=answer_to)


if __name__ == "__main__":
    run(sys.argv[1:])
