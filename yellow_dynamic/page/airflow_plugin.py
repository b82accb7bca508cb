"""What Airflow loads at the start of each of its processes: so nothing here takes time.

The page itself is imported by the API server alone, when it is first asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from airflow import __version__ as airflow_version
from airflow.plugins_manager import AirflowPlugin

#: Where the page's own server is, below Airflow's address; `streams.js` has it too.
PATH = "yellow-dynamic"
STATIC = f"{PATH}/static"

Message = MutableMapping[str, Any]


async def server(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """Answer a request to the page; an ASGI application."""
    from yellow_dynamic.page.server import app

    await app(scope, receive, send)


class StreamsPlugin(AirflowPlugin):
    """Adds the page Streams to Airflow's navigation, and a tab Stream to the page of each DAG."""

    name = "yellow_dynamic"
    if int(airflow_version.partition(".")[0]) >= 3:
        fastapi_apps = [{"app": server, "url_prefix": f"/{PATH}", "name": "Streams"}]
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
