"""`yellow-dynamic check`: all pass on a sound installation, and each fails on a broken one."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from static_files import write_static_files

from one_machine import free_port
from yellow_dynamic import __version__

from .conftest import Operator

EVERYTHING = [
    "factory file is there once",
    "factory file is current",
    "table is there",
    "changes are on record",
    "rows are valid",
    "table has streams",
    "rows are as the model says",
    "jobs have an image with yellow_dynamic",
    "factory file compiles",
    "factory file imports",
    "Airflow's role reads the table",
    "its DAGs load",
    "no static DAG files are left",
]
#: A Python that does not see what is installed, for checks that need not wait for Airflow.
NO_PYTHON = ("--python", f"{shlex.quote(sys.executable)} -I -S")


def checked(operator: Operator, *words: Any) -> dict[str, dict[str, Any]]:
    """Return the checks by their names."""
    result = operator("check", *words, "--json")
    assert result.exit_code in (0, 2), result.output
    found = json.loads(result.stdout)
    [platform] = found["platforms"]
    checks = {each["name"]: each for each in platform["checks"]}
    assert len(checks) == len(platform["checks"])
    assert found["passed"] == all(each["passed"] for each in checks.values())
    assert (result.exit_code == 0) == found["passed"]
    assert all(bool(each["fix"]) == (not each["passed"]) for each in checks.values())
    return checks


def failed(operator: Operator, *words: Any) -> dict[str, dict[str, Any]]:
    """Return the checks that fail, without those that ask Airflow's Python."""
    found = checked(operator, *words, *NO_PYTHON)
    asked = found.pop("factory file compiles", None)
    # Of several files none is asked, so that it is said once that there are several.
    assert asked is None or not asked["passed"]
    return {name: each for name, each in found.items() if not each["passed"]}


def on_both(operator: Operator) -> tuple[Any, ...]:
    return ("--model", operator.model, "--dags", operator.factory)


@pytest.mark.slow
def test_all_checks_pass_on_a_sound_installation(merged: Operator) -> None:
    found = checked(merged, "--model", merged.model, "--dags", merged.dags)

    assert list(found) == EVERYTHING
    assert [name for name, each in found.items() if not each["passed"]] == []
    assert "3 DAGs" in found["its DAGs load"]["detail"]
    assert list(merged.dags.iterdir()) == [merged.factory]

    result = merged.on_dags("check")

    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "12 of 12 checks pass."
    assert merged.site.postgres.password not in result.stdout


def test_image_of_datasurface_fails_on_the_platform_and_on_a_row(merged: Operator) -> None:
    name = "jobs have an image with yellow_dynamic"
    merged.edit("Store1", datasurface_docker_image="docker.io/datasurface/datasurface:0.0.57")
    on_a_row = failed(merged, "--dags", merged.dags)[name]
    merged.site.model.providerArguments["datasurfaceDockerImage"] = "datasurface/datasurface:latest"
    merged.bootstrap()
    merged.merge()
    on_all = failed(merged, "--dags", merged.dags)[name]
    # What the check says to do.
    merged.site.model.providerArguments["datasurfaceDockerImage"] = "registry.example.org/jobs:1"
    merged.bootstrap()
    merged.merge()
    followed = merged.on_dags("check")

    own = "they start in DataSurface's own image: "
    assert on_a_row["detail"] == f"{own}docker.io/datasurface/datasurface:0.0.57"
    assert on_all["detail"] == f"{own}datasurface/datasurface:latest"
    assert "docker/datasurface.Dockerfile" in on_all["fix"]
    assert "run ring 0, copy its DAG files, apply its Jobs, and merge" in on_all["fix"]
    assert followed.exit_code == 0, followed.output


@pytest.mark.slow
def test_rows_that_make_no_dag_fail_with_their_reasons(merged: Operator) -> None:
    merged.edit("Store1", schedule_string="every day")

    found = checked(merged, "--dags", merged.factory)

    assert "'every day' is not a cron expression" in found["rows are valid"]["detail"]
    assert not found["its DAGs load"]["passed"]
    assert "'every day' is not a cron expression" in found["its DAGs load"]["detail"]
    assert "handleModelMerge" in found["its DAGs load"]["fix"]


@pytest.mark.slow
def test_file_that_does_not_compile_fails(merged: Operator) -> None:
    merged.factory.write_text(merged.factory.read_text() + "\ndef half(\n")

    found = checked(merged, "--dags", merged.factory)

    assert "SyntaxError" in found["factory file compiles"]["detail"]
    assert "SyntaxError" in found["factory file imports"]["detail"]
    assert "--ringLevel 0" in found["factory file compiles"]["fix"]
    assert not found["factory file is current"]["passed"]


