"""The command `yellow-dynamic` as an operator starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import yellow_dynamic
from yellow_dynamic.command.app import app

COMMANDS = sorted(get_command(app).commands)  # type: ignore[attr-defined]


def run_python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


def test_version_is_that_of_the_package() -> None:
    command = [sys.executable, "-m", "yellow_dynamic", "--version"]

    done = subprocess.run(command, capture_output=True, text=True)

    assert done.stdout == f"yellow-dynamic {yellow_dynamic.__version__}\n"


@pytest.mark.parametrize("package", ["typer", "rich", "httpx"])
def test_missing_extra_is_said_with_what_to_install(package: str) -> None:
    done = run_python(
        f"import sys; sys.modules['{package}'] = None\n"
        "from yellow_dynamic.__main__ import main; main()\n"
    )

    assert done.returncode == 1
    assert f"{sys.executable} -m pip install httpx rich typer" in done.stderr
    assert "Traceback" not in done.stderr


def test_command_does_not_need_airflow_to_start() -> None:
    done = run_python(
        "import sys; sys.modules['airflow'] = None\n"
        "sys.argv = ['yellow-dynamic', 'verify-parity', '--help']\n"
        "from yellow_dynamic.__main__ import main; main()\n"
    )

    assert done.returncode == 0, done.stderr
    assert "Compare static DAG files with" in done.stdout


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["status", "--help"]])
def test_command_does_not_need_datasurface_to_start(words: list[str]) -> None:
    done = run_python(
        "import sys; sys.modules['datasurface'] = None\n"
        f"sys.argv = ['yellow-dynamic', *{words}]\n"
        "from yellow_dynamic.__main__ import main; main()\n"
    )

    assert done.returncode == 0, done.stderr


def test_model_without_datasurface_is_refused_with_what_to_do(tmp_path: Path) -> None:
    done = run_python(
        "import sys; sys.modules['datasurface'] = None\n"
        f"sys.argv = ['yellow-dynamic', 'plan', '--model', {str(tmp_path)!r}]\n"
        "from yellow_dynamic.__main__ import main; main()\n"
    )

    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "Install DataSurface 0.0.36 to 0.0.38" in line
    assert "Without it, --dags FOLDER finds the platforms" in line


def test_commands_of_the_operator_are_there() -> None:
    assert COMMANDS == [
        "batches",
        "check",
        "disable",
        "drift",
        "enable",
        "history",
        "plan",
        "pools",
        "rollback",
        "show",
        "status",
        "streams",
        "trigger",
        "verify-parity",
    ]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_the_command_does_and_its_exit_codes(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")

    result = CliRunner().invoke(app, [command, "--help"])

    assert result.exit_code == 0
    assert "Exit codes: 0 " in result.stdout
    assert "--json" in result.stdout
    assert f"Example: yellow-dynamic {command} " in result.stdout
    assert "1 error." in result.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["plan", "--model"],
        ["plan", "--no-such-option"],
        ["no-such-command"],
        ["rollback"],
        ["--no-such-option"],
    ],
)
def test_wrong_command_line_has_another_exit_code_than_a_difference(words: list[str]) -> None:
    result = CliRunner().invoke(app, words)

    assert result.exit_code == 1
    assert "Error" in result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion_is_offered(shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "yellow_dynamic", "--show-completion", shell],
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert "yellow-dynamic" in done.stdout


def test_shell_completes_the_commands() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "yellow_dynamic"],
        env={
            **os.environ,
            "_YELLOW_DYNAMIC_COMPLETE": "complete_bash",
            "COMP_WORDS": "yellow-dynamic st",
            "COMP_CWORD": "1",
        },
        capture_output=True,
        text=True,
    )

    assert done.stdout.split() == ["streams", "status"]
