"""The file that assigns dataset groups to data platforms."""

import json
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol, TypeVar

from datasurface.md._datastore import ProductionStatus
from datasurface.md._platform import DataPlatform
from datasurface.md._team import WorkspaceCacheEntry
from datasurface.md._workspace import DeprecationsAllowed
from datasurface.md.documentation import Documentation, PlainTextDocumentation
from datasurface.md.keys import DataPlatformKey
from datasurface.md.lint import AttributeNotSet, UnknownObjectReference, ValidationTree

__all__ = [
    "DatasetGroupDataPlatformAssignment",
    "DatasetGroupDataPlatformMapping",
    "DatasetGroupDataPlatformMappingStatus",
]

_E = TypeVar("_E", bound=Enum)
_DEFAULT_WORKSPACE = "default_workspace"


class AssignmentDirectory(Protocol):
    """An ecosystem, for the assignments of its dataset groups to its platforms."""

    dataPlatforms: dict[str, DataPlatform]

    def getDataPlatform(self, name: str) -> DataPlatform | None:
        """Return the data platform `name`, or None."""

    def getDataPlatformOrThrow(self, name: str) -> DataPlatform:
        """Return the data platform `name`."""

    def cache_getWorkspace(self, name: str) -> WorkspaceCacheEntry | None:
        """Return the workspace `name` and its team, or None."""

    def cache_getWorkspaceOrThrow(self, name: str) -> WorkspaceCacheEntry:
        """Return the workspace `name` and its team."""


class DatasetGroupDataPlatformMappingStatus(Enum):
    """How far the assignment of a dataset group to a platform has come."""

    PROVISIONING = 0
    PROVISIONED = 1
    DECOMMISSIONING = 2
    DECOMMISSIONED = 3


@dataclass(frozen=True)
class DatasetGroupDataPlatformAssignment:
    """Says that a platform serves a dataset group."""

    dataPlatform: DataPlatformKey
    doc: Documentation
    productionStatus: ProductionStatus
    deprecationsAllowed: DeprecationsAllowed
    status: DatasetGroupDataPlatformMappingStatus


@dataclass(frozen=True)
class DatasetGroupDataPlatformMapping:
    """The platforms that serve one dataset group."""

    workspace: str
    dsgName: str
    assignments: list[DatasetGroupDataPlatformAssignment]

    @property
    def key(self) -> str:
        """Workspace and dataset group as one text."""
        return f"{self.workspace}#{self.dsgName}"


def readMappings(
    eco: AssignmentDirectory, jsonFile: str, tree: ValidationTree
) -> dict[str, DatasetGroupDataPlatformMapping]:
    """Read the assignments in `jsonFile` and check them against the model.

    Args:
        eco: The ecosystem, linted.
        jsonFile: Path of the file.
        tree: Where problems go.

    Returns:
        The mappings without problems, by key "workspace#dataset group".
    """
    entries = _parse(jsonFile, tree)
    mappings: dict[str, DatasetGroupDataPlatformMapping] = {}
    for number, entry in enumerate(entries, start=1):
        subTree = tree.addSubTree(f"Entry {number} of {jsonFile}")
        mapping = _readMapping(eco, entry, subTree)
        if mapping is None:
            continue
        if mapping.key in mappings:
            subTree.addProblem(
                f"The dataset group '{mapping.dsgName}' of the workspace '{mapping.workspace}' "
                "has an entry already; list all its platforms there."
            )
        mappings.setdefault(mapping.key, mapping)
    return mappings


def _parse(jsonFile: str, tree: ValidationTree) -> list[Any]:
    try:
        entries = json.loads(Path(jsonFile).read_text(encoding="utf-8"))
    except json.JSONDecodeError as e:
        tree.addProblem(f"{jsonFile}, line {e.lineno}, column {e.colno}: {e.msg}.")
        return []
    except (OSError, UnicodeDecodeError) as e:
        tree.addProblem(f"{jsonFile} cannot be read: {e}.")
        return []
    if not isinstance(entries, list):
        tree.addProblem(f"{jsonFile} must hold a list, not a {type(entries).__name__}.")
        return []
    return entries


