"""Loads DAG files with Airflow's Python, which may be in another container."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from typing import Any

from yellow_dynamic.factory.rules import build_dag_id, factory_file_name
from yellow_dynamic.joining import PROBE_MODULES, join_modules
from yellow_dynamic.monitoring import OperationError
from yellow_dynamic.monitoring.in_airflow import BothSides, FactoryFile, LoadedFactory


def factory_files(dags: str, python: str) -> list[FactoryFile]:
    """Return the factory files in a DAG folder, or the one given: the first one of each platform.

    Raises:
        OperationError: there is no such folder or no factory file, or Python cannot be run.
    """
    pattern = f"{factory_file_name('*')}.py"
    found = call_airflow_python(python, "factory_files", path=dags, pattern=pattern)
    return [FactoryFile(**each) for each in found]


def describe_files(dags: str, name: str, python: str) -> list[str]:
    """Return what the files of this name in a DAG folder are, or the one file given."""
    found: list[str] = call_airflow_python(python, "describe_files", path=dags, name=name)
    return found


def static_files(folder: str, airflow_name: str, python: str) -> list[str]:
    """Return the static DAG files of a platform in a folder and below."""
    found: list[str] = call_airflow_python(
        python, "static_files", folder=folder, pattern=static_file_pattern(airflow_name)
    )
    return found


def static_file_pattern(airflow_name: str) -> str:
    return f"{build_dag_id(airflow_name, '*')}.py"


def load_factory(
    airflow_name: str, python: str, *, path: str | None, text: str | None, dag_id: str | None = None
) -> LoadedFactory:
    """Load a factory file as Airflow does; see `in_airflow.factory_dags`."""
    answer = call_airflow_python(
        python,
        "factory_dags",
        path=path,
        text=text,
        platform=airflow_name,
        name=f"{factory_file_name(airflow_name)}.py",
        dag_id=dag_id,
    )
    return LoadedFactory.from_json(answer)


def both_sides(static: str, dags: str, airflow_name: str, python: str) -> BothSides:
    """Return a platform's DAGs from its static files and from its factory file.

    Raises:
        OperationError: a folder, a file, Airflow or the factory's table cannot be read.
    """
    answer = call_airflow_python(
        python,
        "both_sides",
        static_folder=static,
        dag_folder=dags,
        pattern=static_file_pattern(airflow_name),
        name=f"{factory_file_name(airflow_name)}.py",
    )
    return BothSides.from_json(answer)


#: Python looks first in the current folder for what the program imports, where `airflow` or `queue`
#: may be somebody's own. Its option -P would do, which Python 3.10 has not.
START = """\
from __future__ import annotations
import sys
if not sys.path[0]:
    del sys.path[0]
"""


def call_airflow_python(python: str, function: str, **arguments: Any) -> Any:
    """Return the result of a function of `in_airflow.py`, run by Airflow's Python.

    Args:
        python: the command that starts Airflow's Python; this Python where it is empty.
        function: its name.
        **arguments: its arguments, of types that JSON has.

    Raises:
        OperationError: it finds a problem, or does not run to its end.
    """
    command = python_command(python)
    program = join_modules(PROBE_MODULES)
    call = json.dumps([function, arguments])
    try:
        done = subprocess.run(
            [*command, "-"],
            input=f"{START}{program.imports}\n{program.code}\nrun(*json.loads({call!a}))\n",
            capture_output=True,
            encoding="utf-8",
            errors="backslashreplace",
        )
    except OSError as error:
        raise OperationError(
            f"The command {command[0]!r} cannot be started ({error.strerror}). Give --python the "
            "command that starts Airflow's Python."
        ) from None
    try:
        done.check_returncode()
        answer: dict[str, Any] = json.loads(done.stdout)
    except (subprocess.CalledProcessError, ValueError):
        said = (done.stderr or done.stdout).strip().splitlines()[-5:]
        raise OperationError(
            f"Airflow's Python ({shlex.join(command)}) ended with exit code {done.returncode} and "
            f"without an answer. Its last words: {' | '.join(said) or 'none'}"
        ) from None
    if "problem" in answer:
        raise OperationError(answer["problem"])
    return answer["answer"]


def python_command(text: str) -> list[str]:
    try:
        return shlex.split(text) or [sys.executable]
    except ValueError as error:
        raise OperationError(f"--python {text!r} is not a command: {error}.") from None
