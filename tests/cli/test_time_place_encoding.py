"""Time, folder, output and encoding of one process are not taken for another's."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from batch_rows import write_batch
from datasurface_host import SOURCE
from merge_command import commands_python
from pytest_mock import MockerFixture
from recorded import changes

from yellow_dynamic.command import model

from .conftest import Operator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.from_the_field("time, place or encoding of another process"),
]


@pytest.fixture(params=["psycopg2", "psycopg"])
def driver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver that the command finds."""
    if request.param == "psycopg":
        pytest.importorskip("sqlalchemy.dialects.postgresql.psycopg")
        find = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name: None if name == "psycopg2" else find(name)
        )


# --- Times ------------------------------------------------------------------------------------


#: Variables of libpq by which psql shows times in another zone or form.
SETTINGS_OF_PSQL = (
    {"PGTZ": "Asia/Tokyo"},
    {"PGOPTIONS": "-c timezone=Asia/Tokyo"},
    {"PGOPTIONS": "--TimeZone=America/New_York -c search_path=public"},
    {"PGDATESTYLE": "SQL,DMY"},
)


@pytest.mark.usefixtures("driver")
def test_settings_of_psql_shift_no_time(merged: Operator) -> None:
    merged.site.sql(f"ALTER DATABASE {merged.site.database} SET timezone = 'Asia/Kolkata'")
    merged.site.sql("ALTER TABLE {table} ALTER created_at TYPE timestamptz")
    merged.on_dags("disable", "Pair_a", "--until", "2h")
    for key in ("Store1", "Pair#b"):
        write_batch(merged.site, key, 1, ago="2 hours")

    def said(settings: dict[str, str]) -> list[str]:
        with pytest.MonkeyPatch.context() as environment:
            for name, value in settings.items():
                environment.setenv(name, value)
            return [
                merged.on_dags(*words, "--json").stdout
                for words in (("batches",), ("streams",), ("history",), ("status",))
            ]

    without = said({})
    for settings in SETTINGS_OF_PSQL:
        assert said(settings) == without, settings


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_time_with_a_zone_is_that_which_the_operator_gave(merged: Operator, zone: str) -> None:
    merged.site.sql("ALTER TABLE {table} ALTER disabled_until TYPE timestamptz")
    merged.site.sql(f"ALTER DATABASE {merged.site.database} SET timezone = '{zone}'")

    merged.on_dags("disable", "Store1", "--until", "2030-01-02 12:00")

    assert "until 2030-01-02 12:00:00 UTC" in merged.on_dags("streams").stdout
    assert "until 2030-01-02 12:00:00 UTC" in merged.on_dags("history").stdout
    # The row is what it was asked to be.
    again = merged.on_dags("disable", "Store1", "--until", "2030-01-02 12:00").stdout
    assert "is disabled already" in again
    merged.write_model("[Store('Other')]")
    merged.merge()
    merged.write_model("[Store('Store1')]")
    merged.merge()
    assert "until 2030-01-02 12:00:00 UTC" in merged.on_dags("streams").stdout


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    ("until", "read"), [("infinity", None), ("294276-12-31", "294276-12-31T00:00:00")]
)
def test_time_that_python_has_not_is_read_by_all_commands(
    merged: Operator, until: str, read: str | None
) -> None:
    def disable() -> None:
        merged.site.sql(
            "UPDATE {table} SET status = 'disabled', disabled_until = %s, created_at = %s "
            "WHERE stream_key = 'Store1'",
            (until, until),
        )

    disable()
    [row] = [each for each in listed(merged) if each["stream_key"] == "Store1"]
    assert (row["disabled"]["until"], row["created_at"]) == (read, None)
    for words in (["streams"], ["history"], ["history", 2], ["drift"]):
        result = merged.on_dags(*words)
        assert result.exit_code == 0, result.output
    [change] = json.loads(merged.on_dags("history", 2, "--json").stdout)["platforms"][0]["changes"]
    assert change["disabled_until"] == read
    assert merged.on_dags("rollback", 1, "--yes").exit_code == 0
    assert merged.on_dags("enable", "Store1").exit_code == 0

    disable()
    for stores in ("[Store('Other')]", "[Store('Other'), Store('Store1')]"):
        merged.write_model(stores)
        merged.merge()
    [found] = merged.site.sql(
        "SELECT status, disabled_until = %s FROM {table} WHERE stream_key = 'Store1'", [until]
    )
    assert found == ("disabled", True)


