"""Ring 1 creates the history of a new table and of one that had none."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import Site, render
from recorded import changes, rows, unrecorded
from yellow_models import Store

#: A table without a history, as DataSurface's own bootstrap creates it, with rows.
TABLE_WITHOUT_HISTORY = """
CREATE TABLE yellowlive_airflow_dsg (
    stream_key VARCHAR(255) NOT NULL, config_json TEXT, status VARCHAR(50),
    created_at TIMESTAMP, updated_at TIMESTAMP, PRIMARY KEY (stream_key)
);
INSERT INTO yellowlive_airflow_dsg VALUES
    ('Old', '{{"a": 1}}', 'active', now(), now()), ('Off', '{{}}', 'disabled', now(), now());
"""
PASSWORD = "its password"


def definition(site: Site) -> list[Any]:
    """Return the triggers and functions there are, each with what identifies this very one."""
    found = site.sql(
        "SELECT tgname, oid::text FROM pg_trigger WHERE NOT tgisinternal "
        "UNION SELECT proname, xmin::text FROM pg_proc WHERE proname LIKE 'yellowlive%%' ORDER BY 1"
    )
    return list(found)


def test_rows_of_a_table_without_history_are_revision_1(site: Site) -> None:
    site.sql(TABLE_WITHOUT_HISTORY)

    site.bootstrap()

    assert {(each["revision"], each["action"], each["stream_key"]) for each in changes(site)} == {
        (1, "added", "Off"),
        (1, "added", "Old"),
    }
    about = [json.loads(each["about"]) for each in changes(site)]
    assert {each["command"] for each in about} == {"bootstrap"}
    assert "unknown" not in {each["by"] for each in about}
    assert unrecorded(site) == {}
    site.merge_cleanly()
    assert unrecorded(site) == {}
    assert {each["revision"] for each in changes(site)} == {1, 2}


def test_bootstrap_again_changes_nothing(installed: Site) -> None:
    before = definition(installed)

    installed.bootstrap()

    assert len(before) == 9
    assert definition(installed) == before
    assert len(changes(installed)) == 1


@pytest.mark.parametrize(
    "harm",
    [
        "DROP TRIGGER yellowlive_airflow_dsg_deleted ON {table}",
        "ALTER TABLE {table} DISABLE TRIGGER yellowlive_airflow_dsg_updated",
        "DROP TRIGGER yellowlive_airflow_dsg_append_only ON {table}_history",
        "CREATE OR REPLACE FUNCTION yellowlive_airflow_dsg_record() RETURNS trigger "
        "LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    ],
)
def test_bootstrap_repairs_the_triggers_and_records_missed_changes(
    installed: Site, harm: str
) -> None:
    installed.sql(harm)
    installed.sql("DELETE FROM {table}")
    installed.insert("Mine", "{}")
    installed.sql("UPDATE {table} SET status = 'disabled'")

    installed.bootstrap()

    assert unrecorded(installed) == {}
    was_missed = changes(installed)[-1]["command"] == "unrecorded"
    assert was_missed == ("append_only" not in harm)
    installed.sql("UPDATE {table} SET status = 'active'")
    installed.sql("TRUNCATE {table}")
    assert unrecorded(installed) == {}


def test_bootstrap_keeps_what_an_earlier_release_noted_of_pruned_changes(installed: Site) -> None:
    installed.sql("COMMENT ON TABLE {table}_history IS 'Complete from revision 2'")
    installed.sql("DROP TRIGGER {table}_updated ON {table}")

    installed.bootstrap()

    assert [each["revision"] for each in changes(installed) if each["number"] == 0] == [2]


def test_role_without_privileges_is_told_the_grants_and_merges_without_history(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.sql(TABLE_WITHOUT_HISTORY)
    role = f"merger_{site.database}"
    site.postgres.create_role(role, PASSWORD)
    site.sql("GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO " + role)
    site.sql("GRANT CREATE ON SCHEMA public TO " + role)
    owner = site.postgres.user
    site.login(role, PASSWORD)

    site.bootstrap()

    [warning] = [each for each in caplog.messages if "are not on record" in each]
    assert "Changes of table 'yellowlive_airflow_dsg' are not on record" in warning
    assert "must be owner of table yellowlive_airflow_dsg" in warning
    assert f"GRANT {owner} TO {role}; GRANT CREATE ON SCHEMA public TO {role}." in warning
    caplog.clear()
    site.merge_cleanly()
    assert list(rows(site)) == ["Store1"]
    [said] = [each for each in caplog.messages if "has no history" in each]
    assert "generatePlatformBootstrap with --ringLevel 1 as the table's owner" in said
    assert list(site.parse()) == ["yellowlive__Store1_ingestion"]


def test_grants_of_the_message_are_enough(site: Site) -> None:
    site.sql(TABLE_WITHOUT_HISTORY)
    owner, role = f"owner_{site.database}", f"merger_{site.database}"
    for each in (owner, role):
        site.postgres.create_role(each, PASSWORD)
    site.sql(f"GRANT CREATE ON SCHEMA public TO {owner}")
    site.sql(f"ALTER TABLE {{table}} OWNER TO {owner}")
    site.sql(f"GRANT {owner} TO {role}; GRANT CREATE ON SCHEMA public TO {role}")
    site.login(role, PASSWORD)

    site.bootstrap()
    site.merge_cleanly()

    assert unrecorded(site) == {}
    assert changes(site)[-1]["login"] == role
    # The table is still the other role's, and ring 1 of a later release has something to replace.
    site.sql("ALTER FUNCTION {table}_record() RESET timezone")
    site.model.stores.append(Store("Store2"))
    site.bootstrap()
    site.merge_cleanly()
    assert unrecorded(site) == {}


def test_long_name_of_a_history_differs_from_that_of_its_table(site: Site) -> None:
    site.model.platform = "Platform" + "x" * 47
    site.bootstrap()
    site.merge_cleanly()

    tables = [name for (name,) in site.sql("SELECT relname FROM pg_class WHERE relkind = 'r'")]
    [history] = [name for name in tables if name.endswith("_history")]
    assert len(history) <= 63
    assert site.sql(f"SELECT stream_key FROM {history}") == [("Store1",)]  # noqa: S608


def test_table_in_another_schema_has_its_history_beside_it(site: Site) -> None:
    site.sql("CREATE SCHEMA kept")
    site.sql(TABLE_WITHOUT_HISTORY.replace("yellowlive_", "kept.yellowlive_"))
    site.sql(f"ALTER ROLE CURRENT_USER IN DATABASE {site.database} SET search_path = public, kept")

    site.bootstrap()
    site.merge_cleanly()

    assert site.sql(
        "SELECT relnamespace::regnamespace::text FROM pg_class WHERE relname LIKE "
        "'yellowlive%%history'"
    ) == [("kept",)]
    assert unrecorded(site) == {}


def test_eight_merges_at_once_are_eight_revisions(installed: Site) -> None:
    graphs = []
    for number in range(8):
        installed.model.stores = [Store("Store1"), Store(f"Own{number}")]
        graphs.append(installed.model.graph(installed.folder))

    with ThreadPoolExecutor(8) as merges:
        for _, tree in merges.map(render, graphs):
            assert not tree.hasErrors()

    assert [each["revision"] for each in changes(installed)] == sorted(
        each["revision"] for each in changes(installed)
    )
    assert {each["revision"] for each in changes(installed)} == set(range(1, 10))
    assert unrecorded(installed) == {}


def test_edits_of_different_rows_at_once_are_each_on_record(installed: Site) -> None:
    installed.model.stores = [Store(f"S{number}") for number in range(20)]
    installed.merge_cleanly()

    def edit(number: int) -> None:
        installed.sql(f"UPDATE {{table}} SET status = 'disabled' WHERE stream_key = 'S{number}'")  # noqa: S608

    with ThreadPoolExecutor(8) as editors:
        list(editors.map(edit, range(20)))

    revisions = [each["revision"] for each in changes(installed)]
    assert sorted(set(revisions)) == list(range(1, 23))
    assert unrecorded(installed) == {}


def change_as_replica(site: Site, statement: str) -> None:
    """Change rows as pg_restore, replication services and copying tools do: no trigger fires."""
    site.sql(f"SET session_replication_role = replica; {statement}")


def test_change_of_a_replica_is_recorded_before_the_next_merge(
    installed: Site, caplog: pytest.LogCaptureFixture
) -> None:
    change_as_replica(installed, "UPDATE {table} SET config_json = '{{}}'")
    assert len(changes(installed)) == 1

    installed.merge_cleanly()

    assert unrecorded(installed) == {}
    missed, merged = changes(installed)[1:]
    assert (missed["command"], missed["config_after"]) == ("unrecorded", "{}")
    assert json.loads(missed["about"])["by"] == "unknown"
    assert (merged["command"], merged["config_before"]) == ("merge", "{}")
    assert json.loads(merged["about"])["command"] == "merge"
    assert missed["revision"] + 1 == merged["revision"]
    assert (
        "Rows of table 'yellowlive_airflow_dsg' were changed while its triggers were off (their "
        "number: 1)."
    ) in caplog.text


def test_ring_1_records_what_a_replica_changed(installed: Site) -> None:
    change_as_replica(installed, "UPDATE {table} SET stream_key = 'Other'")

    installed.bootstrap()

    assert unrecorded(installed) == {}
    assert [
        (each["action"], each["stream_key"], each["command"]) for each in changes(installed)[1:]
    ] == [
        ("added", "Other", "unrecorded"),
        ("removed", "Store1", "unrecorded"),
    ]


def test_merge_of_a_role_that_cannot_record_says_who_can(
    installed: Site, caplog: pytest.LogCaptureFixture
) -> None:
    role = installed.create_role("merger", PASSWORD)
    installed.sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {{table}} TO {role}")
    installed.sql(f"GRANT SELECT ON {{table}}_history TO {role}")
    change_as_replica(installed, "UPDATE {table} SET status = 'disabled'")
    owner = installed.postgres.user
    installed.login(role, PASSWORD)
    installed.model.stores.append(Store("Store2"))

    installed.merge_cleanly()

    assert f"(number of rows: 1), and only the role {owner} can record them" in caplog.text
    assert set(rows(installed)) == {"Store1", "Store2"}
