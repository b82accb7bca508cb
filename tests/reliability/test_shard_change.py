"""A real dag-processor, while a platform goes over to another number of factory files."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import Site
from fault_table import FaultTable
from processors import (
    AIRFLOW_VERSION,
    CLEANUP_EVERY,
    IS_AIRFLOW_2,
    STALE_AFTER,
    DagProcessor,
    dags_of_parses,
)
from yellow_models import Store, bootstrap

from one_machine import NotYetError, Postgres, wait_until

pytestmark = pytest.mark.slow

STREAMS = 60
#: Airflow looks for new files so rarely that all their DAGs could become stale before.
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
    """Observes which DAGs are in service, and from which file."""

    def __init__(self, processor: DagProcessor, dag_ids: list[str]) -> None:
        self.processor = processor
        self.dag_ids = dag_ids
        self.looks = 0
        #: DAGs that were out of service, or whose file was deleted.
        self.lost: set[str] = set()
        #: The files that Airflow has had each DAG from, in order.
        self.files: dict[str, list[str]] = defaultdict(list)

    def look(self) -> None:
        self.looks += 1
        self.lost |= self.processor.lost(self.dag_ids)
        for dag_id, file in self.processor.files("").items():
            if self.files[dag_id][-1:] != [file]:
                self.files[dag_id].append(file)
            if not (self.processor.dags_dir / file).exists():
                self.lost.add(dag_id)

    def wait_for_files(self, names: list[str]) -> None:
        """Observe until Airflow has the DAGs from all these files and from no other one."""

        def settled() -> None:
            self.look()
            now = {history[-1] for history in self.files.values()}
            if now != set(names):
                raise NotYetError(f"Airflow has the DAGs from {now}.")

        wait_until(settled, seconds=180, every=0.3)

    def wait_for_parses(self, names: list[str], expected: Callable[[list[int]], bool]) -> None:
        """Observe until the numbers of DAGs of these files' last parses are as expected."""

        def parsed() -> None:
            self.look()
            last = [dags_of_parses(self.processor.log(name))[-1:] for name in names]
            if [] in last or not expected([dags for [dags] in last]):
                raise NotYetError(f"The last parses of {names} registered {last}.")

        wait_until(parsed, seconds=180, every=0.3)

    def keep_on(self, seconds: float) -> None:
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


def test_no_dag_is_out_of_service_while_the_number_of_factory_files_changes(
    site: Site, processor: DagProcessor, faults: FaultTable
) -> None:
    """The files are copied in the order that docs/scaling.md gives."""
    site.model.stores = [Store(f"S{number}") for number in range(STREAMS)]
    site.bootstrap()
    site.merge_cleanly()
    dag_ids = [f"yellowlive__{store.name}_ingestion" for store in site.model.stores]
    [first] = render(site, 1)
    processor.deploy(site.folder / first)
    processor.wait_for(dag_ids)
    watch = Watch(processor, dag_ids)

    def copy(names: list[str]) -> None:
        for name in names:
            processor.deploy(site.folder / name)

    names = render(site, 3)
    _, *new = names
    copy(new)
    watch.wait_for_parses(new, all)
    copy(names)
    watch.wait_for_files(names)

    for left in (2, 1):
        *names, extra = names
        assert render(site, left) == names
        copy(names)
        watch.wait_for_parses(names, lambda dags: sum(dags) == STREAMS)
        (site.folder / extra).write_text((site.folder / first).read_text())
        copy([extra])
        watch.wait_for_parses([extra], lambda dags: dags == [0])
        watch.wait_for_files(names)
        assert "registers no DAGs" in processor.log(extra)
        processor.withdraw(extra)
        if not IS_AIRFLOW_2:
            (processor.dags_dir / extra).unlink()
    watch.keep_on(STALE_AFTER + CLEANUP_EVERY)

    print(f"{watch.looks} looks")
    assert sorted(watch.files) == sorted(dag_ids)
    faults.record(
        f"1 to 3 to 2 to 1 factory files, Airflow {AIRFLOW_VERSION}",
        injected=3,
        survived=0 if watch.lost else 3,
        dags_lost=len(watch.lost),
    )
