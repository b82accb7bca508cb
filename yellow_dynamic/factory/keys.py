"""The rule of each key of a row; a self-contained factory file has them as the literal KEYS."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

UNUSED = {"$ref", "description", "minLength", "minItems"}


def resolve_rules(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the rule of each key of a configuration, in the words of JSON Schema.

    References are resolved, and `needed` says whether a row must have the key. What describes a
    rule, or is so for every text and list, is left out: all factory files have the rest.
    """

    def resolve(rule: dict[str, Any]) -> dict[str, Any]:
        definition = rule.get("$ref", "").rpartition("/")[2]
        whole = {**(resolve(schema["$defs"][definition]) if definition else {}), **rule}
        for word in ("items", "additionalProperties"):
            if isinstance(whole.get(word), dict):
                whole[word] = resolve(whole[word])
        if "properties" in whole:
            whole["properties"] = {
                name: resolve(part) for name, part in whole["properties"].items()
            }
        return {
            word: value
            for word, value in whole.items()
            if word not in UNUSED and (word, value) != ("format", "printable")
        }

    return {
        key: {**resolve(rule), "needed": key in schema["required"]}
        for key, rule in schema["properties"].items()
    }


#: The contract of a row.
SCHEMA: dict[str, Any] = json.loads(
    resources.files("yellow_dynamic").joinpath("stream_config.schema.json").read_text("utf-8")
)
KEYS = resolve_rules(SCHEMA)
