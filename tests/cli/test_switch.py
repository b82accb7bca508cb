"""`yellow-dynamic disable` and `enable` of several streams, with a reason, and for a time."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from recorded import changes

from one_machine import free_port

from .conftest import Operator

STORES = """[
    Store('Erp', ['a', 'b'], SINGLE, credential='erp_login'),
    Store('Crm', credential='crm_login'),
    Store('Other'),
]"""


@pytest.fixture
def three(operator: Operator) -> Operator:
    """The streams Crm, Erp_a, Erp_b and Other."""
    operator.write_model(STORES)
    operator.merge()
    return operator


def off(operator: Operator) -> set[str]:
    return {key for key, row in operator.rows().items() if row[2] == "disabled"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["Erp_*"], {"Erp_a", "Erp_b"}),
        (["Erp_a", "Other"], {"Erp_a", "Other"}),
        (["--store", "Erp"], {"Erp_a", "Erp_b"}),
        (["--store", "[CO]*"], {"Crm", "Other"}),
        (["--source-credential", "crm_login"], {"Crm"}),
        (["*_a", "--source-credential", "erp_login"], {"Erp_a"}),
        (["--all"], {"Crm", "Erp_a", "Erp_b", "Other"}),
    ],
)
def test_streams_are_chosen_by_pattern_store_and_credential(
    three: Operator, words: list[str], expected: set[str]
) -> None:
    result = three.on_dags("disable", *words, "--yes")

    assert result.exit_code == 0, result.output
    assert off(three) == expected
    assert len({each["revision"] for each in changes(three.site)}) == 2
    assert three.on_dags("enable", *words, "--yes").exit_code == 0
    assert off(three) == set()


def test_more_than_one_stream_is_listed_and_asked_about(three: Operator) -> None:
    result = three.on_dags("disable", "Erp_*")

    assert result.exit_code == 1
    assert "Erp_a of platform YellowLive, active" in result.stderr
    assert "Make these 2 streams disabled? There is nobody to ask here" in result.stderr
    assert off(three) == set()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "Say which streams"),
        (["Erp_a", "--all"], "Say which streams"),
        (["Nope_*"], "No stream of YellowLive is selected by 'Nope_*'"),
        (["Erp_a", "--until", "2020-01-01"], "'2020-01-01' is over"),
        (["Erp_a", "--until", "soon"], "'soon' is no time"),
    ],
)
def test_what_selects_nothing_is_refused(three: Operator, words: list[str], reason: str) -> None:
    result = three.on_dags("disable", *words)

    assert (result.exit_code, result.stdout) == (1, "")
    assert reason in result.stderr
    assert off(three) == set()


def test_reason_and_who_stand_in_streams_show_status_and_history(
    three: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASURFACE_USER", "alice")

    three.on_dags("disable", "Crm", "--reason", "source is down")

    for words in (["streams"], ["show", "Crm"], ["status", "--python", three.python]):
        text = three.on_dags(*words).stdout
        assert f"by alice (login {three.site.postgres.user}) at 20" in text, words
        assert ": source is down" in text, words
    [change] = json.loads(three.on_dags("history", "--limit", 1, "--json").stdout)["platforms"][0][
        "changes"
    ]
    assert change["about"]["reason"] == "source is down"
    again = three.on_dags("disable", "Crm", "--reason", "source is down").stdout
    assert "is disabled already, by alice" in again and "source is down" in again


def test_new_reason_of_a_stream_that_is_off_is_on_record(three: Operator) -> None:
    three.on_dags("disable", "Crm", "--reason", "source moves")
    before = three.rows()

    result = three.on_dags("disable", "Crm", "--reason", "do not enable")

    assert "is disabled now; it was disabled" in result.stdout
    assert ": do not enable" in three.on_dags("streams").stdout
    assert [each["action"] for each in changes(three.site)][-2:] == ["disabled", "disabled"]
    assert three.rows() == before


def let_the_time_of_crm_be_over(operator: Operator) -> None:
    operator.on_dags("disable", "Crm", "--until", "1h")
    operator.site.sql(
        "UPDATE {table} SET disabled_until = timezone('UTC', now()) - interval '1 minute' "
        "WHERE stream_key = 'Crm'"
    )


@pytest.mark.parametrize("first", ["", "UPDATE {table} SET status = 'active'"])
def test_status_set_by_sql_disables_a_stream_whose_time_is_over(
    three: Operator, first: str
) -> None:
    let_the_time_of_crm_be_over(three)
    assert "yellowlive__Crm_ingestion" in three.parse()
    if first:
        three.site.sql(first)

    three.site.sql("UPDATE {table} SET status = 'disabled' WHERE stream_key = 'Crm'")

    assert "yellowlive__Crm_ingestion" not in three.parse()
    assert three.rows()["Crm"][-1] is None


def test_sql_that_leaves_a_row_as_it_is_disables_no_stream(three: Operator) -> None:
    let_the_time_of_crm_be_over(three)

    three.site.sql("UPDATE {table} SET config_json = replace(config_json, 'an image', 'another')")

    assert "yellowlive__Crm_ingestion" in three.parse()


def test_stream_whose_time_is_over_is_active_for_plan_and_merge(three: Operator) -> None:
    let_the_time_of_crm_be_over(three)
    three.write_model(STORES.replace("'Crm',", "'Crm', trigger=None,"))

    assert "stays 'disabled'" not in three.on_model("plan").stdout
    three.merge()

    assert "yellowlive__Crm_ingestion" in three.parse()


def test_stream_is_active_by_itself_when_the_time_is_over(three: Operator) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%d %H:%M")

    result = three.on_dags("disable", "Crm", "--until", tomorrow)

    assert f"is disabled now until {tomorrow}:00 UTC" in result.stdout
    assert "yellowlive__Crm_ingestion" not in three.parse()
    assert f"until {tomorrow}:00" in three.on_dags("streams").stdout

    three.site.sql(
        "UPDATE {table} SET disabled_until = timezone('UTC', now()) - interval '1 s' "
        "WHERE stream_key = 'Crm'"
    )

    assert "yellowlive__Crm_ingestion" in three.parse()
    assert ", which is over" in three.on_dags("streams").stdout
    result = three.on_dags("status", "--python", three.python, "--json")
    [platform] = json.loads(result.stdout)["platforms"]
    assert {each["state"] for each in platform["streams"]} == {"healthy"}


def test_enabled_stream_has_no_time_left(three: Operator) -> None:
    three.on_dags("disable", "Crm", "--until", "12h")
    three.on_dags("enable", "Crm")
    three.on_dags("disable", "Crm")

    assert three.rows()["Crm"][-1] is None


@pytest.mark.parametrize("until", ["12h", None])
def test_stream_that_a_merge_drops_and_another_brings_back_stays_disabled(
    three: Operator, until: str | None
) -> None:
    three.on_dags("disable", "Crm", *(["--until", until] if until else []))
    before = three.rows()["Crm"]
    three.write_model("[Store('Other')]")
    three.merge()
    three.write_model(STORES)
    three.merge()

    assert three.rows()["Crm"][2] == "disabled"
    assert three.rows()["Crm"][-1] == before[-1]
    assert off(three) == {"Crm"}
    assert "by " in three.on_dags("streams").stdout
    three.on_dags("enable", "Crm")
    three.write_model("[Store('Other')]")
    three.merge()
    three.write_model(STORES)
    three.merge()
    assert off(three) == set()


def test_stream_whose_time_is_over_comes_back_active(three: Operator) -> None:
    three.on_dags("disable", "Crm", "--until", "12h")
    three.site.sql("UPDATE {table} SET disabled_until = '2020-01-01' WHERE stream_key = 'Crm'")
    three.write_model("[Store('Other')]")
    three.merge()
    three.write_model(STORES)
    three.merge()

    assert off(three) == set()


def test_reason_needs_a_history_and_a_switch_does_not(three: Operator) -> None:
    three.site.sql("DROP TABLE {table}_history CASCADE")
    three.site.sql("DROP FUNCTION {table}_record CASCADE")

    result = three.on_dags("disable", "Crm", "--reason", "why")
    assert result.exit_code == 1
    assert "A reason or a time cannot be kept, and nothing was changed." in result.stderr
    assert off(three) == set()
    assert three.on_dags("disable", "Crm").exit_code == 0
    assert off(three) == {"Crm"}


def test_platform_that_cannot_be_asked_says_why(
    three: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASURFACE_POSTGRES_PORT", str(free_port()))

    result = three.on_dags("disable", "Erp_*", "--yes")

    assert result.exit_code == 1
    assert "Other platforms" not in result.stderr
    assert "Check that the database is up and can be reached from here." in result.stderr


def test_time_is_kept_for_as_long_as_the_database_is_away(
    three: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    three.on_dags("disable", "Crm", "--until", "1h")
    assert "yellowlive__Crm_ingestion" not in three.parse()
    [file] = three.site.snapshots.glob("yellowlive.json")
    rows = json.loads(file.read_text())["rows"]
    assert {key for key, *_, until in rows if until} == {"Crm"}
    monkeypatch.setenv("DATASURFACE_POSTGRES_PORT", str(free_port()))

    assert three.parse().keys() == {
        f"yellowlive__{key}_ingestion" for key in ("Erp_a", "Erp_b", "Other")
    }


def test_platform_that_was_written_before_an_error_is_named(three: Operator) -> None:
    role = f"half_{three.site.database}"
    other = three.factory.with_name("other_factory_dag.py")
    other.write_text(
        three.factory.read_text()
        .replace("'YellowLive'", "'Other'")
        .replace("'yellowlive_airflow_dsg'", "'other_airflow_dsg'")
    )
    three.site.sql("CREATE TABLE other_airflow_dsg (LIKE {table})")
    three.site.sql("INSERT INTO other_airflow_dsg SELECT * FROM {table}")
    three.site.postgres.create_role(role, "a-password-6")
    three.site.sql(f"GRANT SELECT ON {{table}} TO {role}")
    three.site.sql(f"GRANT SELECT, UPDATE ON other_airflow_dsg TO {role}")
    three.site.login(role, "a-password-6")

    result = three.on_dags("disable", "Crm*", "--yes")

    assert result.exit_code == 1
    assert "Before that, the streams of Other were made disabled." in result.stderr
    assert "permission denied for table yellowlive_airflow_dsg" in result.stderr
    assert off(three) == set()
