"""Measures the coverage of what tests do, and not of all that runs around it.

Python 3.11 runs all code at half its speed while it is traced, that of other projects too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from coverage import Coverage


@contextmanager
def unmeasured() -> Iterator[None]:
    """Do not measure meanwhile."""
    coverage = Coverage.current()
    if coverage is None:
        yield
        return
    coverage.stop()
    try:
        yield
    finally:
        coverage.start()
