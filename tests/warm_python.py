"""A Python that has imported what its programs need: each is a fork of it, and starts at once.

Most programs that the tests start spend seconds of CPU on the same imports. `warm_python` returns a
command that takes the arguments of Python. It connects to a server, which forks itself as Airflow's
DAG processor does; the fork runs the program with the caller's arguments, environment, folder and
standard streams. All forks of a server share its hash seed, and none is a child of its caller.

A program that a fork could not run as it is meant gets a real Python: one without arguments or with
options of Python, with other settings of Python, Airflow or the language than the server has, or
with other copies of the packages that the server has imported in its folder or PYTHONPATH.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import random
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import types
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout, suppress
from functools import cache
from pathlib import Path

from temporary import temporary_folder

#: What loads DAG files imports; some of it only Airflow 3 or Airflow 2 has.
AIRFLOW = (
    "airflow.dag_processing.dagbag",
    "airflow.models.dagbag",
    "airflow.providers.cncf.kubernetes.operators.pod",
    "airflow.providers.standard.operators.empty",
    "airflow.providers.standard.operators.python",
    "airflow.providers.standard.operators.trigger_dagrun",
    "croniter",
    "psycopg2",
    "yellow_dynamic.factory.installed",
)
#: What the commands of DataSurface and of yellow-dynamic import.
COMMANDS = (
    "datasurface.cmd.platform",
    "datasurface.platforms.yellow",
    "yellow_dynamic.command.app",
    "yellow_dynamic.plugin",
    "sqlalchemy.dialects.postgresql.psycopg2",
)
LENGTH = struct.Struct("!I")
#: That of the servers: what a test sets is for its own programs.
ENVIRONMENT = dict(os.environ)
#: How the names of the variables begin that Python and Airflow read once.
SETTINGS = ("PYTHON", "AIRFLOW_HOME", "AIRFLOW_CONFIG", "AIRFLOW__", "LANG", "LC_")
CLIENT = """#!{python} -IS
import contextlib, json, os, signal, socket, struct, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    ignores_ctrl_c = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    request = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd(), ignores_ctrl_c]).encode()
    socket.send_fds(server, [struct.pack("!I", len(request))], [0, 1, 2])
    server.sendall(request)
    answers = server.makefile()
    program = int(answers.readline())
    asked = (signal.SIGINT, signal.SIGTERM)
    def pass_on(number, _):
        with contextlib.suppress(ProcessLookupError):
            os.kill(program, number)
    for number in asked:
        signal.signal(number, pass_on)
    status = os.waitstatus_to_exitcode(int(answers.readline()))
if status < 0:
    for number in asked:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


