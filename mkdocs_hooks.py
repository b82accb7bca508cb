"""Makes the pages of the documentation that follow from the sources, at each build.

`configuration.md` comes from the JSON Schema of a stream's configuration, `commands.md` from the
command itself. Neither is checked in, so neither can be out of date.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.cli import get_docs_for_click
from typer.main import get_command

from yellow_dynamic.command.app import app
from yellow_dynamic.contract import KEYS, SCHEMA

Rule = dict[str, Any]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and put pages that the navigation does not name at its end."""
    for name, text in (("configuration.md", configuration()), ("commands.md", commands())):
        files.append(File.generated(config, name, content=text))
    nav: list[Any] = list(config.nav or [])
    pages = {file.src_uri for file in files.documentation_pages()}
    others = sorted(pages - set(named_pages(nav)))
    config.nav = [*nav, {"More": others}] if others else nav
    return files


def named_pages(nav: Any) -> Iterator[str]:
    """Yield the pages that a navigation names."""
    if isinstance(nav, str):
        yield nav
    else:
        for entry in nav.values() if isinstance(nav, dict) else nav:
            yield from named_pages(entry)


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
            "`handleModelMerge` writes this; you change the model. The page is made from "
            "`yellow_dynamic/stream_config.schema.json`, a JSON Schema (2020-12) that programs can "
            "check a row with.",
            "",
            "| key | value | required | meaning |",
            "|---|---|---|---|",
            *rows,
            "",
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


def in_cell(text: str) -> str:
    """Return plain text as it may stand in Markdown, in a cell of a table too."""
    return text.replace("_", "\\_").replace("|", "\\|")
