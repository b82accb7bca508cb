"""What the documents say of tests and commands is so."""

from __future__ import annotations

import re
from pathlib import Path

import doc_blocks
import pytest
from doc_blocks import BLOCK

import architecture_picture
from yellow_dynamic.monitoring.status import State
from yellow_dynamic.releases import unsupported_release

ROOT = Path(__file__).parents[2]
FIXES = (ROOT / "docs" / "Dynamic_DAG_Factory_Fixes.md").read_text(encoding="utf-8")
#: What is made from the sources, or by a benchmark, is looked up and not read.
MADE = {"commands.md", "configuration.md", "model.md", "messages.md", "performance.md"}
DOCUMENTS = [page for page in doc_blocks.DOCUMENTS if page.name not in MADE]
WRITTEN = [page for page in DOCUMENTS if page.parent == ROOT / "docs"]
LINK = re.compile(r"\]\(([^)#:]*)(?:#([^)]*))?\)")
ENTRIES = re.split(r"^## ", FIXES, flags=re.MULTILINE)[1:]


RELIABILITY = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "entry", [*ENTRIES, RELIABILITY], ids=lambda entry: str(entry.splitlines()[0])
)
def test_every_fix_names_tests_that_exist(entry: str) -> None:
    existing = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    }

    named = set(re.findall(r"`(test_\w+)`", entry))

    assert named
    assert named <= existing


def test_fixes_begin_with_the_four_of_the_first_deployment() -> None:
    numbers = [int(entry.partition(".")[0]) for entry in ENTRIES]

    assert numbers == list(range(1, len(ENTRIES) + 1))
    words = ["Hostname", "key mismatch", "access to the database", "not visible in the UI"]
    assert [word in entry.splitlines()[0] for word, entry in zip(words, ENTRIES, strict=False)] == [
        True
    ] * 4


def test_links_between_the_documents_lead_to_a_heading_that_is_there() -> None:
    for document in DOCUMENTS:
        for target, anchor in LINK.findall(document.read_text(encoding="utf-8")):
            path = document.parent / target if target else document
            assert path.exists(), f"{document.name}: {target}"
            if anchor:
                assert anchor in anchors(path), f"{document.name}: {target}#{anchor}"


def anchors(document: Path) -> set[str]:
    """Return what links may name in a document: its headings, as GitHub and the site spell them."""
    text = BLOCK.sub("", document.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_states_that_are_explained_are_those_of_the_command() -> None:
    table = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    table = table.partition("| state |")[2].partition("\n\n")[0]

    first_cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)

    assert {name for cell in first_cells for name in re.findall("`(.*?)`", cell)} == set(State)


def test_every_picture_is_shown_by_a_page() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in doc_blocks.DOCUMENTS)

    pictures = {picture.name for picture in (ROOT / "docs" / "images").iterdir()}

    assert {name for name in pictures if f"images/{name}" not in pages} == set()


def test_picture_of_the_architecture_is_the_one_that_is_drawn() -> None:
    drawn = architecture_picture.picture()

    assert architecture_picture.PICTURE.read_text(encoding="utf-8") == drawn, "Run make pictures."


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_oldest_supported_release_is_the_same_everywhere(document: Path) -> None:
    oldest = re.compile(r"([\d.]+) to 0\.0\.38")

    named = set(oldest.findall(document.read_text(encoding="utf-8")))

    assert named <= set(oldest.findall(str(unsupported_release(""))))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_no_line_is_longer_than_a_screen(document: Path) -> None:
    prose = BLOCK.sub("", document.read_text(encoding="utf-8"))

    # The row of a table is one line.
    lines = [line for line in prose.splitlines() if not line.startswith("|")]
    assert [line for line in lines if len(line) > 100] == []


def test_reader_is_not_asked_for_more_than_an_hour() -> None:
    words = [text for page in WRITTEN for text in page.read_text(encoding="utf-8").split()]
    # Names of tests are there to be searched for.
    names = sum(text.startswith("`test_") for text in words)

    # At 250 words a minute.
    assert len(words) - names <= 15_000
