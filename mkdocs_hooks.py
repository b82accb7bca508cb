"""Makes the pages of the documentation that follow from the sources, at each build.

`configuration.md` comes from the JSON Schema of a stream's configuration, `commands.md` from the
command itself. Neither is checked in, so neither can be out of date.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.cli import get_docs_for_click
from typer.main import get_command

from yellow_dynamic.command.app import app

Schema = dict[str, Any]


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
    source = resources.files("yellow_dynamic").joinpath("stream_config.schema.json")
    schema: Schema = json.loads(source.read_text("utf-8"))
    rows = [
        f"| `{key}` | {kind(entry, schema)} | {'yes' if key in schema['required'] else 'no'} "
        f"| {in_cell(entry['description'])} |"
        for key, entry in schema["properties"].items()
    ]
    return "\n".join(
        [
            "# The configuration of a stream",
            "",
            in_cell(schema["description"]),
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


def kind(entry: Schema, schema: Schema) -> str:
    """Return in words which values a property may have."""
    if "$ref" in entry:
        name = entry["$ref"].removeprefix("#/$defs/")
        words = {
            "text": "text",
            "kubernetesName": "name that Kubernetes takes",
            "environmentName": "start of a variable's name",
        }
        assert words.keys() == schema["$defs"].keys()
        return f"{words[name]}{limits(schema['$defs'][name])}"
    if "enum" in entry:
        return " or ".join(f"`{json.dumps(value)}`" for value in entry["enum"])
    if entry["type"] == "array":
        return f"list of {kind(entry['items'], schema)}, not empty"
    types = entry["type"] if isinstance(entry["type"], list) else [entry["type"]]
    words = {"string": "text", "boolean": "`true` or `false`", "integer": "whole number"}
    return " or ".join(words.get(each, f"`{each}`") for each in types) + limits(entry)


def limits(entry: Schema) -> str:
    """Return the limits of a number or a text, in brackets, if there are any."""
    if "maximum" in entry:
        return f" ({entry['minimum']} to {entry['maximum']})"
    return f" (at most {entry['maxLength']} characters)" if "maxLength" in entry else ""


def in_cell(text: str) -> str:
    """Return plain text as it may stand in Markdown, in a cell of a table too."""
    return text.replace("_", "\\_").replace("|", "\\|")
