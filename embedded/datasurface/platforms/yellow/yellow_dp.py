"""The Yellow platform: Airflow starts jobs on Kubernetes that fill a PostgreSQL merge store."""

from __future__ import annotations

import re
from enum import Enum
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from sqlalchemy import TIMESTAMP, Column, MetaData, String, Table

from datasurface.md import (
    CloudVendor,
    DataContainer,
    DataPlatform,
    DataPlatformExecutor,
    DataPlatformGraphHandler,
    DataPlatformManagedDataContainer,
    Dataset,
    Datastore,
    Ecosystem,
    EcosystemPipelineGraph,
    HostPortPair,
    KafkaIngestion,
    LocationKey,
    PlatformPipelineGraph,
    PlatformServicesProvider,
    PostgresDatabase,
    SQLSnapshotIngestion,
    ValidationTree,
    Workspace,
    WorkspacePlatformConfig,
)
from datasurface.md.credential import (
    Credential,
    CredentialStore,
    CredentialType,
    CredentialTypeNotSupportedProblem,
)
from datasurface.md.documentation import Documentation
from datasurface.md.governance import (
    DataMilestoningStrategy,
    DatasetConsistencyNotSupported,
    IngestionConsistencyType,
    IngestionMetadata,
)
from datasurface.md.lint import (
    AttributeNotSet,
    ConstraintViolation,
    ObjectMissing,
    ObjectNotSupportedByDataPlatform,
    ProblemSeverity,
    UnknownObjectReference,
)
from datasurface.md.repo import GitHubRepository
from datasurface.md.sqlalchemyutils import createOrUpdateTable
from datasurface.platforms.yellow.credential_store import KubernetesEnvVarsCredentialStore
from datasurface.platforms.yellow.dag_settings import (
    DEFAULT_SCHEDULE,
    platformSettings,
    pythonLiteral,
    streamSettings,
)
from datasurface.platforms.yellow.db_utils import createEngine
from datasurface.platforms.yellow.job_utilities import JobUtilities, YellowDatasetUtilities
from datasurface.platforms.yellow.kafka import KafkaConnectCluster, SinkConnector, renderTerraform
from datasurface.platforms.yellow.manifests import bootstrapManifests, renderYaml
from datasurface.platforms.yellow.milestoning import YellowMilestoneStrategy
from datasurface.platforms.yellow.naming import (
    isLegalNamespace,
    toK8sName,
)
from datasurface.platforms.yellow.schema_projector import YellowSchemaProjector
from datasurface.platforms.yellow.secrets_doc import (
    INGESTION_SOURCE,
    PLATFORM_CORE,
    RequiredSecret,
    kafkaConnectKeys,
    mergeSecrets,
    mergeStoreKeys,
    renderSecretsDocumentation,
)

__all__ = [
    "JobStatus",
    "JobUtilities",
    "KafkaConnectCluster",
    "KubernetesEnvVarsCredentialStore",
    "YellowDataPlatform",
    "YellowDatasetUtilities",
    "YellowGraphHandler",
    "YellowMilestoneStrategy",
    "YellowPlatformExecutor",
    "YellowPlatformServiceProvider",
]

#: A platform's name is part of file names, of table names and of command lines.
_PLATFORM_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,127}")
_ACCESS_MODES: Final = ("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod")
_STORAGE_SIZE: Final = re.compile(r"[1-9][0-9]*(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?")
_KAFKA_PORT: Final = 9092
_KAFKA_CONNECT_PORT: Final = 8083
_RETENTION: Final = {
    YellowMilestoneStrategy.LIVE_ONLY: DataMilestoningStrategy.LIVE_ONLY,
    YellowMilestoneStrategy.BATCH_MILESTONED: DataMilestoningStrategy.FORENSIC,
}


class JobStatus(Enum):
    """How a run of a job ended, and so what the DAG that started it does next."""

    #: There is more to do at once.
    KEEP_WORKING = 1
    #: Nothing to do until the next trigger.
    DONE = 0
    #: The run failed.
    ERROR = -1


class YellowPlatformExecutor(DataPlatformExecutor):
    """Runs the platform's jobs: Airflow and Kubernetes do, so there is nothing to set."""

    def lint(self, eco: Ecosystem, tree: ValidationTree) -> None:
        """Find no problem: there is nothing to get wrong."""


