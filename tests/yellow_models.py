"""Small ecosystem models for the tests, each as large as its test needs."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasurface_host import commands_take_providers

from datasurface import md
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
from yellow_dynamic import YellowDynamicDataPlatform, YellowDynamicPlatformServiceProvider

#: Whether a services provider bootstraps and merges its platforms, as of DataSurface 0.0.56.
PROVIDERS_BOOTSTRAP = hasattr(YellowDataPlatform, "getPSP")
PROVIDER = "Provider"
#: How the names begin of the files, and of the infrastructure DAG, of what the commands serve.
UNIT_START = "provider" if commands_take_providers() else "yellowlive"
LIVE, FORENSIC = (
    (YellowMilestoneStrategy["SCD1"], YellowMilestoneStrategy["SCD2"])
    if PROVIDERS_BOOTSTRAP
    else (YellowMilestoneStrategy["LIVE_ONLY"], YellowMilestoneStrategy["BATCH_MILESTONED"])
)
#: What rows call the ingestion of a database by snapshots.
SQL_KIND = "sql_source" if PROVIDERS_BOOTSTRAP else "sql_snapshot"
#: The keys of RunSettings that DataSurface's own part of a model gives each row.
HINTED: set[str] = {"resources", "priority_weight"} if PROVIDERS_BOOTSTRAP else set()
# A namespace of a real cluster is a new one, which programs that are started here are told of.
if "CLUSTER_IMAGE" in os.environ:
    os.environ.setdefault("CLUSTER_NAMESPACE", f"yellow-dynamic-{secrets.token_hex(3)}")
NAMESPACE = os.getenv("CLUSTER_NAMESPACE", "ns-test")
HOST = f"pg-data.{NAMESPACE}.svc.cluster.local"
#: The image of the jobs, which has yellow_dynamic.
IMAGE = os.getenv("CLUSTER_IMAGE", "registry.example.org/datasurface:1")
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
    credentialType: CredentialType = CredentialType.USER_PASSWORD
    source: str = "source"
    kafka: bool = False
    #: The column whose highest value tells what is new; DataSurface 0.0.56 and 0.0.57.
    watermark: str | None = None

    def build(self) -> Datastore:
        return Datastore(
            self.name,
            documentation=PlainTextDocumentation("A store of the tests"),
            capture_metadata=self._ingestion(),
            datasets=[dataset(name) for name in self.datasets],
        )

    def _ingestion(self) -> Any:
        credential = Credential(self.credential, self.credentialType)
        given = [part for part in (self.trigger, self.consistency, credential) if part is not None]
        if self.kafka:
            brokers = HostPortPairList([HostPortPair(f"kafka.{NAMESPACE}.svc.cluster.local", 9092)])
            return KafkaIngestion(KafkaServer("Kafka", PLACE, brokers), *given)
        source = PostgresDatabase(
            "SourceDB",
            hostPort=HostPortPair(HOST, 5432),
            locations=PLACE,
            databaseName=self.source,
        )
        if self.watermark is not None:
            by_watermark: Any = vars(md)["SQLWatermarkSnapshotDeltaIngestion"]
            return by_watermark(source, self.watermark, Integer(), *given)
        return SQLSnapshotIngestion(source, *given)


def login_keys(secret: str) -> tuple[str, str]:
    """Return the keys of a login in its secret, as jobs read them."""
    if commands_take_providers():
        return f"{secret}_USER", f"{secret}_PASSWORD"
    return "POSTGRES_USER", "POSTGRES_PASSWORD"


def read_login(credential: str, secret: str) -> dict[str, tuple[str, str]]:
    """Return Airflow's variables with the login of a merge store, each with its secret and key.

    Args:
        credential: the name of the merge store's credential in the model.
        secret: its name in Kubernetes.
    """
    names = (f"{credential}_USER", f"{credential}_PASSWORD")
    return {name: (f"{secret}-airflow-reader", name) for name in names}


def login_secret(secret: str, user: str, password: str) -> dict[str, str]:
    """Return what the secret of a login holds."""
    return dict(zip(login_keys(secret), (user, password), strict=True))


def bootstrap(platform: Any, eco: Ecosystem, ring: int) -> dict[str, str]:
    """Return what a ring of bootstrap gives for a platform."""
    bootstrapped = platform.psp if PROVIDERS_BOOTSTRAP else platform
    files: dict[str, str] = bootstrapped.generateBootstrapArtifacts(eco, ring)
    return files


def platforms_of(eco: Ecosystem) -> list[Any]:
    """Return all platforms of a model."""
    if PROVIDERS_BOOTSTRAP:
        providers = vars(eco)["platformServicesProviders"]
        return [platform for psp in providers for platform in psp.dataPlatforms.values()]
    return list(eco.dataPlatforms.values())


def change_provider(platform: Any, name: str, value: Any) -> None:
    """Change what a platform's services provider has, by its name in most releases."""
    part = platform.psp
    if PROVIDERS_BOOTSTRAP and name == "namespace":
        part = part.yp_assm
    elif PROVIDERS_BOOTSTRAP and name in CACHE_NAMES:
        part, name = part.yp_assm.git_cache_config, CACHE_NAMES[name]
    assert hasattr(part, name)
    setattr(part, name, value)


