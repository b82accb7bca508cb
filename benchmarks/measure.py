"""Time and peak memory of a piece of work in a process of its own."""

from __future__ import annotations

import gc
import json
import math
import os
import resource
import signal
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple, TypeVar

Work = Callable[[], object]
#: Names a piece of work: its side, or side and number of streams.
Key = TypeVar("Key", bound=Hashable)


class Cost(NamedTuple):
    """Seconds of wall and of CPU time, and the growth of the process's peak memory in MB."""

    seconds: float
    cpu_seconds: float
    megabytes: float


def run_in_child(function: Callable[[], Any]) -> Any:
    """Return the result of a function, as JSON, from a process forked from this one.

    Raises:
        RuntimeError: The function failed; its traceback is on standard error.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            text = json.dumps(function())
            with os.fdopen(writing, "w") as pipe:
                pipe.write(text)
            status = 0
        except BaseException:  # noqa: BLE001 - a forked process must not go on as this program
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    os.close(writing)
    try:
        with os.fdopen(reading) as pipe:
            text = pipe.read()
    except BaseException:
        os.kill(child, signal.SIGTERM)
        raise
    finally:
        _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError("The work of a child process failed; its error is above.")
    return json.loads(text)


def measure_in_child(work: Work, *, apart: bool = False) -> Cost:
    """Do the work in a process forked from this one, as Airflow's DAG processor parses a file.

    Args:
        work: what is measured.
        apart: first copy the objects that the process shares with this one, as far as the garbage
            collector sees them, so that the work does not pay for that.

    Raises:
        RuntimeError: The work failed; its traceback is on standard error.
    """

    def measure() -> Cost:
        if apart:
            # Writes to each object that it looks at.
            gc.unfreeze()
            gc.collect()
        return measure_cost(work)

    return Cost(*run_in_child(measure))


def measure_cost(work: Work) -> Cost:
    before = read_peak_megabytes()
    started, started_cpu = time.perf_counter(), time.process_time()
    result = work()
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - started_cpu
    # Kept until here: what the work returns is part of its memory.
    del result
    return Cost(seconds, cpu_seconds, read_peak_megabytes() - before)


def read_peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_without_pyc(work: Work) -> object:
    """Do the work where Python finds no .pyc file, as in a read-only DAG folder."""
    # No file can be below it.
    sys.pycache_prefix = os.devnull
    return work()


def measure_in_turn(
    sides: Mapping[Key, Work],
    rounds: int,
    before: Mapping[Key, Work] | None = None,
    *,
    apart: bool = False,
) -> dict[Key, Cost]:
    """Measure all sides one after the other, again and again, and return each one's medians.

    In turn, and in the opposite order every other time, so that other load on the machine affects
    all of them alike.

    Args:
        sides: the work of each side by its name.
        rounds: how often each side's turn comes.
        before: what is done, unmeasured, before each turn of a side.
        apart: see `measure_in_child`.
    """
    costs: dict[Key, list[Cost]] = {name: [] for name in sides}
    order = list(sides)
    for _ in range(rounds):
        for name in order:
            if before and name in before:
                before[name]()
            costs[name].append(measure_in_child(sides[name], apart=apart))
        order.reverse()
    return {
        name: Cost(*(statistics.median(values) for values in zip(*measured, strict=True)))
        for name, measured in costs.items()
    }


def growth(seconds_by_size: Mapping[int, float]) -> float:
    """Return the exponent e of the best fit `seconds = c * size**e`."""
    points = [(math.log(size), math.log(seconds)) for size, seconds in seconds_by_size.items()]
    return statistics.linear_regression(*zip(*points, strict=True)).slope
