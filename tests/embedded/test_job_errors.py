"""Whatever goes wrong costs one run: code -1, exit 1, and one line that says what to do."""

from __future__ import annotations

import pytest
from job_site import ID, NAME, JobSite
from psycopg2 import sql

from datasurface.platforms.yellow import batch_state

pytestmark = pytest.mark.embedded

SECRET = "S3cret-@:/%#?'\""


def assert_mentions(message: str, *parts: str) -> None:
    assert [part for part in parts if part not in message] == [], message


def test_model_that_is_not_there_says_where_to_put_it(site: JobSite) -> None:
    message = site.failure(git_repo_path=str(site.folder / "absent"))
    assert_mentions(message, "absent/eco.py", "does not clone", "--git-repo-path")


def test_model_that_raises_is_named_with_its_reason(site: JobSite) -> None:
    (site.folder / "eco.py").write_text("raise RuntimeError('half a model')")
    assert_mentions(site.failure(), "eco.py", "RuntimeError", "half a model")


def test_model_that_exits_is_an_error(site: JobSite) -> None:
    (site.folder / "eco.py").write_text("import sys; sys.exit(0)")
    assert_mentions(site.failure(), "eco.py", "SystemExit")


def test_model_that_imports_what_is_not_installed_is_an_error(site: JobSite) -> None:
    (site.folder / "eco.py").write_text("import not_installed_anywhere")
    assert_mentions(site.failure(), "eco.py", "not_installed_anywhere")


def test_mapping_that_is_not_json_is_an_error(site: JobSite) -> None:
    (site.folder / "dsg_platform_mapping.json").write_text("[{")
    assert_mentions(site.failure(), "dsg_platform_mapping.json")


def test_problems_of_the_model_are_listed(site: JobSite) -> None:
    site.write_model(datasets={"people": [{"name": "no good", "type": ["Integer"]}]})
    assert_mentions(site.failure(), "eco.py", "error", "no good")


def test_unknown_platform_is_an_error_that_lists_the_known(site: JobSite) -> None:
    assert_mentions(site.failure(platform_name="Purple"), "Purple", "YellowLive")


def test_unknown_store_is_an_error_that_lists_the_known(site: JobSite) -> None:
    assert_mentions(site.failure(store_name="Store9"), "Store9", "Store1")


def test_missing_store_name_is_an_error(site: JobSite) -> None:
    assert_mentions(site.failure(store_name=""), "--store-name")


def test_unknown_operation_is_an_error(site: JobSite) -> None:
    assert_mentions(site.failure(operation="collect-metrics"), "collect-metrics", "snapshot-merge")


def test_store_that_the_platform_does_not_ingest_is_an_error(site: JobSite) -> None:
    site.assigned = False
    site.write_model()
    assert_mentions(site.failure(), "Store1", "YellowLive", "dsg_platform_mapping.json")


def test_single_dataset_store_without_dataset_name_is_an_error(site: JobSite) -> None:
    site.write_model(consistency="SINGLE_DATASET")
    assert_mentions(site.failure(), "SINGLE_DATASET", "people")


def test_multi_dataset_store_with_dataset_name_is_an_error(site: JobSite) -> None:
    assert_mentions(site.failure(dataset="people"), "MULTI_DATASET", "people")


def test_unknown_dataset_is_an_error_that_lists_the_known(site: JobSite) -> None:
    site.write_model(consistency="SINGLE_DATASET")
    assert_mentions(site.failure(dataset="pets"), "pets", "people")


@pytest.mark.parametrize("credential", ["merge_login", "source_login"])
def test_missing_credential_is_named(site: JobSite, credential: str) -> None:
    site.environment.delenv(f"{credential}_PASSWORD")
    assert_mentions(site.failure(), credential, f"{credential}_PASSWORD")


def test_kafka_is_refused(site: JobSite) -> None:
    site.write_model(kafka=True, consistency="SINGLE_DATASET")
    assert_mentions(site.failure(dataset="people"), "Kafka")


@pytest.mark.parametrize("credential", ["merge_login", "source_login"])
def test_refused_login_names_user_and_host_but_no_password(site: JobSite, credential: str) -> None:
    site.login(credential, "postgres", SECRET)
    message = site.failure()
    assert_mentions(message, "postgres", "pg-data.ns-test.svc.cluster.local:5432")
    assert SECRET not in site.error_output
    assert "S3cret" not in site.error_output


