"""What each part of the project imports is what it may know of, and what it declares."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
from yellow_models import Model

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
#: Of the rest, the command's has the extra `cli`, and that of Airflow's page the extra `airflow`.
ALWAYS_LOADED = {
    path: tree for path, tree in BASE.items() if path not in COMMAND and path not in PAGE
}
FACTORY = rendered_factory()
#: What an Airflow image has beside the declared packages: Airflow, and what it needs itself.
AIRFLOW = {"airflow", "pydantic", "tenacity", "urllib3"}
#: What its API server has besides.
API_SERVER = {"fastapi", "starlette"}


def declared(section: str, key: str) -> set[str]:
    """Return the distributions that an option of setup.cfg names."""
    settings = ConfigParser(interpolation=None)
    settings.read(ROOT / "setup.cfg")
    return {re.split(r"[^\w-]", line)[0].lower() for line in settings[section][key].split()}


HARD = declared("options", "install_requires")
CLI = declared("options.extras_require", "cli")
AIRFLOW_EXTRA = declared("options.extras_require", "airflow")


def third_party(tree: ast.Module) -> set[str]:
    """Return the distributions that the import of a module needs."""
    names = top(imported(run_on_import(tree))) - sys.stdlib_module_names
    return {DISTRIBUTIONS.get(name, name) for name in names - {"yellow_dynamic", "datasurface"}}


@pytest.mark.parametrize("path", BASE)
def test_every_import_is_declared(path: str) -> None:
    extra = CLI if path in COMMAND else AIRFLOW | API_SERVER if path in PAGE else set()

    assert third_party(BASE[path]) <= HARD | extra


def test_every_import_of_the_factory_file_is_declared_or_of_airflow() -> None:
    assert third_party(FACTORY) - AIRFLOW <= HARD


def test_nothing_is_declared_that_is_not_imported() -> None:
    always = set().union(*map(third_party, [*ALWAYS_LOADED.values(), FACTORY]))
    anywhere = set().union(always, *map(third_party, BASE.values()))
    assert always >= HARD
    assert anywhere >= CLI


def test_page_needs_no_more_than_the_extra_and_what_an_api_server_has() -> None:
    loaded, new = set(PAGE), set(PAGE)
    while new:
        names = set().union(*(imported(run_on_import(BASE[path])) for path in new))
        paths = {name.replace(".", "/") for name in names}
        new = {it for path in paths for it in (f"{path}.py", f"{path}/__init__.py")} & BASE.keys()
        new -= loaded
        loaded |= new

    needed = set().union(*(third_party(BASE[path]) for path in loaded))
    assert needed - HARD - AIRFLOW - API_SERVER == AIRFLOW_EXTRA


# --- Who knows of whom ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "strangers"),
    [
        ("yellow_dynamic", {"localkube", "one_machine"}),
        ("embedded/datasurface", {"yellow_dynamic", "localkube", "airflow"}),
        ("embedded/localkube", {"yellow_dynamic", "datasurface", "airflow"}),
    ],
)
def test_parts_do_not_know_of_each_other(folder: str, strangers: set[str]) -> None:
    for path, tree in modules(folder).items():
        assert not top(imported(ast.walk(tree))) & strangers, path


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
