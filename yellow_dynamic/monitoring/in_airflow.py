"""The half of `yellow-dynamic` that runs in Airflow's Python.

That Python need not have yellow_dynamic or DataSurface and may be in another container, so this
module is passed to it as standard input, joined with the few modules that it needs. A call of `run`
follows it there; it prints one line of JSON: what was asked for, or the problem that prevents it.
"""

from __future__ import annotations

import ast
import fnmatch
import importlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from yellow_dynamic.factory.constants import METADATA_START
from yellow_dynamic.factory.environment import serialize, snapshot_folder

#: Where a DAG's file is, and the page about the DAG; these may differ.
NOT_COMPARED = ("fileloc", "relative_fileloc", "doc_md", "_task_module", "_processor_dags_folder")


class CannotReadError(Exception):
    """Files or DAGs cannot be read; the text says why and what to do."""


# --- What is answered -------------------------------------------------------------------------


@dataclass
class FactoryFile:
    """A factory file as it lies in Airflow's DAG folder.

    Attributes:
        file: its path.
        text: its text.
        settings: the literal PLATFORM in it.
        further: whether each of the further files of a divided platform has the same text, by
            name.
    """

    file: str
    text: str
    settings: dict[str, Any]
    further: dict[str, bool]


@dataclass
class Facts:
    """What the page about a DAG says for programs; a page that does not say it has None.

    Attributes:
        stream: its key.
        revision: of its configuration.
        problem: why the stream has no ingestion DAG.
        ending: whether the DAG is there only until the stream's last run has ended.
        settings: the keys of its configuration that come from RunSettings.
    """

    stream: str | None
    revision: str | None
    problem: str | None
    ending: bool = False
    settings: list[str] = field(default_factory=list)


@dataclass
class BuiltDag:
    """A DAG of a file.

    Attributes:
        facts: what its page says.
        form: its serialized form as `dag` and `tasks`, the `pods` of its tasks, and the
            PodTemplateSpecs in these as `templates`; None where it was not asked for.
    """

    facts: Facts
    form: dict[str, Any] | None


@dataclass
class FactoryReading:
    """What a factory file read; see its READING. `cause` is a value of `causes.Cause`."""

    source: str | None
    age: float | None
    cause: str | None
    reason: str | None


@dataclass
class LoadedFactory:
    """What came of loading a factory file.

    Attributes:
        airflow: the version of Airflow.
        python: the version of Python.
        package: the version of yellow-dynamic that short DAG files import there, or None.
        syntax_error: why the file is no Python, or None.
        error: why it cannot be imported, or None.
        reading: what it read.
        dags: its DAGs by id.
        time_zone: that of their schedules; None where there is no DAG.
        guessed_folder: where it looked for the snapshot, as nothing says where Airflow's are; None
            where that is known.
    """

    airflow: str
    python: str
    package: str | None
    syntax_error: str | None
    error: str | None
    reading: FactoryReading
    dags: dict[str, BuiltDag]
    time_zone: str | None = None
    guessed_folder: str | None = None

    @classmethod
    def from_json(cls, answer: dict[str, Any]) -> LoadedFactory:
        made = {
            "reading": FactoryReading(**answer["reading"]),
            "dags": dags_from_json(answer["dags"]),
        }
        return cls(**{**answer, **made})


@dataclass
class BothSides:
    """A platform's DAGs of static files and of its factory file, by id.

    Attributes:
        airflow: the version of Airflow.
        static: the DAGs of the static files.
        dynamic: those of the factory file.
        beside: static files that lie beside the factory file.
        collide: static files elsewhere in the DAG folder.
    """

    airflow: str
    static: dict[str, BuiltDag]
    dynamic: dict[str, BuiltDag]
    beside: list[str]
    collide: list[str]

    @classmethod
    def from_json(cls, answer: dict[str, Any]) -> BothSides:
        made = {side: dags_from_json(answer[side]) for side in ("static", "dynamic")}
        return cls(**{**answer, **made})


