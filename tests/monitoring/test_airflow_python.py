"""What the command learns of a factory file by loading it with Airflow's Python."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Site, import_file
from warm_python import AIRFLOW, warm_python
from yellow_models import Store

from one_machine import free_port
from yellow_dynamic.factory.rules import compute_revision
from yellow_dynamic.monitoring.airflow_python import load_factory
from yellow_dynamic.monitoring.in_airflow import FactoryReading, Facts, LoadedFactory

pytestmark = pytest.mark.slow


def load(file: Path, python: str | None = None) -> LoadedFactory:
    python = warm_python(*AIRFLOW) if python is None else python
    return load_factory("yellowlive", python, path=str(file), text=None)


def test_time_zone_of_schedules_is_that_of_airflow(
    installed: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__DEFAULT_TIMEZONE", "Europe/Berlin")

    assert load(installed.factory_file, "").time_zone == "Europe/Berlin"


def test_metadata_of_good_and_bad_streams_is_read(site: Site) -> None:
    site.model.stores = [Store("Good1")]
    site.bootstrap()
    site.merge_cleanly()
    for key in ("Bad", "Odd key's"):
        site.insert(key, "{}")
    [(text,)] = site.sql("SELECT config_json FROM {table} WHERE stream_key = 'Good1'")

    loaded = load(site.factory_file)

    assert loaded.error is None
    facts = {dag.facts.stream: dag.facts for dag in loaded.dags.values()}
    good = facts["Good1"]
    # DataSurface 0.0.56 and 0.0.57 have settings of their own.
    assert good == Facts("Good1", compute_revision(text), None, settings=good.settings)
    for key in ("Bad", "Odd key's"):
        assert facts[key].revision == compute_revision("{}")
        problem = facts[key].problem
        assert problem is not None
        assert problem.startswith(f"The stream {key!r} of platform 'YellowLive' has no")


def test_rows_of_the_table_are_told_from_those_of_the_snapshot(
    installed: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = installed.factory_file

    read = load(file).reading
    import_file(file)
    monkeypatch.setenv("DATASURFACE_POSTGRES_PORT", str(free_port()))
    served = load(file).reading
    for snapshot in installed.snapshots.iterdir():
        snapshot.unlink()
    failed = load(file).reading

    assert (read.source, read.reason) == ("database", None)
    assert (served.source, failed.source) == ("snapshot", None)
    for reading in (served, failed):
        assert "Connection refused" in str(reading.reason)
        assert reading.cause == "no connection"
    assert f"Serving the snapshot in {installed.snapshots}" in str(served.reason)


def test_cause_is_known(installed: Site) -> None:
    file = installed.factory_file
    role = f"no_grant_{installed.database}"
    installed.postgres.create_role(role, "a-password-6")
    found = {
        "no permission": read_with_login(installed, role, "a-password-6"),
        "no login": read_with_login(installed, "", ""),
        "login refused": read_with_login(installed, role, "another-password"),
    }
    installed.login(installed.postgres.user, installed.postgres.password)
    installed.sql("DROP TABLE {table}")
    found["no table"] = load(file).reading

    assert {cause: reading.cause for cause, reading in found.items()} == {
        cause: cause for cause in found
    }


def read_with_login(site: Site, user: str, password: str) -> FactoryReading:
    site.login(user, password)
    return load(site.factory_file).reading
