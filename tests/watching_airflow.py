"""An Airflow that parses DAG files and answers, and runs nothing."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from airflow_database import create_airflow_database
from conftest import Site

from one_machine import Airflow


class WatchingAirflow(Airflow):
    """A DAG processor and an API server, for the DAG folder of a site.

    Args:
        site: the platform, whose folder has `dags`.
        database: the name that Airflow's own gets, on the site's server.
        env: further environment variables.
    """

    def __init__(self, site: Site, database: str, **env: str) -> None:
        address = {
            "postgres_USER": site.postgres.user,
            "postgres_PASSWORD": site.postgres.password,
            "PGHOSTADDR": site.postgres.address,
            # Changes arrive, and DAGs leave, as soon as Airflow can.
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "1",
            "AIRFLOW__DAG_PROCESSOR__STALE_DAG_THRESHOLD": "4",
        }
        self.dags_dir = site.folder / "dags"
        super().__init__(
            site.folder / "airflow",
            self.dags_dir,
            site.postgres.url(database),
            env={**address, **env},
        )
        self._components = ["api-server", "dag-processor"]
        self._database = (site.postgres, database)

    def prepare(self) -> None:
        """Create the metadata tables as a copy of those that other tests have had made."""
        self._write_passwords()
        create_airflow_database(*self._database)

    @property
    def env(self) -> dict[str, str]:
        """The environment of its processes."""
        return self._env

    def pause(self, dag_id: str, paused: bool) -> None:
        """Pause a DAG, or let it run again."""
        self._request("PATCH", f"dags/{dag_id}", json={"is_paused": paused})

    def pause_after_failures(self, dag_id: str) -> None:
        """Pause a DAG by the code by which the scheduler does so after failed runs."""
        program = (
            "from airflow.models.dagrun import DagRun\n"
            "from airflow.utils.session import create_session\n"
            "with create_session() as session:\n"
            f"    [run] = DagRun.find(dag_id={dag_id!r}, state='failed', session=session)\n"
            f"    run._check_last_n_dagruns_failed({dag_id!r}, 1, session)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], env=self.env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement in Airflow's own database."""
        postgres, database = self._database
        return list(postgres.execute(statement, values, database=database))

    def let_wait(self, dag_id: str, run_id: str, task_id: str, **columns: Any) -> None:
        """Let a run be under way, and a task of it wait with these columns of its row."""
        self.sql(
            "UPDATE dag_run SET state = 'running', start_date = now() "
            "WHERE dag_id = %s AND run_id = %s",
            *(dag_id, run_id),
        )
        values = ", ".join(f"{column} = %s" for column in columns)
        self.sql(
            f"UPDATE task_instance SET {values} "  # noqa: S608 - columns of the tests
            "WHERE dag_id = %s AND run_id = %s AND task_id = %s",
            *(*columns.values(), dag_id, run_id, task_id),
        )

    def make_trigger(self, ago: str) -> int:
        """Make a trigger that no triggerer has taken, as old as that, and return its ID."""
        [(made,)] = self.sql(
            "INSERT INTO trigger (classpath, kwargs, created_date) "
            "VALUES ('a.Trigger', '{}', now() - %s::interval) RETURNING id",
            ago,
        )
        return int(made)

    def set_pool(self, name: str, **values: Any) -> None:
        """Make a pool, or change the one of the name."""
        known = {pool["name"] for pool in self.get("pools", limit=100)["pools"]}
        content = {"name": name, **values}
        if name in known:
            self._request("PATCH", f"pools/{name}", json=content)
        else:
            self._request("POST", "pools", json=content)

    def remove_pools(self) -> None:
        """Remove all pools but the default one."""
        for pool in self.get("pools", limit=100)["pools"]:
            if pool["name"] != "default_pool":
                self._http.delete(f"/api/v2/pools/{pool['name']}").raise_for_status()

    def end_run(self, dag_id: str, run_id: str, state: str) -> None:
        """Let a run have ended like this."""
        self._request("PATCH", f"dags/{dag_id}/dagRuns/{run_id}", json={"state": state})

    def keep(self, dag_id: str, run_id: str, task_id: str, key: str, value: Any) -> None:
        """Keep an XCom of a task, as the task itself would."""
        run = f"dags/{dag_id}/dagRuns/{run_id}"
        content = {"key": key, "value": value}
        self._request("POST", f"{run}/taskInstances/{task_id}/xcomEntries", json=content)
