"""What Airflow decides; nothing of Airflow is imported before a function is called."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def snapshot_folder() -> Path:
    """Return where the factory files of this Airflow keep what they must not lose."""
    folder = os.environ.get("YELLOW_DYNAMIC_SNAPSHOT_DIR")
    if folder:
        return Path(folder)
    from airflow.configuration import AIRFLOW_HOME

    # A user without a home has none for Airflow either, but a path that begins with "~".
    home = AIRFLOW_HOME if Path(AIRFLOW_HOME).is_absolute() else os.devnull
    return Path(home, "yellow_dynamic")


def serialize(dag: Any) -> dict[str, Any]:
    """Return the serialized form of a DAG."""
    try:
        from airflow.serialization.serialized_objects import DagSerialization
    except ImportError:  # Airflow 2
        from airflow.serialization.serialized_objects import SerializedDAG as DagSerialization
    form: dict[str, Any] = DagSerialization.to_dict(dag)
    return form
