"""Makes the pages of docs/reference from the sources; `make reference` writes them.

`model.md` comes from the docstrings of what a model may use, `configuration.md` from the JSON
Schema of a row, `commands.md` from the command itself, and `messages.md` from the texts in the
sources, with the notes of docs/reference/messages.yaml.
"""

from __future__ import annotations

import ast
import functools
import inspect
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
import yaml
from messages import VALUE, all_texts, errors, messages
from typer.cli import get_docs_for_click
from typer.main import get_command

from yellow_dynamic import (
    EMail,
    RunSettings,
    SlackWebhook,
    YellowDynamicDataPlatform,
    YellowDynamicPlatformServiceProvider,
)
from yellow_dynamic.command.app import app
from yellow_dynamic.factory.causes import ADVICE
from yellow_dynamic.factory.keys import KEYS, SCHEMA

Rule = dict[str, Any]

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "yellow_dynamic"
FOLDER = ROOT / "docs" / "reference"
NOTES = FOLDER / "messages.yaml"
#: Where messages come from, by the headings of the page; of the command, only errors.
SECTIONS = {
    "Bootstrap, the merge and its model": (
        "plugin.py",
        "datasurface_adapter.py",
        "releases.py",
        "notifications.py",
        "run_settings.py",
        "stream_configs.py",
        "platform_settings.py",
        "validation.py",
        "deployment.py",
        "factory/rules.py",
        "factory/causes.py",
        "pods.py",
        "population.py",
        "history.py",
        "merge_store.py",
    ),
    "The infrastructure DAG": ("factory/infrastructure.py",),
    "The factory file, and the tasks of its DAGs": ("factory/*.py",),
    "The command yellow-dynamic, and the page Streams": ("monitoring/*.py",),
    "The page Streams": ("page/*.py",),
    "The command yellow-dynamic": ("__main__.py", "command/*.py"),
}
#: A text of this many words besides its values says something by itself.
WORDS = 2
MODEL = (
    YellowDynamicDataPlatform,
    RunSettings,
    SlackWebhook,
    EMail,
    YellowDynamicPlatformServiceProvider,
)
CAUSES = {cause.name for cause in ADVICE}


def model() -> str:
    """Return the reference of what a model may use, in Markdown."""
    lines = ["# What a model may use", "", "All of it comes from the package `yellow_dynamic`."]
    lines += ["The platform also takes every argument of YellowDataPlatform."]
    for part in MODEL:
        about, _, arguments = inspect.cleandoc(part.__doc__ or "").partition("\n\nArgs:\n")
        found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", arguments, re.MULTILINE)
        lines += ["", f"## {part.__name__}", "", about]
        if found:
            lines += ["", "| argument | meaning |", "|---|---|"]
        for name, meaning in found:
            lines.append(f"| `{name}` | {escaped(' '.join(meaning.split()))} |")
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Return text of a docstring, whose code is marked, as it may stand in a cell of a table."""
    parts = re.split("(`[^`]*`)", text)
    return "".join(part if part[:1] == "`" else in_cell(part) for part in parts)


def commands() -> str:
    """Return the reference of the command line, in Markdown."""
    command = get_command(app)
    context = typer.Context(command, info_name="yellow-dynamic")
    return get_docs_for_click(
        obj=command, ctx=context, name="yellow-dynamic", title="The command yellow-dynamic"
    )


def configuration() -> str:
    """Return the reference of a stream's configuration, in Markdown."""
    rows = [
        f"| `{key}` | {kind(rule)} | {'yes' if rule['needed'] else 'no'} "
        f"| {in_cell(SCHEMA['properties'][key]['description'])} |"
        for key, rule in KEYS.items()
    ]
    return "\n".join(
        [
            "# The configuration of a stream",
            "",
            in_cell(SCHEMA["description"]),
            "",
            "`handleModelMerge` writes it; you change the model. Programs can check a row with the",
            "JSON Schema (2020-12) of this page, `yellow_dynamic/stream_config.schema.json`.",
            "",
            "| key | value | required | meaning |",
            "|---|---|---|---|",
            *rows,
        ]
    )


