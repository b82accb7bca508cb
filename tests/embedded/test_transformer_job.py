"""What the jobs of a transformer, and of the views that it reads, do and say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Site
from job_site import job_logging_undone, log_entries
from merge_command import Commands
from transforming import CODE, SCRIPT, transform

from datasurface.md import ExternallyTriggered, WorkspacePlatformConfig
from datasurface.platforms.yellow import jobs, reconcile_workspace_views, transformerjob

pytestmark = pytest.mark.embedded

MODEL = """
from transforming import transform
transform(model, source={source!r}, code={code!r})
model.forensic = {forensic}
"""
VIEW = "yellowlive_producer_inputs_store1_customers_view"


class Estate:
    """A model with a transformer, its source and its merge store, and the jobs on them."""

    def __init__(
        self, site: Site, capsys: pytest.CaptureFixture[str], *, forensic: bool = False
    ) -> None:
        self.site = site
        self._capsys = capsys
        self.source = f"source_{site.database}"
        site.postgres.create_database(self.source)
        for table in ("customers", "addresses", "x", "y"):
            self.in_source(f"CREATE TABLE {table} (id int PRIMARY KEY, name varchar(100))")
        self.in_source("INSERT INTO customers VALUES (1, 'ann'), (2, 'bob')")
        self.folder = site.folder / "model"
        self.forensic = forensic
        self.write_model()
        self.write_code(SCRIPT)

    def write_model(self, also: str = "", code: str = CODE) -> None:
        text = MODEL.format(source=self.source, forensic=self.forensic, code=code)
        Commands(self.folder, self.site.model, also=text + also)

    def write_code(self, text: str | None) -> Path:
        file = self.folder / CODE / "transformer.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text) if text is not None else file.unlink()
        return file

    def in_source(self, statement: str) -> None:
        self.site.postgres.execute(statement, database=self.source)

    def run(self, main: Any, *arguments: str) -> int:
        """Run a job in this process, and return what it returns."""
        self._capsys.readouterr()
        git = [f"--git-repo-{part}=x" for part in ("owner", "name", "branch")]
        returned: int = main(
            [
                "--platform-name=YellowLive",
                f"--git-repo-path={self.folder}",
                *git,
                "--git-platform-repo-credential-name=git",
                *arguments,
            ]
        )
        self.output, self.errors = self._capsys.readouterr()
        return returned

    def ingest(self, store: str) -> None:
        for code in (1, 0):
            assert self.run(jobs.main, f"--store-name={store}") == code, self.errors

    def reconcile(self) -> None:
        assert self.run(reconcile_workspace_views.main) == 0, self.errors

    def transform(self, *arguments: str) -> int:
        code = self.run(transformerjob.main, "--workspace-name=Producer", *arguments)
        assert self.output.splitlines()[-1] == f"DATASURFACE_RESULT_CODE={code}"
        return code

    def failure(self, *arguments: str) -> str:
        """Let the transformer fail, and return the one line with the reason."""
        assert self.transform(*arguments) == -1
        [entry] = [entry for entry in log_entries(self.errors) if entry["level"] == "ERROR"]
        assert "exception" not in entry
        return str(entry["message"])

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        return self.site.sql(f"SELECT id, name FROM {table} ORDER BY id")  # noqa: S608


@pytest.fixture
def site(
    make_site: Callable[[Path, pytest.MonkeyPatch], Site],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Site:
    """An empty merge store, instead of that of the ingestion job's tests."""
    return make_site(tmp_path, monkeypatch)


@pytest.fixture
def estate(site: Site, capsys: pytest.CaptureFixture[str]) -> Iterator[Estate]:
    """An estate whose inputs are ingested, with its views."""
    with job_logging_undone():
        made = Estate(site, capsys)
        made.ingest("Store1")
        made.reconcile()
        yield made


def test_output_is_what_the_code_makes_of_the_inputs(estate: Estate) -> None:
    assert estate.transform() == 0
    estate.ingest("Totals")
    assert estate.rows("yellowlive_totals_totals_merge") == [(1, "ANN"), (2, "BOB")]

    estate.in_source("DELETE FROM customers WHERE id = 1")
    estate.in_source("INSERT INTO customers VALUES (3, 'cy')")
    estate.ingest("Store1")
    assert estate.transform() == 0
    estate.ingest("Totals")

    assert estate.rows("yellowlive_totals_totals_merge") == [(2, "BOB"), (3, "CY")]


def test_code_that_fails_changes_nothing_and_says_where(estate: Estate) -> None:
    assert estate.transform() == 0
    file = estate.write_code(SCRIPT.replace("return", "x =") + "    raise KeyError('nothing')\n")

    reason = estate.failure()

    assert "The transformer of workspace Producer failed, and its output is as before" in reason
    assert f"KeyError in line 10 of {file}: 'nothing'." in reason
    assert estate.rows("yellowlive_dt_totals_totals") == [(1, "ANN"), (2, "BOB")]


