"""A real dag-processor, while a platform goes over to short DAG files and back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from conftest import Site
from fault_table import FaultTable
from processors import IS_AIRFLOW_2, DagProcessor
from yellow_models import Store, bootstrap

from one_machine import NotYetError, Postgres, wait_until
from yellow_dynamic import __version__

pytestmark = pytest.mark.slow

STORES = ("A", "B", "C")
DAG_IDS = [f"yellowlive__{name}_ingestion" for name in STORES]
FILE = "yellowlive_factory_dag.py"


@pytest.fixture
def processor(
    postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DagProcessor]:
    env = {
        "PGHOSTADDR": postgres.address,
        "postgres_USER": postgres.user,
        "postgres_PASSWORD": postgres.password,
    }
    with DagProcessor(tmp_path_factory.mktemp("short"), postgres, env) as service:
        yield service


class Kept(NamedTuple):
    """What Airflow must keep of the DAGs when their file changes."""

    forms: list[Any]
    versions: list[Any]
    paused: list[Any]
    runs: list[Any]


def kept(processor: DagProcessor) -> Kept:
    versions = "NULL" if IS_AIRFLOW_2 else "(SELECT count(*) FROM dag_version)"
    queries = (
        "SELECT dag_id, dag_hash FROM serialized_dag ORDER BY 1",
        f"SELECT {versions}",
        "SELECT dag_id FROM dag WHERE is_paused",
        "SELECT dag_id, run_id FROM dag_run ORDER BY 1, 2",
    )
    return Kept(*(processor.sql(query) for query in queries))


def deploy(site: Site, processor: DagProcessor, change: tuple[str, str] = ("", "")) -> str:
    """Copy what ring 0 writes now, and return its text."""
    eco = site.model.build()
    platform: Any = eco.getDataPlatformOrThrow(site.model.platform)
    text = bootstrap(platform, eco, 0)[FILE].replace(*change)
    site.factory_file.write_text(text, encoding="utf-8")
    processor.deploy(site.factory_file)
    return text


def wait_for_text(processor: DagProcessor, text: str) -> None:
    """Wait until Airflow has stored the DAGs of a file with this text.

    It reads the text when it stores what an earlier parse gave, so one more parse must follow.
    """

    def stored() -> None:
        if {code for (code,) in processor.sql("SELECT source_code FROM dag_code")} != {text}:
            raise NotYetError("Airflow has another text.")

    wait_until(stored, seconds=60, every=0.3)
    [(now,)] = processor.sql("SELECT now()")

    def parsed_again() -> None:
        [(last,)] = processor.sql("SELECT min(last_parsed_time) FROM dag")
        if last <= now:
            raise NotYetError("Airflow has not parsed it again.")

    wait_until(parsed_again, seconds=60, every=0.3)


def wait_for_import_error(processor: DagProcessor) -> str:
    def failed() -> str:
        if not (errors := processor.import_errors()):
            raise NotYetError("There is no import error.")
        return errors[0]

    return str(wait_until(failed, seconds=60, every=0.3))


def test_change_to_short_files_and_back_keeps_dags_runs_and_pauses(
    site: Site, processor: DagProcessor, faults: FaultTable
) -> None:
    site.model.stores = [Store(name) for name in STORES]
    site.bootstrap()
    site.merge_cleanly()
    deploy(site, processor)
    processor.wait_for(DAG_IDS)
    trigger = [sys.executable, "-m", "airflow", "dags", "trigger", DAG_IDS[0]]
    subprocess.run(trigger, env=processor.env, check=True, capture_output=True, timeout=120)
    processor.sql("UPDATE dag SET is_paused = true WHERE dag_id = %s RETURNING 1", DAG_IDS[1])
    before = kept(processor)
    assert len(before.runs) == len(before.paused) == 1

    for short in (True, False):
        site.model.platformArguments["factoryFromPackage"] = short
        wait_for_text(processor, deploy(site, processor))
        assert not processor.lost([DAG_IDS[0], DAG_IDS[2]])
        assert kept(processor) == before
    faults.record("the DAG file is replaced by a short one, and back", injected=2, survived=2)


def test_package_of_another_version_is_an_import_error_and_loses_nothing(
    site: Site, processor: DagProcessor, faults: FaultTable
) -> None:
    site.model.stores = [Store(name) for name in STORES]
    site.model.platformArguments["factoryFromPackage"] = True
    site.bootstrap()
    site.merge_cleanly()
    deploy(site, processor)
    processor.wait_for(DAG_IDS)
    processor.sql("UPDATE dag SET is_paused = true WHERE dag_id = %s RETURNING 1", DAG_IDS[1])
    before = kept(processor)

    deploy(site, processor, (f"'plugin_version': '{__version__}'", "'plugin_version': '9.1.0'"))
    error = wait_for_import_error(processor)
    assert "was written by yellow-dynamic 9.1.0" in error
    assert f"Airflow's image has yellow-dynamic {__version__}, which cannot serve it" in error
    deploy(site, processor)
    processor.wait_for([DAG_IDS[0], DAG_IDS[2]])

    assert kept(processor) == before
    faults.record("a short file meets a package of another version", injected=1, survived=1)
