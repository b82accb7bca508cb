"""A client of the REST API of Airflow 2 or 3."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from os.path import commonprefix
from typing import Any
from urllib.parse import quote

import httpx

from yellow_dynamic.factory.rules import FAILURE, TRANSFORMER_END, parse_dag_id, parse_failure
from yellow_dynamic.monitoring import OperationError
from yellow_dynamic.monitoring.airflow import (
    FAILED,
    PAUSE_EVENTS,
    PAUSED_BY_AIRFLOW,
    REASONS,
    SUCCESS,
    WAITING_STATES,
    AirflowView,
    DagView,
    Failure,
    Pool,
    WaitingTask,
    add_obstacles,
    dag_id_prefix,
    default_failure_reason,
    executor_names,
    is_factory_file,
    parse_revision,
    paused_by_airflow,
)
from yellow_dynamic.monitoring.in_airflow import Facts, last_line, parse_facts
from yellow_dynamic.monitoring.text import format_time
from yellow_dynamic.page import PATH

TIMEOUT_SECONDS = 30
PAGE = 100
REQUESTS_AT_ONCE = 8
#: The maximum number of waiting tasks that are read; thousands may only wait for their turn.
WAITING_TASKS = 1000
#: So many entries of the audit log at most are looked at.
PAUSES = 1000


@dataclass
class Triggered:
    """The id of a DAG run that was started, or why none was."""

    run_id: str | None
    reason: str | None


class RefusedError(OperationError):
    """Airflow refuses the login, or what it asks for."""


def is_out_of_service(dag: dict[str, Any]) -> bool:
    """Return whether a DAG is in no file any more, by the REST API of either release."""
    return bool(dag["is_stale"] if "is_stale" in dag else not dag["is_active"])


def startup_obstacle(dag: dict[str, Any] | None) -> str | None:
    """Return why a DAG run would not start, or None; a missing DAG is None."""
    if dag is None:
        return "Airflow has no DAG of it"
    if is_out_of_service(dag):
        return "its DAG is out of service"
    return "it is paused in Airflow" if dag["is_paused"] else None


def parse_time(text: str) -> datetime:
    """Return a time that Airflow gives, in UTC."""
    return datetime.fromisoformat(text).astimezone(UTC)


def parse_waiting_task(answer: dict[str, Any]) -> WaitingTask:
    trigger, job = answer.get("trigger") or {}, answer.get("triggerer_job") or {}
    deferred, seen = trigger.get("created_date"), job.get("latest_heartbeat")
    return WaitingTask(
        answer["dag_id"],
        answer["dag_run_id"],
        answer["task_id"],
        answer["state"],
        answer["pool"],
        answer["pool_slots"],
        deferred and parse_time(deferred),
        seen and parse_time(seen),
        answer.get("executor"),
    )


def parse_pool(answer: dict[str, Any]) -> Pool:
    return Pool(answer["slots"], bool(answer["include_deferred"]))


class AirflowApi:
    """A connection to Airflow's REST API.

    Args:
        url: address of Airflow's web server, for example https://airflow.example.org.
        user: login name; an empty one with an empty token is no login.
        password: its password.
        token: a bearer token that is used instead of user and password.
    """

    def __init__(self, url: str, user: str, password: str, token: str) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=False)
        try:
            self._path, self.version = self._find_version()
            if token:
                self._http.headers["Authorization"] = f"Bearer {token}"
            elif user and self._path == "/api/v1":
                self._http.auth = httpx.BasicAuth(user, password)
            elif user:
                login = {"username": user, "password": password}
                answer = self._parse_response(
                    self._send("POST", "/auth/token", json=login), "/auth/token"
                )
                self._http.headers["Authorization"] = f"Bearer {answer['access_token']}"
        except BaseException:
            self._http.close()
            raise

    def close(self) -> None:
        self._http.close()

    def view(self, airflow_name: str) -> AirflowView:
        """Return the DAGs and import errors of a platform.

        Raises:
            OperationError: Airflow cannot be reached, or refuses.
        """
        start = dag_id_prefix(airflow_name)
        listed = [
            dag
            for dag in self._list("dags", dag_id_pattern=start, **self._with_stale())
            if parse_dag_id(airflow_name, dag["dag_id"]) is not None
        ]
        with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
            views = {
                view.dag_id: view
                for view in pool.map(lambda dag: self._dag_view(airflow_name, dag), listed)
            }
            ended = [view.dag_id for view in views.values() if not view.stale]
            if self._path == "/api/v2":
                ended = [it for it in self._possibly_failed(start) if it in views]
            failures = list(filter(None, pool.map(self._failure, ended)))
            for dag_id, failure in failures:
                views[dag_id].failure = failure
            list(pool.map(lambda it: self._add_reason(*it), failures[:REASONS]))
            served = [view for view in views.values() if not view.stale]
            list(pool.map(self._add_pause, self._paused_by_airflow(served)))
            transformers = [view for view in served if view.dag_id.endswith(TRANSFORMER_END)]
            list(pool.map(self._add_good_run, transformers))
        problems = self._add_obstacles(start, views)
        errors = {
            str(error["filename"]): last_line(error["stack_trace"])
            for error in self._list("importErrors", "import_errors")
            if is_factory_file(airflow_name, str(error["filename"]))
        }
        return AirflowView(self.version, views, errors, problems, self._time_zone(views))

    def dag_ids(self, start: str) -> list[str]:
        """Return the ids of the DAGs in service that contain this text."""
        return [dag["dag_id"] for dag in self._list("dags", dag_id_pattern=start)]

    def pools(self) -> dict[str, Pool]:
        """Return Airflow's pools by name.

        Raises:
            OperationError: Airflow cannot be reached, or refuses.
        """
        return {pool["name"]: parse_pool(pool) for pool in self._list("pools")}

    def is_triggerer_alive(self) -> bool:
        """Return whether a triggerer of Airflow is alive.

        Raises:
            OperationError: Airflow cannot be reached, or refuses.
        """
        health = self._get("health" if self._path == "/api/v1" else "monitor/health")
        return bool((health.get("triggerer") or {}).get("status") == "healthy")

    def arrival_of_changes(self) -> str | None:
        """Return how changes of rows arrive, or None where no page Streams says it.

        Raises:
            OperationError: Airflow cannot be reached.
        """
        answer = self._send("GET", f"/{PATH}/api/streams", params={"limit": "1"})
        if answer.status_code in (401, 403):
            return (
                f"Not known: Airflow refuses the page Streams to this login ({answer.status_code})."
            )
        # Airflow 3 answers with its own page to what it does not know.
        if not (answer.is_success and "json" in answer.headers.get("Content-Type", "")):
            return None
        said: str | None = answer.json().get("changes")
        return said

    def create_pool(self, name: str, slots: int, platform: str) -> Pool:
        """Create a pool for a platform's streams that counts deferred tasks too, and return it."""
        about = f"Jobs of the DataSurface platform {platform}"
        content = {"name": name, "slots": slots, "description": about, "include_deferred": True}
        return parse_pool(self._post("pools", content))

    def trigger(self, dag_ids: list[str]) -> list[Triggered]:
        """Start a run of each DAG, and return the results in the order of the ids.

        Raises:
            OperationError: Airflow cannot be reached, or refuses to list the DAGs.
        """
        if not dag_ids:
            return []
        start = commonprefix(dag_ids)  # noqa: RUF071 - ids are no paths
        listed = self._list("dags", dag_id_pattern=start, **self._with_stale())
        known = {dag["dag_id"]: dag for dag in listed}
        with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
            return list(pool.map(lambda it: self._trigger(it, known.get(it)), dag_ids))

    def _trigger(self, dag_id: str, dag: dict[str, Any] | None) -> Triggered:
        if reason := startup_obstacle(dag):
            return Triggered(None, reason)
        content = {} if self._path == "/api/v1" else {"logical_date": None}
        try:
            return Triggered(self._post(f"dags/{dag_id}/dagRuns", content)["dag_run_id"], None)
        except OperationError as error:
            return Triggered(None, str(error))

    def _possibly_failed(self, start: str) -> list[str]:
        """Return the DAGs whose last run failed, or is not done and may follow a failed one."""
        return [
            dag["dag_id"]
            for state in (FAILED, "running", "queued")
            for dag in self._list("dags", dag_id_pattern=start, last_dag_run_state=state)
        ]

    def _failure(self, dag_id: str) -> tuple[str, Failure] | None:
        """Return a DAG's id and its last run, if that has failed."""
        ended = [SUCCESS, FAILED]
        path = f"dags/{dag_id}/dagRuns"
        runs = self._get(path, order_by="-end_date", state=ended, limit="1")["dag_runs"]
        if not runs or runs[0]["state"] != FAILED:
            return None
        at = format_time(parse_time(runs[0]["end_date"]))
        return dag_id, Failure(runs[0]["dag_run_id"], at)

    def _add_reason(self, dag_id: str, failure: Failure) -> None:
        """Add the reason of a failed run: the message of its task, or else which task failed."""
        run = f"dags/{dag_id}/dagRuns/{quote(failure.run_id, safe='')}/taskInstances"
        failed = [each for each in self._list(run, "task_instances") if each["state"] == FAILED]
        if not failed:
            return
        task = failed[0]["task_id"]
        failure.reason = default_failure_reason(task)
        answer = self._send("GET", f"{self._path}/{run}/{task}/xcomEntries/{FAILURE}")
        # A task that was killed pushes none, and not every user may read XComs.
        if answer.is_success and (said := parse_failure(answer.json()["value"])):
            failure.reason = said

    def _paused_by_airflow(self, views: list[DagView]) -> list[DagView]:
        """Return the paused DAGs that Airflow itself has paused at some time."""
        paused = [view for view in views if view.paused]
        if not paused:
            return []
        event, owner = PAUSED_BY_AIRFLOW
        try:
            entries = self._list(
                "eventLogs", "event_logs", most=PAUSES, event=event, owner=owner, order_by="-when"
            )
        except RefusedError:
            for view in paused:
                view.pause_unknown = "this login cannot read Airflow's audit log"
            return []
        found = {entry["dag_id"] for entry in entries}
        return [view for view in paused if view.dag_id in found]

    def _add_pause(self, view: DagView) -> None:
        """Add to a paused DAG whether Airflow itself paused it last."""
        of_dag = {"dag_id": view.dag_id, "order_by": "-when", "limit": "1"}
        events = ",".join(PAUSE_EVENTS) if self._path == "/api/v1" else [*PAUSE_EVENTS]
        newest = self._get("eventLogs", **of_dag, included_events=events)["event_logs"]
        if newest and paused_by_airflow(newest[0]["event"], newest[0]["owner"]):
            view.paused_by_airflow = format_time(parse_time(newest[0]["when"]))

    def _add_good_run(self, view: DagView) -> None:
        """Add when the last run of a DAG that succeeded ended."""
        path = f"dags/{view.dag_id}/dagRuns"
        runs = self._get(path, order_by="-end_date", state=[SUCCESS], limit="1")["dag_runs"]
        if runs and runs[0]["end_date"]:
            view.good_run = parse_time(runs[0]["end_date"]).replace(tzinfo=None)

    def _add_obstacles(self, start: str, views: dict[str, DagView]) -> list[str]:
        """Add to the DAGs why tasks of theirs wait without an end, or return why not."""
        path = "dags/~/dagRuns/~/taskInstances"
        of_platform = {} if self._path == "/api/v1" else {"dag_id_pattern": start}
        try:
            waiting = self._list(
                path, "task_instances", most=WAITING_TASKS, state=[*WAITING_STATES], **of_platform
            )
            tasks = [parse_waiting_task(each) for each in waiting]
            if any(task.dag_id in views for task in tasks):
                asked = any(task.executor for task in tasks)
                add_obstacles(views, tasks, self.pools(), self._executors() if asked else None)
        except RefusedError:
            return [
                f"Why tasks of the platform wait is not known: Airflow at {self.url} refuses this "
                "login its task instances or pools. Let its role read both."
            ]
        return []

    def _executors(self) -> set[str] | None:
        """Return the names of Airflow's executors; None where it does not show its settings."""
        path = f"{self._path}/config/section/core/option/executor"
        answer = self._send("GET", path, headers={"Accept": "application/json"})
        if not answer.is_success:
            return None
        return executor_names(answer.json()["sections"][0]["options"][0]["value"])

    def _with_stale(self) -> dict[str, Any]:
        return {"only_active": "false"} if self._path == "/api/v1" else {"exclude_stale": "false"}

    def _dag_view(self, airflow_name: str, dag: dict[str, Any]) -> DagView:
        stale = is_out_of_service(dag)
        return DagView(
            dag_id=dag["dag_id"],
            stale=stale,
            paused=bool(dag["is_paused"]),
            import_errors=bool(dag["has_import_errors"]),
            file=dag.get("fileloc"),
            last_parsed=dag.get("last_parsed_time"),
            facts=None if stale else self._facts(airflow_name, dag),
        )

    def _facts(self, airflow_name: str, dag: dict[str, Any]) -> Facts | None:
        """Return the metadata of a DAG in service.

        The description of a valid DAG has it. Only a request for each DAG's details returns its
        documentation.
        """
        if revision := parse_revision(dag["description"]):
            return Facts(parse_dag_id(airflow_name, dag["dag_id"]), revision, problem=None)
        page = self._get(f"dags/{dag['dag_id']}/details")["doc_md"]
        return parse_facts(page) if page else None

    def _time_zone(self, views: dict[str, DagView]) -> str | None:
        """Return the time zone of the DAGs' schedules; None where no DAG is in service."""
        for view in views.values():
            if not view.stale:
                zone: str | None = self._get(f"dags/{view.dag_id}/details").get("timezone")
                return zone
        return None

    def _list(
        self, path: str, key: str = "", *, most: float = inf, **params: str | list[str]
    ) -> list[dict[str, Any]]:
        """Return the entries of all pages of a list, or of so many that there are enough."""
        found: list[dict[str, Any]] = []
        while True:
            answer = self._get(path, **params, limit=str(PAGE), offset=str(len(found)))
            page = answer[key or path]
            found += page
            if not page or len(found) >= min(most, answer["total_entries"]):
                return found

    def _get(self, path: str, **params: str | list[str]) -> Any:
        path = f"{self._path}/{path}"
        return self._parse_response(self._send("GET", path, params=params), path)

    def _post(self, path: str, content: dict[str, Any]) -> Any:
        path = f"{self._path}/{path}"
        return self._parse_response(self._send("POST", path, json=content), path)

    def _find_version(self) -> tuple[str, str]:
        for path in ("/api/v2", "/api/v1"):
            answer = self._send("GET", f"{path}/version")
            if answer.is_success and "json" in answer.headers.get("Content-Type", ""):
                return path, str(answer.json()["version"])
        raise OperationError(
            f"There is no REST API of Airflow at {self.url}: it answered {answer.status_code}. "
            "Give --airflow-url the address of Airflow's web server or API server."
        )

    def _send(self, method: str, path: str, **content: Any) -> httpx.Response:
        try:
            return self._http.request(method, f"{self.url}{path}", **content)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise OperationError(
                f"Airflow's REST API at {self.url} cannot be reached: "
                f"{str(error) or type(error).__name__}. Check --airflow-url."
            ) from None

    def _parse_response(self, answer: httpx.Response, path: str) -> Any:
        if answer.status_code in (401, 403):
            raise RefusedError(
                f"Airflow at {self.url} refuses the login ({answer.status_code} to {path}). Set "
                "AIRFLOW_API_USER and AIRFLOW_API_PASSWORD, or AIRFLOW_API_TOKEN. On Airflow 2, "
                "[api] auth_backends must have airflow.api.auth.backend.basic_auth."
            )
        try:
            return answer.raise_for_status().json()
        except (httpx.HTTPStatusError, ValueError):
            raise OperationError(
                f"Airflow at {self.url} answered {answer.status_code} to {path}: {answer.text:.200}"
            ) from None
