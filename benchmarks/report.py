"""The medians as ratios: against the targets on the screen, and in docs/performance.*."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.comparisons import Measured
from benchmarks.measure import growth

DOCS = Path(__file__).parents[1] / "docs"
OURS = "our factory"
PACKAGES = (
    "apache-airflow",
    "apache-airflow-providers-cncf-kubernetes",
    "kubernetes",
    "SQLAlchemy",
    "psycopg2-binary",
    "dag-factory",
)
#: What is ours, by comparison: its growth has a target.
GROWING = {
    "full parse": (OURS,),
    "task start": (OURS,),
    "DAG-processor pass": ("all DAGs new", "nothing changed"),
    "population": ("all rows new", "nothing changed"),
}


class Target(NamedTuple):
    """A ratio of two medians, or an exponent, and what it may be at most."""

    text: str
    ratio: float
    limit: float

    @property
    def verdict(self) -> str:
        return "met" if self.ratio <= self.limit else "missed"

    @property
    def cells(self) -> tuple[str, str, str, str]:
        return self.text, f"{self.ratio:.2f}", f"{self.limit:.2f}", self.verdict


def targets(measured: Mapping[str, Measured]) -> Iterator[Target]:
    """Yield each target with what was measured."""
    parse, start, fill = (measured[name] for name in ("full parse", "task start", "population"))
    for side, limit in (
        ("the plan taken literally", 0.30),
        ("dag-factory", 0.20),
        ("static files", 0.20),
        ("the floor", 1.15),
    ):
        ratio = parse[OURS][1_000].seconds / parse[side][1_000].seconds
        yield Target(f"full parse of 1,000 streams: time against {side}", ratio, limit)
    memory = parse[OURS][1_000].megabytes / parse["static files"][1_000].megabytes
    yield Target("full parse of 1,000 streams: peak memory against static files", memory, 1)
    growing = start[OURS][10_000].seconds / start[OURS][10].seconds
    yield Target("task start at 10,000 streams against that at 10", growing, 1.1)
    written = fill["its write alone"][10_000].seconds / fill["bare COPY"][10_000].seconds
    yield Target("population of 10,000 streams: its transaction against a bare COPY", written, 3)
    new = [fill[f"all rows new{side}"][10_000].seconds for side in ("", ", without a history")]
    yield Target("population of 10,000 streams: with a history against without", new[0] / new[1], 2)
    changes = measured["one change"]
    merge = [
        changes[f"its transaction{side}"][10_000].seconds for side in ("", ", without a history")
    ]
    text = "merging one changed stream of 10,000: with a history against without"
    yield Target(text, merge[0] / merge[1], 1.2)
    one = changes["its write, without the look"]
    changed = one[10_000].seconds / one[10].seconds
    yield Target("writing one changed stream of 10,000 against one of 10", changed, 1.5)
    for comparison, sides in GROWING.items():
        for side in sides:
            name = comparison if side == OURS else f"{comparison}, {side}"
            yield Target(f"growth exponent: {name}", exponent(measured[comparison], side), 1.05)


def exponent(measured: Measured, side: str) -> float:
    return growth({size: cost.seconds for size, cost in measured[side].items()})


def publish(measured: Mapping[str, Measured], *, quick: bool, rounds: int) -> int:
    """Print the figures, write them into docs/, and return 1 when a target is missed."""
    found = list(targets(measured))
    print_tables(measured, found)
    conditions = describe_run(quick, rounds)
    (DOCS / "performance.json").write_text(as_json(measured, found, conditions), encoding="utf-8")
    plot(measured, DOCS / "images" / "performance.png")
    (DOCS / "performance.md").write_text(as_markdown(measured, found, conditions), encoding="utf-8")
    return int(any(target.verdict == "missed" for target in found))


def print_tables(measured: Mapping[str, Measured], found: list[Target]) -> None:
    console = Console(width=110)
    for name, sides in measured.items():
        table = Table("side", "streams", "median", "per stream", "peak memory", title=name)
        for row in rows_of(sides):
            table.add_row(*row)
        console.print(table)
    table = Table("target", "measured", "at most", "", title="targets")
    for target in found:
        table.add_row(*target.cells)
    console.print(table)


def rows_of(sides: Measured) -> Iterator[tuple[str, ...]]:
    for side, costs in sides.items():
        for size, cost in costs.items():
            yield (
                side,
                f"{size:,}",
                f"{cost.seconds * 1000:,.0f} ms",
                f"{cost.seconds * 1000 / size:.3f} ms",
                f"{cost.megabytes:,.0f} MB",
            )


def describe_run(quick: bool, rounds: int) -> dict[str, str]:
    return {
        "run": f"{'quick' if quick else 'full'}, medians of {rounds} turns",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        # More than the cores is a machine with other work, whose times say little.
        "load over 5 minutes": f"{os.getloadavg()[1]:.1f}",
        "Python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def as_json(
    measured: Mapping[str, Measured], found: list[Target], conditions: dict[str, str]
) -> str:
    medians = [
        {"comparison": name, "side": side, "streams": size, **cost._asdict()}
        for name, sides in measured.items()
        for side, costs in sides.items()
        for size, cost in costs.items()
    ]
    exponents = [
        {"comparison": name, "side": side, "exponent": exponent(sides, side)}
        for name, sides in measured.items()
        for side, costs in sides.items()
        if len(costs) > 1
    ]
    verdicts = [{**target._asdict(), "verdict": target.verdict} for target in found]
    content = {
        "conditions": conditions,
        "targets": verdicts,
        "growth": exponents,
        "medians": medians,
    }
    return json.dumps(content, indent=1) + "\n"


def plot(measured: Mapping[str, Measured], file: Path) -> None:
    """Draw time by number of streams, one panel for each comparison that has several sizes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = [name for name, sides in measured.items() if any(len(c) > 1 for c in sides.values())]
    figure, axes = pyplot.subplots(1, len(panels), figsize=(4.5 * len(panels), 4.5))
    for axis, name in zip(axes, panels, strict=True):
        for side, costs in measured[name].items():
            axis.loglog(list(costs), [cost.seconds for cost in costs.values()], "o-", label=side)
        axis.set(title=name, xlabel="streams", ylabel="seconds")
        axis.grid(visible=True, alpha=0.3)
        axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(file, dpi=100, metadata={"Software": None})


