"""A mail server and a Slack webhook, which keep what they get."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller

from one_machine import free_port


class Mailbox:
    """The handler of a mail server."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, *about: Any) -> str:
        """Keep a mail."""
        envelope = about[-1]
        self.mails.append(message_from_bytes(envelope.content, policy=default))
        return "250 OK"


@contextmanager
def mail_server() -> Iterator[tuple[Mailbox, str]]:
    """Yield a mail server's box, and the connection to it as Airflow has it in an environment."""
    box = Mailbox()
    controller = Controller(box, hostname="127.0.0.1", port=free_port())
    controller.start()
    extra = {"from_email": "airflow@example.org", "disable_ssl": True, "disable_tls": True}
    host = {"host": controller.hostname, "port": controller.port}
    try:
        yield box, json.dumps({"conn_type": "smtp", **host, "extra": extra})
    finally:
        controller.stop()


@contextmanager
def slack_webhook() -> Iterator[tuple[list[str], str]]:
    """Yield the texts that a webhook gets, and the connection to it as in `mail_server`."""
    texts: list[str] = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            texts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Webhook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = f"http://127.0.0.1:{server.server_port}"
        connection = {"conn_type": "slackwebhook", "host": host, "password": "T0/B0/a-token-7"}
        yield texts, json.dumps(connection)
        server.shutdown()
