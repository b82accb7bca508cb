"""Loads the model in a folder."""

import importlib
import linecache
import re
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
_NOT_COVERED = (
    "The embedded DataSurface does not cover this: it stands in for the Yellow platform of "
    "DataSurface 0.0.36 to 0.0.38. Check the name, or install the DataSurface of the model's "
    "release in its place."
)


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
    except (TypeError, AttributeError) as e:
        raise _ModelLoadError(f"{_place(e, folder)}: {_misuse(e, folder)}") from e
    except (Exception, SystemExit) as e:
        raise _ModelLoadError(f"{_place(e, folder)}: {type(e).__name__}: {e}") from e


def _importHint(e: ImportError) -> str:
    if _isOurs(e.name or ""):
        return _NOT_COVERED
    return "Install it, or put it beside eco.py."


def _misuse(e: TypeError | AttributeError, folder: Path) -> str:
    """Say what the model does wrong, in terms of the class that it names."""
    said = f"{type(e).__name__}: {e}"
    if isinstance(e, AttributeError):
        if isinstance(e.obj, ModuleType):
            return f"{said}. {_NOT_COVERED}" if _isOurs(e.obj.__name__) else said
        owner = e.obj if isinstance(e.obj, type) else type(e.obj)
        if not _isOurs(owner.__module__):
            return said
        return f"{owner.__name__} has no attribute {e.name!r}. {_NOT_COVERED}"
    constructor = re.match(r"([\w.<>]+)\.__init__\(\)", str(e))
    if constructor is None or not _hasClass(constructor[1]):
        return said
    return f"{_called(e, folder) or constructor[1]}(){str(e)[constructor.end() :]}. {_NOT_COVERED}"


def _called(e: BaseException, folder: Path) -> str | None:
    """Return the class that the model called when `e` was raised, by the capital of its name.

    It may be a subclass of the one whose arguments `e` is about.
    """
    line = _innermost(e, folder)
    if line is None or line.lineno is None:
        return None
    lines = linecache.getlines(line.filename)[line.lineno - 1 : line.end_lineno]
    if not lines:
        return None
    text = "".join(lines).encode()[line.colno or 0 :].decode(errors="replace")
    name = re.match(r"((?:\w+\.)*[A-Z]\w*)\s*\(", text)
    return name[1] if name else None


def _hasClass(name: str) -> bool:
    """Return whether a class of that name is one of ours."""
    return any(
        hasattr(module, name) for place, module in list(sys.modules.items()) if _isOurs(place)
    )


def _isOurs(module: str) -> bool:
    return module.partition(".")[0] == "datasurface"


def _place(e: BaseException, folder: Path) -> str:
    """Return file and line of the innermost code of the model that `e` passed through."""
    line = _innermost(e, folder)
    return f"{line.filename}, line {line.lineno}" if line else str(folder / _MODEL_FILE)


def _innermost(e: BaseException, folder: Path) -> traceback.FrameSummary | None:
    frames = traceback.extract_tb(e.__traceback__)
    own = [frame for frame in frames if _isBelow(frame.filename, folder)]
    return own[-1] if own else None


def _isPartOfModel(module: ModuleType, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    # The folder may hold a whole environment, whose packages must stay as they are.
    return _isBelow(file, folder) and not _isBelow(file, Path(sys.prefix))


def _isBelow(file: str | None, folder: Path) -> bool:
    return file is not None and Path(file).is_relative_to(folder)
