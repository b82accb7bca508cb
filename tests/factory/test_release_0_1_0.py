"""The factory file of release 0.1.0: its DAGs are today's, and the command understands it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import Site, import_file, registered_dags
from pod_runs import pod_of
from recorded import changes
from stream_kinds import PLATFORMS, STREAMS, comparable
from yellow_models import PROVIDERS_BOOTSTRAP, Model, Store

from one_machine import free_port
from yellow_dynamic.command import airflow
from yellow_dynamic.command.in_airflow import Facts, Reading
from yellow_dynamic.contract import python_literal, revision_of
from yellow_dynamic.platform_settings import platform_settings

TEMPLATE = Path(__file__).parents[1] / "released" / "factory_0_1_0.py.j2"


def write_released(site: Site) -> Path:
    """Write the file that bootstrap of 0.1.0 wrote for the site's model."""
    eco = site.model.build()
    platform: Any = eco.getDataPlatformOrThrow(site.model.platform)
    settings = platform_settings(platform, eco)
    settings["plugin_version"] = "0.1.0"
    folder = site.folder / "released"
    folder.mkdir()
    file = folder / site.factory_file.name
    literal = python_literal(settings)
    file.write_text(TEMPLATE.read_text().replace("{{ platform_literal }}", literal))
    return file


@pytest.mark.embedded
@pytest.mark.parametrize("platform", PLATFORMS)
def test_dags_are_what_they_were_but_for_their_pages(site: Site, platform: str) -> None:
    site.model = Model(stores=list(STREAMS.values()), database=site.database, **PLATFORMS[platform])
    site.login(site.postgres.user, site.postgres.password)
    site.bootstrap()
    site.merge_cleanly()
    released = registered_dags(import_file(write_released(site)))

    current = site.parse()

    assert released.keys() == current.keys()
    for dag_id, dag in released.items():
        assert comparable(current[dag_id]) == comparable(dag)
        assert pod_of(current[dag_id]) == pod_of(dag)
        assert current[dag_id].doc_md.startswith(dag.doc_md.rstrip())


#: What a table of today has and one of 0.1.0 has not.
AS_OF_0_1_0 = """
DROP TABLE {table}_history;
DROP FUNCTION {table}_record() CASCADE;
DROP FUNCTION {table}_append_only();
ALTER TABLE {table} DROP COLUMN disabled_until;
COMMENT ON TABLE {table} IS NULL;
UPDATE {table} SET status = 'disabled' WHERE stream_key = 'Off';
"""
CHANGELOG = Path(__file__).parents[2] / "CHANGELOG.md"


@pytest.mark.embedded
def test_upgrade_note_of_the_changelog_is_what_happens(site: Site) -> None:
    note = CHANGELOG.read_text().partition("### Upgrading from 0.1.0")[2].partition("###")[0]
    assert [line[0] for line in note.splitlines() if line[:1].isdigit()] == list("12345")
    site.model.stores = [Store("Store1"), Store("Off")]
    site.bootstrap()
    site.merge_cleanly()
    site.sql(AS_OF_0_1_0)
    old_file = write_released(site)
    old_rows = site.sql("SELECT stream_key, config_json, status, updated_at FROM {table}")
    old_dags = set(registered_dags(import_file(old_file)))
    eco = site.model.build()
    platform: Any = eco.getDataPlatformOrThrow(site.model.platform)

    files = platform.generateBootstrapArtifacts(eco, 0)
    platform.generateBootstrapArtifacts(eco, 1)

    assert "yellowlive_model_merge_job.yaml" in files
    assert "yellowlive-model-merge-job.yaml" not in files
    assert site.sql("SELECT stream_key, config_json, status, updated_at FROM {table}") == old_rows
    assert site.sql("SELECT disabled_until FROM {table}") == [(None,), (None,)]
    assert {each["revision"] for each in changes(site)} == {1}
    assert set(registered_dags(import_file(old_file))) == old_dags
    site.factory_file.write_text(files[site.factory_file.name])
    assert set(site.parse()) == old_dags == {"yellowlive__Store1_ingestion"}
    site.merge_cleanly()
    assert site.sql("SELECT stream_key, config_json, status, updated_at FROM {table}") == old_rows


