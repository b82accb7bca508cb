"""`yellow-dynamic drift`: what was edited by hand since the last merge, by whom and when."""

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
    assert found["drift"] == bool(platform["streams"]) == (result.exit_code == 2)
    return {each["stream_key"]: each for each in platform["streams"]}


def test_rows_as_the_merge_wrote_them_are_no_drift(merged: Operator) -> None:
    merged.on_dags("disable", "Store1")
    merged.site.sql("UPDATE {table} SET status = 'disabled' WHERE stream_key = 'Pair_a'")

    result = merged.on_model("drift")

    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "0 streams were edited by hand."
    assert drifted(merged, "--dags", merged.dags) == {}


def test_edit_is_shown_with_who_and_when_and_what(merged: Operator) -> None:
    role = merged.site.create_role("night_shift", "a-password-2")
    merged.site.sql(f"GRANT SELECT, UPDATE ON {{table}} TO {role}")
    with merged.site.postgres.connect(merged.site.database, role, "a-password-2") as connection:
        connection.cursor().execute(
            "SET application_name = 'psql'; UPDATE yellowlive_airflow_dsg SET config_json = "
            "replace(config_json, '* * * * *', '0 3 * * *') WHERE stream_key = 'Store1'"
        )
        connection.commit()
    merged.edit("Store1", note="mine")

    result = merged.on_dags("drift")

    assert result.exit_code == 2
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert lines[1] == "~ stream Store1 was changed by hand:"
    assert lines[2].endswith(f" UTC, revision 3: {merged.site.postgres.user}, by hand")
    assert lines[3].endswith(f" UTC, revision 2: {role}, psql")
    assert '~ schedule_string: "* * * * *" -> "0 3 * * *"' in lines
    assert '+ note = "mine"' in lines
    [edit, _] = drifted(merged, "--model", merged.model)["Store1"]["edits"]
    assert (edit["revision"], edit["action"]) == (3, "changed")


def test_of_many_edits_of_a_row_the_newest_are_listed(merged: Operator) -> None:
    for number in range(12):
        merged.edit("Store1", note=number)

    result = merged.on_dags("drift")
    stream = drifted(merged, "--dags", merged.dags)["Store1"]

    lines = [line.strip() for line in result.stdout.splitlines()]
    assert [edit["revision"] for edit in stream["edits"]] == [13, 12, 11, 10, 9]
    assert stream["more_edits"] == 7 and "and 7 older edits" in lines
    assert "+ note = 11" in lines


def test_rows_inserted_and_deleted_by_hand_are_named(merged: Operator) -> None:
    merged.site.sql("UPDATE {table} SET stream_key = 'Mine' WHERE stream_key = 'Store1'")

    result = merged.on_model("drift")

    assert result.exit_code == 2
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert "- stream Store1 was removed by hand:" in lines
    assert "+ stream Mine was added by hand:" in lines
    assert lines[-1] == "2 streams were edited by hand."


@pytest.mark.parametrize(
    "edit",
    [
        "config_json = config_json::jsonb::text",
        "config_json = NULL",
        "config_json = 'no JSON'",
        "stream_key = 'Another'",
    ],
)
def test_edit_of_any_kind_is_seen(merged: Operator, edit: str) -> None:
    merged.site.sql(f"UPDATE {{table}} SET {edit} WHERE stream_key = 'Pair_a'")  # noqa: S608

    assert "Pair_a" in drifted(merged, "--dags", merged.dags)
    assert "Pair_a" in drifted(merged, "--model", merged.model)


def test_edit_that_was_undone_is_no_drift(merged: Operator) -> None:
    merged.site.sql(
        "UPDATE {table} SET config_json = config_json || ' ' WHERE stream_key = 'Pair_a'"
    )
    merged.site.sql("UPDATE {table} SET config_json = rtrim(config_json)")

    assert drifted(merged, "--dags", merged.dags) == {}


def test_edit_that_the_model_says_by_now_is_no_drift_against_it(merged: Operator) -> None:
    by_hand = merged.rows()["Store1"][1]
    merged.write_model("[Store('Pair', ['a', 'b'], SINGLE)]")
    merged.merge()
    merged.site.insert("Store1", by_hand)
    merged.write_model("[Store('Store1'), Store('Pair', ['a', 'b'], SINGLE)]")
    merged.merge()

    assert "Store1" in drifted(merged, "--dags", merged.dags)
    assert drifted(merged, "--model", merged.model) == {}


def test_drift_is_undone_by_the_next_merge(merged: Operator) -> None:
    merged.edit("Store1", note="mine")
    assert merged.on_model("drift").exit_code == 2

    merged.merge()

    assert merged.on_model("drift").exit_code == 0


def test_table_without_a_history_is_named_with_what_to_do(merged: Operator) -> None:
    merged.site.sql("DROP TABLE {table}_history")

    result = merged.on_dags("drift")

    assert result.exit_code == 1
    assert "Table 'yellowlive_airflow_dsg' has no history that this role may read" in result.stderr
    assert "generatePlatformBootstrap with --ringLevel 1" in result.stderr


def test_edit_that_no_trigger_saw_is_drift_all_the_same(merged: Operator) -> None:
    merged.edit("Store1", note="recorded")
    merged.site.sql(
        "SET session_replication_role = replica; UPDATE {table} SET config_json = "
        "(config_json::jsonb || '{{\"owner\": \"me\"}}')::text WHERE stream_key <> 'Pair_b'"
    )

    result = merged.on_dags("drift")

    assert result.exit_code == 2
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert lines.count("while the triggers of the table were off; this is not on record") == 2
    assert lines.count('+ owner = "me"') == 2
    assert '+ note = "recorded"' in lines
    found = drifted(merged, "--dags", merged.dags)
    assert {key: (len(each["edits"]), each["unrecorded"]) for key, each in found.items()} == {
        "Pair_a": (0, True),
        "Store1": (1, True),
    }


def test_check_names_the_rows_that_no_trigger_saw(merged: Operator) -> None:
    merged.site.sql(
        "SET session_replication_role = replica; DELETE FROM {table} WHERE stream_key = 'Store1'"
    )

    result = merged.on_dags("check", "--python", f"{merged.python} -I -S")

    [line] = [each for each in result.stdout.splitlines() if "changes are on record" in each]
    assert "changed while its triggers were off: Store1. Ring 1 records this" in line
    merged.merge()
    result = merged.on_dags("check", "--python", f"{merged.python} -I -S")
    [line] = [each for each in result.stdout.splitlines() if "changes are on record" in each]
    assert "by the database itself" in line
