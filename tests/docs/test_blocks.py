"""Each command and each manifest that the documents show is one that works."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer
import yaml
from datasurface_host import commands_take_providers
from deployment_files import KUBERNETES_VERSIONS
from doc_blocks import BLOCK, DOCUMENTS, ROOT, Block, blocks
from typer.main import get_command
from warm_python import COMMANDS, warm_python

from one_machine import Postgres
from yellow_dynamic.command.app import app

pytestmark = pytest.mark.skipif(
    commands_take_providers(), reason="the commands of the documents are those of 0.0.36 to 0.0.38"
)
LANGUAGES = {"bash", "sh", "sql", "yaml", "json", "python", "text", "console", "ini"}
#: Their SQL is an administrator's; tests/reliability/test_roles_and_tls.py and
#: tests/deployment/test_leaving.py run it.
SQL_WITH_TESTS_OF_ITS_OWN = {"deployment.md", "leaving.md"}
DATABASE = "datasurface_merge"

BOOTSTRAP_AND_MERGE = """
for ring in 0 1; do
    python -m datasurface.cmd.platform generatePlatformBootstrap --ringLevel $ring \\
        --model model --output build --platform YellowLive YellowForensic
done
python -m datasurface.cmd.platform handleModelMerge \\
    --model model --output build --platform YellowLive YellowForensic
mkdir dags
cp build/Yellow*/yellow*_factory_dag.py dags
"""


class Reader:
    """Somebody who follows the documents: a folder with the model, and its database."""

    def __init__(self, folder: Path, environment: dict[str, str], postgres: Postgres) -> None:
        self.folder = folder
        self.environment = environment
        self.postgres = postgres

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )


@pytest.fixture(scope="module")
def reader(postgres: Postgres) -> Iterator[Reader]:
    """A reader who has set everything up, with the model of the examples."""
    postgres.execute(f"DROP DATABASE IF EXISTS {DATABASE}")
    postgres.create_database(DATABASE)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "examples").symlink_to(ROOT / "examples")
        (folder / "model").symlink_to(ROOT / "examples" / "mvp")
        programs = install_programs(folder / "bin")
        environment = {
            **os.environ,
            "PATH": os.pathsep.join([str(programs), os.environ["PATH"]]),
            "postgres_USER": postgres.user,
            "postgres_PASSWORD": postgres.password,
        }
        one = Reader(folder, environment, postgres)
        done = one.run(BOOTSTRAP_AND_MERGE)
        assert done.returncode == 0, done.stderr
        yield one


def install_programs(folder: Path) -> Path:
    """Put the commands that the documents name into a folder, and return it."""
    folder.mkdir()
    (folder / "python").symlink_to(warm_python(*COMMANDS))
    command = folder / "yellow-dynamic"
    command.write_text('#!/bin/sh\nexec python -m yellow_dynamic "$@"\n')
    command.chmod(0o755)
    return folder


def of(language: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("block", blocks(language), ids=lambda block: block.id)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_block_says_what_it_is(document: Path) -> None:
    found = [block for block in blocks() if block.document == document]

    assert {block.language for block in found} <= LANGUAGES
    fences = len(re.findall("^ *```", document.read_text(encoding="utf-8"), re.MULTILINE))
    assert fences == 2 * len(found)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_no_command_hides_in_an_indented_block(document: Path) -> None:
    prose = BLOCK.sub("", document.read_text(encoding="utf-8"))

    assert not re.findall(r"^ {4,}(?:python -m|make|kubectl|yellow-dynamic|psql) .*$", prose, re.M)


@pytest.mark.slow
@of("bash")
def test_command_runs_as_it_stands(reader: Reader, block: Block) -> None:
    done = reader.run(block.text)

    assert done.returncode == 0, done.stderr


@of("sh")
def test_command_for_a_cluster_is_one_that_a_shell_understands(block: Block) -> None:
    done = subprocess.run(["bash", "-n", "-c", block.text], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.embedded
@of("sh")
def test_command_for_a_cluster_names_what_is_there(reader: Reader, block: Block) -> None:
    jobs = {
        f"job/{yaml.safe_load(file.read_text())['metadata']['name']}"
        for file in reader.folder.glob("build/*/*job.yaml")
    }
    for words in block.commands():
        for word in words:
            if word.startswith("build/"):
                path = re.sub("^build/mvp/", "build/", word)
                # Static files are what a merge of before has left there.
                assert "*" in path or (reader.folder / path).exists(), word
            if word.startswith("job/"):
                assert word in jobs
        if words[0] == "make":
            target = next(word for word in words[1:] if "=" not in word)
            makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
            assert re.search(f"^{target}:", makefile, re.MULTILINE), target


@of("sh")
def test_yellow_dynamic_understands_its_commands(
    reader: Reader, block: Block, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(reader.folder)
    group: Any = get_command(app)
    for words in block.commands():
        if words[0] == "yellow-dynamic":
            with contextlib.suppress(typer.Exit):
                context = group.make_context(words[0], words[1:])
                name, command, arguments = group.resolve_command(context, words[1:])
                # Its options are read, and nothing is run.
                command.make_context(name, arguments)


@pytest.mark.parametrize(
    "block",
    [block for block in blocks("sql") if block.document.name not in SQL_WITH_TESTS_OF_ITS_OWN],
    ids=lambda block: block.id,
)
def test_sql_runs_on_a_filled_table(reader: Reader, block: Block) -> None:
    with reader.postgres.connect(DATABASE) as connection:
        connection.autocommit = False
        cursor = connection.cursor()
        cursor.execute(block.text)
        # A SELECT shows something, and an UPDATE meets a row.
        assert cursor.rowcount != 0
        connection.rollback()


@of("python")
def test_python_can_be_compiled(block: Block) -> None:
    ast.parse(block.text)


@pytest.mark.parametrize("block", blocks("yaml", "json"), ids=lambda block: block.id)
def test_manifest_is_one_that_kubernetes_takes(block: Block) -> None:
    loaded = [json.loads(block.text)] if block.language == "json" else None
    for manifest in loaded or yaml.safe_load_all(block.text):
        if isinstance(manifest, dict) and {"apiVersion", "kind"} <= manifest.keys():
            for version in KUBERNETES_VERSIONS:
                kubernetes_validate.validate(manifest, version, strict=True)