def test_missing_source_database_is_named(site: JobSite) -> None:
    site.write_model(source="nowhere")
    assert_mentions(site.failure(), "nowhere", "pg-data.ns-test.svc.cluster.local:5432")


def test_missing_source_table_is_named(site: JobSite) -> None:
    site.write_model(tables={"people": "persons"})
    message = site.failure()
    assert_mentions(message, "people", "persons", site.spec["source"], "pg-data.ns-test")
    assert site.batches() == [("Store1", 1, "started")]


def test_missing_source_column_is_named(site: JobSite) -> None:
    site.write_model(datasets={"people": [ID, NAME, {"name": "age", "type": ["Integer"]}]})
    message = site.failure()
    assert_mentions(message, "people", "age", site.spec["source"], "pg-data.ns-test")


def test_source_table_that_may_not_be_read_is_named(site: JobSite) -> None:
    role = f"stranger_{site.spec['source']}"
    site.postgres.create_role(role, SECRET)
    site.login("source_login", role, SECRET)
    message = site.failure()
    site.postgres.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
    assert_mentions(message, "people", "permission denied", site.spec["source"])
    assert "S3cret" not in site.error_output


@pytest.mark.parametrize(
    ("type_", "value", "reason"),
    [
        (["Integer"], "abc", "invalid input syntax"),
        (["VarChar", 3], "four", "too long"),
        (["SmallInt"], "70000", "out of range"),
        (["Date"], "31.31.2013", "out of range"),
    ],
)
def test_value_that_does_not_fit_the_model_is_placed(
    site: JobSite, type_: list[object], value: str, reason: str
) -> None:
    site.source("INSERT INTO people VALUES (1, NULL), (2, %s)", value)
    site.write_model(datasets={"people": [ID, {"name": "name", "type": type_}]})
    message = site.failure()
    assert_mentions(message, "people", reason, "column name", site.spec["source"])


def test_empty_key_is_placed(site: JobSite) -> None:
    site.source("CREATE TABLE loose (id int, name text)")
    site.source("INSERT INTO loose VALUES (NULL, 'x')")
    site.write_model(tables={"people": "loose"})
    assert_mentions(site.failure(), "people", "loose", "null value", "column id")


def test_repeated_keys_are_counted(site: JobSite) -> None:
    site.source("CREATE TABLE loose (id int, name text)")
    site.source("INSERT INTO loose SELECT n % 50, 'x' FROM generate_series(1, 75) n")
    site.write_model(tables={"people": "loose"})
    message = site.failure()
    assert_mentions(message, "25 keys", "people", "loose", "id", site.spec["source"])


def test_repeated_rows_without_a_primary_key_are_counted(site: JobSite) -> None:
    site.source("CREATE TABLE loose (name text)")
    site.source("INSERT INTO loose VALUES ('x'), ('x'), ('y'), ('z'), ('z')")
    site.write_model(tables={"people": "loose"}, datasets={"people": [NAME]})
    assert_mentions(site.failure(), "2 of its rows", "people", "loose", "no primary key")


def test_keys_that_rounding_makes_equal_are_an_error(site: JobSite) -> None:
    site.source("CREATE TABLE prices (price numeric PRIMARY KEY)")
    site.source("INSERT INTO prices VALUES (1.001), (1.002)")
    site.write_model(
        datasets={"prices": [{"name": "price", "type": ["Decimal", 9, 2], "key": True}]}
    )
    assert_mentions(site.failure(), "prices", "become equal", "price")


def test_failed_ingestion_leaves_merge_table_and_staging_as_they_were(site: JobSite) -> None:
    site.source("INSERT INTO people VALUES (1, 'Ann')")
    site.cycle()
    site.source("ALTER TABLE people DROP CONSTRAINT people_pkey")
    site.source("INSERT INTO people SELECT 2, 'twin' FROM generate_series(1, 50000)")
    site.failure()
    assert site.batches() == [("Store1", 1, "committed"), ("Store1", 2, "started")]
    assert site.content() == [(1, "Ann")]
    staging = sql.Identifier(site.table("people", "staging"))
    assert site.merge(sql.SQL("SELECT id FROM {}").format(staging)) == [(1,)]


