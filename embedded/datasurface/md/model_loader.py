"""Loads the model in a folder."""

import importlib
import linecache
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from datasurface.md._ecosystem import Ecosystem
from datasurface.md.lint import ValidationProblem, ValidationTree

__all__ = ["ModelLoadProblem", "loadEcosystemFromEcoModule"]

_MODEL_FILE = "eco.py"
_MAPPING_FILE = "dsg_platform_mapping.json"


class ModelLoadProblem(ValidationProblem):
    """The model's Python code could not be run to its end."""


class _ModelLoadError(Exception):
    """Carries the text of a ModelLoadProblem."""


def loadEcosystemFromEcoModule(path: str) -> tuple[Ecosystem | None, ValidationTree | None]:
    """Load and check the model in a folder.

    Runs `eco.py` of the folder, calls its `createEcosystem()`, checks the result, and reads
    `dsg_platform_mapping.json` beside it, where there is one. Modules of the folder may be
    imported by `eco.py`; they are read anew each time.

    Args:
        path: The folder.

    Returns:
        The ecosystem and its problems. The ecosystem is None when it could not be loaded; the
        tree then holds one `ModelLoadProblem`. It has no problems and no subtrees when all is
        well.
    """
    folder = Path(path).absolute()
    try:
        eco = _createEcosystem(folder)
    except _ModelLoadError as e:
        failed = ValidationTree(f"The model in {folder}")
        failed.addRaw(ModelLoadProblem(str(e)))
        return None, failed
    tree = eco.lintAndHydrateCaches()
    mappingFile = folder / _MAPPING_FILE
    if mappingFile.exists():
        eco.hydrateDSGDataPlatformMappings(
            str(mappingFile), tree.addSubTree(f"The assignments in {mappingFile}")
        )
    tree.prune()
    return eco, tree


def _createEcosystem(folder: Path) -> Ecosystem:
    file = folder / _MODEL_FILE
    if not folder.is_dir():
        raise _ModelLoadError(f"There is no folder {folder}.")
    if not file.is_file():
        raise _ModelLoadError(f"The folder {folder} has no {_MODEL_FILE}.")
    with _modelImports(folder), _modelErrors(folder):
        module = _runModule(file)
        create = getattr(module, "createEcosystem", None)
        if not callable(create):
            raise _ModelLoadError(f"{file} does not define the function createEcosystem().")
        eco = create()
    if not isinstance(eco, Ecosystem):
        raise _ModelLoadError(
            f"createEcosystem() of {file} returned a {type(eco).__name__}, not an Ecosystem."
        )
    return eco


def _runModule(file: Path) -> ModuleType:
    # Compiled here, not imported: byte code of the folder may be older than the file by less
    # than its time stamp shows, and another module named "eco" may come first on the path.
    linecache.checkcache(str(file))
    code = compile(file.read_bytes(), str(file), "exec")
    module = ModuleType(file.stem)
    module.__file__ = str(file)
    sys.modules[file.stem] = module
    exec(code, module.__dict__)
    return module


@contextmanager
def _modelImports(folder: Path) -> Iterator[None]:
    """Let modules of `folder` be imported, and forget them afterwards."""
    path, writesNoByteCode = list(sys.path), sys.dont_write_bytecode
    before = dict(sys.modules)
    # At the end, so that a file of the model does not hide a module of the standard library.
    sys.path.append(str(folder))
    importlib.invalidate_caches()
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.path[:], sys.dont_write_bytecode = path, writesNoByteCode
        for name, module in list(sys.modules.items()):
            if module is not before.get(name) and _isPartOfModel(module, folder):
                del sys.modules[name]
                sys.modules.update({name: before[name]} if name in before else {})


@contextmanager
def _modelErrors(folder: Path) -> Iterator[None]:
    """Turn whatever the model's code raises into a message for its author."""
    try:
        yield
    except _ModelLoadError:
        raise
    except SyntaxError as e:
        raise _ModelLoadError(f"{e.filename}, line {e.lineno}: {e.msg}.") from e
    except ModuleNotFoundError as e:
        raise _ModelLoadError(
            f"{_place(e, folder)}: the module '{e.name}' cannot be found. {_importHint(e)}"
        ) from e
    except ImportError as e:
        raise _ModelLoadError(f"{_place(e, folder)}: {e}. {_importHint(e)}") from e
    except (Exception, SystemExit) as e:
        raise _ModelLoadError(f"{_place(e, folder)}: {type(e).__name__}: {e}") from e


def _importHint(e: ImportError) -> str:
    if (e.name or "").partition(".")[0] == "datasurface":
        return (
            "The embedded DataSurface does not have it: check the name, and if it is right, "
            "install the real DataSurface."
        )
    return "Install it, or put it beside eco.py."


def _place(e: BaseException, folder: Path) -> str:
    """Return file and line of the innermost code of the model that `e` passed through."""
    frames = traceback.extract_tb(e.__traceback__)
    own = [frame for frame in frames if _isBelow(frame.filename, folder)]
    return f"{own[-1].filename}, line {own[-1].lineno}" if own else str(folder / _MODEL_FILE)


def _isPartOfModel(module: ModuleType, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    # The folder may hold a whole environment, whose packages must stay as they are.
    return _isBelow(file, folder) and not _isBelow(file, Path(sys.prefix))


def _isBelow(file: str | None, folder: Path) -> bool:
    return file is not None and Path(file).is_relative_to(folder)