#: What DataSurface 0.0.56 and 0.0.57 call the settings of the model's cache.
CACHE_NAMES = {
    "git_cache_enabled": "enabled",
    "git_cache_storage_class": "storageClass",
    "git_cache_access_mode": "access_mode",
    "git_cache_storage_size": "storage_size",
    "git_cache_max_age_minutes": "git_cache_max_age_minutes",
    "git_cache_claim": "pvc_name",
    "git_cache_folder": "cacheLocalPath",
}


def as_assembly(namespace: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return a provider's arguments with those of namespace and cache as DataSurface 0.0.57 has
    them."""
    module: Any = importlib.import_module("datasurface.platforms.yellow.assembly")
    own = dict(arguments)
    cache = {theirs: own.pop(ours) for ours, theirs in CACHE_NAMES.items() if ours in own}
    # What the other releases have without being told.
    cache = {"pvc_name": "test-git-model-cache", "cacheLocalPath": "/cache/git-models"} | cache
    assembly = module.YellowExternalSingleDatabaseAssembly(
        "Assembly",
        namespace,
        module.GitCacheConfig(**cache),
        HostPortPair(f"airflow.{namespace}.svc.cluster.local", 8080),
    )
    return {"yp_assembly": assembly, **own}


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
    provider: str = PROVIDER
    platformClass: type[YellowDataPlatform] = YellowDynamicDataPlatform
    platformArguments: dict[str, Any] = field(default_factory=dict)
    providerClass: type[YellowPlatformServiceProvider] = YellowDynamicPlatformServiceProvider
    providerArguments: dict[str, Any] = field(default_factory=dict)
    #: The classes of further platforms of the same services provider, by their names.
    others: dict[str, type[YellowDataPlatform]] = field(default_factory=dict)
    postgresCredential: str = "postgres"
    gitCredential: str = "git"
    namespace: str = NAMESPACE
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
    #: The name of the WorkloadTier of the assigned workspace; DataSurface 0.0.56 and 0.0.57.
    priority: str | None = None

    @property
    def unit(self) -> str:
        """What the two commands are run for."""
        return self.provider if PROVIDERS_BOOTSTRAP else self.platform

    def build(self) -> Ecosystem:
        """Return the ecosystem; it is not linted yet."""
        eco = Ecosystem(
            self.name,
            **self._repositories(),
            **self._platforms(),
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

    def _platforms(self) -> dict[str, Any]:
        """Return the platforms as the ecosystem takes them: within their provider, or besides."""
        platform = self.buildPlatform()
        if PROVIDERS_BOOTSTRAP:
            return {"platform_services_providers": [vars(platform)["psp"]]}
        default: Any = vars(md)["DefaultDataPlatform"](DataPlatformKey(self.platform))
        return {"data_platforms": [platform], "default_data_platform": default}

    def buildPlatform(self) -> YellowDataPlatform:
        login = Credential(self.postgresCredential, CredentialType.USER_PASSWORD)
        if PROVIDERS_BOOTSTRAP:
            classes = {self.platform: self.platformClass, **self.others}
            platforms = [self._platform(name, kind) for name, kind in classes.items()]
            self._provider(
                mergeRW_Credential=login,
                dataPlatforms=platforms,
                **as_assembly(self.namespace, self.providerArguments),
            )
            return platforms[0]
        own = {"namespace": self.namespace, "postgresCredential": login, **self.providerArguments}
        return self._platform(self.platform, self.platformClass, self._provider(**own))

    def _provider(self, **arguments: Any) -> YellowPlatformServiceProvider:
        return self.providerClass(
            self.provider,
            PLACE,
            PlainTextDocumentation("The services of the tests"),
            gitCredential=Credential(self.gitCredential, CredentialType.API_TOKEN),
            connectCredentials=Credential("connect", CredentialType.API_TOKEN),
            merge_datacontainer=PostgresDatabase(
                "MergeDB",
                hostPort=HostPortPair(self.host, 5432),
                locations=PLACE,
                databaseName=self.database,
            ),
            **{"datasurfaceDockerImage": IMAGE, **arguments},
        )

    def _platform(
        self, name: str, kind: type[YellowDataPlatform], *provider: YellowPlatformServiceProvider
    ) -> YellowDataPlatform:
        strategy = FORENSIC if self.forensic else LIVE
        own = self.platformArguments if issubclass(kind, YellowDynamicDataPlatform) else {}
        doc = PlainTextDocumentation("The platform of the tests")
        given: list[Any] = [name, doc, *provider, strategy]
        return kind(*given, **own)

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
                    "dataPlatform": name,
                    "documentation": "All of it",
                    "productionStatus": "PRODUCTION",
                    "deprecationsAllowed": "NEVER",
                    "status": "PROVISIONED",
                }
                for name in (self.platform, *self.others)
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
            *self._priority(),
        )

    def _priority(self) -> Iterator[Any]:
        if self.priority is not None:
            yield vars(md)["WorkspacePriority"](vars(md)["WorkloadTier"][self.priority])

    def _ownRepo(self, part: str) -> GitHubRepository:
        return GitHubRepository("acme/models", f"{part}_main")
