"""`yellow-dynamic plan`: what the next merge will do, before it does it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from datasurface_host import SOURCE
from yellow_models import IMAGE

from yellow_dynamic import RunSettings
from yellow_dynamic.monitoring.changes import compare_configs
from yellow_dynamic.schedules import offset_of

from .conftest import Operator


def refusal(operator: Operator, *words: Any) -> str:
    """Return the last line of a plan that could not be made."""
    result = operator("plan", *words)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr.splitlines()[-1]


def test_first_merge_is_planned_key_by_key_and_nothing_is_written(operator: Operator) -> None:
    result = operator.on_model("plan", "--platform", "YellowLive")

    assert result.exit_code == 2, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "Platform YellowLive, table yellowlive_airflow_dsg"
    assert "  + stream Pair_a" in lines
    assert '      + datasets = ["a"]' in lines
    assert lines[1] == (
        "Plan: 3 added (Pair_a, Pair_b, Store1), 0 changed, 0 removed, 0 unchanged."
    )
    assert operator.rows() == {}


def test_no_change_after_a_merge_is_exit_code_0(merged: Operator) -> None:
    result = merged.on_model("plan")

    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[1:] == ["Plan: 0 added, 0 changed, 0 removed, 3 unchanged."]


def test_plan_is_what_the_merge_then_logs_and_writes(merged: Operator) -> None:
    merged.site.sql("UPDATE {table} SET status = 'disabled' WHERE stream_key = 'Store1'")
    merged.write_model(
        "[Store('Store1', ['customers'], trigger=None), Store('Pair', ['b', 'c'], SINGLE)]"
    )

    result = merged.on_model("plan", "--json")

    assert result.exit_code == 2, result.output
    found = json.loads(result.stdout)
    [platform] = found["platforms"]
    assert found["changes"] is True
    actions = {stream["stream_key"]: stream["action"] for stream in platform["streams"]}
    assert actions == {"Pair_c": "added", "Store1": "changed", "Pair_a": "removed"}
    [store1] = [each for each in platform["streams"] if each["stream_key"] == "Store1"]
    assert store1["status"] == "disabled"
    assert store1["keys"] == [
        {
            "key": "datasets",
            "action": "changed",
            "old": ["customers", "addresses"],
            "new": ["customers"],
        },
        {"key": "schedule_string", "action": "changed", "old": "* * * * *", "new": "@hourly"},
    ]

    done = merged.commands.merge()

    assert done.returncode == 0, done.stderr
    # A real DataSurface shows only what its own loggers say.
    if SOURCE is None:
        assert f"'yellowlive_airflow_dsg': {platform['summary']}.\n" in done.stderr
    after = merged.on_model("plan")
    assert after.exit_code == 0, after.output
    assert merged.rows()["Store1"][2] == "disabled"
    assert merged.rows().keys() == {"Pair_b", "Pair_c", "Store1"}


def test_changed_keys_and_a_kept_status_are_shown(merged: Operator) -> None:
    merged.site.sql("UPDATE {table} SET status = 'disabled' WHERE stream_key = 'Store1'")
    merged.write_model("[Store('Store1', trigger=None), Store('Pair', ['a'], SINGLE)]")

    lines = merged.on_model("plan").stdout.splitlines()

    assert "  ~ stream Store1 (its status stays 'disabled')" in lines
    assert '      ~ schedule_string: "* * * * *" -> "@hourly"' in lines
    assert "  - stream Pair_b" in lines


def test_settings_of_runs_and_the_schedule_that_they_make_are_shown(merged: Operator) -> None:
    settings = RunSettings(retries=2, timeout=timedelta(hours=1), spread=1440)
    merged.site.model.platformArguments = {"runsOf": {"Store1": settings}}
    merged.write_model("[Store('Store1', trigger=None), Store('Pair', ['a', 'b'], SINGLE)]")

    lines = merged.on_model("plan").stdout.splitlines()

    offset = offset_of("Store1", "@hourly", 1440)
    assert f'      ~ schedule_string: "* * * * *" -> "{offset} * * * *"' in lines
    assert "      + retries = 2" in lines
    assert "      + timeout_seconds = 3600" in lines
    assert f"      + spread_minutes = {offset}" in lines
    merged.merge()
    assert merged.on_model("plan").exit_code == 0


def test_row_edited_by_hand_is_planned_to_change_back(merged: Operator) -> None:
    merged.edit("Pair_a", note="mine", datasurface_docker_image="acme/jobs:2")
    merged.edit("Pair_b")
    merged.site.sql("UPDATE {table} SET config_json = 'no JSON' WHERE stream_key = 'Store1'")

    lines = merged.on_model("plan").stdout.splitlines()

    assert '      - note = "mine"' in lines
    image = f'datasurface_docker_image: "acme/jobs:2" -> "{IMAGE}"'
    assert f"      ~ {image}" in lines
    assert '      - config_json = "no JSON"' in lines
    assert any("the same values in another writing" in line for line in lines)


def test_value_of_a_row_cannot_reach_the_terminal_as_markup_or_control(merged: Operator) -> None:
    merged.edit("Store1", note="[red]x[/red]\x1b[2J")
    merged.site.sql("UPDATE {table} SET stream_key = E'Pair\\x1b_a' WHERE stream_key = 'Pair_a'")

    result = merged.on_model("plan")

    assert "\x1b" not in result.stdout
    assert '- note = "[red]x[/red]\\u001b[2J"' in result.stdout
    assert "- stream Pair\\x1b_a" in result.stdout


def test_platforms_are_named_as_for_the_merge(merged: Operator) -> None:
    result = merged("plan", "--model", merged.model, "--platform", "YellowLive", "YellowLive")

    assert result.exit_code == 0, result.output
    line = refusal(merged, "--model", merged.model, "--platform", "Other")
    assert "There is no YellowDynamicDataPlatform 'Other' in" in line
    assert line.endswith("there is: YellowLive.")


def test_what_the_merge_would_refuse_is_an_error(merged: Operator) -> None:
    merged.site.sql("ALTER TABLE {table} ALTER COLUMN config_json TYPE VARCHAR(2048)")
    merged.write_model("[Store('Store1', [f'dataset_{n}' for n in range(200)])]")
    result = merged.on_model("plan")

    assert result.exit_code == 1
    assert "the column config_json of table" in result.stderr
    assert "handleModelMerge would refuse platform 'YellowLive'" in result.stderr
    (merged.model / "dsg_platform_mapping.json").write_text("[]")
    assert "No dataset group is assigned" in refusal(merged, "--model", merged.model)


def test_problem_of_the_model_is_said_before_the_database_is_asked(
    merged: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged.write_model("[Store('S' * 120, ['d' * 120], SINGLE)]")
    monkeypatch.delenv("postgres_PASSWORD")

    result = merged.on_model("plan")

    assert result.exit_code == 1
    assert "Airflow refuses the dag id 'yellowlive__SSS" in result.stderr
    assert "handleModelMerge would refuse platform 'YellowLive'" in result.stderr


@pytest.mark.embedded
def test_broken_model_is_an_error_with_its_place(operator: Operator) -> None:
    (operator.model / "eco.py").write_text("def createEcosystem():\n    return 1 / 0\n")

    result = operator.on_model("plan")

    assert result.exit_code == 1
    assert "eco.py, line 2: ZeroDivisionError" in result.stderr
    assert f"The model in {operator.model} has errors" in result.stderr


@pytest.mark.embedded
def test_missing_folder_model_and_platforms_are_named(operator: Operator) -> None:
    assert "The model in /not/there has errors" in refusal(operator, "--model", "/not/there")
    (operator.model / "eco.py").write_text(
        "from yellow_models import Model\n"
        "from datasurface.platforms.yellow import YellowDataPlatform\n"
        "def createEcosystem():\n    return Model(platformClass=YellowDataPlatform).build()\n"
    )
    refused = refusal(operator, "--model", operator.model)
    assert "no YellowDynamicDataPlatform: 'YellowLive' is a YellowDataPlatform" in refused


@pytest.mark.embedded
def test_unreachable_database_and_missing_table_are_said_with_what_to_do(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.site.sql("DROP TABLE {table}")
    line = refusal(operator, "--model", operator.model)
    assert "could not read table 'yellowlive_airflow_dsg'" in line
    assert "Run bootstrap with --ringLevel 1 to create the table." in line

    monkeypatch.setenv("postgres_PASSWORD", "wrong-password-1")
    role = operator.site.create_role("refused_by_plan", "right-password-1")
    monkeypatch.setenv("postgres_USER", role)
    monkeypatch.setenv("PGHOSTADDR", "127.99.99.99")
    line = refusal(operator, "--model", operator.model)
    assert "Check that the database is up and can be reached from here" in line
    assert "wrong-password-1" not in line

    monkeypatch.delenv("postgres_PASSWORD")
    line = refusal(operator, "--model", operator.model)
    assert "postgres_PASSWORD" in line
    assert "set the environment variables postgres_USER and postgres_PASSWORD" in line


def test_model_is_asked_for_where_none_is_given(operator: Operator) -> None:
    result = operator("plan")

    assert result.exit_code == 1
    assert "--model" in result.stderr


def test_output_of_a_model_does_not_get_into_the_json(merged: Operator) -> None:
    eco = merged.model / "eco.py"
    eco.write_text(f"print('loading')\n{eco.read_text()}")

    result = merged.on_model("plan", "--json")

    assert json.loads(result.stdout)["changes"] is False
    assert "loading" in result.stderr


def test_key_that_is_null_is_told_from_one_that_is_missing() -> None:
    assert [vars(each) for each in compare_configs('{"a": null, "b": 1}', '{"b": true}')] == [
        {"key": "a", "action": "removed", "old": None, "new": None},
        {"key": "b", "action": "changed", "old": 1, "new": True},
    ]


def test_plan_of_some_streams_lists_these_alone(merged: Operator) -> None:
    merged.write_model("[Store('Store1', trigger=None), Store('Pair', ['a', 'b'], SINGLE, None)]")

    result = merged.on_model("plan", "Pair_*", "--json")
    by_store = merged.on_model("plan", "--store", "Store1")
    nothing = merged.on_model("plan", "YellowLvie")
    kept = merged.on_model("plan", "Pair_a", "--out", merged.site.folder / "plan.json")

    [platform] = json.loads(result.stdout)["platforms"]
    assert result.exit_code == 2
    assert [each["stream_key"] for each in platform["streams"]] == ["Pair_a", "Pair_b"]
    assert "3 changed" in platform["summary"]
    assert "stream Store1" in by_store.stdout
    assert "Pair" not in by_store.stdout.replace("Plan: 0 added, 3 changed (Pair_a, Pair_b", "")
    assert nothing.exit_code == 1
    assert "by 'YellowLvie', which is no platform either" in nothing.stderr
    assert kept.exit_code == 1
    assert "of some streams is none that a merge can carry out" in kept.stderr