def test_next_run_goes_on_once_the_cause_is_gone(site: JobSite) -> None:
    site.source("INSERT INTO people VALUES (1, 'Ann')")
    site.write_model(tables={"people": "persons"})
    site.failure()
    site.write_model(tables={})
    site.cycle()
    assert site.batches() == [("Store1", 1, "committed")]
    assert site.content() == [(1, "Ann")]


def test_failure_in_one_dataset_stages_none(site: JobSite) -> None:
    site.source("INSERT INTO people VALUES (1, 'Ann')")
    site.write_model(datasets={"people": [ID, NAME], "pets": [ID, NAME]})
    assert_mentions(site.failure(), "pets")
    staging = sql.Identifier(site.table("people", "staging"))
    assert site.merge(sql.SQL("SELECT count(*) FROM {}").format(staging)) == [(0,)]


def test_source_that_fails_halfway_is_named_and_stages_nothing(site: JobSite) -> None:
    site.source(
        "CREATE VIEW failing AS SELECT n AS id, (1 / (40000 - n))::text AS name "
        "FROM generate_series(1, 50000) n"
    )
    site.write_model(tables={"people": "failing"})
    message = site.failure()
    assert_mentions(message, "failing", "people", "division by zero", site.spec["source"])
    staging = sql.Identifier(site.table("people", "staging"))
    assert site.merge(sql.SQL("SELECT count(*) FROM {}").format(staging)) == [(0,)]


def test_schema_change_between_ingest_and_merge_asks_for_a_reset(site: JobSite) -> None:
    site.source("INSERT INTO people VALUES (1, 'Ann')")
    assert site.run() == 1
    site.write_model(datasets={"people": [ID, {"name": "name", "type": ["VarChar", 200]}]})
    assert_mentions(site.failure(), "people", "changed", "resetBatchState", "--store Store1")
    assert site.batches() == [("Store1", 1, "ingested")]


@pytest.mark.parametrize(
    "changes",
    [
        {"datasets": {"people": [ID, {**NAME, "key": True}]}},
        {"strategy": "batch_milestoned"},
    ],
)
def test_merge_table_of_another_key_or_milestoning_is_not_touched(
    site: JobSite, changes: dict[str, object]
) -> None:
    site.source("INSERT INTO people VALUES (1, 'Ann')")
    site.cycle()
    site.write_model(**changes)
    assert_mentions(site.failure(), "yellowlive_store1_people_", "primary key", "milestoning")
    assert site.content() == [(1, "Ann")]


def test_dataset_added_between_ingest_and_merge_asks_for_a_reset(site: JobSite) -> None:
    assert site.run() == 1
    site.write_model(datasets={"people": [ID, NAME], "pets": [ID, NAME]})
    assert_mentions(site.failure(), "pets", "resetBatchState")


def test_staging_that_lost_rows_is_not_merged(site: JobSite) -> None:
    site.source("INSERT INTO people VALUES (1, 'Ann'), (2, 'Bob')")
    site.cycle()
    assert site.run() == 1
    staging = sql.Identifier(site.table("people", "staging"))
    site.merge(sql.SQL("TRUNCATE {}").format(staging))
    assert_mentions(site.failure(), "0 rows", "2 were ingested", "resetBatchState")
    assert site.content() == [(1, "Ann"), (2, "Bob")]


@pytest.mark.parametrize("column", ["batch_status", "state"])
def test_batch_that_cannot_be_understood_asks_for_a_reset(site: JobSite, column: str) -> None:
    assert site.run() == 1
    site.merge(
        sql.SQL("UPDATE yellowlive_batch_metrics SET {} = 'garbage'").format(sql.Identifier(column))
    )
    assert_mentions(site.failure(), "Batch 1", "Store1", "resetBatchState")


def test_run_that_finds_its_stream_locked_gives_up(
    site: JobSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_state, "LOCK_WAIT_SECONDS", 1)
    assert site.run() == 1
    other = site.postgres.connect(site.spec["merge"])
    with other.cursor() as cursor:
        # A run of the same stream that has got as far as its lock.
        cursor.execute(
            "SELECT pg_advisory_xact_lock(('x' || encode(substr(sha256("
            "'datasurface/YellowLive/Store1'::bytea), 1, 8), 'hex'))::bit(64)::bigint)"
        )
        message = site.failure()
    other.close()
    assert_mentions(message, "Another run", "Store1", "YellowLive")
    assert site.run() == 0