class YellowPlatformServiceProvider(PlatformServicesProvider):
    """What one or more Yellow platforms share: namespace, logins, merge store and model cache.

    Args:
        name: The provider's name.
        locs: Where it runs.
        doc: What it is for.
        namespace: The Kubernetes namespace of all its pods and Secrets.
        postgresCredential: The merge store's login, of type USER_PASSWORD.
        gitCredential: Reads the model's repository, of type API_TOKEN.
        connectCredentials: Kafka Connect's login, of type API_TOKEN or API_KEY_PAIR.
        merge_datacontainer: The merge store.
        kafkaConnectName: The name of the Kafka Connect deployment.
        kafkaClusterName: The name of the Kafka deployment.
        airflowName: The name of the Airflow deployment.
        datasurfaceDockerImage: The image that pods run.
        git_cache_storage_class: The storage class of the volume on which pods share the model.
        git_cache_access_mode: That volume's Kubernetes access mode.
        git_cache_storage_size: That volume's size, as Kubernetes writes it.
        git_cache_max_age_minutes: For how many minutes a copy of the model is current.
        git_cache_enabled: Whether there is such a volume.
    """

    def __init__(
        self,
        name: str,
        locs: set[LocationKey],
        doc: Documentation,
        namespace: str,
        postgresCredential: Credential,
        gitCredential: Credential,
        connectCredentials: Credential,
        merge_datacontainer: PostgresDatabase,
        kafkaConnectName: str = "kafka-connect",
        kafkaClusterName: str = "kafka",
        airflowName: str = "airflow",
        datasurfaceDockerImage: str = "datasurface/datasurface:latest",
        git_cache_storage_class: str = "standard",
        git_cache_access_mode: str = "ReadWriteOnce",
        git_cache_storage_size: str = "5Gi",
        git_cache_max_age_minutes: int = 5,
        git_cache_enabled: bool = True,
    ) -> None:
        super().__init__(
            name, locs, KubernetesEnvVarsCredentialStore(f"{name}-cred-store", locs, namespace)
        )
        self.doc = doc
        self.namespace = namespace
        self.postgresCredential = postgresCredential
        self.gitCredential = gitCredential
        self.connectCredentials = connectCredentials
        self.merge_datacontainer = merge_datacontainer
        self.mergeStore = merge_datacontainer
        self.kafkaConnectName = kafkaConnectName
        self.kafkaClusterName = kafkaClusterName
        self.airflowName = airflowName
        self.datasurfaceDockerImage = datasurfaceDockerImage
        self.git_cache_storage_class = git_cache_storage_class
        self.git_cache_access_mode = git_cache_access_mode
        self.git_cache_storage_size = git_cache_storage_size
        self.git_cache_max_age_minutes = git_cache_max_age_minutes
        self.git_cache_enabled = git_cache_enabled
        self.namingMapper = merge_datacontainer.getNamingAdapter()
        self.kafkaConnectCluster = KafkaConnectCluster(
            kafkaConnectName,
            locs,
            HostPortPair(self._serviceHost(kafkaConnectName), _KAFKA_CONNECT_PORT),
            self._getKafkaBootstrapServers(),
        )

    @staticmethod
    def isLegalKubernetesNamespaceName(name: str) -> bool:
        """Tell whether Kubernetes takes `name` as a namespace."""
        return isLegalNamespace(name)

    def lint(self, eco: Ecosystem, tree: ValidationTree) -> None:
        """Add the problems of the provider and of the graph of its platforms to `tree`."""
        self.lintConfiguration(eco, tree)
        if not tree.hasErrors():
            super().lint(eco, tree)

    def lintConfiguration(self, eco: Ecosystem, tree: ValidationTree) -> None:
        """Add the problems of the provider's own settings and of all repositories to `tree`."""
        if not isLegalNamespace(self.namespace):
            tree.addProblem(
                f"Kubernetes does not take {self.namespace!r} as a namespace: use up to 63 lower "
                "case letters, digits and hyphens, with no hyphen at either end."
            )
        self.credStore.lint(tree.addSubTree(self.credStore))
        self._lintCredentials(tree)
        self._lintMergeStore(eco, tree)
        self._lintDeployment(tree)
        eco.checkAllRepositoriesInEcosystem(tree, [GitHubRepository])

    def mergeHandler(self, eco: Ecosystem) -> None:
        """Render the graph of each of this provider's platforms, without writing the files.

        Args:
            eco: The ecosystem, with its caches filled.

        Raises:
            ValueError: The graph of a platform has errors; they are in the message.
        """
        for graph in EcosystemPipelineGraph(eco).roots.values():
            platform = graph.platform
            if isinstance(platform, YellowDataPlatform) and platform.psp is self:
                tree = ValidationTree(eco)
                platform.createGraphHandler(graph).renderGraph(self.credStore, tree)
                _raiseErrors(platform.name, tree)

    def to_json(self) -> dict[str, Any]:
        """Describe the provider; secrets are not in it, only the names of credentials."""
        return super().to_json() | {
            "namespace": self.namespace,
            "mergeStore": self.mergeStore.to_json(),
            "postgresCredential": self.postgresCredential.to_json(),
            "gitCredential": self.gitCredential.to_json(),
            "connectCredentials": self.connectCredentials.to_json(),
            "datasurfaceDockerImage": self.datasurfaceDockerImage,
        }

    def _getKafkaBootstrapServers(self) -> str:
        return f"{self._serviceHost(self.kafkaClusterName)}:{_KAFKA_PORT}"

    def _serviceHost(self, deployment: str) -> str:
        return f"{toK8sName(deployment)}-service.{self.namespace}.svc.cluster.local"

    def _lintCredentials(self, tree: ValidationTree) -> None:
        allowed = [
            (self.postgresCredential, [CredentialType.USER_PASSWORD]),
            (self.gitCredential, [CredentialType.API_TOKEN]),
            (self.connectCredentials, [CredentialType.API_TOKEN, CredentialType.API_KEY_PAIR]),
        ]
        for credential, types in allowed:
            subTree = tree.addSubTree(credential)
            if credential.credentialType in types:
                self.credStore.lintCredential(credential, subTree)
            else:
                subTree.addRaw(CredentialTypeNotSupportedProblem(credential, types))

    def _lintMergeStore(self, eco: Ecosystem, tree: ValidationTree) -> None:
        subTree = tree.addSubTree(self.mergeStore)
        if isinstance(self.mergeStore, PostgresDatabase):
            self.mergeStore.lint(eco, subTree)
        else:
            subTree.addRaw(ObjectNotSupportedByDataPlatform(self.mergeStore, [PostgresDatabase]))

    def _lintDeployment(self, tree: ValidationTree) -> None:
        if not toK8sName(self.airflowName):
            tree.addProblem(f"The Airflow name {self.airflowName!r} has no letter and no digit.")
        if not self.datasurfaceDockerImage:
            tree.addRaw(AttributeNotSet("datasurfaceDockerImage"))
        if not self.git_cache_enabled:
            return
        if self.git_cache_access_mode not in _ACCESS_MODES:
            tree.addProblem(
                f"The access mode {self.git_cache_access_mode!r} of the model cache is unknown to "
                f"Kubernetes; use one of {', '.join(_ACCESS_MODES)}."
            )
        if type(self.git_cache_max_age_minutes) is not int or self.git_cache_max_age_minutes < 0:
            tree.addProblem(
                f"The age {self.git_cache_max_age_minutes!r} of the model cache is not a number "
                "of minutes; use a whole number from 0."
            )
        if _STORAGE_SIZE.fullmatch(self.git_cache_storage_size) is None:
            tree.addProblem(
                f"The size {self.git_cache_storage_size!r} of the model cache is not a size that "
                "Kubernetes reads; write it as in 5Gi."
            )


