"""`status` and `batches` on whether the data came, by the host's own record of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from batch_rows import write_batch

from one_machine import free_port

from .conftest import Operator

pytestmark = pytest.mark.slow


@pytest.fixture
def hourly(operator: Operator) -> Operator:
    """The streams Pair_a, Pair_b and Store1, due each hour and merged a year ago."""
    operator.write_model("[Store('Store1', trigger=None), Store('Pair', ['a', 'b'], SINGLE, None)]")
    operator.merge()
    operator.site.sql("UPDATE {table} SET created_at = created_at - interval '1 year'")
    for key in ("Store1", "Pair#a", "Pair#b"):
        write_batch(operator.site, key, 1)
    return operator


def test_stream_is_late_after_three_times_its_schedule(hourly: Operator) -> None:
    write_batch(hourly.site, "Store1", 2, ago="5 hours", inserted=3)
    hourly.site.sql("DELETE FROM yellowlive_batch_metrics WHERE key = 'Store1' AND batch_id = 1")
    hourly.site.sql("DELETE FROM yellowlive_batch_metrics WHERE key = 'Pair#a'")
    write_batch(hourly.site, "Pair#b", 2, ago="2 hours")

    found = hourly.on_model("status", "--dags", hourly.dags)
    as_json = json.loads(hourly.on_model("status", "--dags", hourly.dags, "--json").stdout)

    assert found.exit_code == 2, found.output
    lines = found.stdout.splitlines()
    assert lines[0] == "YellowLive: 3 streams: 1 healthy, 2 late."
    assert lines[-1] == "Not all is well: 1 healthy, 2 late."
    [late, never] = [line for line in lines if line.startswith("late ")]
    assert late.startswith("late Pair_a: no good batch yet, and its row is there since 2")
    assert never.startswith("late Store1: no good batch since 2")
    assert never.endswith(" UTC")
    [row] = [line for line in lines if "│ Store1" in line]
    assert "+3 ~0 -0" in row
    store1 = as_json["platforms"][0]["streams"][1]
    assert store1["stream_key"] == "Store1"
    assert (store1["good_batch"]["number"], store1["good_batch"]["inserted"]) == (2, 3)


def test_late_after_is_what_the_operator_says(hourly: Operator) -> None:
    write_batch(hourly.site, "Store1", 2, ago="20 minutes")
    hourly.site.sql("DELETE FROM yellowlive_batch_metrics WHERE key = 'Store1' AND batch_id = 1")

    found = hourly.on_model("status", "--dags", hourly.dags, "--late-after", "15m", "--late")

    assert found.exit_code == 2
    assert "YellowLive: 1 stream of 3: 1 late." in found.stdout
    assert "Pair" not in found.stdout
    assert hourly.on_model("status", "--dags", hourly.dags).exit_code == 0


def test_failed_batch_is_failing_and_one_in_progress_is_told(hourly: Operator) -> None:
    write_batch(hourly.site, "Store1", 2, "failed", ago="1 minute")
    write_batch(hourly.site, "Pair#a", 2, "ingested")

    result = hourly.on_model("status", "--dags", hourly.dags)
    failing = hourly.on_model("status", "--dags", hourly.dags, "--failing")

    assert "Not all is well: 2 healthy, 1 failing." in result.stdout
    assert "failing Store1: its batch 2 failed at 2" in result.stdout
    [pair_a] = [line for line in result.stdout.splitlines() if "│ Pair_a" in line]
    assert "batch 2 ingested" in pair_a
    assert "Pair" not in failing.stdout


def test_streams_without_a_schedule_are_as_slow_as_what_starts_them(hourly: Operator) -> None:
    site = hourly.site
    for key, changes in (
        ("Pair_a", {"schedule_string": None}),
        ("Pair_b", {"schedule_string": None, "started_by": ["Store1"]}),
    ):
        site.sql(
            "UPDATE {table} SET config_json = (config_json::jsonb || %s::jsonb)::text "
            "WHERE stream_key = %s",
            (json.dumps(changes), key),
        )
    site.sql("UPDATE yellowlive_batch_metrics SET batch_end_time = now() - interval '1 day'")

    found = hourly("status", "--dags", hourly.dags, "--json")

    [platform] = json.loads(found.stdout)["platforms"]
    states = {each["stream_key"]: each["state"] for each in platform["streams"]}
    # Nobody knows when Pair_a is due.
    assert states == {"Pair_a": "healthy", "Pair_b": "late", "Store1": "late"}


def test_hosts_time_zone_is_not_taken_for_utc(hourly: Operator) -> None:
    site = hourly.site
    site.sql(f"ALTER DATABASE {site.database} SET timezone = 'Pacific/Auckland'")
    write_batch(site, "Store1", 2, ago="10 minutes")

    [batch] = batches(hourly, "Store1", "--limit", 1)

    [(utc,)] = site.sql(
        "SELECT to_char((now() - interval '10 minutes') AT TIME ZONE 'UTC', %s)",
        ['YYYY-MM-DD"T"HH24:MI'],
    )
    assert batch["ended"].startswith(utc)


def test_missing_grant_is_named_and_the_rest_is_shown(hourly: Operator) -> None:
    site = hourly.site
    role = site.create_role("only_rows", "a-password-8")
    site.sql(f"GRANT SELECT ON {{table}} TO {role}")
    site.login(role, "a-password-8")

    result = hourly.on_model("status", "--dags", hourly.dags)
    refused = hourly.on_model("batches")

    assert result.exit_code == 2
    grant = f"GRANT SELECT ON yellowlive_batch_counter, yellowlive_batch_metrics TO {role};"
    assert f"What the streams delivered is not known: {grant}" in result.stdout
    assert "All is well" not in result.stdout
    assert "│ Store1" in result.stdout
    assert refused.exit_code == 1
    assert grant in refused.stderr


def test_tables_that_no_job_has_made_yet_are_no_problem(hourly: Operator) -> None:
    hourly.site.sql("DROP TABLE yellowlive_batch_counter, yellowlive_batch_metrics")

    result = hourly.on_model("status", "--dags", hourly.dags)

    assert "Not all is well: 3 late." in result.stdout
    assert batches(hourly) == []


def batches(operator: Operator, *words: Any) -> list[dict[str, Any]]:
    """Return the batches that the command lists."""
    result = operator.on_model("batches", *words, "--json")
    assert result.exit_code == 0, result.output
    [platform] = json.loads(result.stdout)["platforms"]
    found: list[dict[str, Any]] = platform["batches"]
    return found


def test_batches_are_listed_newest_first(hourly: Operator) -> None:
    write_batch(
        hourly.site, "Store1", 2, ago="-1 minute", inserted=1, updated=2, deleted=3, total=4
    )
    write_batch(hourly.site, "Store1", 3, "started", ago="-2 minutes")

    found = batches(hourly)
    told = hourly.on_model("batches", "Store1")
    newest = hourly.on_model("batches", "Store1", "--limit", 1)

    assert [(each["stream_key"], each["number"]) for each in found] == [
        ("Store1", 3),
        ("Store1", 2),
        ("Pair_b", 1),
        ("Pair_a", 1),
        ("Store1", 1),
    ]
    lines = [line for line in told.stdout.splitlines() if "│ Store1" in line]
    assert [[cell.strip() for cell in line.split("│")[2:8]] for line in lines][1] == [
        "2",
        "committed",
        lines[1].split("│")[4].strip(),
        "0:01:00",
        "+1 ~2 -3",
        "4",
    ]
    assert "Pair" not in told.stdout
    assert told.stdout.startswith("YellowLive: 3 batches")
    assert "These are the newest 1; --limit shows more." in newest.stdout


def test_stream_that_is_not_there_has_no_batches(hourly: Operator) -> None:
    result = hourly.on_model("batches", "Store2")

    assert result.exit_code == 1
    assert "No stream of YellowLive is selected by 'Store2'" in result.stderr


def test_filters_select_by_store_credential_and_pattern(hourly: Operator) -> None:
    def listed(*words: Any) -> set[str]:
        result = hourly("status", "--dags", hourly.dags, *words, "--json")
        assert result.exit_code == 0, result.output
        [platform] = json.loads(result.stdout)["platforms"]
        return {each["stream_key"] for each in platform["streams"]}

    assert listed("--store", "Pair") == {"Pair_a", "Pair_b"}
    assert listed("*_b", "Store1") == {"Pair_b", "Store1"}
    assert listed("YellowLive", "Store1") == {"Store1"}
    assert listed("--source-credential", "postgres") == {"Pair_a", "Pair_b", "Store1"}
    assert listed("--late") == set()
    assert hourly.on_model("status", "Store2").exit_code == 1


def test_reason_of_many_streams_is_said_once(
    hourly: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    hourly.parse()
    monkeypatch.setenv("DATASURFACE_POSTGRES_PORT", str(free_port()))

    result = hourly.on_model("status", "--dags", hourly.dags)

    about = [line for line in result.stdout.splitlines() if "Serving the snapshot" in line]
    [line] = about
    assert line.startswith("served from snapshot 3 streams (Pair_a; Pair_b; Store1): The config")


def test_what_serves_is_not_known_without_airflows_home(
    hourly: Operator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hourly.parse()
    for name in ("AIRFLOW_HOME", "YELLOW_DYNAMIC_SNAPSHOT_DIR"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DATASURFACE_POSTGRES_PORT", str(free_port()))

    result = hourly("status", "--dags", hourly.dags)

    assert result.exit_code == 2
    assert (
        "What Airflow serves from its snapshot is not known: AIRFLOW_HOME is not" in result.stdout
    )
    assert "cannot be loaded: yellow_dynamic.TableUnreadableError: The conf" in result.stdout
    assert "unusual_prefix" not in result.output
    assert "0 streams" not in result.output
    assert "All is well" not in result.stdout