def _readMapping(
    eco: AssignmentDirectory, entry: Any, tree: ValidationTree
) -> DatasetGroupDataPlatformMapping | None:
    fields = _Fields(entry, tree)
    dsgName = fields.text("dsgName")
    workspace = fields.text("workspace", _DEFAULT_WORKSPACE)
    assignments = fields.get("assignments", list)
    if dsgName is None or workspace is None or assignments is None:
        return None
    if not _isKnownGroup(eco, workspace, dsgName, tree):
        return None
    mapping = DatasetGroupDataPlatformMapping(workspace, dsgName, [])
    for number, item in enumerate(assignments, start=1):
        subTree = tree.addSubTree(f"Assignment {number} of {mapping.key}")
        assignment = _readAssignment(eco, item, subTree)
        if assignment is None:
            continue
        if assignment.dataPlatform in [a.dataPlatform for a in mapping.assignments]:
            subTree.addProblem(f"{assignment.dataPlatform} is assigned twice.")
        mapping.assignments.append(assignment)
        _lintServed(eco, mapping, assignment, subTree)
    return mapping


def _isKnownGroup(
    eco: AssignmentDirectory, workspace: str, dsgName: str, tree: ValidationTree
) -> bool:
    entry = eco.cache_getWorkspace(workspace)
    if entry is None:
        tree.addRaw(UnknownObjectReference(f"the workspace '{workspace}'"))
        return False
    dsg = entry.workspace.dsgs.get(dsgName)
    if dsg is None:
        tree.addRaw(
            UnknownObjectReference(f"the dataset group '{dsgName}' of the workspace '{workspace}'")
        )
        return False
    if dsg.platformMD is None:
        tree.addProblem(
            f"The dataset group '{dsgName}' of the workspace '{workspace}' does not say what it "
            "needs of a platform; give it platform_chooser=WorkspacePlatformConfig(...)."
        )
        return False
    return True


def _readAssignment(
    eco: AssignmentDirectory, item: Any, tree: ValidationTree
) -> DatasetGroupDataPlatformAssignment | None:
    fields = _Fields(item, tree)
    platform = fields.text("dataPlatform")
    doc = fields.text("documentation")
    production = fields.enum("productionStatus", ProductionStatus)
    deprecations = fields.enum("deprecationsAllowed", DeprecationsAllowed)
    status = fields.enum("status", DatasetGroupDataPlatformMappingStatus)
    if platform is not None and eco.getDataPlatform(platform) is None:
        known = ", ".join(sorted(eco.dataPlatforms)) or "none"
        tree.addRaw(
            UnknownObjectReference(f"the data platform '{platform}' (the model has: {known})")
        )
        return None
    if not (platform and doc is not None and production and deprecations and status):
        return None
    return DatasetGroupDataPlatformAssignment(
        DataPlatformKey(platform), PlainTextDocumentation(doc), production, deprecations, status
    )


def _lintServed(
    eco: AssignmentDirectory,
    mapping: DatasetGroupDataPlatformMapping,
    assignment: DatasetGroupDataPlatformAssignment,
    tree: ValidationTree,
) -> None:
    if assignment.status is DatasetGroupDataPlatformMappingStatus.DECOMMISSIONED:
        return
    workspace = eco.cache_getWorkspaceOrThrow(mapping.workspace).workspace
    platform = eco.getDataPlatformOrThrow(assignment.dataPlatform.name)
    platform.lintWorkspace(eco, tree, workspace, mapping.dsgName)


class _Fields:
    """Reads typed values from a JSON object; what is wrong goes on the tree."""

    def __init__(self, value: Any, tree: ValidationTree) -> None:
        self._tree = tree
        self._values: dict[str, Any] | None = value if isinstance(value, dict) else None
        if self._values is None:
            tree.addProblem(f"This must be an object, not {json.dumps(value)}.")

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        """Return the value of `key` if it is of the type `kind`, else None."""
        if self._values is None:
            return None
        value = self._values.get(key, default)
        if value is None:
            self._tree.addRaw(AttributeNotSet(key))
        elif not isinstance(value, kind):
            self._tree.addProblem(f"'{key}' must be a {kind.__name__}, not {json.dumps(value)}.")
            return None
        return value

    def text(self, key: str, default: str | None = None) -> str | None:
        """Return the text of `key`, or None."""
        value: str | None = self.get(key, str, default)
        return value

    def enum(self, key: str, cls: type[_E]) -> _E | None:
        """Return the member of `cls` that `key` names, or None."""
        name = self.text(key)
        if name is None or name in cls.__members__:
            return None if name is None else cls[name]
        self._tree.addProblem(f"'{key}' is '{name}'; use one of {', '.join(cls.__members__)}.")
        return None
