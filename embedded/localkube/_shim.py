"""Stands between the server and one container, and outlives neither.

The server starts it with a socket as standard input, sends one line of JSON (``argv``, ``env``,
``cwd``) and reads one line when the command has started and one when it has ended. After that
each byte from the server is an order: ``T`` asks the container's first process to end, ``K``
kills its process group. The socket closes when the server is gone, however it went, and then the
container is killed as well. The request travels over the socket so that neither the environment
nor the arguments show up in this process's own.

When the command ends, everything it left behind is killed, as the end of a container's first
process ends the container. On Linux that includes processes that made a session of their own.

It runs without the site packages, so it may use the standard library only.
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CONTROL = 0
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def read_request() -> dict[str, Any]:
    data = b""
    while not data.endswith(b"\n"):
        chunk = os.read(CONTROL, 65536)
        if not chunk:
            sys.exit(1)
        data += chunk
    request: dict[str, Any] = json.loads(data)
    return request


def tell_server(message: dict[str, Any]) -> None:
    # A server that is gone needs no news, and the order to kill arrives by the closed socket.
    with contextlib.suppress(OSError):
        os.write(CONTROL, json.dumps(message).encode() + b"\n")


def start(request: dict[str, Any]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        request["argv"],
        env=request["env"],
        cwd=request["cwd"],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        # Should this process be killed itself, nobody else would end the container.
        preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
    )


def signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def obey(group: int) -> None:
    while True:
        try:
            order = os.read(CONTROL, 1)
        except OSError:
            order = b""
        if order == b"T":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(group, signal.SIGTERM)
        else:
            signal_group(group, signal.SIGKILL)
        if not order:
            return


def wait_for_end(pid: int) -> None:
    """Return when the container's first process has ended, and leave it as a zombie.

    Its process group keeps its number that way until the rest of the group has been killed.
    """
    while True:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        if ended is None or ended.si_pid == pid:
            return
        os.waitpid(ended.si_pid, 0)


def children() -> Iterator[int]:
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The second field is the name in parentheses, which may hold anything.
            fields = status.read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                yield int(status.parent.name)


def kill_leftovers() -> None:
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            for child in children():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(child, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, 0)


def main() -> None:
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    request = read_request()
    try:
        process = start(request)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        why = getattr(error, "strerror", None) or str(error)
        tell_server({"error": f"{json.dumps(request['argv'][0])}: {why}"})
        return
    tell_server({"group": process.pid})
    threading.Thread(target=obey, args=(process.pid,), daemon=True).start()
    wait_for_end(process.pid)
    signal_group(process.pid, signal.SIGKILL)
    code = process.wait()
    kill_leftovers()
    tell_server({"exit": code if code >= 0 else 128 - code})


if __name__ == "__main__":
    main()