def kind(rule: Rule) -> str:
    """Return in words which values a key may have."""
    if "enum" in rule:
        words = " or ".join(f"`{json.dumps(value)}`" for value in rule["enum"])
    elif rule["type"] == "integer":
        words = f"whole number ({rule['minimum']} to {rule['maximum']})"
    else:
        words = in_cell(rule["title"])
        if "maxLength" in rule:
            words += f" (at most {rule['maxLength']} characters)"
        if "null" in rule["type"]:
            words += " or `null`"
    if "secretKeys" in rule:
        words += f"; its keys are {', '.join(f'`{key}`' for key in rule['secretKeys'].values())}"
    return words


def messages_page() -> str:
    """Return the reference of all messages, in Markdown."""
    notes = all_notes()
    lines = [
        "# Messages",
        "",
        f"What users are told, in the order of the sources. `{VALUE}` stands for a name, a number,",
        "or the words of another program: search for words that you see. Most say what to do; the",
        "second column has what they do not say.",
    ]
    seen: set[str] = set()
    for title, patterns in SECTIONS.items():
        found = [text for text in texts(patterns) if text not in seen]
        seen |= set(found)
        rows = [(f"`{shown(text)}`", note_of(text, notes)) for text in dict.fromkeys(found)]
        lines += ["", f"## {title}", "", *table(rows)]
    advice = [(f"{in_cell(text)}.", notes.get(cause.name, "")) for cause, text in ADVICE.items()]
    lines += [
        "",
        "## What the database refuses",
        "",
        "A message about the table ends with one of these.",
        "",
        *table(advice),
    ]
    return "\n".join(lines)


@functools.cache
def all_notes() -> dict[str, str]:
    """Return what messages do not say themselves, by a piece of each."""
    notes: dict[str, str] = yaml.safe_load(NOTES.read_text(encoding="utf-8"))
    return notes


def texts(patterns: tuple[str, ...]) -> Iterator[str]:
    """Yield the messages of some sources: those that can be told, and those that have a note."""
    for name, source in sources(patterns):
        find = errors if name.startswith(("command/", "monitoring/")) else messages
        told = [text for text in find(source) if is_telling(text)]
        every = set(all_texts(source)) - docstrings(source)
        for piece in all_notes():
            if not any(piece in text for text in told):
                # Of a text and its parts, the whole.
                told += sorted((text for text in every if piece in text), key=by_length)[-1:]
        yield from (" ".join(text.split()) for text in told)


def by_length(text: str) -> tuple[int, str]:
    return len(text), text


def docstrings(source: str) -> set[str]:
    parts = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, parts)]
    return {ast.get_docstring(node, clean=False) or "" for node in nodes}


def is_telling(text: str) -> bool:
    return len(re.findall(r"\w\w+", text.replace(VALUE, ""))) >= WORDS


def sources(patterns: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for pattern in patterns:
        for file in sorted(PACKAGE.glob(pattern)):
            yield file.relative_to(PACKAGE).as_posix(), file.read_text(encoding="utf-8")


def note_of(text: str, notes: dict[str, str]) -> str:
    """Return what a message does not say itself."""
    return " ".join(note for piece, note in notes.items() if note and piece in text)


def table(rows: list[tuple[str, str]]) -> list[str]:
    return ["| message | cause, or what to do |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)]


def shown(text: str) -> str:
    """Return a message as it may stand in a cell of a table, as code."""
    return text.replace("`", "").replace("|", "\\|")


def in_cell(text: str) -> str:
    """Return plain text as it may stand in Markdown, in a cell of a table too."""
    return text.replace("_", "\\_").replace("|", "\\|")


def page(name: str) -> str:
    """Return the text of a page."""
    return PAGES[name]().rstrip() + "\n"


#: What makes each page.
PAGES: dict[str, Callable[[], str]] = {
    "model.md": model,
    "configuration.md": configuration,
    "commands.md": commands,
    "messages.md": messages_page,
}


if __name__ == "__main__":
    for name in PAGES:
        (FOLDER / name).write_text(page(name), encoding="utf-8")
