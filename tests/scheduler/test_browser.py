"""What an operator sees of the platform in Airflow's own pages, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import Browser, browser_of, require_browser

from .installation import BROKEN, BUSY, SLOW, STEADY, Installation, dag_id

pytestmark = pytest.mark.scheduler


def open_documentation(browser: Browser, stream: str) -> str:
    """Open the documentation of a stream's DAG, and return its text."""
    browser.open(f"dags/{dag_id(stream)}")
    browser.page.get_by_label("Dag Docs").click()
    dialog = browser.page.get_by_role("dialog")
    dialog.get_by_text("Dag Documentation").wait_for()
    return str(dialog.inner_text())


@pytest.fixture(scope="module")
def bad_row(installation: Installation) -> Iterator[str]:
    """A stream whose row cannot become an ingestion DAG."""
    with installation.row("Refunds", schedule_string="every day"):
        yield "Refunds"


@pytest.fixture
def browser(installation: Installation, tmp_path: Path) -> Iterator[Browser]:
    with browser_of(installation.airflow, tmp_path) as opened:
        yield opened


def test_list_shows_the_ingestion_dags_and_no_factory(
    installation: Installation, browser: Browser, bad_row: str
) -> None:
    for stream in (STEADY, BUSY, SLOW, BROKEN):
        installation.ended(stream)
    expected = installation.airflow.dag_ids()

    browser.open("dags")
    browser.page.get_by_label("Show table view").click()
    rows = browser.page.locator("tbody tr")
    expect = require_browser().expect
    expect(rows).to_have_count(len(expected))

    links = browser.page.get_by_role("link", name=re.compile("_ingestion$"))
    assert set(links.all_inner_texts()) == expected
    for stream, tags in (
        (STEADY, f"{STEADY}, datasurface, ingestion, yellowlive"),
        (bad_row, f"{bad_row}, config-error, datasurface, +2 more"),
    ):
        expect(rows.filter(has_text=dag_id(stream))).to_contain_text(tags)
    assert "factory" not in browser.page.inner_text("main, #root").lower()
    browser.take_picture("dags.png")


def test_home_page_counts_the_stream_whose_row_is_not_valid(
    installation: Installation, browser: Browser, bad_row: str
) -> None:
    installation.ended(bad_row)

    browser.open("")
    failed = browser.page.get_by_role("link", name=re.compile("Failed Dags"))
    failed.first.wait_for()
    failed.first.click()

    browser.page.get_by_role("link", name=dag_id(bad_row)).first.wait_for()


def test_assets_page_has_each_dataset_and_the_job_that_brings_it(
    installation: Installation, browser: Browser
) -> None:
    installation.ended(STEADY)

    browser.open("assets")
    link = browser.page.get_by_role("link", name=f"datasurface://yellowlive/{STEADY}/")
    link.first.wait_for()
    browser.take_picture("assets.png")
    link.first.click()

    # The job that brings it, at its newest event.
    browser.page.get_by_role("link", name=dag_id(STEADY)).first.wait_for()


def test_hovering_over_a_dag_says_what_it_does(browser: Browser) -> None:
    browser.open("dags")
    browser.page.get_by_role("link", name=dag_id(STEADY)).first.hover()

    description = f"Ingests {STEADY} into the merge store of YellowLive (revision "
    browser.page.get_by_role("tooltip").get_by_text(description).wait_for()


def test_documentation_of_a_dag_shows_its_streams_configuration(browser: Browser) -> None:
    text = open_documentation(browser, STEADY)

    assert f"Stream {STEADY} of YellowLive" in text
    assert "yellowlive_airflow_dsg" in text
    assert f'"store_name": "{STEADY}"' in text
    assert '"schedule_string": "* * * * *"' in text


def test_documentation_of_a_bad_row_says_what_is_wrong(browser: Browser, bad_row: str) -> None:
    text = open_documentation(browser, bad_row)

    assert f"The stream '{bad_row}' of platform 'YellowLive' has no ingestion DAG" in text
    assert "'every day' is not a cron expression" in text
    assert "Correct the row in the table 'yellowlive_airflow_dsg'" in text
    browser.take_picture("config-error.png")
