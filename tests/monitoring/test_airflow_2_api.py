"""Airflow 2's REST API, from answers that a real Airflow 2.11.2 gave."""

from __future__ import annotations

import base64
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from yellow_dynamic.monitoring import OperationError
from yellow_dynamic.monitoring.airflow_api import AirflowApi, Pool, Triggered
from yellow_dynamic.monitoring.in_airflow import Facts

ANSWERS = json.loads(Path(__file__).with_name("airflow_2_11.json").read_text(encoding="utf-8"))
LOGIN = f"Basic {base64.b64encode(b'admin:secret-4').decode()}"


#: What the role of the login may not read.
FORBIDDEN: set[str] = set()


class Recorded(BaseHTTPRequestHandler):
    """Answers as Airflow 2.11 did, one DAG or import error a page."""

    def do_GET(self) -> None:
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        if path not in ANSWERS:
            self.answer(404, "<html>", "text/html")
        elif path in FORBIDDEN or (
            path != "/api/v1/version" and self.headers.get("Authorization") != LOGIN
        ):
            self.answer(403, '{"title": "Forbidden"}', "application/problem+json")
        else:
            offset = int(query.get("offset", ["0"])[0])
            answer = {
                key: value[offset : offset + 1] if "limit" in query and key != "tags" else value
                for key, value in ANSWERS[path].items()
                if isinstance(value, list)
            }
            self.answer(200, json.dumps({**ANSWERS[path], **answer}), "application/json")

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        content = json.loads(self.rfile.read(length))
        if urlsplit(self.path).path == "/api/v1/pools":
            self.answer(200, json.dumps(content), "application/json")
        elif content == {}:
            self.answer(200, '{"dag_run_id": "manual__1"}', "application/json")
        else:
            self.answer(400, json.dumps({"detail": f"{content} - Unknown field."}), "text/json")

    def answer(self, status: int, text: str, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Where the recorded answers are served."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Recorded) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_dags_and_errors_of_the_platform_are_read_page_by_page(address: str) -> None:
    view = AirflowApi(address, "admin", "secret-4", "").view("yellowlive")

    assert (view.version, view.time_zone) == ("2.11.2", "UTC")
    found = {dag.dag_id: (dag.stale, dag.paused) for dag in view.dags.values()}
    assert found == {
        "yellowlive__Pair_a_ingestion": (False, True),
        "yellowlive__Pair_b_ingestion": (True, False),
        "yellowlive__Store1_ingestion": (False, False),
    }
    store1 = view.dags["yellowlive__Store1_ingestion"]
    assert store1.facts == Facts("Store1", "38e6eb237286", None)
    assert str(store1.failure) == (
        "its run manual__2026-11-26T12:00:00+00:00 failed at 2026-11-27 00:57:59 UTC: The job "
        "reported an error (DATASURFACE_RESULT_CODE=-1): OperationalError: no."
    )
    assert view.dags["yellowlive__Pair_a_ingestion"].failure is None
    assert view.import_errors == {
        "/opt/airflow/dags/yellowlive_factory_dag.py": "RuntimeError: half"
    }


def test_who_paused_a_dag_and_what_a_task_waits_for_are_read(address: str) -> None:
    dags = AirflowApi(address, "admin", "secret-4", "").view("yellowlive").dags

    pair_a, store1 = (dags[f"yellowlive__{key}_ingestion"] for key in ("Pair_a", "Store1"))
    assert pair_a.paused_by_airflow == "2026-11-27 01:00:00 UTC"
    assert pair_a.obstacle is None
    assert str(store1.obstacle).startswith(
        "the task snapshot_merge_job of its run manual__2026-11-27T01:10:00+00:00 cannot start in "
        "the pool 'gone': Airflow has no such pool"
    )


def test_what_a_login_may_not_read_is_said_to_be_unknown(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks, log = "/api/v1/dags/~/dagRuns/~/taskInstances", "/api/v1/eventLogs"
    monkeypatch.setattr(sys.modules[__name__], "FORBIDDEN", {tasks, log})

    view = AirflowApi(address, "admin", "secret-4", "").view("yellowlive")

    pair_a = view.dags["yellowlive__Pair_a_ingestion"]
    assert pair_a.paused_by_airflow is None
    assert pair_a.pause_unknown == "this login cannot read Airflow's audit log"
    assert view.problems == [
        f"Why tasks of the platform wait is not known: Airflow at {address} refuses this login its "
        "task instances or pools. Let its role read both."
    ]


def test_pools_are_listed_and_made(address: str) -> None:
    api = AirflowApi(address, "admin", "secret-4", "")

    assert api.pools() == {"default_pool": Pool(128, False), "erp": Pool(3, True)}
    assert api.create_pool("crm", 5, "YellowLive") == Pool(5, True)


def test_runs_start_of_the_dags_that_would_run(address: str) -> None:
    api = AirflowApi(address, "admin", "secret-4", "")

    store1, pair_a, pair_b = (
        f"yellowlive__{key}_ingestion" for key in ("Store1", "Pair_a", "Pair_b")
    )

    assert api.trigger([store1, pair_a, pair_b, "yellowlive__No_ingestion"]) == [
        Triggered("manual__1", None),
        Triggered(None, "it is paused in Airflow"),
        Triggered(None, "its DAG is out of service"),
        Triggered(None, "Airflow has no DAG of it"),
    ]
    assert api.trigger([]) == []


def test_platform_whose_name_begins_alike_is_another_one(address: str) -> None:
    assert AirflowApi(address, "admin", "secret-4", "").view("yellow").dags == {}


def test_refused_login_says_what_airflow_2_needs(address: str) -> None:
    with pytest.raises(OperationError, match="basic_auth"):
        AirflowApi(address, "admin", "wrong", "").view("yellowlive")


def test_server_without_the_api_is_told_from_airflow(address: str) -> None:
    with pytest.raises(OperationError, match=r"There is no REST API of Airflow at .* answered 404"):
        AirflowApi(f"{address}/elsewhere", "", "", "")
