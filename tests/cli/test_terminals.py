"""What the command prints, on a narrow terminal, through a pipe, and in another encoding."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest
from yellow_models import SQL_KIND

from .conftest import Operator

pytestmark = pytest.mark.from_the_field("a terminal that is narrow, a pipe or impatient")

LONG = "A_stream_whose_key_alone_is_longer_than_a_terminal_of_eighty_columns_is_wide_" + "x" * 40


def with_long_key(operator: Operator) -> Operator:
    operator.write_model(f"[Store({LONG!r}), Store('Store1')]")
    operator.merge()
    return operator


def test_piped_table_has_a_line_a_stream_with_its_whole_key(merged: Operator) -> None:
    done = with_long_key(merged).process("streams", "--model", merged.model)

    [line] = [line for line in done.stdout.splitlines() if LONG in line]
    assert "active" in line
    assert SQL_KIND in line


def on_terminal(operator: Operator, *words: str | Path, kind: str = "dumb") -> list[str]:
    """Return the lines that a terminal of 80 columns gets."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "yellow_dynamic", *map(str, words)]
    environment = operator.environment | {"COLUMNS": "80", "TERM": kind}
    with subprocess.Popen(command, stdout=theirs, env=environment) as process:
        os.close(theirs)
        text = b""
        while True:
            try:
                chunk = os.read(ours, 65536)
            except OSError:
                break
            if not chunk:
                break
            text += chunk
    os.close(ours)
    assert process.returncode == 0
    return text.decode().splitlines()


@pytest.mark.parametrize("kind", ["dumb", "xterm"])
def test_narrow_terminal_gets_a_line_a_stream_with_its_whole_key(
    merged: Operator, kind: str
) -> None:
    lines = on_terminal(with_long_key(merged), "streams", "--model", merged.model, kind=kind)

    assert sum(LONG in line for line in lines) == 1
    assert sum("Store1" in line for line in lines) == 1


def test_characters_that_the_output_lacks_are_escaped(merged: Operator) -> None:
    merged.site.sql(
        "UPDATE {table} SET config_json = (config_json::jsonb || "
        "'{{\"git_repo_branch\": \"\u00fcber\"}}'::jsonb)::text WHERE stream_key = 'Store1'"
    )

    done = merged.process(
        *("show", "Store1", "--model", merged.model, "--python", "false"),
        PYTHONIOENCODING="ascii",
    )

    assert done.returncode == 0, done.stderr
    assert "git_repo_branch = \\xfcber" in done.stdout
    assert "Traceback" not in done.stderr


def press_ctrl_c(process: subprocess.Popen[str]) -> str:
    """Interrupt a process as a person does, who presses again, and return what it says.

    Python drops an interrupt that comes while the garbage collector calls back: one in 300.
    """
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            return "".join(process.communicate(timeout=15))
    process.kill()
    raise AssertionError("Three interrupts were not answered.")


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_during_the_wait_for_a_lock_answers_at_once(merged: Operator) -> None:
    with closing(merged.site.postgres.connect(merged.site.database)) as other:
        other.cursor().execute("LOCK TABLE yellowlive_airflow_dsg IN EXCLUSIVE MODE")
        process = merged.start("disable", "Store1", "--dags", merged.dags)
        merged.wait_for_lock()

        # It would wait for a minute, and then say for whom.
        said = press_ctrl_c(process)

    assert process.returncode not in (0, None)
    assert "was locked for" not in said
    assert merged.rows()["Store1"][2] == "active"


def test_plan_of_many_streams_is_a_summary_with_equal_changes_once(merged: Operator) -> None:
    names = [f"S{number:03}" for number in range(60)]
    merged.write_model(f"[Store(name) for name in {names!r}]")
    added = merged.on_model("plan").stdout
    merged.merge()
    merged.site.sql("UPDATE {table} SET config_json = replace(config_json, '\"main\"', '\"old\"')")

    changed = merged.on_model("plan").stdout
    full = merged.on_model("plan", "--full").stdout

    assert added.splitlines()[1].startswith("Plan: 60 added (S000, S001")
    assert "  + 60 streams (S000, S001, S002, ...)" in added
    assert changed.splitlines()[2:] == [
        "  ~ 60 streams (S000, S001, S002, ...)",
        '      ~ git_repo_branch: "old" -> "main"',
    ]
    assert full.count('git_repo_branch: "old" -> "main"') == 60
