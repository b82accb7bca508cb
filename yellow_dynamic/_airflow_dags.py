"""The half of `yellow-dynamic` that runs in Airflow's Python.

That Python has neither yellow_dynamic nor DataSurface and may be in another container, so this
file is handed to it as standard input and imports nothing but Airflow. A call of `run` follows it
there; it prints one line of JSON: what was asked for, or the problem that prevents it.
"""

from __future__ import annotations

import ast
import fnmatch
import json
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

#: Where a DAG's file is, and the page about the DAG; these may differ.
NOT_COMPARED = ("fileloc", "relative_fileloc", "doc_md", "_task_module", "_processor_dags_folder")


class CannotReadError(Exception):
    """Files or DAGs cannot be read; the text says why and what to do."""


# --- Static files against the factory's DAGs --------------------------------------------------


def both_sides(static_folder: str, dag_folder: str, platform: str) -> dict[str, Any]:
    """Return the platform's DAGs from its static files and from its factory file.

    Raises:
        CannotReadError: a folder, a file, Airflow or the factory's table cannot be read.
    """
    pattern = f"{platform}__*_ingestion.py"
    static_files = find(static_folder, pattern)
    factory = factory_file(dag_folder, platform)
    if not static_files:
        raise CannotReadError(f"There is no static file {pattern} in {static_folder} or below it.")
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


# --- Factory files ----------------------------------------------------------------------------


def factory_files(path: str) -> list[dict[str, Any]]:
    """Return the factory files in a DAG folder, or the one given: the first one of each platform.

    Each has its file, text and settings, and the names of the further files of a divided
    platform beside it, with whether their text is the same.

    Raises:
        CannotReadError: there is no such path, or no factory file.
    """
    given = Path(path)
    files = [given] if given.is_file() else find(path, "*_factory_dag.py")
    found = []
    for file in files:
        text = file.read_text(encoding="utf-8", errors="replace")
        settings = settings_of(text)
        # DataSurface has files of such names too.
        if settings is not None:
            further = {
                each.name: each.read_text(encoding="utf-8", errors="replace") == text
                for each in sorted(file.parent.glob(f"{file.stem}_[1-9]*.py"))
            }
            found.append(
                {"file": str(file), "text": text, "settings": settings, "further": further}
            )
    if not found:
        where = path if given.is_file() else f"{path} or below it"
        raise CannotReadError(
            f"There is no factory file of yellow_dynamic in {where}. generatePlatformBootstrap "
            "with --ringLevel 0 writes it."
        )
    return found


def settings_of(text: str) -> dict[str, Any] | None:
    """Return the literal PLATFORM of a factory file, read without running it; None is no such."""
    literal = re.search(r"^PLATFORM\b[^=\n]*= (\{.*?^\})", text, re.MULTILINE | re.DOTALL)
    try:
        settings = ast.literal_eval(literal[1]) if literal else None
    except (ValueError, SyntaxError):
        return None
    return settings if isinstance(settings, dict) and "config_table" in settings else None


def static_files(folder: str, platform: str) -> list[str]:
    """Return the static DAG files of a platform in a folder and below."""
    return [str(file) for file in find(folder, f"{platform}__*_ingestion.py")]


def factory_dags(
    path: str | None, text: str | None, platform: str, dag_id: str | None
) -> dict[str, Any]:
    """Load a factory file as Airflow does, and say what came of it.

    Its snapshot serves where Airflow's own would, and is not written. The further files of a
    divided platform, which lie beside it, are loaded with it.

    Args:
        path: the file; or None for the one whose text is given.
        text: the text of a file that is not in the DAG folder.
        platform: the platform's name as Airflow has it.
        dag_id: build this one DAG alone, as at the start of a task; its description is then whole.

    Raises:
        CannotReadError: Airflow is not installed here.
    """
    with tempfile.TemporaryDirectory() as folder, warnings_of_factories() as warnings:
        file = Path(path or Path(folder, f"{platform}_factory_dag.py"))
        if path is None:
            file.write_text(text or "", encoding="utf-8")
        version = airflow_version()
        own = own_snapshots()
        copy_snapshot(own, folder, platform)
        os.environ["YELLOW_DYNAMIC_SNAPSHOT_DIR"] = folder
        if dag_id is not None:
            os.environ["_AIRFLOW_PARSING_CONTEXT_DAG_ID"] = dag_id
        # Any of them builds the one DAG of a task.
        further = [] if dag_id else sorted(file.parent.glob(f"{file.stem}_[1-9]*.py"))
        bags = [dag_bag(each) for each in (file, *further)]
        errors = [
            trace.strip().splitlines()[-1] for bag in bags for trace in bag.import_errors.values()
        ]
        dags = {
            key: describe(dag) if dag_id else summary(dag)
            for bag in bags
            for key, dag in bag.dags.items()
        }
        said = [line.replace(folder, str(own)) for line in warnings]
    served = [line for line in said if "Serving the snapshot" in line]
    return {
        "airflow": version,
        "python": sys.version.split()[0],
        "compiles": compile_error(text or file.read_text(encoding="utf-8")),
        "error": errors[0].replace(folder, str(own)) if errors else None,
        "snapshot": served[0] if served else None,
        "dags": dags,
    }


