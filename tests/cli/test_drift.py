"""`yellow-dynamic drift`: what was edited by hand since the last merge."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import Operator


def drifted(operator: Operator, *words: Any) -> dict[str, dict[str, Any]]:
    """Return the streams that drifted, by key."""
    result = operator("drift", *words, "--json")
    assert result.exit_code in (0, 2), result.output
    found = json.loads(result.stdout)
    [platform] = found["platforms"]
    assert platform["compared_with_model"] == ("--model" in words)
    assert found["drift"] == bool(platform["streams"]) == (result.exit_code == 2)
    return {each["stream_key"]: each for each in platform["streams"]}


def test_rows_as_the_merge_wrote_them_are_no_drift(merged: Operator) -> None:
    merged.on_dags("disable", "Store1")

    result = merged.on_model("drift")

    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "0 streams were edited by hand."
    assert drifted(merged, "--dags", merged.dags) == {}


def test_edit_that_keeps_the_writing_is_seen_against_the_model(merged: Operator) -> None:
    merged.site.sql(
        "UPDATE {table} SET config_json = replace(config_json, '* * * * *', '0 3 * * *') "
        "WHERE stream_key = 'Store1'"
    )

    store1 = drifted(merged, "--model", merged.model)["Store1"]

    assert store1["certain"] is False
    assert store1["keys"] == [
        {"key": "schedule_string", "action": "changed", "old": "* * * * *", "new": "0 3 * * *"}
    ]
    assert drifted(merged, "--dags", merged.dags) == {}
    assert "No model was given" in merged.on_dags("drift").stdout


def test_rows_inserted_and_deleted_by_hand_are_named(merged: Operator) -> None:
    merged.site.sql("UPDATE {table} SET stream_key = 'Mine' WHERE stream_key = 'Store1'")

    result = merged.on_model("drift")

    assert result.exit_code == 2
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert "stream Store1 was edited by hand:" in lines
    assert "its row is gone, deleted by hand" in lines
    assert "the model has no such stream; the row was inserted by hand" in lines
    assert lines[-1] == "2 streams were edited by hand."


@pytest.mark.parametrize(
    ("edit", "sign"),
    [
        ("config_json = config_json::jsonb::text", "not written as a merge writes it"),
        ("config_json = NULL", "not written as a merge writes it"),
        ("config_json = 'no JSON'", "not written as a merge writes it"),
        ("stream_key = 'Another'", "that of another stream"),
        ("config_json = replace(config_json, 'yellowlive', 'other')", "of another platform"),
        ("status = 'actve'", "'actve', neither active nor disabled"),
        ("status = NULL", "None, neither active nor disabled"),
        ("updated_at = NULL", "a time of it is missing"),
        ("updated_at = created_at - interval '1 s'", "changed before it was created"),
    ],
)
def test_what_no_merge_writes_is_certain_without_a_model(
    merged: Operator, edit: str, sign: str
) -> None:
    merged.site.sql(f"UPDATE {{table}} SET {edit} WHERE stream_key = 'Pair_a'")  # noqa: S608

    [found] = drifted(merged, "--dags", merged.dags).values()

    assert found["certain"] is True
    assert sign in " ".join(found["signs"])
    assert drifted(merged, "--model", merged.model)


def test_drift_is_undone_by_the_next_merge(merged: Operator) -> None:
    merged.edit("Store1", note="mine")
    assert merged.on_model("drift").exit_code == 2

    merged.merge()

    assert merged.on_model("drift").exit_code == 0
