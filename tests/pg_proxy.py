"""A proxy before PostgreSQL that breaks connections, and drops and delays packets."""

from __future__ import annotations

import itertools
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

TLS_REQUEST, GSS_REQUEST = 80877103, 80877104
#: What happens at the chosen statement: the connection ends before the server has it, it ends
#: after the server has answered but before the client hears of it, or nothing passes any more and
#: neither side is told.
Break = Literal["before", "after", "silence"]

_last_numbers = itertools.count(1)


@dataclass
class PostgresProxy:
    """Forwards connections on port 5432 of an address of its own to a PostgreSQL server.

    Attributes:
        server: host and port of the server.
        tls: how to talk to the client where it asks for TLS; without it, TLS is declined.
        break_at: the statement of each connection, from 1, at which `how` happens.
        delay: seconds by which each packet of the server is late.
        refusal: the fields of an error by which each connection is refused instead, by their types.
        connections: the statements of each connection so far, up to and with the one that broke.
    """

    server: tuple[str, int]
    tls: ssl.SSLContext | None = None
    break_at: int | None = None
    how: Break = "before"
    delay: float = 0.0
    refusal: dict[str, bytes] = field(default_factory=dict)
    connections: list[list[str]] = field(default_factory=list)
    address: str = ""

    @property
    def statements(self) -> list[str]:
        """What the last connection sent."""
        return self.connections[-1] if self.connections else []

    def __enter__(self) -> PostgresProxy:
        self._closing = threading.Event()
        self._sockets: list[socket.socket] = []
        self._listener = _listen()
        self.address = self._listener.getsockname()[0]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        for each in [self._listener, *self._sockets]:
            _end(each)

    def _accept(self) -> None:
        while not self._closing.is_set():
            with suppress(OSError):
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        if self.refusal:
            with suppress(OSError):
                self._startup(client)
                fields = b"".join(key.encode() + text + b"\0" for key, text in self.refusal.items())
                client.sendall(b"E" + struct.pack("!I", len(fields) + 5) + fields + b"\0")
            _end(client)
            return
        server = socket.create_connection(self.server)
        self._sockets += [client, server]
        # A side that is gone ends the other one; what it was doing is the test's business.
        with suppress(OSError):
            client, startup = self._startup(client)
            self._sockets.append(client)
            server.sendall(startup)
            connection = _Connection(self, client, server)
            threading.Thread(target=connection.forward_answers, daemon=True).start()
            connection.forward_statements()
            if connection.silent:
                return
        _end(client)
        _end(server)

    def _startup(self, client: socket.socket) -> tuple[socket.socket, bytes]:
        """Settle encryption with the client; return its socket and its first real packet."""
        while True:
            size, code = struct.unpack("!II", _exactly(client, 8))
            rest = _exactly(client, size - 8)
            if code == TLS_REQUEST and self.tls is not None:
                client.sendall(b"S")
                client = self.tls.wrap_socket(client, server_side=True)
            elif code in (TLS_REQUEST, GSS_REQUEST):
                client.sendall(b"N")
            else:
                return client, struct.pack("!II", size, code) + rest


@dataclass
class _Connection:
    proxy: PostgresProxy
    client: socket.socket
    server: socket.socket
    silent: bool = False
    broken: bool = False

    def forward_statements(self) -> None:
        """Pass the client's messages on, and break the connection at the chosen statement."""
        statements: list[str] = []
        self.proxy.connections.append(statements)
        for message in _messages(self.client):
            if message[:1] in (b"Q", b"P"):
                statements.append(message[5:].strip(b"\0").decode())
                if len(statements) == self.proxy.break_at:
                    self.broken = True
                    self.silent = self.proxy.how == "silence"
                    if self.proxy.how == "after":
                        self.server.sendall(message)
                        # Ends when the answer has come, in forward_answers.
                        continue
                    return
            if not self.broken:
                self.server.sendall(message)

    def forward_answers(self) -> None:
        """Pass the server's packets on, late by the delay that is set."""
        with suppress(OSError):
            while packet := self.server.recv(65536):
                if self.broken:
                    break
                # The delay is what is tested.
                threading.Event().wait(self.proxy.delay)
                self.client.sendall(packet)
        if not self.silent:
            _end(self.client)
            _end(self.server)


def _messages(source: socket.socket) -> Iterator[bytes]:
    while True:
        head = _exactly(source, 5)
        yield head + _exactly(source, struct.unpack("!I", head[1:])[0] - 4)


def _exactly(source: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        part = source.recv(size - len(received))
        if not part:
            raise ConnectionResetError("the peer is gone")
        received += part
    return received


def _listen() -> socket.socket:
    """Listen on a loopback address whose port 5432 is free; ecosystem models name that port."""
    while True:
        address = f"127.85.{next(_last_numbers)}.1"
        with suppress(OSError):
            return socket.create_server((address, 5432))


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
