"""DAGs and DAG runs as Airflow has them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath

from yellow_dynamic.factory.rules import REVISION_END, build_dag_id, factory_file_name
from yellow_dynamic.monitoring.in_airflow import Facts

#: The states in which a DAG run, or a task instance, ends.
SUCCESS, FAILED = "success", "failed"
#: The end of the description of a stream's DAG.
DESCRIBED = re.compile(re.escape(REVISION_END).replace(r"\{\}", "([0-9a-f]{12})") + "$")
#: The reason of a failed DAG run is read for this many runs.
REASONS = 50


def parse_revision(description: str | None) -> str | None:
    """Return the revision with which the description of a DAG ends, or None for none."""
    found = DESCRIBED.search(description or "")
    return found[1] if found else None


@dataclass
class Failure:
    """The last DAG run of a DAG, which failed.

    Attributes:
        run_id: its id in Airflow.
        ended: when it ended, as text.
        reason: the message of its task, or which task failed; None if it was not read.
    """

    run_id: str
    ended: str
    reason: str | None = None

    def __str__(self) -> str:
        text = f"its run {self.run_id} failed at {self.ended}"
        return f"{text}: {self.reason}" if self.reason else text


@dataclass
class DagView:
    """A DAG as Airflow has it; `facts` is None if Airflow shows no documentation of it."""

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
    """The DAGs of one platform, the import errors of its factory files, and their time zone."""

    version: str
    dags: dict[str, DagView]
    import_errors: dict[str, str]
    time_zone: str | None = None


def dag_id_prefix(airflow_name: str) -> str:
    """Return the prefix of the ids of a platform's DAGs; DAGs of others may have it too."""
    return build_dag_id(airflow_name, "\0").partition("\0")[0]


def is_factory_file(airflow_name: str, file: str) -> bool:
    """Return whether a path is that of a factory file of the platform."""
    name = PurePath(file).stem
    first = factory_file_name(airflow_name)
    return name == first or (name.startswith(f"{first}_") and name[len(first) + 1 :].isdecimal())


def default_failure_reason(task_id: str) -> str:
    """Return the reason of a failed run whose task pushed none."""
    return f"see the log of its task {task_id}"
