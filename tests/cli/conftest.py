"""An operator at a terminal: a model folder, a DAG folder, and the command."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Site, import_file, registered_dags
from datasurface_host import python_path
from merge_command import TESTS, Commands
from typer.testing import CliRunner, Result
from warm_python import AIRFLOW, COMMANDS, warm_python

from datasurface.cmd.platform import handleModelMerge
from one_machine import NotYetError, wait_until
from yellow_dynamic.command.app import app
from yellow_dynamic.monitoring import airflow_python

TWO_STORES = "[Store('Store1'), Store('Pair', ['a', 'b'], SINGLE)]"


class Operator:
    """One platform, YellowLive, with its model in `model` and its factory file in `dags`."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.model = site.folder / "model"
        self.dags = site.folder / "dags"
        self.dags.mkdir()
        self.commands = self.write_model(TWO_STORES)

    def write_model(self, stores: str) -> Commands:
        """Write `eco.py` with these stores, in the terms of `yellow_models`."""
        return Commands(self.model, self.site.model, stores)

    def bootstrap(self) -> None:
        """Run both rings, and put the factory file into the DAG folder."""
        self.site.bootstrap()
        shutil.move(self.site.factory_file, self.factory)

    @property
    def factory(self) -> Path:
        return self.dags / self.site.factory_file.name

    def merge(self) -> None:
        """Run handleModelMerge on the model."""
        handleModelMerge(str(self.model), str(self.commands.output), self.commands.unit)

    def __call__(self, *words: object) -> Result:
        """Type a command."""
        return CliRunner().invoke(app, [str(word) for word in words])

    def process(self, *words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Type a command in a process of its own."""
        started = self.start(*words, **environment)
        output, errors = started.communicate(timeout=120)
        return subprocess.CompletedProcess(started.args, started.returncode, output, errors)

    def start(self, *words: str | Path, **environment: str) -> subprocess.Popen[str]:
        """Start a command in a process of its own."""
        return subprocess.Popen(
            [warm_python(*COMMANDS), "-m", "yellow_dynamic", *map(str, words)],
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a process, which finds what models of the tests import."""
        return {**os.environ, "PYTHONPATH": python_path(str(TESTS))}

    @property
    def python(self) -> str:
        """This Python, as a word of a command."""
        return shlex.quote(sys.executable)

    def parse(self) -> dict[str, Any]:
        """Return the DAGs of the factory file by id."""
        return registered_dags(import_file(self.factory))

    def wait_for_lock(self) -> None:
        """Wait until somebody waits for a lock on the table."""

        def waiting() -> None:
            [(count,)] = self.site.sql("SELECT count(*) FROM pg_locks WHERE NOT granted")
            if not count:
                raise NotYetError("Nobody waits for a lock.")

        wait_until(waiting, seconds=30)

    def on_model(self, command: str, *words: object) -> Result:
        return self(command, *words, "--model", self.model)

    def on_dags(self, command: str, *words: object) -> Result:
        return self(command, *words, "--dags", self.dags)

    def rows(self) -> dict[str, tuple[Any, ...]]:
        """Return the table's rows by stream key."""
        return {row[0]: row for row in self.site.sql("SELECT * FROM {table}")}

    def edit(self, key: str, **changes: Any) -> None:
        """Change keys of a row's configuration in the way that psql would."""
        self.site.sql(
            "UPDATE {table} SET config_json = (config_json::jsonb || %s::jsonb)::text "
            "WHERE stream_key = %s",
            (json.dumps(changes), key),
        )


@pytest.fixture(autouse=True)
def quick_airflow() -> Iterator[None]:
    """Let the Airflow that commands start unless they are given one start at once."""
    command = airflow_python.python_command
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            airflow_python, "python_command", lambda text: command(text or warm_python(*AIRFLOW))
        )
        yield


@pytest.fixture
def operator(site: Site, monkeypatch: pytest.MonkeyPatch) -> Operator:
    """A platform with the streams Pair_a, Pair_b and Store1, bootstrapped and not merged yet."""
    monkeypatch.setenv("COLUMNS", "300")
    typing = Operator(site)
    typing.bootstrap()
    return typing


@pytest.fixture
def merged(operator: Operator) -> Operator:
    """The same, merged."""
    operator.merge()
    return operator