@pytest.fixture
def bad(site: Site) -> Site:
    """A platform with a good stream, a bad one, and one whose DAG has another id."""
    site.model.stores = [Store("Good1")]
    site.bootstrap()
    site.merge_cleanly()
    for key in ("Bad", "Odd key's"):
        site.insert(key, "{}")
    return site


def facts_of_file(file: Path) -> dict[str | None, Facts]:
    """Return what the pages of a file's DAGs say, by stream where they name it."""
    loaded = airflow.load_factory("yellowlive", "", path=str(file), text=None)
    assert loaded.error is None
    return {dag.facts.stream: dag.facts for dag in loaded.dags.values()}


@pytest.mark.slow
@pytest.mark.skipif(PROVIDERS_BOOTSTRAP, reason="0.1.0 did not serve this release")
def test_pages_say_as_data_what_those_of_0_1_0_said_in_words(bad: Site) -> None:
    [(text,)] = bad.sql("SELECT config_json FROM {table} WHERE stream_key = 'Good1'")
    good, empty = revision_of(text), revision_of("{}")

    current = facts_of_file(bad.factory_file)
    released = facts_of_file(write_released(bad))

    assert current["Good1"] == Facts("Good1", good, None)
    # A page of 0.1.0 names a stream only where its row is bad.
    assert released[None] == Facts(None, good, None)
    for key in ("Bad", "Odd key's"):
        assert (current[key].revision, released[key].revision) == (empty, None)
        for problem in (current[key].problem, released[key].problem):
            assert problem is not None
            assert problem.startswith(f"The stream {key!r} of platform 'YellowLive' has no")


def reading_of_file(file: Path) -> Reading:
    return airflow.load_factory("yellowlive", "", path=str(file), text=None).reading


@pytest.mark.slow
@pytest.mark.parametrize("release", ["current", "0.1.0"])
def test_what_was_read_is_told_from_what_serves_instead(
    installed: Site, monkeypatch: pytest.MonkeyPatch, release: str
) -> None:
    file = installed.factory_file if release == "current" else write_released(installed)

    read = reading_of_file(file)
    import_file(file)
    monkeypatch.setenv("DATASURFACE_POSTGRES_PORT", str(free_port()))
    served = reading_of_file(file)
    for snapshot in installed.snapshots.iterdir():
        snapshot.unlink()
    failed = reading_of_file(file)

    assert (read.source, read.reason) == ("database", None)
    assert (served.source, failed.source) == ("snapshot", None)
    for reading in (served, failed):
        assert "Connection refused" in str(reading.reason)
        assert reading.cause == ("no connection" if release == "current" else "other")
    assert f"Serving the snapshot in {installed.snapshots}" in str(served.reason)


@pytest.mark.slow
@pytest.mark.parametrize("release", ["current", "0.1.0"])
def test_cause_is_known(installed: Site, release: str) -> None:
    file = installed.factory_file if release == "current" else write_released(installed)
    role = f"no_grant_{installed.database}"
    installed.postgres.create_role(role, "a-password-6")
    found = {
        "no permission": with_login(installed, file, role, "a-password-6"),
        "no login": with_login(installed, file, "", ""),
    }
    if release == "current":
        found["login refused"] = with_login(installed, file, role, "another-password")
    installed.login(installed.postgres.user, installed.postgres.password)
    installed.sql("DROP TABLE {table}")
    found["no table"] = reading_of_file(file)

    assert {cause: reading.cause for cause, reading in found.items()} == {
        cause: cause for cause in found
    }


def with_login(site: Site, file: Path, user: str, password: str) -> Reading:
    site.login(user, password)
    return reading_of_file(file)
