"""The pipeline graph: what each data platform has to ingest and to export."""

from datasurface.md._containers import DataContainer
from datasurface.md._datastore import (
    Datastore,
    DataTransformerOutput,
    IngestionConsistencyType,
    IngestionMetadata,
    StepTrigger,
)
from datasurface.md._ecosystem import Ecosystem
from datasurface.md._mapping import DatasetGroupDataPlatformMappingStatus
from datasurface.md._platform import DataPlatform
from datasurface.md._workspace import DatasetGroup, Workspace
from datasurface.md.credential import CredentialStore
from datasurface.md.lint import ValidationTree

__all__ = [
    "DSGRootNode",
    "EcosystemPipelineGraph",
    "ExportNode",
    "IngestionMultiNode",
    "IngestionNode",
    "IngestionSingleNode",
    "PipelineNode",
    "PlatformPipelineGraph",
]


class PipelineNode:
    """A step of a platform's pipeline; known by its text form.

    Args:
        name: The text form.
        platform: The platform that does the step.
    """

    def __init__(self, name: str, platform: DataPlatform) -> None:
        self.name = name
        self.platform = platform
        self.leftHandNodes: dict[str, PipelineNode] = {}
        self.rightHandNodes: dict[str, PipelineNode] = {}

    def __str__(self) -> str:
        return self.name

    def addRightHandNode(self, node: "PipelineNode") -> None:
        """Let `node` follow this step."""
        self.rightHandNodes[str(node)] = node
        node.leftHandNodes[str(self)] = self


class IngestionNode(PipelineNode):
    """Ingests data of a store.

    Args:
        name: Text form of the node.
        platform: The platform that ingests.
        storeName: The store.
        captureTrigger: What starts it, if the store says so.
    """

    def __init__(
        self,
        name: str,
        platform: DataPlatform,
        storeName: str,
        captureTrigger: StepTrigger | None,
    ) -> None:
        super().__init__(name, platform)
        self.storeName = storeName
        self.captureTrigger = captureTrigger


class IngestionMultiNode(IngestionNode):
    """Ingests all datasets of a store at one point in time."""

    def __init__(
        self, platform: DataPlatform, storeName: str, captureTrigger: StepTrigger | None
    ) -> None:
        name = f"Ingest/{platform.name}/{storeName}"
        super().__init__(name, platform, storeName, captureTrigger)


class IngestionSingleNode(IngestionNode):
    """Ingests one dataset of a store."""

    def __init__(
        self,
        platform: DataPlatform,
        storeName: str,
        datasetName: str,
        captureTrigger: StepTrigger | None,
    ) -> None:
        name = f"Ingest/{platform.name}/{storeName}/{datasetName}"
        super().__init__(name, platform, storeName, captureTrigger)
        self.datasetName = datasetName


class ExportNode(PipelineNode):
    """Delivers a dataset into the container of its consumers."""

    def __init__(
        self,
        platform: DataPlatform,
        dataContainer: DataContainer,
        storeName: str,
        datasetName: str,
    ) -> None:
        path = f"{dataContainer.name}/{storeName}/{datasetName}"
        super().__init__(f"Export/{platform.name}/{path}", platform)
        self.dataContainer = dataContainer
        self.storeName = storeName
        self.datasetName = datasetName


class DSGRootNode:
    """A dataset group that a platform serves."""

    def __init__(self, workspace: Workspace, dsg: DatasetGroup) -> None:
        self.workspace = workspace
        self.dsg = dsg

    def __str__(self) -> str:
        return f"{self.workspace.name}/{self.dsg.name}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DSGRootNode) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


