"""Asks Airflow's Python, which may be in another container, what it makes of DAG files."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from importlib import resources
from typing import Any

from yellow_dynamic._errors import CommandError


def ask_airflow(python: str, function: str, **arguments: Any) -> Any:
    """Return the answer of a function of `_airflow_dags.py`, run by Airflow's Python.

    Args:
        python: the command that starts Airflow's Python; this Python where it is empty.
        function: its name.
        **arguments: its arguments, of types that JSON has.

    Raises:
        CommandError: it finds a problem, or does not run to its end.
    """
    command = python_command(python)
    program = resources.files("yellow_dynamic").joinpath("_airflow_dags.py").read_text("utf-8")
    call = json.dumps([function, arguments])
    try:
        done = subprocess.run(
            [*command, "-"],
            input=f"{program}\nrun(*json.loads({call!a}))\n",
            capture_output=True,
            text=True,
        )
    except OSError as error:
        raise CommandError(
            f"The command {command[0]!r} cannot be started ({error.strerror}). Give --python the "
            "command that starts Airflow's Python."
        ) from None
    try:
        done.check_returncode()
        answer: dict[str, Any] = json.loads(done.stdout)
    except (subprocess.CalledProcessError, ValueError):
        said = (done.stderr or done.stdout).strip().splitlines()[-5:]
        raise CommandError(
            f"Airflow's Python ({shlex.join(command)}) ended with exit code {done.returncode} and "
            f"without an answer. Its last words: {' | '.join(said) or 'none'}"
        ) from None
    if "problem" in answer:
        raise CommandError(answer["problem"])
    return answer["answer"]


def python_command(text: str) -> list[str]:
    try:
        return shlex.split(text) or [sys.executable]
    except ValueError as error:
        raise CommandError(f"--python {text!r} is not a command: {error}.") from None
