"""Lets all factory files that tests import count as one for coverage: the sample's text.

They differ in the literal PLATFORM alone, so the lines after it are the same ones, some further up
or down. `make test` writes the sample first (see sample_factory.py).
"""

from __future__ import annotations

import ast
from functools import cache, lru_cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType

from coverage import Coverage

# Not named as a factory file, or coverage would look for it where the module is.
SAMPLE = Path(__file__).parents[1] / "build" / "factory" / "sample.py"
#: Begins the first line that all factory files have after PLATFORM.
AFTER_PLATFORM = "KEYS: dict["


class CountedLoader(SourceFileLoader):
    """Compiles a factory file as lines of the sample, where coverage counts.

    A plugin of coverage could tell it the lines too, and would be asked at each of them.
    """

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        counts = Coverage.current() is not None and SAMPLE.exists()
        return compiled(self.get_data(path), path, counts=counts)


@lru_cache(maxsize=32)
def compiled(source: bytes, path: str, *, counts: bool) -> CodeType:
    tree = as_lines_of_the_sample(source.decode("utf-8", "replace")) if counts else None
    if tree is None:
        return compile(source, path, "exec")
    return compile(tree, str(SAMPLE), "exec")


def as_lines_of_the_sample(source: str) -> ast.Module | None:
    """Return the syntax tree with the lines of the sample.

    None is a file that is no such one: of another release, or one that a test has damaged.
    """
    begin, begin_of_sample = begin_of_keys(source), begin_of_keys(sample())
    rest, rest_of_sample = source.splitlines()[begin:], sample().splitlines()[begin_of_sample:]
    if begin == 0 or rest != rest_of_sample:
        return None
    tree = ast.parse(source)
    for statement in tree.body:
        if statement.lineno > begin:
            ast.increment_lineno(statement, begin_of_sample - begin)
    return tree


@cache
def sample() -> str:
    return SAMPLE.read_text(encoding="utf-8")


def begin_of_keys(source: str) -> int:
    """Return the index of the line that begins KEYS, or 0."""
    found = (n for n, line in enumerate(source.splitlines()) if line.startswith(AFTER_PLATFORM))
    return next(found, 0)
