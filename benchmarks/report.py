"""The figures of all parts in docs/performance.json, and what the pages say of them."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks import Figures
from benchmarks.citations import CITATIONS, cite
from benchmarks.measure import growth

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
RESULTS = DOCS / "performance.json"
PAGE = DOCS / "performance.md"
PACKAGES = (
    "apache-airflow",
    "apache-airflow-providers-cncf-kubernetes",
    "kubernetes",
    "SQLAlchemy",
    "psycopg2-binary",
    "dag-factory",
)
#: Heading and format of each quantity that the tables show. "time" is of seconds.
QUANTITIES = {
    "slots": ("slots", "{:.0f}"),
    "rows": ("rows", "{:,.0f}"),
    "seconds": ("time", "time"),
    "cpu_seconds": ("CPU time", "time"),
    "megabytes": ("peak memory", "{:,.0f} MB"),
    "disk_megabytes": ("on disk", "{:,.0f} MB"),
    "dag_code_kilobytes": ("`dag_code` a DAG", "{:,.1f} kB"),
    "database_megabytes": ("metadata database", "{:,.0f} MB"),
    "manager_megabytes": ("manager's peak memory", "{:,.0f} MB"),
    "idle_megabytes": ("memory before", "{:,.0f} MB"),
    "peak_megabytes": ("peak memory", "{:,.0f} MB"),
    "jobs_at_once": ("jobs at once", "{:.0f}"),
    "job_megabytes": ("memory a job", "{:,.1f} MB"),
    "processes": ("processes", "{:.0f}"),
    "files": ("files", "{:.0f}"),
    "interval_seconds": ("interval", "{:.0f} s"),
    "idle_cpu_seconds": ("CPU time of an idle minute", "time"),
    "api_cpu_seconds": ("of the API server", "time"),
    "changes": ("changes", "{:.0f}"),
    "median_seconds": ("arrived after", "time"),
    "longest_seconds": ("at most after", "time"),
}
#: Comparison, quantity, side/streams, the side/streams that it is divided by, and the limit. "*" is
#: the largest figure of those that match.
TARGETS: tuple[tuple[str, str, str, str | None, float], ...] = (
    ("full parse", "seconds", "factory file/1000", "naive factory/1000", 0.30),
    ("full parse", "seconds", "factory file/1000", "dag-factory/1000", 0.20),
    ("full parse", "seconds", "factory file/1000", "static files/1000", 0.20),
    ("full parse", "seconds", "factory file, no .pyc/1000", "static files, no .pyc/1000", 0.20),
    ("full parse", "seconds", "factory file/1000", "constructors alone/1000", 1.15),
    ("full parse", "megabytes", "factory file/1000", "static files/1000", 1),
    ("full parse", "seconds", "factory file/10", "static files/10", 1.5),
    ("task start", "cpu_seconds", "factory file/10000", "factory file/10", 1.1),
    ("task start", "seconds", "factory file/1000", "static file/*", 3.5),
    ("task start", "seconds", "factory file, no .pyc/1000", "static file, no .pyc/*", 5),
    ("task start", "seconds", "short factory file/1000", "static file/*", 3.5),
    ("stored DAGs", "dag_code_kilobytes", "factory file/*", "static files/*", 10),
    ("stored DAGs", "dag_code_kilobytes", "short factory file/*", "static files/*", 1),
    ("stored DAGs", "manager_megabytes", "factory file/*", "static files/*", 6),
    ("stored DAGs", "manager_megabytes", "short factory file/*", "static files/*", 2),
    ("population", "seconds", "transaction/10000", "bare COPY/10000", 3),
    ("population", "seconds", "all rows new/10000", "all rows new, no history/10000", 2),
    ("one change", "seconds", "transaction/10000", "transaction, no history/10000", 1.2),
    (
        "one change",
        "seconds",
        "write of a known difference/10000",
        "write of a known difference/10",
        1.5,
    ),
    ("history of a year", "seconds", "*/*", None, 1),
    ("page Streams", "seconds", "cached, while a newer response is made/*", None, 1),
    # Where the machine does other work, wall times of these differ by more than the settings, and
    # CPU times by a fifth. All settings are nine times as much JSON to read, check and print.
    ("run settings", "cpu_seconds", "every setting/*", "no settings/*", 1.5),
    ("waiting for jobs", "job_megabytes", "the triggerer/*", "the task/*", 0.1),
    ("changes", "idle_cpu_seconds", "watched/*", "at the interval/*", 0.05),
)
#: Comparisons and sides whose growth has a target.
GROWING = (
    ("full parse", "factory file"),
    ("task start", "factory file"),
    ("DAG-processor pass", "all DAGs new"),
    ("DAG-processor pass", "nothing changed"),
    ("population", "all rows new"),
    ("population", "nothing changed"),
)
GROWTH_LIMIT = 1.05


class Target(NamedTuple):
    """A measured value, if it was measured, and its upper limit."""

    text: str
    measured: float | None
    limit: float

    @property
    def verdict(self) -> str:
        if self.measured is None:
            return "not measured"
        return "met" if self.measured <= self.limit else "missed"

    @property
    def cells(self) -> tuple[str, str, str, str]:
        measured = "" if self.measured is None else f"{self.measured:.2f}"
        return self.text, measured, f"{self.limit:.2f}", self.verdict


def look_up(figures: Figures, path: str) -> float:
    """Return the figure at a path, the largest where its patterns match several.

    Raises:
        LookupError: There is no such figure.
    """
    parts = path.split("/")
    found: list[Any] = [figures]
    for part in parts:
        found = [value[key] for value in found for key in value if fnmatchcase(key, part)]
    if not found:
        raise LookupError(f"{path} is not in {RESULTS.name}. Run the part that measures it.")
    return float(max(found))


def targets(figures: Figures) -> Iterator[Target]:
    """Yield each target with what was measured."""
    for comparison, quantity, side, divisor, limit in TARGETS:
        text = f"{comparison}, {QUANTITIES[quantity][0]}: {side_label(side)}"
        text += f" against {side_label(divisor)}" if divisor else " in seconds"
        try:
            measured = look_up(figures, f"{comparison}/{side}/{quantity}")
            if divisor:
                measured /= look_up(figures, f"{comparison}/{divisor}/{quantity}")
        except LookupError:
            yield Target(text, None, limit)
        else:
            yield Target(text, measured, limit)
    for comparison, side in GROWING:
        exponent = growth_exponent(figures.get(comparison, {}).get(side, {}))
        yield Target(f"growth exponent: {comparison}, {side}", exponent, GROWTH_LIMIT)


def side_label(path: str) -> str:
    side, _, streams = path.partition("/")
    side = "slowest" if side == "*" else side
    return side if streams == "*" else f"{side} ({int(streams):,} streams)"


def growth_exponent(sizes: Mapping[str, Mapping[str, float]]) -> float | None:
    if len(sizes) < 2:
        return None
    return growth({int(size): values["seconds"] for size, values in sizes.items()})


def record(part: str, figures: Figures, *, quick: bool) -> None:
    """Write the figures of a part that ran; those of other parts stay."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    results["runs"][part] = {
        "run": f"{'quick' if quick else 'full'}, {time.strftime('%Y-%m-%d', time.gmtime())}",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        # A load above the number of cores makes times too long.
        "load over 5 minutes": f"{os.getloadavg()[1]:.1f}",
        "Python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "comparisons": ", ".join(figures),
    }
    results["figures"] |= figures
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def publish() -> list[str]:
    """Print all figures and write them into the pages; return the problems."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    figures: Figures = results["figures"]
    print_tables(figures)
    plot(figures, DOCS / "images" / "performance.png")
    PAGE.write_text(as_markdown(results), encoding="utf-8")
    problems = [f"{t.text}: {t.verdict}" for t in targets(figures) if t.verdict != "met"]
    for page in CITATIONS:
        try:
            text = (ROOT / page).read_text(encoding="utf-8")
            cited = cite(page, text, lambda path: look_up(figures, path))
        except LookupError as error:
            problems.append(f"{page} was not updated: {error}")
        else:
            (ROOT / page).write_text(cited, encoding="utf-8")
    return problems


def print_tables(figures: Figures) -> None:
    console = Console(width=120)
    tables: list[tuple[str, Sequence[str], Sequence[Sequence[str]]]]
    tables = [(name, *build_table(sides)) for name, sides in figures.items()]
    tables.append(("targets", TARGET_HEADING, [target.cells for target in targets(figures)]))
    for title, heading, rows in tables:
        table = Table(*heading, title=title)
        for row in rows:
            table.add_row(*row)
        console.print(table)


def build_table(
    sides: Mapping[str, Mapping[str, Mapping[str, float]]],
) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Return the heading and the rows of a comparison's table."""
    given = {key for sizes in sides.values() for values in sizes.values() for key in values}
    keys = [key for key in QUANTITIES if key in given]
    heading = ["side", "streams", *(QUANTITIES[key][0] for key in keys)]
    return heading, [
        [side, f"{int(size):,}", *(cell(values, key) for key in keys)]
        for side, sizes in sides.items()
        for size, values in sizes.items()
    ]


