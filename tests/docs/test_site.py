"""The documentation as a site: built without a warning, complete, and sufficient by itself."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from doc_blocks import ROOT
from typer.main import get_command

from yellow_dynamic.command.app import app

# Part of the development environment, and not of those that test on other releases.
pytest.importorskip("mkdocs")

SCHEMA = ROOT / "yellow_dynamic" / "stream_config.schema.json"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def text(page: Path) -> str:
    return re.sub("<[^>]+>", "", page.read_text(encoding="utf-8"))


def test_every_document_is_a_page_in_the_navigation(site: Path) -> None:
    index = (site / "index.html").read_text(encoding="utf-8")

    for document in ROOT.glob("docs/**/*.md"):
        page = document.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
        assert f'href="{page}"' in index, page


def test_every_key_of_a_row_is_described(site: Path) -> None:
    page = text(site / "reference/configuration.html")

    for key, entry in json.loads(SCHEMA.read_text(encoding="utf-8"))["properties"].items():
        assert key in page
        assert entry["description"].split("(")[0].split("'")[0].strip() in page


def test_every_command_and_option_is_described(site: Path) -> None:
    page = text(site / "reference/commands.html")

    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        assert f"yellow-dynamic {name}" in page
        for parameter in command.params:
            assert any(option in page for option in [*parameter.opts, parameter.metavar or ""])


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        html = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|link|img|iframe)[^>]* (?:src|href)="(https?:[^"]*)"', html)
        assert loaded == [], page.name
