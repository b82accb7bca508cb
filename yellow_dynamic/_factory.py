"""What Airflow's Python builds from the factory file of a platform."""

from __future__ import annotations

import hashlib
from typing import Any

from yellow_dynamic import _airflow_dags
from yellow_dynamic._airflow import ask_airflow
from yellow_dynamic._errors import CommandError
from yellow_dynamic._installation import Installation
from yellow_dynamic._streams import DISABLED, StreamRow
from yellow_dynamic.plugin import factory_text


def load_factory(
    installation: Installation, python: str, dag_id: str | None = None
) -> dict[str, Any]:
    """Return what `_airflow_dags.factory_dags` says of the platform's factory file.

    It is the file in the DAG folder, or where none is known the one that the model renders.

    Raises:
        CommandError: Airflow's Python cannot be asked, or there are several files.
    """
    path = text = None
    if len(installation.files) > 1:
        names = ", ".join(each.file for each in installation.files)
        raise CommandError(f"Several files define the same DAGs; delete all but one of: {names}.")
    if installation.files:
        path = installation.files[0].file
    elif installation.model:
        text = factory_text(installation.model.platform, installation.model.eco)
    answer: dict[str, Any] = ask_airflow(
        python,
        "factory_dags",
        path=path,
        text=text,
        platform=installation.airflow_name,
        dag_id=dag_id,
    )
    return answer


def static_files(installation: Installation, dags: str | None, python: str | None) -> list[str]:
    """Return the static DAG files of the platform in Airflow's DAG folder, if that is known."""
    if dags is None or dags in [each.file for each in installation.files]:
        return []
    name = installation.airflow_name
    if python:
        return list(ask_airflow(python, "static_files", folder=dags, platform=name))
    return _airflow_dags.static_files(dags, name)


def dag_of(
    installation: Installation, row: StreamRow, python: str
) -> tuple[dict[str, Any] | None, str | None]:
    """Return the description of a row's DAG, or None and why there is none."""
    if row.status == DISABLED:
        return None, "the stream is disabled."
    dag_id = installation.dag_id(row.stream_key)
    try:
        answer = load_factory(installation, python, dag_id)
    except CommandError as error:
        return None, str(error)
    if answer["error"]:
        return None, f"the factory file cannot be loaded: {answer['error']}"
    # A bad row's DAG may have another id than the row's.
    dag = answer["dags"].get(dag_id) or next(iter(answer["dags"].values()), None)
    return dag, None if dag else "the factory file finds no row of this stream where it reads."


def revision(config_json: str | None) -> str:
    """Return the name of exactly this configuration, as the page about its DAG shows it."""
    return hashlib.sha256((config_json or "").encode()).hexdigest()[:12]
