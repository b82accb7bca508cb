"""A Kubernetes API with faults: it hands requests on to a real one, and answers some itself."""

from __future__ import annotations

import base64
import http.client
import json
import re
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import yaml


@dataclass
class Fault:
    """An answer of the proxy's own to the next requests of a kind.

    Attributes:
        method: of the request.
        path: what its path must match.
        status: of the answer.
        body: a text of the log, or the message of an error.
        times: to how many requests.
    """

    method: str
    path: str
    status: int
    body: str = ""
    times: int = 1


@dataclass
class KubeProxy:
    """Where the proxy listens, as a kubeconfig, and what it does to requests."""

    kubeconfig: Path
    faults: list[Fault] = field(default_factory=list)
    #: Method and path of each request, in order.
    seen: list[tuple[str, str]] = field(default_factory=list)

    def fault_for(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.times and fault.method == method and re.search(fault.path, path):
                fault.times -= 1
                return fault
        return None


class Server(ThreadingHTTPServer):
    """Listens on a free port of this machine."""

    daemon_threads = True

    def __init__(self, proxy: KubeProxy, behind: str, authority: str | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.proxy = proxy
        self.behind = urlsplit(behind)
        self.trusted = authority and ssl.create_default_context(cadata=authority)

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection to the API."""
        host, port = self.behind.hostname or "", self.behind.port
        if self.trusted:
            return http.client.HTTPSConnection(host, port, timeout=60, context=self.trusted)
        return http.client.HTTPConnection(host, port, timeout=60)


class Handler(BaseHTTPRequestHandler):
    """Hands one request on, or answers it with a fault."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: Any) -> None:
        """Keep the tests' output clean."""

    def hand_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.proxy.seen.append((self.command, self.path))
        fault = self.server.proxy.fault_for(self.command, self.path)
        if fault is not None:
            self.answer(fault)
            return
        with closing(self.server.connect()) as connection:
            connection.request(self.command, self.path, body, dict(self.headers))
            response = connection.getresponse()
            self.send_response(response.status)
            self.send_header("Content-Type", response.getheader("Content-Type", ""))
            self.send_header("Connection", "close")
            self.end_headers()
            # A log that is followed comes piece by piece.
            while chunk := response.read1(65536):
                self.wfile.write(chunk)
                self.wfile.flush()

    do_GET = do_POST = do_DELETE = do_PATCH = do_PUT = hand_on

    def answer(self, fault: Fault) -> None:
        text = fault.body
        if fault.status != 200:
            status = {"kind": "Status", "apiVersion": "v1", "status": "Failure"}
            text = json.dumps({**status, "code": fault.status, "message": fault.body})
        data = text.encode()
        self.send_response(fault.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def kube_proxy(kubeconfig: Path, folder: Path) -> Iterator[KubeProxy]:
    """Run a proxy before the API of a kubeconfig, and write one that leads to the proxy.

    The user of the kubeconfig must have a token.
    """
    config = yaml.safe_load(kubeconfig.read_text())
    cluster = config["clusters"][0]["cluster"]
    proxy = KubeProxy(folder / "proxied-kubeconfig")
    data, file = (
        cluster.pop("certificate-authority-data", None),
        cluster.pop("certificate-authority", None),
    )
    authority = base64.b64decode(data).decode() if data else file and Path(file).read_text()
    server = Server(proxy, cluster["server"], authority)
    cluster["server"] = f"http://127.0.0.1:{server.server_port}"
    proxy.kubeconfig.write_text(yaml.safe_dump(config))
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
