"""Hostile values of models, rows and logins: none becomes code, SQL, a log line or a path."""

from __future__ import annotations

import ast
import functools
import io
import json
import logging
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import psutil
import pytest
from conftest import Site, problems
from datasurface_host import SOURCE
from fault_table import FaultTable
from hypothesis import given, settings
from hypothesis import strategies as st
from merge_command import Commands, finish
from warm_python import AIRFLOW, warm_python
from yellow_models import Model, Store, bootstrap, change_provider, live_repository

from datasurface.md import Ecosystem, ValidationTree
from yellow_dynamic.datasurface_adapter import DATASURFACE
from yellow_dynamic.plugin import YellowDynamicGraphHandler, factory_text

HOSTILE = {
    "quotes": "'; DROP TABLE canary; --",
    "triple quotes": '"""; raise SystemExit("""',
    "backslash": "\\",
    "line break": "a\nERROR forged",
    "Jinja": "{{ 7 * 7 }}{% raw %}{# x #}",
    "template of Kubernetes": "$(postgres_PASSWORD)",
    "path": "../../../../tmp/escaped",
    "absolute path": "/tmp/escaped",
    "NUL": "a\0b",
    "line separator": "a\u2028b",
    "right to left": "a\u202eb",
    "escape": "\x1b[2J",
    "lone surrogate": "\ud800",
    "percent": "%s%(x)s",
    "10 kB": "x" * 10_000,
}


