"""What a container printed, kept in one file with the time of each line."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from pathlib import Path

from localkube._store import Signal

#: A line without end is kept in pieces of this many bytes, as container runtimes do.
LONGEST_PIECE = 16 * 1024

_BATCH = 64 * 1024
_STAMP = 30
_WHOLE, _PIECE = b" F ", b" P "


def _stamp(nanoseconds: int) -> bytes:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest:09d}Z".encode()


class PodLog:
    """The log of one container: written as it prints, read by any number of readers.

    Each record of the file is a time, ``F`` for a full line or ``P`` for a piece of one that
    goes on, and the text.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab", buffering=0)
        self._rest = b""
        self._grown = Signal()
        self.closed = False

    def append(self, data: bytes) -> None:
        """Add what the container printed; a line shows once it is complete."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        records = [record for line in lines for record in self._records(line)]
        while len(self._rest) > LONGEST_PIECE:
            piece, self._rest = self._rest[:LONGEST_PIECE], self._rest[LONGEST_PIECE:]
            records.append(_PIECE + piece)
        self._write(records)

    @staticmethod
    def _records(line: bytes) -> Iterable[bytes]:
        while len(line) > LONGEST_PIECE:
            piece, line = line[:LONGEST_PIECE], line[LONGEST_PIECE:]
            yield _PIECE + piece
        yield _WHOLE + line

    def _write(self, records: list[bytes]) -> None:
        if not records:
            return
        stamp = _stamp(time.time_ns())
        self._file.write(b"".join(stamp + record + b"\n" for record in records))
        self._grown.send()

    def finish(self) -> None:
        """Write what is left of an unfinished line: the container prints no more."""
        if self._rest:
            self._write([_PIECE + self._rest])
            self._rest = b""

    def close(self) -> None:
        """End the log, and with it all who follow it."""
        self.finish()
        self._file.close()
        self.closed = True
        self._grown.send()

    async def read(
        self,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: float | None = None,
        timestamps: bool = False,
    ) -> AsyncIterator[bytes]:
        """Yield the log in chunks.

        Args:
            follow: go on until the log is closed.
            tail: start with the last so many lines.
            since: leave out lines older than so many seconds.
            timestamps: put its time before each line.
        """
        oldest = b"" if since is None else _stamp(time.time_ns() - int(since * 1e9))
        start = 0 if tail is None else await asyncio.to_thread(self._tail_start, tail)
        inside_line = False
        with self.path.open("rb") as file:
            file.seek(start)
            while True:
                was_closed = self.closed
                records = file.readlines(_BATCH)
                chunk = b""
                for record in records:
                    if record[:_STAMP] >= oldest:
                        chunk += self._text(record, timestamps and not inside_line)
                        inside_line = record[_STAMP : _STAMP + 3] == _PIECE
                if chunk:
                    yield chunk
                if not records:
                    if was_closed or not follow:
                        return
                    await self._grown.wait()

    @staticmethod
    def _text(record: bytes, with_stamp: bool) -> bytes:
        text = record[_STAMP + 3 :]
        if record[_STAMP : _STAMP + 3] == _PIECE:
            text = text[:-1]
        return record[:_STAMP] + b" " + text if with_stamp else text

    def _tail_start(self, lines: int) -> int:
        if lines == 0:
            return self.path.stat().st_size
        starts: deque[int] = deque(maxlen=lines)
        position, inside_line = 0, False
        with self.path.open("rb") as file:
            for record in file:
                if not inside_line:
                    starts.append(position)
                inside_line = record[_STAMP : _STAMP + 3] == _PIECE
                position += len(record)
        return starts[0] if starts else 0
