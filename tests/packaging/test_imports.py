"""What each part of the project imports is what it may know of, and what it declares."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
from processors import IS_AIRFLOW_2
from yellow_models import Model

from yellow_dynamic.__main__ import PACKAGES
from yellow_dynamic.plugin import factory_text

ROOT = Path(__file__).parents[2]
#: Import names that are not those of their distribution.
DISTRIBUTIONS = {"yaml": "pyyaml"}


def modules(*folders: str) -> dict[str, ast.Module]:
    """Return the syntax trees of all modules below folders, by path."""
    files = (file for folder in folders for file in sorted((ROOT / folder).rglob("*.py")))
    return {
        str(file.relative_to(ROOT)): ast.parse(file.read_text(encoding="utf-8")) for file in files
    }


def imported(nodes: Iterator[ast.AST]) -> set[str]:
    """Return the dotted names of the modules that some statements import."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "Relative imports hide what is imported."
            names.add(str(node.module))
    return names


def run_on_import(node: ast.AST) -> Iterator[ast.AST]:
    """Walk the statements that run when a module is imported: all outside of functions."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from run_on_import(child)


def module_name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def top(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def rendered_factory() -> ast.Module:
    """Return the syntax tree of a factory file, as bootstrap writes it."""
    model = Model()
    eco = model.build()
    platform: Any = eco.getDataPlatformOrThrow(model.platform)
    return ast.parse(factory_text(platform, eco))


BASE = modules("yellow_dynamic")
COMMAND, PAGE = (
    {path: tree for path, tree in BASE.items() if path.startswith(f"yellow_dynamic/{part}/")}
    for part in ("command", "page")
)
# Only the command uses this client.
COMMAND["yellow_dynamic/monitoring/airflow_api.py"] = BASE[
    "yellow_dynamic/monitoring/airflow_api.py"
]
#: The command has the extra `cli`, and the page what an API server of Airflow has.
ALWAYS_LOADED = {
    path: tree for path, tree in BASE.items() if path not in COMMAND and path not in PAGE
}
FACTORY = rendered_factory()
#: What an Airflow image has beside the declared packages: Airflow, and what it needs itself.
AIRFLOW = {"airflow", "pydantic", "tenacity", "urllib3"}
#: What its API server has besides.
API_SERVER = {"fastapi", "starlette"}


def modules_in_airflow() -> set[str]:
    """Return the modules of the factory that import Airflow, or a module that does."""
    factory = {path: tree for path, tree in BASE.items() if "/factory/" in path}
    found: set[str] = set()
    while True:
        names = AIRFLOW | {module_name(path) for path in found}
        more = {
            path
            for path, tree in factory.items()
            if names
            & {
                name
                for each in imported(run_on_import(tree))
                for name in (each, each.partition(".")[0])
            }
        }
        if more == found:
            return found
        found = more


def declared(section: str, key: str) -> set[str]:
    """Return the distributions that an option of setup.cfg names."""
    settings = ConfigParser(interpolation=None)
    settings.read(ROOT / "setup.cfg")
    return {re.split(r"[^\w-]", line)[0].lower() for line in settings[section][key].split()}


IN_AIRFLOW = modules_in_airflow()
HARD = declared("options", "install_requires")
CLI = declared("options.extras_require", "cli")


def third_party(tree: ast.Module) -> set[str]:
    """Return the distributions that the import of a module needs."""
    names = top(imported(run_on_import(tree))) - sys.stdlib_module_names
    return {DISTRIBUTIONS.get(name, name) for name in names - {"yellow_dynamic", "datasurface"}}


@pytest.mark.parametrize("path", BASE)
def test_every_import_is_declared(path: str) -> None:
    more = CLI if path in COMMAND else AIRFLOW | API_SERVER if path in PAGE else set()
    if path in IN_AIRFLOW:
        more = AIRFLOW

    assert third_party(BASE[path]) <= HARD | more


def test_missing_packages_of_the_command_are_those_of_its_extra() -> None:
    # urllib3 comes with the package kubernetes.
    assert set(PACKAGES) == CLI - {"urllib3"}


def test_nothing_but_dag_files_needs_the_modules_that_import_airflow() -> None:
    """DataSurface's image, in which the plugin and the command run, has no Airflow."""
    names = {module_name(path) for path in IN_AIRFLOW}

    assert "yellow_dynamic.factory.dag" in names
    assert "yellow_dynamic.factory.rules" not in names
    for path in BASE.keys() - IN_AIRFLOW:
        assert not imported(run_on_import(BASE[path])) & names, path


def test_every_import_of_the_factory_file_is_declared_or_of_airflow() -> None:
    assert third_party(FACTORY) - AIRFLOW <= HARD


def test_nothing_is_declared_that_is_not_imported() -> None:
    always = set().union(*map(third_party, [*ALWAYS_LOADED.values(), FACTORY]))
    anywhere = set().union(always, *map(third_party, BASE.values()))
    assert always >= HARD
    assert anywhere >= CLI


@pytest.mark.skipif(IS_AIRFLOW_2, reason="Airflow 2 has no place for the page.")
def test_api_server_needs_neither_the_command_nor_what_prints() -> None:
    # Airflow imports rich itself if it is there.
    code = (
        "import importlib, sys\n"
        "sys.modules.update(dict.fromkeys(['rich', 'typer', 'yellow_dynamic.command']))\n"
        f"for name in {[module_name(path) for path in PAGE]}:\n"
        "    importlib.import_module(name)\n"
        "print(*sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    names = done.stdout.splitlines()[-1].split()
    loaded = {path: tree for path, tree in BASE.items() if module_name(path) in names}
    assert loaded.keys() > PAGE.keys()
    assert set().union(*map(third_party, loaded.values())) <= HARD | AIRFLOW | API_SERVER


# --- Who knows of whom ------------------------------------------------------------------------


def test_few_modules_need_datasurface() -> None:
    need = {
        Path(path).stem
        for path, tree in ALWAYS_LOADED.items()
        if "datasurface" in top(imported(ast.walk(tree)))
    }

    assert need == {"plugin", "datasurface_adapter", "platform_settings", "stream_configs"}


def test_plugin_uses_nothing_private_of_datasurface() -> None:
    for path, tree in BASE.items():
        names = {name for name in imported(ast.walk(tree)) if top({name}) == {"datasurface"}}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module in names:
                names = names | {f"{node.module}.{alias.name}" for alias in node.names}
        assert not [name for name in names if "._" in name], path


def test_factory_file_imports_neither_plugin_nor_datasurface() -> None:
    names = top(imported(ast.walk(FACTORY)))

    assert "airflow" in names
    assert not names & {"yellow_dynamic", "datasurface", "localkube"}
