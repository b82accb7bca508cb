"""Small ecosystem models for the tests, each as large as its test needs."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasurface.md import (
    CloudVendor,
    ConsumerRetentionRequirements,
    Credential,
    CronTrigger,
    DataLatency,
    DataMilestoningStrategy,
    DataPlatformKey,
    DataPlatformManagedDataContainer,
    Dataset,
    DatasetGroup,
    DatasetSink,
    Datastore,
    DefaultDataPlatform,
    Ecosystem,
    EcosystemPipelineGraph,
    GovernanceZone,
    GovernanceZoneDeclaration,
    HostPortPair,
    HostPortPairList,
    InfrastructureLocation,
    InfrastructureVendor,
    IngestionConsistencyType,
    KafkaIngestion,
    KafkaServer,
    LocationKey,
    PlatformPipelineGraph,
    PostgresDatabase,
    SQLSnapshotIngestion,
    StepTrigger,
    Team,
    TeamDeclaration,
    ValidationTree,
    Workspace,
    WorkspacePlatformConfig,
)
from datasurface.md.credential import CredentialType
from datasurface.md.documentation import PlainTextDocumentation
from datasurface.md.policy import SimpleDC, SimpleDCTypes
from datasurface.md.repo import GitHubRepository
from datasurface.md.schema import DDLColumn, DDLTable, NullableStatus, PrimaryKeyStatus
from datasurface.md.types import Integer, VarChar
from datasurface.platforms.yellow import (
    YellowDataPlatform,
    YellowMilestoneStrategy,
    YellowPlatformServiceProvider,
)
from yellow_dynamic import YellowDynamicDataPlatform

HOST = "pg-data.ns-test.svc.cluster.local"
PLACE = {LocationKey("MyCorp:NY_1")}
SINGLE = IngestionConsistencyType.SINGLE_DATASET
MULTI = IngestionConsistencyType.MULTI_DATASET
EVERY_MINUTE = CronTrigger("Every minute", "* * * * *")


@dataclass
class Store:
    """What a test says of one datastore."""

    name: str
    datasets: Iterable[str] = ("customers", "addresses")
    consistency: IngestionConsistencyType = MULTI
    trigger: StepTrigger | None = field(default_factory=lambda: EVERY_MINUTE)
    credential: str = "postgres"
    source: str = "source"
    kafka: bool = False

    def build(self) -> Datastore:
        return Datastore(
            self.name,
            documentation=PlainTextDocumentation("A store of the tests"),
            capture_metadata=self._ingestion(),
            datasets=[dataset(name) for name in self.datasets],
        )

    def _ingestion(self) -> Any:
        credential = Credential(self.credential, CredentialType.USER_PASSWORD)
        given = [part for part in (self.trigger, self.consistency, credential) if part is not None]
        if self.kafka:
            brokers = HostPortPairList([HostPortPair("kafka.ns-test.svc.cluster.local", 9092)])
            return KafkaIngestion(KafkaServer("Kafka", PLACE, brokers), *given)
        source = PostgresDatabase(
            "SourceDB",
            hostPort=HostPortPair(HOST, 5432),
            locations=PLACE,
            databaseName=self.source,
        )
        return SQLSnapshotIngestion(source, *given)


def dataset(name: str) -> Dataset:
    """Return a dataset of two columns."""
    return Dataset(
        name,
        documentation=PlainTextDocumentation("A dataset of the tests"),
        classifications=[SimpleDC(SimpleDCTypes.PUB, "public")],
        schema=DDLTable(
            columns=[
                DDLColumn(
                    "id",
                    Integer(),
                    nullable=NullableStatus.NOT_NULLABLE,
                    primary_key=PrimaryKeyStatus.PK,
                ),
                DDLColumn("name", VarChar(100)),
            ]
        ),
    )


def live_repository(eco: Ecosystem) -> Any:
    """Return the repository that the jobs clone; DataSurface 0.0.38 keeps it apart."""
    return getattr(eco, "liveRepo", None) or eco.owningRepo


@dataclass
class Model:
    """What a test says of an ecosystem with one Yellow platform that ingests all its stores."""

    stores: list[Store] = field(default_factory=lambda: [Store("Store1")])
    platform: str = "YellowLive"
    platformClass: type[YellowDataPlatform] = YellowDynamicDataPlatform
    platformArguments: dict[str, Any] = field(default_factory=dict)
    providerArguments: dict[str, Any] = field(default_factory=dict)
    postgresCredential: str = "postgres"
    gitCredential: str = "git"
    namespace: str = "ns-test"
    host: str = HOST
    database: str = "merge"
    repository: str = "acme/models"
    branch: str = "main"
    name: str = "Test"
    forensic: bool = False
    #: Makes the workspaces beside the one that is assigned to the platform.
    workspaces: Callable[[], list[Workspace]] = list
    #: What the assigned workspace reads besides the stores.
    sinks: list[DatasetSink] = field(default_factory=list)

    def build(self) -> Ecosystem:
        """Return the ecosystem; it is not linted yet."""
        eco = Ecosystem(
            self.name,
            **self._repositories(),
            data_platforms=[self.buildPlatform()],
            default_data_platform=DefaultDataPlatform(DataPlatformKey(self.platform)),
            governance_zone_declarations=[GovernanceZoneDeclaration("Zone", self._ownRepo("zone"))],
            infrastructure_vendors=[
                InfrastructureVendor(
                    "MyCorp",
                    cloud_vendor=CloudVendor.PRIVATE,
                    documentation=PlainTextDocumentation("Our own machines"),
                    locations=[
                        InfrastructureLocation(
                            "NY_1", documentation=PlainTextDocumentation("New York")
                        )
                    ],
                )
            ],
            documentation=PlainTextDocumentation("An ecosystem of the tests"),
        )
        zone: GovernanceZone = eco.getZoneOrThrow("Zone")
        zone.add(TeamDeclaration("Team", self._ownRepo("team")))
        team: Team = zone.getTeamOrThrow("Team")
        team.add(*[store.build() for store in self.stores], *self.workspaces(), self._workspace())
        return eco

    def _repositories(self) -> dict[str, Any]:
        """Return where the model is; DataSurface 0.0.38 wants to know where it is edited, too."""
        live = GitHubRepository(self.repository, self.branch)
        if "liveRepo" in inspect.signature(Ecosystem).parameters:
            return {"repo": GitHubRepository("acme/models", "edited"), "liveRepo": live}
        return {"repo": live}

    def buildPlatform(self) -> YellowDataPlatform:
        provider = YellowPlatformServiceProvider(
            "Provider",
            PLACE,
            PlainTextDocumentation("The services of the tests"),
            namespace=self.namespace,
            postgresCredential=Credential(self.postgresCredential, CredentialType.USER_PASSWORD),
            gitCredential=Credential(self.gitCredential, CredentialType.API_TOKEN),
            connectCredentials=Credential("connect", CredentialType.API_TOKEN),
            merge_datacontainer=PostgresDatabase(
                "MergeDB",
                hostPort=HostPortPair(self.host, 5432),
                locations=PLACE,
                databaseName=self.database,
            ),
            **self.providerArguments,
        )
        return self.platformClass(
            self.platform,
            PlainTextDocumentation("The platform of the tests"),
            provider,
            YellowMilestoneStrategy.BATCH_MILESTONED
            if self.forensic
            else YellowMilestoneStrategy.LIVE_ONLY,
            **self.platformArguments,
        )

    def graph(self, folder: Path) -> PlatformPipelineGraph:
        """Return the pipeline graph of the platform, from a linted model without problems."""
        eco = self.build()
        tree = eco.lintAndHydrateCaches()
        assert not tree.hasErrors(), [str(error) for error in tree.getErrors()]
        return self.graphOf(eco, folder)

    def graphOf(self, eco: Ecosystem, folder: Path) -> PlatformPipelineGraph:
        """Return the pipeline graph of the platform after assigning the workspace to it."""
        mapping = folder / "dsg_platform_mapping.json"
        mapping.write_text(json.dumps([self.assignment()]))
        tree = ValidationTree(eco)
        eco.hydrateDSGDataPlatformMappings(str(mapping), tree)
        assert not tree.hasErrors(), [str(error) for error in tree.getErrors()]
        return EcosystemPipelineGraph(eco).roots[self.platform]

    def assignment(self) -> dict[str, Any]:
        """Return the entry of dsg_platform_mapping.json that gives the work to the platform."""
        return {
            "dsgName": "LiveDSG",
            "workspace": "Consumer",
            "assignments": [
                {
                    "dataPlatform": self.platform,
                    "documentation": "All of it",
                    "productionStatus": "PRODUCTION",
                    "deprecationsAllowed": "NEVER",
                    "status": "PROVISIONED",
                }
            ],
        }

    def _workspace(self) -> Workspace:
        retention = ConsumerRetentionRequirements(
            r=DataMilestoningStrategy.FORENSIC
            if self.forensic
            else DataMilestoningStrategy.LIVE_ONLY,
            latency=DataLatency.MINUTES,
            regulator=None,
        )
        sinks = [DatasetSink(store.name, name) for store in self.stores for name in store.datasets]
        return Workspace(
            "Consumer",
            DataPlatformManagedDataContainer("Consumer container"),
            DatasetGroup(
                "LiveDSG",
                sinks=sinks + self.sinks,
                platform_chooser=WorkspacePlatformConfig(retention),
            ),
        )

    def _ownRepo(self, part: str) -> GitHubRepository:
        return GitHubRepository("acme/models", f"{part}_main")
