"""What Airflow loads at the start of each of its processes: so nothing here takes time.

The page itself is imported by the API server alone, when it is first asked.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from airflow import __version__ as airflow_version
from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

from yellow_dynamic.page import PATH

STATIC = f"{PATH}/static"
FIRST_AIRFLOW = (3, 3)

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


async def server(scope: Message, receive: Receive, send: Send) -> None:
    """Answer a request to the page; an ASGI application."""
    from yellow_dynamic.page.server import app

    await app(scope, receive, send)


class Threads:
    """Watches the tables and sends figures to Airflow's metrics; as middleware, it does nothing.

    Airflow makes its middleware when an API server starts, and nowhere else.
    """

    def __init__(self, app: Application) -> None:
        self._app = app
        try:
            start_threads()
        except Exception:
            # The API server is worth more than they are.
            log.exception("Changes of rows are not watched, or figures of streams not sent.")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        await self._app(scope, receive, send)


def start_threads() -> None:
    """Start what the API server does beside its answers, as far as it is configured."""
    if any(conf.getboolean("metrics", key, fallback=False) for key in ("statsd_on", "otel_on")):
        from yellow_dynamic.page import gauges

        gauges.start()
    if conf.getboolean("yellow_dynamic", "watch_changes", fallback=True):
        from yellow_dynamic.page.watcher import WATCHERS

        WATCHERS.start()


class StreamsPlugin(AirflowPlugin):
    """Adds the page Streams to Airflow's navigation, and a tab Stream to the page of each DAG.

    An older Airflow has no place for them, or lacks what the server needs; it gets nothing.
    """

    name = "yellow_dynamic"
    if tuple(map(int, airflow_version.split(".")[:2])) >= FIRST_AIRFLOW:
        fastapi_apps = [{"app": server, "url_prefix": f"/{PATH}", "name": "Streams"}]
        fastapi_root_middlewares = [{"middleware": Threads, "name": "threads of yellow_dynamic"}]
        react_apps = [
            {
                "name": "Streams",
                "bundle_url": f"{STATIC}/streams.js",
                "url_route": "streams",
                "destination": "nav",
                "nav_top_level": True,
                "icon": f"{STATIC}/streams.svg",
            },
            {
                "name": "Stream",
                "bundle_url": f"{STATIC}/streams.js",
                "url_route": "stream",
                "destination": "dag",
            },
        ]
