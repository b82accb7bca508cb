"""The job that a pod runs: `python -m datasurface.platforms.yellow.jobs`.

Each run takes one stream one step further, and the last line of standard output says how it went:
`DATASURFACE_RESULT_CODE=1` (run me again at once), `0` (the batch is merged) or `-1` (error).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from datasurface.platforms.yellow.ingestion_steps import JobStatus, run_step
from datasurface.platforms.yellow.ingestion_stream import resolve_stream
from datasurface.platforms.yellow.job_command import (
    JobParser,
    platform_of,
    print_result,
    reported,
)
from datasurface.platforms.yellow.job_error import JobError
from datasurface.platforms.yellow.logging_utils import set_context

SNAPSHOT_MERGE: Final = "snapshot-merge"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one step of a job and print the result line.

    Args:
        argv: The command line without the program; that of the process by default.

    Returns:
        The value of the `JobStatus`, as in the printed line. Errors are logged, not raised.
    """
    return print_result(reported(lambda: _run(argv)))


def _run(argv: Sequence[str] | None) -> JobStatus:
    parser = JobParser(
        "jobs",
        "Take one ingestion stream one step further: ingest a batch, or merge it.",
        useCache=True,
    )
    add = parser.add_argument
    add("--store-name", help="name of the datastore to ingest")
    add("--dataset-name", help="the dataset, for a store that is ingested dataset by dataset")
    add("--operation", default=SNAPSHOT_MERGE, help=f"only {SNAPSHOT_MERGE} (the default)")
    arguments = parser.parse_args(argv)
    if arguments.operation != SNAPSHOT_MERGE:
        raise JobError(
            f"Operation {arguments.operation} is unknown; the embedded DataSurface has "
            f"{SNAPSHOT_MERGE} only."
        )
    if not arguments.store_name:
        raise JobError(f"Operation {SNAPSHOT_MERGE} needs --store-name.")
    set_context(platform=arguments.platform_name, request=arguments.store_name)
    eco, platform = platform_of(arguments)
    stream = resolve_stream(eco, platform, arguments.store_name, arguments.dataset_name)
    set_context(platform=platform.name, request=stream.ledger.key)
    return run_step(stream)


if __name__ == "__main__":
    sys.exit(1 if main() == JobStatus.ERROR.value else 0)
