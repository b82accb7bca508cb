"""Renders what a Yellow platform ingests."""

from __future__ import annotations

from datasurface.md import (
    DataContainer,
    DataPlatformGraphHandler,
    Dataset,
    Datastore,
    Ecosystem,
    KafkaIngestion,
    PlatformPipelineGraph,
    ValidationTree,
)
from datasurface.md.credential import CredentialStore
from datasurface.platforms.yellow.dag_settings import render_dag_file, streamSettings
from datasurface.platforms.yellow.graph_lint import lint_stores
from datasurface.platforms.yellow.job_utilities import YellowDatasetUtilities
from datasurface.platforms.yellow.kafka import SinkConnector, renderTerraform
from datasurface.platforms.yellow.naming import toK8sName
from datasurface.platforms.yellow.platform_base import YellowPlatformBase
from datasurface.platforms.yellow.secrets_doc import (
    renderSecretsDocumentation,
    required_secrets,
)


class YellowGraphHandler(DataPlatformGraphHandler[Ecosystem, PlatformPipelineGraph]):
    """Checks and renders what one Yellow platform ingests.

    Args:
        dp: The platform.
        graph: Its part of the ecosystem's pipelines.
    """

    def __init__(self, dp: YellowPlatformBase, graph: PlatformPipelineGraph) -> None:
        super().__init__(graph)
        self.dp = dp

    def getInternalDataContainers(self) -> set[DataContainer]:
        """Return the containers that the platform itself works in."""
        return {self.dp.psp.mergeStore, self.dp.psp.kafkaConnectCluster}

    def lintGraph(
        self,
        eco: Ecosystem,
        credStore: CredentialStore,  # noqa: ARG002 (part of the interface)
        tree: ValidationTree,
    ) -> None:
        """Add a problem to `tree` for each thing of the graph that the platform cannot run."""
        self.dp.nameLint(tree)
        streamSettings(eco, self.dp, self.graph.storesToIngest, tree)
        lint_stores(eco, self.dp, self._stores(eco), tree)

    def renderGraph(self, credStore: CredentialStore, issueTree: ValidationTree) -> dict[str, str]:
        """Return the files that make Airflow and Kafka Connect run the platform.

        Args:
            credStore: Where the platform's jobs find their logins.
            issueTree: Takes the problems.

        Returns:
            The text of each file by its name; nothing when `issueTree` has an error.
        """
        eco = self.graph.eco
        tree = issueTree.addSubTree(self.dp)
        self.lintGraph(eco, credStore, tree)
        self.graph.lintCredentials(credStore, tree)
        if issueTree.hasErrors():
            return {}
        files = {"terraform_code": self.createTerraformForAllIngestedNodes(eco, issueTree)}
        files.update(self.createAirflowDAGs(eco, issueTree))
        secrets = self.generateSecretsDocumentation(eco, issueTree)
        files[f"{self.dp.name}-secrets.md"] = secrets
        return {} if issueTree.hasErrors() else files

    def createTerraformForAllIngestedNodes(
        self,
        eco: Ecosystem,
        tree: ValidationTree,  # noqa: ARG002 (part of the interface)
    ) -> str:
        """Return Terraform code with a connector per Kafka stream; a comment when there is none.

        Args:
            eco: The ecosystem, with its caches filled.
            tree: Takes the problems.
        """
        psp = self.dp.psp
        connectors = [
            self._sinkConnector(eco, store, dataset)
            for store in self._stores(eco)
            if isinstance(store.cmd, KafkaIngestion)
            for dataset in store.datasets.values()
        ]
        if not connectors:
            return "# No stream of this platform comes from Kafka: Terraform has nothing to do.\n"
        return renderTerraform(psp.kafkaConnectCluster, psp.mergeStore, connectors)

    def createAirflowDAGs(self, eco: Ecosystem, issueTree: ValidationTree) -> dict[str, str]:
        """Return one Airflow DAG file per ingestion stream.

        Args:
            eco: The ecosystem, with its caches filled.
            issueTree: Takes a problem for each thing that cannot become a stream.

        Returns:
            The text of each file by its name; nothing when `issueTree` has an error.
        """
        streams = streamSettings(eco, self.dp, self.graph.storesToIngest, issueTree)
        if issueTree.hasErrors():
            return {}
        return {
            f"{stream['platform_name']}__{stream['stream_key']}_ingestion.py": render_dag_file(
                "ingestion_stream_dag.py.j2", stream
            )
            for stream in streams
        }

    def generateSecretsDocumentation(
        self,
        eco: Ecosystem,
        issueTree: ValidationTree,  # noqa: ARG002 (part of the interface)
    ) -> str:
        """Return a Markdown page with the Kubernetes Secrets to create, and how.

        Args:
            eco: The ecosystem, with its caches filled.
            issueTree: Takes the problems.
        """
        workspaces = self.graph.workspaces.values()
        transformers = [each.dataTransformer for each in workspaces if each.dataTransformer]
        secrets = required_secrets(self.dp.psp, self._stores(eco), transformers)
        return renderSecretsDocumentation(self.dp.name, self.dp.psp.namespace, secrets)

    def _stores(self, eco: Ecosystem) -> list[Datastore]:
        names = sorted(self.graph.storesToIngest)
        return [eco.cache_getDatastoreOrThrow(name).datastore for name in names]

    def _sinkConnector(self, eco: Ecosystem, store: Datastore, dataset: Dataset) -> SinkConnector:
        utilities = YellowDatasetUtilities(eco, self.dp.psp.credStore, self.dp, store)
        return SinkConnector(
            name=f"sink-{toK8sName(self.dp.name)}-{store.name}-{dataset.name}",
            topic=dataset.name,
            table=utilities.getPhysStagingTableNameForDataset(dataset),
        )
