"""One PostgreSQL source with two tables, ingested twice: the current rows, and all history."""

import inspect
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
from datasurface.md.types import Date, VarChar
from datasurface.platforms.yellow import YellowMilestoneStrategy, YellowPlatformServiceProvider

# The one change against static DAG files. It was:
# from datasurface.platforms.yellow import YellowDataPlatform
from yellow_dynamic import YellowDynamicDataPlatform

NAMESPACE = "ns-kub-pg-test"
LOCATIONS = {LocationKey("MyCorp:USA/NY_1")}
REPOSITORY = "billynewport/mvpmodel"
#: An image with DataSurface and yellow_dynamic; docs/images.md says how to build it.
IMAGE = "registry.example.org/datasurface:1"

POSTGRES = Credential("postgres", CredentialType.USER_PASSWORD)
GIT = Credential("git", CredentialType.API_TOKEN)
CONNECT = Credential("connect", CredentialType.API_TOKEN)
SLACK = Credential("slack", CredentialType.API_TOKEN)


def createEcosystem() -> Ecosystem:
    """Return the model; DataSurface calls this."""
    provider = createProvider()
    eco = Ecosystem(
        "Test",
        **createRepositories(),
        data_platforms=[
            createPlatform("YellowLive", provider, YellowMilestoneStrategy.LIVE_ONLY),
            createPlatform("YellowForensic", provider, YellowMilestoneStrategy.BATCH_MILESTONED),
        ],
        default_data_platform=DefaultDataPlatform(DataPlatformKey("YellowLive")),
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
        documentation=PlainTextDocumentation("A store of customers and their addresses"),
    )
    zone = eco.getZoneOrThrow("demo_gz")
    zone.add(TeamDeclaration("team1", GitHubRepository(REPOSITORY, "team1_main")))
    zone.getTeamOrThrow("team1").add(createStore(), createConsumer())
    return eco


def createRepositories() -> dict[str, Any]:
    """Return where the model is; from 0.0.38 on DataSurface also asks where it is edited."""
    live = GitHubRepository(REPOSITORY, "main", credential=GIT)
    if "liveRepo" not in inspect.signature(Ecosystem).parameters:
        return {"repo": live}
    edited = GitHubRepository(REPOSITORY, "edited", credential=GIT)
    return {"repo": edited, "liveRepo": live}


def createProvider() -> YellowPlatformServiceProvider:
    """Return what both platforms share: namespace, logins, image and merge store."""
    return YellowPlatformServiceProvider(
        "Test_DP",
        LOCATIONS,
        PlainTextDocumentation("Airflow, Kubernetes and the merge store"),
        namespace=NAMESPACE,
        postgresCredential=POSTGRES,
        gitCredential=GIT,
        connectCredentials=CONNECT,
        merge_datacontainer=createDatabase("MergeDB", "datasurface_merge"),
        datasurfaceDockerImage=IMAGE,
    )


def createPlatform(
    name: str, provider: YellowPlatformServiceProvider, strategy: YellowMilestoneStrategy
) -> YellowDynamicDataPlatform:
    """Return a platform; `strategy` says which states of a record it keeps."""
    return YellowDynamicDataPlatform(
        name,
        PlainTextDocumentation(f"Keeps the data {strategy.value}"),
        provider,
        strategy,
        slackCredential=SLACK,
        slackChannel="datasurface-events",
    )


def createDatabase(name: str, database: str) -> PostgresDatabase:
    """Return a database on the one PostgreSQL server."""
    server = HostPortPair(f"pg-data.{NAMESPACE}.svc.cluster.local", 5432)
    return PostgresDatabase(name, hostPort=server, locations=LOCATIONS, databaseName=database)


def createStore() -> Datastore:
    """Return the source: two tables, captured together every minute."""
    return Datastore(
        "Store1",
        documentation=PlainTextDocumentation("Customers and their addresses"),
        capture_metadata=SQLSnapshotIngestion(
            createDatabase("CustomerDB", "customer_db"),
            CronTrigger("Every 1 minute", "* * * * *"),
            IngestionConsistencyType.MULTI_DATASET,
            POSTGRES,
        ),
        datasets=[
            createDataset(
                "customers",
                key("id"),
                text("firstname", 100),
                text("lastname", 100),
                DDLColumn("dob", Date(), nullable=NullableStatus.NOT_NULLABLE),
                optionalText("email", 100),
                optionalText("phone", 100),
                optionalText("primaryaddressid", 20),
                optionalText("billingaddressid", 20),
            ),
            createDataset(
                "addresses",
                key("id"),
                text("customerid", 20),
                text("streetname", 100),
                text("city", 100),
                text("state", 100),
                text("zipcode", 30),
            ),
        ],
    )


def createDataset(name: str, *columns: DDLColumn) -> Dataset:
    """Return a dataset of personal data."""
    return Dataset(
        name,
        documentation=PlainTextDocumentation(f"The {name}"),
        classifications=[SimpleDC(SimpleDCTypes.PC3, "Customer")],
        schema=DDLTable(columns=list(columns)),
    )


def key(name: str) -> DDLColumn:
    """Return a primary key column."""
    return DDLColumn(
        name,
        VarChar(20),
        nullable=NullableStatus.NOT_NULLABLE,
        primary_key=PrimaryKeyStatus.PK,
    )


def text(name: str, size: int) -> DDLColumn:
    """Return a text column that is never null."""
    return DDLColumn(name, VarChar(size), nullable=NullableStatus.NOT_NULLABLE)


def optionalText(name: str, size: int) -> DDLColumn:
    """Return a text column that may be null."""
    return DDLColumn(name, VarChar(size))


def createConsumer() -> Workspace:
    """Return the consumer; dsg_platform_mapping.json says which platform serves which group."""
    return Workspace(
        "Consumer1",
        DataPlatformManagedDataContainer("Consumer1 container"),
        createGroup("LiveDSG", DataMilestoningStrategy.LIVE_ONLY),
        createGroup("ForensicDSG", DataMilestoningStrategy.FORENSIC),
    )


def createGroup(name: str, strategy: DataMilestoningStrategy) -> DatasetGroup:
    """Return a group of both datasets; `strategy` says which states of a record it needs."""
    return DatasetGroup(
        name,
        sinks=[DatasetSink("Store1", "customers"), DatasetSink("Store1", "addresses")],
        platform_chooser=WorkspacePlatformConfig(
            ConsumerRetentionRequirements(strategy, DataLatency.MINUTES, regulator=None)
        ),
    )
