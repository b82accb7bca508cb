"""Lets the code of all self-contained factory files count as that of the modules they are made of.

The files of a test differ in their literals alone, so their modules are compiled once a process.
"""

from __future__ import annotations
import __future__

import ast
from functools import cache
from importlib import resources
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from yellow_dynamic.joining import FACTORY_MODULES, join_modules


class ModulesLoader(SourceFileLoader):
    """Executes a self-contained factory file module by module, each as the file it comes from.

    Any other file is executed as Python does.
    """

    def exec_module(self, module: ModuleType) -> None:
        path = self.get_filename(module.__name__)
        head, code, end = self.get_data(path).decode("utf-8", "replace").partition(joined_code())
        if not code:
            super().exec_module(module)
            return
        for part in (compile(head, path, "exec"), *compiled_modules(), compile(end, path, "exec")):
            exec(part, module.__dict__)


@cache
def joined_code() -> str:
    return join_modules(FACTORY_MODULES).code


@cache
def compiled_modules() -> list[CodeType]:
    """Return the code of each module without its docstring and imports."""
    package = Path(str(resources.files("yellow_dynamic")))
    return [compiled_module(package / f"{name.replace('.', '/')}.py") for name in FACTORY_MODULES]


def compiled_module(path: Path) -> CodeType:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [
        node for node in tree.body[1:] if not isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    flags = __future__.annotations.compiler_flag
    return compile(tree, str(path), "exec", flags=flags, dont_inherit=True)
