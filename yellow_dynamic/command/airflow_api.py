"""Airflow's own view of its DAGs, through the REST API of Airflow 2 or 3."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx

from yellow_dynamic.command import CommandError
from yellow_dynamic.command.in_airflow import Facts, facts_of
from yellow_dynamic.contract import dag_id_of, factory_name_of, stream_key_of

TIMEOUT_SECONDS = 30
PAGE = 100
REQUESTS_AT_ONCE = 8


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


@dataclass
class AirflowView:
    """The DAGs of one platform as Airflow has them, and the errors of its factory files."""

    version: str
    dags: dict[str, DagView]
    import_errors: dict[str, str]


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
        start = dag_id_of(airflow_name, "\0").partition("\0")[0]
        listed = [
            dag
            for dag in self._list("dags", dag_id_pattern=start, **self._stale_too())
            if stream_key_of(airflow_name, dag["dag_id"]) is not None
        ]
        # Only a DAG's details have its page, and with it the revision of its row.
        with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
            views = pool.map(self._dag_view, listed)
        errors = {
            str(error["filename"]): last_line(error["stack_trace"])
            for error in self._list("importErrors", "import_errors")
            if factory_name_of(airflow_name) in str(error["filename"])
        }
        return AirflowView(self.version, {view.dag_id: view for view in views}, errors)

    def dag_ids(self, start: str) -> list[str]:
        """Return the ids of the DAGs in service in which this text is found."""
        return [dag["dag_id"] for dag in self._list("dags", dag_id_pattern=start)]

    def newest_state(self, dag_id: str) -> str | None:
        """Return the state of a DAG's newest run that has started, or None for no such run."""
        path = f"dags/{dag_id}/dagRuns"
        runs = self._get(path, order_by="-start_date", limit="1")["dag_runs"]
        return str(runs[0]["state"]) if runs else None

    def _stale_too(self) -> dict[str, str]:
        return {"only_active": "false"} if self._path == "/api/v1" else {"exclude_stale": "false"}

    def _dag_view(self, dag: dict[str, Any]) -> DagView:
        stale = bool(dag["is_stale"] if "is_stale" in dag else not dag["is_active"])
        # Airflow 2 finds no details of a DAG that is out of service.
        details = {} if stale else self._get(f"dags/{dag['dag_id']}/details")
        return DagView(
            dag_id=dag["dag_id"],
            stale=stale,
            paused=bool(dag["is_paused"]),
            import_errors=bool(dag["has_import_errors"]),
            file=dag.get("fileloc"),
            last_parsed=dag.get("last_parsed_time"),
            facts=facts_of(details["doc_md"]) if details.get("doc_md") else None,
        )

    def _list(self, path: str, key: str = "", **params: str) -> list[dict[str, Any]]:
        """Return all pages of a list."""
        found: list[dict[str, Any]] = []
        while True:
            answer = self._get(path, **params, limit=str(PAGE), offset=str(len(found)))
            page = answer[key or path]
            found += page
            if not page or len(found) >= answer["total_entries"]:
                return found

    def _get(self, path: str, **params: str) -> Any:
        path = f"{self._path}/{path}"
        return self._checked(self._send("GET", path, params=params), path)

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


def last_line(text: str | None) -> str:
    lines = (text or "").strip().splitlines()
    return lines[-1].strip() if lines else "no reason given"
