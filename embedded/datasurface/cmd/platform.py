"""Bootstrap of data platforms, and the merge of a model into them.

Run as `python -m datasurface.cmd.platform`.
"""

import argparse
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError, SQLAlchemyError

from datasurface.md import (
    CredentialNotAvailableException,
    DataPlatform,
    Ecosystem,
    EcosystemPipelineGraph,
    HostPortSQLDatabase,
    ObjectDoesntExistException,
    PlatformPipelineGraph,
    ValidationTree,
)
from datasurface.md.model_loader import loadEcosystemFromEcoModule

__all__ = ["CommandError", "generatePlatformBootstrap", "handleModelMerge", "main"]


class CommandError(Exception):
    """A command cannot be carried out; the message says why and what to do."""


class UnknownPlatformError(CommandError, ObjectDoesntExistException):
    """The model has no platform of a name that the command was given."""


def generatePlatformBootstrap(
    ringLevel: int, modelFolderName: str, basePlatformDir: str, *platformNames: str
) -> Ecosystem:
    """Prepare platforms for their first merge, and write the files that this yields.

    Args:
        ringLevel: 0 renders files; 1 creates tables in the platforms' databases.
        modelFolderName: Folder with `eco.py`.
        basePlatformDir: Files go to a folder in it that is named like the platform.
        *platformNames: The platforms.

    Returns:
        The ecosystem of the model.

    Raises:
        CommandError: The model has errors, has no such platform, or the work failed.
        ValueError: A platform has no such ring.
    """
    eco = _loadModel(modelFolderName)
    for platform in _findPlatforms(eco, platformNames):
        with _platformErrors(platform):
            files = platform.generateBootstrapArtifacts(eco, ringLevel)
        _writeFiles(platform, Path(basePlatformDir), files)
    return eco


def handleModelMerge(modelFolderName: str, basePlatformDir: str, *platformNames: str) -> Ecosystem:
    """Bring platforms to the state that the model asks for, and write the files this yields.

    Args:
        modelFolderName: Folder with `eco.py`.
        basePlatformDir: Files go to a folder in it that is named like the platform.
        *platformNames: The platforms.

    Returns:
        The ecosystem of the model.

    Raises:
        CommandError: The model has errors, has no such platform, assigns nothing to it, or the
            work failed. Platforms named before the one that failed have been merged.
    """
    eco = _loadModel(modelFolderName)
    graph = EcosystemPipelineGraph(eco)
    platforms = _findPlatforms(eco, platformNames)
    parts = [_findPart(graph, platform) for platform in platforms]
    for platform, part in zip(platforms, parts, strict=True):
        _writeFiles(platform, Path(basePlatformDir), _render(eco, platform, part))
    return eco


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments; those of the process unless given.

    Returns:
        Exit status: 0 for success, 1 for a failure that has been reported on standard error.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    model = args.model or args.git_repo_path
    if model is None:
        parser.error("say where the model is: --model, or --git-repo-path of a checkout")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    try:
        if args.command == "generatePlatformBootstrap":
            generatePlatformBootstrap(args.ringLevel, model, args.output, *args.platform)
        else:
            handleModelMerge(model, args.output, *args.platform)
    except CommandError as e:
        print(e, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m datasurface.cmd.platform",
        description="Bootstrap data platforms, or merge a model into them.",
        epilog="The embedded DataSurface reads models from a folder, not from git.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    bootstrap = commands.add_parser(
        "generatePlatformBootstrap", help="prepare platforms for their first merge"
    )
    bootstrap.add_argument(
        "--ringLevel",
        type=int,
        choices=(0, 1),
        required=True,
        help="0 renders files, 1 creates tables",
    )
    merge = commands.add_parser("handleModelMerge", help="merge the model into platforms")
    for command in (bootstrap, merge):
        command.add_argument("--model", help="folder with eco.py")
        command.add_argument("--output", required=True, help="files go to OUTPUT/{platform}")
        command.add_argument("--platform", required=True, nargs="+", help="names of platforms")
        _addGitOptions(command)
    return parser


def _addGitOptions(command: argparse.ArgumentParser) -> None:
    """Take the options by which pods find the model, as the ingestion job does."""
    unused = "accepted and not used: the model is a checkout in a folder"
    command.add_argument("--git-repo-path", help="folder with eco.py, instead of --model")
    command.add_argument("--git-repo-owner", help=unused)
    command.add_argument("--git-repo-name", help=unused)
    command.add_argument("--git-repo-branch", help=unused)
    command.add_argument("--git-platform-repo-credential-name", help=unused)
    command.add_argument("--use-git-cache", action="store_true", help=unused)
    command.add_argument("--max-cache-age-minutes", type=int, help=unused)


