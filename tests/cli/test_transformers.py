"""The command on a platform with a transformer: its streams are streams like the others."""

from __future__ import annotations

import json

import pytest
from batch_rows import write_batch
from transforming import KEYS, OUTPUT, TRANSFORMER, transform

from datasurface.md import CronTrigger

from .conftest import Operator
from .test_verify_parity import verify

DAG_ID = "yellowlive__Producer_datatransformer"


@pytest.fixture
def transforming(operator: Operator) -> Operator:
    """A platform with a transformer, bootstrapped and not merged yet."""
    transform(operator.site.model)
    also = "from transforming import transform\ntransform(model)"
    operator.commands = type(operator.commands)(operator.model, operator.site.model, also=also)
    return operator


def test_plan_shows_what_a_transformer_adds_and_what_starts_it(transforming: Operator) -> None:
    result = transforming.on_model("plan")

    assert result.exit_code == 2, result.output
    assert f"{len(KEYS)} to add" in result.stdout or f"{len(KEYS)} added" in result.stdout
    for key in KEYS:
        assert key in result.stdout


def test_streams_say_after_whom_they_start(transforming: Operator) -> None:
    transforming.merge()

    result = transforming.on_model("streams")

    lines = {line.split()[1]: line for line in result.stdout.splitlines() if " active " in line}
    assert sorted(lines) == sorted(KEYS)
    assert "after Store1, Each_x" in lines[TRANSFORMER]
    assert f"after {TRANSFORMER}" in lines[OUTPUT]
    assert "transformer_output" in lines[OUTPUT]


@pytest.mark.slow
def test_check_and_show_know_the_dags_of_transformers(transforming: Operator) -> None:
    transforming.merge()

    check = transforming("check", "--dags", transforming.dags, "--python", transforming.python)
    show = transforming("show", TRANSFORMER, "--dags", transforming.dags, "--json")

    assert check.exit_code == 0, check.output
    assert DAG_ID in show.stdout


def test_transformer_is_switched_off_and_drifts_as_others_do(transforming: Operator) -> None:
    transforming.merge()

    off = transforming.on_model("disable", TRANSFORMER)
    transforming.edit(OUTPUT, datasurface_docker_image="acme/other:1")
    drift = transforming.on_model("drift", "--json")

    assert off.exit_code == 0, off.output
    assert transforming.rows()[TRANSFORMER][2] == "disabled"
    [platform] = json.loads(drift.stdout)["platforms"]
    assert [stream["stream_key"] for stream in platform["streams"]] == [OUTPUT]
    transforming.merge()
    assert transforming.rows()[TRANSFORMER][2] == "disabled"


def test_disable_says_which_streams_stop_with_it(transforming: Operator) -> None:
    transforming.merge()
    line = (
        "Streams of platform YellowLive that wait for what is disabled do not start either: "
        f"{TRANSFORMER}; {OUTPUT}."
    )

    asked = transforming.on_model("disable", "Store*", "Each_*")
    one = transforming.on_model("disable", "Store1")
    as_json = transforming.on_model("disable", "Store1", "--json")
    last = transforming.on_model("disable", OUTPUT)
    again = transforming.on_model("enable", "Store1")

    # Before it asks.
    assert (asked.exit_code, line in asked.stderr) == (1, True)
    assert line in one.stdout
    assert json.loads(as_json.stdout)["stopped"] == {"YellowLive": [TRANSFORMER, OUTPUT]}
    assert "do not start either" not in last.stdout + again.stdout


def test_status_says_for_which_disabled_stream_another_one_waits(transforming: Operator) -> None:
    transforming.merge()
    transforming.on_model("disable", "Store1")

    result = transforming.on_model("status", "--json")

    assert result.exit_code == 2, result.output
    [platform] = json.loads(result.stdout)["platforms"]
    found = {each["stream_key"]: (each["state"], each["reason"]) for each in platform["streams"]}
    waits = "waits for the stream Store1, which is disabled"
    assert found["Each_x"] == ("healthy", "")
    assert found[TRANSFORMER] == ("waiting", f"it {waits}")
    assert found[OUTPUT] == ("waiting", f"it waits for the stream {TRANSFORMER}, which {waits}")


def test_transformer_with_a_cron_that_never_ran_is_late(operator: Operator) -> None:
    daily = CronTrigger("Daily", "0 6 * * *")
    transform(operator.site.model, trigger=daily)
    also = (
        "from datasurface.md import CronTrigger\nfrom transforming import transform\n"
        "transform(model, trigger=CronTrigger('Daily', '0 6 * * *'))"
    )
    operator.commands = type(operator.commands)(operator.model, operator.site.model, also=also)
    operator.merge()
    operator.site.sql("UPDATE {table} SET created_at = created_at - interval '30 days'")

    result = operator.on_model("status", TRANSFORMER)

    assert result.exit_code == 2, result.output
    assert f"late {TRANSFORMER}: no good run yet, and its row is there since 2" in result.stdout
    write_batch(operator.site, "Totals", 1)
    assert operator.on_model("status", TRANSFORMER).exit_code == 0


@pytest.mark.slow
@pytest.mark.embedded
def test_parity_counts_no_transformer_as_a_difference(transforming: Operator) -> None:
    from static_files import write_static_files

    transforming.merge()
    static = transforming.site.folder / "static"
    write_static_files(transforming.site, static)
    dags = transforming.site.folder / "dags"

    result = verify(transforming.site, static=static, dags=dags)

    assert result.exit_code == 0, result.output
    lines = {line.split()[1]: line for line in result.stdout.splitlines() if "__" in line[:60]}
    assert "no static form" in lines[DAG_ID]
    assert "no static form" in lines["yellowlive__Totals_dt_ingestion"]
    assert "equal" in lines["yellowlive__Store1_ingestion"]
    assert "deliveries of streams that start others are announced" in result.stdout
