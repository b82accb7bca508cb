"""What the page "Leave and remove" drops is all that the platform made in the merge store."""

from __future__ import annotations

import re

import pytest
from conftest import Site
from doc_blocks import ROOT, blocks
from reading_role import run_reader_file

PAGE = ROOT / "docs" / "leaving.md"
HISTORY_GOES, *EVERYTHING_GOES = (block.text for block in blocks("sql") if block.document == PAGE)
EVERYTHING = """
SELECT 'table', relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
    AND relkind IN ('r', 'v', 'S')
UNION ALL SELECT 'function', proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
UNION ALL SELECT 'role', rolname FROM pg_roles WHERE rolname LIKE '%%' || current_database()
"""

pytestmark = pytest.mark.embedded


def test_sql_of_the_page_removes_all_that_was_made_but_the_jobs_own_tables(site: Site) -> None:
    site.bootstrap()
    site.merge_cleanly()
    role = f"airflow_reader_{site.database}"
    run_reader_file(site, "--variable", f"reader={role}")
    made = set(site.sql(EVERYTHING))
    assert {("table", "yellowlive_airflow_dsg"), ("role", role)} <= made

    for text in EVERYTHING_GOES:
        site.sql(re.sub(r"\bairflow_reader\b", role, text))

    assert set(site.sql(EVERYTHING)) == {
        ("table", "yellowlive_batch_counter"),
        ("table", "yellowlive_batch_metrics"),
    }


def test_table_without_its_history_serves_whoever_writes_it_next(installed: Site) -> None:
    installed.sql(HISTORY_GOES)

    installed.sql("UPDATE {table} SET status = 'disabled'")
    assert ("table", "yellowlive_airflow_dsg_history") not in installed.sql(EVERYTHING)
    assert not [name for kind, name in installed.sql(EVERYTHING) if kind == "function"]
    installed.sql("DELETE FROM {table}")


def test_page_names_all_files_that_ring_0_puts_into_the_dag_folder(site: Site) -> None:
    pattern = re.compile(r"yellowlive_\w*_dag\w*\.py")

    files = {name for name in site.bootstrap() if name.endswith(".py")}

    assert files == {name for name in files if pattern.fullmatch(name)}
    assert "rm /opt/airflow/dags/yellowlive_*_dag*.py" in PAGE.read_text(encoding="utf-8")