@pytest.mark.slow
def test_file_that_does_not_import_fails(merged: Operator) -> None:
    merged.factory.write_text(merged.factory.read_text() + "\nimport no_such_module\n")

    found = checked(merged, "--dags", merged.factory)

    assert found["factory file compiles"]["passed"]
    assert "no_such_module" in found["factory file imports"]["detail"]


@pytest.mark.slow
def test_role_of_airflow_that_may_not_read_fails_with_the_grant(merged: Operator) -> None:
    role = merged.site.create_role("refused_in_check", "a-password-5")
    login = f"env postgres_USER={role} postgres_PASSWORD="
    words = ("--dags", merged.factory, "--python")

    refused = checked(merged, *words, f"{login}a-password-5 {merged.python}")
    without_login = checked(merged, *words, f"{login} {merged.python}")

    name = "Airflow's role reads the table"
    assert "permission denied" in refused[name]["detail"]
    assert refused[name]["fix"] == "GRANT SELECT ON yellowlive_airflow_dsg TO airflow_reader"
    assert "postgres_USER and postgres_PASSWORD are not both set" in without_login[name]["detail"]
    assert "kubectl patch deployment airflow-scheduler" in without_login[name]["fix"]
    assert "a-password-5" not in json.dumps(refused)


@pytest.mark.slow
def test_snapshot_that_serves_is_a_role_that_cannot_read(
    merged: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged.parse()
    elsewhere = f"env DATASURFACE_POSTGRES_PORT={free_port()} {merged.python}"

    found = checked(merged, "--dags", merged.factory, "--python", elsewhere)

    assert found["factory file imports"]["passed"]
    assert "Serving the snapshot" in found["Airflow's role reads the table"]["detail"]
    assert "psql -h" in found["Airflow's role reads the table"]["fix"]


def test_missing_factory_file_and_two_of_them_fail(merged: Operator) -> None:
    shutil.copy(merged.factory, merged.dags / "old_factory_dag.py")
    twice = failed(merged, "--dags", merged.dags)
    merged.factory.write_text(merged.factory.read_text().replace("'YellowLive'", "'Other'"))
    (merged.dags / "old_factory_dag.py").unlink()
    missing = failed(merged, "--model", merged.model, "--dags", merged.dags)

    name = "factory file is there once"
    assert "define the same DAGs" in twice[name]["detail"]
    assert twice[name]["fix"].startswith("rm ")
    assert missing[name]["detail"] == f"{merged.factory} is of platform 'Other'"
    assert "--ringLevel 0" in missing[name]["fix"]


def copy_of(operator: Operator, folder: str, old: str = "", new: str = "") -> Path:
    """Copy the factory file into a folder below the DAG folder, with one change of its text."""
    copy = operator.dags / folder / operator.factory.name
    copy.parent.mkdir()
    copy.write_text(operator.factory.read_text().replace(old, new))
    return copy


AN_OLD_ONE = (f"'{__version__}'", "'0.0.1'")


@pytest.mark.parametrize("place", ["backup", "zz"])
def test_only_a_copy_that_is_not_current_is_named_for_deletion(
    merged: Operator, place: str
) -> None:
    old = copy_of(merged, place, *AN_OLD_ONE)
    further = old.with_name("yellowlive_factory_dag_2.py")
    further.write_text("")

    for words in (("--dags", merged.dags), ("--model", merged.model, "--dags", merged.dags)):
        several = failed(merged, *words)["factory file is there once"]

        assert several["fix"] == f"rm {old} {further}"
        assert several["detail"].endswith(f"define the same DAGs; {merged.factory} is current")


def test_current_file_in_another_folder_is_kept_and_the_old_one_named(merged: Operator) -> None:
    current = copy_of(merged, "new")
    merged.factory.write_text(merged.factory.read_text().replace(*AN_OLD_ONE))

    several = failed(merged, "--dags", merged.dags)["factory file is there once"]

    assert several["fix"] == f"rm {merged.factory}"
    assert f"{current} is current" in several["detail"]


def test_of_equal_files_the_one_in_the_folder_itself_is_kept(merged: Operator) -> None:
    copy = copy_of(merged, "backup")

    assert (
        failed(merged, "--dags", merged.dags)["factory file is there once"]["fix"] == f"rm {copy}"
    )


def test_of_files_that_are_all_old_none_is_named_for_deletion(merged: Operator) -> None:
    copy_of(merged, "backup", *AN_OLD_ONE)
    merged.factory.write_text(merged.factory.read_text().replace(*AN_OLD_ONE))

    fix = failed(merged, "--dags", merged.dags)["factory file is there once"]["fix"]

    assert "--ringLevel 0" in fix and fix.endswith("copy the file, and delete the others")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("# --- The rows", "# --- My rows"), "its text was edited"),
        (("'acme/models'", "'acme/models'"), ""),
        ((f"'{__version__}'", "'0.0.1'"), "plugin_version ('0.0.1'"),
    ],
    ids=["edited", "same", "another version"],
)
def test_file_of_another_version_or_edited_is_not_current(
    merged: Operator, change: tuple[str, str], reason: str
) -> None:
    merged.factory.write_text(merged.factory.read_text().replace(*change))

    for words in (("--dags", merged.factory), on_both(merged)):
        found = failed(merged, *words)
        assert list(found) == (["factory file is current"] if reason else [])
        if reason:
            assert reason in found["factory file is current"]["detail"]
            assert "--ringLevel 0" in found["factory file is current"]["fix"]


