"""How the factory file reads the table: what it asks for, with which rights, from where."""

from __future__ import annotations

import ast
import os
import py_compile
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import Site
from hypothesis import given
from hypothesis import strategies as st
from warm_python import AIRFLOW, warm_python
from yellow_models import Model, Store, bootstrap

from yellow_dynamic.factory.rules import compute_revision
from yellow_dynamic.rendering import python_literal

AWKWARD_PASSWORD = "@ : / % # ? ' \" \\ & = space"


def test_parse_registers_the_streams_in_the_order_of_their_keys(site: Site) -> None:
    site.bootstrap()
    for key in ("b", "c", "a"):
        site.insert(key, "{}")

    assert list(site.parse()) == [f"yellowlive__{key}_ingestion" for key in ("a", "b", "c")]


def test_a_task_start_reads_and_builds_its_own_stream_only(site: Site) -> None:
    site.model.stores = [Store("One"), Store("Two")]
    site.bootstrap()
    site.merge_cleanly()
    module = site.module("yellowlive__Two_ingestion")

    assert [
        row.stream_key
        for row in module.load_rows(module.BUILDER.platform, ("stream_key = {}", "Two")).rows
    ] == ["Two"]
    assert list(site.parse("yellowlive__Two_ingestion")) == ["yellowlive__Two_ingestion"]


@pytest.mark.from_the_field("columns to which a DBA gave another type")
@pytest.mark.parametrize(
    "change",
    [
        "config_json TYPE json USING config_json::json",
        "config_json TYPE jsonb USING config_json::jsonb",
        "status TYPE switch USING status::switch",
        "stream_key TYPE char(40)",
    ],
)
def test_columns_of_another_type_are_read_as_text(
    installed: Site, driver: str, change: str
) -> None:
    before = installed.parse()
    installed.sql("CREATE TYPE switch AS ENUM ('active')")
    # PostgreSQL keeps the type of a column that a trigger names.
    installed.sql("DROP TRIGGER {table}_switched ON {table}")
    installed.sql(f"ALTER TABLE {{table}} ALTER {change}")

    module = installed.module()
    reading = module.load_rows(module.BUILDER.platform, ("true",))

    [row] = reading.rows
    assert reading.age is None
    assert (row.stream_key, row.status) == ("Store1", "active")
    assert list(installed.parse()) == list(installed.parse("yellowlive__Store1_ingestion"))
    assert installed.parse().keys() == before.keys()
    stored = installed.sql("SELECT config_json::text FROM {table}")
    assert [(row.config_json,)] == stored
    assert compute_revision(row.config_json) in next(iter(installed.parse().values())).doc_md


def test_read_is_of_read_committed_whatever_the_default_is(installed: Site, driver: str) -> None:
    """A standby refuses what is serializable."""
    installed.sql(
        f"ALTER DATABASE {installed.database} SET default_transaction_isolation = 'serializable'"
    )
    installed.sql("ALTER TABLE {table} RENAME TO configurations")
    installed.sql(
        "CREATE VIEW {table} AS SELECT stream_key, config_json, "
        "current_setting('transaction_isolation') AS status, updated_at FROM configurations"
    )

    module = installed.module()
    [row] = module.load_rows(module.BUILDER.platform, ("true",)).rows

    assert row.status == "read committed"