def dags_from_json(dags: dict[str, Any]) -> dict[str, BuiltDag]:
    return {dag_id: BuiltDag(Facts(**dag["facts"]), dag["form"]) for dag_id, dag in dags.items()}


# --- Static files against the factory's DAGs --------------------------------------------------


def both_sides(static_folder: str, dag_folder: str, pattern: str, name: str) -> BothSides:
    """Return a platform's DAGs from its static files and from its factory file.

    Args:
        static_folder: where the static files are.
        dag_folder: where the factory file is.
        pattern: what the names of the static files are like.
        name: that of the factory file.

    Raises:
        CannotReadError: a folder, a file, Airflow or the factory's table cannot be read.
    """
    static_files = find(static_folder, pattern)
    factory = find_factory_file(dag_folder, name)
    if not static_files:
        raise CannotReadError(f"There is no static file {pattern} in {static_folder} or below it.")
    in_dag_folder = find(dag_folder, pattern)
    with tempfile.TemporaryDirectory() as folder:
        # Airflow's own snapshot is neither written nor served instead of the table.
        os.environ["YELLOW_DYNAMIC_SNAPSHOT_DIR"] = folder
        # The factory file leaves the DAGs of static files beside it alone.
        alone = shutil.copy(factory, folder)
        dynamic = load_dags([Path(alone)])
    return BothSides(
        airflow=airflow_version(),
        static=load_dags(static_files),
        dynamic=dynamic,
        beside=[str(file) for file in in_dag_folder if file.parent == factory.parent],
        collide=[str(file) for file in in_dag_folder if file.parent != factory.parent],
    )


# --- Factory files ----------------------------------------------------------------------------


def factory_files(path: str, pattern: str) -> list[FactoryFile]:
    """Return the factory files in a DAG folder, or the one given: the first one of each platform.

    Args:
        path: the folder or file.
        pattern: what the names of factory files are like.

    Raises:
        CannotReadError: there is no such path, or no factory file.
    """
    given = Path(path)
    files = [given] if given.is_file() else find(path, pattern)
    found = []
    for file in files:
        text = file.read_text(encoding="utf-8", errors="replace")
        settings = parse_settings(text)
        # DataSurface has files of such names too.
        if settings is not None:
            further = {
                each.name: each.read_text(encoding="utf-8", errors="replace") == text
                for each in further_files(file)
            }
            found.append(FactoryFile(str(file), text, settings, further))
    if not found:
        where = path if given.is_file() else f"{path} or below it"
        others = "".join(f" {describe_file(file)}." for file in files[:3])
        raise CannotReadError(
            f"There is no factory file of yellow_dynamic in {where}.{others} "
            "generatePlatformBootstrap with --ringLevel 0 writes it."
        )
    return found


def describe_files(path: str, name: str) -> list[str]:
    """Return what the files of this name in a DAG folder are, or the one file given."""
    given = Path(path)
    return [describe_file(file) for file in ([given] if given.is_file() else find(path, name))]


def describe_file(file: Path) -> str:
    """Return whose factory file a file is."""
    settings = parse_settings(file.read_text(encoding="utf-8", errors="replace"))
    if settings is None:
        return f"{file} is of another program or damaged: its literal PLATFORM cannot be read"
    return f"{file} is of platform {settings.get('original_platform_name')!r}"


def further_files(first: Path) -> list[Path]:
    """Return the further factory files of a divided platform, which lie beside its first one."""
    return sorted(first.parent.glob(f"{first.stem}_[1-9]*.py"))


def parse_settings(text: str) -> dict[str, Any] | None:
    """Return the literal PLATFORM of a factory file, read without running it; None is no such."""
    literal = re.search(r"^PLATFORM\b[^=\n]*= (\{.*?^\})", text, re.MULTILINE | re.DOTALL)
    try:
        settings = ast.literal_eval(literal[1]) if literal else None
    except (ValueError, SyntaxError):
        return None
    return settings if isinstance(settings, dict) and "config_table" in settings else None


