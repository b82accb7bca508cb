"""`yellow-dynamic streams`, `show`, `disable` and `enable`: the rows, and an operator's status."""

from __future__ import annotations

import json
import shlex
import sys
import threading
from typing import Any

import pytest
from typer.testing import Result
from yellow_models import IMAGE, login_keys

from one_machine import free_port

from .conftest import Operator


def refusal(result: Result) -> str:
    """Return the one line of a command that could not do what it was asked."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    return str(line)


def statuses(operator: Operator) -> dict[str, str]:
    return {key: row[2] for key, row in operator.rows().items()}


@pytest.mark.parametrize("place", ["on_model", "on_dags"])
def test_streams_are_listed_from_a_model_or_from_the_factory_file(
    merged: Operator, place: str
) -> None:
    merged.site.sql("UPDATE {table} SET status = 'disabled' WHERE stream_key = 'Pair_a'")

    result = getattr(merged, place)("streams")

    assert result.exit_code == 0, result.output
    assert "YellowLive: 3 streams in table yellowlive_airflow_dsg" in result.stdout
    lines = {line.split()[1]: line for line in result.stdout.splitlines() if "sql_s" in line}
    assert lines.keys() == {"Pair_a", "Pair_b", "Store1"}
    assert "disabled" in lines["Pair_a"]
    assert "active" in lines["Store1"] and "* * * * *" in lines["Store1"]


def test_streams_for_programs_hold_the_configuration(merged: Operator) -> None:
    found = json.loads(merged("streams", "--dags", merged.factory, "--json").stdout)

    [platform] = found["platforms"]
    assert (platform["platform"], platform["table"]) == ("YellowLive", "yellowlive_airflow_dsg")
    [store1] = [row for row in platform["streams"] if row["stream_key"] == "Store1"]
    assert store1["status"] == "active"
    assert store1["config"]["datasets"] == ["customers", "addresses"]


def test_rows_that_no_merge_wrote_are_listed_without_markup_or_control(merged: Operator) -> None:
    merged.site.insert("[red]Bad[/red]\x1b[2J", "no JSON", status=None)
    merged.site.insert("Odd", json.dumps({"schedule_string": 5, "datasets": 7}), "[b]new[/b]\x07")

    result = merged.on_dags("streams")

    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.stdout and "\x07" not in result.stdout
    assert "[red]Bad[/red]\\x1b[2J" in result.stdout
    assert "[b]new[/b]\\x07" in result.stdout
    assert json.loads(merged.on_dags("streams", "--json").stdout)


def test_stream_is_switched_off_until_it_is_switched_on_and_a_merge_keeps_that(
    merged: Operator,
) -> None:
    before = merged.rows()

    result = merged.on_dags("disable", "Store1")

    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("The stream Store1 of platform YellowLive is disabled now;")
    assert statuses(merged) == {"Pair_a": "active", "Pair_b": "active", "Store1": "disabled"}
    assert [row[:2] + row[3:] for row in merged.rows().values()] == [
        row[:2] + row[3:] for row in before.values()
    ]
    assert "yellowlive__Store1_ingestion" not in merged.parse()
    merged.write_model("[Store('Store1', trigger=None)]")
    merged.merge()
    assert statuses(merged) == {"Store1": "disabled"}

    result = merged.on_model("enable", "Store1", "--json")

    assert json.loads(result.stdout) == {
        "streams": [
            {
                "platform": "YellowLive",
                "stream_key": "Store1",
                "status": "active",
                "was": "disabled",
                "until": None,
                "reason": None,
            }
        ],
        "stopped": {},
    }
    assert statuses(merged) == {"Store1": "active"}
    again = merged.on_dags("enable", "Store1")
    assert (again.exit_code, "is active already" in again.stdout) == (0, True)


@pytest.mark.parametrize("level", ["read committed", "serializable"])
def test_switching_off_waits_for_a_merge_and_takes_effect_on_its_rows(
    merged: Operator, level: str
) -> None:
    merged.site.sql(
        f"ALTER DATABASE {merged.site.database} SET default_transaction_isolation = '{level}'"
    )
    with merged.site.postgres.connect(merged.site.database) as merge, merge.cursor() as cursor:
        cursor.execute("LOCK TABLE yellowlive_airflow_dsg IN EXCLUSIVE MODE")
        cursor.execute("CREATE TEMP TABLE rows ON COMMIT DROP AS TABLE yellowlive_airflow_dsg")
        cursor.execute("DELETE FROM yellowlive_airflow_dsg")
        cursor.execute("INSERT INTO yellowlive_airflow_dsg TABLE rows")
        results: list[Result] = []
        waiting = threading.Thread(
            target=lambda: results.append(merged.on_dags("disable", "Store1"))
        )
        waiting.start()
        merged.wait_for_lock()
        merge.commit()
        waiting.join(30)

    assert results[0].exit_code == 0, results[0].output
    assert statuses(merged)["Store1"] == "disabled"


def test_unknown_stream_is_refused_with_those_of_similar_names(merged: Operator) -> None:
    line = refusal(merged.on_dags("disable", "Stor1"))

    assert line.startswith("There is no stream 'Stor1' on YellowLive; there is, for example:")
    assert "Store1" in line
    assert set(statuses(merged).values()) == {"active"}


def test_stream_of_two_platforms_needs_the_platforms_name(merged: Operator) -> None:
    merged.factory.with_name("other_factory_dag.py").write_text(
        merged.factory.read_text().replace("'YellowLive'", "'Other'")
    )

    line = refusal(merged.on_dags("disable", "Store1"))

    assert "Several platforms have a stream 'Store1': Other, YellowLive. Give one with" in line
    result = merged.on_dags("disable", "Store1", "--platform", "YellowLive")
    assert result.exit_code == 0, result.output


def test_login_that_may_only_read_is_refused_with_what_to_grant(merged: Operator) -> None:
    role = merged.site.create_role("reader_of_streams", "a-password-1")
    merged.site.sql(f"GRANT SELECT ON {{table}} TO {role}")
    merged.site.login(role, "a-password-1")

    assert merged.on_dags("streams").exit_code == 0
    line = refusal(merged.on_dags("disable", "Store1"))

    assert "could not change a status in table 'yellowlive_airflow_dsg'" in line
    assert "UPDATE" in line
    assert "a-password-1" not in line


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    ("change", "advice"),
    [
        ("ADD CHECK (status <> 'disabled')", "A constraint or an index that was added to the"),
        ("ALTER status TYPE varchar(6)", "A column of the table was renamed, generated, shortened"),
    ],
)
def test_change_that_the_table_refuses_is_advised_on_by_its_cause(
    merged: Operator, change: str, advice: str
) -> None:
    # PostgreSQL keeps the type of a column that a trigger names.
    merged.site.sql("DROP TRIGGER {table}_switched ON {table}")
    merged.site.sql(f"ALTER TABLE {{table}} {change}")

    line = refusal(merged.on_dags("disable", "Store1"))

    assert advice in line
    assert "is up" not in line


def test_hidden_rows_are_an_error_and_not_streams_that_went(merged: Operator) -> None:
    role = merged.site.create_role("reader_without_rows", "a-password-6")
    merged.site.sql(f"GRANT SELECT ON {{table}} TO {role}")
    merged.site.sql("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    merged.site.login(role, "a-password-6")

    assert "Row security would hide rows of the table" in refusal(merged.on_dags("streams"))


def test_what_is_missing_is_named_with_what_to_type(
    merged: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "--model FOLDER with eco.py, or --dags FOLDER" in refusal(merged("streams"))
    assert "There is no folder /not/there." in refusal(merged("streams", "--dags", "/not/there"))
    assert "There is no factory file of yellow_dynamic in" in refusal(
        merged("streams", "--dags", merged.model)
    )
    monkeypatch.setenv("DATASURFACE_POSTGRES_PORT", str(free_port()))
    assert "Check that the database is up and can be reached from here." in refusal(
        merged.on_dags("streams")
    )
    monkeypatch.setenv("DATASURFACE_POSTGRES_PORT", "http")
    assert "DATASURFACE_POSTGRES_PORT is 'http', not a number" in refusal(merged.on_dags("streams"))
    monkeypatch.delenv("postgres_USER")
    assert "set the environment variables postgres_USER and postgres_PASSWORD" in refusal(
        merged.on_dags("streams")
    )


def test_file_of_the_name_that_is_none_is_named_with_the_reason(merged: Operator) -> None:
    merged.factory.write_text("# DataSurface's own")

    line = refusal(merged.on_dags("streams"))

    assert (
        f"in {merged.dags} or below it. {merged.factory} is of another program or damaged" in line
    )


def test_files_of_a_platform_that_lead_to_different_tables_are_not_chosen_from(
    merged: Operator,
) -> None:
    (merged.dags / "backup").mkdir()
    text = merged.factory.read_text()
    old = text.replace(repr(merged.site.database), "'of_last_year'")
    (merged.dags / "backup" / merged.factory.name).write_text(old)

    line = refusal(merged.on_dags("disable", "Store1"))

    assert "The factory files of platform 'YellowLive' lead to different tables:" in line
    assert set(statuses(merged).values()) == {"active"}
    assert merged("disable", "Store1", "--dags", merged.factory).exit_code == 0


@pytest.mark.usefixtures("driver")
def test_configurations_in_a_column_of_json_are_shown_and_not_merged(merged: Operator) -> None:
    before = json.loads(merged.on_dags("streams", "--json").stdout)
    merged.site.sql("ALTER TABLE {table} ALTER config_json TYPE jsonb USING config_json::jsonb")

    assert json.loads(merged.on_dags("streams", "--json").stdout) == before
    for command in ("drift", "history", "disable Store1", "enable Store1"):
        result = merged.on_dags(*command.split())
        assert result.exit_code == 0, result.output
    plan = merged.on_model("plan")
    assert plan.exit_code == 1
    assert "config_json of table 'yellowlive_airflow_dsg' has the type jsonb" in plan.stderr


def test_factory_file_is_read_but_never_run(merged: Operator) -> None:
    with merged.factory.open("a") as file:
        file.write("\nraise SystemExit('run')\n")

    assert merged.on_dags("streams").exit_code == 0
    merged.factory.write_text("PLATFORM: dict = {'config_table': open('/etc/passwd').read()\n}\n")
    assert "There is no factory file of yellow_dynamic" in refusal(merged.on_dags("streams"))


def test_factory_file_in_another_container_is_read_there(merged: Operator) -> None:
    elsewhere = f"env IN=container {shlex.quote(sys.executable)}"

    result = merged.on_dags("streams", "--python", elsewhere)

    assert result.exit_code == 0, result.output
    assert "Store1" in result.stdout


def shown(operator: Operator, *words: Any) -> dict[str, Any]:
    result = operator("show", *words, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.mark.slow
def test_stream_is_shown_with_the_dag_that_airflow_builds(merged: Operator) -> None:
    result = merged.on_dags("show", "Store1")

    assert result.exit_code == 0, result.output
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert "status = active" in lines
    assert 'datasets = ["customers", "addresses"]' in lines
    assert "DAG yellowlive__Store1_ingestion, as Airflow will see it:" in lines
    assert "schedule = * * * * *" in lines
    assert any("check_result >> reschedule_immediately, wait_for_trigger" in ln for ln in lines)
    assert f"image = {IMAGE}" in lines
    assert f"postgres_USER = key {login_keys('postgres')[0]} of secret postgres" in lines
    assert not merged.site.snapshots.exists()
    assert merged.site.postgres.password not in result.stdout


@pytest.mark.slow
def test_model_alone_shows_the_dag_that_its_factory_file_would_build(merged: Operator) -> None:
    merged.factory.unlink()
    merged.edit("Store1", schedule_string="every day")

    found = shown(merged, "Store1", "--model", merged.model)

    assert "'every day' is not a cron expression" in found["dag"]["problem"]
    assert found["config"]["schedule_string"] == "every day"


@pytest.mark.slow
def test_stream_whose_key_is_no_id_is_shown_with_the_reason(merged: Operator) -> None:
    merged.site.insert("Odd key", "{}")

    found = shown(merged, "Odd key", "--dags", merged.dags)

    assert "Airflow refuses the dag id 'yellowlive__Odd key_ingestion'" in found["dag"]["problem"]


@pytest.mark.slow
def test_stream_without_a_dag_is_shown_with_the_reason(merged: Operator) -> None:
    merged.on_dags("disable", "Store1")

    disabled = shown(merged, "Store1", "--dags", merged.dags)
    unknown = shown(merged, "Pair_a", "--model", merged.model, "--python", "/not/there/python")

    assert (disabled["dag"], disabled["no_dag"]) == (None, "the stream is disabled.")
    assert "'/not/there/python' cannot be started" in unknown["no_dag"]
