"""The changes that the history of a table holds, key by key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from yellow_dynamic.history import Change
from yellow_dynamic.monitoring.rows import decode_config
from yellow_dynamic.monitoring.text import canonical_json


@dataclass
class KeyChange:
    """A key of a stream's configuration that is added, changed or removed."""

    key: str
    action: str
    old: Any
    new: Any


def compare_configs(old: str | None, new: str | None) -> list[KeyChange]:
    """Return the keys in which two texts of a configuration differ, in the keys' order.

    None is a row that does not exist.
    """
    before, after = decode_config(old), decode_config(new)
    changes = []
    for key in sorted(before.keys() | after.keys()):
        if key not in before or key not in after:
            action = "removed" if key in before else "added"
        elif canonical_json(before[key]) != canonical_json(after[key]):
            action = "changed"
        else:
            continue
        changes.append(KeyChange(key, action, before.get(key), after.get(key)))
    return changes


def changed_keys(change: Change) -> list[KeyChange]:
    """Return the changes of each key of the configuration, and of the status."""
    if change.action == "removed":
        return []
    keys = compare_configs(change.config_before, change.config_after)
    if change.action != "added" and change.status_before != change.status_after:
        keys.append(KeyChange("status", "changed", change.status_before, change.status_after))
    return keys


def change_as_json(change: Change) -> dict[str, Any]:
    """Return a change for JSON."""
    return {
        "revision": change.revision,
        "at": change.changed_at.isoformat(timespec="seconds"),
        "who": change.who,
        "how": change.how,
        "login": change.login,
        "application": change.application,
        "about": change.audit_metadata,
        "action": change.what,
        "stream_key": change.stream_key,
        "status": [change.status_before, change.status_after],
        "disabled_until": change.disabled_until,
        "keys": [vars(key) for key in changed_keys(change)],
    }
