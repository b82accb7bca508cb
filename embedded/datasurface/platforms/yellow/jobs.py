"""The job that a pod runs: `python -m datasurface.platforms.yellow.jobs`.

Each run takes one stream one step further, and the last line of standard output says how it went:
`DATASURFACE_RESULT_CODE=1` (run me again at once), `0` (the batch is merged) or `-1` (error).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Final, NoReturn

from datasurface.md import Ecosystem
from datasurface.md.model_loader import loadEcosystemFromEcoModule
from datasurface.platforms.yellow.ingestion_steps import JobStatus, run_step
from datasurface.platforms.yellow.ingestion_stream import listed, resolve_stream
from datasurface.platforms.yellow.job_error import JobError
from datasurface.platforms.yellow.logging_utils import (
    get_contextual_logger,
    set_context,
    setup_logging_for_environment,
)
from datasurface.platforms.yellow.platform_base import YellowPlatformBase

SNAPSHOT_MERGE: Final = "snapshot-merge"

logger = get_contextual_logger(__name__)


class _Parser(argparse.ArgumentParser):
    """Reports bad arguments like every other error of the job."""

    def error(self, message: str) -> NoReturn:
        raise JobError(f"The arguments are wrong: {message}. Run with --help to see them all.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one step of a job and print the result line.

    Args:
        argv: The command line without the program; that of the process by default.

    Returns:
        The value of the `JobStatus`, as in the printed line. Errors are logged, not raised.
    """
    setup_logging_for_environment()
    status = JobStatus.ERROR
    try:
        # The result line is to be all of standard output, whatever the model's code prints.
        with redirect_stdout(sys.stderr):
            status = _run(_parser().parse_args(argv))
    except JobError as error:
        logger.error(str(error))
    except Exception:
        # Whoever waits for the pod needs the result line, also after a fault of this program.
        logger.exception("The job failed unexpectedly.")
    print(f"DATASURFACE_RESULT_CODE={status.value}", flush=True)
    return int(status.value)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m datasurface.platforms.yellow.jobs",
        description="Take one ingestion stream one step further: ingest a batch, or merge it.",
    )
    add = parser.add_argument
    add("--platform-name", required=True, help="name of the platform in the model")
    add("--store-name", help="name of the datastore to ingest")
    add("--dataset-name", help="the dataset, for a store that is ingested dataset by dataset")
    add("--operation", default=SNAPSHOT_MERGE, help=f"only {SNAPSHOT_MERGE} (the default)")
    add("--git-repo-path", required=True, help="folder that holds the model, checked out")
    unused = "part of DataSurface's command line; not used here, as nothing is cloned"
    add("--git-repo-owner", required=True, help=unused)
    add("--git-repo-name", required=True, help=unused)
    add("--git-repo-branch", required=True, help=unused)
    add("--git-platform-repo-credential-name", required=True, help=unused)
    add("--use-git-cache", action="store_true", default=True, help=unused)
    add("--max-cache-age-minutes", type=int, default=5, help=unused)
    return parser


def _run(arguments: argparse.Namespace) -> JobStatus:
    if arguments.operation != SNAPSHOT_MERGE:
        raise JobError(
            f"Operation {arguments.operation} is unknown; the embedded DataSurface has "
            f"{SNAPSHOT_MERGE} only."
        )
    if not arguments.store_name:
        raise JobError(f"Operation {SNAPSHOT_MERGE} needs --store-name.")
    set_context(platform=arguments.platform_name, request=arguments.store_name)
    eco = _loadModel(Path(arguments.git_repo_path))
    platform = eco.getDataPlatform(arguments.platform_name)
    if not isinstance(platform, YellowPlatformBase):
        raise JobError(
            f"The model has no Yellow platform {arguments.platform_name}; its platforms are "
            f"{listed(eco.dataPlatforms)}."
        )
    stream = resolve_stream(eco, platform, arguments.store_name, arguments.dataset_name)
    set_context(platform=platform.name, request=stream.ledger.key)
    return run_step(stream)


def _loadModel(folder: Path) -> Ecosystem:
    file = folder / "eco.py"
    if not file.is_file():
        raise JobError(
            f"There is no model {file}. The embedded DataSurface does not clone Git repositories: "
            f"check the model out yourself, so that eco.py and dsg_platform_mapping.json are in "
            f"the folder that --git-repo-path names."
        )
    eco, tree = loadEcosystemFromEcoModule(str(folder))
    problems = [] if tree is None else [problem.description for problem in tree.getErrors()]
    if eco is None or problems:
        raise JobError(
            f"The model {file} cannot be used, because of {len(problems)} errors: "
            f"{' '.join(problems)}"
        )
    return eco


if __name__ == "__main__":
    sys.exit(1 if main() == JobStatus.ERROR.value else 0)
