"""How a history is named, and how a command describes itself in it."""

from __future__ import annotations

import getpass
import os
import subprocess
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from yellow_dynamic import __version__, history


@pytest.mark.parametrize(
    ("table", "name"),
    [
        ("p_airflow_dsg", "p_airflow_dsg_history"),
        ("t" * 55, "t" * 55 + "_history"),
        ("t" * 56, "t" * 46 + "_525ebaf7_history"),
        ("x" + "\u00fc" * 40, "x" + "\u00fc" * 22 + "_d43b54d0_history"),
    ],
)
def test_name_of_a_history_is_one_that_postgresql_does_not_truncate(table: str, name: str) -> None:
    found = history.derive_name(table, history.HISTORY)

    assert found == name
    assert len(found.encode()) <= 63


def test_statements_of_the_file_come_without_its_comments() -> None:
    found = history.read_statements("history.sql")

    assert found == history.SQL
    assert found["last_revision"] == "(SELECT coalesce(max(revision), 0) FROM {history})"
    assert found["rows_at"].startswith("SELECT stream_key, config_after AS config_json")
    assert not any(text.startswith("--") for text in "\n".join(found.values()).splitlines())


def test_columns_of_a_history_are_those_of_a_change() -> None:
    table = history.history_table("t", "s")

    assert table.fullname == "s.t_history"
    assert [column.name for column in table.primary_key] == ["revision", "number"]
    assert {column.name for column in table.columns if column.nullable} == {
        "application", "command", "about", "config_before", "status_before", "config_after",
        "status_after", "disabled_until",
    }  # fmt: skip
    assert all(column.autoincrement is False for column in table.columns)
    types = {column.name: str(column.type) for column in table.columns}
    assert (types["revision"], types["stream_key"]) == ("BIGINT", "VARCHAR(255)")
    [index] = table.indexes
    assert index.name == "t_history_of"
    assert [column.name for column in index.columns] == ["stream_key", "revision", "number"]


def test_command_describes_itself_without_what_is_not_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATASURFACE_USER", "mary")

    assert history.audit_metadata("merge", commit="abc", dirty=None) == {
        "command": "merge", "release": __version__, "by": "mary", "commit": "abc",
    }  # fmt: skip


def test_what_a_command_says_of_itself_is_utf_8_and_keeps_its_type() -> None:
    metadata = history.audit_metadata("disable", reason="\udcff", dirty=True)

    assert (metadata["reason"], metadata["dirty"]) == ("\\xff", True)


def test_parameters_have_no_escapes_which_a_database_in_sql_ascii_could_not_read(
    mocker: MockerFixture,
) -> None:
    connection = mocker.Mock()

    history.set_audit_metadata(connection, {"by": "Jörg"})

    [_, values] = connection.execute.call_args.args
    assert values == {"metadata": '{"by": "Jörg"}'}
    assert history.json_array(["größe"]) == '["größe"]'


def test_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATASURFACE_USER", raising=False)
    monkeypatch.setattr(getpass, "getuser", lambda: "joe")
    assert history.current_user() == "joe"

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 1000")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert history.current_user() == f"uid {os.getuid()}"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model's folder in a Git repository, as a hook of another repository sees it."""
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "mary")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "mary@example.org")
    (model := tmp_path / "model").mkdir()
    (model / "eco.py").write_text("x = 1\n")
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    return model


def test_commit_of_a_folder_is_clean_until_a_file_of_the_model_differs(repository: Path) -> None:
    commit = history.run_git(repository, "rev-parse", "HEAD").strip()

    assert history.git_commit(repository) == {"commit": commit, "dirty": False}
    # What a merge renders is no model, nor is what others keep in the repository.
    (repository / "dag.yaml").touch()
    (repository.parent / "other.py").touch()
    assert history.git_commit(repository) == {"commit": commit, "dirty": False}
    (part := repository / "part").mkdir()
    (part / "more.py").touch()
    assert history.git_commit(repository) == {"commit": commit, "dirty": True}
    (part / "more.py").unlink()
    (repository / "eco.py").write_text("x = 2\n")
    assert history.git_commit(repository) == {"commit": commit, "dirty": True}


