"""A platform whose streams have every state, and the pages of the Airflow that watches it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from batch_rows import write_batch
from conftest import Site
from datasurface_host import python_path
from warm_python import AIRFLOW, warm_python
from watching_airflow import WatchingAirflow
from yellow_models import Store

from datasurface.md import CronTrigger
from one_machine import NotYetError, wait_until

HOURLY = CronTrigger("Hourly", "0 * * * *")
STATES = {
    "Healthy": "healthy",
    "Late": "late",
    "Failing": "failing",
    "Refused": "failing",
    "Broken": "broken",
    "Off": "disabled",
    "Paused": "paused",
}
PASSWORD = "a-password-6"


def dag_id(stream: str) -> str:
    return f"yellowlive__{stream}_ingestion"


class Pages:
    """Airflow's pages as its users see them, and the platform behind them.

    Airflow reads the table by a role of its own, `reader`, which may do nothing else.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.reader = site.create_role("reader", PASSWORD)
        self.airflow = WatchingAirflow(
            site,
            f"airflow_of_{site.database}",
            postgres_USER=self.reader,
            postgres_PASSWORD=PASSWORD,
            AIRFLOW__API__EXPOSE_CONFIG="non-sensitive-only",
            AIRFLOW__CORE__AUTH_MANAGER="choosy_auth_manager.ChoosyAuthManager",
            AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS="admin:admin,auditor:viewer,guest:viewer,stranger:viewer",
            PYTHONPATH=python_path(str(Path(__file__).parents[1])),
        )

    def set_up(self) -> None:
        """Bootstrap and merge, and let some of the streams deliver, fail and so on."""
        site = self.site
        site.model.stores = [Store(name, trigger=HOURLY) for name in STATES]
        site.bootstrap()
        site.merge_cleanly()
        (site.folder / "dags").mkdir()
        shutil.move(site.factory_file, site.folder / "dags")
        site.sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {self.reader}")
        for stream in ("Healthy", "Refused", "Paused"):
            write_batch(site, stream, 12, ago="10 min", inserted=1234, updated=5, total=9000)
        write_batch(site, "Late", 3, ago="2 days", inserted=7, total=7)
        write_batch(site, "Failing", 4, ago="70 min", inserted=7, deleted=2, total=5)
        write_batch(site, "Failing", 5, "failed", ago="5 min")
        site.sql(
            "UPDATE {table} SET config_json = replace(config_json, '0 * * * *', 'every day') "
            "WHERE stream_key = 'Broken'"
        )
        site.sql("UPDATE {table} SET status = 'disabled' WHERE stream_key = 'Off'")

    def let_a_run_fail(self) -> None:
        """Let the last run of a stream have failed, and its task have said why."""
        airflow = self.airflow
        run = airflow.trigger(dag_id("Refused"))
        said = "The source refused the login of its credential."
        airflow.keep(dag_id("Refused"), run, "check_result", "failure", said)
        task = f"dags/{dag_id('Refused')}/dagRuns/{run}/taskInstances/check_result"
        airflow._request("PATCH", task, json={"new_state": "failed"})
        airflow.end_run(dag_id("Refused"), run, "failed")

    def forget_records(self) -> None:
        """Let no run have said what it ran with."""
        self.airflow.sql("DELETE FROM xcom WHERE key = 'ran_with'")

    def keep_elsewhere(self, dag: str, run_id: str, task_id: str, key: str, value: Any) -> str:
        """Keep an XCom as Airflow's backend of object storage does, and return what it leaves."""
        from airflow.providers.common.io.xcom.backend import XComObjectStorageBackend

        settings = {"PATH": f"file://{self.site.folder}/xcoms", "THRESHOLD": "0"}
        with pytest.MonkeyPatch.context() as environment:
            for name, setting in settings.items():
                environment.setenv(f"AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_{name}", setting)
            left = XComObjectStorageBackend.serialize_value(
                value, key=key, task_id=task_id, dag_id=dag, run_id=run_id
            )
        self.airflow.sql(
            "INSERT INTO xcom (dag_run_id, task_id, map_index, key, dag_id, run_id, value, "
            "timestamp) SELECT id, %s, -1, %s, dag_id, run_id, to_jsonb(%s::text), now() "
            "FROM dag_run WHERE dag_id = %s AND run_id = %s",
            *(task_id, key, left, dag, run_id),
        )
        return str(left)

    @property
    def passwords(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.airflow.home / "passwords.json").read_text())
        return found

    def command_says(self) -> dict[str, tuple[str, str]]:
        """Return the state of each stream, and why, as the command `status` has them."""
        # Beside Airflow 2, where most of these tests are skipped, the command is not installed.
        from typer.testing import CliRunner

        from yellow_dynamic.command.app import app

        words = [
            *("--dags", str(self.site.folder / "dags"), "--python", warm_python(*AIRFLOW)),
            *("--airflow-url", self.airflow.address),
        ]
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("AIRFLOW_API_USER", "admin")
            environment.setenv("AIRFLOW_API_PASSWORD", self.passwords["admin"])
            result = CliRunner().invoke(app, ["status", *words, "--json"])
        assert result.exit_code == 2, result.output
        [platform] = json.loads(result.stdout)["platforms"]
        return {it["stream_key"]: (it["state"], it["reason"]) for it in platform["streams"]}

    def get(self, path: str, user: str | None = "admin") -> httpx.Response:
        """Ask the page's server as a user of Airflow, or as nobody."""
        address, headers = self.airflow.address, {}
        if user:
            login = {"username": user, "password": self.passwords[user]}
            answer = httpx.post(f"{address}/auth/token", json=login, timeout=30).raise_for_status()
            headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        return httpx.get(f"{address}/yellow-dynamic/{path}", headers=headers, timeout=60)

    def platform(self, user: str = "admin") -> dict[str, Any]:
        """Return what the page says of the one platform."""
        [platform] = self.list_page(user=user)["platforms"]
        found: dict[str, Any] = platform
        return found

    def list_page(self, query: str = "", user: str = "admin") -> dict[str, Any]:
        """Return one page of the list of streams."""
        found: dict[str, Any] = self.get(f"api/streams?{query}", user).raise_for_status().json()
        return found

    def streams(self, user: str = "admin") -> dict[str, dict[str, Any]]:
        """Return what the page says of each stream."""
        return {stream["stream_key"]: stream for stream in self.list_page(user=user)["streams"]}

    def wait_for_states(self, **changed: str) -> dict[str, dict[str, Any]]:
        """Wait until the streams have their states, but for some."""
        expected = STATES | changed

        def arrived() -> dict[str, dict[str, Any]]:
            self.airflow.raise_if_ended()
            streams = self.streams()
            states = {key: stream["state"] for key, stream in streams.items()}
            if states != expected:
                raise NotYetError(f"The states are {states}, not {expected}.")
            return streams

        found: dict[str, dict[str, Any]] = wait_until(arrived, seconds=60, every=0.5)
        return found

    def wait_for(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until the page says something of the platform."""

        def arrived() -> dict[str, Any]:
            platform = self.platform()
            if not condition(platform):
                raise NotYetError(f"The page says {platform}.")
            return platform

        found: dict[str, Any] = wait_until(arrived, seconds=60, every=0.5)
        return found

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Let the merge store refuse Airflow's login for a while."""
        self.site.sql(f"ALTER ROLE {self.reader} NOLOGIN")
        try:
            self.wait_for(lambda platform: platform["outage"] is not None)
            yield
        finally:
            self.site.sql(f"ALTER ROLE {self.reader} LOGIN")
            self.wait_for(lambda platform: platform["outage"] is None)


@pytest.fixture(scope="module")
def pages(
    make_site: Callable[[Path, pytest.MonkeyPatch], Site],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Pages]:
    """The platform YellowLive with streams of all STATES, and Airflow's pages."""
    with pytest.MonkeyPatch.context() as environment:
        pages = Pages(make_site(tmp_path_factory.mktemp("pages"), environment))
        pages.set_up()
        with pages.airflow:

            def there() -> None:
                pages.airflow.raise_if_ended()
                expected = {dag_id(stream) for stream in STATES if stream != "Off"}
                if pages.airflow.dag_ids() != expected:
                    raise NotYetError(f"Airflow has the DAGs {pages.airflow.dag_ids()}.")

            wait_until(there, seconds=90, every=0.5)
            pages.airflow.pause(dag_id("Paused"), True)
            pages.let_a_run_fail()
            pages.wait_for_states()
            yield pages