def as_markdown(
    measured: Mapping[str, Measured], found: list[Target], conditions: dict[str, str]
) -> str:
    lines = [INTRODUCTION, "## Targets", ""]
    lines += markdown_table(
        ("target", "measured", "at most", ""),
        [target.cells for target in found],
    )
    lines += ["## Conditions", ""]
    lines += markdown_table(("", ""), conditions.items())
    lines += ["## Medians", "", "![Time by number of streams](images/performance.png)", ""]
    for name, sides in measured.items():
        lines += [f"### {name[0].upper()}{name[1:]}", "", EXPLANATIONS[name], ""]
        heading = ("side", "streams", "median", "per stream", "peak memory")
        lines += markdown_table(heading, rows_of(sides))
        exponents = [
            f"{side} {exponent(sides, side):.2f}" for side, costs in sides.items() if len(costs) > 1
        ]
        if exponents:
            lines += [f"Growth exponents: {', '.join(exponents)}.", ""]
    return "\n".join(lines)


def markdown_table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    table = [heading, ["---"] * len(heading), *rows]
    return [*(f"| {' | '.join(cells)} |" for cells in table), ""]


INTRODUCTION = """\
# What it costs

`make bench` measures this and writes this page; `make bench QUICK=1` does so with fewer streams.
Compare the ratios rather than the times, which are this machine's. Each side is measured in a new
process, forked from one that has imported Airflow and everything the sides need, just as Airflow's
DAG processor forks for each parse. The sides take turns, and each figure is a median. Peak memory
is what the work adds to that of its process. An exponent of growth of 1 says that ten times as
many streams take ten times as long.
"""

EXPLANATIONS = {
    "full parse": """\
The same streams become the same DAGs: four tasks, seven environment variables. *Our factory* reads
the table, checks each row, writes the snapshot and builds. *Static files* are those of the static
platform, imported one after the other from a folder where Python keeps what it compiles; from one
that is read-only, such as git-sync's, they take half as long again. Our factory file is compiled
at each parse. *The plan taken literally* is a factory that reads the table and makes every
Kubernetes model object anew for each DAG, with the stock operator and no check of a row.
*dag-factory* reads the same DAGs, without their secrets and volumes, from one YAML file. *The
floor* does nothing but call the constructors, with Kubernetes objects that all DAGs share and
settings that are in memory.""",
    "task start": """\
The factory file, parsed in the context of one DAG, as Airflow does before it runs a task: it reads
one row and builds one DAG.""",
    "DAG-processor pass": """\
`airflow dags reserialize` on the factory file: it parses, serializes, and writes to Airflow's
database, which is a PostgreSQL. Nearly all of it is Airflow's own work on finished DAGs.""",
    "population": """\
*All rows new* is all of `populateDAGConfigurations` on an empty table: the model becomes stream
configurations, these are checked and become rows, and the rows are written in one transaction
under the lock. *Its write alone* is that transaction with rows that are ready: it connects, locks,
reads and compares the old rows, writes, commits. The database records each new row in the history;
*without a history*, it does not. *Bare COPY*, which is without one too, makes the text of the
finished rows, connects, sends it and commits. Before the clock starts, each process copies the
objects that it shares with the one that it was forked from, since a merge is a command of its
own.""",
    "one change": """\
A merge of a model that differs from the table in one stream. *Its write, without the look* is the
transaction with the difference known: it connects, locks, updates the row, sees that the table took
it, and commits. *Its transaction* also reads all rows and compares them, which grows with their
number, and *all of it* also makes the rows from the model.""",
    "bootstrap": """\
Both rings of `generatePlatformBootstrap`: all files of the platform, and its tables.""",
}
