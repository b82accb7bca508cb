"""What a row may hold, and what ids, keys and revisions are made of it."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Any

import pytest
from units.conftest import config

from yellow_dynamic.factory import rules
from yellow_dynamic.factory.rules import (
    compute_revision,
    get_batch_key,
    is_disabled,
    overlay_config,
    value_problems,
)


class Clock(datetime):
    """Stands at 2026-01-02, 03:04:05 UTC."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:
        assert tz is UTC
        return cls(2026, 1, 2, 3, 4, 5, tzinfo=tz)


@pytest.mark.parametrize(
    ("until", "disabled"),
    [
        ("2026-01-02T03:04:04", False),
        ("2026-01-02T03:04:05", False),
        ("2026-01-02T03:04:06", True),
        ("2026-01-02T03:05:00", True),
        ("2026-01-01T23:59:59", False),
        ("infinity", True),
    ],
)
def test_stream_is_disabled_up_to_the_second(
    monkeypatch: pytest.MonkeyPatch, until: str, disabled: bool
) -> None:
    monkeypatch.setattr(rules, "datetime", Clock)

    assert is_disabled("disabled", until) is disabled


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({}, "Store1"),
        ({"single_dataset": True, "dataset_name": "people"}, "Store1#people"),
        ({"ingestion_type": "transformer"}, None),
    ],
)
def test_batches_are_those_of_a_store_or_of_a_dataset(
    changes: dict[str, Any], key: str | None
) -> None:
    assert get_batch_key(config("Store1", **changes)) == key


def test_revision_is_the_start_of_the_digest_of_the_text() -> None:
    assert compute_revision("{}") == "44136fa355b3"
    assert compute_revision(None) == compute_revision("") == "e3b0c44298fc"


def test_row_overlays_its_platform_and_that_the_defaults() -> None:
    settings = {"a": "platform", "b": "platform"}

    assert overlay_config(settings, {"b": "row"}) == {
        "schedule_string": "@hourly", "a": "platform", "b": "row",
    }  # fmt: skip
    assert overlay_config({"schedule_string": "@daily"}, {}) == {"schedule_string": "@daily"}


@pytest.mark.parametrize(
    ("schedule", "problem"),
    [
        ("every day", "schedule_string 'every day' is not a cron expression: "),
        ("@hourly\n", "schedule_string holds a character that cannot be printed: "),
    ],
)
def test_problem_of_a_schedule_names_its_key(schedule: str, problem: str) -> None:
    [found] = value_problems({"schedule_string": schedule})

    assert found.startswith(problem)
