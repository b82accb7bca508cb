"""What an operator sees of the platform in Airflow's own pages, in a real browser."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .installation import BROKEN, BUSY, SLOW, STEADY, Installation, dag_id

playwright = pytest.importorskip(
    "playwright.sync_api",
    reason="The package playwright is not installed; the extra `dev` has it.",
    exc_type=ImportError,
)
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.scheduler,
    pytest.mark.skipif(
        CHROMIUM is None, reason="No chromium on the PATH; on Debian: apt-get install chromium"
    ),
]
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Browser:
    """A page on which the administrator is logged in to Airflow."""

    def __init__(self, page: Any, installation: Installation, pictures: Path) -> None:
        self.page = page
        self._airflow = installation.airflow
        self._pictures = pictures

    def log_in(self) -> None:
        self.page.goto(self._airflow.address)
        self.page.fill("input[name=username]", self._airflow.user)
        self.page.fill("input[name=password]", self._airflow.password)
        self.page.keyboard.press("Enter")
        self.page.get_by_role("link", name="Dags").first.wait_for()

    def open(self, path: str) -> None:
        self.page.goto(f"{self._airflow.address}/{path}")

    def open_documentation(self, stream: str) -> str:
        """Open the documentation of a stream's DAG, and return its text."""
        self.open(f"dags/{dag_id(stream)}")
        self.page.get_by_label("Dag Docs").click()
        dialog = self.page.get_by_role("dialog")
        dialog.get_by_text("Dag Documentation").wait_for()
        return str(dialog.inner_text())

    def enlarge_documentation(self) -> None:
        """Drag the corner of the open documentation."""
        box = self.page.get_by_role("dialog").bounding_box()
        right, bottom = box["x"] + box["width"] - 6, box["y"] + box["height"] - 6
        self.page.mouse.move(right, bottom)
        self.page.mouse.down()
        self.page.mouse.move(right + 150, bottom + 310, steps=10)
        self.page.mouse.up()

    def take_picture(self, name: str) -> None:
        self.page.screenshot(path=self._pictures / name, animations="disabled")


@pytest.fixture(scope="module")
def bad_row(installation: Installation) -> Iterator[str]:
    """A stream whose row cannot become an ingestion DAG."""
    with installation.row("Refunds", schedule_string="every day"):
        yield "Refunds"


@pytest.fixture
def browser(installation: Installation, tmp_path: Path) -> Iterator[Browser]:
    """A browser; it leaves its pictures in the folder that SCREENSHOTS names, if it is set."""
    pictures = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = chromium.new_page(viewport={"width": 1280, "height": 800})
        opened = Browser(page, installation, pictures)
        opened.log_in()
        yield opened
        chromium.close()


def test_list_shows_the_ingestion_dags_and_no_factory(
    installation: Installation, browser: Browser, bad_row: str
) -> None:
    for stream in (STEADY, BUSY, SLOW, BROKEN):
        installation.ended(stream)
    expected = installation.airflow.dag_ids()

    browser.open("dags")
    browser.page.get_by_label("Show table view").click()
    rows = browser.page.locator("tbody tr")
    playwright.expect(rows).to_have_count(len(expected))

    links = browser.page.get_by_role("link", name=re.compile("_ingestion$"))
    assert set(links.all_inner_texts()) == expected
    for stream, tags in (
        (STEADY, f"{STEADY}, datasurface, ingestion, yellowlive"),
        (bad_row, f"{bad_row}, config-error, datasurface, +2 more"),
    ):
        playwright.expect(rows.filter(has_text=dag_id(stream))).to_contain_text(tags)
    assert "factory" not in browser.page.inner_text("main, #root").lower()
    browser.take_picture("dags.png")


def test_home_page_counts_the_stream_whose_row_is_not_valid(
    installation: Installation, browser: Browser, bad_row: str
) -> None:
    installation.ended(bad_row)

    browser.open("")
    failed = browser.page.get_by_role("link", name=re.compile("Failed Dags"))
    failed.first.wait_for()
    browser.take_picture("home.png")
    failed.first.click()

    browser.page.get_by_role("link", name=dag_id(bad_row)).first.wait_for()
    browser.take_picture("failed.png")


def test_hovering_over_a_dag_says_what_it_does(browser: Browser) -> None:
    browser.open("dags")
    browser.page.get_by_role("link", name=dag_id(STEADY)).first.hover()

    description = f"Ingests {STEADY} into the merge store of YellowLive (revision "
    browser.page.get_by_role("tooltip").get_by_text(description).wait_for()


def test_documentation_of_a_dag_shows_its_streams_configuration(browser: Browser) -> None:
    text = browser.open_documentation(STEADY)

    assert f"Stream {STEADY} of YellowLive" in text
    assert "yellowlive_airflow_dsg" in text
    assert f'"store_name": "{STEADY}"' in text
    assert '"schedule_string": "* * * * *"' in text
    browser.enlarge_documentation()
    browser.take_picture("dag-doc.png")


def test_documentation_of_a_bad_row_says_what_is_wrong(browser: Browser, bad_row: str) -> None:
    text = browser.open_documentation(bad_row)

    assert f"The stream '{bad_row}' of platform 'YellowLive' has no ingestion DAG" in text
    assert "'every day' is not a cron expression" in text
    assert "Correct the row in the table 'yellowlive_airflow_dsg'" in text
    browser.take_picture("config-error.png")
