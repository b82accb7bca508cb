"""One installation for all tests of this folder, and the figures that they measure."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from told import slack_webhook

from one_machine import Postgres
from yellow_dynamic import SlackWebhook

from .installation import Installation

FIGURES = pytest.StashKey[dict[str, float]]()


@pytest.fixture(scope="session")
def installation(
    postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """The platform, installed and running, with a DAG for each of its streams.

    Its datasets are Assets. Who is told of failed runs is told in a Slack channel, `told`.
    """
    with slack_webhook() as (told, connection):
        settings = {"AIRFLOW_CONN_SLACK_FAILURES": connection}
        folder = tmp_path_factory.mktemp("installation")
        whole = Installation(postgres, folder, airflow_settings=settings)
        tells = {"onFailure": SlackWebhook("slack_failures")}
        whole.model.platformArguments |= {**tells, "assets": True}
        whole.told = told
        with whole.running():
            yield whole


@pytest.fixture
def figures(pytestconfig: pytest.Config) -> dict[str, float]:
    """Seconds that were measured, by what they are; printed at the end of the run."""
    return pytestconfig.stash.setdefault(FIGURES, {})


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the figures."""
    figures = config.stash.get(FIGURES, {})
    if figures:
        terminalreporter.section("figures")
        for what, seconds in figures.items():
            terminalreporter.line(f"{seconds:6.1f} s  {what}")
