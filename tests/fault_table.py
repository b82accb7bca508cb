"""The table of injected faults: tests record what each fault did, and the run ends with all.

`tests/conftest.py` registers this module as a plugin. Each worker of a parallel run has a table of
its own; they are added up where the run is controlled. A test that docs/reliability.md names under
a kind of fault counts as one injection of it.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest


@dataclass
class Fault:
    """What became of all injections of one kind of fault."""

    injected: int = 0
    survived: int = 0
    dags_lost: int = 0
    rows_lost: int = 0
    recovery_seconds: float | None = None

    def add(self, other: Fault) -> None:
        """Add further injections of the same fault; the longest recovery stays."""
        self.injected += other.injected
        self.survived += other.survived
        self.dags_lost += other.dags_lost
        self.rows_lost += other.rows_lost
        if other.recovery_seconds is not None:
            self.recovery_seconds = max(other.recovery_seconds, self.recovery_seconds or 0.0)


@dataclass
class FaultTable:
    """The faults of one run of the tests, by name."""

    faults: dict[str, Fault] = field(default_factory=dict)

    def record(
        self,
        name: str,
        *,
        injected: int,
        survived: int,
        dags_lost: int = 0,
        rows_lost: int = 0,
        recovery_seconds: float | None = None,
    ) -> None:
        """Add injections of a fault to its line of the table, and fail the test on any loss.

        Args:
            name: the fault, in a few words; injections of one name are added up.
            injected: how many times it was injected.
            survived: how many of them ended as promised.
            dags_lost: DAGs that were gone, stale, paused or wrong.
            rows_lost: rows that were gone or wrong.
            recovery_seconds: from the fault's end until all was as before it, if measured; the
                longest of all injections is shown.
        """
        self.add(name, Fault(injected, survived, dags_lost, rows_lost, recovery_seconds))
        if survived < injected or dags_lost or rows_lost:
            pytest.fail(
                f"{name}: {injected} injected, {survived} survived, {dags_lost} DAGs lost, "
                f"{rows_lost} rows lost"
            )

    def add(self, name: str, fault: Fault) -> None:
        """Add injections of a fault to its line of the table."""
        self.faults.setdefault(name, Fault()).add(fault)

    def lines(self) -> list[str]:
        """Return the table as plain text, one line a fault and one for the sum."""
        total = Fault()
        rows = [("fault", "injected", "survived", "DAGs lost", "rows lost", "recovery")]
        for name, fault in sorted(self.faults.items()):
            rows.append((name, *_cells(fault)))
            total.add(replace(fault, recovery_seconds=None))
        rows.append(("all", *_cells(total)))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
            for row in rows
        ]


def _cells(fault: Fault) -> tuple[str, str, str, str, str]:
    seconds = fault.recovery_seconds
    return (
        str(fault.injected),
        str(fault.survived),
        str(fault.dags_lost),
        str(fault.rows_lost),
        "" if seconds is None else f"{seconds:.1f} s",
    )


TABLE = pytest.StashKey[FaultTable]()


def _table_of(config: pytest.Config) -> FaultTable:
    return config.stash.setdefault(TABLE, FaultTable())


@pytest.fixture
def faults(request: pytest.FixtureRequest) -> FaultTable:
    """The table of injected faults, which is printed when all tests have run."""
    return _table_of(request.config)


def kinds_by_test() -> dict[str, str]:
    """Return the kind of fault under which docs/reliability.md names a test, by the test's name."""
    page = Path(__file__).parents[1] / "docs" / "reliability.md"
    bullets = re.findall(
        r"^- \*\*(.+?)\*\*: (.+(?:\n  .+)*)", page.read_text("utf-8"), re.MULTILINE
    )
    return {name: kind for kind, text in bullets for name in re.findall(r"`(test_\w+)`", text)}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests whose faults the table counts."""
    kinds = kinds_by_test()
    for item in items:
        if "faults" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.injects_faults)
        elif kind := kinds.get(getattr(item, "originalname", "")):
            item.add_marker(pytest.mark.from_the_field(kind))


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Count a test of a fault that was seen in the field as one injection of its kind."""
    marker = item.get_closest_marker("from_the_field")
    if marker is None or call.when != "call":
        return
    if call.excinfo is None or not call.excinfo.errisinstance(pytest.skip.Exception):
        fault = Fault(injected=1, survived=int(call.excinfo is None))
        _table_of(item.config).add(marker.args[0], fault)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand a worker's table to the controlling process."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        faults = _table_of(session.config).faults
        output["faults"] = {name: asdict(fault) for name, fault in faults.items()}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over the table of a worker that has ended; one that crashed has none."""
    table = _table_of(node.config)
    for name, values in getattr(node, "workeroutput", {}).get("faults", {}).items():
        table.add(name, Fault(**values))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the table of injected faults."""
    table = _table_of(config)
    if table.faults:
        terminalreporter.section("faults")
        for line in table.lines():
            terminalreporter.line(line)
