"""An Airflow that parses DAG files and answers, and runs nothing."""

from __future__ import annotations

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

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement in Airflow's own database."""
        postgres, database = self._database
        return list(postgres.execute(statement, values, database=database))

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
