"""What a batch-milestoned merge table holds after the job has run."""

from __future__ import annotations

from typing import Any

import pytest
from job_site import JobSite
from psycopg2 import sql

pytestmark = pytest.mark.embedded

LIVE = 2147483647


@pytest.fixture
def forensic(site: JobSite) -> JobSite:
    """The stream of `site`, with its history kept."""
    site.write_model(strategy="batch_milestoned")
    return site


def history(site: JobSite) -> list[tuple[Any, ...]]:
    return site.merge(
        sql.SQL(
            "SELECT id, name, ds_surf_batch_in, ds_surf_batch_out FROM {} ORDER BY 1, 3"
        ).format(sql.Identifier(site.table("people")))
    )


def test_history_says_in_which_batches_each_version_was_live(forensic: JobSite) -> None:
    forensic.source("INSERT INTO people VALUES (1, '1')")
    forensic.cycle()
    assert history(forensic) == [(1, "1", 1, LIVE)]
    forensic.cycle()
    assert history(forensic) == [(1, "1", 1, LIVE)]
    forensic.source("UPDATE people SET name = '2'")
    forensic.cycle()
    assert history(forensic) == [(1, "1", 1, 2), (1, "2", 3, LIVE)]
    forensic.source("DELETE FROM people")
    forensic.cycle()
    assert history(forensic) == [(1, "1", 1, 2), (1, "2", 3, 3)]
    forensic.source("INSERT INTO people VALUES (1, '1')")
    forensic.cycle()
    assert history(forensic) == [(1, "1", 1, 2), (1, "2", 3, 3), (1, "1", 5, LIVE)]


def test_counts_tell_new_changed_and_gone_records_apart(forensic: JobSite) -> None:
    forensic.source("INSERT INTO people SELECT n, 'x' FROM generate_series(1, 100) n")
    forensic.cycle()
    assert forensic.counts() == (100, 0, 0, 100)
    forensic.source("DELETE FROM people WHERE id <= 5")
    forensic.source("UPDATE people SET name = NULL WHERE id BETWEEN 6 AND 9")
    forensic.source("INSERT INTO people VALUES (101, 'y'), (102, 'y')")
    forensic.cycle()
    assert forensic.counts() == (2, 4, 5, 97)
    assert forensic.live_equals_source()


def test_every_past_snapshot_can_be_read_back(forensic: JobSite) -> None:
    snapshots = []
    for batch in range(1, 6):
        forensic.source("DELETE FROM people WHERE id %% 7 = %s", batch)
        forensic.source(
            "INSERT INTO people SELECT n, %s FROM generate_series(1, 50) n "
            "ON CONFLICT (id) DO UPDATE SET name = excluded.name WHERE people.id %% 3 = 0",
            f"batch {batch}",
        )
        forensic.cycle()
        snapshots.append(forensic.source("SELECT id, name FROM people ORDER BY 1"))
    for batch, snapshot in enumerate(snapshots, start=1):
        live = f"{batch} BETWEEN ds_surf_batch_in AND ds_surf_batch_out"
        assert forensic.content(where=live) == snapshot


def test_dataset_without_primary_key_keeps_its_history(forensic: JobSite) -> None:
    columns = [{"name": "id", "type": ["Integer"]}, {"name": "name", "type": ["VarChar", 100]}]
    forensic.write_model(datasets={"people": columns})
    forensic.source("INSERT INTO people VALUES (1, 'a'), (2, 'b')")
    forensic.cycle()
    forensic.source("UPDATE people SET name = 'c' WHERE id = 2")
    forensic.cycle()
    assert history(forensic) == [(1, "a", 1, LIVE), (2, "b", 1, 1), (2, "c", 2, LIVE)]
