"""The figures of a parse, as Airflow's metrics get them from a real dag-processor."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from conftest import Site
from fault_table import FaultTable
from processors import AIRFLOW_VERSION, IS_AIRFLOW_2, DagProcessor
from statsd_server import StatsD
from yellow_models import Store

from one_machine import NotYetError, Postgres, wait_until

pytestmark = pytest.mark.slow
#: Airflow's prefix, the platform and the number of the factory file.
START = "airflow.yellow_dynamic.yellowlive.1."


@pytest.fixture
def statsd() -> Iterator[StatsD]:
    with closing(StatsD()) as server:
        yield server


@pytest.fixture
def processor(
    postgres: Postgres, statsd: StatsD, site: Site, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DagProcessor]:
    """A running dag-processor whose metrics go to the StatsD server."""
    env = {
        "PGHOSTADDR": postgres.address,
        "postgres_USER": postgres.user,
        "postgres_PASSWORD": postgres.password,
        "AIRFLOW__METRICS__STATSD_ON": "True",
        "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
        "AIRFLOW__METRICS__STATSD_PORT": str(statsd.port),
    }
    with DagProcessor(tmp_path_factory.mktemp("metrics"), postgres, env) as service:
        yield service


def test_statsd_gets_the_figures_of_each_parse(
    site: Site, processor: DagProcessor, statsd: StatsD, faults: FaultTable
) -> None:
    site.model.stores = [Store("One"), Store("Two"), Store("Three")]
    site.bootstrap()
    site.merge_cleanly()
    site.insert("Broken", "{}")

    processor.deploy(site.factory_file)
    figures = wait_for(statsd, streams=4, broken_streams=1, snapshot_age_seconds=0)
    assert 0 < figures["parse_ms"] < 30_000
    site.sql("DELETE FROM {table} WHERE stream_key = 'Broken'")
    wait_for(statsd, streams=3, broken_streams=0)
    site.sql("ALTER TABLE {table} RENAME TO away")
    served = wait_until(lambda: from_snapshot(statsd), seconds=60, every=0.1)
    site.sql("ALTER TABLE away RENAME TO {table}".replace("{table}", site.table))
    wait_for(statsd, streams=3, snapshot_age_seconds=0)

    faults.record(
        f"lost table, as metrics show it, Airflow {AIRFLOW_VERSION}",
        injected=1,
        survived=int(served > 0),
    )
    log = processor.log(site.factory_file.name)
    assert "Platform yellowlive: 4 ingestion DAGs, 1 of them not valid, from the database, " in log
    assert (
        "Platform yellowlive: 3 ingestion DAGs, 0 of them not valid, from the snapshot of " in log
    )


@contextmanager
def collector() -> Iterator[tuple[int, list[bytes]]]:
    """An OpenTelemetry collector's HTTP side: its port, and what is sent to it."""
    bodies: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, bodies
        server.shutdown()


@pytest.mark.skipif(IS_AIRFLOW_2, reason="its parsing processes end before they send")
def test_opentelemetry_gets_the_figures_too(
    installed: Site, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with collector() as (port, bodies):
        env = {
            "PGHOSTADDR": postgres.address,
            "postgres_USER": postgres.user,
            "postgres_PASSWORD": postgres.password,
            "AIRFLOW__METRICS__OTEL_ON": "True",
            "AIRFLOW__METRICS__OTEL_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__OTEL_PORT": str(port),
        }
        with DagProcessor(tmp_path_factory.mktemp("otel"), postgres, env) as service:
            service.deploy(installed.factory_file)

            def arrived() -> None:
                for figure in ("streams", "broken_streams", "snapshot_age_seconds", "parse_ms"):
                    name = f"yellow_dynamic.yellowlive.1.{figure}".encode()
                    if not any(name in body for body in bodies):
                        raise NotYetError(f"{len(bodies)} messages, and none has {figure}.")

            wait_until(arrived, seconds=60, every=0.3)


def wait_for(statsd: StatsD, **wanted: float) -> dict[str, float]:
    def arrived() -> dict[str, float]:
        figures = statsd.figures(START)
        if any(figures.get(name) != value for name, value in wanted.items()):
            raise NotYetError(f"StatsD has {figures}, not {wanted}.")
        return figures

    return wait_until(arrived, seconds=60, every=0.1)


def from_snapshot(statsd: StatsD) -> float:
    age = statsd.figures(START)["snapshot_age_seconds"]
    if age == 0:
        raise NotYetError("The database still serves.")
    return age


def test_a_task_start_sends_no_figures(installed: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would be those of one stream."""
    reported: list[object] = []
    module = installed.module()
    monkeypatch.setattr(module, "report_parse", lambda *figures: reported.append(figures))

    module.shard_dags(module.BUILDER)
    assert len(reported) == 1
    module.running_dag(module.BUILDER, "yellowlive__Store1_ingestion")
    assert len(reported) == 1


def test_a_parse_does_not_fail_through_its_metrics(
    installed: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module = installed.module()
    monkeypatch.setattr(module, "airflow_stats", lambda: object())

    module.shard_dags(module.BUILDER)

    assert "do not take the figures of this parse" in caplog.text