def static_files(folder: str, pattern: str) -> list[str]:
    """Return the files of such names in a folder and below."""
    return [str(file) for file in find(folder, pattern)]


def factory_dags(
    path: str | None, text: str | None, platform: str, name: str, dag_id: str | None
) -> LoadedFactory:
    """Load a factory file as Airflow does, and say what came of it.

    Its snapshot serves where Airflow's own would, and is not written. The further files of a
    divided platform, which lie beside it, are loaded with it.

    Args:
        path: the file; or None for the one whose text is given.
        text: the text of a file that is not in the DAG folder.
        platform: the platform's name as Airflow has it.
        name: that of its factory file.
        dag_id: build this one DAG alone, as at the start of a task, and describe its form.

    Raises:
        CannotReadError: Airflow is not installed here.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(path or Path(folder, name))
        if path is None:
            file.write_text(text or "", encoding="utf-8")
        known = any(map(os.environ.get, ("AIRFLOW_HOME", "YELLOW_DYNAMIC_SNAPSHOT_DIR")))
        version = airflow_version()
        own = snapshot_folder()
        copy_snapshot(own, folder, platform)
        os.environ["YELLOW_DYNAMIC_SNAPSHOT_DIR"] = folder
        if dag_id is not None:
            os.environ["_AIRFLOW_PARSING_CONTEXT_DAG_ID"] = dag_id
        # Any of them builds the one DAG of a task.
        files = [file] if dag_id else [file, *further_files(file)]
        bags = [dag_bag(each) for each in files]
        errors = [last_line(trace) for bag in bags for trace in bag.import_errors.values()]
        readings = [get_reading(each) for each in files]
        dags = {
            key: describe_dag(dag, with_form=dag_id is not None)
            for bag in bags
            for key, dag in bag.dags.items()
        }

        zones = [str(dag.timezone.name) for bag in bags for dag in bag.dags.values()]

        def in_place(said: str | None) -> str | None:
            return said.replace(folder, str(own)) if said else None

        reading = next((each for each in readings if each.reason), readings[0])
        reading.reason = in_place(reading.reason)
        return LoadedFactory(
            airflow=version,
            python=sys.version.split()[0],
            package=package_version(),
            syntax_error=syntax_error(text or file.read_text(encoding="utf-8")),
            error=in_place(errors[0]) if errors else None,
            reading=reading,
            dags=dags,
            time_zone=next(iter(zones), None),
            guessed_folder=None if known else str(own),
        )


def last_line(trace: str | None) -> str:
    """Return how a traceback of a DAG file ends, without the name that Airflow gives the module."""
    lines = (trace or "").strip().splitlines()
    return re.sub(r"^unusual_prefix_\w+\.", "", lines[-1].strip()) if lines else "no reason given"


def get_reading(file: Path) -> FactoryReading:
    """Return what a factory file read, as it says after it was loaded."""
    said = getattr(find_module(file), "READING", None) or {}
    return FactoryReading(**{name: said.get(name) for name in FactoryReading.__dataclass_fields__})


def find_module(file: Path) -> ModuleType | None:
    """Return the module that a file became, however far its import came."""
    # A lazy module may import others when it is asked.
    loaded = reversed(list(sys.modules.values()))
    return next((each for each in loaded if getattr(each, "__file__", "") == str(file)), None)


def syntax_error(text: str) -> str | None:
    try:
        compile(text, "factory file", "exec")
    except (SyntaxError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def copy_snapshot(source: Path, target: str, platform: str) -> None:
    for file in source.glob(f"{platform}*.json"):
        # The factory file uses no other user's snapshot.
        if file.stat().st_uid == os.geteuid():
            shutil.copy2(file, target)


def describe_dag(dag: Any, *, with_form: bool) -> BuiltDag:
    """Describe a DAG; that it can be serialized is part of its loading."""
    facts = parse_facts(dag.doc_md)
    if with_form:
        return BuiltDag(facts, describe_form(dag))
    serialize(dag)
    return BuiltDag(facts, None)


FACTS = re.compile(rf"^{re.escape(METADATA_START)}(.*)'$", re.MULTILINE)


def parse_facts(page: str | None) -> Facts:
    """Return what the page about a DAG says for programs; another file's page says nothing."""
    found = FACTS.findall(page or "")
    if not found:
        return Facts(stream=None, revision=None, problem=None)
    said = json.loads(found[-1])
    stream, revision, problem = (said.get(name) for name in ("stream", "revision", "problem"))
    ending, settings = bool(said.get("ending")), said.get("settings", [])
    return Facts(stream, revision, problem, ending, settings)


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


