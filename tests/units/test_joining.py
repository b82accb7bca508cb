"""The DAG files that bootstrap writes, held against the modules that they are joined from."""

from __future__ import annotations

import ast
from collections import Counter
from importlib import resources
from pathlib import Path

import pytest

from yellow_dynamic.joining import (
    FACTORY_MODULES,
    INFRASTRUCTURE_MODULES,
    PROBE_MODULES,
    join_modules,
)
from yellow_dynamic.rendering import render_factory

PACKAGE = Path(str(resources.files("yellow_dynamic")))
SETTINGS = {"platform_name": "p", "original_platform_name": "P", "plugin_version": "1.2.3"}
#: What belongs to no joined file.
PACKAGE_ALONE = {"factory.__init__", "factory.installed", "factory.keys", "factory.version"}


def tree(name: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8"))


def statements(nodes: list[ast.stmt]) -> list[str]:
    """Return the statements that are no imports, docstrings left out."""
    for node in (each for top in nodes for each in ast.walk(top)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node):
            node.body = node.body[1:]
    return [
        ast.dump(node)
        for node in nodes
        if not isinstance(node, (ast.Import, ast.ImportFrom, ast.Expr))
    ]


def imported_names(nodes: list[ast.stmt]) -> set[tuple[str, str, str | None]]:
    """Return module, name and other name of all that is imported from outside of the package."""
    found: set[tuple[str, str, str | None]] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {("", alias.name, alias.asname) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {(str(node.module), alias.name, alias.asname) for alias in node.names}
    return {each for each in found if not each[0].startswith("yellow_dynamic")}


@pytest.mark.parametrize("names", [FACTORY_MODULES, INFRASTRUCTURE_MODULES, PROBE_MODULES])
def test_joined_file_has_the_statements_and_imports_of_its_modules(names: tuple[str, ...]) -> None:
    joined = join_modules(names)
    sources = [tree(name).body for name in names]

    assert statements(ast.parse(joined.code).body) == [
        statement for source in sources for statement in statements(source)
    ]
    imports = ast.parse(joined.imports).body
    expected = set().union(*map(imported_names, sources)) - {("__future__", "annotations", None)}
    assert imported_names(imports) == expected
    assert len(imports) == len(set(map(ast.unparse, imports)))


def test_factory_file_has_beside_them_two_literals_and_the_call_that_registers() -> None:
    body = ast.parse(render_factory(SETTINGS)).body
    own = set(statements(ast.parse(join_modules(FACTORY_MODULES).code).body))

    outside = [text for text in statements(body) if text not in own]
    assert [
        node.target.id
        for node in body
        if isinstance(node, ast.AnnAssign)
        and ast.dump(node) in outside
        and isinstance(node.target, ast.Name)
    ] == ["PLATFORM", "KEYS"]
    assert len(outside) == 2
    assert ast.unparse(body[-1]) == "register_dags(PLATFORM, globals())"


def test_every_module_is_joined_into_some_file() -> None:
    names = {f"factory.{path.stem}" for path in (PACKAGE / "factory").glob("*.py")}

    assert names - PACKAGE_ALONE == {*FACTORY_MODULES, *INFRASTRUCTURE_MODULES}


def test_no_two_modules_have_a_top_level_name_in_common() -> None:
    """In the joined file the later one would replace the earlier."""
    names = Counter(
        name
        for module in sorted({*FACTORY_MODULES, *INFRASTRUCTURE_MODULES} - {"factory.compat"})
        for node in tree(module).body
        for name in defined_names(node)
    )

    assert not [name for name, count in names.items() if count > 1]


def defined_names(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [each.id for target in targets for each in ast.walk(target or ast.Pass())
            if isinstance(each, ast.Name)]  # fmt: skip


@pytest.mark.parametrize("names", [FACTORY_MODULES, INFRASTRUCTURE_MODULES, PROBE_MODULES])
def test_modules_import_by_name_from_those_before_them(names: tuple[str, ...]) -> None:
    known = {"factory.keys"}
    for name in names:
        for node in ast.walk(tree(name)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("yellow_dynamic"):
                module = str(node.module).removeprefix("yellow_dynamic.")
                assert module in known, f"{name} imports {module}"
                assert not [alias for alias in node.names if alias.asname]
        known.add(name)