def compile_error(text: str) -> str | None:
    try:
        compile(text, "factory file", "exec")
    except (SyntaxError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def own_snapshots() -> Path:
    """Return where the factory files of this Airflow keep their snapshots."""
    home = os.environ.get("AIRFLOW_HOME") or Path("~/airflow").expanduser()
    return Path(os.environ.get("YELLOW_DYNAMIC_SNAPSHOT_DIR") or Path(home, "yellow_dynamic"))


def copy_snapshot(source: Path, target: str, platform: str) -> None:
    for file in source.glob(f"{platform}*.json"):
        # The factory file uses no other user's snapshot.
        if file.stat().st_uid == os.geteuid():
            shutil.copy2(file, target)


@contextmanager
def warnings_of_factories() -> Iterator[list[str]]:
    """Collect what factory files warn of."""
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("yellow_dynamic.factory")
    log.addHandler(handler)
    try:
        yield lines
    finally:
        log.removeHandler(handler)


def summary(dag: Any) -> dict[str, Any]:
    """Return what the list of a platform's DAGs says of one; serializing it is part of loading."""
    serializer().to_dict(dag)
    return {"problem": config_error(dag), "doc_md": dag.doc_md}


def config_error(dag: Any) -> str | None:
    """Return why the DAG's row is not valid, from the page about the DAG; None where it is."""
    return dag.doc_md.strip().splitlines()[-1].strip() if "config-error" in dag.tags else None


# --- Files and DAGs ---------------------------------------------------------------------------


def find(folder: str, pattern: str) -> list[Path]:
    """Return the files of this name in the folder and below, links followed as Airflow does."""
    if not Path(folder).is_dir():
        raise CannotReadError(f"There is no folder {folder}.")
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
        raise CannotReadError(f"Two files define the same DAGs; delete all but one of: {files}.")
    others = ", ".join(str(file) for file in find(dag_folder, "*_factory_dag.py")) or "none"
    raise CannotReadError(
        f"There is no factory file {platform}_factory_dag.py in {dag_folder} or below it (factory "
        f"files there: {others}). generatePlatformBootstrap with --ringLevel 0 writes it."
    )


def airflow_version() -> str:
    os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
    try:
        from airflow import __version__
    except ModuleNotFoundError as error:
        raise CannotReadError(
            f"Airflow is not installed for {sys.executable} ({error}). Give --python the command "
            "that starts Airflow's Python."
        ) from None
    return str(__version__)


def dags_of(files: list[Path]) -> dict[str, Any]:
    """Load DAG files as Airflow does, and describe their DAGs by id."""
    airflow_version()
    described: dict[str, Any] = {}
    for file in files:
        bag = dag_bag(file)
        for trace in bag.import_errors.values():
            raise CannotReadError(f"{file} cannot be loaded: {trace.strip().splitlines()[-1]}")
        for dag_id, dag in bag.dags.items():
            if dag_id in described:
                other = described[dag_id]["file"]
                raise CannotReadError(f"Two files define the DAG {dag_id}: {other} and {file}.")
            described[dag_id] = {"file": str(file), **describe(dag)}
    return described


def dag_bag(file: Path) -> Any:
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # Airflow 2
        from airflow.models.dagbag import DagBag
    # No __pycache__ in Airflow's DAG folder.
    sys.dont_write_bytecode = True
    return DagBag(dag_folder=str(file))


def serializer() -> Any:
    try:
        from airflow.serialization.serialized_objects import DagSerialization
    except ImportError:  # Airflow 2
        from airflow.serialization.serialized_objects import SerializedDAG as DagSerialization
    return DagSerialization


def describe(dag: Any) -> dict[str, Any]:
    """Return a DAG's serialized form and the pods of its tasks."""
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

    serialized = without_locations(serializer().to_dict(dag))
    tasks = [task.get("__var", task) for task in serialized["dag"].pop("tasks")]
    return {
        "problem": config_error(dag),
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


# --- The answer -------------------------------------------------------------------------------

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "both_sides": both_sides,
    "factory_files": factory_files,
    "factory_dags": factory_dags,
    "static_files": static_files,
}


def run(function: str, arguments: dict[str, Any]) -> None:
    """Print the function's answer alone on standard output, whatever Airflow prints."""
    answer_to = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        answer = {"answer": FUNCTIONS[function](**arguments)}
    except CannotReadError as error:
        answer = {"problem": str(error)}
    with answer_to:
        print(json.dumps(answer, default=str), file=answer_to)
