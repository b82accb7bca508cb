"""Many merges and many readers at once: each reader sees one whole set, never a mixture."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import swap_reader
from conftest import Site
from fault_table import FaultTable
from merge_command import Commands, finish, shows_no_traceback
from warm_python import AIRFLOW, warm_python
from yellow_models import SINGLE, Store

from datasurface.md import PlatformPipelineGraph, ValidationTree
from yellow_dynamic.plugin import YellowDynamicGraphHandler

STREAMS = 500
MERGES = 60
READERS = 2
MERGES_AT_ONCE = 8


def stores(name: str) -> list[Store]:
    """Return 500 streams; between two names half of the keys differ and all configs do."""
    return [
        Store(f"{kind}{number}", [f"d{n}" for n in range(50)], SINGLE, credential=name.lower())
        for kind in ("Shared", name)
        for number in range(STREAMS // 100)
    ]


def populate(graph: PlatformPipelineGraph) -> None:
    handler = graph.platform.createGraphHandler(graph)
    assert isinstance(handler, YellowDynamicGraphHandler)
    tree = ValidationTree(graph.eco)
    handler.populateDAGConfigurations(graph.eco, tree)
    assert not tree.hasErrors()


def digest_of_table(site: Site) -> str:
    return swap_reader.digest(
        site.sql('SELECT stream_key, config_json FROM {table} ORDER BY stream_key COLLATE "C"')
    )


def start_reader(site: Site, stop: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [warm_python(*AIRFLOW), swap_reader.__file__, str(site.factory_file), str(stop)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_every_read_during_many_merges_is_exactly_one_of_the_two_sets(
    site: Site, faults: FaultTable
) -> None:
    site.model.platformArguments = {"maxRemoved": 1.0}
    site.bootstrap()
    graphs, sets = [], []
    for name in ("Left", "Right"):
        site.model.stores = stores(name)
        graphs.append(site.model.graph(site.folder))
        populate(graphs[-1])
        sets.append(digest_of_table(site))
    assert site.sql("SELECT count(*) FROM {table}") == [(STREAMS,)]
    stop = site.folder / "stop"
    readers = [start_reader(site, stop) for _ in range(READERS)]
    for reader in readers:
        assert reader.stdout is not None
        assert "ready\n" in iter(reader.stdout.readline, "")

    for number in range(MERGES):
        populate(graphs[number % 2])

    stop.touch()
    results = [finish(reader) for reader in readers]
    assert [done.returncode for done in results] == [0] * READERS, results[0].stderr
    seen = [json.loads(done.stdout.splitlines()[-1]) for done in results]
    reads = sum((Counter(each["reads"]) for each in seen), Counter())
    snapshots = sum((Counter(each["snapshots"]) for each in seen), Counter())
    assert set(sets) == set(reads), "the readers saw one set only, or another one"
    assert {count for each in seen for count in each["parses"]} == {STREAMS}
    assert all("WARNING" not in done.stderr for done in results)
    torn = sum(count for key, count in (reads + snapshots).items() if key not in sets)
    faults.record(
        f"{MERGES} merges of {STREAMS} streams under {READERS} readers, by reads",
        injected=reads.total(),
        survived=reads.total() - torn,
    )
    faults.record(
        f"snapshot written by {READERS} processes at once, by reads",
        injected=snapshots.total(),
        survived=snapshots.total() - torn,
    )


@pytest.mark.slow
def test_eight_merges_at_once_take_turns_or_fail_clean(installed: Site, faults: FaultTable) -> None:
    commands = []
    for number in range(MERGES_AT_ONCE):
        expression = f"[Store(f'M{number}_{{n}}') for n in range(20)] + [Store('Shared{number}')]"
        commands.append(Commands(installed.folder / f"model{number}", installed.model, expression))

    running = [each.start("handleModelMerge") for each in commands]
    done = [finish(process) for process in running]

    ended = [each.returncode for each in done]
    for each in done:
        assert shows_no_traceback(each)
        assert each.returncode in (0, 1)
    found = {key for (key,) in installed.sql("SELECT stream_key FROM {table}")}
    possible = [
        {f"M{number}_{n}" for n in range(20)} | {f"Shared{number}"}
        for number in range(MERGES_AT_ONCE)
        if ended[number] == 0
    ]
    assert possible
    assert found in possible
    faults.record(
        f"{MERGES_AT_ONCE} merges of one platform at once",
        injected=MERGES_AT_ONCE,
        survived=ended.count(0) + ended.count(1),
        rows_lost=0 if found in possible else len(found),
    )
