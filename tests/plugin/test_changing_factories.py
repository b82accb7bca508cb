"""From DataSurface's own factory to ours and back, in the order of the pages, on Airflow 2.11."""

from __future__ import annotations

import importlib
import re
import shutil
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from airflow_names import IS_AIRFLOW_2
from conftest import Site
from datasurface_host import JOBS_SOURCE, commands_take_providers
from doc_blocks import ROOT, blocks
from merge_command import Commands
from reading_role import psql

pytestmark = [
    # What Airflow deprecates in DataSurface's files is not ours.
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(JOBS_SOURCE is None, reason="needs DATASURFACE_SRC, a real DataSurface"),
    pytest.mark.skipif(not IS_AIRFLOW_2, reason="DataSurface's files load on Airflow 2 alone"),
]

DOCS = ROOT / "docs"
SETUP, LEAVING = DOCS / "HOWTO_Setup_Dynamic_DAG_Factory.md", DOCS / "leaving.md"
#: Takes the history away, and lets the role that reads the table read what their factory does.
BEFORE_THE_MERGE = [block.text for block in blocks("sql") if block.document == LEAVING][:2]

OURS = """
from transforming import transform
transform(model)
model.stores[1].consistency = MULTI
"""
THEIRS = f"""{OURS}
from datasurface.platforms.yellow import YellowDataPlatform, YellowPlatformServiceProvider
model.platformClass = YellowDataPlatform
model.providerClass = YellowPlatformServiceProvider
"""
#: Its row has more than the 2,048 characters of DataSurface's column.
LONG = '\nmodel.stores.append(Store("Long", [f"dataset_{number:03}" for number in range(200)]))'
DAGS = [f"yellowlive__{key}" for key in ("Each_ingestion", "Producer_datatransformer")]
DAGS += ["yellowlive__Store1_ingestion"]
OUTPUT = "yellowlive__Totals_dt_ingestion"


def commands(site: Site, name: str, also: str) -> Commands:
    return Commands(site.folder / name, site.model, also=also)


def succeed(*done: CompletedProcess[str]) -> None:
    for each in done:
        assert each.returncode == 0, each.stderr


def dag_files(folder: Path) -> dict[str, Path]:
    """Return the files that the page copies, by name."""
    [pattern] = set(re.findall(r"in build/YellowLive/(\S+); do", SETUP.read_text("utf-8")))
    return {file.name: file for file in folder.glob(pattern)}


def copy_dags(source: Commands, folder: Path) -> None:
    for file in dag_files(source.files).values():
        shutil.copy(file, folder)


def empty_dags(source: Commands, folder: Path) -> None:
    """Empty the files of the names that the source has, as the pages do before the merge."""
    for name in dag_files(source.files):
        (folder / name).write_text("", encoding="utf-8")


def streams(folder: Path) -> list[str]:
    """Return the ids of the streams' DAGs that Airflow finds; one in two files is an error."""
    dagbag = importlib.import_module("airflow.models.dagbag")
    bag = dagbag.DagBag(str(folder), include_examples=False)
    assert bag.import_errors == {}
    return sorted(dag_id for dag_id in bag.dags if "__" in dag_id)


def test_no_dag_is_missing_twice_there_or_invented_on_the_way_to_ours_and_back(site: Site) -> None:
    folder = site.folder / "dags"
    folder.mkdir()
    # On 0.0.56 and 0.0.57 it is a task of the transformer's DAG.
    own = sorted([*DAGS, *([] if commands_take_providers() else [OUTPUT])])

    # On 0.0.56 and 0.0.57 its ring 1 writes over the DAG file of ring 0.
    succeed(commands(site, "ring-1", THEIRS).bootstrap(1))
    theirs = commands(site, "theirs", THEIRS)
    succeed(theirs.bootstrap(0), theirs.merge())
    copy_dags(theirs, folder)
    assert streams(folder) == own

    # "Migrating from DataSurface's own factory"; Airflow's login still is that of the jobs.
    site.model.platformArguments = {"factoryShards": 2}
    ours = commands(site, "ours", OURS)
    succeed(ours.bootstrap(0), ours.bootstrap(1))
    assert streams(folder) == own
    empty_dags(ours, folder)
    succeed(ours.merge())
    assert streams(folder) == []
    copy_dags(ours, folder)
    assert streams(folder) == sorted([*DAGS, OUTPUT])
    [(revisions,)] = site.sql("SELECT max(revision) FROM yellowlive_airflow_dsg_history")
    assert revisions >= 2

    role = f"airflow_reader_{site.database}"
    reader_file = ours.files / "yellowlive-airflow-reader.sql"
    done = psql(site, "--file", str(reader_file), "--variable", f"reader={role}")
    assert (done.returncode, done.stderr) == (0, "")
    succeed(commands(site, "ours", OURS + LONG).merge())
    long = "yellowlive__Long_ingestion"
    assert streams(folder) == sorted([*DAGS, OUTPUT, long])

    # "Back to DataSurface's own factory".
    site.model.platformArguments = {}
    back = commands(site, "back", THEIRS + LONG)
    succeed(back.bootstrap(0))
    for text in BEFORE_THE_MERGE:
        for statement in text.replace("airflow_reader", role).split(";\n"):
            if "provider_" not in statement or commands_take_providers():
                site.sql(statement or "SELECT")
    empty_dags(ours, folder)
    succeed(back.merge())
    assert streams(folder) == []
    copy_dags(back, folder)
    for name in dag_files(ours.files).keys() - dag_files(back.files).keys():
        (folder / name).unlink()
    site.sql(f"ALTER ROLE {role} PASSWORD 'of the role'")
    site.login(role, "of the role")
    assert streams(folder) == sorted([*own, long])