def find_factory_file(dag_folder: str, name: str) -> Path:
    found = find(dag_folder, name)
    if len(found) == 1:
        return found[0]
    if found:
        files = ", ".join(map(str, found))
        raise CannotReadError(f"Two files define the same DAGs; delete all but one of: {files}.")
    python = ((file, file.read_text("utf-8", "replace")) for file in find(dag_folder, "*.py"))
    others = ", ".join(str(file) for file, text in python if parse_settings(text)) or "none"
    raise CannotReadError(
        f"There is no factory file {name} in {dag_folder} or below it (factory "
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


def package_version() -> str | None:
    """Return the version of yellow-dynamic that short DAG files import here, or None."""
    try:
        return str(importlib.import_module("yellow_dynamic.factory.installed").__version__)
    except ImportError:
        return None


def load_dags(files: list[Path]) -> dict[str, BuiltDag]:
    """Load DAG files as Airflow does, and describe their DAGs by id."""
    airflow_version()
    described: dict[str, BuiltDag] = {}
    found_in: dict[str, Path] = {}
    for file in files:
        bag = dag_bag(file)
        for trace in bag.import_errors.values():
            raise CannotReadError(f"{file} cannot be loaded: {trace.strip().splitlines()[-1]}")
        for dag_id, dag in bag.dags.items():
            if dag_id in found_in:
                raise CannotReadError(
                    f"Two files define the DAG {dag_id}: {found_in[dag_id]} and {file}."
                )
            found_in[dag_id] = file
            described[dag_id] = describe_dag(dag, with_form=True)
    return described


def dag_bag(file: Path) -> Any:
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # Airflow 2
        from airflow.models.dagbag import DagBag
    # No __pycache__ in Airflow's DAG folder.
    sys.dont_write_bytecode = True
    return DagBag(dag_folder=str(file))


def describe_form(dag: Any) -> dict[str, Any]:
    """Return a DAG's serialized form, the pods of its tasks, and what these were made from."""
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

    serialized = exclude_locations(serialize(dag))
    tasks = [task.get("__var", task) for task in serialized["dag"].pop("tasks")]
    with_pods = [task for task in dag.tasks if isinstance(task, KubernetesPodOperator)]
    return {
        "dag": serialized["dag"],
        "tasks": {task["task_id"]: task for task in tasks},
        "pods": {task.task_id: build_pod(task) for task in with_pods},
        "templates": {task.task_id: task.pod_template_dict or {} for task in with_pods},
    }


def exclude_locations(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: exclude_locations(v) for key, v in value.items() if key not in NOT_COMPARED}
    if isinstance(value, (list, tuple)):
        return [exclude_locations(item) for item in value]
    return value


def build_pod(task: Any) -> Any:
    """Return the pod that the task would send, but for its random name, without any cluster."""
    from kubernetes.client import ApiClient

    task.random_name_suffix = False
    # The operator asks its hook for no more than this, and the real one wants a cluster.
    task.__dict__["hook"] = SimpleNamespace(is_in_cluster=True, get_namespace=lambda: None)
    return ApiClient().sanitize_for_serialization(task.build_pod_request_obj())


# --- The answer -------------------------------------------------------------------------------

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "both_sides": both_sides,
    "describe_files": describe_files,
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
        print(json.dumps(answer, default=as_plain), file=answer_to)


def as_plain(value: Any) -> Any:
    """Return what JSON can hold of a value."""
    return asdict(value) if hasattr(value, "__dataclass_fields__") else str(value)
