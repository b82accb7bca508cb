"""Which platform a factory file is of, by its name alone."""

from __future__ import annotations

import pytest

from yellow_dynamic.monitoring.airflow import is_factory_file


@pytest.mark.parametrize(
    ("file", "is_of"),
    [
        ("live_factory_dag.py", True),
        ("sub/live_factory_dag_2.py", True),
        ("/dags/live_factory_dag_12.py", True),
        # Of the platform yellowlive.
        ("yellowlive_factory_dag.py", False),
        ("live_factory_dag_old.py", False),
        ("live_factory_dags.py", False),
    ],
)
def test_error_of_a_file_is_that_of_its_own_platform(file: str, is_of: bool) -> None:
    assert is_factory_file("live", file) == is_of