def _loadModel(folder: str) -> Ecosystem:
    eco, tree = loadEcosystemFromEcoModule(folder)
    if tree is not None and (tree.problems or tree.children):
        print(tree.toText(), file=sys.stderr)
    if eco is None or tree is None or tree.hasErrors():
        raise CommandError(f"The model in {folder} has errors; nothing was done.")
    return eco


def _findPlatforms(eco: Ecosystem, names: Sequence[str]) -> list[DataPlatform]:
    unknown = [name for name in names if eco.getDataPlatform(name) is None]
    if unknown:
        known = ", ".join(sorted(eco.dataPlatforms)) or "none"
        raise UnknownPlatformError(
            f"The model has no data platform '{unknown[0]}'; it has: {known}. Nothing was done."
        )
    return [eco.getDataPlatformOrThrow(name) for name in dict.fromkeys(names)]


def _findPart(graph: EcosystemPipelineGraph, platform: DataPlatform) -> PlatformPipelineGraph:
    part = graph.roots.get(platform.name)
    if part is None:
        raise CommandError(
            f"No dataset group is assigned to the data platform '{platform.name}'. Assign one in "
            "dsg_platform_mapping.json beside eco.py. Nothing was done."
        )
    return part


def _render(eco: Ecosystem, platform: DataPlatform, part: PlatformPipelineGraph) -> dict[str, str]:
    tree = ValidationTree(eco)
    files: dict[str, str] = {}
    try:
        with _platformErrors(platform):
            handler = platform.createGraphHandler(part)
            files = handler.renderGraph(platform.getCredentialStore(), tree)
    except Exception:
        # What a platform raises because of the problems on its tree, the tree says itself.
        if not tree.hasErrors():
            raise
    tree.prune()
    if tree.problems or tree.children:
        print(tree.toText(), file=sys.stderr)
    if tree.hasErrors():
        raise CommandError(
            f"The data platform '{platform.name}' cannot be merged; none of its files was written."
        )
    return files


@contextmanager
def _platformErrors(platform: DataPlatform) -> Iterator[None]:
    """Turn failures that an operator can mend into messages."""
    try:
        yield
    except CredentialNotAvailableException as e:
        raise CommandError(f"The data platform '{platform.name}' cannot work: {e}") from e
    except SQLAlchemyError as e:
        notes = getattr(e, "__notes__", [])
        # Other database errors come from mistakes in code, which a traceback helps to find.
        if not notes and not isinstance(e, (OperationalError, ProgrammingError)):
            raise
        raise CommandError(
            "\n".join(
                [
                    f"The data platform '{platform.name}' failed in its database"
                    f"{_databaseOf(platform)}: {_driverMessage(e)}",
                    *notes,
                ]
            )
        ) from e


def _driverMessage(e: SQLAlchemyError) -> str:
    """Return the first line of what went wrong, without the statement and its parameters."""
    cause = e.orig if isinstance(e, DBAPIError) else e
    return str(cause).strip().partition("\n")[0]


def _databaseOf(platform: DataPlatform) -> str:
    """Return where the platform's merge store is, if it says so."""
    owner = getattr(platform, "psp", platform)
    store = getattr(owner, "mergeStore", None)
    if not isinstance(store, HostPortSQLDatabase):
        return ""
    return f" '{store.databaseName}' at {store.hostPortPair}"


def _writeFiles(platform: DataPlatform, base: Path, files: dict[str, str]) -> None:
    """Write all files of a platform; each appears whole, and only when all could be written."""
    for name in (platform.name, *files):
        if not name or name in (".", "..") or set(name) & set("/\\\0"):
            raise CommandError(
                f"The data platform '{platform.name}' needs a file or folder named {name!r}, "
                "which is not a plain file name; none of its files was written."
            )
    folder = base / platform.name
    temporary = {folder / name: folder / f".{name}.{os.getpid()}.tmp" for name in files}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, temp in temporary.items():
            _writeDurably(temp, files[file.name])
        for file, temp in temporary.items():
            temp.replace(file)
    except OSError as e:
        for temp in temporary.values():
            with suppress(OSError):
                temp.unlink(missing_ok=True)
        where = e.filename or folder
        raise CommandError(
            f"The files of the data platform '{platform.name}' cannot be written: "
            f"{where}: {e.strerror}."
        ) from e
    print(f"Wrote {len(files)} files to {folder}")


def _writeDurably(file: Path, text: str) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


if __name__ == "__main__":
    sys.exit(main())