def test_view_that_is_missing_is_said_to_be_made_by_the_other_job(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    with job_logging_undone():
        estate = Estate(site, capsys)
        estate.ingest("Store1")

        reason = estate.failure()

    assert f'relation "{VIEW}_live" does not exist' in reason
    assert "reconcile_workspace_views" in reason


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (None, "does not clone Git repositories"),
        ("x = 1\n", "has no function executeTransformer(connection, context)"),
        ("import nothing_of_this_name\n", "cannot be imported: ModuleNotFoundError in line 1 of"),
        (
            "def executeTransformer(connection, context):\n"
            "    context.getInputTableNameForDataset('Inputs', 'Store1', 'nope')\n",
            "The workspace reads no Inputs/Store1/nope; it reads Inputs/Each/x, "
            "Inputs/Store1/customers",
        ),
        (
            "def executeTransformer(connection, context):\n"
            "    context.getOutputTableNameForDataset('nope')\n",
            "The output store has no nope; it has totals",
        ),
    ],
)
def test_code_that_cannot_run_is_named(estate: Estate, code: str | None, reason: str) -> None:
    file = estate.write_code(code)

    said = estate.failure()

    assert reason in said
    assert str(file) in said


def test_code_beside_the_model_is_taken_from_there(estate: Estate) -> None:
    estate.write_code(None)
    (estate.folder / "transformer.py").write_text(
        "def executeTransformer(connection, context):\n"
        "    assert context.getWorkspace().name == 'Producer'\n"
        "    assert context.getPlatform().name == 'YellowLive'\n"
        "    assert context.getEcosystem().name == 'Test'\n"
    )
    estate.write_model(code="acme/models")

    assert estate.transform() == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--workspace-name=Nope"], "no workspace Nope with a transformer"),
        (["--workspace-name=Consumer"], "no workspace Consumer with a transformer"),
        (["--operation=dance"], "Operation dance is unknown"),
        (["--platform-name=Nope"], "no Yellow platform Nope"),
        (["--max-cache-age-minutes=x"], "The arguments are wrong"),
    ],
)
def test_arguments_that_name_nothing_are_refused(
    estate: Estate, arguments: list[str], reason: str
) -> None:
    assert reason in estate.failure(*arguments)


def test_output_that_was_never_made_has_no_table_to_ingest(estate: Estate) -> None:
    assert estate.run(jobs.main, "--store-name=Totals") == -1
    assert "yellowlive_dt_totals_totals" in estate.errors


# --- Views ------------------------------------------------------------------------------------


def test_views_of_a_forensic_platform_tell_what_is_from_what_was(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    with job_logging_undone():
        estate = Estate(site, capsys, forensic=True)
        estate.ingest("Store1")
        estate.reconcile()
        estate.in_source("UPDATE customers SET name = 'bea' WHERE id = 2")
        estate.ingest("Store1")

    assert estate.rows(f"{VIEW}_live") == [(1, "ann"), (2, "bea")]
    assert sorted(estate.rows(f"{VIEW}_full")) == [(1, "ann"), (2, "bea"), (2, "bob")]


OTHER_COLUMNS = """
from datasurface.md.schema import DDLColumn
from datasurface.md.types import Integer
build = model.build
def changed():
    eco = build()
    store = eco.getTeamOrThrow("Zone", "Team").dataStores["Store1"]
    schema = store.datasets["customers"].originalSchema
    schema.columns.pop("name")
    schema.add(DDLColumn("age", Integer()))
    return eco
model.build = changed
"""


def test_views_follow_the_model(estate: Estate) -> None:
    estate.write_model(OTHER_COLUMNS)

    estate.reconcile()

    columns = estate.site.sql(
        "SELECT column_name FROM information_schema.columns WHERE table_name = %s "
        "ORDER BY ordinal_position",
        (f"{VIEW}_live",),
    )
    assert columns == [("id",), ("age",)]


def test_view_that_cannot_be_made_fails_the_job(estate: Estate) -> None:
    estate.site.sql(f"DROP VIEW {VIEW}_live")
    estate.site.sql(f"CREATE TABLE {VIEW}_live (id int, name varchar(100))")

    assert estate.run(reconcile_workspace_views.main) == 1
    assert f"Making view {VIEW}_live failed" in estate.errors


def test_platform_without_work_has_no_views_to_make(estate: Estate) -> None:
    (estate.folder / "dsg_platform_mapping.json").write_text("[]")

    assert estate.run(reconcile_workspace_views.main) == 1
    assert "No dataset group is assigned to platform YellowLive" in estate.errors


def test_lint_refuses_what_cannot_start_or_run_a_transformer(site: Site) -> None:
    transform(site.model, trigger=ExternallyTriggered("By hand"))
    made = site.model.workspaces

    def chosen() -> list[Any]:
        [workspace] = made()
        [group] = workspace.dsgs.values()
        group.platformMD = object.__new__(WorkspacePlatformConfig)
        return [workspace]

    site.model.workspaces = chosen
    tree = site.model.build().lintAndHydrateCaches()
    found = " ".join(str(problem.description) for problem in tree.getErrors())

    assert "is a ExternallyTriggered, not a CronTrigger" in found
    assert "leave its platform chooser out" in found
