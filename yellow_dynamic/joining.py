"""Joins modules into one file, above all those of `yellow_dynamic.factory` into a DAG file.

Airflow's image need not have this package: a self-contained DAG file holds the modules that it
needs in their order, each under its title, below the imports of all of them.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator
from importlib import resources
from typing import NamedTuple

#: The modules of a factory file; each imports only from those before it, and from `keys`.
FACTORY_MODULES = tuple(
    f"factory.{name}"
    for name in (
        "compat", "constants", "logs", "environment", "rules", "causes", "secrets", "platform",
        "files", "kube", "pod", "result", "notify", "database", "shards", "snapshot", "rows",
        "operators", "podspec", "acceptance", "dag", "draining", "registration",
    )
)  # fmt: skip
#: Those of the file of an infrastructure DAG.
INFRASTRUCTURE_MODULES = tuple(
    f"factory.{name}" for name in ("compat", "constants", "logs", "kube", "pod", "infrastructure")
)
#: Those of the program that loads DAG files in Airflow's Python.
PROBE_MODULES = ("factory.constants", "factory.environment", "monitoring.in_airflow")
LINE_LENGTH = 100


class Joined(NamedTuple):
    """The text of some modules: their imports, without those from each other, and their code."""

    imports: str
    code: str


@functools.cache
def join_modules(names: tuple[str, ...]) -> Joined:
    """Return the text of modules of `yellow_dynamic` in this order."""
    package = resources.files("yellow_dynamic")
    files = (package.joinpath(f"{name.replace('.', '/')}.py") for name in names)
    sources = [file.read_text("utf-8") for file in files]
    imports = [node for source in sources for node in outside_imports(ast.parse(source))]
    return Joined(merge_imports(imports), "\n\n\n".join(map(module_section, sources)))


def outside_imports(module: ast.Module) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports at the top level of a module that are not from this package."""
    for node in module.body:
        if isinstance(node, ast.Import) or (
            isinstance(node, ast.ImportFrom)
            and node.module != "__future__"
            and not str(node.module).startswith("yellow_dynamic.")
        ):
            yield node


def module_section(source: str) -> str:
    """Return the code of a module under its title, the first line of its docstring."""
    source = shorten_docstrings(source)
    body = ast.parse(source).body
    first = next(node for node in body[1:] if not isinstance(node, (ast.Import, ast.ImportFrom)))
    lines = source.splitlines()
    last_before = max(node.end_lineno or 0 for node in body[: body.index(first)])
    title, _, more = (ast.get_docstring(ast.parse(source)) or "").partition("\n")
    heading = f"# --- {title.rstrip('.')} "
    comment = [f"# {line}".rstrip() for line in more.strip().splitlines()]
    top = "\n".join(
        [heading.ljust(LINE_LENGTH - 4, "-").rstrip(), *(["#", *comment] if comment else [])]
    )
    code = "\n".join(lines[last_before:]).strip("\n")
    # As the formatter has it: two lines before a class or function, one before the rest.
    begins_with_comment = code.startswith("#")
    is_block = isinstance(first, (ast.FunctionDef, ast.ClassDef)) and not begins_with_comment
    return f"{top}\n{chr(10) * (2 if is_block else 1)}{code}"


def shorten_docstrings(source: str) -> str:
    """Return the source with the first paragraph alone of the docstrings of what it defines.

    Airflow stores the text of a DAG file once for each of its DAGs.
    """
    lines = source.splitlines(keepends=True)
    defined = (ast.FunctionDef, ast.ClassDef)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, defined) and "\n\n" in (ast.get_docstring(node) or ""):
            docstring = node.body[0]
            first, last = docstring.lineno - 1, (docstring.end_lineno or 0) - 1
            blank = next(at for at in range(first, last) if not lines[at].strip())
            lines[blank - 1] = lines[blank - 1].rstrip("\n") + '"""\n'
            lines[blank : last + 1] = [""] * (last + 1 - blank)
    return "".join(lines)


def merge_imports(nodes: list[ast.Import | ast.ImportFrom]) -> str:
    """Return the imports of several modules as one block, sorted as the linter wants it."""
    plain = {
        ast.unparse(node).removeprefix("import ") for node in nodes if isinstance(node, ast.Import)
    }
    members: dict[str, set[tuple[str, str | None]]] = {}
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            found = members.setdefault(str(node.module), set())
            found.update((alias.name, alias.asname) for alias in node.names)
    groups = []
    for standard in (True, False):
        lines = [f"import {name}" for name in sorted(plain) if is_standard(name) is standard]
        for module in sorted(members, key=str.lower):
            if is_standard(module) is standard:
                lines += import_lines(module, members[module])
        groups.append("\n".join(lines))
    return "\n\n".join(filter(None, groups))


def is_standard(module: str) -> bool:
    """Return whether a module is of Python's standard library."""
    return module.partition(".")[0] in sys.stdlib_module_names


def import_lines(module: str, members: set[tuple[str, str | None]]) -> Iterator[str]:
    """Yield the statements that import these members; those under other names have their own."""
    plain = sorted((name for name, other in members if other is None), key=member_order)
    renamed = sorted((name, other) for name, other in members if other is not None)
    if plain:
        line = f"from {module} import {', '.join(plain)}"
        if len(line) > LINE_LENGTH:
            line = f"from {module} import (\n    " + ",\n    ".join(plain) + ",\n)"
        yield line
    for name, other in renamed:
        yield f"from {module} import {name} as {other}"


def member_order(name: str) -> tuple[int, str]:
    """Return the place of a member among those of its module: constants, classes, the rest."""
    if name.isupper() and len(name) > 1:
        return 0, name
    return (1 if name[0].isupper() else 2), name
