"""Workspaces: who consumes which datasets, with which guarantees."""

from datetime import timedelta
from enum import Enum
from typing import Any, Protocol

from datasurface.md._containers import DataContainer
from datasurface.md._datastore import (
    CronTrigger,
    Dataset,
    Datastore,
    DeprecationInfo,
    DeprecationStatus,
    ProductionStatus,
    StepTrigger,
)
from datasurface.md.codeartifact import CodeArtifact, PythonRepoCodeArtifact
from datasurface.md.documentation import Documentable, Documentation
from datasurface.md.exceptions import AttributeAlreadySetException, ObjectAlreadyExistsException
from datasurface.md.keys import WorkspaceKey
from datasurface.md.lint import (
    ANSI_SQL_NamedObject,
    AttributeNotSet,
    ConstraintViolation,
    ObjectWrongType,
    ProblemSeverity,
    UnknownObjectReference,
    UserDSLObject,
    ValidationTree,
    lintCoverage,
    lintName,
)
from datasurface.md.policy import DataClassificationPolicy
from datasurface.md.vendor import LocationDirectory

__all__ = [
    "ConsumerRetentionRequirements",
    "DSGDataPlatformChooser",
    "DataLatency",
    "DataMilestoningStrategy",
    "DataTransformer",
    "DatasetGroup",
    "DatasetSink",
    "DeprecationsAllowed",
    "PrioritizedWorkloadTier",
    "WorkloadTier",
    "Workspace",
    "WorkspacePlatformConfig",
    "WorkspacePriority",
]


class DatastoreEntry(Protocol):
    """A datastore, as an ecosystem finds it."""

    @property
    def datastore(self) -> Datastore:
        """The datastore."""


class DatasetDirectory(LocationDirectory, Protocol):
    """An ecosystem, for the objects in it that consume datasets."""

    def cache_getDataset(self, store: str, ds: str) -> Dataset | None:
        """Return the dataset `ds` of the datastore `store`, or None."""

    def cache_getDatastoreOrThrow(self, name: str) -> DatastoreEntry:
        """Return the datastore `name`."""


class DataMilestoningStrategy(Enum):
    """Which states of a record a consumer needs."""

    LIVE_ONLY = 0
    FORENSIC = 1
    LIVE_WITH_FORENSIC_HISTORY = 2


class DataLatency(Enum):
    """How late data may reach a consumer."""

    SECONDS = 0
    MINUTES = 1
    HOURS = 3
    DAYS = 4


class DeprecationsAllowed(Enum):
    """Whether a consumer accepts datasets that are on their way out."""

    NEVER = 0
    ALLOWED = 1


class ConsumerRetentionRequirements(UserDSLObject):
    """What a consumer needs of its data over time.

    Args:
        r: Which states of a record.
        latency: How late data may be.
        regulator: Who asks for it, if anybody.
        minRetentionDurationIfNeeded: How long data has to be kept.
    """

    def __init__(
        self,
        r: DataMilestoningStrategy,
        latency: DataLatency,
        regulator: str | None,
        minRetentionDurationIfNeeded: timedelta | None = None,
    ) -> None:
        super().__init__()
        self.milestoningStrategy = r
        self.latency = latency
        self.regulator = regulator
        self.minRetentionTime = minRetentionDurationIfNeeded

    def to_json(self) -> dict[str, Any]:
        retention = self.minRetentionTime
        return super().to_json() | {
            "milestoningStrategy": self.milestoningStrategy.name,
            "latency": self.latency.name,
            "regulator": self.regulator,
            "minRetentionTime": None if retention is None else retention.total_seconds(),
        }


class DSGDataPlatformChooser(UserDSLObject):
    """Says what a dataset group needs of its data platform."""


class WorkspacePlatformConfig(DSGDataPlatformChooser):
    """Asks for a data platform by retention needs.

    Which platform serves a dataset group is said in `dsg_platform_mapping.json`.

    Args:
        hist: What the consumer needs.
    """

    def __init__(self, hist: ConsumerRetentionRequirements) -> None:
        super().__init__()
        self.retention = hist

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"retention": self.retention.to_json()}


class WorkloadTier(Enum):
    """How important a workload is."""

    UNKNOWN = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4


class WorkspacePriority(UserDSLObject):
    """How important a workspace is."""


class PrioritizedWorkloadTier(WorkspacePriority):
    """How important a workspace is, as a tier.

    Args:
        priority: The tier.
    """

    def __init__(self, priority: WorkloadTier) -> None:
        super().__init__()
        self.priority = priority

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"priority": self.priority.name}


