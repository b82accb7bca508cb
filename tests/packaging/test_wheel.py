"""The wheel as a user installs it: in an environment that has nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from conftest import Site

# Part of the development environment, and not of those that test on other releases.
uv = pytest.importorskip("uv")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "yellow_dynamic"


LINT = """
from yellow_dynamic import YellowDynamicDataPlatform
from yellow_dynamic.pods import template_problems
print(YellowDynamicDataPlatform.__module__)
for env in ([{"name": "A", "value": "b"}], "A"):
    base = {"name": "base", "env": env, "securityContext": {"runAsNonRoot": True}}
    spec = {"containers": [base], "nodeSelector": {"pool": "batch"}}
    for problem in template_problems({"metadata": {"labels": {"a": "b"}}, "spec": spec}):
        print(problem)
"""


def run(*command: str | Path, cwd: Path, exit_code: int = 0) -> str:
    """Run a command without what this environment would lend it; return what it prints."""
    lent = ("PYTHON", "VIRTUAL_ENV", "COV_")
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={name: value for name, value in os.environ.items() if not name.startswith(lent)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == exit_code, done.stdout + done.stderr
    return done.stderr if exit_code else done.stdout


def build(source: Path, folder: Path, *packages: str) -> Path:
    """Build a wheel of a copy of a tree, in which nothing of a former build is left."""
    for package in packages:
        kept_out = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source / package, folder / package, ignore=kept_out)
    for file in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        if (source / file).exists():
            shutil.copy(source / file, folder)
    run(uv.find_uv_bin(), "build", "--wheel", "--quiet", cwd=folder)
    [built] = (folder / "dist").glob("*.whl")
    return built


def environment(folder: Path, *wheels: str | Path) -> Path:
    """Make an environment with nothing but these, and return the folder of its programs."""
    run(uv.find_uv_bin(), "venv", "--quiet", "--python", sys.executable, "venv", cwd=folder)
    programs = folder / "venv" / "bin"
    install(programs, *wheels)
    return programs


def install(programs: Path, *words: str | Path) -> None:
    """Install into an environment."""
    python = programs / "python"
    run(uv.find_uv_bin(), "pip", "install", "--quiet", "--python", python, *words, cwd=programs)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the plugin."""
    return build(ROOT, tmp_path_factory.mktemp("tree"), PACKAGE.name)


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a new environment with the wheel and its extra `cli`."""
    return environment(tmp_path_factory.mktemp("environment"), f"{wheel}[cli]")


def test_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}

    tree = {
        str(file.relative_to(ROOT))
        for file in PACKAGE.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert {"yellow_dynamic/py.typed", "yellow_dynamic/stream_config.schema.json"} <= tree
    assert packed == tree


def test_platform_needs_what_the_wheel_declares_and_datasurface(
    wheel: Path, tmp_path: Path
) -> None:
    (tmp_path / "tree").mkdir()
    stand_in = build(ROOT / "embedded", tmp_path / "tree", "datasurface", "localkube")
    programs = environment(tmp_path, wheel, "psycopg2-binary")
    # Without what it declares itself.
    install(programs, "--no-deps", stand_in)

    # With the newest release of Kubernetes' client, which may be newer than Airflow takes.
    printed = run(programs / "python", "-c", LINT, cwd=tmp_path)

    assert printed.splitlines() == [
        "yellow_dynamic.plugin",
        "podTemplate.spec.containers[0].env is 'A', not a list",
    ]


def test_installed_command_answers(programs: Path, tmp_path: Path) -> None:
    assert "Usage: yellow-dynamic" in run(programs / "yellow-dynamic", "--help", cwd=tmp_path)
    version = run(programs / "yellow-dynamic", "--version", cwd=tmp_path)
    assert version == f"yellow-dynamic {metadata.version('yellow-dynamic')}\n"


def test_command_reads_the_table_where_datasurface_is_not_installed(
    programs: Path, installed: Site, tmp_path: Path
) -> None:
    command = (programs / "yellow-dynamic", "streams", "--dags", installed.factory_file)

    refused = run(*command, cwd=tmp_path, exit_code=1)
    install(programs, "psycopg2-binary")
    listed = run(*command, cwd=tmp_path)

    assert refused.startswith("There is no driver of PostgreSQL here")
    assert "Store1" in listed
    assert "DataSurface" in run(
        programs / "yellow-dynamic", "plan", "--model", tmp_path, cwd=tmp_path, exit_code=1
    )
