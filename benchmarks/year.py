"""A year of hourly merges with ten changes each: what its history weighs, and how fast it answers.

python -m benchmarks.year
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from typer.testing import CliRunner

from benchmarks.estate import TABLE, Estate, database
from one_machine import Postgres
from yellow_dynamic.command.app import app
from yellow_dynamic.history import AUDIT_SETTING, HISTORY, MERGE, audit_metadata

STREAMS = 500
MERGES = 24 * 365
CHANGES = 10
COMMANDS = (
    "history",
    "history Store7",
    "history Store1*",
    "history --since 7d",
    "history 4000",
    "drift",
)


def main() -> int:
    with (
        tempfile.TemporaryDirectory(prefix="benchmarks-", ignore_cleanup_errors=True) as folder,
        Postgres(Path(folder) / "data") as postgres,
    ):
        estate = Estate(postgres, Path(folder))
        estate.install(STREAMS)
        estate.use(STREAMS)
        live_through(estate)
        return report(estate)


def live_through(estate: Estate) -> None:
    """Let each merge change other streams, as UPDATEs in a transaction of its own."""
    said = json.dumps(audit_metadata(MERGE, commit="0" * 40, dirty=False))
    with estate.postgres.connect(database(STREAMS)) as connection, connection.cursor() as cursor:
        for merge in range(MERGES):
            keys = [f"Store{(merge * CHANGES + each) % STREAMS}" for each in range(CHANGES)]
            cursor.execute("SELECT set_config(%s, %s, true)", (AUDIT_SETTING, said))
            cursor.execute(
                f"UPDATE {TABLE} SET config_json = regexp_replace(config_json, "  # noqa: S608
                '\'"git_repo_branch": "[^"]*"\', %s) WHERE stream_key = ANY (%s)',
                (f'"git_repo_branch": "release-{merge}"', keys),
            )
            connection.commit()


def report(estate: Estate) -> int:
    """Print the size and the times, and return 1 where an answer takes a second or more."""
    [(size, changes)] = estate.postgres.execute(
        f"SELECT pg_total_relation_size('{TABLE}{HISTORY}'), count(*) FROM {TABLE}{HISTORY}",  # noqa: S608
        database=database(STREAMS),
    )
    print(f"{changes:,} changes of {MERGES:,} merges: {size / 1e6:,.0f} MB")
    slowest = 0.0
    for words in COMMANDS:
        started = time.perf_counter()
        result = CliRunner().invoke(app, [*words.split(), "--dags", str(estate.factory_file)])
        seconds = time.perf_counter() - started
        slowest = max(slowest, seconds)
        if result.exit_code:
            raise RuntimeError(result.output)
        print(f"{words}: {seconds * 1000:.0f} ms")
    return int(slowest >= 1)


if __name__ == "__main__":
    sys.exit(main())
