"""DataSurface's commands in processes of their own, on a model of the tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from datasurface_host import PYTHON, SOURCE, commands_take_providers, python_path
from warm_python import COMMANDS, warm_python
from yellow_models import PROVIDER, Model

TESTS = Path(__file__).parent


class Commands:
    """A folder with a model, and the two commands on it.

    Args:
        folder: gets `eco.py`, the assignment and the output.
        model: supplies database and platform.
        stores: the model's stores, as a Python expression in the terms of `yellow_models`.
        also: statements of Python that change the model further.
        unit: what the commands are run for, instead of what serves the model.
    """

    def __init__(
        self,
        folder: Path,
        model: Model,
        stores: str = "[Store('Store1')]",
        also: str = "",
        unit: str | None = None,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.model = model
        self.unit = unit or (PROVIDER if commands_take_providers() else model.platform)
        folder.joinpath("eco.py").write_text(
            "import datetime\n"
            "from datasurface.md import CronTrigger, ExternallyTriggered\n"
            "from yellow_dynamic import EMail, RunSettings, SlackWebhook\n"
            "from yellow_models import MULTI, SINGLE, Model, Store\n"
            f"model = Model(database={model.database!r}, platform={model.platform!r}, "
            f"host={model.host!r}, stores={stores}, "
            f"platformArguments={model.platformArguments!r})\n{also}\n"
            "def createEcosystem():\n    return model.build()\n"
        )
        folder.joinpath("dsg_platform_mapping.json").write_text(json.dumps([model.assignment()]))

    @property
    def output(self) -> Path:
        return self.folder / "output"

    @property
    def options(self) -> list[str]:
        """The option of the commands that names it."""
        return ["--psp" if commands_take_providers() else "--platform", self.unit]

    @property
    def files(self) -> Path:
        """Where bootstrap writes its files."""
        return self.output / self.unit

    def merge(self, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run handleModelMerge."""
        return finish(self.start("handleModelMerge", **environment))

    def bootstrap(self, ring: int, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run one ring of generatePlatformBootstrap."""
        return finish(self.start("generatePlatformBootstrap", f"--ringLevel={ring}", **environment))

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command; `environment` is added to that of this process."""
        return subprocess.Popen(
            [
                commands_python(), "-m", "datasurface.cmd.platform", *command,
                f"--model={self.folder}", f"--output={self.output}",
                *self.options,
            ],
            env={**os.environ, "PYTHONPATH": python_path(str(TESTS)), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip


def commands_python() -> str:
    """Return the Python that runs the commands of DataSurface and yellow-dynamic."""
    return warm_python(*COMMANDS) if Path(sys.executable).absolute() == PYTHON else str(PYTHON)


def shows_no_traceback(done: subprocess.CompletedProcess[str]) -> bool:
    """Tell whether the command puts a failure in words; a real DataSurface shows a traceback."""
    return SOURCE is not None or "Traceback" not in done.stderr


def finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Wait for a process and return what it said."""
    output, errors = process.communicate(timeout=180)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def options(arguments: list[str]) -> dict[str, str]:
    """Return a command line's options, each with its value or an empty text."""
    found: dict[str, str] = {}
    for word in arguments:
        if word.startswith("--"):
            name = word
            found[name] = ""
        else:
            found[name] = word
    return found
