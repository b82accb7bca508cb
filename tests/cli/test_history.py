"""`yellow-dynamic history`: who changed which stream, when, and what."""

from __future__ import annotations

import fnmatch
import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from .conftest import Operator


def changes(operator: Operator, *words: Any) -> list[dict[str, Any]]:
    """Return what the command prints for programs."""
    result = operator.on_dags("history", *words, "--json")
    assert result.exit_code == 0, result.output
    [platform] = json.loads(result.stdout)["platforms"]
    found: list[dict[str, Any]] = platform["changes"]
    return found


def brief(found: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(each["revision"], each["action"], each["stream_key"]) for each in found]


def refusal(operator: Operator, *words: Any) -> str:
    result = operator.on_dags(*words)
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    [line] = result.stderr.splitlines()
    return str(line)


def test_changes_are_listed_newest_first_a_line_each(
    merged: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASURFACE_USER", "alice")
    merged.write_model("[Store('Store1', trigger=None), Store('Pair', ['a', 'b'], SINGLE)]")
    merged.merge()
    merged.on_dags("disable", "Pair_a", "--reason", "source is down")

    result = merged.on_dags("history")

    assert result.exit_code == 0, result.output
    title, *lines = result.stdout.splitlines()
    assert title.strip() == "YellowLive: 5 changes of table yellowlive_airflow_dsg"
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    login = merged.site.postgres.user
    alice = f"alice (login {login})"
    assert [cell[:1] + cell[2:] for cell in cells[:2]] == [
        ["3", alice, "disable", "disabled", "Pair_a", "source is down"],
        ["2", alice, "merge", "changed", "Store1", "schedule_string"],
    ]
    assert [cell[4:6] for cell in cells[2:]] == [
        ["added", "Store1"],
        ["added", "Pair_b"],
        ["added", "Pair_a"],
    ]
    now = datetime.now(UTC).replace(tzinfo=None)
    assert all(
        abs(now - datetime.fromisoformat(cell[1].removesuffix(" UTC"))) < timedelta(minutes=5)
        for cell in cells
    )


def test_changes_are_chosen_by_stream_pattern_time_and_number(merged: Operator) -> None:
    merged.site.sql("UPDATE {table} SET config_json = '{{}}' WHERE stream_key <> 'Pair_b'")

    assert brief(changes(merged, "Store1")) == [(2, "changed", "Store1"), (1, "added", "Store1")]
    assert {each["stream_key"] for each in changes(merged, "Pair_*")} == {"Pair_a", "Pair_b"}
    assert len(changes(merged, "--since", "1h")) == 5
    assert changes(merged, "--since", "2200-01-01") == []
    assert brief(changes(merged, "--limit", 1)) == [(2, "changed", "Store1")]
    text = merged.on_dags("history", "--limit", 2).stdout
    assert "There may be older ones: --limit 2 ends here." in text


@pytest.mark.from_the_field("a pattern of streams")
@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    "pattern", ["*Store*", "*a*_a", "S*or*1", "P*_?", "[!S]*", "Pair_[a-b]", "*1", "S*", "[P]*"]
)
def test_history_takes_the_patterns_that_other_commands_take(
    merged: Operator, pattern: str
) -> None:
    found = {change["stream_key"] for change in changes(merged, pattern)}

    assert found == set(fnmatch.filter(["Pair_a", "Pair_b", "Store1"], pattern))


def test_key_that_looks_like_a_pattern_is_a_key_too(merged: Operator) -> None:
    merged.site.insert("[odd]", "{}")

    assert [each["stream_key"] for each in changes(merged, "[odd]")] == ["[odd]"]


@pytest.mark.parametrize("word", ["Stor1", "Nope*"])
def test_stream_that_never_was_is_an_error_with_those_of_similar_names(
    merged: Operator, word: str
) -> None:
    line = refusal(merged, "history", word)

    assert line.startswith(f"There is no stream '{word}' on YellowLive; there is, for example:")
    assert "Store1" in line


def test_stream_without_a_change_in_the_time_says_so(merged: Operator) -> None:
    result = merged.on_dags("history", "Store1", "--since", "2200-01-01")

    assert result.exit_code == 0, result.output
    assert result.stdout == (
        "Platform YellowLive has no change of stream 'Store1' since 2200-01-01 00:00:00 UTC on "
        "record.\n"
    )
    assert changes(merged, "Store1", "--since", "2200-01-01") == []


def test_stream_that_is_gone_is_known(merged: Operator) -> None:
    merged.site.sql("DELETE FROM {table} WHERE stream_key = 'Store1'")

    assert brief(changes(merged, "Store1")) == [(2, "removed", "Store1"), (1, "added", "Store1")]


def test_platform_that_cannot_be_asked_may_have_the_stream(merged: Operator) -> None:
    text = merged.factory.read_text().replace("'YellowLive'", "'Other'")
    other = text.replace("'yellowlive_airflow_dsg'", "'other_airflow_dsg'")
    merged.factory.with_name("other_factory_dag.py").write_text(other)

    line = refusal(merged, "history", "Nope")

    assert "There is no stream 'Nope' on YellowLive;" in line
    assert "could not read the history of table 'other_airflow_dsg'" in line