@cache
def warm_python(*modules: str) -> str:
    """Return the path of a command that is as Python, and has imported these modules.

    Its server ends with this process.
    """
    folder = Path(temporary_folder("warm-python-"))
    address, command, log = folder / "socket", folder / "python", folder / "log"
    with log.open("w") as errors:
        server = subprocess.Popen(
            [sys.executable, __file__, str(address), *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=ENVIRONMENT,
            start_new_session=True,
        )
    assert server.stdin is not None and server.stdout is not None
    # It ends at the end of its input, however this process ends.
    atexit.register(server.communicate, timeout=10)
    if server.stdout.readline() != b"ready\n":
        server.kill()
        raise RuntimeError(f"{' '.join(modules)} cannot be imported: {log.read_text()}")
    command.write_text(CLIENT.format(python=sys.executable, address=str(address)))
    command.chmod(0o755)
    return str(command)


def serve(address: str, modules: Sequence[str]) -> None:
    """Import the modules and fork for each client, until standard input ends."""
    # The folder of this file, where Python has put it.
    del sys.path[0]
    # Airflow adds some of its own.
    settings = select_settings(dict(os.environ))
    with redirect_stdout(sys.stderr):
        import_available(*modules)
    gc.collect()
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        print("ready", flush=True)
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            client, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                serve_client(client, settings)
                return
            client.close()
            reap()
    reap()


def import_available(*modules: str) -> None:
    """Import these modules, but those that are not installed."""
    for module in modules:
        with suppress(ImportError):
            importlib.import_module(module)


def reap() -> None:
    """Forget the forks that have ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def serve_client(client: socket.socket, settings: dict[str, str]) -> None:
    """Run one client's program in a fork, and kill that when the client has gone."""
    head, streams, _, _ = socket.recv_fds(client, LENGTH.size, 3)
    (length,) = LENGTH.unpack(head)
    request = client.recv(length, socket.MSG_WAITALL)
    program = os.fork()
    if program == 0:
        client.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        arguments, environment, folder, ignores_ctrl_c = json.loads(request)
        signal.signal(
            signal.SIGINT, signal.SIG_IGN if ignores_ctrl_c else signal.default_int_handler
        )
        os.chdir(folder)
        if not can_run(arguments, environment, settings):
            os.execve(sys.executable, [sys.executable, *arguments], environment)
        os.environ.clear()
        os.environ.update(environment)
        open_streams()
        if plugin := sys.modules.get("yellow_dynamic.plugin"):
            # It takes the folder when it is imported.
            plugin.STARTED_IN = Path.cwd()  # type: ignore[attr-defined]
        run(*arguments)
        return
    for stream in streams:
        os.close(stream)
    with suppress(OSError):
        client.sendall(b"%d\n" % program)
    ended = os.pidfd_open(program)
    if ended not in select.select([client.fileno(), ended], [], [])[0]:
        os.kill(program, signal.SIGKILL)
    _, status = os.waitpid(program, 0)
    with suppress(OSError):
        client.sendall(b"%d\n" % status)
    # Without what Python does at its end, which is the program's to do.
    os._exit(0)


def open_streams() -> None:
    """Make the standard streams anew: the server's may be files, and the caller's are not."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        old = getattr(sys, name)
        stream = open(  # noqa: SIM115 - open as long as the program runs
            number,
            mode,
            buffering=1 if name == "stderr" else -1,
            encoding=old.encoding,
            errors=old.errors,
            closefd=False,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def can_run(arguments: list[str], environment: dict[str, str], settings: dict[str, str]) -> bool:
    """Return whether a fork runs a program as a new Python would.

    Args:
        arguments: Python's.
        environment: the program's.
        settings: those that Python and Airflow had when the server started.
    """
    how = arguments[0] if arguments else "-"
    return (
        bool(arguments)
        and (how in ("-c", "-", "-m") or not how.startswith("-"))
        and select_settings(environment) == settings
        and not brings_others(["", *search_path(environment)])
    )


def select_settings(environment: dict[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(SETTINGS) and name != "PYTHONPATH"
    }


def search_path(environment: Mapping[str, str]) -> list[str]:
    return [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]


def brings_others(folders: list[str]) -> bool:
    """Return whether these folders have other copies of packages that this process has imported."""
    imported = {
        name: Path(module.__file__).parent
        for name, module in sys.modules.items()
        if "." not in name and hasattr(module, "__path__") and module.__file__
    }
    return any(
        (found := Path(folder, name)).joinpath("__init__.py").exists() and not found.samefile(known)
        for folder in folders
        for name, known in imported.items()
    )


def run(how: str, *rest: str) -> None:
    """Be Python with these arguments; this returns or raises as the program does."""
    random.seed()
    sys.path[:0] = ["", *search_path(os.environ)]
    if how == "-m":
        sys.argv = list(rest)
        if not hasattr(sys.modules.get(rest[0]), "__path__"):
            sys.modules.pop(rest[0], None)
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif how in ("-c", "-"):
        code, *rest_of_code = rest if how == "-c" else (sys.stdin.read(), *rest)
        sys.argv = [how, *rest_of_code]
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        name = "<string>" if how == "-c" else "<stdin>"
        exec(compile(code, name, "exec", dont_inherit=True), main.__dict__)
    else:
        sys.argv = [how, *rest]
        sys.path[0] = str(Path(how).parent)
        runpy.run_path(how, run_name="__main__")


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2:])
