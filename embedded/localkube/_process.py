"""One container's process, seen from the server: started, signalled and waited for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from localkube._errors import Json
from localkube._logs import PodLog

logger = logging.getLogger(__name__)

_SHIM = Path(__file__).with_name("_shim.py")
_KILLED = 128 + signal.SIGKILL
#: Seconds for the output to end after the process has; only a process that escaped holds it open.
_DRAIN = 2.0


class StartError(Exception):
    """The command could not be started: it does not exist, or cannot be a command at all."""


@dataclass(frozen=True)
class Command:
    """What to run.

    Args:
        argv: the executable, looked up in the environment's ``PATH``, and its arguments.
        env: the whole environment.
        cwd: the folder to run in.
    """

    argv: list[str]
    env: dict[str, str]
    cwd: Path


class Process:
    """A command in a process group of its own that ends with the server at the latest."""

    def __init__(
        self,
        shim: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pumps: list[asyncio.Task[None]],
    ) -> None:
        self._shim = shim
        self._reader = reader
        self._writer = writer
        self._pumps = pumps
        self._group: int | None = None

    @classmethod
    async def start(cls, command: Command, log: PodLog) -> Process:
        """Start a command that writes its output to a log.

        Raises:
            StartError: the command could not be started.
            OSError: the machine has no room for another process.
        """
        ours, theirs = socket.socketpair()
        try:
            shim = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-I", "-S", "-X", "utf8", str(_SHIM)),
                stdin=theirs.fileno(),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={},
                start_new_session=True,
            )
            reader, writer = await asyncio.open_unix_connection(sock=ours)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        outputs = {"stdout": shim.stdout, "stderr": shim.stderr}
        pumps = [
            asyncio.create_task(_pump(output, stream, log))
            for stream, output in outputs.items()
            if output is not None
        ]
        process = cls(shim, reader, writer, pumps)
        try:
            await process._run(command)
        except BaseException:
            writer.close()
            process._cancel_pumps()
            raise
        return process

    async def _run(self, command: Command) -> None:
        request = {"argv": command.argv, "env": command.env, "cwd": str(command.cwd)}
        self._writer.write(json.dumps(request).encode() + b"\n")
        answer = await self._answer()
        if "group" not in answer:
            raise StartError(answer.get("error", "the process ended before it could start"))
        self._group = answer["group"]

    async def _answer(self) -> Json:
        with contextlib.suppress(ConnectionError):
            line = await self._reader.readline()
            if line:
                answer: Json = json.loads(line)
                return answer
        return {}

    def _cancel_pumps(self) -> None:
        for pump in self._pumps:
            pump.cancel()

    def terminate(self) -> None:
        """Ask the command to end (SIGTERM)."""
        self._order(b"T")

    def kill(self) -> None:
        """End the process group at once (SIGKILL)."""
        self._order(b"K")

    def _order(self, order: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(order)

    async def wait(self) -> int:
        """Return the exit code once the process has ended and its output is in the log.

        A process that a signal ended has 128 and the signal's number, as in a container.
        """
        answer = await self._answer()
        if "exit" not in answer and self._group is not None:
            # Something killed the shim, which can no longer end the rest of the group.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._group, signal.SIGKILL)
        self._writer.close()
        await self._shim.wait()
        await asyncio.wait(self._pumps, timeout=_DRAIN)
        self._cancel_pumps()
        exit_code: int = answer.get("exit", _KILLED)
        return exit_code


async def _pump(output: asyncio.StreamReader, stream: str, log: PodLog) -> None:
    while data := await output.read(65536):
        try:
            log.append(stream, data)
        except OSError as error:
            # Reading on keeps the container from waiting for a full pipe for ever.
            logger.error("Output of a pod is lost: %s cannot be written: %s", log.path, error)
