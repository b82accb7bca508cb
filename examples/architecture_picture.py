"""Draw who may touch what: docs/images/who-touches-what.svg."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "who-touches-what.svg"
WIDTH, HEIGHT, LINE = 232, 104, 18
#: What a colour says of a box: by which login it works on the merge store.
LOGINS = {
    "store": ("#fff3e0", "#ef6c00", "the merge store (PostgreSQL)"),
    "owner": ("#e0f2f1", "#00796b", "with the login of the merge and the jobs"),
    "reader": ("#e3f2fd", "#1565c0", "with the login that only reads"),
    "none": ("#eceff1", "#546e7a", "without a login of the merge store"),
}


class Box(NamedTuple):
    """A part, where it stands in the grid, and what is said of it."""

    column: int
    row: int
    login: str
    title: str
    lines: tuple[str, ...]

    @property
    def left(self) -> int:
        return 20 + self.column * 330

    @property
    def top(self) -> int:
        return 60 + self.row * 170

    def svg(self) -> str:
        fill, stroke, _ = LOGINS[self.login]
        middle = self.left + WIDTH // 2
        parts = [
            f'<rect x="{self.left}" y="{self.top}" width="{WIDTH}" height="{HEIGHT}" rx="6" '
            f'fill="{fill}" stroke="{stroke}" stroke-width="1.5"/>',
            text(middle, self.top + 26, self.title, 15, bold=True),
        ]
        for number, line in enumerate(self.lines):
            parts.append(text(middle, self.top + 48 + number * LINE, line, 12))
        return "\n".join(parts)


MODEL = Box(0, 0, "none", "eco.py, in git", ("you change it", "and review it"))
COMMANDS = Box(
    1, 0, "owner", "bootstrap, handleModelMerge", ("you, a Job, or Airflow's", "infrastructure DAG")
)
TABLE = Box(2, 0, "store", "{platform}_airflow_dsg", ("one row a stream;", "each change on record"))
FACTORY = Box(
    2, 1, "reader", "Factory file in Airflow", ("one DAG a row;", "snapshot on local disk")
)
SOURCES = Box(0, 2, "none", "Source databases", ("what the model names",))
JOB = Box(
    1, 1, "owner", "The job's pod", ("DataSurface's image;", "Kubernetes hands it the secrets")
)
MERGED = Box(1, 2, "store", "Merge tables, batches", ("what the jobs brought",))
PEOPLE = Box(2, 2, "reader", "Page Streams, yellow-dynamic", ("what arrived, what is late,", "why"))
BOXES = (MODEL, COMMANDS, TABLE, FACTORY, SOURCES, JOB, MERGED, PEOPLE)


def text(x: int, y: int, words: str, size: int, *, bold: bool = False, at: str = "middle") -> str:
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x}" y="{y}" font-size="{size}"{weight} text-anchor="{at}" '
        f'fill="#263238">{escape(words)}</text>'
    )


def across(start: Box, end: Box, *words: str) -> str:
    """Draw an arrow between two boxes that stand beside each other."""
    y = start.top + HEIGHT // 2
    from_x, to_x = (
        (start.left + WIDTH, end.left)
        if start.column < end.column
        else (start.left, end.left + WIDTH)
    )
    middle = (from_x + to_x) // 2
    labels = [text(middle, y - 8 - 14 * n, each, 12) for n, each in enumerate(reversed(words))]
    return "\n".join([arrow(f"M{from_x} {y} {to_x} {y}"), *labels])


def down(start: Box, end: Box, *words: str) -> str:
    """Draw an arrow between two boxes, one below the other."""
    x = start.left + WIDTH // 2
    from_y, to_y = (
        (start.top + HEIGHT, end.top) if start.row < end.row else (start.top, end.top + HEIGHT)
    )
    middle = (from_y + to_y) // 2
    labels = [text(x + 8, middle + 14 * n, each, 12, at="start") for n, each in enumerate(words)]
    return "\n".join([arrow(f"M{x} {from_y} {x} {to_y}"), *labels])


def arrow(path: str) -> str:
    return (
        f'<path d="{path}" stroke="#37474f" stroke-width="1.6" fill="none" '
        'marker-end="url(#arrow)"/>'
    )


def read_source() -> str:
    """Draw the arrow from the sources to the job, which stands above and beside them."""
    x, y = SOURCES.left + WIDTH // 2, JOB.top + HEIGHT // 2
    path = arrow(f"M{x} {SOURCES.top} {x} {y} {JOB.left} {y}")
    return path + text(x + 8, y - 8, "SELECT", 12, at="start")


def legend() -> str:
    parts = []
    for number, (fill, stroke, words) in enumerate(LOGINS.values()):
        x, y = 20 + number % 2 * 330, 542 + number // 2 * 26
        parts.append(
            f'<rect x="{x}" y="{y}" width="16" height="16" rx="3" fill="{fill}" stroke="{stroke}"/>'
        )
        parts.append(text(x + 24, y + 13, words, 12, at="start"))
    return "\n".join(parts)


def picture() -> str:
    arrows = [
        across(MODEL, COMMANDS, "read"),
        across(COMMANDS, TABLE, "one", "transaction"),
        down(TABLE, FACTORY, "one SELECT a parse"),
        across(FACTORY, JOB, "Kubernetes", "API: pods, logs"),
        down(JOB, MERGED, "a batch"),
        across(MERGED, PEOPLE, "SELECT"),
        read_source(),
    ]
    return "\n".join(
        [
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 932 600" width="932" '
            'height="600" role="img" aria-labelledby="title" '
            'font-family="Helvetica, Arial, sans-serif">',
            '<title id="title">Who may touch what</title>',
            '<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
            'markerHeight="7" orient="auto-start-reverse"><path d="M0 0 10 5 0 10z" '
            'fill="#37474f"/></marker></defs>',
            '<rect width="932" height="600" rx="10" fill="#ffffff"/>',
            text(20, 36, "Who may touch what", 16, bold=True, at="start"),
            *(box.svg() for box in BOXES),
            *arrows,
            legend(),
            "</svg>",
            "",
        ]
    )


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