@pytest.mark.parametrize(
    ("setting", "package", "detail"),
    [
        ("", "", ""),
        ("'7.1.0'", "", f"yellow-dynamic {__version__}, and the DAG files are of 7.1.0"),
        ("", "import sys; sys.modules['yellow_dynamic'] = None", "is not installed"),
    ],
    ids=["same version", "another version", "no package"],
)
def test_package_that_short_files_import_is_checked_in_airflows_python(
    merged: Operator, tmp_path: Path, setting: str, package: str, detail: str
) -> None:
    merged.site.model.platformArguments["factoryFromPackage"] = True
    merged.bootstrap()
    text = merged.factory.read_text()
    merged.factory.write_text(text.replace(f"'{__version__}'", setting or f"'{__version__}'"))
    words: list[Any] = ["--dags", merged.dags]
    if package:
        (tmp_path / "sitecustomize.py").write_text(package)
        words += ["--python", f"env PYTHONPATH={tmp_path} {merged.python}"]

    checks = checked(merged, *words)
    found = {name: each for name, each in checks.items() if not each["passed"]}

    name = "Airflow has the package of the DAG files"
    if not detail:
        assert name not in found and "factory file imports" not in found
        return
    assert detail in found[name]["detail"]
    assert "install yellow-dynamic" in found[name]["fix"]
    assert "factory file imports" in found


def test_file_of_another_model_is_not_current_by_the_keys_that_differ(merged: Operator) -> None:
    text = merged.factory.read_text()
    merged.factory.write_text(text.replace("'ns-test'", "'ns-old'"))

    found = failed(merged, *on_both(merged))

    assert failed(merged, "--dags", merged.factory) == {}
    assert "namespace_name ('ns-old', not 'ns-test')" in found["factory file is current"]["detail"]


def test_divided_platform_needs_all_its_factory_files(merged: Operator) -> None:
    text = merged.factory.read_text().replace("'factory_shards': 1,", "'factory_shards': 3,")
    merged.factory.write_text(text)
    second, third, fourth = (
        merged.factory.with_name(f"yellowlive_factory_dag_{number}.py") for number in (2, 3, 4)
    )
    name = "all factory files of the platform are there"

    missing = failed(merged, "--dags", merged.dags)[name]
    for file in (second, third):
        file.write_text(text)
    complete = failed(merged, "--dags", merged.dags)
    third.write_text("# another text")
    fourth.write_text(text)
    wrong = failed(merged, "--dags", merged.factory)[name]

    assert missing["detail"] == (
        "yellowlive_factory_dag_2.py is missing; yellowlive_factory_dag_3.py is missing"
    )
    assert "--ringLevel 0" in missing["fix"]
    assert complete == {}
    assert wrong["detail"] == (
        "yellowlive_factory_dag_3.py has another text; "
        "yellowlive_factory_dag_4.py is not wanted any more"
    )


def test_missing_table_and_a_narrow_one_fail_with_ring_1(merged: Operator) -> None:
    merged.site.sql("ALTER TABLE {table} ALTER COLUMN config_json TYPE VARCHAR(2048)")
    narrow = failed(merged, "--dags", merged.factory)
    merged.site.sql("ALTER TABLE {table} ALTER config_json TYPE jsonb USING config_json::jsonb")
    json_typed = failed(merged, "--dags", merged.factory)
    merged.site.sql("DROP TABLE {table}")
    missing = failed(merged, "--dags", merged.factory)

    assert "holds only 2048 characters" in narrow["table is there"]["detail"]
    assert "has the type jsonb instead of text" in json_typed["table is there"]["detail"]
    for found in (narrow, json_typed, missing):
        assert "--ringLevel 1" in found["table is there"]["fix"]


