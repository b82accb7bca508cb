"""A merge writes what differs and nothing else: what a DBA hangs on the table lives on."""

from __future__ import annotations

from datetime import datetime

import pytest
from conftest import Site, problems, render
from psycopg2.errors import ForeignKeyViolation
from sqlalchemy.exc import IntegrityError
from yellow_models import Store

from yellow_dynamic.factory.database import was_emptied
from yellow_dynamic.population import MergeError

OF_EACH_ROW = """
    CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN {body} END $$
"""


@pytest.fixture
def three(site: Site) -> Site:
    """The streams Stays, Changes and Goes, with a merge to come that adds New."""
    site.model.stores = [Store("Stays"), Store("Changes"), Store("Goes")]
    site.bootstrap()
    site.merge_cleanly()
    site.model.stores = [Store("Stays"), Store("Changes", ["other"]), Store("New")]
    return site


def make_trigger(site: Site, when: str, name: str, body: str) -> None:
    site.sql(OF_EACH_ROW.replace("{name}", name).replace("{body}", body))
    site.sql(f"CREATE TRIGGER {name} {when} ON {{table}} FOR EACH ROW EXECUTE FUNCTION {name}()")


def keys(site: Site) -> set[str]:
    return {key for (key,) in site.sql("SELECT stream_key FROM {table}")}


def test_untouched_row_is_not_written(three: Site) -> None:
    versions = "SELECT xmin::text, ctid::text FROM {table} WHERE stream_key = 'Stays'"
    before = three.sql(versions)

    three.merge_cleanly()

    assert keys(three) == {"Stays", "Changes", "New"}
    assert three.sql(versions) == before


@pytest.mark.parametrize("until", [None, datetime(9000, 1, 1)])
def test_stream_that_was_removed_while_disabled_comes_back_disabled(
    three: Site, until: datetime | None
) -> None:
    three.sql(
        "UPDATE {table} SET status = 'disabled', disabled_until = %s WHERE stream_key = 'Goes'",
        [until],
    )
    three.merge_cleanly()
    assert "Goes" not in keys(three)
    three.model.stores = [Store("Stays"), Store("Goes"), Store("New")]

    three.merge_cleanly()

    assert three.sql(
        "SELECT status, disabled_until FROM {table} WHERE stream_key IN ('Goes', 'New') ORDER BY 1"
    ) == [("active", None), ("disabled", until)]


def test_changed_row_keeps_what_others_keep_in_it(three: Site) -> None:
    three.sql("ALTER TABLE {table} ADD note TEXT")
    three.sql("UPDATE {table} SET note = 'of ' || stream_key")

    three.merge_cleanly()

    notes = dict(three.sql("SELECT stream_key, note FROM {table}"))
    assert notes == {"Stays": "of Stays", "Changes": "of Changes", "New": None}


def test_rows_of_others_that_hang_on_a_stream_live_as_long_as_it(three: Site) -> None:
    three.sql("CREATE TABLE owners (stream TEXT REFERENCES {table} ON DELETE CASCADE, owner TEXT)")
    three.sql("INSERT INTO owners SELECT stream_key, 'team' FROM {table}")

    three.merge_cleanly()

    assert three.sql("SELECT stream FROM owners ORDER BY 1") == [("Changes",), ("Stays",)]


def test_foreign_key_blocks_only_the_merge_that_removes_its_stream(three: Site) -> None:
    three.sql("CREATE TABLE owners (stream TEXT REFERENCES {table})")
    three.sql("INSERT INTO owners VALUES ('Stays'), ('Changes')")
    three.merge_cleanly()
    three.model.stores = [Store("New")]

    with pytest.raises(IntegrityError) as refused:
        three.merge()

    assert isinstance(refused.value.orig, ForeignKeyViolation)
    assert "Nothing was changed." in refused.value.__notes__[0]
    assert keys(three) == {"Stays", "Changes", "New"}


def test_audit_trigger_sees_what_changed_and_how(three: Site) -> None:
    three.sql("CREATE TABLE audit (what TEXT, stream TEXT)")
    make_trigger(
        three,
        "AFTER INSERT OR UPDATE OR DELETE",
        "note",
        "INSERT INTO audit VALUES (TG_OP, coalesce(NEW.stream_key, OLD.stream_key)); RETURN NULL;",
    )

    three.merge_cleanly()
    three.merge_cleanly()

    assert sorted(three.sql("SELECT * FROM audit")) == [
        ("DELETE", "Goes"),
        ("INSERT", "New"),
        ("UPDATE", "Changes"),
    ]


@pytest.mark.parametrize(
    ("when", "body"),
    [
        ("BEFORE INSERT", "RETURN NULL;"),
        ("BEFORE UPDATE", "RETURN NULL;"),
        ("BEFORE DELETE", "RETURN NULL;"),
        ("BEFORE UPDATE", "NEW.config_json = '{{}}'; RETURN NEW;"),
        ("BEFORE INSERT", "NEW.stream_key = 'Other'; RETURN NEW;"),
    ],
)
def test_trigger_that_swallows_or_alters_rows_fails_the_merge(
    three: Site, when: str, body: str
) -> None:
    make_trigger(three, when, "interfere", body)
    before = three.sql("SELECT * FROM {table} ORDER BY 1")

    with pytest.raises(MergeError, match="A trigger, a rule or a row security policy") as refused:
        three.merge()

    assert "'yellowlive_airflow_dsg'" in str(refused.value)
    assert three.sql("SELECT * FROM {table} ORDER BY 1") == before


def test_row_without_a_status_gets_one_when_it_changes(three: Site) -> None:
    three.sql("UPDATE {table} SET status = NULL, created_at = NULL")

    three.merge_cleanly()

    rows = three.sql("SELECT status, created_at IS NULL FROM {table} WHERE stream_key = 'Changes'")
    assert rows == [("active", False)]


def test_history_says_whether_a_merge_has_removed_the_last_row(three: Site) -> None:
    def is_emptied() -> bool:
        with three.postgres.connect(three.database) as connection:
            return was_emptied(connection, f"{three.table}_history")

    three.model.platformArguments["allowEmpty"] = True
    graph = three.model.graph(three.folder)
    graph.storesToIngest.clear()
    for _ in range(2):
        _, tree = render(graph)
        assert not tree.hasErrors(), problems(tree)
        assert is_emptied()
    three.model.stores = [Store("New")]
    three.merge_cleanly()
    three.sql("DELETE FROM {table}")
    assert not is_emptied()
    three.sql("DROP TABLE {table}_history CASCADE")
    assert not is_emptied()
