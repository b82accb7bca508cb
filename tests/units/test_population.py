"""What differs between a table and a model, and what a merge refuses before it writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture

from yellow_dynamic import population
from yellow_dynamic.merge_store import ConfigColumn, config_table
from yellow_dynamic.population import (
    Guards,
    Population,
    StoredRow,
    compare_rows,
    printable_keys,
)

TABLE = "yellowlive_airflow_dsg"
ROWS = {"A": "{}"}
OLD = {"A": StoredRow("[]", "active", None)}
CONNECTION: Any = object()


@pytest.fixture
def history(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the table's history says."""
    said = {"readable": True, "revision": 7}

    def answer(name: str) -> Callable[[Any, str], Any]:
        def say(connection: Any, table: str) -> Any:
            assert (connection, table) == (CONNECTION, TABLE)
            return said[name]

        return say

    monkeypatch.setattr(population.history, "is_readable", answer("readable"))
    monkeypatch.setattr(population.history, "last_revision", answer("revision"))
    return said


def problems(plan: Path) -> list[str]:
    return population.plan_problems(CONNECTION, plan, "YellowLive", TABLE, OLD, ROWS)


def write_plan(folder: Path, **changes: Any) -> Path:
    file = folder / "plan.json"
    plan = {
        "platform": "YellowLive",
        "revision": 7,
        "table_digest": population.rows_digest(OLD),
        "rows_digest": population.rows_digest(ROWS),
    }
    file.write_text(json.dumps({"platforms": [{**plan, **changes}]}))
    return file


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "which cannot be read: No such file or directory"),
        ("no JSON", "which cannot be read: it is no plan"),
        ('{"platforms": []}', "is of none, and not of 'YellowLive'"),
        ('{"platforms": [{"platform": "Other"}]}', "it is no plan (KeyError)"),
        ("[]", "it is no plan (TypeError)"),
    ],
)
def test_file_that_is_no_plan_of_the_platform_is_refused(
    tmp_path: Path, text: str | None, reason: str
) -> None:
    plan = tmp_path / "plan.json"
    if text is not None:
        plan.write_text(text)

    [problem] = problems(plan)

    assert reason in problem
    assert repr(str(plan)) in problem
    assert "unset YELLOW_DYNAMIC_PLAN" in problem


def test_plan_of_these_rows_at_this_revision_is_carried_out(
    tmp_path: Path, history: dict[str, Any]
) -> None:
    assert problems(write_plan(tmp_path)) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"revision": 6}, "at revision 6 of table 'yellowlive_airflow_dsg', and the table is at"),
        ({"table_digest": "other"}, "at revision 7 of another table 'yellowlive_airflow_dsg'"),
        ({"rows_digest": "other"}, "are not those of the plan"),
    ],
)
def test_plan_of_something_else_is_refused(
    tmp_path: Path, history: dict[str, Any], changes: dict[str, Any], reason: str
) -> None:
    [problem] = problems(write_plan(tmp_path, **changes))

    assert reason in problem


def test_digest_of_rows_is_that_of_their_values_in_any_order() -> None:
    digest = population.rows_digest({"A": "1", "B": "2"})

    assert digest == population.rows_digest({"B": "2", "A": "1"})
    assert digest != population.rows_digest({"A": "1", "B": "3"})


def test_plan_needs_a_history(tmp_path: Path, history: dict[str, Any]) -> None:
    history["readable"] = False

    [problem] = problems(write_plan(tmp_path))

    assert f"Table '{TABLE}' has no history" in problem


def test_streams_are_added_changed_removed_or_unchanged() -> None:
    old = {"Same": "1", "Other": "1", "Gone": "1", "Empty": None}
    new = {"Other": "2", "New": "1", "Same": "1", "Empty": "1"}

    found = compare_rows(old, new)

    assert found == Population(["New"], ["Empty", "Other"], ["Gone"], ["Same"])
    assert str(found) == "1 added (New), 2 changed (Empty, Other), 1 removed (Gone), 1 unchanged"
    assert str(Population([], [], [], [])) == "0 added, 0 changed, 0 removed, 0 unchanged"


