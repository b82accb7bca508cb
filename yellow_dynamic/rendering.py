"""Renders templates, and the DAG files from the modules of `yellow_dynamic.factory`."""

from __future__ import annotations

import functools
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from sqlalchemy.dialects import postgresql

from yellow_dynamic import __version__
from yellow_dynamic.factory.constants import JOB_CONTAINER, MODEL_VOLUME
from yellow_dynamic.factory.keys import KEYS
from yellow_dynamic.factory.secrets import escape_dollar
from yellow_dynamic.joining import FACTORY_MODULES, INFRASTRUCTURE_MODULES, join_modules

#: The setting of a platform that lets its DAG files import this package.
FROM_PACKAGE = "factory_from_package"
LONGEST_LITERAL = 95


def render_factory(settings: dict[str, Any]) -> str:
    """Return the text of the factory file of a platform with these settings."""
    return render(
        "yellow_platform_factory_dag.py.j2",
        {
            "installed": settings.get(FROM_PACKAGE, False),
            "joined": join_modules(FACTORY_MODULES),
            "platform_literal": python_literal(dict(sorted(settings.items()))),
            "keys_literal": python_literal(KEYS),
        },
    )


def render_infrastructure(settings: dict[str, Any], values: dict[str, Any]) -> str:
    """Return the text of the file of an infrastructure DAG.

    Args:
        settings: the literal of the file.
        values: what its template says.
    """
    return render(
        "infrastructure_dag.py.j2",
        {
            **values,
            "joined": join_modules(INFRASTRUCTURE_MODULES),
            "literal": python_literal(settings),
        },
    )


def render(template: str, values: dict[str, Any]) -> str:
    """Return the text that a template gives with these values."""
    return template_environment().get_template(template).render(values)


@functools.cache
def template_environment() -> Environment:
    """Return the environment of this package's templates, which keeps what it has compiled."""
    environment = Environment(
        loader=PackageLoader("yellow_dynamic", "templates"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
        trim_blocks=True,
    )
    environment.filters |= {
        "yaml": yaml_text,
        "sql": sql_identifier,
        "escape_dollar": escape_dollar,
    }
    environment.globals |= {
        "job_container": JOB_CONTAINER,
        "model_volume": MODEL_VOLUME,
        "version": __version__,
    }
    return environment


def python_literal(value: Any, indent: int = 0, key_length: int = 0) -> str:
    """Return a dict of texts, numbers, booleans, lists and such dicts as Python source.

    The outermost has one key a line, and so have dicts and lists within that would make a long
    line. `ascii` quotes every value, so none of them can become code.
    """
    plain = ascii(value)
    inner = indent + 4
    if isinstance(value, dict):
        opening, closing = "{", "}"
        parts = [
            f"{key!a}: {python_literal(part, inner, len(ascii(key)) + 2)}"
            for key, part in value.items()
        ]
    elif isinstance(value, list):
        opening, closing = "[", "]"
        parts = [python_literal(part, inner) for part in value]
    else:
        return plain
    if indent and indent + key_length + len(plain) < LONGEST_LITERAL:
        return plain
    lines = "".join(f"{' ' * inner}{part},\n" for part in parts)
    return f"{opening}\n{lines}{' ' * indent}{closing}"


@functools.lru_cache(maxsize=1024)
def yaml_text(value: str) -> str:
    """Return a text as YAML in one line, quoted, so that it can be nothing but this text."""
    return yaml.safe_dump(value, default_style='"', width=float("inf")).rstrip("\n")


def sql_identifier(name: str) -> str:
    """Return a name as a quoted identifier of PostgreSQL."""
    return postgresql.dialect().identifier_preparer.quote_identifier(name)
