"""The server of the page Streams, behind Airflow's login and its permissions on DAGs.

Whoever may not read a DAG does not see its stream, and sees no platform of which he may read none.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import (
    AccessView,
    DagAccessEntity,
    DagDetails,
)
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.models.dag import DagModel
from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from yellow_dynamic import history
from yellow_dynamic.factory.rules import get_batch_key
from yellow_dynamic.monitoring import OperationError, batches
from yellow_dynamic.monitoring.changes import change_as_json
from yellow_dynamic.monitoring.status import State, StreamStatus
from yellow_dynamic.monitoring.text import format_error
from yellow_dynamic.page.overview import OVERVIEW, Answer, Platform

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
def list_streams(user: GetUserDep) -> Response:
    """Return all streams that the user may read, by platform."""
    answer = OVERVIEW.answer()
    platforms = [
        platform_as_text(platform, streams, user)
        for platform in answer.platforms
        if (streams := readable(platform, user))
    ]
    about = {"states": list(State), "problems": problems_of_files(answer, user)}
    text = with_list({**head_of(answer), **about}, "platforms", platforms)
    return Response(text, media_type="application/json")


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
                whole = json.loads(platform_as_text(platform, [stream], user))
                return {**head_of(answer), **whole, **more_of(platform, stream)}
    detail = f"The DAG {dag_id} is of no stream of a YellowDynamicDataPlatform."
    raise HTTPException(404, detail)


def readable(platform: Platform, user: Any) -> list[StreamStatus]:
    """Return the streams of a platform whose DAGs a user may read."""
    streams = platform.status.streams
    # All DAGs of a platform are of one bundle, and so of one team. Not all of them need be in
    # Airflow's database, where get_authorized_dag_ids looks.
    allowed = get_auth_manager().filter_authorized_dag_ids(
        dag_ids={stream.dag_id for stream in streams},
        user=user,
        team_name=DagModel.get_team_name(platform.factory.dag_id),
    )
    return [stream for stream in streams if stream.dag_id in allowed]


def problems_of_files(answer: Answer, user: Any) -> list[str]:
    """Return why factory files have no DAGs, for who may see Airflow's import errors."""
    errors = answer.import_errors
    view = AccessView.IMPORT_ERRORS
    if errors and not get_auth_manager().is_authorized_view(access_view=view, user=user):
        return []
    return [f"Airflow could not import {file}: {why}" for file, why in errors.items()]


def head_of(answer: Answer) -> dict[str, Any]:
    return {"at": answer.at.isoformat(timespec="seconds"), "newer_soon": answer.is_old}


def platform_as_text(platform: Platform, streams: list[StreamStatus], user: Any) -> str:
    head = {
        "platform": platform.installation.name,
        "table": platform.installation.table,
        "outage": platform.outage,
        "problems": platform.status.problems,
    }
    return with_list(head, "streams", [stream_as_text(platform, each, user) for each in streams])


def with_list(head: dict[str, Any], name: str, texts: list[str]) -> str:
    """Return a JSON object that has one list more, of values that are JSON texts already."""
    return f'{json.dumps(head)[:-1]}, "{name}": [{",".join(texts)}]}}'


def stream_as_text(platform: Platform, stream: StreamStatus, user: Any) -> str:
    """Return a stream as JSON text; what a task said is for who may read its XComs."""
    text = platform.texts[stream.dag_id]
    view = platform.airflow.dags.get(stream.dag_id)
    failure = view.failure if view and stream.state is State.FAILING else None
    if failure is None or get_auth_manager().is_authorized_dag(
        method="GET",
        access_entity=DagAccessEntity.XCOM,
        details=DagDetails(id=stream.dag_id, team_name=DagModel.get_team_name(stream.dag_id)),
        user=user,
    ):
        return text
    return json.dumps({**json.loads(text), "reason": str(replace(failure, reason=None))})


def more_of(platform: Platform, stream: StreamStatus) -> dict[str, Any]:
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
