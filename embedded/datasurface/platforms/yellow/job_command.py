"""What the command lines of the jobs have in common: arguments, the model, and the result line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import NoReturn

from datasurface.md import Ecosystem
from datasurface.md.model_loader import loadEcosystemFromEcoModule
from datasurface.platforms.yellow.ingestion_steps import JobStatus
from datasurface.platforms.yellow.ingestion_stream import listed
from datasurface.platforms.yellow.job_error import JobError
from datasurface.platforms.yellow.logging_utils import (
    get_contextual_logger,
    setup_logging_for_environment,
)
from datasurface.platforms.yellow.platform_base import YellowPlatformBase

logger = get_contextual_logger(__name__)


class JobParser(argparse.ArgumentParser):
    """Takes what every job is given, and reports bad arguments like every other error of a job.

    Args:
        module: The module that is run as the job.
        description: What the job does.
        useCache: Whether DataSurface's job of that name takes the model from a cache unasked.
    """

    def __init__(self, module: str, description: str, *, useCache: bool = False) -> None:
        super().__init__(
            prog=f"python -m datasurface.platforms.yellow.{module}", description=description
        )
        add = self.add_argument
        add("--platform-name", required=True, help="name of the platform in the model")
        add("--git-repo-path", required=True, help="folder that holds the model, checked out")
        unused = "part of DataSurface's command line; not used here, as nothing is cloned"
        add("--git-repo-owner", required=True, help=unused)
        add("--git-repo-name", required=True, help=unused)
        add("--git-repo-branch", required=True, help=unused)
        add("--git-platform-repo-credential-name", required=True, help=unused)
        add("--use-git-cache", action="store_true", default=useCache, help=unused)
        add("--max-cache-age-minutes", type=int, default=5, help=unused)

    def error(self, message: str) -> NoReturn:
        raise JobError(f"The arguments are wrong: {message}. Run with --help to see them all.")


def reported(work: Callable[[], JobStatus]) -> JobStatus:
    """Do the work of a job, and return how it ended; errors are logged, not raised."""
    setup_logging_for_environment()
    try:
        # Standard output is the job's own, whatever the model's code prints.
        with redirect_stdout(sys.stderr):
            return work()
    except JobError as error:
        logger.error(str(error))
    except Exception:
        # Whoever waits for the pod needs the job's end, also after a fault of this program.
        logger.exception("The job failed unexpectedly.")
    return JobStatus.ERROR


def print_result(status: JobStatus) -> int:
    """Print the line that Airflow reads, and return the value in it."""
    print(f"DATASURFACE_RESULT_CODE={status.value}", flush=True)
    return int(status.value)


def platform_of(arguments: argparse.Namespace) -> tuple[Ecosystem, YellowPlatformBase]:
    """Load the model that a job's arguments name, and find its platform there.

    Raises:
        JobError: There is no such model or platform, or the model has errors.
    """
    eco = _loadModel(Path(arguments.git_repo_path))
    platform = eco.getDataPlatform(arguments.platform_name)
    if not isinstance(platform, YellowPlatformBase):
        raise JobError(
            f"The model has no Yellow platform {arguments.platform_name}; its platforms are "
            f"{listed(eco.dataPlatforms)}."
        )
    return eco, platform


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
