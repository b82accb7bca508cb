"""What each part of the project imports is what it may know of, and what it declares."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest

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


def is_of_the_command(path: str) -> bool:
    """Tell whether only the command imports a module, for which the extra `cli` is installed."""
    inside = Path(path).relative_to("yellow_dynamic")
    return inside.parts[0] in ("command", "cli.py") or (
        inside.name.startswith("_") and not inside.name.startswith("__")
    )


BASE = modules("yellow_dynamic")
ALWAYS_LOADED = {path: tree for path, tree in BASE.items() if not is_of_the_command(path)}


def declared(section: str, key: str) -> set[str]:
    """Return the distributions that an option of setup.cfg names."""
    settings = ConfigParser(interpolation=None)
    settings.read(ROOT / "setup.cfg")
    return {re.split(r"[^\w-]", line)[0].lower() for line in settings[section][key].split()}


HARD = declared("options", "install_requires")
CLI = declared("options.extras_require", "cli")


def third_party(tree: ast.Module) -> set[str]:
    """Return the distributions that the import of a module needs."""
    names = top(imported(run_on_import(tree))) - sys.stdlib_module_names
    return {DISTRIBUTIONS.get(name, name) for name in names - {"yellow_dynamic", "datasurface"}}


@pytest.mark.parametrize("path", BASE)
def test_every_import_is_declared(path: str) -> None:
    assert third_party(BASE[path]) <= (HARD if path in ALWAYS_LOADED else HARD | CLI)


def test_every_package_of_the_extra_is_imported_by_the_command() -> None:
    assert set().union(*map(third_party, BASE.values())) >= CLI


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


def test_plugin_uses_nothing_private_of_datasurface() -> None:
    for path, tree in BASE.items():
        of_datasurface = {
            name for name in imported(ast.walk(tree)) if name.startswith("datasurface.")
        }
        assert not [name for name in of_datasurface if "._" in name], path


@pytest.mark.parametrize(
    "template", sorted(ROOT.glob("yellow_dynamic/templates/*.py.j2")), ids=lambda path: path.name
)
def test_factory_file_imports_neither_plugin_nor_datasurface(template: Path) -> None:
    text = template.read_text(encoding="utf-8")

    names = set(re.findall(r"^\s*(?:from|import)\s+(\w+)", text, re.MULTILINE))

    assert "airflow" in names
    assert not names & {"yellow_dynamic", "datasurface", "localkube"}