def cell(values: Mapping[str, float], key: str) -> str:
    if key not in values:
        return ""
    value, form = values[key], QUANTITIES[key][1]
    if form == "time":
        return f"{value * 1000:,.0f} ms" if value < 10 else f"{value:,.1f} s"
    return form.format(value)


def plot(figures: Figures, file: Path) -> None:
    """Draw time by number of streams, one panel for each comparison that has several sizes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = [name for name, sides in figures.items() if any(len(s) > 1 for s in sides.values())]
    if not panels:
        return
    figure, axes = pyplot.subplots(1, len(panels), figsize=(4.5 * len(panels), 4.5), squeeze=False)
    for axis, name in zip(axes[0], panels, strict=True):
        for side, sizes in figures[name].items():
            seconds = [values["seconds"] for values in sizes.values()]
            axis.loglog([int(size) for size in sizes], seconds, "o-", label=side)
        axis.set(title=name, xlabel="streams", ylabel="seconds")
        axis.grid(visible=True, alpha=0.3)
        axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(file, dpi=100, metadata={"Software": None})


def as_markdown(results: Mapping[str, Any]) -> str:
    """Return docs/performance.md."""
    figures: Figures = results["figures"]
    runs = results["runs"]
    lines = [INTRODUCTION, "## Targets", ""]
    lines += markdown_table(TARGET_HEADING, [target.cells for target in targets(figures)])
    lines += ["## Conditions", ""]
    names = dict.fromkeys(name for run in runs.values() for name in run)
    lines += markdown_table(
        ("", *runs), [(name, *(run.get(name, "") for run in runs.values())) for name in names]
    )
    lines += ["## Figures", "", "![Time by number of streams](images/performance.png)", ""]
    for comparison, sides in figures.items():
        lines += [f"### {comparison[0].upper()}{comparison[1:]}", "", EXPLANATIONS[comparison], ""]
        lines += markdown_table(*build_table(sides))
        exponents = [
            f"{side} {exponent:.2f}"
            for side, sizes in sides.items()
            if (exponent := growth_exponent(sizes)) is not None
        ]
        if exponents:
            lines += [f"Growth exponents: {', '.join(exponents)}.", ""]
    return "\n".join(lines)


def markdown_table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    table = [heading, ["---"] * len(heading), *rows]
    return [*(f"| {' | '.join(cells)} |" for cells in table), ""]


TARGET_HEADING = ("target", "measured", "at most", "")

INTRODUCTION = """\
# Performance

