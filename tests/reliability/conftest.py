"""What the fault tests share: the table of faults, printed at the end of the run."""

from __future__ import annotations

# Its import sets logging up anew, which must not happen while a test captures the log.
import airflow_names  # noqa: F401
import pytest
from fault_table import TABLE, faults

__all__ = ["faults"]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the table of injected faults."""
    table = config.stash.get(TABLE, None)
    if table is not None and table.faults:
        terminalreporter.section("faults")
        for line in table.lines():
            terminalreporter.line(line)
