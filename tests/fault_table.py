"""The table of injected faults: tests record what each fault did, and the run ends with all."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest


@dataclass
class Fault:
    """What became of all injections of one kind of fault."""

    injected: int = 0
    survived: int = 0
    dags_lost: int = 0
    rows_lost: int = 0
    recovery_seconds: float | None = None


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
        fault = self.faults.setdefault(name, Fault())
        fault.injected += injected
        fault.survived += survived
        fault.dags_lost += dags_lost
        fault.rows_lost += rows_lost
        if recovery_seconds is not None:
            fault.recovery_seconds = max(recovery_seconds, fault.recovery_seconds or 0.0)
        if survived < injected or dags_lost or rows_lost:
            pytest.fail(
                f"{name}: {injected} injected, {survived} survived, {dags_lost} DAGs lost, "
                f"{rows_lost} rows lost"
            )

    def lines(self) -> list[str]:
        """Return the table as plain text, one line a fault and one for the sum."""
        total = Fault()
        rows = [("fault", "injected", "survived", "DAGs lost", "rows lost", "recovery")]
        for name, fault in sorted(self.faults.items()):
            rows.append((name, *_cells(fault)))
            total.injected += fault.injected
            total.survived += fault.survived
            total.dags_lost += fault.dags_lost
            total.rows_lost += fault.rows_lost
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


@pytest.fixture
def faults(request: pytest.FixtureRequest) -> FaultTable:
    """The table of injected faults, which is printed when all tests have run."""
    return request.config.stash.setdefault(TABLE, FaultTable())
