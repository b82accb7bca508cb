"""What the tests use of Airflow, wherever the installed release has it."""

from __future__ import annotations

from typing import Any

try:  # Airflow 3
    from airflow.sdk import DAG
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowSkipException,
        TaskDeferred,
    )
    from airflow.sdk.execution_time.context import OutletEventAccessors
    from airflow.serialization.serialized_objects import DagSerialization

    IS_AIRFLOW_2 = False
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowSkipException,
        TaskDeferred,
    )
    from airflow.serialization.serialized_objects import SerializedDAG as DagSerialization
    from airflow.utils.context import OutletEventAccessors

    IS_AIRFLOW_2 = True

__all__ = [
    "DAG",
    "IS_AIRFLOW_2",
    "AirflowException",
    "AirflowFailException",
    "AirflowSkipException",
    "DagSerialization",
    "OutletEventAccessors",
    "TaskDeferred",
    "assets_of",
    "check_as_airflow_does",
    "schedule_of",
]


def schedule_of(dag: Any) -> Any:
    """Return the schedule that the DAG was made with."""
    return dag.schedule_interval if IS_AIRFLOW_2 else dag.schedule


def assets_of(dag: Any) -> set[str]:
    """Return what must have been delivered for Airflow to start the DAG."""
    condition = dag.timetable.dataset_condition if IS_AIRFLOW_2 else dag.timetable.asset_condition
    # All of them, and not any.
    assert type(condition).__name__.endswith("All")
    return {asset.uri for asset in condition.objects}


def check_as_airflow_does(dag: Any) -> None:
    """Run the checks that Airflow runs after the import of a DAG file, and raise what they find."""
    dag.validate()
    if IS_AIRFLOW_2:
        from airflow.utils.dag_cycle_tester import check_cycle

        dag.timetable.validate()
        check_cycle(dag)
    else:
        dag.check_cycle()
