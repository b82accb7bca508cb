"""What keeps a merge from removing many streams, and from being another than was reviewed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Site
from merge_command import shows_no_traceback
from recorded import changes

from yellow_dynamic.command.model import ModelPlatform

from .conftest import Operator

TWELVE = "[Store(f'S{n:02}') for n in range(12)]"


@pytest.fixture
def twelve(operator: Operator) -> Operator:
    """Twelve streams, S00 to S11."""
    operator.write_model(TWELVE)
    operator.merge()
    return operator


def keep(operator: Operator, count: int) -> None:
    """Let the model have so many of the twelve."""
    operator.commands = operator.write_model(f"{TWELVE}[:{count}]")


def test_merge_that_removes_more_than_its_share_is_refused(twelve: Operator) -> None:
    keep(twelve, 6)

    done = twelve.commands.merge()

    assert done.returncode == 1
    assert shows_no_traceback(done)
    assert (
        "The merge would remove 6 of the 12 streams of platform 'YellowLive' from the table "
        "'yellowlive_airflow_dsg', more than the 5 that it may remove at once (S06, S07, S08, S09, "
        "S10, S11). Nothing is removed." in done.stderr
    )
    assert "YELLOW_DYNAMIC_ALLOW_REMOVALS=6" in done.stderr and "maxRemoved" in done.stderr
    assert len(twelve.rows()) == 12
    assert len(changes(twelve.site)) == 12


def test_plan_shows_what_would_go_and_that_the_merge_would_be_refused(
    twelve: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(twelve, 6)

    result = twelve.on_model("plan")

    assert result.exit_code == 1
    assert "  - stream S06" in result.stdout.splitlines()
    assert "handleModelMerge would refuse platform 'YellowLive': The merge would remove 6" in (
        result.stderr
    )
    monkeypatch.setenv("YELLOW_DYNAMIC_ALLOW_REMOVALS", "6")
    assert twelve.on_model("plan").exit_code == 2


def test_check_names_what_the_merge_would_refuse(twelve: Operator) -> None:
    keep(twelve, 6)

    result = twelve.on_model("check", "--python", f"{twelve.python} -I -S")

    assert result.exit_code == 2
    [line] = [each for each in result.stdout.splitlines() if "rows are as the model says" in each]
    assert "FAIL" in line.upper() and "The merge would remove 6 of the 12 streams" in line


def test_one_merge_is_allowed_by_the_number_of_its_removals(twelve: Operator) -> None:
    keep(twelve, 6)

    assert twelve.commands.merge(YELLOW_DYNAMIC_ALLOW_REMOVALS="7").returncode == 1
    done = twelve.commands.merge(YELLOW_DYNAMIC_ALLOW_REMOVALS="6")

    assert done.returncode == 0, done.stderr
    assert len(twelve.rows()) == 6


def test_five_streams_may_always_go(twelve: Operator) -> None:
    keep(twelve, 7)

    done = twelve.commands.merge()

    assert done.returncode == 0, done.stderr
    assert len(twelve.rows()) == 7


def test_share_of_the_platform_is_what_every_merge_may_remove(twelve: Operator) -> None:
    twelve.site.model.platformArguments = {"maxRemoved": 0.5}
    keep(twelve, 6)
    assert twelve.commands.merge().returncode == 0


def test_streams_that_are_all_renamed_are_removed_too(twelve: Operator) -> None:
    twelve.commands = twelve.write_model(TWELVE.replace("S{", "Renamed{"))

    assert twelve.commands.merge().returncode == 1
    assert twelve.commands.merge(YELLOW_DYNAMIC_ALLOW_REMOVALS="12").returncode == 0
    assert set(twelve.rows()) == {f"Renamed{number:02}" for number in range(12)}


@pytest.mark.parametrize("share", ["'all'", "True", "1.5", "-0.1", "None"])
def test_share_that_is_none_is_a_problem_of_the_model(operator: Operator, share: str) -> None:
    operator.site.model.platformArguments = {}
    operator.write_model("[Store('Store1')]")
    eco = operator.model / "eco.py"
    eco.write_text(
        eco.read_text().replace(
            "platformArguments={}", f"platformArguments={{'maxRemoved': {share}}}"
        )
    )

    result = operator.on_model("plan")

    assert result.exit_code == 1
    assert "maxRemoved of platform 'YellowLive' is" in result.stderr


def test_word_about_new_dags_that_is_none_is_a_problem_of_the_model(operator: Operator) -> None:
    operator.site.model.platformArguments = {"pausedAtCreation": "no"}
    operator.write_model("[Store('Store1')]")

    result = operator.on_model("plan")

    assert result.exit_code == 1
    assert "pausedAtCreation of platform 'YellowLive' is 'no'" in result.stderr


@pytest.fixture
def planned(merged: Operator) -> Path:
    """The file with a plan that adds the stream New to those of the platform."""
    merged.commands = merged.write_model(
        "[Store('Store1'), Store('Pair', ['a', 'b'], SINGLE), Store('New')]"
    )
    file = merged.site.folder / "plan.json"
    assert merged.on_model("plan", "--out", file).exit_code == 2
    return file


def test_plan_is_carried_out_as_it_was_reviewed(merged: Operator, planned: Path) -> None:
    assert json.loads(planned.read_text())["platforms"][0]["revision"] == 1

    done = merged.commands.merge(YELLOW_DYNAMIC_PLAN=str(planned))

    assert done.returncode == 0, done.stderr
    assert "New" in merged.rows()


def test_plan_is_refused_once_the_table_has_changed(merged: Operator, planned: Path) -> None:
    merged.on_dags("disable", "Store1")
    before = merged.rows()

    done = merged.commands.merge(YELLOW_DYNAMIC_PLAN=str(planned))

    assert done.returncode == 1
    assert (
        "was made at revision 1 of table 'yellowlive_airflow_dsg', and the table is at revision 2 "
        "now; yellow-dynamic history has what was changed. Nothing was changed. Make a plan anew"
    ) in done.stderr
    assert merged.rows() == before


def copy_database(site: Site, name: str) -> None:
    """Make a copy of the merge store, to which a real DataSurface stays connected."""
    site.postgres.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [site.database]
    )
    site.postgres.create_database(name, template=site.database)


def test_plan_of_one_database_is_refused_by_another(merged: Operator) -> None:
    staging = f"{merged.site.database}_staging"
    copy_database(merged.site, staging)
    # Each has a revision 2 of its own.
    there = {"DATASURFACE_POSTGRES_DATABASE": staging}
    merged.process("disable", "Store1", "--dags", merged.dags, **there)
    merged.site.insert("ByHand", "{}")
    merged.commands = merged.write_model(
        "[Store('Store1'), Store('Pair', ['a', 'b'], SINGLE), Store('New')]"
    )
    file = merged.site.folder / "plan.json"
    planned = merged.process("plan", "--model", merged.model, "--out", file, **there)
    assert planned.returncode == 2, planned.stderr
    before = merged.rows()

    done = merged.commands.merge(YELLOW_DYNAMIC_PLAN=str(file))

    assert done.returncode == 1
    assert shows_no_traceback(done)
    assert (
        "was made at revision 2 of another table 'yellowlive_airflow_dsg': in another database, or "
        "before this one was restored or failed over; or rows were changed since while its "
        "triggers were off. Nothing was changed."
    ) in done.stderr
    assert merged.rows() == before


def test_plan_is_refused_after_a_failover_that_lost_its_revision(merged: Operator) -> None:
    server, database = merged.site.postgres, merged.site.database
    copy_database(merged.site, f"{database}_standby")
    merged.edit("Pair_a", schedule_string="0 1 * * *")
    file = merged.site.folder / "plan.json"
    assert merged.on_model("plan", "--out", file).exit_code == 2
    server.execute(f'ALTER DATABASE "{database}" RENAME TO "{database}_lost"')
    server.execute(f'ALTER DATABASE "{database}_standby" RENAME TO "{database}"')
    merged.site.insert("ByHand", "{}")
    before = merged.rows()

    done = merged.commands.merge(YELLOW_DYNAMIC_PLAN=str(file))

    assert done.returncode == 1
    assert "was made at revision 2 of another table" in done.stderr
    assert merged.rows() == before


def test_plan_is_refused_once_the_model_has_changed(merged: Operator, planned: Path) -> None:
    merged.commands = merged.write_model("[Store('Store1'), Store('Another')]")
    before = merged.rows()

    done = merged.commands.merge(YELLOW_DYNAMIC_PLAN=str(planned))

    assert done.returncode == 1
    assert "The streams that the model gives platform 'YellowLive' are not those of the plan" in (
        done.stderr
    )
    assert merged.rows() == before


def test_merge_refuses_a_plan_that_is_not_there(merged: Operator, planned: Path) -> None:
    planned.unlink()
    before = merged.rows()

    done = merged.commands.merge(YELLOW_DYNAMIC_PLAN=str(planned))

    assert done.returncode == 1
    assert "which cannot be read: No such file or directory" in done.stderr
    assert "unset YELLOW_DYNAMIC_PLAN" in done.stderr
    assert merged.rows() == before


def test_plan_that_no_merge_could_carry_out_is_not_kept(twelve: Operator, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    keep(twelve, 6)
    refused = twelve.on_model("plan", "--out", file)
    assert (refused.exit_code, file.exists()) == (1, False)
    assert "No plan was written. handleModelMerge would refuse" in refused.stderr

    keep(twelve, 11)
    earlier = twelve.on_model("plan", "--out", file, "--from", 1)
    assert (earlier.exit_code, file.exists()) == (1, False)
    nowhere = twelve.on_model("plan", "--out", tmp_path / "not" / "there.json")
    assert nowhere.exit_code == 1
    assert "there.json: No such file or directory." in nowhere.stderr

    twelve.site.sql("DROP TABLE {table}_history")
    without = twelve.on_model("plan", "--out", file)
    assert (without.exit_code, file.exists()) == (1, False)
    assert "No plan was written. Table 'yellowlive_airflow_dsg' has no history" in without.stderr


def test_plan_from_an_earlier_revision_compares_with_its_rows(merged: Operator) -> None:
    merged.write_model("[Store('New'), Store('Store1', trigger=None)]")
    merged.merge()

    result = merged.on_model("plan", "--from", 1)

    assert result.exit_code == 2, result.output
    assert "Plan: 1 added (New), 1 changed (Store1), 2 removed (Pair_a, Pair_b), 0 unchanged." in (
        result.stdout
    )
    assert "revisions 1 to 2 on record, and not those of 9" in (
        merged.on_model("plan", "--from", 9).stderr
    )


def test_change_while_the_plan_was_made_is_noticed_by_its_merge(
    merged: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare = ModelPlatform.compare_with_table

    def change_then(model: ModelPlatform, connection: Any) -> Any:
        merged.site.sql("UPDATE {table} SET status = 'disabled' WHERE stream_key = 'Store1'")
        return compare(model, connection)

    monkeypatch.setattr(ModelPlatform, "compare_with_table", change_then)
    file = tmp_path / "plan.json"
    merged.on_model("plan", "--out", file)

    done = merged.commands.merge(YELLOW_DYNAMIC_PLAN=str(file))

    assert done.returncode == 1
    assert "was made at revision 1 of table" in done.stderr
