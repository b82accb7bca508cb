"""The reference pages are those of the sources, and have every message that a user gets."""

from __future__ import annotations

import functools
import re
from typing import Any

import pytest
import reference_pages
from messages import VALUE
from reference_pages import CAUSES, FOLDER, SECTIONS
from typer.main import get_command

from yellow_dynamic.command.app import app

pytestmark = pytest.mark.embedded


@functools.cache
def all_messages() -> set[str]:
    """Return the messages of all sources."""
    return {text for patterns in SECTIONS.values() for text in reference_pages.texts(patterns)}


# How Typer words the page of the commands is its own affair.
@pytest.mark.parametrize("name", sorted(reference_pages.PAGES.keys() - {"commands.md"}))
def test_page_is_what_the_sources_make(name: str) -> None:
    made = reference_pages.page(name)

    assert (FOLDER / name).read_text(encoding="utf-8") == made, "Run make reference."


def test_page_of_the_commands_has_what_they_say_and_no_more() -> None:
    text = (FOLDER / "commands.md").read_text(encoding="utf-8")
    page = squeezed(text)
    group: Any = get_command(app)
    options = {option for each in group.params for option in each.opts} | {"--help"}

    for name, command in group.commands.items():
        assert f"## `yellow-dynamic {name}`" in text
        options |= {option for each in command.params for option in each.opts}
        for said in (command.help, *(each.help for each in command.params)):
            assert squeezed(said or "") in page, name
    assert set(re.findall(r"^\* `(--[\w-]+)", text, re.MULTILINE)) <= options
    assert set(re.findall(r"^## `yellow-dynamic (\S+)`", text, re.MULTILINE)) == set(group.commands)


def squeezed(text: str) -> str:
    """Return a text without what Markdown makes of its spaces and signs."""
    return re.sub(r"[\s\\`]", "", text)


@pytest.mark.parametrize("piece", reference_pages.all_notes())
def test_every_note_is_about_one_message(piece: str) -> None:
    about = [text for text in all_messages() if piece in text]

    assert len(about) == 1 or piece in CAUSES, about


@pytest.mark.parametrize(
    ("source", "known"),
    [
        ("validation.py", "would share the Kubernetes secret"),
        ("factory/rules.py", "holds a character that cannot be printed"),
        ("factory/*.py", "no answer within"),
        ("factory/*.py", "cannot be written"),
        ("factory/*.py", "its container ended with exit code"),
        ("factory/*.py", "printed no line"),
        ("factory/*.py", "has no ingestion DAG"),
        ("factory/rules.py", "is not JSON"),
        ("factory/infrastructure.py", "so the platform has no DAG"),
        ("command/*.py", "is no time: give one such as"),
        ("page/*.py", "cannot read a platform's table"),
    ],
)
def test_messages_of_every_kind_are_found(source: str, known: str) -> None:
    assert any(known in text for text in reference_pages.texts((source,)))


def test_every_source_with_messages_is_searched() -> None:
    searched = {
        name for patterns in SECTIONS.values() for name, _ in reference_pages.sources(patterns)
    }
    package = reference_pages.PACKAGE

    silent = {
        file.relative_to(package).as_posix()
        for file in package.rglob("*.py")
        if not any(
            len(text.replace(VALUE, "").split()) > 4
            for text in reference_pages.messages(file.read_text(encoding="utf-8"))
        )
    }

    others = {file.relative_to(package).as_posix() for file in package.rglob("*.py")} - searched
    assert others <= silent | {"__init__.py"}