def test_git_is_read_as_utf_8_and_waited_for_no_longer_than_half_a_minute(
    repository: Path, mocker: MockerFixture
) -> None:
    run = mocker.spy(subprocess, "run")

    history.git_commit(repository)

    asked = {(call.kwargs["encoding"], call.kwargs["timeout"]) for call in run.call_args_list}
    assert asked == {("utf-8", 30)}


def test_name_of_a_file_may_be_any_bytes(repository: Path) -> None:
    Path(os.fsdecode(os.fsencode(repository) + b"/gr\xf6\xdfe.py")).touch()

    assert history.git_commit(repository)["dirty"] is True


KIND = "time, place or encoding of another process"


@pytest.mark.from_the_field(KIND)
def test_mapping_counts_and_what_was_rendered_beside_the_model_does_not(repository: Path) -> None:
    (rendered := repository / "output" / "YellowLive").mkdir(parents=True)
    for name in ("yellowlive_factory_dag.py", "größe.py", history.MAPPING):
        (rendered / name).touch()
    assert history.git_commit(repository, ["YellowLive"])["dirty"] is False
    assert history.git_commit(repository, ["Other"])["dirty"] is True

    # The model may be the whole repository too.
    for model in (repository, repository.parent):
        (model / history.MAPPING).touch()
        assert history.git_commit(model, ["YellowLive"])["dirty"] is True
        (model / history.MAPPING).unlink()
    (repository / "größe.py").touch()
    assert history.git_commit(repository, ["YellowLive"])["dirty"] is True


@pytest.mark.from_the_field(KIND)
def test_model_below_a_folder_of_the_platforms_name_is_a_model(repository: Path) -> None:
    (models := repository.with_name("my models")).mkdir()
    repository.rename(model := models / "YellowLive")

    assert history.git_commit(model, ["YellowLive"])["dirty"] is True


@pytest.mark.from_the_field(KIND)
def test_variables_of_a_hook_do_not_hide_the_commit(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = history.run_git(repository, "rev-parse", "HEAD").strip()

    listed = subprocess.check_output(["git", "rev-parse", "--local-env-vars"], text=True)
    for name in listed.split():
        monkeypatch.setenv(name, "/nowhere")

    assert history.git_commit(repository) == {"commit": commit, "dirty": False}


@pytest.fixture
def of_other_user(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The repository, as Git sees one that another user has cloned."""
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    return repository


@pytest.mark.from_the_field(KIND)
def test_clone_of_the_models_owner_is_trusted(of_other_user: Path) -> None:
    assert history.git_commit(of_other_user)["dirty"] is False


@pytest.mark.from_the_field(KIND)
def test_repository_of_somebody_else_around_a_model_is_refused_with_gits_reason(
    of_other_user: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if os.geteuid():
        pytest.skip("only root may give a folder away")
    os.chown(of_other_user.parent, 4321, -1)

    assert history.git_commit(of_other_user) == {}

    [warning] = caplog.messages
    assert warning.startswith(f"The commit of the model in {of_other_user} is not recorded in the")
    assert "Git cannot tell it (fatal: detected dubious ownership in repository" in warning


@pytest.mark.from_the_field(KIND)
def test_commit_that_cannot_be_told_is_said_with_the_reason(
    repository: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository.parent / ".git" / "HEAD").write_text("ref: refs/heads/none\n")
    assert history.git_commit(repository) == {}
    assert "Git cannot tell it (fatal: ambiguous argument 'HEAD'" in caplog.text
    caplog.clear()

    monkeypatch.setenv("PATH", "/nowhere")
    assert history.git_commit(repository) == {}
    assert "No such file or directory: 'git'" in caplog.text


def test_folder_outside_a_repository_has_no_commit(tmp_path: Path) -> None:
    assert history.git_commit(tmp_path) == {}
    assert history.git_commit(None) == {}


def test_message_of_a_missing_history_says_what_is_to_be_read() -> None:
    message = history.no_history_message("t")

    assert message.startswith("Table 't' has no history that this role may read")
    assert "let the role read the table 't_history'" in message
