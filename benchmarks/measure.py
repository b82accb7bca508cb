"""Time and peak memory of a piece of work in a process of its own."""

from __future__ import annotations

import gc
import json
import math
import os
import resource
import statistics
import time
import traceback
from collections.abc import Callable, Mapping
from typing import NamedTuple

Work = Callable[[], object]


class Cost(NamedTuple):
    """Wall time in seconds, and the growth of the process's peak memory in MB."""

    seconds: float
    megabytes: float


def in_new_process(work: Work, *, apart: bool = False) -> Cost:
    """Do the work in a process forked from this one, as Airflow's DAG processor parses a file.

    Args:
        work: what is measured.
        apart: first copy the objects that the process shares with this one, as far as the garbage
            collector sees them, so that the work does not pay for that.

    Raises:
        RuntimeError: when the work failed; its traceback is on standard error.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if apart:
                # Writes to each object that it looks at.
                gc.unfreeze()
                gc.collect()
            os.write(writing, json.dumps(cost_of(work)).encode())
            status = 0
        except BaseException:  # noqa: BLE001 - a forked process must not go on as this program
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError("A measured piece of work failed; its error is above.")
    return Cost(*json.loads(text))


def cost_of(work: Work) -> Cost:
    before = peak_megabytes()
    started = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - started
    # Kept until here: what the work returns is part of its memory.
    del result
    return Cost(seconds, peak_megabytes() - before)


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_turn(
    sides: Mapping[str, Work],
    rounds: int,
    before: Mapping[str, Work] | None = None,
    *,
    apart: bool = False,
) -> dict[str, Cost]:
    """Measure all sides one after the other, again and again, and return each one's medians.

    In turn, so that what else the machine does falls on all of them alike.

    Args:
        sides: the work of each side by its name.
        rounds: how often each side's turn comes.
        before: what is done, unmeasured, before each turn of a side.
        apart: see `in_new_process`.
    """
    costs: dict[str, list[Cost]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, work in sides.items():
            if before and name in before:
                before[name]()
            costs[name].append(in_new_process(work, apart=apart))
    return {
        name: Cost(*(statistics.median(values) for values in zip(*measured, strict=True)))
        for name, measured in costs.items()
    }


def growth(seconds_by_size: Mapping[int, float]) -> float:
    """Return the exponent e of the best fit `seconds = c * size**e`."""
    points = [(math.log(size), math.log(seconds)) for size, seconds in seconds_by_size.items()]
    return statistics.linear_regression(*zip(*points, strict=True)).slope