`make bench` measures this, writes this page, and writes the figures that other pages cite.
`make bench QUICK=1` measures fewer streams, and `make bench PARTS="stored year"` only these parts:
the figures of the others stay. All parts run even if one misses a target; the command fails then.

Compare the ratios rather than the times, which are this machine's. Except where noted, each side is
measured in a new process, forked from one that has imported Airflow and everything that the sides
need, as Airflow's DAG processor forks for each parse. The sides take turns, and each figure is the
median of 5 turns, or of 25 for work that takes less than 0.1 s. Peak memory is what the work adds
to that of its process. With a growth exponent of 1, ten times as many streams take ten times as
long.

Airflow loads a DAG file by Python's own loader, in the DAG processor and in tasks. It uses a `.pyc`
file in the folder `__pycache__` beside the DAG file, and writes one if it may write that folder. In
a read-only DAG folder without such files, Python compiles the DAG file at each parse and at each
task start. The rows *no .pyc* measure that; in all others, all files were compiled before.
"""

EXPLANATIONS = {
    "full parse": """\
The same streams become the same DAGs: four tasks, seven environment variables. The *factory file*
reads the table, checks each row, writes the snapshot and builds the DAGs. The *short factory
file* imports the same code from the package. *Static files* are those of the static platform,
imported one after the other. The *naive factory* reads the table and makes every Kubernetes model
object anew for each DAG, with the stock operator and without checking a row. *dag-factory* reads
the same DAGs, without their secrets and volumes, from one YAML file. *Constructors alone* only
calls the constructors, with Kubernetes objects that all DAGs share and settings in memory.""",
    "task start": """\
