"""An installation that has psycopg 3 and not psycopg2: merges and parses do the same."""

from __future__ import annotations

import psycopg
import pytest
from conftest import Site
from pytest_mock import MockerFixture
from sqlalchemy.exc import DBAPIError
from yellow_models import Store

pytestmark = pytest.mark.usefixtures("without_psycopg2")


def test_merge_and_parse(installed: Site, mocker: MockerFixture) -> None:
    status = "active\\t \t\n\r\\."
    installed.sql("UPDATE {table} SET status = %s", (status,))
    installed.model.stores = [Store("Store1", ["another"]), Store("Gone")]
    installed.merge_cleanly()
    installed.model.stores = [Store("Store1"), Store("New")]

    installed.merge_cleanly()

    rows = dict(installed.sql("SELECT stream_key, status FROM {table}"))
    assert rows == {"New": "active", "Store1": status}
    installed.sql("UPDATE {table} SET status = 'active'")
    connect = mocker.spy(psycopg, "connect")
    assert sorted(installed.parse()) == [
        "yellowlive__New_ingestion",
        "yellowlive__Store1_ingestion",
    ]
    assert list(installed.parse("yellowlive__New_ingestion")) == ["yellowlive__New_ingestion"]
    assert connect.call_count == 2


def test_row_that_the_database_refuses_leaves_the_old_ones(installed: Site) -> None:
    before = installed.sql("SELECT * FROM {table}")
    installed.sql("ALTER TABLE {table} ADD CHECK (stream_key <> 'Bad')")
    installed.model.stores = [Store("Good"), Store("Bad")]

    with pytest.raises(DBAPIError, match="violates check constraint") as refused:
        installed.merge()

    assert type(refused.value.orig).__module__.startswith("psycopg.")
    assert "Nothing was changed." in refused.value.__notes__[0]
    assert installed.sql("SELECT * FROM {table}") == before


def test_missing_table_says_what_to_run(installed: Site, caplog: pytest.LogCaptureFixture) -> None:
    installed.parse()
    installed.sql("DROP TABLE {table}")

    with pytest.raises(DBAPIError) as refused:
        installed.merge()
    installed.parse()

    assert "--ringLevel 1" in refused.value.__notes__[0]
    assert "Run bootstrap with --ringLevel 1" in caplog.text