class PlatformPipelineGraph:
    """The part of the pipeline graph that one platform serves.

    Args:
        eco: The ecosystem, linted.
        platform: The platform.

    Attributes:
        workspaces: The workspaces it serves, by name.
        roots: The dataset groups it serves.
        dataContainerConsumers: The dataset groups served in each container.
        storesToIngest: Names of the stores whose data it needs.
        nodes: The steps, by text form.
    """

    def __init__(self, eco: Ecosystem, platform: DataPlatform) -> None:
        self.eco = eco
        self.platform = platform
        self.workspaces: dict[str, Workspace] = {}
        self.roots: set[DSGRootNode] = set()
        self.dataContainerConsumers: dict[DataContainer, set[DSGRootNode]] = {}
        self.storesToIngest: set[str] = set()
        self.nodes: dict[str, PipelineNode] = {}

    def generateGraph(self) -> None:
        """Fill everything that follows from `roots`."""
        self._addProducers()
        for root in sorted(self.roots, key=str):
            self.workspaces[root.workspace.name] = root.workspace
            for sink in root.dsg.sinks.values():
                self.storesToIngest.add(sink.storeName)
        for storeName in sorted(self.storesToIngest):
            self._addIngestionNodes(self._store(storeName))
        for root in sorted(self.roots, key=str):
            self._addExportNodes(root)

    def _addProducers(self) -> None:
        """Add to `roots` what the transformers read whose output the platform needs."""
        unseen = list(self.roots)
        while unseen:
            root = unseen.pop()
            for sink in root.dsg.sinks.values():
                cmd = self._store(sink.storeName).cmd
                if isinstance(cmd, DataTransformerOutput):
                    producer = self.eco.cache_getWorkspaceOrThrow(cmd.workSpaceName).workspace
                    new = {DSGRootNode(producer, dsg) for dsg in producer.dsgs.values()}
                    unseen += new - self.roots
                    self.roots |= new

    def lint(self, credStore: CredentialStore, tree: ValidationTree) -> None:
        """Add to `tree` what the platform cannot do, and credentials that cannot work."""
        self.platform.createGraphHandler(self).lintGraph(self.eco, credStore, tree)
        self.lintCredentials(credStore, tree)

    def lintCredentials(self, credStore: CredentialStore, tree: ValidationTree) -> None:
        """Add to `tree` the credentials of ingested stores that `credStore` cannot hold."""
        captures = (self._captureOf(name) for name in sorted(self.storesToIngest))
        for cmd in captures:
            if cmd is not None and cmd.credential is not None:
                credStore.lintCredential(cmd.credential, tree.addSubTree(cmd.credential))

    def _store(self, name: str) -> Datastore:
        return self.eco.cache_getDatastoreOrThrow(name).datastore

    def _captureOf(self, storeName: str) -> IngestionMetadata | None:
        cmd = self._store(storeName).cmd
        return cmd if isinstance(cmd, IngestionMetadata) else None

    def _addIngestionNodes(self, store: Datastore) -> None:
        cmd = store.cmd
        trigger = None if cmd is None else cmd.stepTrigger
        for datasetName in store.datasets:
            node: IngestionNode
            if self._isSingle(store):
                node = IngestionSingleNode(self.platform, store.name, datasetName, trigger)
            else:
                node = IngestionMultiNode(self.platform, store.name, trigger)
            self.nodes.setdefault(str(node), node)

    def _addExportNodes(self, root: DSGRootNode) -> None:
        container = root.workspace.dataContainer
        if container is None:
            return
        self.dataContainerConsumers.setdefault(container, set()).add(root)
        for sink in root.dsg.sinks.values():
            export = ExportNode(self.platform, container, sink.storeName, sink.datasetName)
            node = self.nodes.setdefault(str(export), export)
            self._ingestionNode(sink.storeName, sink.datasetName).addRightHandNode(node)

    def _ingestionNode(self, storeName: str, datasetName: str) -> PipelineNode:
        path = f"{storeName}/{datasetName}" if self._isSingle(self._store(storeName)) else storeName
        return self.nodes[f"Ingest/{self.platform.name}/{path}"]

    def _isSingle(self, store: Datastore) -> bool:
        single = IngestionConsistencyType.SINGLE_DATASET
        return store.cmd is not None and store.cmd.singleOrMultiDatasetIngestion is single


class EcosystemPipelineGraph:
    """The pipeline graph of an ecosystem.

    Args:
        eco: The ecosystem, linted, with the assignments of its dataset groups.

    Attributes:
        roots: Each platform's part, by name. A platform that no dataset group is assigned to
            has no part.
    """

    def __init__(self, eco: Ecosystem) -> None:
        self.eco = eco
        self.roots: dict[str, PlatformPipelineGraph] = {}
        for entry in eco.workSpaceCache.values():
            for dsg in entry.workspace.dsgs.values():
                self._assign(DSGRootNode(entry.workspace, dsg))
        for part in self.roots.values():
            part.generateGraph()

    def lint(self, credStore: CredentialStore, tree: ValidationTree) -> None:
        """Add the problems of each platform's part to `tree`."""
        for part in self.roots.values():
            part.lint(credStore, tree.addSubTree(part.platform))

    def _assign(self, root: DSGRootNode) -> None:
        mapping = self.eco.getDSGPlatformMapping(root.workspace.name, root.dsg.name)
        for assignment in mapping.assignments if mapping is not None else []:
            if assignment.status is DatasetGroupDataPlatformMappingStatus.DECOMMISSIONED:
                continue
            platform = self.eco.getDataPlatformOrThrow(assignment.dataPlatform.name)
            part = self.roots.setdefault(platform.name, PlatformPipelineGraph(self.eco, platform))
            part.roots.add(root)
