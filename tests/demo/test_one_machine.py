"""The services on one machine: they start, they are what they say, and nothing stays behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import kubernetes.client
import kubernetes.config
import psutil
import psycopg2
import pytest
from pytest_mock import MockerFixture

import one_machine
from one_machine import (
    Airflow,
    ChildProcess,
    LocalKube,
    NotYetError,
    Postgres,
    ServiceError,
    clean_environment,
    free_port,
    wait_until,
)

SLEEP_IN_A_SESSION_OF_ITS_OWN = """
    import subprocess, sys, time
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    print(child.pid, flush=True)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the system user of PostgreSQL can reach, which is not so for tmp_path."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def python(folder: Path, code: str, name: str = "A test process") -> ChildProcess:
    """Start a Python process that runs `code`."""
    argv = [sys.executable, "-c", textwrap.dedent(code)]
    return ChildProcess(name, argv, env=clean_environment(), log=folder / "process.log")


def first_pid(log: Path) -> psutil.Process:
    """Return the process whose id is the first line of a log, as soon as it is there."""

    def written() -> psutil.Process:
        lines = log.read_text().splitlines() if log.exists() else []
        if not lines:
            raise NotYetError(f"{log} is empty")
        return psutil.Process(int(lines[0]))

    found = wait_until(written, seconds=20)
    assert isinstance(found, psutil.Process)
    return found


