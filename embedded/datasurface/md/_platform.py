"""What a data platform and its services provider have to offer."""

from abc import ABC, abstractmethod
from typing import Any, Generic, Protocol, TypeVar

from datasurface.md._containers import DataContainer
from datasurface.md._datastore import Dataset
from datasurface.md._workspace import Workspace
from datasurface.md.credential import CredentialStore
from datasurface.md.documentation import Documentable, Documentation
from datasurface.md.exceptions import ObjectDoesntExistException
from datasurface.md.keys import DataPlatformKey
from datasurface.md.lint import (
    AttributeNotSet,
    NamedObject,
    ObjectMissing,
    UserDSLObject,
    ValidationTree,
)
from datasurface.md.vendor import CloudVendor, LocationDirectory

__all__ = [
    "DataPlatform",
    "DataPlatformExecutor",
    "DataPlatformGraphHandler",
    "DefaultDataPlatform",
    "SchemaProjector",
]


class PlatformDirectory(LocationDirectory, Protocol):
    """An ecosystem, for the platforms in it."""

    def checkDataPlatformExists(self, dp: "DataPlatform[Any, Any]") -> bool:
        """Tell whether `dp` is one of the ecosystem's platforms."""

    def getDataPlatformOrThrow(self, name: str) -> "DataPlatform[Any, Any]":
        """Return the data platform `name`."""


# Ecosystems and pipeline graphs hold platforms, so their modules come after this one.
EcosystemT = TypeVar("EcosystemT", bound=PlatformDirectory)
GraphT = TypeVar("GraphT")