The DAG file, parsed in the context of one DAG, as Airflow does before it runs a task. The factory
file reads one row and builds one DAG. Whether this grows with the number of streams is judged by
the CPU time: on a machine with other work, the wall time of so short a parse varies by a factor of
two. CPU time excludes PostgreSQL's, which finds the row by its primary key.""",
    "DAG-processor pass": """\
`airflow dags reserialize` on the factory file: it parses, serializes, and writes to Airflow's
database, a PostgreSQL. Most of the time is Airflow's own work on finished DAGs.""",
    "population": """\
*All rows new* is all of `populateDAGConfigurations` on an empty table: the model becomes stream
configurations, these are checked and become rows, and one transaction writes the rows under the
lock. *Transaction* is that transaction with rows that are ready: it connects, locks, reads and
compares the old rows, writes, commits. The database records each new row in the history; *no
history* is without that. *Bare COPY*, without a history too, makes the text of the finished rows,
connects, sends it and commits. Before the clock starts, each process copies the objects that it
shares with the process that it was forked from, since a merge is a command of its own.""",
    "one change": """\
A merge of a model that differs from the table in one stream. *Write of a known difference*
connects, locks, updates the row, checks that the table has it, and commits. *Transaction* also
reads all rows and compares them, which grows with their number. *Whole merge* also makes the rows
from the model.""",
    "bootstrap": """\
Both rings of `generatePlatformBootstrap`: all files of the platform, and its tables.""",
    "stored DAGs": """\
A real `airflow dag-processor` with two parsing processes parses all files twice. Airflow stores the
text of a DAG file once for each of its DAGs, in the table `dag_code`. The processor's manager is
the process that starts the parses and stores their results.""",
    "history of a year": """\
The history of a year of hourly merges with ten changes each, and the commands of `yellow-dynamic`
that read it.""",
    "page Streams": """\
The page Streams of Airflow's UI, for streams with 50 batches and 50 DAG runs each. Times are the
shortest of 5, in one process.""",
    "run settings": """\
A full parse of streams whose rows have every setting of `RunSettings`, and of the same streams
without any.""",
    "waiting for jobs": """\
As many jobs as there are streams run at once, in Airflow with the LocalExecutor. Memory is that of
all processes of Airflow; memory a job is the difference of peak and memory before, divided by the
number of jobs at once.""",
    "changes": """\
A DAG processor, an API server and their PostgreSQL, with Airflow's default interval and one factory
file; and with 600 s, a file for each 100 streams, and an API server that watches the table. The CPU
time is that of the DAG processor and of PostgreSQL, and apart from it that of the API server. Rows
are changed one after the other, up to ten seconds apart; the time is from the commit to the new DAG
as the scheduler has it.""",
}