def is_alive(process: psutil.Process) -> bool:
    """Tell whether a process still runs; one that only waits to be buried does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_waiting_ends_with_the_result() -> None:
    answers = iter([False, False, True])

    def condition() -> str:
        if not next(answers):
            raise NotYetError("not yet")
        return "result"

    assert wait_until(condition, seconds=5, every=0.01) == "result"


def test_waiting_in_vain_says_what_was_missing() -> None:
    def condition() -> None:
        raise NotYetError("The kettle is cold.")

    with pytest.raises(ServiceError, match=r"Gave up after 0 s: The kettle is cold\."):
        wait_until(condition, seconds=0.05, every=0.01)


def test_settings_for_other_servers_do_not_reach_the_services(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AIRFLOW__CORE__EXECUTOR", "PGHOST", "KUBECONFIG", "DATASURFACE_POSTGRES_HOST"):
        monkeypatch.setenv(name, "elsewhere")
    environment = clean_environment(PGHOSTADDR="127.0.0.1")
    assert "elsewhere" not in environment.values()
    assert environment["PGHOSTADDR"] == "127.0.0.1"
    assert environment["PATH"] == os.environ["PATH"]


# --- Processes --------------------------------------------------------------------------------


def test_process_that_ends_by_itself_is_reported_with_the_end_of_its_log(folder: Path) -> None:
    process = python(folder, "print('last words'); raise SystemExit(3)", name="The kettle")
    with pytest.raises(ServiceError, match=r"(?s)The kettle ended with exit code 3\..*last words"):
        process.wait(20)
    process.stop()


def test_process_that_takes_too_long_is_reported_with_the_end_of_its_log(folder: Path) -> None:
    process = python(folder, "import time; print('still busy', flush=True); time.sleep(600)")
    wait_until(lambda: first_line(process.log), seconds=20)
    with pytest.raises(ServiceError, match=r"(?s)did not end within 0 s.*still busy"):
        process.wait(0.1)
    process.stop()
    assert not process.is_running()


def first_line(log: Path) -> str:
    """Return the first line of a log, or raise NotYetError."""
    lines = log.read_text().splitlines()
    if not lines:
        raise NotYetError(f"{log} is empty")
    return lines[0]


def test_stopping_ends_descendants_that_left_the_process_group(folder: Path) -> None:
    process = python(folder, SLEEP_IN_A_SESSION_OF_ITS_OWN + "    time.sleep(600)")
    sleep = first_pid(process.log)
    process.stop()
    assert not process.is_running()
    assert not is_alive(sleep)


def test_stopping_ends_orphans_of_a_process_that_is_gone(folder: Path) -> None:
    process = python(
        folder,
        """
        import subprocess
        print(subprocess.Popen(["sleep", "600"]).pid, flush=True)
        """,
    )
    process.wait(20)
    sleep = first_pid(process.log)
    assert is_alive(sleep)
    process.stop()
    assert not is_alive(sleep)


def test_process_that_ignores_the_request_to_end_is_killed(folder: Path) -> None:
    process = python(
        folder,
        """
        import os, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print(os.getpid(), flush=True)
        time.sleep(600)
        """,
    )
    first_pid(process.log)
    one_machine.stop_together([process], patience=0.2)
    assert not process.is_running()


#: A signal that comes just before a sleep takes effect after it.
SLEEP = "while True: time.sleep(0.1)"


@pytest.mark.parametrize(
    ("ending", "number", "exit_code"),
    [
        (SLEEP, signal.SIGINT, 130),
        (SLEEP, signal.SIGTERM, 143),
        ("raise RuntimeError", None, 1),
        ("sys.exit(0)", None, 0),
    ],
    ids=["Ctrl-C", "SIGTERM", "exception", "end of program"],
)
def test_nothing_outlives_the_program(
    folder: Path, ending: str, number: signal.Signals | None, exit_code: int
) -> None:
    code = f"""
        import sys, time
        from pathlib import Path
        from one_machine import ChildProcess, clean_environment, end_on_signals
        end_on_signals()
        log = Path({str(folder)!r}, "sleep.log")
        sleep = ChildProcess("sleep", ["sleep", "600"], env=clean_environment(), log=log)
        try:
            print(sleep.pid, flush=True)
            sys.stdin.readline()
            {ending}
        except KeyboardInterrupt:
            sys.exit(130)
    """
    program = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(Path(one_machine.__file__).parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        bufsize=1,
    )
    assert program.stdin is not None and program.stdout is not None
    sleep = psutil.Process(int(program.stdout.readline()))
    program.stdin.write("go on\n")
    if number is not None:
        program.send_signal(number)
    assert program.wait(60) == exit_code
    assert not is_alive(sleep)


# --- PostgreSQL -------------------------------------------------------------------------------


def test_nobody_gets_into_postgres_without_the_password(folder: Path) -> None:
    with Postgres(folder / "data") as server:
        assert server.execute("SELECT current_user") == [("postgres",)]
        assert server.execute("SHOW password_encryption") == [("scram-sha-256",)]
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            server.connect(password="wrong")


def test_role_with_any_password_can_log_in_and_owns_its_database(folder: Path) -> None:
    password = 'it\'s 100% @/:? \\ "odd"'
    with Postgres(folder / "data") as server:
        server.create_role("writer", password)
        server.create_database("store", owner="writer")
        with (
            closing(server.connect("store", "writer", password)) as connection,
            connection,
            connection.cursor() as cursor,
        ):
            cursor.execute("CREATE TABLE t AS SELECT 1 AS one")
        assert server.execute("SELECT one FROM t", database="store") == [(1,)]


def test_data_and_password_survive_a_restart(folder: Path) -> None:
    with Postgres(folder / "data") as server:
        address = server.address
        server.execute("CREATE TABLE t AS SELECT %s AS word", ["kept"])
        server.restart()
        assert server.address == address
        assert server.execute("SELECT word FROM t") == [("kept",)]


def test_stopped_server_is_gone(folder: Path) -> None:
    with Postgres(folder / "data") as server:
        pass
    with pytest.raises(psycopg2.OperationalError):
        server.connect()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only 127.0.0.1 is loopback")
def test_second_server_listens_on_port_5432_of_another_address(folder: Path) -> None:
    with Postgres(folder / "one") as one, Postgres(folder / "two") as two:
        assert one.address != two.address
        assert (one.url("x").port, two.url("x").port) == (5432, 5432)
        one.execute("CREATE TABLE only_here ()")
        assert two.execute("SELECT to_regclass('only_here')") == [(None,)]


def test_port_in_use_everywhere_is_one_clear_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(socket.socket()) as busy:
        busy.bind(("0.0.0.0", 0))
        busy.listen()
        port = busy.getsockname()[1]
        monkeypatch.setattr(one_machine, "POSTGRES_PORT", port)
        with pytest.raises(ServiceError, match=f"Port {port} is in use on 127.0.0.1"):
            Postgres(folder / "data").start()


def test_server_that_cannot_start_says_why(folder: Path) -> None:
    with Postgres(folder / "data") as server:
        server.stop()
        with (folder / "data" / "postgresql.conf").open("a") as settings:
            settings.write("no_such_setting = 1\n")
        with pytest.raises(ServiceError, match="no_such_setting"):
            server.start()


# --- Kubernetes -------------------------------------------------------------------------------


def test_secret_and_volume_of_the_cluster_can_be_used(tmp_path: Path) -> None:
    with LocalKube(tmp_path, {"image": tmp_path}, {"PGHOSTADDR": "127.0.0.1"}) as kube:
        kube.create_secret("ns-one", "login", {"POSTGRES_PASSWORD": "pä ss"})
        kube.create_secret("ns-one", "other", {"token": "t"})
        with kubernetes.config.new_client_from_config(config_file=str(kube.kubeconfig)) as api:
            secret = kubernetes.client.CoreV1Api(api).read_namespaced_secret("login", "ns-one")
        assert secret.data == {"POSTGRES_PASSWORD": "cMOkIHNz"}
        assert kube.volume_dir("ns-one", "claim") == tmp_path / "volumes" / "ns-one" / "claim"
        assert kube.volume_dir("ns-one", "claim").is_dir()


def test_cluster_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"(?s)localkube ended with exit code 2\..*no folder"):
        LocalKube(tmp_path, {"image": tmp_path / "missing"}, {}).start()


# --- Airflow ----------------------------------------------------------------------------------

DAGS = """
from airflow.sdk import DAG, task