class YellowDataPlatform(DataPlatform):
    """Ingests datastores into PostgreSQL: one Airflow DAG per stream, one pod per run.

    Args:
        name: The platform's name: up to 128 letters, digits, spaces and `_.-`, the first of them a
            letter or digit.
        doc: What it is for.
        platformServiceProvider: What it shares with other platforms.
        milestoneStrategy: What its merge tables keep of each record.
        kafkaConnectName: Has no effect; the services provider's name counts.
        kafkaClusterName: Has no effect; the services provider's name counts.
    """

    def __init__(
        self,
        name: str,
        doc: Documentation,
        platformServiceProvider: YellowPlatformServiceProvider,
        milestoneStrategy: YellowMilestoneStrategy = YellowMilestoneStrategy.LIVE_ONLY,
        kafkaConnectName: str = "kafka-connect",  # noqa: ARG002 (part of the public signature)
        kafkaClusterName: str = "kafka",  # noqa: ARG002 (part of the public signature)
    ) -> None:
        super().__init__(name, doc, YellowPlatformExecutor())
        self.psp = platformServiceProvider
        self.milestoneStrategy = milestoneStrategy

    @staticmethod
    def to_k8s_name(name: str) -> str:
        """Return `name` as Kubernetes objects are named; not for host names."""
        return toK8sName(name)

    def getCredentialStore(self) -> CredentialStore:
        """Return where the platform's jobs find their logins."""
        return self.psp.credStore

    def getTableForPlatform(self, tableName: str) -> str:
        """Return the name of one of the platform's own tables, before it is fitted to a database.

        Args:
            tableName: The table's purpose, such as `batch_counter`.
        """
        return f"{self.name}_{tableName}".lower()

    def getPhysDAGTableName(self) -> str:
        """Return the name, in the merge store, of the table with ingestion streams."""
        return self.psp.namingMapper.mapNoun(self.getTableForPlatform("airflow_dsg"))

    def getAirflowDAGTable(self) -> Table:
        """Describe the table with one row per ingestion stream.

        This platform writes its streams to files instead, and so does not create the table.
        """
        return Table(
            self.getPhysDAGTableName(),
            MetaData(),
            Column("stream_key", String(255), primary_key=True),
            Column("config_json", String(2048)),
            Column("status", String(50)),
            Column("created_at", TIMESTAMP()),
            Column("updated_at", TIMESTAMP()),
        )

    def getSupportedVendors(self, eco: Ecosystem) -> set[CloudVendor]:  # noqa: ARG002
        """Return all vendors: Kubernetes runs anywhere."""
        return set(CloudVendor)

    def isWorkspaceDataContainerSupported(
        self,
        eco: Ecosystem,  # noqa: ARG002 (part of the interface)
        dc: DataContainer,
    ) -> bool:
        """Tell whether workspaces can have their data in `dc`: only where the platform puts it."""
        return isinstance(dc, DataPlatformManagedDataContainer)

    def nameLint(self, tree: ValidationTree) -> None:
        """Add a problem to `tree` when the platform's name cannot name files and tables."""
        if _PLATFORM_NAME.fullmatch(self.name) is None:
            tree.addProblem(
                f"The platform name {self.name!r} becomes part of file names: use up to 128 "
                "letters, digits, spaces, underscores, dots and hyphens, and begin with a letter "
                "or a digit."
            )

    def lint(self, eco: Ecosystem, tree: ValidationTree) -> None:
        """Add the problems of the platform and of its services provider to `tree`."""
        super().lint(eco, tree)
        self._lintK8sName(eco, tree)
        self.psp.lintConfiguration(eco, tree.addSubTree(self.psp))

    def lintWorkspace(
        self,
        eco: Ecosystem,  # noqa: ARG002 (part of the interface)
        tree: ValidationTree,
        ws: Workspace,
        dsgName: str,
    ) -> None:
        """Add a problem to `tree` for each reason why the platform cannot serve a dataset group.

        Args:
            eco: The ecosystem.
            tree: Takes the problems.
            ws: The workspace.
            dsgName: The name of one of its dataset groups.
        """
        if not isinstance(ws.dataContainer, DataPlatformManagedDataContainer):
            supported = [DataPlatformManagedDataContainer]
            tree.addRaw(ObjectNotSupportedByDataPlatform(ws.dataContainer, supported))
        dsg = ws.dsgs.get(dsgName)
        if dsg is None:
            tree.addRaw(UnknownObjectReference(f"dataset group {dsgName} of workspace {ws.name}"))
            return
        config = dsg.platformMD
        if not isinstance(config, WorkspacePlatformConfig):
            tree.addRaw(ObjectMissing(dsg, "WorkspacePlatformConfig as its platform chooser"))
            return
        needed = _RETENTION[self.milestoneStrategy]
        asked = config.retention.milestoningStrategy
        if asked != needed:
            tree.addRaw(
                ConstraintViolation(
                    f"The dataset group {dsgName!r} of workspace {ws.name!r} asks for "
                    f"{asked.name}, but the platform {self.name!r} keeps {needed.name}; change "
                    "its retention, or assign it to another platform."
                )
            )

    def createSchemaProjector(self, eco: Ecosystem) -> YellowSchemaProjector:
        """Return what computes the schemas of the platform's staging and merge tables."""
        return YellowSchemaProjector(eco, self)

    def createGraphHandler(self, graph: PlatformPipelineGraph) -> DataPlatformGraphHandler:
        """Return what checks and renders this platform's part of the pipelines."""
        return YellowGraphHandler(self, graph)

    def generateBootstrapArtifacts(self, eco: Ecosystem, ringLevel: int) -> dict[str, str]:
        """Make what the platform needs before its first run.

        Args:
            eco: The ecosystem.
            ringLevel: 0 returns files and touches nothing; 1 creates the platform's batch tables
                in the merge store.

        Returns:
            The text of each file by its name; nothing for ring 1.

        Raises:
            ValueError: There is no such ring, or the model has a name that cannot be rendered.
            CredentialNotAvailableException: Ring 1 finds no login for the merge store.
        """
        if ringLevel == 0:
            return self._ring0(eco)
        if ringLevel == 1:
            self._createBatchTables(eco)
            return {}
        raise ValueError(
            f"Platform {self.name!r} has no bootstrap ring {ringLevel}; use 0 for the files or "
            "1 for the tables."
        )

    def resetBatchState(
        self, eco: Ecosystem, storeName: str, datasetName: str | None = None
    ) -> str:
        """Make the current batch of a stream start anew.

        Args:
            eco: The ecosystem.
            storeName: The datastore of the stream.
            datasetName: The dataset of a single-dataset stream.

        Returns:
            "SUCCESS", or "ERROR: " and the reason.
        """
        # The jobs import this module.
        from datasurface.platforms.yellow.jobs import resetBatchState

        return resetBatchState(eco, self, storeName, datasetName)

    def to_json(self) -> dict[str, Any]:
        """Describe the platform."""
        return super().to_json() | {
            "milestoneStrategy": self.milestoneStrategy.value,
            "psp": self.psp.name,
        }

    def _lintK8sName(self, eco: Ecosystem, tree: ValidationTree) -> None:
        if not toK8sName(eco.name):
            tree.addProblem(f"The ecosystem name {eco.name!r} has no letter and no digit of ASCII.")
        for other in eco.dataPlatforms.values():
            if other.name < self.name and toK8sName(other.name) == toK8sName(self.name):
                tree.addProblem(
                    f"The platforms {other.name!r} and {self.name!r} would both be called "
                    f"{toK8sName(self.name)!r} in Kubernetes and in Airflow; rename one of them."
                )

    def _ring0(self, eco: Ecosystem) -> dict[str, str]:
        settings = platformSettings(eco, self)
        template = _environment().get_template("infrastructure_dag.py.j2")
        dag = template.render(settings_literal=pythonLiteral(settings))
        return {
            "kubernetes-bootstrap.yaml": renderYaml(bootstrapManifests(eco, self.psp)),
            f"{settings['platform_name']}_infrastructure_dag.py": dag,
        }

    def _createBatchTables(self, eco: Ecosystem) -> None:
        utilities = JobUtilities(eco, self.getCredentialStore(), self)
        user, password = self.getCredentialStore().getAsUserPassword(self.psp.postgresCredential)
        engine = createEngine(self.psp.mergeStore, user, password)
        try:
            createOrUpdateTable(engine, utilities.getBatchCounterTable())
            createOrUpdateTable(engine, utilities.getBatchMetricsTable())
        finally:
            engine.dispose()


