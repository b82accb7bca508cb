"""The Python that is there at once runs a program as a new one would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from warm_python import warm_python

from one_machine import NotYetError, wait_until

PRELOADED = "colorsys"
HAS_MODULE = f"import sys; print({PRELOADED!r} in sys.modules)"


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [warm_python(PRELOADED), *arguments], capture_output=True, text=True, **options
    )


def test_program_finds_the_modules_imported() -> None:
    assert run("-c", HAS_MODULE).stdout == "True\n"


@pytest.mark.parametrize(
    ("arguments", "changes"),
    [
        (["-I", "-c", HAS_MODULE], {}),
        (["-c", HAS_MODULE], {"PYTHONHASHSEED": "5"}),
        (["-c", HAS_MODULE], {"AIRFLOW__CORE__PARALLELISM": "1"}),
        (["-c", HAS_MODULE], {"LC_ALL": "C"}),
    ],
    ids=["option", "hash seed", "Airflow's setting", "language"],
)
def test_program_that_a_fork_could_not_run_gets_a_new_python(
    arguments: list[str], changes: dict[str, str]
) -> None:
    assert run(*arguments, env={**os.environ, **changes}).stdout == "False\n"


def test_other_copy_of_an_imported_package_is_the_one_that_runs(tmp_path: Path) -> None:
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "__init__.py").write_text("mine = True")
    program = ("-c", "import json; print(json.mine)")

    assert run(*program, env={**os.environ, "PYTHONPATH": str(tmp_path)}).stdout == "True\n"
    assert run(*program, cwd=tmp_path).stdout == "True\n"


@pytest.mark.parametrize("how", ["-c", "-", "file"])
def test_program_has_its_arguments_folder_environment_and_input(tmp_path: Path, how: str) -> None:
    code = "import os, sys\nprint(sys.argv[1:], os.getcwd(), os.environ['MINE'], __name__)"
    file = tmp_path / "program.py"
    file.write_text(code)
    words = {"-c": ["-c", code], "-": ["-"], "file": [str(file)]}[how]

    done = run(*words, "a b", cwd=tmp_path, env={**os.environ, "MINE": "yes"}, input=code)

    assert done.stdout == f"['a b'] {tmp_path} yes __main__\n"


def test_module_runs_as_the_main_one() -> None:
    done = run("-m", "json.tool", input='{"a": 1}')

    assert (done.stdout, done.returncode) == ('{\n    "a": 1\n}\n', 0)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("import sys; sys.exit(3)", 3),
        ("1 / 0", 1),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL),
        ("import os; os.kill(os.getpid(), 15)", -signal.SIGTERM),
    ],
)
def test_end_of_the_program_is_that_of_the_command(code: str, status: int) -> None:
    done = run("-c", code)

    assert done.returncode == status
    assert ("ZeroDivisionError" in done.stderr) == (code == "1 / 0")


def started(code: str) -> tuple[subprocess.Popen[str], psutil.Process]:
    """Start a program that waits, and return the command and the program."""
    command = subprocess.Popen(
        [warm_python(PRELOADED), "-c", f"import os\nprint(os.getpid(), flush=True)\n{code}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert command.stdout is not None
    return command, psutil.Process(int(command.stdout.readline()))


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_reaches_the_program() -> None:
    command, _ = started("import time\ntime.sleep(600)")

    command.send_signal(signal.SIGINT)

    _, errors = command.communicate(timeout=30)
    assert "KeyboardInterrupt" in errors


def test_program_does_not_outlive_its_command() -> None:
    command, program = started("import time\ntime.sleep(600)")

    command.kill()
    command.communicate()

    def ended() -> None:
        if program.is_running():
            raise NotYetError("It runs.")

    wait_until(ended, seconds=30)


def test_streams_of_the_program_are_its_callers_and_not_those_of_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "noisy.py").write_text("import sys\nprint('noise', file=sys.stderr, flush=True)")
    monkeypatch.setattr("warm_python.ENVIRONMENT", {**os.environ, "PYTHONPATH": str(tmp_path)})
    code = "import sys\nfor stream in sys.stdout, sys.stderr: stream.reconfigure(errors='replace')"
    command = [warm_python("noisy"), "-c", f"{code}\nprint(stream.seekable(), file=stream)"]

    to_pipe = subprocess.run(command, capture_output=True, text=True)
    with (tmp_path / "errors").open("w+") as errors:
        to_file = subprocess.run(command, stderr=errors)
        errors.seek(0)
        said = errors.read()

    assert (to_pipe.returncode, to_pipe.stderr) == (0, "False\n")
    assert (to_file.returncode, said) == (0, "True\n")


def test_module_that_cannot_be_imported_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")
    monkeypatch.setattr("warm_python.ENVIRONMENT", {**os.environ, "PYTHONPATH": str(tmp_path)})

    with pytest.raises(RuntimeError, match=r"(?s)broken cannot be imported: .*ZeroDivisionError"):
        warm_python("broken")


def test_server_ends_with_the_process_that_started_it() -> None:
    program = "import os, psutil; print(psutil.Process(os.getppid()).ppid())"
    code = (
        "import subprocess\nfrom warm_python import warm_python\n"
        f"subprocess.check_call([warm_python(), '-c', {program!r}])"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}

    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, done.stderr
    assert not psutil.pid_exists(int(done.stdout))