class DataTransformer(UserDSLObject, Documentable):
    """Code that makes new datasets from those of a workspace.

    Args:
        name: Name of the transformer.
        store: The store whose datasets it makes.
        code: The code.
        doc: Description.
        trigger: What starts it, a `CronTrigger`; its input unless given.
    """

    def __init__(
        self,
        name: str,
        store: Datastore,
        code: CodeArtifact,
        doc: Documentation | None = None,
        trigger: StepTrigger | None = None,
    ) -> None:
        UserDSLObject.__init__(self)
        Documentable.__init__(self, doc)
        self.name = name
        self.outputDatastore = store
        self.code = code
        self.trigger = trigger

    def lint(self, tree: ValidationTree) -> None:
        """Add the problems of the transformer to `tree`; its store is linted with its team."""
        lintName(self.name, tree)
        if not isinstance(self.code, PythonRepoCodeArtifact):
            tree.addRaw(ObjectWrongType(self.code, PythonRepoCodeArtifact, ProblemSeverity.ERROR))
        if self.trigger is None:
            return
        self.trigger.lint(tree.addSubTree(self.trigger))
        if not isinstance(self.trigger, CronTrigger):
            tree.addRaw(ObjectWrongType(self.trigger, CronTrigger, ProblemSeverity.ERROR))

    def to_json(self) -> dict[str, Any]:
        return (
            super().to_json()
            | {
                "name": self.name,
                "outputDatastore": self.outputDatastore.name,
                "code": self.code.to_json(),
                "trigger": None if self.trigger is None else self.trigger.to_json(),
            }
            | self.documentationJson()
        )


class DatasetSink(UserDSLObject):
    """Names a dataset that is consumed.

    Args:
        storeName: Name of the store.
        datasetName: Name of the dataset in it.
        deprecationsAllowed: Whether the dataset may be on its way out.
    """

    def __init__(
        self,
        storeName: str,
        datasetName: str,
        deprecationsAllowed: DeprecationsAllowed = DeprecationsAllowed.NEVER,
    ) -> None:
        super().__init__()
        self.storeName = storeName
        self.datasetName = datasetName
        self.deprecationsAllowed = deprecationsAllowed

    @property
    def key(self) -> str:
        """Store and dataset as one text."""
        return f"{self.storeName}:{self.datasetName}"

    def __str__(self) -> str:
        return f"DatasetSink({self.key})"

    def lint(self, eco: DatasetDirectory, tree: ValidationTree) -> None:
        """Add a problem to `tree` when the dataset is unknown or on its way out."""
        dataset = eco.cache_getDataset(self.storeName, self.datasetName)
        if dataset is None:
            tree.addRaw(
                UnknownObjectReference(
                    f"the dataset '{self.datasetName}' of the datastore '{self.storeName}'"
                )
            )
            return
        store = eco.cache_getDatastoreOrThrow(self.storeName).datastore
        if store.isDatasetDeprecated(dataset):
            allowed = self.deprecationsAllowed is DeprecationsAllowed.ALLOWED
            severity = ProblemSeverity.WARNING if allowed else ProblemSeverity.ERROR
            tree.addRaw(ConstraintViolation(f"{self} is deprecated.", severity))

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {
            "storeName": self.storeName,
            "datasetName": self.datasetName,
            "deprecationsAllowed": self.deprecationsAllowed.name,
        }


class DatasetGroup(ANSI_SQL_NamedObject, Documentable):
    """Datasets that are consumed together with the same guarantees.

    Args:
        name: An SQL identifier, unique in its workspace.
        *args: Sinks and the other attributes by type, instead of by keyword.
        sinks: The datasets.
        platform_chooser: What the group needs of its data platform.
        documentation: Description.

    Raises:
        ObjectAlreadyExistsException: Two sinks name the same dataset.
    """

    def __init__(
        self,
        name: str,
        *args: DatasetSink | DSGDataPlatformChooser | Documentation,
        sinks: list[DatasetSink] | None = None,
        platform_chooser: DSGDataPlatformChooser | None = None,
        documentation: Documentation | None = None,
    ) -> None:
        ANSI_SQL_NamedObject.__init__(self, name)
        Documentable.__init__(self, documentation)
        self.platformMD = platform_chooser
        self.sinks: dict[str, DatasetSink] = {}
        for arg in [*(sinks or []), *args]:
            self._add(arg)

    def _add(self, arg: DatasetSink | DSGDataPlatformChooser | Documentation) -> None:
        match arg:
            case DatasetSink():
                if arg.key in self.sinks:
                    raise ObjectAlreadyExistsException(f"{self} already has {arg}.")
                self.sinks[arg.key] = arg
            case DSGDataPlatformChooser():
                if self.platformMD is not None:
                    raise AttributeAlreadySetException("platform_chooser")
                self.platformMD = arg
            case Documentation():
                self.documentation = arg
            case _:
                raise TypeError(f"{self} takes no {type(arg).__name__}.")

    def lint(self, eco: DatasetDirectory, tree: ValidationTree) -> None:
        """Add the problems of the group and its sinks to `tree`."""
        self.nameLint(tree)
        if not self.sinks:
            tree.addProblem(f"{self} has no sinks.", ProblemSeverity.WARNING)
        for sink in self.sinks.values():
            sink.lint(eco, tree.addSubTree(sink))

    def to_json(self) -> dict[str, Any]:
        return (
            super().to_json()
            | {
                "sinks": [s.to_json() for s in self.sinks.values()],
                "platformMD": None if self.platformMD is None else self.platformMD.to_json(),
            }
            | self.documentationJson()
        )