def test_revision_is_shown_key_by_key(merged: Operator) -> None:
    merged.write_model("[Store('Store1', trigger=None), Store('New')]")
    merged.merge()

    result = merged.on_dags("history", 2)

    assert result.exit_code == 0, result.output
    first, *lines = result.stdout.splitlines()
    assert first.startswith("Revision 2 of platform YellowLive, 20")
    assert first.endswith(", merge")
    assert lines[:2] == ["  - stream Pair_a removed", "  - stream Pair_b removed"]
    assert "  + stream New added" in lines
    assert '      + datasets = ["customers", "addresses"]' in lines
    assert lines[-2:] == [
        "  ~ stream Store1 changed",
        '      ~ schedule_string: "* * * * *" -> "@hourly"',
    ]


def test_status_of_a_hand_edit_is_among_the_keys(merged: Operator) -> None:
    merged.site.sql("UPDATE {table} SET status = 'asleep' WHERE stream_key = 'Store1'")

    [change] = changes(merged, 2)

    assert change["action"] == "changed"
    assert change["keys"] == [
        {"key": "status", "action": "changed", "old": "active", "new": "asleep"}
    ]


def test_commit_of_the_model_is_on_record(merged: Operator) -> None:
    def git(*words: str) -> str:
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        command = ["git", "-C", str(merged.model), *identity, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    # A real DataSurface compiles the model.
    Path(merged.model, ".gitignore").write_text("__pycache__/\n")
    git("add", "--all")
    git("commit", "--quiet", "--message=Model")
    merged.write_model("[Store('New')]")
    merged.merge()
    git("commit", "--quiet", "--all", "--message=New")
    # What is no part of the model does not make it another one.
    Path(merged.model, "rendered.sql").write_text("SELECT 1")
    merged.write_model("[Store('New'), Store('Other')]")
    git("commit", "--quiet", "--all", "--message=Other")
    merged.merge()

    [committed] = changes(merged, 3)
    assert (committed["about"]["commit"], committed["about"]["dirty"]) == (
        git("rev-parse", "HEAD"),
        False,
    )
    uncommitted = changes(merged, 2)[0]["about"]
    assert (uncommitted["commit"], uncommitted["dirty"]) == (git("rev-parse", "HEAD~2"), True)
    assert f"merge of {uncommitted['commit'][:12]}, uncommitted" in merged.on_dags("history").stdout


def test_model_outside_of_git_has_no_commit(merged: Operator) -> None:
    assert "commit" not in changes(merged)[0]["about"]


def test_what_is_wrong_is_said_with_what_to_do(merged: Operator) -> None:
    assert "YellowLive has no change of revision 7 on record" in refusal(merged, "history", 7)
    assert "'yesterday' is no time: give one such as" in refusal(
        merged, "history", "--since", "yesterday"
    )
    role = merged.site.create_role("only_the_rows", "a-password-3")
    merged.site.sql(f"GRANT SELECT ON {{table}} TO {role}")
    merged.site.login(role, "a-password-3")
    line = refusal(merged, "history")
    assert "has no history that this role may read" in line
    assert "'yellowlive_airflow_dsg_history'" in line


def test_old_changes_are_removed_on_demand_and_what_gives_the_rows_stays(
    merged: Operator,
) -> None:
    for number in range(3):
        merged.edit("Store1", note=number)
    merged.on_dags("disable", "Pair_a", "--reason", "kept")
    merged.site.sql("DELETE FROM {table} WHERE stream_key = 'Pair_b'")
    merged.site.sql("ALTER TABLE {table}_history DISABLE TRIGGER USER")
    merged.site.sql("UPDATE {table}_history SET changed_at = changed_at - interval '500 days'")
    merged.site.sql("ALTER TABLE {table}_history ENABLE TRIGGER USER")
    merged.edit("Store1", note="new")

    assert "nobody to ask here; give --yes" in refusal(
        merged, "history", "--prune", "--older-than", "400d"
    )
    result = merged.on_dags("history", "--prune", "--older-than", "400d", "--yes")

    assert result.exit_code == 0, result.output
    assert "Removed 4 changes before" in result.stdout
    assert brief(changes(merged)) == [
        (7, "changed", "Store1"),
        (6, "removed", "Pair_b"),
        (6, "pruned", ""),
        (5, "disabled", "Pair_a"),
        (4, "changed", "Store1"),
        (1, "added", "Pair_a"),
    ]
    rows = json.loads(merged.on_dags("streams", "--json").stdout)["platforms"][0]["streams"]
    assert rows[0]["disabled"]["reason"] == "kept"
    assert "revisions 6 to 7 on record, and not those of 4" in refusal(
        merged, "rollback", 4, "--yes"
    )
    assert merged.on_dags("rollback", 6, "--yes").exit_code == 0
    assert json.loads(merged.rows()["Store1"][1])["note"] == 2


@pytest.fixture
def pruned(merged: Operator) -> Operator:
    """The change of Store1 in revision 1 was pruned; revisions 2 and 3 changed it again."""
    for number in (1, 2):
        merged.edit("Store1", note=number)
    merged.site.sql("ALTER TABLE {table}_history DISABLE TRIGGER USER")
    merged.site.sql("UPDATE {table}_history SET changed_at = '2020-01-01' WHERE revision < 3")
    merged.site.sql("ALTER TABLE {table}_history ENABLE TRIGGER USER")
    merged.site.sql("COMMENT ON TABLE {table}_history IS 'Owner: team data'")
    done = merged.on_dags("history", "--prune", "--older-than", "400d", "--yes")
    assert "Removed 1 change before" in done.stdout
    return merged


def test_prune_is_on_record_and_leaves_the_comment_to_the_dba(pruned: Operator) -> None:
    [(comment,)] = pruned.site.sql("SELECT obj_description('{table}_history'::regclass)")

    assert comment == "Owner: team data"
    [prune] = [each for each in changes(pruned) if each["action"] == "pruned"]
    assert (prune["revision"], prune["stream_key"]) == (2, "")
    assert prune["about"]["command"] == "prune"
    assert "the changes before this revision were pruned" in pruned.on_dags("history").stdout
    shown = pruned.on_dags("history", 2)
    assert shown.exit_code == 0 and "pruned" not in shown.stdout, shown.output


def test_pruned_revision_stays_unknown_after_a_restore_without_comments(pruned: Operator) -> None:
    server, restored = pruned.site.postgres, f"{pruned.site.database}_restored"
    server.create_database(restored)
    environment = {
        **pruned.environment,
        "PGHOST": server.address,
        "PGUSER": server.user,
        "PGPASSWORD": server.password,
    }
    dump = subprocess.run(
        [server.programs / "pg_dump", "--no-comments", "-d", pruned.site.database],
        env=environment, capture_output=True, check=True,
    )  # fmt: skip
    subprocess.run(
        [server.programs / "psql", "-qX", "-v", "ON_ERROR_STOP=1", "-d", restored],
        env=environment, input=dump.stdout, capture_output=True, check=True,
    )  # fmt: skip

    done = pruned.process(
        "rollback", "1", "--yes", "--dags", pruned.dags, DATASURFACE_POSTGRES_DATABASE=restored
    )

    assert done.returncode == 1
    assert "has the rows of the revisions 2 to 3 on record, and not those of 1" in done.stderr


def test_second_prune_goes_on_from_the_first(pruned: Operator) -> None:
    pruned.edit("Store1", note=3)
    pruned.site.sql("ALTER TABLE {table}_history DISABLE TRIGGER USER")
    pruned.site.sql("UPDATE {table}_history SET changed_at = '2020-01-01' WHERE revision = 3")
    pruned.site.sql("ALTER TABLE {table}_history ENABLE TRIGGER USER")

    pruned.on_dags("history", "--prune", "--older-than", "400d", "--yes")

    assert [each["revision"] for each in changes(pruned) if each["action"] == "pruned"] == [3]
    assert pruned.on_dags("rollback", 3, "--yes").exit_code == 0
    assert json.loads(pruned.rows()["Store1"][1])["note"] == 2


def test_comment_of_an_earlier_release_still_says_what_was_pruned(merged: Operator) -> None:
    merged.edit("Store1", note=1)
    merged.site.sql("COMMENT ON TABLE {table}_history IS 'Complete from revision 2'")
    assert "revisions 2 to 2 on record" in refusal(merged, "rollback", 1, "--yes")

    # A change of the functions is what an upgrade brings.
    merged.site.sql("DROP FUNCTION {table}_switch CASCADE")
    merged.site.bootstrap()
    merged.site.sql("COMMENT ON TABLE {table}_history IS NULL")

    assert "revisions 2 to 2 on record" in refusal(merged, "rollback", 1, "--yes")


def test_prune_says_what_it_needs(merged: Operator) -> None:
    for words in (["--prune"], ["--older-than", "1d"], ["--prune", "--older-than", "1d", "Store1"]):
        assert "Give --prune and --older-than together" in refusal(merged, "history", *words)


def test_only_the_owner_shortens_the_history(merged: Operator) -> None:
    role = f"merger_{merged.site.database}"
    merged.site.postgres.create_role(role, "a-password-5")
    merged.site.sql(f"GRANT ALL ON {{table}}, {{table}}_history TO {role}")
    merged.site.login(role, "a-password-5")

    line = refusal(merged, "history", "--prune", "--older-than", "1m", "--yes")

    assert f"belongs to the role {merged.site.postgres.user}, and only that one may" in line


def test_what_others_say_of_themselves_breaks_nothing(merged: Operator) -> None:
    said = '{"command": "merge", "commit": 5, "by": [1], "reason": {"a": 1}}'
    merged.site.sql(
        "SELECT set_config('yellow_dynamic.about', %s, false); "
        "UPDATE {table} SET status = 'disabled'",
        (said,),
    )

    result = merged.on_dags("history")

    assert result.exit_code == 0, result.output
    assert "merge of 5" in result.stdout
    assert merged.on_dags("streams").exit_code == 0
    assert merged.on_dags("rollback", 1).exit_code == 0
