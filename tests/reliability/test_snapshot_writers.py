"""Many processes write the snapshot of one platform at once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
from conftest import Site
from fault_table import FaultTable
from measuring import unmeasured

WRITERS = 8
READS = 2000


@pytest.mark.slow
def test_the_snapshot_is_never_torn_while_many_processes_write_it(
    installed: Site, faults: FaultTable
) -> None:
    for number in range(50):
        installed.insert(f"Row{number}", "x")
    module = installed.module()
    change = "UPDATE {table} SET config_json = repeat(%s, %s) WHERE stream_key LIKE 'Row%%'"
    torn = 0
    seen: set[str] = set()

    # The writers are forks, which would be measured too.
    with unmeasured(), writing(module):
        for number in range(READS):
            if number % 100 == 0:
                # Sizes far apart: a mixture of two writes could not pass for either.
                kind = number // 100 % 6
                installed.sql(change, ("abcdef"[kind], 500 + 900 * kind))
            snapshot = module.read_snapshot(module.BUILDER.platform)
            rows = snapshot.rows if snapshot else []
            texts = {row.config_json for row in rows if row.stream_key.startswith("Row")}
            torn += len(texts) != 1
            seen |= texts

    assert [path.name for path in installed.snapshots.glob("*") if ".ended" not in path.name] == [
        "yellowlive.json"
    ]
    assert len(seen) > 1
    faults.record(
        f"snapshot read while {WRITERS} processes write it",
        injected=READS,
        survived=READS - torn,
    )


@contextmanager
def writing(module: ModuleType) -> Iterator[None]:
    """Let processes parse again and again; each must end in order."""
    context = multiprocessing.get_context("fork")
    done = context.Event()
    processes = [context.Process(target=parse_until, args=(module, done)) for _ in range(WRITERS)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        done.set()
        for process in processes:
            process.join(30)
    assert [process.exitcode for process in processes] == [0] * WRITERS


def parse_until(module: ModuleType, done: Any) -> None:
    while not done.is_set():
        module.shard_dags(module.BUILDER)
