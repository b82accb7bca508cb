"""A plugin of coverage: all factory files that tests import count as one, the sample's text.

They differ in the literal PLATFORM alone, so the lines after it are the same ones, some further up
or down. `make test` writes the sample first (see sample_factory.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from coverage import CoveragePlugin, FileTracer
from coverage.plugin_support import Plugins

SAMPLE = Path(__file__).parents[1] / "build" / "factory" / "yellowlive_factory_dag.py"
FACTORY_FILE = re.compile(r"_factory_dag(_\d+)?\.py$")
#: Begins the first line that all factory files have after PLATFORM.
AFTER_PLATFORM = "KEYS: dict["


class Factories(CoveragePlugin):
    """Traces factory files wherever they are."""

    def file_tracer(self, filename: str) -> FileTracer | None:
        # A test may have removed a file that it has parsed.
        if not (FACTORY_FILE.search(filename) and SAMPLE.exists() and Path(filename).exists()):
            return None
        text, sample = lines_of(filename), lines_of(str(SAMPLE))
        # Neither one of another release nor one that a test has damaged.
        begin, begin_of_sample = begin_of_keys(text), begin_of_keys(sample)
        if begin is None or text[begin:] != sample[begin_of_sample:]:
            return None
        return OneFactory(begin, begin_of_sample or 0)

    def find_executable_files(self, src_dir: str) -> Iterator[str]:
        """Yield the sample, so that all workers' data say that this plugin traces it."""
        if SAMPLE.parent == Path(src_dir):
            yield str(SAMPLE)

    def file_reporter(self, filename: str) -> str:  # noqa: ARG002
        """Let coverage read the sample as the Python that it is."""
        return "python"


class OneFactory(FileTracer):
    """Tells coverage which line of the sample a line of a factory file is."""

    def __init__(self, begin: int, begin_of_sample: int) -> None:
        self._begin, self._shift = begin, begin_of_sample - begin

    def source_filename(self) -> str:
        return str(SAMPLE)

    def line_number_range(self, frame: FrameType) -> tuple[int, int]:
        line = frame.f_lineno
        line += self._shift if line > self._begin else 0
        return line, line


def lines_of(file: str) -> list[str]:
    return Path(file).read_text(encoding="utf-8", errors="replace").splitlines()


def begin_of_keys(lines: list[str]) -> int | None:
    """Return the index of the line that begins KEYS."""
    found = (number for number, line in enumerate(lines) if line.startswith(AFTER_PLATFORM))
    return next(found, None)


def coverage_init(reg: Plugins, options: Any) -> None:
    reg.add_file_tracer(Factories())
