"""Lets the code of all self-contained DAG files count as that of the modules they are made of.

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

from yellow_dynamic.joining import FACTORY_MODULES, INFRASTRUCTURE_MODULES, join_modules


class ModulesLoader(SourceFileLoader):
    """Executes a self-contained DAG file module by module, each as the file it comes from.

    Any other file is executed as Python does.
    """

    def exec_module(self, module: ModuleType) -> None:
        path = self.get_filename(module.__name__)
        text = self.get_data(path).decode("utf-8", "replace")
        for names in (FACTORY_MODULES, INFRASTRUCTURE_MODULES):
            head, joined, end = text.partition(join_modules(names).code)
            if joined:
                exec(compile(head, path, "exec"), module.__dict__)
                for name in names:
                    exec(compiled_module(name), module.__dict__)
                exec(compile(end, path, "exec"), module.__dict__)
                return
        super().exec_module(module)


@cache
def compiled_module(name: str) -> CodeType:
    """Return the code of a module of the package without its docstring and imports."""
    path = Path(str(resources.files("yellow_dynamic"))) / f"{name.replace('.', '/')}.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [
        node for node in tree.body[1:] if not isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    flags = __future__.annotations.compiler_flag
    return compile(tree, str(path), "exec", flags=flags, dont_inherit=True)
