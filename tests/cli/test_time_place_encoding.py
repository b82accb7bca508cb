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
from recorded import changes

from .conftest import Operator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.from_the_field("time, place or encoding of another process"),
]


# --- Times ------------------------------------------------------------------------------------


# --- Folders ----------------------------------------------------------------------------------


# --- Output -----------------------------------------------------------------------------------


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