@pytest.mark.parametrize(("limit", "refused"), [(None, []), (4, []), (3, ["A"])])
def test_row_may_fill_its_column(
    mocker: MockerFixture, limit: int | None, refused: list[str]
) -> None:
    column = ConfigColumn("character varying", True, limit)
    find_column = mocker.patch.object(population, "find_config_column", return_value=column)
    table = config_table(TABLE)

    found = list(population.size_problems(CONNECTION, table, {"A": "1234", "B": "123"}))

    find_column.assert_called_once_with(CONNECTION, table)
    assert [text.partition("has")[0] for text in found] == [
        f"The configuration of stream {key!r} " for key in refused
    ]
    assert all(
        f"has 4 characters, and the column config_json of table {TABLE!r} holds 3" in text
        for text in found
    )


def test_first_ten_keys_are_printed_and_none_forges_a_line() -> None:
    assert printable_keys([]) == ""
    assert printable_keys(["a\nb", "\u00fc"]) == " ('a\\nb', \u00fc)"
    assert printable_keys(list("abcdefghij")) == " (a, b, c, d, e, f, g, h, i, j)"
    assert printable_keys(list("abcdefghijk")) == " (a, b, c, d, e, f, g, h, i, j, ...)"


@pytest.mark.parametrize(
    ("status", "until", "now"),
    [
        ("active", None, "active"),
        ("disabled", None, "disabled"),
        ("disabled", "2999-01-01T00:00:00", "disabled"),
        ("disabled", "2020-01-01T00:00:00", "active"),
        ("paused", None, "paused"),
        (None, None, None),
    ],
)
def test_status_of_a_row_is_active_again_when_its_time_is_over(
    status: str | None, until: str | None, now: str | None
) -> None:
    assert StoredRow("{}", status, until).status_now == now


def guarded(removed: int, kept: int = 0, added: int = 0, **guards: Any) -> list[str]:
    keys = [f"S{number}" for number in range(removed + kept + added)]
    population = Population(
        keys[:added], keys[added : added + 1 if kept else added], keys[kept + added :],
        keys[added + 1 : added + kept],
    )  # fmt: skip
    limits = Guards(**{"allow_empty": False, "max_removed": 0.25} | guards)
    return list(limits.problems("YellowLive", TABLE, population))


@pytest.mark.parametrize(
    ("counts", "refused"),
    [
        ({"removed": 0}, None),
        ({"removed": 0, "kept": 3}, None),
        ({"removed": 1}, "leaves platform 'YellowLive' without a stream"),
        ({"removed": 1, "allow_empty": True}, None),
        ({"removed": 9, "allow_empty": True}, None),
        ({"removed": 1, "added": 1}, None),
        ({"removed": 5, "kept": 1}, None),
        ({"removed": 6, "kept": 1}, "remove 6 of the 7 streams"),
        ({"removed": 6, "added": 1}, "remove 6 of the 6 streams"),
        ({"removed": 10, "kept": 30}, None),
        ({"removed": 11, "kept": 30}, "more than the 10 that it may remove at once (S30, "),
        ({"removed": 11, "kept": 30, "max_removed": 0.5}, None),
    ],
)
def test_merge_may_remove_five_streams_or_its_share_but_not_the_last(
    counts: dict[str, Any], refused: str | None
) -> None:
    found = guarded(**counts)

    assert [refused in text for text in found] == [True] if refused else found == []
    assert all(
        f"from the table {TABLE!r}" in text or f"table {TABLE!r} has" in text for text in found
    )


def test_removals_are_allowed_by_their_exact_number(monkeypatch: pytest.MonkeyPatch) -> None:
    [problem] = guarded(11, 30)
    assert "set YELLOW_DYNAMIC_ALLOW_REMOVALS=11 for this one merge" in problem

    monkeypatch.setenv("YELLOW_DYNAMIC_ALLOW_REMOVALS", "11")
    assert guarded(11, 30) == []
    assert len(guarded(12, 30)) == 1


def test_rollback_may_remove_what_a_merge_may() -> None:
    removed = Population([], [], [f"S{number}" for number in range(6)], [])

    [problem] = Guards(allow_empty=False).problems("YellowLive", TABLE, removed, "rollback")
    assert "leaves platform" in problem
    removed.unchanged.append("Kept")
    [problem] = Guards().problems("YellowLive", TABLE, removed, "rollback")

    assert "The rollback would remove 6 of the 7 streams" in problem
    assert "set YELLOW_DYNAMIC_ALLOW_REMOVALS=6 for this one rollback" in problem