class Workspace(ANSI_SQL_NamedObject, Documentable):
    """The dataset groups that one consumer works with.

    Args:
        name: An SQL identifier, unique in the ecosystem.
        *args: Dataset groups and all other attributes, by type.

    Raises:
        ObjectAlreadyExistsException: Two dataset groups have the same name.
        AttributeAlreadySetException: It is given two containers or two transformers.
    """

    def __init__(
        self,
        name: str,
        *args: "DatasetGroup | DataContainer | Documentation | DataClassificationPolicy "
        "| ProductionStatus | DeprecationInfo | DataTransformer | WorkspacePriority",
    ) -> None:
        ANSI_SQL_NamedObject.__init__(self, name)
        Documentable.__init__(self, None)
        self.dsgs: dict[str, DatasetGroup] = {}
        self.dataContainer: DataContainer | None = None
        self.dataTransformer: DataTransformer | None = None
        self.classificationVerifier: DataClassificationPolicy | None = None
        self.productionStatus = ProductionStatus.NOT_PRODUCTION
        self.deprecationStatus = DeprecationInfo(DeprecationStatus.NOT_DEPRECATED)
        self.priority: WorkspacePriority = PrioritizedWorkloadTier(WorkloadTier.UNKNOWN)
        self.key: WorkspaceKey | None = None
        self.add(*args)

    def add(self, *args: object) -> None:
        """Add dataset groups, or set other attributes by their type.

        Raises:
            ObjectAlreadyExistsException: There is a dataset group of that name.
            AttributeAlreadySetException: There is a container or transformer already.
        """
        for arg in args:
            match arg:
                case DatasetGroup():
                    if arg.name in self.dsgs:
                        raise ObjectAlreadyExistsException(f"{self} already has {arg}.")
                    self.dsgs[arg.name] = arg
                case DataContainer():
                    if self.dataContainer is not None:
                        raise AttributeAlreadySetException("dataContainer")
                    self.dataContainer = arg
                case DataTransformer():
                    if self.dataTransformer is not None:
                        raise AttributeAlreadySetException("dataTransformer")
                    self.dataTransformer = arg
                case _:
                    self._setAttribute(arg)

    def _setAttribute(self, arg: object) -> None:
        match arg:
            case DataClassificationPolicy():
                self.classificationVerifier = arg
            case ProductionStatus():
                self.productionStatus = arg
            case DeprecationInfo():
                self.deprecationStatus = arg
            case WorkspacePriority():
                self.priority = arg
            case Documentation():
                self.documentation = arg
            case _:
                raise TypeError(f"{self} takes no {type(arg).__name__}.")

    def lint(self, eco: DatasetDirectory, tree: ValidationTree) -> None:
        """Add the problems of the workspace and its dataset groups to `tree`."""
        self.nameLint(tree)
        self._lintTransformer(tree)
        lintCoverage(self.classificationVerifier, tree)
        if self.dataContainer is None:
            tree.addRaw(AttributeNotSet("dataContainer"))
        else:
            self.dataContainer.lint(eco, tree.addSubTree(self.dataContainer))
        for dsg in self.dsgs.values():
            dsg.lint(eco, tree.addSubTree(dsg))

    def _lintTransformer(self, tree: ValidationTree) -> None:
        if self.dataTransformer is None:
            return
        self.dataTransformer.lint(tree.addSubTree(self.dataTransformer))
        for dsg in self.dsgs.values():
            if dsg.platformMD is not None:
                tree.addProblem(
                    f"{dsg} feeds the transformer of workspace '{self.name}', which runs on the "
                    "platform of whoever reads its output; leave its platform chooser out."
                )

    def to_json(self) -> dict[str, Any]:
        container, transformer = self.dataContainer, self.dataTransformer
        return (
            super().to_json()
            | {
                "dsgs": [dsg.to_json() for dsg in self.dsgs.values()],
                "dataContainer": None if container is None else container.to_json(),
                "dataTransformer": None if transformer is None else transformer.to_json(),
                "productionStatus": self.productionStatus.name,
                "deprecationStatus": self.deprecationStatus.to_json(),
                "priority": self.priority.to_json(),
            }
            | self.documentationJson()
        )