class DataPlatformExecutor(UserDSLObject):
    """Where a data platform runs its work."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DataPlatformExecutor) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(type(self).__name__)

    def lint(self, eco: PlatformDirectory, tree: ValidationTree) -> None:
        """Add the problems of the executor to `tree`."""


class SchemaProjector(UserDSLObject, Generic[EcosystemT]):
    """Turns the schema of a dataset into those of the tables that a platform keeps for it.

    Args:
        eco: The ecosystem.
        dp: The platform.
    """

    def __init__(self, eco: EcosystemT, dp: "DataPlatform[EcosystemT, Any]") -> None:
        super().__init__()
        self.eco = eco
        self.dp = dp

    @abstractmethod
    def getSchemaTypes(self) -> set[str]:
        """Return the names of the kinds of tables."""

    @abstractmethod
    def computeSchema(self, dataset: Dataset, schemaType: str) -> Dataset:
        """Return `dataset` with the schema of its table of the kind `schemaType`."""


class DataPlatformGraphHandler(ABC, Generic[EcosystemT, GraphT]):
    """Renders the part of a pipeline graph that one data platform serves.

    Args:
        graph: The platform's part.
    """

    def __init__(self, graph: GraphT) -> None:
        self.graph = graph

    @abstractmethod
    def getInternalDataContainers(self) -> set[DataContainer]:
        """Return the containers that the platform itself uses."""

    @abstractmethod
    def lintGraph(self, eco: EcosystemT, credStore: CredentialStore, tree: ValidationTree) -> None:
        """Add to `tree` what the platform cannot do for this graph."""

    @abstractmethod
    def renderGraph(self, credStore: CredentialStore, issueTree: ValidationTree) -> dict[str, str]:
        """Bring the platform to the state that the graph asks for.

        Args:
            credStore: Where credentials come from.
            issueTree: Where problems go; errors there mean that nothing was changed.

        Returns:
            Text of files to write, by file name.

        Raises:
            CredentialNotAvailableException: A credential that rendering needs has no value.
        """


class DataPlatform(NamedObject, Documentable, Generic[EcosystemT, GraphT]):
    """Serves dataset groups with their data; equal by name, executor and documentation.

    Args:
        name: Name, unique in the ecosystem.
        *args: Executor and documentation by type, instead of by keyword.
        executor: Where it runs.
        documentation: Description.

    Raises:
        ObjectDoesntExistException: There is no executor.
    """

    def __init__(
        self,
        name: str,
        *args: DataPlatformExecutor | Documentation,
        executor: DataPlatformExecutor | None = None,
        documentation: Documentation | None = None,
    ) -> None:
        NamedObject.__init__(self, name)
        Documentable.__init__(self, documentation)
        for arg in args:
            if isinstance(arg, Documentation):
                self.documentation = arg
            elif isinstance(arg, DataPlatformExecutor):
                executor = arg
            else:
                raise TypeError(f"{self} takes no {type(arg).__name__}.")
        if executor is None:
            raise ObjectDoesntExistException(f"{self} has no executor.")
        self.executor = executor
        self.key = DataPlatformKey(name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DataPlatform) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self.name)

    @abstractmethod
    def getCredentialStore(self) -> CredentialStore:
        """Return where the platform's credentials come from."""

    @abstractmethod
    def getSupportedVendors(self, eco: EcosystemT) -> set[CloudVendor]:
        """Return the vendors whose infrastructure the platform can use."""

    @abstractmethod
    def isWorkspaceDataContainerSupported(self, eco: EcosystemT, dc: DataContainer) -> bool:
        """Tell whether the platform can deliver data into `dc`."""

    @abstractmethod
    def createGraphHandler(self, graph: GraphT) -> DataPlatformGraphHandler[EcosystemT, GraphT]:
        """Return a handler for this platform's part of the pipeline graph."""

    @abstractmethod
    def generateBootstrapArtifacts(self, eco: EcosystemT, ringLevel: int) -> dict[str, str]:
        """Prepare what the platform needs before its first merge.

        Args:
            eco: The ecosystem.
            ringLevel: 0 renders files; 1 creates tables in the platform's database.

        Returns:
            Text of files to write, by file name.

        Raises:
            ValueError: The platform has no such ring.
        """

    @abstractmethod
    def createSchemaProjector(self, eco: EcosystemT) -> SchemaProjector[EcosystemT]:
        """Return what computes the schemas of the platform's tables."""

    @abstractmethod
    def lintWorkspace(
        self, eco: EcosystemT, tree: ValidationTree, ws: Workspace, dsgName: str
    ) -> None:
        """Add to `tree` why the platform cannot serve the dataset group `dsgName` of `ws`."""

    @abstractmethod
    def resetBatchState(
        self, eco: EcosystemT, storeName: str, datasetName: str | None = None
    ) -> str:
        """Make the current batch of a stream start again.

        Args:
            eco: The ecosystem.
            storeName: The store.
            datasetName: The dataset, for a store whose datasets are captured one by one.

        Returns:
            "SUCCESS", or "ERROR: " and the reason.
        """

    @abstractmethod
    def lint(self, eco: EcosystemT, tree: ValidationTree) -> None:
        """Add the problems of the platform to `tree`; subclasses call this one too."""
        self.nameLint(tree)
        if self.documentation is None:
            tree.addRaw(AttributeNotSet("documentation"))
        if not eco.checkDataPlatformExists(self):
            tree.addRaw(ObjectMissing(eco, self))
        self.executor.lint(eco, tree.addSubTree(self.executor))

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"executor": self.executor.to_json()} | self.documentationJson()

    def _identity(self) -> tuple[str, DataPlatformExecutor, Documentation | None]:
        return self.name, self.executor, self.documentation


class DefaultDataPlatform(UserDSLObject):
    """Names the data platform of an ecosystem that is used where none is asked for.

    Args:
        p: Key of the platform.
    """

    def __init__(self, p: DataPlatformKey) -> None:
        super().__init__()
        self.defaultPlatform = p

    def get(self, eco: PlatformDirectory) -> DataPlatform[Any, Any]:
        """Return the platform.

        Raises:
            ObjectDoesntExistException: `eco` has no such platform.
        """
        return eco.getDataPlatformOrThrow(self.defaultPlatform.name)

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"defaultPlatform": self.defaultPlatform.name}
