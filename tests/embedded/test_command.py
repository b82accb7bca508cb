"""The commands, as functions and as a command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_estate import assigned

from datasurface.cmd.platform import (
    CommandError,
    generatePlatformBootstrap,
    handleModelMerge,
    main,
)
from datasurface.md import ObjectDoesntExistException

pytestmark = pytest.mark.embedded

TWO = "[PlainPlatform('One', render), PlainPlatform('Two')]"


class Site:
    """A folder with a model of the platforms One and Two, and a folder for what they render."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.model = folder / "model"
        self.output = folder / "output"
        self.capture = capture
        self.model.mkdir()
        self.write_model("None")
        self.assign("One", "Two")

    def write_model(self, render: str, extra: str = "") -> None:
        """Write a model whose platform One renders by the expression `render`."""
        self.model.joinpath("eco.py").write_text(
            "from small_estate import PlainPlatform, estate, store\n"
            f"{extra}\n"
            f"render = {render}\n"
            f"def createEcosystem():\n    return estate(platforms={TWO})\n"
        )

    def assign(self, *platforms: str) -> None:
        """Assign the one dataset group to `platforms`."""
        mapping = self.model / "dsg_platform_mapping.json"
        mapping.write_text(json.dumps([assigned(*platforms)]))

    def bootstrap(self, *platforms: str, ring: int = 0) -> int:
        return self.run("generatePlatformBootstrap", "--ringLevel", str(ring), platforms=platforms)

    def merge(self, *platforms: str) -> int:
        return self.run("handleModelMerge", platforms=platforms)

    def run(self, *command: str, platforms: tuple[str, ...]) -> int:
        where = ["--model", str(self.model), "--output", str(self.output)]
        return main([*command, *where, "--platform", *platforms])

    def files(self) -> dict[str, str]:
        """Return the text of all files that were written, by path."""
        found = (path for path in self.output.rglob("*") if path.is_file())
        return {str(path.relative_to(self.output)): path.read_text() for path in found}

    def said(self) -> str:
        """Return what was said on standard error since the last call."""
        return self.capture.readouterr().err


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
    return Site(tmp_path, capsys)


def test_bootstrap_writes_the_files_of_each_platform(site: Site) -> None:
    assert site.bootstrap("One", "Two") == 0

    assert site.files() == {
        "One/bootstrap.txt": "Test One\n",
        "Two/bootstrap.txt": "Test Two\n",
    }
    assert site.said() == ""


def test_merge_writes_the_files_of_each_platform(site: Site) -> None:
    assert site.merge("One", "Two") == 0

    assert site.files() == {
        "One/rendered.txt": "merged One\n",
        "Two/rendered.txt": "merged Two\n",
    }


def test_the_functions_return_the_ecosystem(site: Site) -> None:
    where = str(site.model), str(site.output)

    assert generatePlatformBootstrap(0, *where, "One").name == "Test"
    assert handleModelMerge(*where, "One").getDSGPlatformMapping("Consumer", "DSG") is not None


def test_a_platform_without_files_gets_a_folder(site: Site) -> None:
    site.write_model("lambda tree: {}")

    assert site.bootstrap("One", ring=1) == 0

    assert list(site.output.iterdir()) == [site.output / "One"]


def test_files_are_replaced_and_readable_like_any_new_file(site: Site) -> None:
    site.merge("One")
    site.write_model("lambda tree: {'rendered.txt': 'Zürich\\n'}")

    assert site.merge("One") == 0

    assert site.files() == {"One/rendered.txt": "Zürich\n"}
    plain = site.output / "plain"
    plain.touch()
    mode = (site.output / "One" / "rendered.txt").stat().st_mode
    assert mode == plain.stat().st_mode


@pytest.mark.parametrize("command", ["bootstrap", "merge"])
def test_an_unknown_platform_is_said_before_anything_is_done(site: Site, command: str) -> None:
    assert getattr(site, command)("One", "Nope") == 1

    assert "no data platform 'Nope'; it has: One, Two" in site.said()
    assert site.files() == {}


def test_an_unknown_platform_is_known_by_its_exception(site: Site) -> None:
    with pytest.raises(ObjectDoesntExistException, match="Nope"):
        handleModelMerge(str(site.model), str(site.output), "Nope")


def test_a_platform_with_nothing_assigned_is_said_before_anything_is_done(site: Site) -> None:
    site.assign("One")

    assert site.merge("One", "Two") == 1

    assert "No dataset group is assigned to the data platform 'Two'" in site.said()
    assert site.files() == {}


def test_bootstrap_needs_no_assignment(site: Site) -> None:
    site.assign()

    assert site.bootstrap("One") == 0


@pytest.mark.parametrize("command", ["bootstrap", "merge"])
def test_a_model_with_errors_is_printed_and_nothing_is_done(site: Site, command: str) -> None:
    site.assign("One", "Nope")

    assert getattr(site, command)("One") == 1

    said = site.said()
    assert "ERROR: The model refers to an unknown object: the data platform 'Nope'" in said
    assert "Traceback" not in said
    assert site.files() == {}


def test_a_model_that_cannot_be_loaded_is_said_in_one_line_each(site: Site) -> None:
    site.model.joinpath("eco.py").unlink()

    assert site.merge("One") == 1

    assert f"The folder {site.model} has no eco.py." in site.said()


def test_warnings_are_printed_and_do_not_stop(site: Site) -> None:
    site.write_model(
        "lambda tree: tree.addProblem('Slow today', ProblemSeverity.WARNING) or {'a': 'b'}",
        "from datasurface.md import ProblemSeverity",
    )

    assert site.merge("One") == 0

    assert "WARNING: Slow today" in site.said()
    assert site.files() == {"One/a": "b"}