with DAG("good", schedule=None, is_paused_upon_creation=False):
    @task
    def speak():
        print("a word for the log")
    speak()

with DAG("bad", schedule=None, is_paused_upon_creation=False):
    @task
    def fail():
        raise ValueError("the reason")
    fail()
"""


@pytest.fixture(scope="module")
def airflow() -> Iterator[Airflow]:
    with tempfile.TemporaryDirectory() as name, Postgres(Path(name, "data")) as server:
        folder = Path(name)
        server.create_database("airflow")
        (folder / "dags").mkdir()
        (folder / "dags" / "two_dags.py").write_text(DAGS)
        (folder / "dags" / "broken_dag.py").write_text("import airflow.dag_of_no_such_module")
        with Airflow(folder / "home", folder / "dags", server.url("airflow")) as running:
            yield running


def run(airflow: Airflow, dag_id: str) -> dict[str, Any]:
    """Trigger a run of a DAG and return it when it has ended."""
    wait_until(lambda: dag_is_known(airflow, dag_id), seconds=60)
    run_id = airflow.trigger(dag_id)

    def ended() -> dict[str, Any]:
        newest = airflow.runs(dag_id)[0]
        if newest["dag_run_id"] != run_id or newest["state"] not in ("success", "failed"):
            raise NotYetError(f"{run_id} is {newest['state']}")
        return newest

    result = wait_until(ended, seconds=60)
    assert isinstance(result, dict)
    return result


def dag_is_known(airflow: Airflow, dag_id: str) -> None:
    """Raise NotYetError until Airflow knows the DAG."""
    if dag_id not in airflow.dag_ids():
        raise NotYetError(f"{dag_id} is unknown")


@pytest.mark.slow
def test_airflow_runs_a_dag_and_gives_its_log(airflow: Airflow) -> None:
    ended = run(airflow, "good")
    assert ended["state"] == "success"
    (task,) = airflow.task_instances("good", ended["dag_run_id"])
    assert (task["task_id"], task["state"]) == ("speak", "success")
    assert "a word for the log" in airflow.task_log("good", ended["dag_run_id"], "speak")


@pytest.mark.slow
def test_log_of_a_failed_task_names_the_cause(airflow: Airflow) -> None:
    ended = run(airflow, "bad")
    assert ended["state"] == "failed"
    assert "ValueError: the reason" in airflow.task_log("bad", ended["dag_run_id"], "fail")
    assert "run_id=" in airflow.scheduler_log()


@pytest.mark.slow
def test_file_that_cannot_be_imported_is_listed(airflow: Airflow) -> None:
    def listed() -> str:
        errors = airflow.import_errors()
        if not errors:
            raise NotYetError("there is no import error")
        return errors[0]

    assert "dag_of_no_such_module" in wait_until(listed, seconds=60)


@pytest.mark.slow
def test_airflow_refuses_strangers_and_unknown_dags(airflow: Airflow) -> None:
    assert httpx.get(f"{airflow.address}/api/v2/dags").status_code == 401
    with pytest.raises(ServiceError, match="Airflow answered 404 to GET dags/unknown"):
        airflow.get("dags/unknown")


@pytest.mark.slow
def test_airflow_without_its_database_says_why(folder: Path) -> None:
    with Postgres(folder / "data") as server:
        url = server.url("missing")
    airflow = Airflow(folder / "home", folder, url)
    with pytest.raises(ServiceError, match=r"(?s)`airflow db migrate` ended with exit code 1"):
        airflow.start()


def test_free_port_can_be_bound() -> None:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", free_port()))


def test_dag_that_appears_between_two_pages_does_not_hide_the_end_of_the_list(
    mocker: MockerFixture,
) -> None:
    there = [["b", "c"], *[["a", "b", "c"]] * 9]

    def page(path: str, *, limit: int, offset: int, order_by: str) -> Any:
        assert (path, order_by) == ("dags", "dag_id")
        return {"dags": [{"dag_id": dag_id} for dag_id in there.pop(0)[offset : offset + limit]]}

    airflow = mocker.Mock(spec=Airflow, get=page)

    assert Airflow.dag_ids(airflow) == {"b", "c"}
