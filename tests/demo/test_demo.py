"""The demo: it refuses where it would fail half-way, its checks can fail, and all of it passes."""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

import demo
from one_machine import Postgres, ServiceError


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "airflow" else find_spec(name)
    )
    with pytest.raises(ServiceError, match=r"Not installed here: airflow\. `make demo` installs"):
        demo.check_machine()


def test_full_disk_is_noticed_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1024**3))
    with pytest.raises(ServiceError, match=r"needs 2 GB .* only 1\.0 GB are free"):
        demo.check_machine()


def test_second_demo_at_the_same_time_is_refused() -> None:
    with (
        demo.only_demo(),
        pytest.raises(ServiceError, match="Another demo is running"),
        demo.only_demo(),
    ):
        pass
    with demo.only_demo():
        pass


def test_model_is_changed_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "FOLDER", tmp_path)
    shutil.copytree(demo.EXAMPLE, tmp_path / "model")
    before = (tmp_path / "model" / "eco.py").read_text().splitlines()
    demo.change_model()
    after = (tmp_path / "model" / "eco.py").read_text().splitlines()
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert changed == [('FACTS = ("flights", "weather")', 'FACTS = ("flights", "routes")')]
    with pytest.raises(ServiceError, match="is not there exactly once"):
        demo.change_model()


@pytest.fixture
def source(postgres: Postgres) -> str:
    """A source database with one small table."""
    name = "demo_content"
    postgres.execute(f"DROP DATABASE IF EXISTS {name}")
    postgres.create_database(name)
    postgres.execute("CREATE TABLE t AS VALUES (1, 'a'), (2, 'b'), (3, NULL)", database=name)
    return name


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE t SET column2 = 'c' WHERE column1 = 2",
        "UPDATE t SET column2 = '' WHERE column1 = 3",
        "UPDATE t SET column1 = column1 % 2 + 1 WHERE column1 < 3",
        "DELETE FROM t WHERE column1 = 1",
        "INSERT INTO t SELECT * FROM t WHERE column1 = 1",
    ],
    ids=["value", "empty for null", "values swapped", "row missing", "row twice"],
)
def test_any_difference_changes_the_hash_of_a_table(
    postgres: Postgres, source: str, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "SOURCE", source)
    before = demo.content(postgres, source, "t", "t")
    postgres.execute(change, database=source)
    assert demo.content(postgres, source, "t", "t") != before


def test_order_of_rows_and_further_columns_do_not_change_the_hash(
    postgres: Postgres, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "SOURCE", source)
    postgres.execute(
        "CREATE TABLE merged AS SELECT 7 AS batch, * FROM t ORDER BY column1 DESC", database=source
    )
    assert demo.content(postgres, source, "merged", "t") == demo.content(postgres, source, "t", "t")


def test_ctrl_c_while_the_source_is_loaded_is_no_error(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(io.BytesIO):
        def read(self, *_: object) -> bytes:
            raise KeyboardInterrupt

    monkeypatch.setattr(demo, "SOURCE", "demo_interrupted")
    monkeypatch.setattr(demo, "MERGE", "demo_interrupted_merge")
    monkeypatch.setattr(demo, "open_csv", lambda table: nullcontext(Interrupted(b"carrier,name\n")))
    for role in ("merge_writer", "source_reader"):
        postgres.create_role(role, "secret")
    running = demo.Demo(postgres, kube=None, airflow=None, logins={})  # type: ignore[arg-type]

    with pytest.raises(KeyboardInterrupt):
        demo.load_source(running)


@pytest.mark.slow
def test_whole_demo_passes_prints_commands_that_work_and_leaves_nothing_behind() -> None:
    program = subprocess.Popen(
        [sys.executable, "-u", demo.__file__],
        env={**os.environ, "KEEP": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert program.stdout is not None
    text = ""
    for line in program.stdout:
        text += line
        if "Press Ctrl-C" in line:
            break
    shown = text.partition("In another terminal:")[2].splitlines()
    commands = [line for line in shown if line.startswith("    ")]
    if shutil.which("kubectl") is None:
        commands = [line for line in commands if "kubectl" not in line]
    done = subprocess.run(["bash", "-e", "-c", "\n".join(commands)], capture_output=True, text=True)
    program.send_signal(signal.SIGINT)
    output, _ = program.communicate(timeout=120)

    assert program.returncode == 0, text + output
    assert "All checks passed" in text
    assert "Traceback" not in text + output
    assert done.returncode == 0, done.stderr
    assert "rror" not in done.stderr
    assert "NycFacts" in done.stdout
    assert "is disabled now" in done.stdout
    assert "Configuration table of yellow_dynamic" in done.stdout
    assert not demo.FOLDER.exists()