class YellowGraphHandler(DataPlatformGraphHandler):
    """Checks and renders what one Yellow platform ingests.

    Args:
        dp: The platform.
        graph: Its part of the ecosystem's pipelines.
    """

    def __init__(self, dp: YellowDataPlatform, graph: PlatformPipelineGraph) -> None:
        super().__init__(graph)
        self.dp = dp
        self.env = _environment()

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
        for store in self._stores(eco):
            _lintIngestion(self.dp, store, tree.addSubTree(store))
        self._lintSecretNames(eco, tree)
        self._lintTableNames(eco, tree)

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
        template = self.env.get_template("ingestion_stream_dag.py.j2")
        return {
            f"{stream['platform_name']}__{stream['stream_key']}_ingestion.py": template.render(
                settings_literal=pythonLiteral(stream)
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
        return renderSecretsDocumentation(
            self.dp.name, self.dp.psp.namespace, self._requiredSecrets(eco)
        )

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

    def _requiredSecrets(self, eco: Ecosystem) -> list[RequiredSecret]:
        psp = self.dp.psp
        required = [
            RequiredSecret(
                psp.postgresCredential,
                PLATFORM_CORE,
                ["pods, for the merge store", "Airflow's scheduler and DAG processor"],
                mergeStoreKeys(psp.postgresCredential),
            ),
            RequiredSecret(psp.gitCredential, PLATFORM_CORE, ["pods, for the model's repository"]),
        ]
        return mergeSecrets([*required, *self._sourceSecrets(eco)])

    def _sourceSecrets(self, eco: Ecosystem) -> list[RequiredSecret]:
        secrets = []
        for store in self._stores(eco):
            purpose = [f"pods that ingest datastore `{store.name}`"]
            if isinstance(store.cmd, KafkaIngestion):
                connect = self.dp.psp.connectCredentials
                secrets.append(RequiredSecret(connect, PLATFORM_CORE, purpose, kafkaConnectKeys()))
            elif isinstance(store.cmd, SQLSnapshotIngestion) and store.cmd.credential is not None:
                secrets.append(RequiredSecret(store.cmd.credential, INGESTION_SOURCE, purpose))
        return secrets

    def _lintSecretNames(self, eco: Ecosystem, tree: ValidationTree) -> None:
        owners: dict[str, Credential] = {}
        for secret in self._requiredSecrets(eco):
            owner = owners.setdefault(secret.name, secret.credential)
            if owner != secret.credential:
                tree.addProblem(
                    f"The credentials {owner} and {secret.credential} would both be read from the "
                    f"Kubernetes Secret {secret.name!r}; rename one of them."
                )

    def _lintTableNames(self, eco: Ecosystem, tree: ValidationTree) -> None:
        owners: dict[str, str] = {}
        for store in self._stores(eco):
            utilities = YellowDatasetUtilities(eco, self.dp.psp.credStore, self.dp, store)
            for dataset in store.datasets.values():
                name = f"{store.name}.{dataset.name}"
                for table in (
                    utilities.getPhysStagingTableNameForDataset(dataset),
                    utilities.getPhysMergeTableNameForDataset(dataset),
                ):
                    owner = owners.setdefault(table, name)
                    if owner != name:
                        tree.addProblem(
                            f"The datasets {owner!r} and {name!r} would share the table "
                            f"{table!r} of the merge store; rename one of them."
                        )


def _lintIngestion(dp: YellowDataPlatform, store: Datastore, tree: ValidationTree) -> None:
    """Add what keeps a store from being ingested, beyond what keeps it from being a stream."""
    cmd = store.cmd
    if isinstance(cmd, KafkaIngestion):
        consistency = cmd.singleOrMultiDatasetIngestion
        if consistency is IngestionConsistencyType.MULTI_DATASET:
            tree.addRaw(DatasetConsistencyNotSupported(store, consistency, dp))
    elif isinstance(cmd, SQLSnapshotIngestion):
        _lintSnapshot(cmd, tree)
    if isinstance(cmd, IngestionMetadata):
        if cmd.singleOrMultiDatasetIngestion is None:
            tree.addRaw(AttributeNotSet("singleOrMultiDatasetIngestion"))
        if cmd.stepTrigger is None:
            tree.addProblem(
                f"The datastore {store.name!r} has no trigger; it is ingested {DEFAULT_SCHEDULE}.",
                ProblemSeverity.WARNING,
            )


def _lintSnapshot(cmd: SQLSnapshotIngestion, tree: ValidationTree) -> None:
    if not isinstance(cmd.dataContainer, PostgresDatabase):
        tree.addRaw(ObjectNotSupportedByDataPlatform(cmd.dataContainer, [PostgresDatabase]))
    if cmd.credential is None:
        tree.addRaw(AttributeNotSet("credential"))
    elif cmd.credential.credentialType is not CredentialType.USER_PASSWORD:
        types = [CredentialType.USER_PASSWORD]
        tree.addRaw(CredentialTypeNotSupportedProblem(cmd.credential, types))


def _raiseErrors(platformName: str, tree: ValidationTree) -> None:
    if tree.hasErrors():
        errors = "; ".join(str(problem) for problem in tree.getErrors())
        raise ValueError(f"The graph of platform {platformName!r} has errors: {errors}")


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("datasurface.platforms.yellow.templates", "jinja"),
        undefined=StrictUndefined,
        # The templates make Python, where HTML escapes would be wrong.
        autoescape=False,
        keep_trailing_newline=True,
    )
