"""Airflow's own view of its DAGs and of their runs, through the REST API of Airflow 2 or 3."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from os.path import commonprefix
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

import httpx

from yellow_dynamic.command import CommandError
from yellow_dynamic.command.in_airflow import Facts, facts_of, last_line
from yellow_dynamic.command.rows import as_time
from yellow_dynamic.contract import (
    FAILURE,
    dag_id_of,
    factory_name_of,
    revision_described,
    stream_key_of,
)

TIMEOUT_SECONDS = 30
PAGE = 100
REQUESTS_AT_ONCE = 8
#: Of so many failed runs Airflow is asked for the reason.
REASONS = 50


@dataclass
class Failure:
    """The last run of a DAG, which failed.

    Attributes:
        run_id: its id in Airflow.
        ended: when, as the command writes times.
        reason: what its task said, or which task failed; None where Airflow was not asked.
    """

    run_id: str
    ended: str
    reason: str | None = None

    def __str__(self) -> str:
        text = f"its run {self.run_id} failed at {self.ended}"
        return f"{text}: {self.reason}" if self.reason else text


@dataclass
class DagView:
    """A DAG as Airflow has it; what its page says is None where Airflow shows no page."""

    dag_id: str
    stale: bool
    paused: bool
    import_errors: bool
    file: str | None
    last_parsed: str | None
    facts: Facts | None
    failure: Failure | None = None


@dataclass
class AirflowView:
    """The DAGs of one platform as Airflow has them, and the errors of its factory files."""

    version: str
    dags: dict[str, DagView]
    import_errors: dict[str, str]


@dataclass
class Pool:
    """A pool of Airflow.

    Attributes:
        slots: how many tasks of one slot run at once; below 0 is without a limit.
        include_deferred: whether it counts those that the triggerer waits for.
    """

    slots: int
    include_deferred: bool


@dataclass
class Triggered:
    """The id of a run that was started, or why none was."""

    run_id: str | None
    reason: str | None


def dag_ids_start(airflow_name: str) -> str:
    """Return how the ids of a platform's DAGs begin, and perhaps some of others too."""
    return dag_id_of(airflow_name, "\0").partition("\0")[0]


def is_factory_file(airflow_name: str, file: str) -> bool:
    """Tell whether a path is that of a factory file of a platform."""
    name = PurePath(file).stem
    first = factory_name_of(airflow_name)
    return name == first or (name.startswith(f"{first}_") and name[len(first) + 1 :].isdecimal())


def reason_without_record(task_id: str) -> str:
    """Return what is to be said of a failed run whose task left no reason."""
    return f"see the log of its task {task_id}"


def out_of_service(dag: dict[str, Any]) -> bool:
    """Tell whether a DAG is in no file any more, as the REST API of either release has it."""
    return bool(dag["is_stale"] if "is_stale" in dag else not dag["is_active"])


def why_not_run(dag: dict[str, Any] | None) -> str | None:
    """Return why a run of a DAG would not start, or None; a DAG that is None is not there."""
    if dag is None:
        return "Airflow has no DAG of it"
    if out_of_service(dag):
        return "its DAG is out of service"
    return "it is paused in Airflow" if dag["is_paused"] else None


