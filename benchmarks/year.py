"""A year of hourly merges with ten changes each: the size of its history, and its answer times.

The last one is that of `drift` after many edits by hand.
"""

from __future__ import annotations

import json
import time

from typer.testing import CliRunner

from benchmarks import Figures
from benchmarks.estate import TABLE, Estate, database
from yellow_dynamic.command.app import app
from yellow_dynamic.history import AUDIT_SETTING, HISTORY, MERGE, audit_metadata

STREAMS = 500
MERGES = 24 * 365
CHANGES = 10
EDITS = 60_000
COMMANDS = (
    "history",
    "history Store7",
    "history Store1*",
    "history --since 7d",
    "history 4000",
    "drift",
)


def measure(estate: Estate, *, quick: bool) -> Figures:
    del quick
    estate.install(STREAMS)
    estate.use(STREAMS)
    write_year(estate)
    [(size, changes)] = estate.postgres.execute(
        f"SELECT pg_total_relation_size('{TABLE}{HISTORY}'), count(*) FROM {TABLE}{HISTORY}",  # noqa: S608
        database=database(STREAMS),
    )
    sides: dict[str, dict[str, float]] = {
        "the table": {"rows": changes, "disk_megabytes": size / 1e6},
        **{f"`{command}`": {"seconds": time_command(estate, command)} for command in COMMANDS},
    }
    write_edits(estate)
    sides[f"`drift` after {EDITS:,} edits"] = {"seconds": time_command(estate, "drift")}
    return {"history of a year": {side: {str(STREAMS): sides[side]} for side in sides}}


def write_year(estate: Estate) -> None:
    """Change other streams in each merge, by UPDATEs in a transaction of its own."""
    metadata = json.dumps(audit_metadata(MERGE, commit="0" * 40, dirty=False))
    with estate.postgres.connect(database(STREAMS)) as connection, connection.cursor() as cursor:
        for merge in range(MERGES):
            keys = [f"Store{(merge * CHANGES + each) % STREAMS}" for each in range(CHANGES)]
            cursor.execute("SELECT set_config(%s, %s, true)", (AUDIT_SETTING, metadata))
            cursor.execute(
                f"UPDATE {TABLE} SET config_json = regexp_replace(config_json, "  # noqa: S608
                '\'"git_repo_branch": "[^"]*"\', %s) WHERE stream_key = ANY (%s)',
                (f'"git_repo_branch": "release-{merge}"', keys),
            )
            connection.commit()


def write_edits(estate: Estate) -> None:
    """Edit all rows by hand, again and again."""
    for edit in range(EDITS // STREAMS):
        estate.postgres.execute(
            f"UPDATE {TABLE} SET config_json = regexp_replace(config_json, "  # noqa: S608
            '\'"git_repo_branch": "[^"]*"\', %s)',
            (f'"git_repo_branch": "by-hand-{edit}"',),
            database=database(STREAMS),
        )


def time_command(estate: Estate, command: str) -> float:
    """Return the seconds that a command of `yellow-dynamic` takes."""
    started = time.perf_counter()
    result = CliRunner().invoke(app, [*command.split(), "--dags", str(estate.factory_file)])
    seconds = time.perf_counter() - started
    # 2 says that rows were edited.
    if result.exit_code not in (0, 2):
        raise RuntimeError(result.output)
    return seconds
