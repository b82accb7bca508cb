"""A real browser before Airflow's pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from one_machine import Airflow

CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def require_browser() -> Any:
    """Return playwright's interface, or skip what asks for it."""
    playwright = pytest.importorskip(
        "playwright.sync_api",
        reason="The package playwright is not installed; the extra `dev` has it.",
        exc_type=ImportError,
    )
    if CHROMIUM is None:
        pytest.skip("No chromium on the PATH; on Debian: apt-get install chromium")
    return playwright


class Browser:
    """A page on which the administrator is logged in to Airflow.

    Attributes:
        page: playwright's.
        addresses: of all that the page asked for.
        errors: what its scripts said went wrong.
    """

    def __init__(self, page: Any, airflow: Airflow, pictures: Path) -> None:
        self.page = page
        self.addresses: list[str] = []
        self.errors: list[str] = []
        self._airflow = airflow
        self._pictures = pictures
        page.on("request", lambda request: self.addresses.append(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def log_in(self) -> None:
        self.page.goto(self._airflow.address)
        self.page.fill("input[name=username]", self._airflow.user)
        self.page.fill("input[name=password]", self._airflow.password)
        self.page.keyboard.press("Enter")
        self.page.get_by_role("link", name="Dags").first.wait_for()

    def open(self, path: str) -> None:
        self.page.goto(f"{self._airflow.address}/{path}")

    def take_picture(self, name: str) -> None:
        self.page.screenshot(path=self._pictures / name, animations="disabled")


@contextmanager
def browser_of(airflow: Airflow, folder: Path, width: int = 1280) -> Iterator[Browser]:
    """Yield a browser; it leaves its pictures in the folder that SCREENSHOTS names, if it is set.

    Args:
        airflow: the one to log in to.
        folder: for pictures that nobody asked for.
        width: of the window, in pixels.
    """
    pictures = Path(os.environ.get("SCREENSHOTS") or folder)
    with require_browser().sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = chromium.new_page(viewport={"width": width, "height": 800})
        opened = Browser(page, airflow, pictures)
        opened.log_in()
        yield opened
        chromium.close()