def pool_of(answer: dict[str, Any]) -> Pool:
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
                answer = self._checked(self._send("POST", "/auth/token", json=login), "/auth/token")
                self._http.headers["Authorization"] = f"Bearer {answer['access_token']}"
        except BaseException:
            self._http.close()
            raise

    def close(self) -> None:
        self._http.close()

    def view(self, airflow_name: str) -> AirflowView:
        """Return what Airflow has of a platform.

        Raises:
            CommandError: Airflow cannot be reached, or refuses.
        """
        start = dag_ids_start(airflow_name)
        listed = [
            dag
            for dag in self._list("dags", dag_id_pattern=start, **self._stale_too())
            if stream_key_of(airflow_name, dag["dag_id"]) is not None
        ]
        with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
            views = {
                view.dag_id: view
                for view in pool.map(lambda dag: self._dag_view(airflow_name, dag), listed)
            }
            ended = [view.dag_id for view in views.values() if not view.stale]
            if self._path == "/api/v2":
                ended = [it for it in self._perhaps_failed(start) if it in views]
            failures = list(filter(None, pool.map(self._failure, ended)))
            for dag_id, failure in failures:
                views[dag_id].failure = failure
            list(pool.map(lambda it: self._add_reason(*it), failures[:REASONS]))
        errors = {
            str(error["filename"]): last_line(error["stack_trace"])
            for error in self._list("importErrors", "import_errors")
            if is_factory_file(airflow_name, str(error["filename"]))
        }
        return AirflowView(self.version, views, errors)

    def dag_ids(self, start: str) -> list[str]:
        """Return the ids of the DAGs in service in which this text is found."""
        return [dag["dag_id"] for dag in self._list("dags", dag_id_pattern=start)]

    def pools(self) -> dict[str, Pool]:
        """Return Airflow's pools by name.

        Raises:
            CommandError: Airflow cannot be reached, or refuses.
        """
        return {pool["name"]: pool_of(pool) for pool in self._list("pools")}

    def triggerer_runs(self) -> bool:
        """Tell whether a triggerer of Airflow is alive.

        Raises:
            CommandError: Airflow cannot be reached, or refuses.
        """
        health = self._get("health" if self._path == "/api/v1" else "monitor/health")
        return bool((health.get("triggerer") or {}).get("status") == "healthy")

    def create_pool(self, name: str, slots: int, platform: str) -> Pool:
        """Create a pool for a platform's streams, which counts deferred tasks too; return it."""
        about = f"Jobs of the DataSurface platform {platform}"
        content = {"name": name, "slots": slots, "description": about, "include_deferred": True}
        return pool_of(self._post("pools", content))

    def trigger(self, dag_ids: list[str]) -> list[Triggered]:
        """Start a run of each of some DAGs, and return what became of each.

        Raises:
            CommandError: Airflow cannot be reached, or refuses to list the DAGs.
        """
        if not dag_ids:
            return []
        start = commonprefix(dag_ids)  # noqa: RUF071 - ids are no paths
        listed = self._list("dags", dag_id_pattern=start, **self._stale_too())
        known = {dag["dag_id"]: dag for dag in listed}
        with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
            return list(pool.map(lambda it: self._trigger(it, known.get(it)), dag_ids))

    def _trigger(self, dag_id: str, dag: dict[str, Any] | None) -> Triggered:
        if reason := why_not_run(dag):
            return Triggered(None, reason)
        content = {} if self._path == "/api/v1" else {"logical_date": None}
        try:
            return Triggered(self._post(f"dags/{dag_id}/dagRuns", content)["dag_run_id"], None)
        except CommandError as error:
            return Triggered(None, str(error))

    def _perhaps_failed(self, start: str) -> list[str]:
        """Return the DAGs whose last run failed, or may go on after one that has failed."""
        return [
            dag["dag_id"]
            for state in ("failed", "running", "queued")
            for dag in self._list("dags", dag_id_pattern=start, last_dag_run_state=state)
        ]

    def _failure(self, dag_id: str) -> tuple[str, Failure] | None:
        """Return a DAG's id and its last run, if that has failed."""
        ended = ["success", "failed"]
        path = f"dags/{dag_id}/dagRuns"
        runs = self._get(path, order_by="-end_date", state=ended, limit="1")["dag_runs"]
        if not runs or runs[0]["state"] != "failed":
            return None
        at = datetime.fromisoformat(runs[0]["end_date"]).astimezone(UTC)
        return dag_id, Failure(runs[0]["dag_run_id"], as_time(at))

    def _add_reason(self, dag_id: str, failure: Failure) -> None:
        """Ask for the reason of a failed run: what its task said, or else which task failed."""
        run = f"dags/{dag_id}/dagRuns/{quote(failure.run_id, safe='')}/taskInstances"
        failed = [each for each in self._list(run, "task_instances") if each["state"] == "failed"]
        if not failed:
            return
        task = failed[0]["task_id"]
        failure.reason = reason_without_record(task)
        answer = self._send("GET", f"{self._path}/{run}/{task}/xcomEntries/{FAILURE}")
        # A task that was killed has none, and not every user may read them.
        if answer.is_success:
            failure.reason = str(answer.json()["value"])

    def _stale_too(self) -> dict[str, str]:
        return {"only_active": "false"} if self._path == "/api/v1" else {"exclude_stale": "false"}

    def _dag_view(self, airflow_name: str, dag: dict[str, Any]) -> DagView:
        stale = out_of_service(dag)
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
        """Return what a DAG in service says of itself.

        Its details have its page, and take a request for each DAG. The description of a good one
        says as much.
        """
        if revision := revision_described(dag["description"]):
            return Facts(stream_key_of(airflow_name, dag["dag_id"]), revision, problem=None)
        page = self._get(f"dags/{dag['dag_id']}/details")["doc_md"]
        return facts_of(page) if page else None

    def _list(self, path: str, key: str = "", **params: str) -> list[dict[str, Any]]:
        """Return all pages of a list."""
        found: list[dict[str, Any]] = []
        while True:
            answer = self._get(path, **params, limit=str(PAGE), offset=str(len(found)))
            page = answer[key or path]
            found += page
            if not page or len(found) >= answer["total_entries"]:
                return found

    def _get(self, path: str, **params: str | list[str]) -> Any:
        path = f"{self._path}/{path}"
        return self._checked(self._send("GET", path, params=params), path)

    def _post(self, path: str, content: dict[str, Any]) -> Any:
        path = f"{self._path}/{path}"
        return self._checked(self._send("POST", path, json=content), path)

    def _find_version(self) -> tuple[str, str]:
        for path in ("/api/v2", "/api/v1"):
            answer = self._send("GET", f"{path}/version")
            if answer.is_success and "json" in answer.headers.get("Content-Type", ""):
                return path, str(answer.json()["version"])
        raise CommandError(
            f"There is no REST API of Airflow at {self.url}: it answered {answer.status_code}. "
            "Give --airflow-url the address of Airflow's web server or API server."
        )

    def _send(self, method: str, path: str, **content: Any) -> httpx.Response:
        try:
            return self._http.request(method, f"{self.url}{path}", **content)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise CommandError(
                f"Airflow's REST API at {self.url} cannot be reached: "
                f"{str(error) or type(error).__name__}. Check --airflow-url."
            ) from None

    def _checked(self, answer: httpx.Response, path: str) -> Any:
        if answer.status_code in (401, 403):
            raise CommandError(
                f"Airflow at {self.url} refuses the login ({answer.status_code} to {path}). Set "
                "AIRFLOW_API_USER and AIRFLOW_API_PASSWORD, or AIRFLOW_API_TOKEN. On Airflow 2, "
                "[api] auth_backends must have airflow.api.auth.backend.basic_auth."
            )
        try:
            return answer.raise_for_status().json()
        except (httpx.HTTPStatusError, ValueError):
            raise CommandError(
                f"Airflow at {self.url} answered {answer.status_code} to {path}: {answer.text:.200}"
            ) from None