def test_a_task_of_another_file_costs_no_query(
    installed: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("postgres_USER")

    assert installed.parse("some_other_dag") == {}


def test_a_bad_rows_dag_is_found_at_task_start_under_its_legal_id(installed: Site) -> None:
    installed.insert("not legal", "{}")
    [bad] = [dag_id for dag_id in installed.parse() if dag_id != "yellowlive__Store1_ingestion"]

    assert bad in installed.parse(bad)


def test_select_on_the_one_table_is_enough(installed: Site) -> None:
    installed.postgres.create_role(f"reader_{installed.database}", AWKWARD_PASSWORD)
    installed.sql(f"GRANT SELECT ON {{table}} TO reader_{installed.database}")
    installed.login(f"reader_{installed.database}", AWKWARD_PASSWORD)

    assert list(installed.parse()) == ["yellowlive__Store1_ingestion"]


def test_airflows_environment_says_where_the_table_is(
    installed: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = f"{installed.database}_moved"
    # A real DataSurface leaves its merge's sessions open, and they would hold the name.
    installed.postgres.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
        (installed.database,),
    )
    installed.postgres.execute(f"ALTER DATABASE {installed.database} RENAME TO {moved}")
    monkeypatch.delenv("PGHOSTADDR")
    monkeypatch.setenv("DATASURFACE_POSTGRES_HOST", installed.postgres.address)
    monkeypatch.setenv("DATASURFACE_POSTGRES_PORT", str(installed.postgres.port))
    monkeypatch.setenv("DATASURFACE_POSTGRES_DATABASE", moved)

    assert list(installed.parse()) == ["yellowlive__Store1_ingestion"]


def test_no_connection_is_left_open(installed: Site) -> None:
    installed.parse()

    assert installed.postgres.execute(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = %s AND application_name LIKE 'yellow_dynamic factory%%'",
        (installed.database,),
    ) == [(0,)]


def test_file_compiles_and_imports_without_datasurface_and_the_plugin(installed: Site) -> None:
    py_compile.compile(str(installed.factory_file), doraise=True)
    program = (
        "import runpy, sys\n"
        "for name in ['datasurface', 'yellow_dynamic', *sys.modules]:\n"
        "    if name.partition('.')[0] in ('datasurface', 'yellow_dynamic'):\n"
        "        sys.modules[name] = None\n"
        f"found = runpy.run_path({str(installed.factory_file)!r})\n"
        "print([name for name in found if name.endswith('_ingestion')])\n"
    )

    command = [warm_python(*AIRFLOW), "-c", program]
    done = subprocess.run(command, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['yellowlive__Store1_ingestion']"


def test_file_holds_the_words_airflow_looks_for(installed: Site) -> None:
    text = installed.factory_file.read_text().lower()

    assert "airflow" in text
    assert "dag" in text


@pytest.mark.slow
def test_parses_with_any_hash_seed_serialize_to_equal_bytes(installed: Site) -> None:
    installed.insert("Bad", "{}")
    program = (
        "import json, runpy, sys\n"
        f"sys.path.append({str(Path(__file__).parents[1])!r})\n"
        "from airflow_names import DagSerialization\n"
        f"found = runpy.run_path({str(installed.factory_file)!r})\n"
        "dags = [dag for name, dag in found.items() if name.endswith('_ingestion')]\n"
        # Airflow sorts the keys too before it compares a DAG with the version it has.
        "print(json.dumps([DagSerialization.to_dict(dag) for dag in dags], sort_keys=True))\n"
    )

    def parse(seed: int) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()[-1]

    with ThreadPoolExecutor(max_workers=2) as processes:
        # Others in each run; two of them would put a set of two in the same order half of the time.
        outputs = set(processes.map(parse, random.sample(range(2**32), 4)))

    assert len(outputs) == 1
    assert "Store1" in outputs.pop()


HOSTILE = [
    "'; import os; os.system('x') #",
    '"""; x = 1; """',
    "\\",
    "\n\r\t\0",
    "{{ 7 * 7 }} {% raw %} {# x #}",
    "../../etc/passwd",
    "\u2028\u2029\u202e",
    "x" * 10_000,
]


@given(st.dictionaries(st.text(), st.sampled_from(HOSTILE) | st.text() | st.integers()))
def test_no_setting_becomes_code(settings: dict[str, object]) -> None:
    assert ast.literal_eval(python_literal(settings)) == settings


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_files_of_different_models_differ_in_one_literal(value: str, tmp_path: Path) -> None:
    trees = []
    for model in (Model(), Model(branch=value, host=value, database=value)):
        eco = model.build()
        platform = eco.getDataPlatformOrThrow(model.platform)
        text = bootstrap(platform, eco, 0)["yellowlive_factory_dag.py"]
        trees.append(ast.parse(text))

    plain, hostile = trees
    settings = literal_of(hostile).value
    assert settings is not None
    assert ast.literal_eval(settings)["git_repo_branch"] == value
    literal_of(hostile).value = literal_of(plain).value
    assert ast.dump(hostile) == ast.dump(plain)


def literal_of(tree: ast.Module) -> ast.AnnAssign:
    [found] = [
        node
        for node in tree.body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and node.target.id == "PLATFORM"
    ]
    return found
