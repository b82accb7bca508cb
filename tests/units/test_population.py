"""What a merge refuses before it writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from yellow_dynamic import population

TABLE = "yellowlive_airflow_dsg"
ROWS = {"A": "{}"}
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
    return population.plan_problems(CONNECTION, plan, "YellowLive", TABLE, ROWS)


def write_plan(folder: Path, **changes: Any) -> Path:
    file = folder / "plan.json"
    plan = {"platform": "YellowLive", "revision": 7, "rows_digest": population.rows_digest(ROWS)}
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
