"""What a row may hold, and what ids, keys and revisions are made of it."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Any

import pytest
from units.conftest import config

from yellow_dynamic.factory import rules
from yellow_dynamic.factory.rules import (
    compute_revision,
    dag_id_problem,
    get_batch_key,
    is_disabled,
    overlay_config,
    parse_failure,
    size_problem,
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
        ("-infinity", False),
        ("10000-01-01T00:00:00", True),
        ("294276-12-31T00:00:00", True),
        ("0044-03-15T00:00:00 BC", False),
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


@pytest.mark.parametrize(
    ("key", "least", "most"), [("postgres_port", 1, 65535), ("retries", 0, 100)]
)
def test_number_may_be_the_least_and_the_most(key: str, least: int, most: int) -> None:
    assert not any(value_problems({key: least})) and not any(value_problems({key: most}))
    for value in (least - 1, most + 1, True, str(most)):
        assert list(value_problems({key: value})) == [
            f"{key} is {value!r}, not a whole number from {least} to {most}"
        ]


def test_text_may_have_as_many_characters_as_kubernetes_allows() -> None:
    assert not any(value_problems({"namespace_name": "n" * 63}))
    [problem] = value_problems({"namespace_name": "n" * 64})
    assert problem.endswith("has 64 characters, more than 63")


def test_id_of_a_dag_may_have_as_many_characters_as_airflow_allows() -> None:
    assert dag_id_problem("d" * 250) is None
    assert "Airflow refuses the dag id" in str(dag_id_problem("d" * 251))


def test_configuration_may_have_a_million_characters() -> None:
    assert size_problem("x" * 1_000_000) is None
    assert size_problem("x" * 1_000_001) == (
        "its config_json has 1000001 characters, more than 1000000"
    )


def across_keys(key: str = "Store1", name: str = "yellowlive", **changes: Any) -> list[str]:
    """Return the problems of a row that are not those of one value, without what its kind needs."""
    settings = {**dict.fromkeys(rules.NEEDED, ""), **config(key), **changes}
    for changed in changes:
        if changes[changed] is ABSENT:
            del settings[changed]
    return list(rules.problems_across_keys(key, "active", settings, name))


ABSENT = object()
CACHE = {"git_cache_enabled": True, "ecosystem_k8s_name": "e", "git_cache_max_age_minutes": 5}
WORK = {"ingestion_type": "transformer", "workspace_name": "W", "dataset_name": None}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"platform_name": ABSENT}, None),
        ({"stream_key": ABSENT}, "its config_json lacks stream_key"),
        ({"stream_key": "Other"}, "its config_json is that of stream 'Other'"),
        ({"platform_name": "other"}, "it belongs to platform 'other'"),
        (
            {"name": "a b", "platform_name": "a b"},
            "Airflow refuses the dag id 'a b__Store1_ingestion'; at most",
        ),
        (CACHE, None),
        ({**CACHE, "git_cache_enabled": False, "ecosystem_k8s_name": ABSENT}, None),
        (
            {**CACHE, "ecosystem_k8s_name": ABSENT},
            "git_cache_enabled is true, but ecosystem_k8s_name is not given",
        ),
        (
            {**CACHE, "git_cache_max_age_minutes": ABSENT},
            "git_cache_enabled is true, but git_cache_max_age_minutes is not given",
        ),
        ({**WORK, "key": "W_datatransformer"}, None),
        (WORK, "it is of a transformer, but its key does not end in _datatransformer"),
        (
            {**WORK, "key": "W_datatransformer", "workspace_name": None},
            "its ingestion_type is transformer, but workspace_name is not given",
        ),
        ({"started_by": ["A"]}, "it has both a schedule_string and started_by"),
        ({"started_by": ["A"], "schedule_string": None}, None),
        (
            {"single_dataset": True, "dataset_name": "x"},
            "single_dataset is true, but dataset_name does not name one of its datasets",
        ),
    ],
)
def test_keys_of_a_row_fit_each_other(changes: dict[str, Any], problem: str | None) -> None:
    found = across_keys(**{"platform_name": "yellowlive", **changes})

    assert [text.startswith(problem) for text in found] == [True] if problem else found == []


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("The job reported an error: no.", "The job reported an error: no."),
        ("s3://bucket/xcom/yellowlive__Store1_ingestion/manual__1/snapshot_merge_job/1.json", None),
        ("s3://conn@bucket/a run of mine/1.json", None),
        ("xcom_gs://bucket/1.json", None),
        ("gAAAAABnQ", None),
        ({"path": "1.json"}, None),
        (None, None),
    ],
)
def test_what_an_xcom_backend_keeps_in_place_of_a_reason_is_none(
    value: Any, reason: str | None
) -> None:
    assert parse_failure(value) == reason
