"""What a merge would change, and what was changed by hand since the last one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from datasurface.md import ValidationTree
from datasurface.md.credential import CredentialNotAvailableException
from yellow_dynamic._errors import CommandError
from yellow_dynamic._installation import ModelPlatform, refuse_errors
from yellow_dynamic.plugin import Population, compare_with_table, merge_store_transaction


@dataclass
class KeyChange:
    """A key of a stream's configuration that is added, changed or removed."""

    key: str
    action: str
    old: Any
    new: Any


@dataclass
class StreamChange:
    """A stream that is added, changed or removed."""

    stream_key: str
    action: str
    status: str | None
    keys: list[KeyChange]


@dataclass
class Plan:
    """What handleModelMerge would do to the table of one platform."""

    platform: str
    table: str
    streams: list[StreamChange]
    population: Population


def plan_merge(model: ModelPlatform) -> Plan:
    """Return what a merge of the model would change now, by the merge's own code.

    Raises:
        CommandError: the merge would be refused; the problems are on standard error.
        sqlalchemy.exc.SQLAlchemyError: the table cannot be read.
    """
    platform = model.platform
    refused = f"handleModelMerge would refuse platform {platform.name!r}; see above."
    tree = ValidationTree(model.eco)
    rows = model.rows(tree)
    refuse_errors(tree, refused)
    try:
        with merge_store_transaction(platform, "read") as connection:
            old, population = compare_with_table(connection, platform, rows, tree)
    except CredentialNotAvailableException as error:
        raise CommandError(
            f"Platform {platform.name!r}: {error}. Set its environment variables, as for "
            "handleModelMerge."
        ) from None
    refuse_errors(tree, refused)
    streams = [
        StreamChange(
            key,
            action,
            old[key].status if key in old else "active",
            compare_configs(old[key].config_json if key in old else None, rows.get(key)),
        )
        for action in ("added", "changed", "removed")
        for key in getattr(population, action)
    ]
    return Plan(platform.name, platform.getPhysDAGTableName(), streams, population)


def compare_configs(old: str | None, new: str | None) -> list[KeyChange]:
    """Return the keys in which two texts of a configuration differ, in the keys' order.

    A text that is no JSON object is one value under the key `config_json`. None is a row that is
    not there.
    """
    before, after = as_object(old), as_object(new)
    changes = []
    for key in sorted(before.keys() | after.keys()):
        if key not in before or key not in after:
            action = "removed" if key in before else "added"
        elif as_json(before[key]) != as_json(after[key]):
            action = "changed"
        else:
            continue
        changes.append(KeyChange(key, action, before.get(key), after.get(key)))
    return changes


def as_object(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text) if text is not None else {}
    except (ValueError, RecursionError):
        value = text
    return value if isinstance(value, dict) else {"config_json": value}


def as_json(value: Any) -> str:
    """Return a text that is equal for equal JSON values only: in Python, true is 1."""
    return json.dumps(value, sort_keys=True)
