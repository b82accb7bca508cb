"""The server of the page Streams, behind Airflow's login and its permissions on DAGs.

Users who cannot read a DAG do not see its stream, nor a platform without a stream they can read.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import (
    AccessView,
    DagAccessEntity,
    DagDetails,
)
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.models.dag import DagModel
from fastapi import Depends, FastAPI, HTTPException, Query
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import JSONResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from yellow_dynamic import history
from yellow_dynamic.factory.rules import get_batch_key
from yellow_dynamic.monitoring import OperationError, batches
from yellow_dynamic.monitoring.changes import change_as_json
from yellow_dynamic.monitoring.status import State, StreamStatus
from yellow_dynamic.monitoring.text import format_error
from yellow_dynamic.page.listing import ListedStream, StreamQuery, find_page
from yellow_dynamic.page.overview import OVERVIEW, Answer, PlatformView
from yellow_dynamic.page.shapes import reason_without_xcom, stream_as_json
from yellow_dynamic.page.watcher import WATCHERS

#: So many batches and changes of one stream are shown.
SHOWN = 20


class Files(StaticFiles):
    """What the browser needs; it asks each time whether that is still the newest."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


app = FastAPI(title="Streams of yellow_dynamic", docs_url=None, redoc_url=None, openapi_url=None)
app.mount("/static", Files(directory=Path(__file__).parent / "static"))


@app.get("/api/streams")
def list_streams(user: GetUserDep, query: Annotated[StreamQuery, Query()]) -> Response:
    """Return one page of the streams that the user can read."""
    answer = OVERVIEW.answer()
    viewer = Viewer(user)
    readable = [(each, found) for each in answer.platforms if (found := viewer.readable(each))]
    streams = [ListedStream(platform, stream) for platform, found in readable for stream in found]
    page = find_page(streams, query, viewer.can_read_xcoms)
    states = [
        {"state": state, "colour": state.colour, "count": page.states[state]} for state in State
    ]
    content = {
        **answer_head(answer),
        "streams": [stream_row(listed, viewer) for listed in page.streams],
        "total_entries": page.total_entries,
        "offset": query.offset,
        "states": states,
        "platforms": [platform_as_json(platform) for platform, _ in readable],
        "problems": problems_of_files(answer, user),
    }
    # A response made here spares FastAPI's conversion of values that are JSON already.
    return JSONResponse(content)


@app.get("/api/streams/{dag_id}", dependencies=[Depends(requires_access_dag("GET"))])
def show_stream(dag_id: str, user: GetUserDep) -> dict[str, Any]:
    """Return one stream with its newest batches and changes.

    Raises:
        HTTPException: 404, no stream of a platform has this DAG.
    """
    answer = OVERVIEW.answer()
    for platform in answer.platforms:
        for stream in platform.status.streams:
            if stream.dag_id == dag_id:
                row = stream_row(ListedStream(platform, stream), Viewer(user))
                head = {**answer_head(answer), **platform_as_json(platform), "stream": row}
                return {**head, **read_details(platform, stream)}
    detail = f"The DAG {dag_id} is of no stream of a YellowDynamicDataPlatform."
    raise HTTPException(404, detail)


class Viewer:
    """The user of a request, and what the user can read."""

    def __init__(self, user: Any) -> None:
        self._user = user
        # All DAGs of a platform are of one bundle, and so of one team.
        self._find_team = cache(DagModel.get_team_name)

    def readable(self, platform: PlatformView) -> list[StreamStatus]:
        """Return the streams of a platform whose DAGs the user can read."""
        streams = platform.status.streams
        # Not all of the DAGs need be in Airflow's database, where get_authorized_dag_ids looks.
        allowed = get_auth_manager().filter_authorized_dag_ids(
            dag_ids={stream.dag_id for stream in streams},
            user=self._user,
            team_name=self._find_team(platform.factory.dag_id),
        )
        return [stream for stream in streams if stream.dag_id in allowed]

    def can_read_xcoms(self, listed: ListedStream) -> bool:
        """Return whether the user can read the XComs of a stream's DAG."""
        team = self._find_team(listed.platform.factory.dag_id)
        return get_auth_manager().is_authorized_dag(
            method="GET",
            access_entity=DagAccessEntity.XCOM,
            details=DagDetails(id=listed.stream.dag_id, team_name=team),
            user=self._user,
        )


def problems_of_files(answer: Answer, user: Any) -> list[str]:
    """Return why factory files have no DAGs, for users who can see Airflow's import errors."""
    errors = answer.import_errors
    view = AccessView.IMPORT_ERRORS
    if errors and not get_auth_manager().is_authorized_view(access_view=view, user=user):
        return []
    return [f"Airflow could not import {file}: {why}" for file, why in errors.items()]


def answer_head(answer: Answer) -> dict[str, Any]:
    at = answer.at.isoformat(timespec="seconds")
    return {"at": at, "newer_soon": answer.is_old, "changes": WATCHERS.describe()}


def platform_as_json(platform: PlatformView) -> dict[str, Any]:
    return {
        "platform": platform.installation.name,
        "table": platform.installation.table,
        "outage": platform.outage,
        "problems": platform.status.problems,
    }


def stream_row(listed: ListedStream, viewer: Viewer) -> dict[str, Any]:
    """Return a stream as JSON; only users who can read XComs see why its task failed."""
    platform, stream = listed
    dag = platform.airflow.dags.get(stream.dag_id)
    row = stream_as_json(stream, platform.table, dag)
    reason = reason_without_xcom(stream, dag)
    if reason != stream.reason and not viewer.can_read_xcoms(listed):
        row["reason"] = reason
    return {"platform": platform.installation.name, **row}


def read_details(platform: PlatformView, stream: StreamStatus) -> dict[str, Any]:
    """Return a stream's newest batches and changes, or why they cannot be read."""
    installation, table = platform.installation, platform.table
    config = table.sources.configs.get(stream.stream_key, {}) if table else {}
    key = get_batch_key(config) if config else None
    found: dict[str, Any] = {"batches": [], "changes": [], "unread": None}
    try:
        with installation.transaction("read the history of") as connection:
            changes = history.history_table(installation.table)
            if history.is_readable(connection, installation.table):
                of_stream = changes.c.stream_key == stream.stream_key
                newest = history.find_changes(connection, changes, of_stream, limit=SHOWN)
                found["changes"] = [change_as_json(change) for change in newest]
            if key is not None:
                delivered = batches.read_batches(connection, installation.settings, [key], SHOWN)
                found["batches"] = [
                    {**batch.as_json(), "rows": batch.rows} for _, batch in delivered
                ]
    except (OperationError, SQLAlchemyError) as error:
        found["unread"] = format_error(error)
    return found
