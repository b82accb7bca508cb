"""What the documents say of tests and commands is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIXES = (ROOT / "docs" / "Dynamic_DAG_Factory_Fixes.md").read_text(encoding="utf-8")
#: Made at each build of the site.
GENERATED = {"docs/configuration.md", "docs/commands.md"}
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


def test_links_between_the_documents_lead_somewhere() -> None:
    for document in (*ROOT.glob("docs/*.md"), ROOT / "README.md"):
        for target in re.findall(
            r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")
        ):
            path = document.parent / target
            generated = path.is_relative_to(ROOT) and str(path.relative_to(ROOT)) in GENERATED
            assert path.exists() or generated, f"{document.name}: {target}"
