"""The pools of Airflow that the jobs of a platform take their slots from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from rich.text import Text

from yellow_dynamic.command.printing import print_line, print_table
from yellow_dynamic.monitoring.airflow import Pool, pool_problem
from yellow_dynamic.monitoring.airflow_api import AirflowApi
from yellow_dynamic.monitoring.installation import Installation
from yellow_dynamic.monitoring.rows import StreamRow, read_rows
from yellow_dynamic.monitoring.text import counted


@dataclass
class PoolDemand:
    """What the streams that are not disabled want of a pool.

    Attributes:
        name: the pool's.
        streams: how many streams take their slots from it.
        most_slots: how many slots a job of them takes at most.
        deferrable: whether the triggerer waits for one of them.
    """

    name: str
    streams: int = 0
    most_slots: int = 1
    deferrable: bool = False

    def problem(self, pool: Pool | None) -> str | None:
        """Return why jobs cannot run by the pool that Airflow has, or None."""
        if problem := pool_problem(pool, self.most_slots):
            return problem
        if self.deferrable and pool and pool.include_deferred is False:
            return "it does not count the jobs that the triggerer waits for, so it bounds them not"
        return None


def demanded_pools(rows: Iterable[StreamRow]) -> list[PoolDemand]:
    """Return what the rows want of each pool, in the order of the names."""
    found: dict[str, PoolDemand] = {}
    for config in (row.config for row in rows if not row.is_disabled):
        if not isinstance(name := config.get("pool"), str):
            continue
        wanted = found.setdefault(name, PoolDemand(name))
        wanted.streams += 1
        slots = config.get("pool_slots", 1)
        wanted.most_slots = max(wanted.most_slots, slots if isinstance(slots, int) else 1)
        wanted.deferrable |= config.get("deferrable") is True
    return [found[name] for name in sorted(found)]


@dataclass
class PoolState:
    """A pool that streams name; `slots` is None where Airflow has none of the name."""

    name: str
    streams: int
    slots: int | None
    made: bool
    problem: str | None


@dataclass
class PlatformPools:
    """The pools of a platform."""

    platform: str
    pools: list[PoolState]


@dataclass
class PoolsReport:
    """The pools of some platforms."""

    platforms: list[PlatformPools]

    @property
    def differs(self) -> bool:
        return any(pool.problem for each in self.platforms for pool in each.pools)

    def as_json(self) -> dict[str, Any]:
        return {"well": not self.differs, "platforms": [asdict(each) for each in self.platforms]}

    def show(self) -> None:
        for each in self.platforms:
            missing = [pool for pool in each.pools if pool.slots is None]
            title = f"{each.platform}: {counted(len(each.pools), 'pool')}"
            print_table(title, ["pool", "streams", "slots", "state"], map(pool_cells, each.pools))
            if missing:
                print_line("--slots N makes the missing ones, with N slots each.")


def pool_cells(pool: PoolState) -> list[str | Text]:
    state = pool.problem or ("made" if pool.made else "there")
    slots = "" if pool.slots is None else "unlimited" if pool.slots < 0 else str(pool.slots)
    colour = "red" if pool.problem else "green"
    return [pool.name, str(pool.streams), slots, Text(state, colour)]


def look_at_pools(installation: Installation, api: AirflowApi, slots: int | None) -> PlatformPools:
    """Return the pools that a platform's streams name; the missing ones are made.

    Args:
        installation: the platform.
        api: Airflow.
        slots: of each new pool; None makes none.

    Raises:
        OperationError: the rows cannot be read, or Airflow refuses.
        sqlalchemy.exc.SQLAlchemyError: the table cannot be read.
    """
    there = api.pools()
    states = []
    for wanted in demanded_pools(read_rows(installation)):
        made = slots is not None and wanted.name not in there
        if slots is not None and made:
            there[wanted.name] = api.create_pool(wanted.name, slots, installation.name)
        pool = there.get(wanted.name)
        problem = wanted.problem(pool)
        states.append(
            PoolState(wanted.name, wanted.streams, pool.slots if pool else None, made, problem)
        )
    return PlatformPools(installation.name, states)