@contextmanager
def log_text() -> Iterator[io.StringIO]:
    """Yield what a plain log file of this package would hold, with a bar before each record."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(logging.Formatter("|%(levelname)s %(message)s"))
    logger = logging.getLogger("yellow_dynamic")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield text
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def assert_no_line_is_forged(text: str) -> None:
    assert text
    for line in text.splitlines():
        assert line.startswith("|"), f"this line begins in the middle of a record: {line!a}"
        assert line.isprintable(), f"this line can rewrite the terminal: {line!a}"


@pytest.fixture
def guarded(installed: Site) -> Iterator[Site]:
    """An installed site with a table and a folder that no hostile value may touch."""
    installed.sql("CREATE TABLE canary (alive bool)")
    around = sorted(path for path in installed.folder.rglob("*") if path.is_file())
    yield installed
    assert installed.sql("SELECT count(*) FROM canary") == [(0,)]
    assert not Path("/tmp/escaped").exists()
    names = {path.name for path in installed.folder.rglob("*") if path.is_file()}
    known = {path.name for path in around} | {
        "yellowlive.json",
        "yellowlive.ended.json",
        "dsg_platform_mapping.json",
    }
    assert names <= known, names - known


def set_host(graph: Any, value: str) -> None:
    # Where it leads is settled by PGHOSTADDR; the name itself is only copied.
    graph.platform.psp.mergeStore.hostPortPair.hostName = value


def set_branch(graph: Any, value: str) -> None:
    live_repository(graph.eco).branchName = value


def set_image(graph: Any, value: str) -> None:
    graph.platform.psp.datasurfaceDockerImage = value


def set_namespace(graph: Any, value: str) -> None:
    change_provider(graph.platform, "namespace", value)


def set_git_credential(graph: Any, value: str) -> None:
    graph.platform.psp.gitCredential.name = value


def set_store(graph: Any, value: str) -> None:
    store = graph.eco.cache_getDatastoreOrThrow("Store1").datastore
    store.name = value


def set_dataset(graph: Any, value: str) -> None:
    store = graph.eco.cache_getDatastoreOrThrow("Store1").datastore
    store.datasets = {value: next(iter(store.datasets.values()))}


@pytest.mark.parametrize(
    "set_value",
    [set_host, set_branch, set_image, set_namespace, set_git_credential, set_store, set_dataset],
)
def test_value_of_a_model_is_refused_or_arrives_as_it_is(
    guarded: Site, set_value: Any, faults: FaultTable
) -> None:
    for value in HOSTILE.values():
        graph: Any = guarded.model.graph(guarded.folder)
        set_value(graph, value)
        tree = ValidationTree(graph.eco)
        handler = graph.platform.createGraphHandler(graph)
        assert isinstance(handler, YellowDynamicGraphHandler)
        before = guarded.sql("SELECT * FROM {table}")

        with log_text() as log:
            handler.populateDAGConfigurations(graph.eco, tree)
            dags = guarded.parse()

        assert_no_line_is_forged(log.getvalue())
        if tree.hasErrors():
            assert guarded.sql("SELECT * FROM {table}") == before
            assert all(text.isprintable() for text in problems(tree))
        else:
            [(text,)] = guarded.sql("SELECT config_json FROM {table}")
            assert value in json.loads(text).values() or [value] == json.loads(text)["datasets"]
            [dag] = dags.values()
            assert "config-error" not in dag.tags
    faults.record("hostile value in a model", injected=len(HOSTILE), survived=len(HOSTILE))


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_platform_name_is_refused_or_names_nothing_outside(value: str) -> None:
    eco = Model(platform=value, provider=value).build()
    platform: Any = eco.getDataPlatformOrThrow(value)

    try:
        files = bootstrap(platform, eco, 0)
    except ValueError as refused:
        assert str(refused).isprintable()
        return

    # The platform's own lint refuses most of these; what is rendered must be safe all the same.
    for name in files:
        assert Path(name).name == name
        assert name.isprintable()
    ours = f"{DATASURFACE.k8s_name(value)}_factory_dag.py"
    compile(files[ours], ours, "exec")


@pytest.mark.embedded
@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_platform_name_is_no_code_in_the_bases_files_either(value: str) -> None:
    eco = Model(platform=value).build()
    try:
        files = bootstrap(eco.getDataPlatformOrThrow(value), eco, 0)
    except ValueError as refused:
        assert str(refused).isprintable()
        return

    for name, text in files.items():
        if name.endswith(".py"):
            compile(text, name, "exec")


def storable(value: str, characters: int) -> str:
    """Return what of the value fits into a column of PostgreSQL."""
    return value[:characters].replace("\0", "").encode("utf-8", "ignore").decode()


def test_row_cannot_forge_a_log_line_or_hide_its_own(guarded: Site, faults: FaultTable) -> None:
    [(text,)] = guarded.sql("SELECT config_json FROM {table}")
    for value in HOSTILE.values():
        guarded.insert(storable(value, 255), json.dumps({**json.loads(text), "stream_key": value}))
        guarded.insert("Status", text, storable(value, 50))
        for number, name in enumerate(("git_repo_branch", "schedule_string", "ingestion_type")):
            changed = {**json.loads(text), "stream_key": f"Value{number}", name: value}
            guarded.insert(f"Value{number}", json.dumps(changed))

        with log_text() as log:
            dags = guarded.parse()
            guarded.merge_cleanly()

        assert_no_line_is_forged(log.getvalue())
        assert "yellowlive__Store1_ingestion" in dags
        for dag in dags.values():
            assert all(line.isprintable() for line in (dag.doc_md or "").split("\n"))
    faults.record("hostile rows", injected=5 * len(HOSTILE), survived=5 * len(HOSTILE))


def test_address_and_login_cannot_forge_a_log_line(
    installed: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed.parse()
    for value in HOSTILE.values():
        if value in (HOSTILE["NUL"], HOSTILE["lone surrogate"]):
            # No environment variable can hold them.
            continue
        with monkeypatch.context() as environment, log_text() as log:
            environment.setenv("DATASURFACE_POSTGRES_DATABASE", value)
            installed.login(value, "secret")
            dags = installed.parse()
            environment.setenv("DATASURFACE_POSTGRES_HOST", value)
            installed.parse()

        assert_no_line_is_forged(log.getvalue())
        assert log.getvalue().count("|WARNING") == 2
        assert list(dags) == ["yellowlive__Store1_ingestion"]


TEXTS = st.sampled_from(list(HOSTILE.values())) | st.text()


@settings(
    max_examples=80,
    deadline=None,
)
@given(values=st.lists(TEXTS, min_size=8, max_size=8))
def test_factory_files_of_any_two_models_differ_in_one_literal(values: list[str]) -> None:
    changed = plain_model()
    platform: Any = changed.getDataPlatformOrThrow("YellowLive")
    psp = platform.psp
    repository = live_repository(changed)
    change_provider(platform, "namespace", values[0])
    psp.datasurfaceDockerImage, DATASURFACE.merge_credential(psp).name = values[1:3]
    psp.gitCredential.name, psp.mergeStore.databaseName = values[3:5]
    psp.mergeStore.hostPortPair.hostName, platform.slackChannel = values[5:7]
    repository.branchName = values[7]

    rest, literal = without_literal(factory_text(platform, changed))

    assert rest == rest_of_plain_factory()
    found = ast.literal_eval(literal)
    assert found["git_repo_branch"] == values[7]
    assert found["postgres_hostname"] == values[5]
    assert found["slack_channel_name"] == values[6]


def plain_model() -> Ecosystem:
    """Return a model whose factory file is short, as its frame is that of all factory files."""
    return Model(platformArguments={"factoryFromPackage": True}).build()


@functools.cache
def rest_of_plain_factory() -> str:
    """Return the text of a plain model's factory file without the literal."""
    eco = plain_model()
    platform: Any = eco.getDataPlatformOrThrow("YellowLive")
    return without_literal(factory_text(platform, eco))[0]


