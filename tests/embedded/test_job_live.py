"""What a live-only merge table holds after the job has run."""

from __future__ import annotations

import pytest
from job_site import ID, NAME, JobSite
from psycopg2 import sql

pytestmark = pytest.mark.embedded


def test_first_run_ingests_and_second_run_merges(site: JobSite) -> None:
    site.source("INSERT INTO people VALUES (1, 'Ann'), (2, 'Bob')")
    assert site.run() == 1
    assert site.batches() == [("Store1", 1, "ingested")]
    assert site.content() == []
    assert site.run() == 0
    assert site.batches() == [("Store1", 1, "committed")]
    assert site.content() == [(1, "Ann"), (2, "Bob")]


def test_merge_table_follows_inserts_updates_and_deletes(site: JobSite) -> None:
    site.source("INSERT INTO people SELECT n, 'name ' || n FROM generate_series(1, 1000) n")
    site.cycle()
    assert site.counts() == (1000, 0, 0, 1000)
    site.source("DELETE FROM people WHERE id <= 10")
    site.source("UPDATE people SET name = 'changed' WHERE id BETWEEN 11 AND 40")
    site.source("INSERT INTO people SELECT n, NULL FROM generate_series(2001, 2005) n")
    site.cycle()
    assert site.counts() == (5, 30, 10, 995)
    assert site.live_equals_source()


def test_unchanged_source_changes_nothing(site: JobSite) -> None:
    site.source("INSERT INTO people VALUES (1, 'Ann'), (2, NULL)")
    site.cycle()
    whole = sql.SQL("SELECT *, xmin::text FROM {} ORDER BY id").format(
        sql.Identifier(site.table("people"))
    )
    before = site.merge(whole)
    site.cycle()
    assert site.merge(whole) == before
    assert site.counts() == (0, 0, 0, 2)


def test_emptied_source_empties_the_merge_table(site: JobSite) -> None:
    site.source("INSERT INTO people VALUES (1, 'Ann')")
    site.cycle()
    site.source("DELETE FROM people")
    site.cycle()
    assert site.content() == []
    assert site.counts() == (0, 0, 1, 0)


def test_rows_say_in_which_batch_they_last_changed(site: JobSite) -> None:
    site.source("INSERT INTO people VALUES (1, 'Ann'), (2, 'Bob')")
    site.cycle()
    site.source("UPDATE people SET name = 'Bea' WHERE id = 2")
    site.cycle()
    rows = site.merge(
        sql.SQL("SELECT id, ds_surf_batch_id FROM {} ORDER BY 1").format(
            sql.Identifier(site.table("people"))
        )
    )
    assert rows == [(1, 1), (2, 2)]


def test_whole_store_is_one_batch(site: JobSite) -> None:
    site.source("CREATE TABLE pets (id int PRIMARY KEY, name text)")
    site.source("INSERT INTO people VALUES (1, 'Ann')")
    site.source("INSERT INTO pets VALUES (7, 'Rex')")
    site.write_model(datasets={"people": [ID, NAME], "pets": [ID, NAME]})
    site.cycle()
    assert site.content("people") == [(1, "Ann")]
    assert site.content("pets") == [(7, "Rex")]
    assert site.batches() == [("Store1", 1, "committed")]
    assert site.counts() == (2, 0, 0, 2)


def test_single_dataset_stream_touches_its_dataset_only(site: JobSite) -> None:
    site.source("INSERT INTO people VALUES (1, 'Ann')")
    # The table of dataset pets is missing in the source: reading it would fail.
    site.write_model(
        consistency="SINGLE_DATASET", datasets={"people": [ID, NAME], "pets": [ID, NAME]}
    )
    site.cycle("people")
    assert site.batches() == [("Store1#people", 1, "committed")]
    assert site.content("people") == [(1, "Ann")]
    assert site.merge("SELECT to_regclass(%s)", site.table("pets")) == [(None,)]


def test_single_dataset_streams_have_batches_of_their_own(site: JobSite) -> None:
    site.source("CREATE TABLE pets (id int PRIMARY KEY, name text)")
    site.source("INSERT INTO pets VALUES (7, 'Rex')")
    site.write_model(
        consistency="SINGLE_DATASET", datasets={"people": [ID, NAME], "pets": [ID, NAME]}
    )
    assert site.run(dataset="people") == 1
    site.cycle("pets")
    assert site.batches() == [("Store1#people", 1, "ingested"), ("Store1#pets", 1, "committed")]
    assert site.content("pets") == [(7, "Rex")]


def test_column_added_to_the_model_is_filled_by_the_next_batch(site: JobSite) -> None:
    site.source("INSERT INTO people VALUES (1, 'Ann'), (2, 'Bob')")
    site.cycle()
    site.source("ALTER TABLE people ADD age int DEFAULT 30")
    site.write_model(datasets={"people": [ID, NAME, {"name": "age", "type": ["Integer"]}]})
    site.cycle()
    assert site.content() == [(1, "Ann", 30), (2, "Bob", 30)]


@pytest.mark.parametrize("required", [False, True])
def test_column_taken_out_of_the_model_is_no_longer_read(site: JobSite, required: bool) -> None:
    site.write_model(datasets={"people": [ID, {**NAME, "required": required}]})
    site.source("INSERT INTO people VALUES (1, 'Ann')")
    site.cycle()
    site.source("ALTER TABLE people DROP name")
    site.source("INSERT INTO people VALUES (2)")
    site.write_model(datasets={"people": [ID]})
    site.cycle()
    assert site.content() == [(1,), (2,)]
