"""Where the factory file finds what lies beside it, and where it keeps what it must not lose."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Site, import_file

from one_machine import clean_environment

pytestmark = pytest.mark.from_the_field("files and folders that are not as they seem")

DAG_ID = "yellowlive__Store1_ingestion"
STATIC = f"# A DAG file of Airflow.\nDAG_ID = {DAG_ID!r}\n"


def static_file(site: Site, text: str = STATIC) -> Path:
    file = site.folder / f"{DAG_ID}.py"
    file.write_text(text)
    return file


def test_dag_is_left_to_a_static_file_that_airflow_parses(installed: Site) -> None:
    static_file(installed)

    assert installed.parse() == {}


@pytest.mark.parametrize(
    ("text", "ignore"),
    [("", ""), ("# Another DAG of Airflow.\n", ""), (STATIC, f"{DAG_ID}.py\n")],
    ids=["emptied", "names another", "ignored"],
)
def test_static_file_that_gives_no_dag_takes_none_away(
    installed: Site, caplog: pytest.LogCaptureFixture, text: str, ignore: str
) -> None:
    file = static_file(installed, text)
    (installed.folder / ".airflowignore").write_text(ignore)

    assert list(installed.parse()) == [DAG_ID]
    assert f"The static file {file} gives Airflow no DAG" in caplog.text


def test_ignoring_in_a_folder_above_counts(installed: Site) -> None:
    below = installed.folder / "dags" / "yellow"
    below.mkdir(parents=True)
    (below.parent / ".airflowignore").write_text(f"yellow/{DAG_ID}.py\n")
    for file in (static_file(installed), installed.factory_file):
        file.rename(below / file.name)

    module = import_file(below / installed.factory_file.name)

    assert DAG_ID in vars(module)


def test_second_factory_file_of_a_platform_is_named(
    installed: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """As it is with two bundles of Airflow that hold the platform."""
    copy = installed.folder / "bundle" / installed.factory_file.name
    copy.parent.mkdir()
    copy.write_bytes(installed.factory_file.read_bytes())

    for file in (installed.factory_file, copy):
        for _ in range(2):
            assert DAG_ID in vars(import_file(file))

    said = f"come from {copy} and from {installed.factory_file}"
    assert caplog.text.count("The DAGs of platform yellowlive ") == caplog.text.count(said) == 1


@pytest.mark.parametrize("mark", ["5", '"\\u0000"', "null"])
def test_mark_that_is_no_file_costs_neither_dags_nor_the_snapshot(
    installed: Site, mark: str
) -> None:
    installed.parse()
    snapshot = installed.snapshots / "yellowlive.json"
    good = snapshot.read_bytes()
    snapshot.write_text(f'{{"file": {mark}}}')

    assert list(installed.parse()) == [DAG_ID]
    assert snapshot.read_bytes() == good


def test_factory_file_that_was_moved_is_no_second_one(
    installed: Site, caplog: pytest.LogCaptureFixture
) -> None:
    installed.parse()
    moved = installed.folder / "elsewhere" / installed.factory_file.name
    moved.parent.mkdir()
    installed.factory_file.rename(moved)

    import_file(moved)

    assert "The DAGs of platform" not in caplog.text


LOAD = """
import runpy, sys
found = runpy.run_path(sys.argv[1])
print(*[name for name in found if name.endswith('_ingestion')])
"""


def loaded(site: Site, program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Import the factory file in a process of its own, in a folder of its own."""
    folder = site.folder / "work"
    folder.mkdir()
    login = {
        "postgres_USER": site.postgres.user,
        "postgres_PASSWORD": site.postgres.password,
        "PGHOSTADDR": site.postgres.address,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    clean = clean_environment(**login)
    for name in ("HOME", "AIRFLOW_HOME", "YELLOW_DYNAMIC_SNAPSHOT_DIR"):
        clean.pop(name, None)
    return subprocess.run(
        [sys.executable, "-c", program, str(site.factory_file)],
        env={**clean, **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.slow
def test_home_of_airflow_may_begin_with_a_tilde(installed: Site) -> None:
    home = installed.folder / "home"

    done = loaded(installed, LOAD, HOME=str(home), AIRFLOW_HOME="~/airflow")

    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == DAG_ID
    assert (home / "airflow" / "yellow_dynamic" / "yellowlive.json").exists()
    assert not (installed.folder / "work" / "~").exists()


@pytest.mark.slow
def test_home_that_cannot_be_told_costs_the_snapshot_and_no_dag(installed: Site) -> None:
    """Such is the home of a user without an entry, as pods of OpenShift have."""
    done = loaded(
        installed,
        LOAD,
        HOME=str(installed.folder),
        AIRFLOW_HOME="~nobody-of-this-name/airflow",
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{installed.folder}/airflow.db",
    )

    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == DAG_ID
    assert "/dev/null/yellow_dynamic/yellowlive.json cannot be written" in done.stderr + done.stdout
    assert not list(installed.folder.glob("work/*/airflow/yellow_dynamic"))
