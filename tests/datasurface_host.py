"""Which DataSurface the tests run on: the embedded one, or that of the folder DATASURFACE_SRC.

Importing this module puts the latter in front, for this process and for those that it starts.

Airflow 2.11 and a real DataSurface need different releases of SQLAlchemy. With DATASURFACE_PYTHON,
the Python of another environment, the real one serves only the commands and jobs that run in that,
and this process keeps the embedded one.
"""

from __future__ import annotations

import importlib
import os
import sys
from importlib import metadata
from pathlib import Path

#: The Python that runs DataSurface's commands and jobs.
PYTHON = Path(os.getenv("DATASURFACE_PYTHON") or sys.executable).absolute()
#: The folder that holds their real package `datasurface`, or None for the embedded one.
JOBS_SOURCE = (
    Path(os.environ["DATASURFACE_SRC"]).resolve() if os.getenv("DATASURFACE_SRC") else None
)
#: The same for this process.
SOURCE = None if os.getenv("DATASURFACE_PYTHON") else JOBS_SOURCE


def python_path(*more: str) -> str:
    """Return a PYTHONPATH for PYTHON: DATASURFACE_SRC, if set, in front of the given folders."""
    return os.pathsep.join([*([str(JOBS_SOURCE)] if JOBS_SOURCE else []), *more])


def commands_take_providers() -> bool:
    """Tell whether the two commands are run for a services provider, as of DataSurface 0.0.56."""
    if JOBS_SOURCE is None:
        return False
    command = JOBS_SOURCE / "datasurface" / "cmd" / "platform.py"
    return '"--psp"' in command.read_text(encoding="utf-8")


def describe() -> str:
    """Return which DataSurface is in use: its release as far as it is known, and its folder."""
    folder = Path(str(importlib.import_module("datasurface").__file__)).parent
    for name in ("datasurface-embedded", "datasurface"):
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        if (name == "datasurface") is (SOURCE is not None):
            return f"{name} {found.version} in {folder}"
    return f"datasurface of an unknown release in {folder}"


if SOURCE is not None:
    if not (SOURCE / "datasurface" / "__init__.py").is_file():
        raise FileNotFoundError(f"DATASURFACE_SRC={SOURCE} holds no package 'datasurface'.")
    sys.path.insert(0, str(SOURCE))
    os.environ["PYTHONPATH"] = python_path(*filter(None, [os.environ.get("PYTHONPATH")]))
