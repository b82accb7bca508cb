"""`yellow-dynamic rollback`: back to the rows of an earlier revision, as a new one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from recorded import changes, unrecorded

from .conftest import TWO_STORES, Operator


@pytest.fixture
def changed(merged: Operator) -> Operator:
    """Revision 1 has Pair_a, Pair_b and Store1; revision 2 Store1 with another trigger, and New."""
    merged.write_model("[Store('Store1', trigger=None), Store('New')]")
    merged.merge()
    return merged


def configs(operator: Operator) -> dict[str, Any]:
    return {key: row[1] for key, row in operator.rows().items()}


def test_rows_are_those_of_the_revision_and_on_record_as_a_new_one(changed: Operator) -> None:
    changed.on_dags("disable", "Store1")

    result = changed.on_dags("rollback", 1, "--yes")

    assert result.exit_code == 0, result.output
    assert "Plan: 2 added (Pair_a, Pair_b), 1 changed (Store1), 1 removed (New), 0 unchanged." in (
        result.stdout
    )
    assert "Platform YellowLive is back at revision 1" in result.stdout
    assert "The next merge of an unchanged model undoes this." in result.stdout
    recorded = [each for each in changes(changed.site) if each["revision"] == 4]
    first = {
        each["stream_key"]: each["config_after"]
        for each in changes(changed.site)
        if each["revision"] == 1
    }
    assert configs(changed) == first
    assert {each["command"] for each in recorded} == {"rollback"}
    assert json.loads(recorded[0]["about"])["to_revision"] == 1
    assert unrecorded(changed.site) == {}
    # What an operator switched off stays off.
    assert changed.rows()["Store1"][2] == "disabled"


def test_next_merge_of_the_model_undoes_it(changed: Operator) -> None:
    before = configs(changed)
    changed.on_dags("rollback", 1, "--yes")

    changed.merge()

    assert configs(changed) == before


def test_one_stream_goes_back_alone(changed: Operator) -> None:
    before = configs(changed)

    result = changed.on_dags("rollback", 1, "--stream", "Pair_a", "--yes")

    assert result.exit_code == 0, result.output
    assert configs(changed) == before | {"Pair_a": configs(changed)["Pair_a"]}
    result = changed.on_dags("rollback", 1, "--stream", "New", "--yes")
    assert result.exit_code == 0, result.output
    assert "New" not in configs(changed)


def test_commits_of_the_model_are_named(changed: Operator) -> None:
    about = '{"command": "merge", "commit": "%s"}'
    for revision, commit in ((1, "aaaa"), (2, "bbbb")):
        changed.site.sql("ALTER TABLE {table}_history DISABLE TRIGGER USER")
        changed.site.sql(
            "UPDATE {table}_history SET about = %s WHERE revision = %s",
            (about % commit, revision),
        )

    text = changed.on_dags("rollback", 1, "--yes").stdout

    assert "Bring the model back to commit aaaa: git revert bbbb." in " ".join(text.split())


def refusal(operator: Operator, *words: Any) -> str:
    before = operator.rows()
    result = operator.on_dags("rollback", *words)
    assert result.exit_code == 1, result.output
    assert operator.rows() == before
    return str(result.stderr)


def test_without_an_answer_nothing_is_changed(changed: Operator) -> None:
    error = refusal(changed, 1)

    assert "Go back to revision 1? There is nobody to ask here; give --yes for yes." in error


def test_revision_that_is_not_on_record_is_refused(changed: Operator) -> None:
    assert "revisions 1 to 2 on record, and not those of 3" in refusal(changed, 3, "--yes")
    assert "has no stream 'Nope' now, and had none at revision 1" in refusal(
        changed, 1, "--stream", "Nope", "--yes"
    )


def test_rows_that_the_factory_would_refuse_are_refused(merged: Operator) -> None:
    merged.edit("Store1", schedule_string="every day")
    merged.merge()

    error = refusal(merged, 2, "--yes")

    assert "Platform 'YellowLive' cannot go back to revision 2" in error
    assert "'every day' is not a cron expression" in error


def test_revision_without_streams_is_refused(merged: Operator) -> None:
    merged.site.sql("DELETE FROM {table}")
    merged.merge()

    assert "revision 2 has no stream" in refusal(merged, 2, "--yes")


def test_rows_as_they_are_need_no_answer(changed: Operator) -> None:
    result = changed.on_dags("rollback", 2)

    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == "The rows are those of revision 2 already."
    assert len({each["revision"] for each in changes(changed.site)}) == 2


def test_change_in_the_meantime_is_not_rolled_back_unseen(
    changed: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(question: str, yes: bool) -> None:
        changed.site.sql("UPDATE {table} SET status = 'disabled'")

    monkeypatch.setattr("yellow_dynamic.command.app.confirm", meanwhile)

    result = changed.on_dags("rollback", 1, "--yes")

    assert result.exit_code == 1
    assert "was changed meanwhile, from revision 2 to 3" in result.stderr
    assert set(configs(changed)) == {"Store1", "New"}


def test_answer_for_programs_is_json_alone(changed: Operator) -> None:
    found = json.loads(changed.on_dags("rollback", 1, "--yes", "--json").stdout)

    assert (found["to_revision"], found["changes"]) == (1, True)
    assert changed.write_model(TWO_STORES)


def test_rollback_removes_no_more_than_a_merge_may(
    merged: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged.write_model("[Store(f'S{n:02}') for n in range(12)]")
    merged.merge()
    merged.site.model.platformArguments = {"maxRemoved": 1.0}

    said = refusal(merged, 1, "--yes")

    assert "The rollback would remove 12 of the 12 streams of platform 'YellowLive'" in said
    assert "set YELLOW_DYNAMIC_ALLOW_REMOVALS=12 for this one rollback" in said
    monkeypatch.setenv("YELLOW_DYNAMIC_ALLOW_REMOVALS", "12")
    assert merged.on_dags("rollback", 1, "--yes").exit_code == 0
    assert set(merged.rows()) == {"Pair_a", "Pair_b", "Store1"}


def test_share_of_the_model_counts_for_a_rollback_with_the_model(merged: Operator) -> None:
    merged.site.model.platformArguments = {"maxRemoved": 1.0}
    merged.write_model("[Store(f'S{n:02}') for n in range(12)]")
    merged.merge()

    result = merged.on_model("rollback", 1, "--yes")

    assert result.exit_code == 0, result.output
    assert set(merged.rows()) == {"Pair_a", "Pair_b", "Store1"}


def test_row_that_is_none_does_not_keep_another_stream_from_going_back(changed: Operator) -> None:
    changed.site.insert("Mine", None)

    result = changed.on_dags("rollback", 1, "--stream", "Pair_a", "--yes")

    assert result.exit_code == 0, result.output
    assert set(configs(changed)) == {"Mine", "New", "Pair_a", "Store1"}
