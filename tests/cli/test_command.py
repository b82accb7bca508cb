"""The command `yellow-dynamic` as an operator starts it."""

from __future__ import annotations

import subprocess
import sys

import yellow_dynamic


def run_python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


def test_version_is_that_of_the_package() -> None:
    command = [sys.executable, "-m", "yellow_dynamic", "--version"]

    done = subprocess.run(command, capture_output=True, text=True)

    assert done.stdout == f"yellow-dynamic {yellow_dynamic.__version__}\n"


def test_missing_extra_is_said_with_what_to_install() -> None:
    done = run_python(
        "import sys; sys.modules['typer'] = None\n"
        "from yellow_dynamic.__main__ import main; main()\n"
    )

    assert done.returncode == 1
    assert "pip install 'yellow-dynamic[cli]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_command_does_not_need_airflow_to_start() -> None:
    done = run_python(
        "import sys; sys.modules['airflow'] = None\n"
        "sys.argv = ['yellow-dynamic', 'verify-parity', '--help']\n"
        "from yellow_dynamic.__main__ import main; main()\n"
    )

    assert done.returncode == 0, done.stderr
    assert "Compare a platform's static DAG files" in done.stdout