def without_literal(text: str) -> tuple[str, str]:
    """Take the platform's literal out of a factory file; return the rest, and the literal."""
    [node] = [
        each
        for each in ast.parse(text).body
        if isinstance(each, ast.AnnAssign) and getattr(each.target, "id", "") == "PLATFORM"
    ]
    assert node.value is not None
    literal = ast.get_source_segment(text, node.value)
    assert literal is not None
    before, _, after = text.partition(literal)
    return before + after, literal


# --- Secret values ----------------------------------------------------------------------------

# A real DataSurface puts the password into a URL as it is, which ends at the at sign.
PLANTED = f"Planted-Secret-7f3a{'' if SOURCE else '@'}:/%#?'\"\\ &="


def planted_role(site: Site) -> str:
    return f"planted_{site.database}"


def plant(site: Site, environment: pytest.MonkeyPatch) -> None:
    """Let the platform log in by a role with the planted password, and plant the other secrets."""
    role = planted_role(site)
    site.postgres.create_role(role, PLANTED)
    site.postgres.execute(f"GRANT CREATE ON DATABASE {site.database} TO {role}")
    site.sql(f"GRANT CREATE ON SCHEMA public TO {role}")
    site.login(role, PLANTED)
    for name in ("git_TOKEN", "slack_TOKEN", "connect_TOKEN", "source_PASSWORD"):
        environment.setenv(name, PLANTED)


def forms(secret: str) -> list[str]:
    """Return the secret as texts may hold it: as it is, quoted by JSON, Python or a URL."""
    quoted = [json.dumps(secret)[1:-1], repr(secret)[1:-1], quote(secret), quote_plus(secret)]
    return [secret, "Planted-Secret", *quoted]


def assert_free_of_secrets(what: str, text: str) -> None:
    for form in forms(PLANTED):
        assert form not in text, f"a secret value is in {what}"


def command_lines() -> str:
    return "\n".join(
        " ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])
    )


