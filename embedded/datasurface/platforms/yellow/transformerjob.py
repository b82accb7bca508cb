"""The job `python -m datasurface.platforms.yellow.transformerjob`: it runs a transformer's code.

The code fills the output tables in one transaction, which the ingestion job of the output store
then reads. The last line of standard output says how it went, as that of the ingestion job does.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from psycopg2 import sql
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from datasurface.md import DataTransformer, Ecosystem, Workspace
from datasurface.md.codeartifact import PythonRepoCodeArtifact
from datasurface.md.sqlalchemyutils import createOrUpdateTable, datasetToSQLAlchemyTable
from datasurface.platforms.yellow.batch_state import lockName
from datasurface.platforms.yellow.ingestion_steps import JobStatus
from datasurface.platforms.yellow.ingestion_stream import listed, merge_engine
from datasurface.platforms.yellow.job_command import (
    JobParser,
    platform_of,
    print_result,
    reported,
)
from datasurface.platforms.yellow.job_error import JobError, databaseErrors
from datasurface.platforms.yellow.job_utilities import JobUtilities
from datasurface.platforms.yellow.logging_utils import (
    get_contextual_logger,
    log_operation_timing,
    set_context,
)
from datasurface.platforms.yellow.platform_base import YellowPlatformBase
from datasurface.platforms.yellow.workspace_views import LIVE, view_name

RUN: Final = "run-datatransformer"
MODULE: Final = "transformer.py"
FUNCTION: Final = "executeTransformer"
_UNDEFINED_TABLE: Final = "42P01"

logger = get_contextual_logger(__name__)


class DataTransformerContext:
    """What a transformer's code is told: which tables to read and which to fill.

    Args:
        eco: The model.
        dp: The platform that runs the transformer.
        workspace: The workspace of the transformer.
        inputs: Names of views, by the names of dataset group, store and dataset.
        outputs: Names of tables, by the names of datasets.
    """

    def __init__(
        self,
        eco: Ecosystem,
        dp: YellowPlatformBase,
        workspace: Workspace,
        inputs: dict[tuple[str, str, str], str],
        outputs: dict[str, str],
    ) -> None:
        self._eco = eco
        self._platform = dp
        self._workspace = workspace
        self._inputs = inputs
        self._outputs = outputs

    def getInputTableNameForDataset(self, dsg: str, storeName: str, datasetName: str) -> str:
        """Return what to read for a dataset of the workspace.

        Raises:
            ValueError: The workspace has no such dataset.
        """
        key = (dsg, storeName, datasetName)
        if key not in self._inputs:
            known = listed("/".join(key) for key in self._inputs)
            raise ValueError(f"The workspace reads no {'/'.join(key)}; it reads {known}.")
        return self._inputs[key]

    def getOutputTableNameForDataset(self, datasetName: str) -> str:
        """Return the table to fill for a dataset of the output store.

        Raises:
            ValueError: The output store has no such dataset.
        """
        if datasetName not in self._outputs:
            raise ValueError(
                f"The output store has no {datasetName}; it has {listed(self._outputs)}."
            )
        return self._outputs[datasetName]

    def getEcosystem(self) -> Ecosystem:
        """Return the model."""
        return self._eco

    def getPlatform(self) -> YellowPlatformBase:
        """Return the platform that runs the transformer."""
        return self._platform

    def getWorkspace(self) -> Workspace:
        """Return the workspace of the transformer."""
        return self._workspace


def main(argv: Sequence[str] | None = None) -> int:
    """Run a workspace's transformer and print the result line.

    Args:
        argv: The command line without the program; that of the process by default.

    Returns:
        The value of the `JobStatus`, as in the printed line. Errors are logged, not raised.
    """
    return print_result(reported(lambda: _run(argv)))


def _run(argv: Sequence[str] | None) -> JobStatus:
    parser = JobParser("transformerjob", "Run the transformer of one workspace.")
    add = parser.add_argument
    add("--workspace-name", required=True, help="the workspace whose transformer is run")
    add("--operation", default=RUN, help=f"only {RUN} (the default)")
    add("--working-folder", help="part of DataSurface's command line; nothing is put there")
    arguments = parser.parse_args(argv)
    if arguments.operation != RUN:
        raise JobError(
            f"Operation {arguments.operation} is unknown; the embedded DataSurface has {RUN} only."
        )
    set_context(platform=arguments.platform_name, workspace=arguments.workspace_name)
    eco, platform = platform_of(arguments)
    entry = eco.cache_getWorkspace(arguments.workspace_name)
    if entry is None or entry.workspace.dataTransformer is None:
        raise JobError(f"The model has no workspace {arguments.workspace_name} with a transformer.")
    workspace, transformer = entry.workspace, entry.workspace.dataTransformer
    code = _code(Path(arguments.git_repo_path), eco, transformer)
    _transform(eco, platform, workspace, transformer, code)
    return JobStatus.DONE


def _code(model: Path, eco: Ecosystem, transformer: DataTransformer) -> Callable[..., Any]:
    """Return the function of a transformer.

    Nothing is cloned: the model's own repository is the model's folder, and any other one has to
    be checked out below that, in a folder `owner/name`.
    """
    if not isinstance(transformer.code, PythonRepoCodeArtifact):
        raise JobError(f"The code of transformer {transformer.name} is no PythonRepoCodeArtifact.")
    repository = transformer.code.repo.repositoryName
    own = repository == getattr(eco.owningRepo, "repositoryName", None)
    file = (model if own else model / repository) / MODULE
    if not file.is_file():
        raise JobError(
            f"There is no {file}. The embedded DataSurface does not clone Git repositories: check "
            f"{repository} out yourself, below the model's folder."
        )
    sys.path.insert(0, str(file.parent))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise JobError(f"{file} cannot be imported: {_what(error, file)}.") from error
    function = getattr(module, FUNCTION, None)
    if not callable(function):
        raise JobError(f"{file} has no function {FUNCTION}(connection, context).")
    return function


def _transform(
    eco: Ecosystem,
    dp: YellowPlatformBase,
    workspace: Workspace,
    transformer: DataTransformer,
    code: Callable[..., Any],
) -> None:
    """Fill the output tables anew, all of them or none."""
    utilities = JobUtilities(eco, dp.getCredentialStore(), dp)
    store = transformer.outputDatastore
    outputs = {
        name: utilities.getPhysDataTransformerOutputTableNameForDatasetForIngestionOnly(
            store, dataset
        )
        for name, dataset in store.datasets.items()
    }
    inputs = {
        (group.name, sink.storeName, sink.datasetName): view_name(dp, workspace, group, sink, LIVE)
        for group in workspace.dsgs.values()
        for sink in group.sinks.values()
    }
    context = DataTransformerContext(eco, dp, workspace, inputs, outputs)
    engine = merge_engine(dp)
    with databaseErrors("Filling the output tables", dp.psp.mergeStore):
        for name, dataset in store.datasets.items():
            createOrUpdateTable(engine, datasetToSQLAlchemyTable(dataset, outputs[name]))
        with engine.begin() as connection:
            if not lockName(connection, f"datasurface/{dp.name}/{workspace.name}/transformer"):
                raise JobError(f"Another run of the transformer of {workspace.name} is at work.")
            cursor = connection.connection.cursor()
            for table in outputs.values():
                cursor.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier(table)))
            with log_operation_timing(logger, "Transforming"):
                _execute(code, connection, context, workspace)


def _execute(
    code: Callable[..., Any],
    connection: Connection,
    context: DataTransformerContext,
    workspace: Workspace,
) -> None:
    try:
        code(connection, context)
    except Exception as error:
        file = Path(code.__code__.co_filename)
        raise JobError(
            f"The transformer of workspace {workspace.name} failed, and its output is as before: "
            f"{_what(error, file)}.{_advice(error)}"
        ) from error


def _what(error: Exception, file: Path) -> str:
    """Return an error of somebody's code in one line, and where in that file it happened."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(file)
    ]
    text = " ".join(str(getattr(error, "orig", None) or error).split()).rstrip(".")
    place = f" in line {lines[-1]} of {file}" if lines else ""
    return f"{type(error).__name__}{place}: {text}"


def _advice(error: Exception) -> str:
    if not (
        isinstance(error, DBAPIError) and getattr(error.orig, "pgcode", "") == _UNDEFINED_TABLE
    ):
        return ""
    return (
        " The views that transformers read are made by the job python -m "
        "datasurface.platforms.yellow.reconcile_workspace_views; run it first."
    )


if __name__ == "__main__":
    sys.exit(1 if main() == JobStatus.ERROR.value else 0)
