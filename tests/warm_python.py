"""A Python that has imported what its programs need: each is a fork of it, and starts at once.

Most programs that the tests start spend seconds of CPU on the same imports. `warm_python` returns a
command that takes the arguments of Python. It connects to a server, which forks itself as Airflow's
DAG processor does; the fork runs the program with the caller's arguments, environment, folder and
standard streams. A program that a fork could not run as it is meant gets a real Python: one with
options of Python, with other PYTHON* or AIRFLOW* variables than the server has, or with other
copies of what the server has imported in its PYTHONPATH.
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
from collections.abc import Sequence
from contextlib import suppress
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
CLIENT = """#!{python} -SE
import json, os, signal, socket, struct, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    ignores_ctrl_c = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    request = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd(), ignores_ctrl_c]).encode()
    socket.send_fds(server, [struct.pack("!I", len(request))], [0, 1, 2])
    server.sendall(request)
    answers = server.makefile()
    program = int(answers.readline())
    asked = (signal.SIGINT, signal.SIGTERM)
    for number in asked:
        signal.signal(number, lambda number, _: os.kill(program, number))
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
    address, command = folder / "socket", folder / "python"
    server = subprocess.Popen(
        [sys.executable, __file__, str(address), *modules],
        stdin=subprocess.PIPE,
        # A pipe cannot be read again from its start, which those of its programs need not be
        # able to do either.
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert server.stdin and server.stdout and server.stderr
    # The server ends at the end of its input, however this process ends.
    atexit.register(server.stdin.close)
    if server.stdout.readline() != b"ready\n":
        raise RuntimeError(server.stderr.read().decode())
    command.write_text(CLIENT.format(python=sys.executable, address=str(address)))
    command.chmod(0o755)
    return str(command)


def serve(address: str, modules: Sequence[str]) -> None:
    """Import the modules and fork for each client, until standard input ends."""
    # The folder of this file, where Python has put it.
    del sys.path[0]
    for module in modules:
        with suppress(ImportError):
            importlib.import_module(module)
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
                serve_client(client)
                return
            client.close()
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def serve_client(client: socket.socket) -> None:
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
        run(*json.loads(request))
        return
    for stream in streams:
        os.close(stream)
    client.sendall(b"%d\n" % program)
    ended = os.pidfd_open(program)
    if ended not in select.select([client.fileno(), ended], [], [])[0]:
        os.kill(program, signal.SIGKILL)
    _, status = os.waitpid(program, 0)
    with suppress(OSError):
        client.sendall(b"%d\n" % status)
    # Without what Python does at its end, which is the program's to do.
    os._exit(0)


def run(
    arguments: list[str], environment: dict[str, str], folder: str, ignores_ctrl_c: bool
) -> None:
    """Be Python with these arguments; this returns or raises as the program does."""
    os.chdir(folder)
    handler = signal.SIG_IGN if ignores_ctrl_c else signal.default_int_handler
    signal.signal(signal.SIGINT, handler)
    paths = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    how, *rest = arguments or [""]
    runs_code = how in ("-c", "-", "-m") or not how.startswith("-")
    if not (runs_code and how and same_settings(environment) and not brings_others(paths)):
        os.execve(sys.executable, [sys.executable, *arguments], environment)
    os.environ.clear()
    os.environ.update(environment)
    random.seed()
    sys.path[:0] = ["", *paths]
    if how == "-m":
        module, *rest = rest
        sys.modules.pop(module, None)
        sys.argv = [module, *rest]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    elif how in ("-c", "-"):
        code = rest.pop(0) if how == "-c" else sys.stdin.read()
        sys.argv = [how, *rest]
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(code, "<string>" if how == "-c" else "<stdin>", "exec"), main.__dict__)
    else:
        sys.argv = arguments
        sys.path[0] = str(Path(how).parent)
        runpy.run_path(how, run_name="__main__")


def same_settings(environment: dict[str, str]) -> bool:
    """Return whether Python and Airflow read the same of an environment as of this process's."""

    def settings(variables: dict[str, str]) -> dict[str, str]:
        return {
            name: value
            for name, value in variables.items()
            if name.startswith(("PYTHON", "AIRFLOW", "LANG", "LC_")) and name != "PYTHONPATH"
        }

    return settings(environment) == settings(dict(os.environ))


def brings_others(paths: list[str]) -> bool:
    """Return whether these folders have other copies of what this process has imported."""
    imported = {
        name: Path(module.__file__).parent
        for name, module in sys.modules.items()
        if "." not in name and hasattr(module, "__path__") and module.__file__
    }
    return any(
        (found := Path(path, name)).joinpath("__init__.py").exists() and not found.samefile(folder)
        for path in paths
        for name, folder in imported.items()
    )


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2:])
