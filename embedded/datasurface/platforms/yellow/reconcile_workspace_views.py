"""The job `python -m datasurface.platforms.yellow.reconcile_workspace_views`.

It creates the views that the workspaces of a platform, and with them its transformers, read, or
makes them fit a changed model. The exit code is 0 when all views are there, and 1 otherwise.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from datasurface.md import EcosystemPipelineGraph
from datasurface.platforms.yellow.ingestion_steps import JobStatus
from datasurface.platforms.yellow.job_command import JobParser, platform_of, reported
from datasurface.platforms.yellow.job_error import JobError
from datasurface.platforms.yellow.logging_utils import get_contextual_logger, set_context
from datasurface.platforms.yellow.workspace_views import reconcile

logger = get_contextual_logger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Reconcile the views.

    Args:
        argv: The command line without the program; that of the process by default.

    Returns:
        The exit code of the process. Errors are logged, not raised.
    """
    return 0 if reported(lambda: _run(argv)) is JobStatus.DONE else 1


def _run(argv: Sequence[str] | None) -> JobStatus:
    parser = JobParser(
        "reconcile_workspace_views", "Create or change the views of a platform's workspaces."
    )
    arguments = parser.parse_args(argv)
    set_context(platform=arguments.platform_name)
    eco, platform = platform_of(arguments)
    graph = EcosystemPipelineGraph(eco).roots.get(platform.name)
    if graph is None:
        raise JobError(
            f"No dataset group is assigned to platform {platform.name}. Assign one in "
            f"dsg_platform_mapping.json beside eco.py."
        )
    views = reconcile(eco, platform, graph)
    logger.info("All views are there.", views=views)
    return JobStatus.DONE


if __name__ == "__main__":
    sys.exit(main())
