"""Rows that were edited by hand since the last merge."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from yellow_dynamic._installation import Installation
from yellow_dynamic._plan import KeyChange, compare_configs
from yellow_dynamic._streams import ACTIVE, DISABLED, StreamRow


@dataclass
class StreamDrift:
    """How one row differs from what a merge wrote.

    Attributes:
        certain: whether the row itself shows that no merge wrote it so.
        signs: what shows it.
        keys: the keys in which the row (`new`) differs from the model (`old`).
    """

    stream_key: str
    certain: bool
    signs: list[str]
    keys: list[KeyChange] = field(default_factory=list)


def find_drift(
    installation: Installation, rows: list[StreamRow], model: dict[str, str] | None
) -> list[StreamDrift]:
    """Return the streams whose rows drifted, in the order of their keys.

    Args:
        installation: the platform.
        rows: the rows of its table.
        model: config_json by stream key as the merge of the last model wrote it; None where no
            model is given.
    """
    found = []
    for row in rows:
        signs = list(signs_of_hand(installation, row))
        certain = bool(signs)
        keys: list[KeyChange] = []
        if model is not None and row.stream_key not in model:
            signs.append("the model has no such stream; the row was inserted by hand")
        elif model is not None:
            keys = compare_configs(model[row.stream_key], row.config_json)
        if signs or keys:
            found.append(StreamDrift(row.stream_key, certain, signs, keys))
    gone = (model or {}).keys() - {row.stream_key for row in rows}
    found += [StreamDrift(key, False, ["its row is gone, deleted by hand"]) for key in gone]
    return sorted(found, key=lambda drift: drift.stream_key)


def signs_of_hand(installation: Installation, row: StreamRow) -> Iterator[str]:
    """Yield what no merge ever writes."""
    if row.config_json is None or row.config_json != json.dumps(row.config, sort_keys=True):
        yield "its config_json is not written as a merge writes it, keys in order"
    if row.config.get("stream_key") != row.stream_key:
        yield "its config_json is that of another stream"
    if row.config.get("platform_name") != installation.airflow_name:
        yield "its config_json is that of another platform"
    if row.status not in (ACTIVE, DISABLED):
        yield f"its status is {row.status!r}, neither active nor disabled"
    if row.created_at is None or row.updated_at is None:
        yield "a time of it is missing"
    elif row.updated_at < row.created_at:
        yield "it was changed before it was created"
