"""What the tests of the factory's DAGs share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pod_runs import IMAGE, NAMESPACE, Cluster

from one_machine import LocalKube


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Kubernetes API with the secrets of all the tests' streams."""
    folder = tmp_path_factory.mktemp("kube")
    (folder / "bin").mkdir()
    login = {"POSTGRES_USER": "u", "POSTGRES_PASSWORD": "planted-secret"}
    token = {"token": "planted-token"}
    with LocalKube(folder / "state", {IMAGE: folder / "bin"}, {}) as kube:
        for name, data in {
            "postgres": login,
            "merge-cred": login,
            "source-cred": login,
            "git": token,
            "git-cred": token,
            "connect": {"api_key": "planted-key", "api_secret": "planted-secret"},
        }.items():
            kube.create_secret(NAMESPACE, name, data)
        yield Cluster(folder / "bin", kube)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print which kinds of stream the parity tests found equal."""
    reports = [report for group in terminalreporter.stats.values() for report in group]
    properties = [
        value
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == "parity" and report.when == "call"
    ]
    if not properties:
        return
    from airflow import __version__

    terminalreporter.section(f"static against dynamic DAGs on Airflow {__version__}")
    heading = ("platform", "stream", "streams", "serialized DAG", "pod", "pod over HTTP")
    cells: dict[tuple[str, str], list[str]] = {}
    for platform, kind, column, text in properties:
        row = cells.setdefault((platform, kind), ["-"] * 4)
        row[heading.index(column) - 2] = text
    lines = [heading, *((*key, *row) for key, row in sorted(cells.items()))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heading))]
    for line in lines:
        cells_of_line = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        terminalreporter.write_line("  ".join(cells_of_line).rstrip())
