"""Which files of the stand-ins import which: there are no circles."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

EMBEDDED = Path(__file__).parents[2] / "embedded"


def modules(base: Path, *packages: str) -> dict[str, Path]:
    """Return the files of packages below `base` by the names they are imported under."""
    return {
        ".".join(file.relative_to(base).with_suffix("").parts).removesuffix(".__init__"): file
        for package in packages
        for file in (base / package).rglob("*.py")
    }


def imported(name: str, file: Path) -> set[str]:
    """Return what a module imports, in functions and under TYPE_CHECKING too.

    Of `from a import b`, both `a.b` and `a` are in it: `b` may be a module or a name of one.
    """
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = absolute(name, file, node)
            found |= {source, *(f"{source}.{alias.name}" for alias in node.names)}
    return found


def absolute(name: str, file: Path, node: ast.ImportFrom) -> str:
    """Return the module that an import is from, also where it is written as `.module`."""
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    parents = package[: len(package) + 1 - node.level] if node.level else []
    return ".".join([*parents, *([node.module] if node.module else [])])


def circle(files: dict[str, Path]) -> list[str]:
    """Return modules of which each imports the one before it; none when there is no circle."""
    graph = {name: (imported(name, file) & files.keys()) - {name} for name, file in files.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("package", ["datasurface", "localkube"])
def test_the_imports_of_a_package_make_no_circle(package: str) -> None:
    files = modules(EMBEDDED, package)

    assert files
    assert circle(files) == []


@pytest.mark.parametrize(
    "back",
    [
        "import pack.upper",
        "from pack import upper",
        "from pack.upper import thing",
        "from . import upper",
        "from .upper import thing",
        "def late():\n    from pack.upper import thing\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pack.upper import thing\n",
    ],
)
def test_a_circle_is_found_however_it_is_written(tmp_path: Path, back: str) -> None:
    package = tmp_path / "pack"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "upper.py").write_text("from pack import lower\n")
    (package / "lower.py").touch()
    assert circle(modules(tmp_path, "pack")) == []

    (package / "lower.py").write_text(back)

    assert set(circle(modules(tmp_path, "pack"))) == {"pack.upper", "pack.lower"}
