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
        self._rests: dict[str, bytes] = {}
        self._grown = Signal()
        self.closed = False

    def append(self, stream: str, data: bytes) -> None:
        """Add what the container printed to a stream; a line shows once it is complete."""
        *lines, rest = (self._rests.get(stream, b"") + data).split(b"\n")
        records = [record for line in lines for record in self._records(line)]
        while len(rest) > LONGEST_PIECE:
            piece, rest = rest[:LONGEST_PIECE], rest[LONGEST_PIECE:]
            records.append(_PIECE + piece)
        self._rests[stream] = rest
        self._write(records)

    @staticmethod
    def _records(line: bytes) -> Iterable[bytes]:
        line = line.removesuffix(b"\r")
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

    def close(self) -> None:
        """End the log, with what is left of unfinished lines, and with it all who follow it."""
        self._write([_PIECE + rest for rest in self._rests.values() if rest])
        self._file.close()
        self.closed = True
        self._grown.send()

    async def read(
        self,
        *,
        follow: bool = False,
        tail: int | None = None,
        oldest: datetime | None = None,
        timestamps: bool = False,
    ) -> AsyncIterator[bytes]:
        """Yield the log in chunks.

        Args:
            follow: go on until the log is closed.
            tail: start with the last so many lines, or pieces of them.
            oldest: leave out lines from before this time.
            timestamps: put its time before each line.
        """
        first = b"" if oldest is None else _stamp(int(oldest.timestamp() * 1e6) * 1000)
        start = 0 if tail is None else await asyncio.to_thread(self._tail_start, tail)
        inside_line = False
        with self.path.open("rb") as file:
            file.seek(start)
            while True:
                was_closed = self.closed
                records = file.readlines(_BATCH)
                chunk = b""
                for record in records:
                    if record[:_STAMP] >= first:
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
        # A kubelet counts the pieces of a long line too.
        starts: deque[int] = deque(maxlen=lines)
        position = 0
        with self.path.open("rb") as file:
            for record in file:
                starts.append(position)
                position += len(record)
        return starts[0] if starts else 0
