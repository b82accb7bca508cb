"""The figures that README.md and pages of docs/ cite from docs/performance.json."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple


class Citation(NamedTuple):
    """Words of a page with {} for each figure, the format, and the paths of the figures."""

    words: str
    form: str
    paths: tuple[str, ...]


def paths(pattern: str, *parts: str) -> tuple[str, ...]:
    return tuple(pattern.format(part) for part in parts)


PAGE = Citation(
    "The page responds in {} s for 10,000 streams",
    "{:.2f}",
    ("page Streams/cached, while a newer response is made/10000/seconds",),
)
STORED = ("dag_code_kilobytes", "database_megabytes", "manager_megabytes")
CHANGES = ("idle_cpu_seconds", "median_seconds", "longest_seconds")
WAITING = ("slots", "peak_megabytes", "jobs_at_once", "job_megabytes", "seconds")

CITATIONS: dict[str, tuple[Citation, ...]] = {
    "README.md": (
        PAGE,
        Citation(
            "Airflow reads 1,000 DAGs in {} s. The same DAGs take {} s as static files, and {} s "
            "with dag-factory",
            "{:.1f}",
            paths("full parse/{}/1000/seconds", "factory file", "static files", "dag-factory"),
        ),
        Citation(
            "A deferred job costs the triggerer {} MB of memory; a task that waits for its job "
            "holds {} MB.",
            "{:.0f}",
            paths("waiting for jobs/{}/*/job_megabytes", "the triggerer", "the task"),
        ),
    ),
    "docs/architecture.md": (
        Citation(
            "ten changes each weighs {} MB",
            "{:.0f}",
            ("history of a year/the table/*/disk_megabytes",),
        ),
        Citation("`history` takes {} s", "{:.2f}", ("history of a year/`history`/*/seconds",)),
    ),
    "docs/operating.md": (PAGE,),
    "docs/scaling.md": (
        *(
            Citation(
                f"| {words} | {{}} s | {{}} s | {{}} s |",
                "{:.1f}",
                paths(f"changes/{side}/1000/{{}}", *CHANGES),
            )
            for side, words in (
                ("at the interval", "every 30 s, 1 file"),
                ("watched", "watched, 10 files"),
            )
        ),
        Citation("With {} DAGs and Airflow 3.3", "{:,.0f}", ("stored DAGs/static files/*/dags",)),
        *(
            Citation(
                f"| {side} | {{}} kB | {{}} MB | {{}} MB |",
                "{:.0f}",
                paths(f"stored DAGs/{side}/*/{{}}", *STORED),
            )
            for side in ("factory file", "short factory file", "static files")
        ),
        Citation(
            "{} jobs of {} s, triggered",
            "{:.0f}",
            paths("waiting for jobs/the task/*/{}", "jobs", "job_seconds"),
        ),
        *(
            Citation(
                f"| {side}{more} | {{}} | {{}} MB | {{}} | {{}} MB | {{}} s |",
                "{:,.0f}",
                paths(f"waiting for jobs/{side}/*/{{}}", *WAITING),
            )
            for side, more in (("the task", ""), ("the triggerer", " (`deferrable`)"))
        ),
    ),
}


def cite(page: str, text: str, look_up: Callable[[str], float]) -> str:
    """Return the text of a page with its figures replaced by those of the benchmark.

    Raises:
        LookupError: A figure is missing, or the page does not have the words of a citation once.
    """
    for words, form, paths in CITATIONS[page]:
        figures = [form.format(look_up(path)) for path in paths]
        # A line may end between two words.
        parts = [r"\s+".join(map(re.escape, part.split(" "))) for part in words.split("{}")]
        pattern = r"[\d,.]*\d".join(f"({part})" for part in parts)
        found = list(re.finditer(pattern, text))
        if len(found) != 1:
            raise LookupError(f'"{words}" is {len(found)} times in {page}.')
        [match] = found
        pairs = zip(match.groups(), [*figures, ""], strict=True)
        new = "".join(words + figure for words, figure in pairs)
        text = text[: match.start()] + new + text[match.end() :]
    return text
