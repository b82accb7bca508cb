"""A StatsD server."""

from __future__ import annotations

import socket
import threading


class StatsD:
    """A StatsD server, which keeps the last value of each gauge."""

    def __init__(self) -> None:
        self.gauges: dict[str, float] = {}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._receive, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _receive(self) -> None:
        while self._socket.fileno() != -1:
            try:
                packet = self._socket.recv(65536)
            except OSError:
                return
            for line in packet.decode().splitlines():
                name, _, value = line.partition(":")
                if value.endswith("|g"):
                    self.gauges[name] = float(value.removesuffix("|g"))

    def figures(self, start: str) -> dict[str, float]:
        """Return the gauges whose names begin like this, by the rest of their names."""
        gauges = self.gauges.copy()
        return {name.removeprefix(start): gauges[name] for name in gauges if name.startswith(start)}
