"""One PostgreSQL source, ingested twice, for DataSurface 0.0.56 and 0.0.57.

There a services provider bootstraps and merges its platforms, so that two names change.
"""

from datasurface.md import (
    CloudVendor,
    ConsumerRetentionRequirements,
    Credential,
    CronTrigger,
    DataLatency,
    DataMilestoningStrategy,
    DataPlatformManagedDataContainer,
    Dataset,
    DatasetGroup,
    DatasetSink,
    Datastore,
    Ecosystem,
    GovernanceZoneDeclaration,
    HostPortPair,
    InfrastructureLocation,
    InfrastructureVendor,
    IngestionConsistencyType,
    LocationKey,
    PostgresDatabase,
    SQLSnapshotIngestion,
    TeamDeclaration,
    Workspace,
    WorkspacePlatformConfig,
)
from datasurface.md.credential import CredentialType
from datasurface.md.documentation import PlainTextDocumentation
from datasurface.md.policy import SimpleDC, SimpleDCTypes
from datasurface.md.repo import GitHubRepository
from datasurface.md.schema import DDLColumn, DDLTable, NullableStatus, PrimaryKeyStatus
from datasurface.md.types import VarChar
from datasurface.platforms.yellow import YellowMilestoneStrategy
from datasurface.platforms.yellow.assembly import (
    GitCacheConfig,
    YellowExternalSingleDatabaseAssembly,
)

# The two names that change. They were:
# from datasurface.platforms.yellow import YellowDataPlatform, YellowPlatformServiceProvider
from yellow_dynamic import YellowDynamicDataPlatform, YellowDynamicPlatformServiceProvider

NAMESPACE = "ns-kub-pg-test"
LOCATIONS = {LocationKey("MyCorp:USA/NY_1")}
REPOSITORY = "billynewport/mvpmodel"
#: An image with DataSurface and yellow_dynamic; docs/images.md says how to build it.
IMAGE = "registry.example.org/datasurface:1"

POSTGRES = Credential("postgres", CredentialType.USER_PASSWORD)
GIT = Credential("git", CredentialType.API_TOKEN)
CONNECT = Credential("connect", CredentialType.API_TOKEN)


def createEcosystem() -> Ecosystem:
    """Return the model; DataSurface calls this."""
    eco = Ecosystem(
        "Test",
        GitHubRepository(REPOSITORY, "edited", credential=GIT),
        liveRepo=GitHubRepository(REPOSITORY, "main", credential=GIT),
        platform_services_providers=[createProvider()],
        governance_zone_declarations=[
            GovernanceZoneDeclaration("demo_gz", GitHubRepository(REPOSITORY, "demo_gz_main"))
        ],
        infrastructure_vendors=[
            InfrastructureVendor(
                "MyCorp",
                cloud_vendor=CloudVendor.PRIVATE,
                documentation=PlainTextDocumentation("Our own data centers"),
                locations=[
                    InfrastructureLocation("USA", locations=[InfrastructureLocation("NY_1")])
                ],
            )
        ],
        documentation=PlainTextDocumentation("A store of customers"),
    )
    zone = eco.getZoneOrThrow("demo_gz")
    zone.add(TeamDeclaration("team1", GitHubRepository(REPOSITORY, "team1_main")))
    zone.getTeamOrThrow("team1").add(createStore(), createConsumer())
    return eco


def createProvider() -> YellowDynamicPlatformServiceProvider:
    """Return the platforms and what they share: namespace, logins, image and merge store."""
    return YellowDynamicPlatformServiceProvider(
        "Test_DP",
        LOCATIONS,
        PlainTextDocumentation("Airflow, Kubernetes and the merge store"),
        gitCredential=GIT,
        connectCredentials=CONNECT,
        mergeRW_Credential=POSTGRES,
        merge_datacontainer=createDatabase("MergeDB", "datasurface_merge"),
        datasurfaceDockerImage=IMAGE,
        yp_assembly=YellowExternalSingleDatabaseAssembly(
            "Test_DP",
            NAMESPACE,
            GitCacheConfig(storageClass="standard"),
            HostPortPair(f"airflow.{NAMESPACE}.svc.cluster.local", 8080),
        ),
        dataPlatforms=[
            createPlatform("YellowLive", YellowMilestoneStrategy.SCD1),
            createPlatform("YellowForensic", YellowMilestoneStrategy.SCD2),
        ],
    )


def createPlatform(name: str, strategy: YellowMilestoneStrategy) -> YellowDynamicDataPlatform:
    """Return a platform; `strategy` says which states of a record it keeps."""
    return YellowDynamicDataPlatform(
        name, PlainTextDocumentation(f"Keeps the data {strategy.value}"), strategy
    )


def createDatabase(name: str, database: str) -> PostgresDatabase:
    """Return a database on the one PostgreSQL server."""
    server = HostPortPair(f"pg-data.{NAMESPACE}.svc.cluster.local", 5432)
    return PostgresDatabase(name, hostPort=server, locations=LOCATIONS, databaseName=database)


def createStore() -> Datastore:
    """Return the source: one table, captured every minute."""
    columns = [
        DDLColumn("id", VarChar(20), NullableStatus.NOT_NULLABLE, PrimaryKeyStatus.PK),
        DDLColumn("name", VarChar(100)),
    ]
    customers = Dataset(
        "customers",
        documentation=PlainTextDocumentation("The customers"),
        classifications=[SimpleDC(SimpleDCTypes.PC3, "Customer")],
        schema=DDLTable(columns=columns),
    )
    return Datastore(
        "Store1",
        documentation=PlainTextDocumentation("Customers"),
        capture_metadata=SQLSnapshotIngestion(
            createDatabase("CustomerDB", "customer_db"),
            CronTrigger("Every 1 minute", "* * * * *"),
            IngestionConsistencyType.MULTI_DATASET,
            POSTGRES,
        ),
        datasets=[customers],
    )


def createConsumer() -> Workspace:
    """Return the consumer; dsg_platform_mapping.json says which platform serves which group."""
    groups = {
        "LiveDSG": DataMilestoningStrategy.LIVE_ONLY,
        "ForensicDSG": DataMilestoningStrategy.FORENSIC,
    }
    return Workspace(
        "Consumer1",
        DataPlatformManagedDataContainer("Consumer1 container"),
        *(createGroup(name, strategy) for name, strategy in groups.items()),
    )


def createGroup(name: str, strategy: DataMilestoningStrategy) -> DatasetGroup:
    """Return a group that needs these states of a record."""
    needs = ConsumerRetentionRequirements(strategy, DataLatency.MINUTES, regulator=None)
    return DatasetGroup(
        name,
        sinks=[DatasetSink("Store1", "customers")],
        platform_chooser=WorkspacePlatformConfig(needs),
    )