@pytest.mark.slow
def test_no_secret_value_gets_into_a_file_a_row_a_log_an_error_or_a_process_list(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(site, monkeypatch)
    commands = Commands(site.folder / "model", site.model)
    said = [commands.bootstrap(0), commands.bootstrap(1), commands.merge()]
    assert [done.returncode for done in said] == [0, 0, 0], [done.stderr for done in said]
    site.factory_file.write_text((commands.files / site.factory_file.name).read_text())
    parsed = [parse_in_a_process(site)]
    said += [merge_while_watched(site, commands)]
    said += [*failing_commands(site, commands, monkeypatch)]
    parsed += [*failing_parses(site, monkeypatch)]

    for number, done in enumerate([*said, *parsed]):
        assert_free_of_secrets(f"output {number}", f"{done.args} {done.stdout} {done.stderr}")
    assert "Store1" in "".join(done.stdout for done in parsed)
    for path in site.folder.rglob("*"):
        if path.is_file():
            assert_free_of_secrets(str(path), path.read_bytes().decode("utf-8", "replace"))
    assert (site.snapshots / "yellowlive.json").exists()
    rows = str(site.sql("SELECT * FROM {table}"))
    assert_free_of_secrets("a row", rows)
    server_log = (site.postgres.data_dir / "server.log").read_text(errors="replace")
    assert_free_of_secrets("the server's log", server_log.replace("CREATE ROLE", ""))


def merge_while_watched(site: Site, commands: Commands) -> subprocess.CompletedProcess[str]:
    """Look at process list and sessions while a merge waits for the table in its transaction."""
    with closing(site.postgres.connect(site.database)) as other:
        other.cursor().execute("LOCK TABLE yellowlive_airflow_dsg IN EXCLUSIVE MODE")
        # A real Python, whose own command line is looked at.
        process = commands.start("handleModelMerge", PYTHONUNBUFFERED="1")
        for _ in range(300):
            if site.sql("SELECT 1 FROM pg_locks WHERE NOT granted"):
                break
            time.sleep(0.1)
        assert "handleModelMerge" in command_lines()
        assert_free_of_secrets("the process list", command_lines())
        sessions = site.postgres.execute("SELECT query, application_name FROM pg_stat_activity")
        assert_free_of_secrets("the server's sessions", str(sessions))
    return finish(process)


def failing_commands(
    site: Site, commands: Commands, environment: pytest.MonkeyPatch
) -> Iterator[subprocess.CompletedProcess[str]]:
    """Yield what a merge says without a server, with a wrong password, and without the table."""
    yield commands.merge(PGHOSTADDR="127.77.77.77")
    role = planted_role(site)
    site.postgres.execute(f"ALTER ROLE {role} PASSWORD 'another one'")
    yield commands.merge()
    site.postgres.execute(f"ALTER ROLE {role} NOLOGIN")
    yield commands.merge()
    with environment.context() as superuser:
        superuser.setenv("postgres_USER", site.postgres.user)
        superuser.setenv("postgres_PASSWORD", site.postgres.password)
        site.sql("ALTER TABLE {table} RENAME TO hidden")
        yield commands.merge()
        site.sql("ALTER TABLE hidden RENAME TO yellowlive_airflow_dsg")


def failing_parses(
    site: Site, environment: pytest.MonkeyPatch
) -> Iterator[subprocess.CompletedProcess[str]]:
    """Yield what a parse says when its login is refused, with the snapshot and without one."""
    yield parse_in_a_process(site)
    with environment.context() as cold:
        cold.setenv("YELLOW_DYNAMIC_SNAPSHOT_DIR", str(site.folder / "other"))
        done = parse_in_a_process(site)
    assert done.returncode != 0
    assert "TableUnreadableError" in done.stderr
    yield done


def parse_in_a_process(site: Site) -> subprocess.CompletedProcess[str]:
    program = (
        "import runpy\n"
        f"found = runpy.run_path({str(site.factory_file)!r})\n"
        "dags = [(name, dag.doc_md) for name, dag in found.items() if hasattr(dag, 'doc_md')]\n"
        "print(dags)\n"
    )
    return subprocess.run([warm_python(*AIRFLOW), "-c", program], capture_output=True, text=True)


def test_snapshot_is_only_ever_where_the_environment_says(installed: Site) -> None:
    module = installed.module()
    platform = module.BUILDER.platform
    path = module.snapshot_path(platform)
    platform.settings["original_platform_name"] = platform.settings["config_table"] = "../../x"

    assert module.snapshot_path(platform) == path
    assert path.parent == installed.snapshots


def test_hostile_key_does_not_widen_what_a_task_start_reads(guarded: Site) -> None:
    guarded.model.stores = [Store("Store1"), Store("Store2")]
    guarded.merge_cleanly()
    guarded.sql("INSERT INTO {table} SELECT 'x'' OR 1=1 --', config_json FROM {table} LIMIT 1")

    dags = guarded.parse("yellowlive__Store2_ingestion")

    assert list(dags) == ["yellowlive__Store2_ingestion"]