def test_errors_of_rendering_are_printed_and_nothing_of_that_platform_is_written(
    site: Site,
) -> None:
    site.write_model("lambda tree: tree.addProblem('Too many streams') or {'a': 'b'}")

    assert site.merge("Two", "One") == 1

    said = site.said()
    assert "ERROR: Too many streams" in said
    assert "The data platform 'One' cannot be merged" in said
    assert site.files() == {"Two/rendered.txt": "merged Two\n"}


RAISE = "def fail(error):\n    raise error\n"


@pytest.mark.parametrize("command", ["merge", "ring 1"])
def test_a_missing_credential_is_named(site: Site, command: str) -> None:
    site.write_model(
        "lambda tree: fail(CredentialNotAvailableException(LOGIN, 'source_USER is not set'))",
        "from datasurface.md import CredentialNotAvailableException\n"
        f"from small_estate import LOGIN\n{RAISE}",
    )

    assert (site.merge("One") if command == "merge" else site.bootstrap("One", ring=1)) == 1

    assert site.said() == (
        "The data platform 'One' cannot work: The credential 'source' is not available: "
        "source_USER is not set\n"
    )


def test_a_database_that_cannot_be_reached_is_named_without_traceback_or_password(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A server of other tests may be where libpq looks first.
    monkeypatch.delenv("PGHOSTADDR", raising=False)
    site.write_model(
        "lambda tree: sqlalchemy.create_engine(sqlalchemy.engine.URL.create("
        "'postgresql+psycopg2', 'me', 'pa55word', '127.0.0.1', 1, 'merge')).connect()",
        "import sqlalchemy",
    )

    assert site.merge("One") == 1

    said = site.said()
    assert said.startswith("The data platform 'One' failed in its database: connection to server")
    assert "127.0.0.1" in said
    assert said.count("\n") == 1
    assert "pa55word" not in said


def test_where_the_merge_store_is_and_what_the_platform_notes_is_said(site: Site) -> None:
    site.write_model(
        "lambda tree: fail(noted)",
        "from sqlalchemy.exc import ProgrammingError\n"
        "from small_estate import database\n"
        "noted = ProgrammingError('SELECT secret', {}, Exception('no table t'))\n"
        "noted.add_note('Run ring 1 first.')\n"
        f"class PlainPlatform(PlainPlatform):\n    mergeStore = database()\n{RAISE}",
    )

    assert site.merge("One") == 1

    assert site.said() == (
        "The data platform 'One' failed in its database 'source' at db.example.org:5432: "
        "no table t\nRun ring 1 first.\n"
    )


def test_a_mistake_in_a_platforms_own_code_keeps_its_traceback(site: Site) -> None:
    site.write_model("lambda tree: tree.nope")

    with pytest.raises(AttributeError, match="nope"):
        site.merge("One")


@pytest.mark.parametrize("name", ["../evil", "a/b", "/etc/evil", "..", ".", "", "a\\\\b", "a\\0b"])
def test_a_file_that_would_land_elsewhere_is_refused(site: Site, name: str) -> None:
    site.write_model(f"lambda tree: {{'good': 'x', '{name}': 'x'}}")

    assert site.merge("One") == 1

    assert "not a plain file name" in site.said()
    assert site.files() == {}


def test_an_output_folder_that_is_a_file_is_said(site: Site) -> None:
    site.output.write_text("not a folder")

    assert site.bootstrap("One") == 1

    assert f"{site.output / 'One'}: Not a directory." in site.said()


def test_a_file_that_cannot_be_written_leaves_the_others_as_they_were(site: Site) -> None:
    site.merge("One")
    # A name beyond what the file system takes fails like a full disk: while writing.
    site.write_model("lambda tree: {'rendered.txt': 'new', 'x' * 250: 'new'}")

    assert site.merge("One") == 1

    assert "cannot be written" in site.said()
    assert site.files() == {"One/rendered.txt": "merged One\n"}


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["nope"],
        ["handleModelMerge", "--model", "m", "--output", "o"],
        ["handleModelMerge", "--output", "o", "--platform", "One"],
        ["generatePlatformBootstrap", "--model", "m", "--output", "o", "--platform", "One"],
        [
            *("generatePlatformBootstrap", "--ringLevel", "2", "--model", "m"),
            *("--output", "o", "--platform", "One"),
        ],
    ],
)
def test_misuse_of_the_command_line_is_status_2(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as status:
        main(argv)

    assert status.value.code == 2


def test_the_model_is_found_as_in_a_pod_too(site: Site) -> None:
    checkout = [
        *("--git-repo-path", str(site.model), "--git-repo-owner", "acme", "--git-repo-name", "m"),
        *("--git-repo-branch", "main", "--git-platform-repo-credential-name", "git"),
        *("--use-git-cache", "--max-cache-age-minutes", "0"),
    ]

    status = main(
        ["handleModelMerge", *checkout, "--output", str(site.output), "--platform", "One"]
    )

    assert status == 0
    assert site.files() == {"One/rendered.txt": "merged One\n"}


def test_the_module_runs_as_a_program(site: Site) -> None:
    path = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-m", "datasurface.cmd.platform", "handleModelMerge"]
    where = ["--model", str(site.model), "--output", str(site.output)]

    def run(*platforms: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *where, "--platform", *platforms],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
            capture_output=True,
            text=True,
            check=False,
        )

    done, failed = run("One", "Two"), run("Nope")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"Wrote 1 files to {site.output / 'One'}\nWrote 1 files to {site.output / 'Two'}\n"
    )
    assert failed.returncode == 1
    assert "Nope" in failed.stderr


def test_command_errors_are_one_class(site: Site) -> None:
    with pytest.raises(CommandError, match="has errors"):
        generatePlatformBootstrap(0, str(site.model / "nope"), str(site.output), "One")