@pytest.mark.parametrize(
    "harm",
    [
        "DROP TABLE {table}_history CASCADE",
        "ALTER TABLE {table} DISABLE TRIGGER yellowlive_airflow_dsg_deleted",
        "DROP FUNCTION {table}_record CASCADE",
    ],
)
def test_table_whose_changes_are_not_all_on_record_fails_with_ring_1(
    merged: Operator, harm: str
) -> None:
    merged.site.sql(harm)

    found = failed(merged, "--dags", merged.factory)

    assert found.keys() == {"changes are on record"}
    assert "--ringLevel 1" in found["changes are on record"]["fix"]


def test_table_that_cannot_be_reached_or_logged_in_to_fails(
    merged: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASURFACE_POSTGRES_PORT", str(free_port()))
    away = failed(merged, "--dags", merged.factory)
    monkeypatch.delenv("postgres_PASSWORD")
    no_login = failed(merged, "--dags", merged.factory)

    assert "psql -h" in away["table is there"]["fix"]
    assert no_login["table is there"]["fix"] == "export postgres_USER=... postgres_PASSWORD=..."


@pytest.mark.parametrize(
    ("change", "fix"),
    [
        ("ALTER TABLE {table} RENAME status TO state", "-c '\\d yellowlive_airflow_dsg'"),
        ("REVOKE CONNECT ON DATABASE {database} FROM PUBLIC", "GRANT CONNECT ON DATABASE"),
    ],
)
def test_table_that_cannot_be_read_fails_with_what_shows_or_removes_the_cause(
    merged: Operator, change: str, fix: str
) -> None:
    role = merged.site.create_role("checks", "a-password-8")
    merged.site.sql(f"GRANT SELECT ON {{table}} TO {role}")
    merged.site.sql(change.format(table=merged.site.table, database=merged.site.database))
    merged.site.login(role, "a-password-8")

    found = failed(merged, "--dags", merged.factory)["table is there"]

    assert fix in found["fix"]
    assert "is up" not in found["detail"]


def test_rows_that_the_factory_file_refuses_fail_with_their_reasons(merged: Operator) -> None:
    merged.edit("Store1", datasets=[], schedule_string=5)
    merged.edit("Pair_a", stream_key="another", platform_name="other", store_name=None)
    merged.site.insert("Odd", "no JSON", status="actve")
    merged.site.insert("Empty", "{}", status="actve")

    detail = failed(merged, "--dags", merged.factory)["rows are valid"]["detail"]

    assert "Empty: its status is 'actve'; it must be 'active' or 'disabled'" in detail
    assert "Empty: its config_json lacks stream_key, store_name" in detail
    assert "Odd: its config_json is not JSON" in detail
    assert "more" in detail
    fix = failed(merged, "--dags", merged.factory)["rows are valid"]["fix"]
    assert fix == "yellow-dynamic enable Empty"
    merged.site.sql("DELETE FROM {table} WHERE stream_key IN ('Odd', 'Empty')")
    detail = failed(merged, "--dags", merged.factory)["rows are valid"]["detail"]
    assert "Store1: datasets is [], not a list of at least one name" in detail
    assert "Store1: schedule_string is 5, not a text" in detail
    assert "Pair_a: its config_json is that of stream 'another'" in detail
    assert "Pair_a: it belongs to platform 'other'" in detail
    assert "Pair_a: store_name is None, not a text" in detail


def test_rows_behind_the_model_fail_with_the_merge(merged: Operator) -> None:
    merged.write_model("[Store('Store1')]")

    found = failed(merged, *on_both(merged))["rows are as the model says"]

    assert "2 removed (Pair_a, Pair_b)" in found["detail"]
    assert f"handleModelMerge --model {merged.model}" in found["fix"]
    assert found["fix"].endswith(" ".join(merged.commands.options))


@pytest.mark.embedded
def test_static_files_that_are_left_fail(merged: Operator) -> None:
    write_static_files(merged.site, merged.dags)

    found = failed(merged, "--dags", merged.dags)["no static DAG files are left"]

    assert found["detail"].startswith("1 left: ")
    assert found["fix"].startswith(f"rm {merged.dags}/yellowlive__Store1_ingestion.py")


def test_each_line_says_pass_or_fail_and_what_fixes_it(merged: Operator) -> None:
    merged.site.insert("[red]Odd[/red]\x1b[2J", "{}")

    result = merged("check", "--dags", merged.factory, *NO_PYTHON)

    lines = result.stdout.splitlines()
    assert any(line.startswith("  pass  table is there: ") for line in lines)
    assert any(line.startswith("  fail  rows are valid: [red]Odd[/red]\\x1b[2J") for line in lines)
    assert any(line.startswith("        fix: python -m datasurface.cmd.platform") for line in lines)
    assert "\x1b" not in result.stdout
    assert lines[-1].endswith(" checks pass.")


def test_folder_of_no_model_is_an_error(operator: Operator, tmp_path: Path) -> None:
    result = operator("check", "--model", tmp_path / "none")

    assert result.exit_code == 1
