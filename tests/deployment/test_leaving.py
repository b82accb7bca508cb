"""What the page "Leave and remove" drops is all that the platform made in the merge store."""

from __future__ import annotations

import fnmatch
import re

import pytest
import yaml
from conftest import Site
from datasurface_host import SOURCE
from doc_blocks import ROOT, blocks
from reading_role import run_reader_file
from yellow_models import PROVIDERS_BOOTSTRAP

from datasurface.platforms.yellow import YellowDataPlatform

PAGE = ROOT / "docs" / "leaving.md"
HISTORY_GOES, _, *EVERYTHING_GOES = (
    block.text for block in blocks("sql") if block.document == PAGE
)
EVERYTHING = """
SELECT 'table', relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
    AND relkind IN ('r', 'v', 'S')
UNION ALL SELECT 'function', proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
UNION ALL SELECT 'role', rolname FROM pg_roles WHERE rolname LIKE '%%' || current_database()
"""
#: DataSurface's own tables, which stay.
THEIRS = {("table", "yellowlive_batch_counter"), ("table", "yellowlive_batch_metrics")}
if SOURCE is not None:
    THEIRS.add(("table", "yellowlive_airflow_datatransformer"))
if PROVIDERS_BOOTSTRAP:
    THEIRS.add(("table", "provider_factory_dags"))


def test_sql_of_the_page_removes_all_that_was_made_but_the_jobs_own_tables(site: Site) -> None:
    site.bootstrap()
    site.merge_cleanly()
    role = f"airflow_reader_{site.database}"
    run_reader_file(site, "--variable", f"reader={role}")
    made = set(site.sql(EVERYTHING))
    assert {("table", "yellowlive_airflow_dsg"), ("role", role)} <= made

    for text in EVERYTHING_GOES:
        site.sql(re.sub(r"\bairflow_reader\b", role, text))

    assert set(site.sql(EVERYTHING)) == THEIRS


def test_table_without_its_history_serves_the_next_writer(installed: Site) -> None:
    installed.sql(HISTORY_GOES)

    installed.sql("UPDATE {table} SET status = 'disabled'")
    assert ("table", "yellowlive_airflow_dsg_history") not in installed.sql(EVERYTHING)
    assert not [name for kind, name in installed.sql(EVERYTHING) if kind == "function"]
    installed.sql("DELETE FROM {table}")


@pytest.mark.parametrize("others", [{}, {"Plain": YellowDataPlatform}], ids=["alone", "beside"])
def test_page_names_all_dag_files_and_jobs_of_ring_0(
    site: Site, others: dict[str, type[YellowDataPlatform]]
) -> None:
    site.model.others = others
    page = PAGE.read_text(encoding="utf-8")
    [dag_files] = re.findall(r"rm /opt/airflow/dags/(\S+)'", page)
    [jobs] = re.findall(r"build/YellowLive/(\S+)\)", page)

    files = site.bootstrap()

    stay = {"provider_infrastructure_dag.py"} if others and PROVIDERS_BOOTSTRAP else set()
    in_airflow = {name for name in files if name.endswith(".py")} - stay
    assert {name for name in in_airflow if f"`{name}`" not in page} == set(
        fnmatch.filter(in_airflow, dag_files)
    )
    manifests = {name: list(yaml.safe_load_all(files[name])) for name in files if "yaml" in name}
    made = {name for name, each in manifests.items() if each[0].get("kind") == "Job"}
    assert made == set(fnmatch.filter(files, jobs))
