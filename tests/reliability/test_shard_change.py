"""A real dag-processor, while a platform goes over to another number of factory files."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Site
from fault_table import FaultTable
from processors import AIRFLOW_VERSION, CLEANUP_EVERY, STALE_AFTER, DagProcessor, dags_of_parses
from yellow_models import Store, bootstrap

from one_machine import NotYetError, Postgres, wait_until

pytestmark = pytest.mark.slow

STREAMS = 60
#: Airflow looks for new files so rarely that all their DAGs could become stale before. It has just
#: looked when it has the DAGs of the first file.
NEW_FILES_EVERY = 2 * (STALE_AFTER + 2 * CLEANUP_EVERY)


@pytest.fixture
def processor(
    postgres: Postgres, site: Site, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DagProcessor]:
    """A running dag-processor with one parsing process."""
    env = {
        "PGHOSTADDR": postgres.address,
        "postgres_USER": postgres.user,
        "postgres_PASSWORD": postgres.password,
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": str(NEW_FILES_EVERY),
        "AIRFLOW__SCHEDULER__DAG_DIR_LIST_INTERVAL": str(NEW_FILES_EVERY),
    }
    with DagProcessor(tmp_path_factory.mktemp("shards"), postgres, env) as service:
        yield service


class Watch:
    """Looks again and again at which DAGs are in service, and from which file."""

    def __init__(self, processor: DagProcessor, dag_ids: list[str]) -> None:
        self.processor = processor
        self.dag_ids = dag_ids
        self.looks = 0
        self.lost: set[str] = set()
        #: The files that Airflow has had each DAG from, in order.
        self.files: dict[str, list[str]] = defaultdict(list)

    def look(self) -> None:
        self.looks += 1
        self.lost |= self.processor.lost(self.dag_ids)
        for dag_id, file in self.processor.files("").items():
            if self.files[dag_id][-1:] != [file]:
                self.files[dag_id].append(file)

    def wait_for(self, files: set[str]) -> None:
        """Look until Airflow has the DAGs from all these files and from no other one."""

        def settled() -> None:
            self.look()
            now = {history[-1] for history in self.files.values()}
            if now != files:
                raise NotYetError(f"Airflow has the DAGs from {now}.")

        wait_until(settled, seconds=120, every=0.3)

    def go_on(self, seconds: float) -> None:
        until = time.monotonic() + seconds

        def over() -> None:
            self.look()
            if time.monotonic() < until:
                raise NotYetError("A DAG may still become stale.")

        wait_until(over, seconds=seconds + 60, every=0.3)


def render(site: Site, shards: int) -> list[str]:
    """Write the factory files of a bootstrap with so many shards, and return their names."""
    site.model.platformArguments["factoryShards"] = shards
    eco = site.model.build()
    platform: Any = eco.getDataPlatformOrThrow(site.model.platform)
    files = {
        name: text
        for name, text in bootstrap(platform, eco, 0).items()
        if name.startswith("yellowlive_factory_dag")
    }
    for name, text in files.items():
        (site.folder / name).write_text(text, encoding="utf-8")
    return list(files)


def test_no_dag_is_missing_or_doubled_while_the_number_of_factory_files_changes(
    site: Site, processor: DagProcessor, faults: FaultTable
) -> None:
    site.model.stores = [Store(f"S{number}") for number in range(STREAMS)]
    site.bootstrap()
    site.merge_cleanly()
    dag_ids = [f"yellowlive__{store.name}_ingestion" for store in site.model.stores]
    [first] = render(site, 1)
    processor.deploy(site.folder / first)
    processor.wait_for(dag_ids)
    watch = Watch(processor, dag_ids)

    # The awkward order: the file that tells the number comes before the others are there.
    names = render(site, 3)
    for name in names:
        processor.deploy(site.folder / name)
        watch.go_on(1)
    watch.wait_for(set(names))
    watch.go_on(STALE_AFTER + CLEANUP_EVERY)
    *left, gone = names
    render(site, 2)
    processor.deploy(site.folder / first)
    watch.wait_for(set(left))
    watch.go_on(STALE_AFTER + CLEANUP_EVERY)
    assert dags_of_parses(processor.log(gone))[-1] == 0
    assert "is one too many" in processor.log(gone)
    processor.withdraw(gone)
    watch.go_on(STALE_AFTER + CLEANUP_EVERY)

    back = [dag_id for dag_id, files in watch.files.items() if len(set(files)) < len(files)]
    print(f"{watch.looks} looks, {sum(len(files) - 1 for files in watch.files.values())} moves")
    assert sorted(watch.files) == sorted(dag_ids)
    # From file 1 to file 2 or 3, and from file 3 to file 1 or 2: a stream that returns to file 1
    # was in file 3 meanwhile.
    assert all(watch.files[dag_id] == [first, gone, first] for dag_id in back)
    faults.record(
        f"1 to 3 to 2 factory files, Airflow {AIRFLOW_VERSION}",
        injected=2,
        survived=0 if watch.lost else 2,
        dags_lost=len(watch.lost),
    )