def listed(operator: Operator) -> list[dict[str, Any]]:
    [platform] = json.loads(operator.on_dags("streams", "--json").stdout)["platforms"]
    streams: list[dict[str, Any]] = platform["streams"]
    return streams


# --- Folders ----------------------------------------------------------------------------------


@pytest.fixture
def moving(merged: Operator) -> Operator:
    """The platform, whose model changes the folder of the process."""
    eco = merged.model / "eco.py"
    eco.write_text(f"{eco.read_text()}\nimport os, tempfile\nos.chdir(tempfile.mkdtemp())\n")
    return merged


def run(operator: Operator, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a module of Python in the folder of the site, to which paths are relative."""
    return subprocess.run(
        [commands_python(), "-m", *command],
        cwd=operator.site.folder,
        env=operator.environment | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_model_that_changes_the_folder_moves_no_path(moving: Operator) -> None:
    eco = moving.model / "eco.py"
    eco.write_text(eco.read_text().replace("[Store('Store1')", "[Store('New'), Store('Store1')"))

    planned = run(moving, "yellow_dynamic", "plan", "--model", "model", "--out", "reviewed.json")
    drift = run(moving, "yellow_dynamic", "drift", "--model", "model", "--dags", "dags")

    assert planned.returncode == 2, planned.stderr
    assert (moving.site.folder / "reviewed.json").exists()
    assert drift.returncode == 0, drift.stderr

    # A real DataSurface looks for the mapping in the folder of that moment.
    model = "model" if SOURCE is None else str(moving.model)
    words = ("handleModelMerge", "--model", model, "--output", "output")
    merge = run(
        moving, "datasurface.cmd.platform", *words, *moving.commands.options,
        YELLOW_DYNAMIC_PLAN="reviewed.json",
    )  # fmt: skip
    assert merge.returncode == 0, merge.stderr
    assert "New" in moving.rows()

    again = run(
        moving, "datasurface.cmd.platform", *words, *moving.commands.options,
        YELLOW_DYNAMIC_PLAN="none.json",
    )  # fmt: skip
    assert again.returncode == 1
    assert f"names the file '{moving.site.folder / 'none.json'}'" in again.stderr


def test_loader_gets_a_path_that_no_change_of_folder_moves(
    merged: Operator, monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture
) -> None:
    load = mocker.spy(model, "loadEcosystemFromEcoModule")
    monkeypatch.chdir(merged.site.folder)

    assert merged("plan", "--model", "model").exit_code == 0

    load.assert_called_once_with(str(merged.model))


def test_what_lies_in_the_current_folder_is_not_taken_for_airflow(
    merged: Operator, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    for name in ("secrets.py", "airflow/__init__.py", "queue.py"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text("# mine\n")
    # As the console script, whose own folder leads sys.path.
    script = tmp_path / "yellow-dynamic"
    script.write_text("from yellow_dynamic.__main__ import main\nmain()\n")

    done = subprocess.run(
        [sys.executable, str(script), "status", "--dags", str(merged.dags)],
        cwd=here,
        env=merged.environment,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0, done.stdout + done.stderr


# --- Output -----------------------------------------------------------------------------------


def test_threads_and_exit_of_a_model_print_nothing_into_the_answer(merged: Operator) -> None:
    eco = merged.model / "eco.py"
    eco.write_text(
        f"{eco.read_text()}\n"
        "import atexit, os, threading\n"
        "def print_on():\n"
        "    while True:\n"
        "        print('a word of a thread', flush=True)\n"
        "        os.write(1, b'some bytes of a thread\\n')\n"
        "threading.Thread(target=print_on, daemon=True).start()\n"
        "atexit.register(print, 'a word at the end')\n"
    )

    done = merged.process("streams", "--model", merged.model, "--json")

    assert done.returncode == 0, done.stderr[-2000:]
    assert [each["platform"] for each in json.loads(done.stdout)["platforms"]] == ["YellowLive"]
    assert "a word of a thread" in done.stderr
    assert "some bytes of a thread" in done.stderr
    assert "a word at the end" in done.stderr


@pytest.mark.parametrize("closed", ["1>&-", "2>&-"])
def test_command_works_without_one_of_its_streams(merged: Operator, closed: str) -> None:
    command = f"{merged.python} -m yellow_dynamic streams --dags {merged.dags} {closed}"

    done = subprocess.run(
        ["sh", "-c", command],
        env=merged.environment,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


# --- Encodings --------------------------------------------------------------------------------

LATIN_1 = "José".encode("latin-1")
#: A locale in which Python reads UTF-8 as ASCII.
ASCII = {b"LC_ALL": b"C", b"PYTHONUTF8": b"0", b"PYTHONCOERCECLOCALE": b"0"}


def run_in_bytes(
    operator: Operator, *command: str | bytes, environment: dict[bytes, bytes]
) -> subprocess.CompletedProcess[bytes]:
    """Run a module of Python with bytes in its arguments and its environment."""
    own = {os.fsencode(name): os.fsencode(value) for name, value in operator.environment.items()}
    return subprocess.run(
        [sys.executable, "-m", *command],
        env={**own, b"PYTHONUTF8": b"1", **environment},
        capture_output=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("environment", "by"),
    [
        ({b"DATASURFACE_USER": LATIN_1}, "Jos\\xe9"),
        ({b"DATASURFACE_USER": "José".encode(), **ASCII}, "José"),
    ],
    ids=["latin-1", "ascii"],
)
def test_name_of_a_user_may_be_in_any_encoding(
    merged: Operator, environment: dict[bytes, bytes], by: str
) -> None:
    merged.write_model("[Store('New'), Store('Store1')]")
    words = ("--model", str(merged.model), "--output", str(merged.commands.output))

    done = run_in_bytes(
        merged, "datasurface.cmd.platform", "handleModelMerge", *words, *merged.commands.options,
        environment=environment,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert json.loads(changes(merged.site)[-1]["about"])["by"] == by
    assert f"{by} (login" in merged.on_dags("history").stdout


def test_reason_and_pattern_may_be_in_any_encoding(merged: Operator) -> None:
    options = ("--dags", str(merged.dags))

    done = run_in_bytes(
        merged, "yellow_dynamic", "disable", "Store1", "--reason", b"caf\xe9 ferm\xe9", *options,
        environment={},
    )  # fmt: skip
    found = run_in_bytes(
        merged, "yellow_dynamic", "history", b"Jos\xe9*", "--json", *options, environment={}
    )

    assert done.returncode == 0, done.stderr
    for words in (["history"], ["streams"]):
        assert "caf\\xe9 ferm\\xe9" in merged.on_dags(*words).stdout
    assert b"Traceback" not in found.stderr


def test_login_that_is_no_text_is_refused(
    merged: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("postgres_USER", "jos\udce9")

    result = merged.on_dags("streams")

    assert result.exit_code == 1
    assert "jos\\xe9" in result.stderr
    assert "Check the login" in result.stderr


def test_words_of_airflow_may_be_in_any_encoding(merged: Operator, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_bytes(b"#!/bin/sh\nprintf 'f\\374r nichts\\n' >&2\nexit 3\n")
    python.chmod(0o755)

    result = merged("status", "--dags", merged.dags, "--python", python)

    assert result.exit_code == 1
    assert "Its last words: f\\xfcr nichts" in result.stderr
