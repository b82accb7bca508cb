"""Nothing true of one platform, process or model is taken for another's."""

from __future__ import annotations

import json

import pytest

from one_machine import free_port

from .conftest import Operator

pytestmark = pytest.mark.from_the_field("a fault of another platform or process")


@pytest.fixture
def with_broken_other(merged: Operator) -> Operator:
    """The platform, and the factory file of another one that has no table."""
    text = merged.factory.read_text().replace("'yellowlive'", "'other'")
    text = text.replace("'YellowLive'", "'Other'").replace("'yellowlive_airflow", "'other_airflow")
    (merged.dags / "other_factory_dag.py").write_text(text)
    return merged


@pytest.mark.parametrize("command", ["streams", "drift"])
def test_platform_without_a_table_costs_no_other_one(
    with_broken_other: Operator, command: str
) -> None:
    result = with_broken_other.on_dags(command)

    assert result.exit_code == 1
    assert "YellowLive" in result.stdout
    [error] = result.stderr.splitlines()
    assert "Platform 'Other': could not read table 'other_airflow_dsg'" in error

    answer = json.loads(with_broken_other.on_dags(command, "--json").stdout)
    assert [each["platform"] for each in answer["platforms"]] == ["YellowLive"]
    assert answer["errors"] == [error]


def test_stream_is_shown_although_another_platform_cannot_be_read(
    with_broken_other: Operator,
) -> None:
    result = with_broken_other.on_dags("show", "Store1")

    assert result.exit_code == 1
    assert "Stream Store1 of platform YellowLive" in result.stdout
    assert "Platform 'Other': could not read table" in result.stderr


def test_stream_is_not_switched_where_another_platform_may_have_it_too(
    with_broken_other: Operator,
) -> None:
    refused = with_broken_other.on_dags("disable", "Store1")

    assert refused.exit_code == 1
    assert "nothing was changed. Name its platform with --platform" in refused.stderr
    assert with_broken_other.rows()["Store1"][2] == "active"

    done = with_broken_other.on_dags("disable", "Store1", "--platform", "YellowLive")
    assert done.exit_code == 0


def test_plan_reads_where_the_environment_leads_it(
    merged: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert merged.on_model("plan").exit_code == 0
    monkeypatch.setenv("DATASURFACE_POSTGRES_PORT", str(free_port()))

    result = merged.on_model("plan")

    assert result.exit_code == 1
    assert "Connection refused" in result.stderr


@pytest.mark.parametrize(
    "code", ["import sys; sys.exit(0)", "class Odd(BaseException): pass\nraise Odd('no')"]
)
def test_model_that_ends_the_process_is_an_error(merged: Operator, code: str) -> None:
    (merged.model / "eco.py").write_text(f"{code}\n")

    result = merged.on_model("streams")

    assert result.exit_code == 1
    assert f"The model in {merged.model}" in result.stderr


def test_words_of_a_models_child_process_stay_out_of_the_answer(
    merged: Operator, capfd: pytest.CaptureFixture[str]
) -> None:
    eco = merged.model / "eco.py"
    eco.write_text(f"import os\nos.system('echo a word of the child')\n{eco.read_text()}")

    done = merged.process("streams", "--model", merged.model, "--json")

    assert done.returncode == 0, done.stderr
    assert [each["platform"] for each in json.loads(done.stdout)["platforms"]] == ["YellowLive"]
    assert "a word of the child" in done.stderr


def test_reading_command_says_nothing_of_changes_or_of_grants_that_are_there(
    merged: Operator,
) -> None:
    merged.site.sql("ALTER TABLE {table} RENAME TO gone")

    error = merged.on_dags("streams").stderr

    assert "Nothing was changed" not in error
    assert "rant" not in error
    assert "Run bootstrap with --ringLevel 1 to create the table." in error
