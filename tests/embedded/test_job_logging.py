"""Log lines and database engines, as the rest of the platform uses them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from job_site import job_logging_undone

from datasurface.md import DataPlatformManagedDataContainer
from datasurface.platforms.yellow.db_utils import createEngine
from datasurface.platforms.yellow.logging_utils import (
    get_contextual_logger,
    log_operation_timing,
    set_context,
    setup_logging_for_environment,
)

pytestmark = pytest.mark.embedded


class Log:
    """Reads back what was logged since the last look."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def entries(self) -> list[dict[str, Any]]:
        printed = self._capsys.readouterr()
        assert printed.out == ""
        return [json.loads(line) for line in printed.err.splitlines()]


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str]) -> Iterator[Log]:
    with job_logging_undone():
        setup_logging_for_environment()
        yield Log(capsys)


def test_line_has_message_level_and_named_values(log: Log) -> None:
    get_contextual_logger("a.b").warning("100% of\ntwo lines", rows=3, where="é\n")
    (entry,) = log.entries()
    del entry["timestamp"]
    assert entry == {
        "level": "WARNING",
        "logger": "a.b",
        "message": "100% of\ntwo lines",
        "rows": 3,
        "where": "é\n",
    }


def test_context_is_on_every_line_until_it_is_replaced(log: Log) -> None:
    logger = get_contextual_logger("a.b")
    set_context(platform="Live", request="Store1")
    logger.info("one")
    set_context(workspace="W")
    logger.info("two")
    one, two = log.entries()
    assert (one["platform"], one["request"]) == ("Live", "Store1")
    assert two["workspace"] == "W"
    assert "platform" not in two


def test_setting_up_twice_logs_once(log: Log) -> None:
    setup_logging_for_environment()
    get_contextual_logger("a.b").info("once")
    assert len(log.entries()) == 1


def test_exception_is_logged_in_the_same_line(log: Log) -> None:
    try:
        raise ValueError("wrong")
    except ValueError:
        get_contextual_logger("a.b").exception("It failed")
    (entry,) = log.entries()
    assert "ValueError: wrong" in entry["exception"]


def test_timing_tells_success_from_failure(log: Log) -> None:
    logger = get_contextual_logger("a.b")
    with log_operation_timing(logger, "Copying", table="t"):
        pass
    with pytest.raises(ValueError), log_operation_timing(logger, "Copying", table="t"):
        raise ValueError
    entries = log.entries()
    assert [entry["message"] for entry in entries] == [
        "Copying started",
        "Copying finished",
        "Copying started",
        "Copying failed",
    ]
    assert {entry["table"] for entry in entries} == {"t"}
    assert entries[1]["seconds"] >= 0


def test_engine_for_another_container_is_refused_by_name() -> None:
    container = DataPlatformManagedDataContainer("Elsewhere")
    with pytest.raises(TypeError, match="Elsewhere is a DataPlatformManagedDataContainer"):
        createEngine(container, "user", "password")
