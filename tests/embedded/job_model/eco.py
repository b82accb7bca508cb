"""The ecosystem model of the job's tests; `model.json` beside it says what differs per test."""

from __future__ import annotations

import json
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
    GovernanceZoneDeclaration,
    HostPortPair,
    HostPortPairList,
    InfrastructureLocation,
    InfrastructureVendor,
    IngestionConsistencyType,
    KafkaIngestion,
    KafkaServer,
    LocationKey,
    PostgresDatabase,
    SQLSnapshotIngestion,
    TeamDeclaration,
    Workspace,
    WorkspacePlatformConfig,
    types,
)
from datasurface.md.credential import CredentialType
from datasurface.md.documentation import PlainTextDocumentation
from datasurface.md.policy import SimpleDC, SimpleDCTypes
from datasurface.md.repo import GitHubRepository
from datasurface.md.schema import DDLColumn, DDLTable, NullableStatus, PrimaryKeyStatus
from datasurface.platforms.yellow import (
    YellowDataPlatform,
    YellowMilestoneStrategy,
    YellowPlatformServiceProvider,
)

PLACE = {LocationKey("MyCorp:NY_1")}
TEXT = PlainTextDocumentation("For the tests")


def createEcosystem() -> Ecosystem:
    """Build the model."""
    spec = json.loads((Path(__file__).parent / "model.json").read_text())
    repository = GitHubRepository("acme/models", "main")
    eco = Ecosystem(
        "Test",
        repository,
        data_platforms=[_platform(spec)],
        default_data_platform=DefaultDataPlatform(DataPlatformKey(spec["platform"])),
        governance_zone_declarations=[GovernanceZoneDeclaration("Zone", repository)],
        infrastructure_vendors=[
            InfrastructureVendor(
                "MyCorp",
                cloud_vendor=CloudVendor.PRIVATE,
                documentation=TEXT,
                locations=[InfrastructureLocation("NY_1", documentation=TEXT)],
            )
        ],
        documentation=TEXT,
    )
    zone = eco.getZoneOrThrow("Zone")
    zone.add(TeamDeclaration("Team", repository))
    zone.getTeamOrThrow("Team").add(_store(spec), _workspace(spec))
    return eco


def _platform(spec: dict[str, Any]) -> YellowDataPlatform:
    provider = YellowPlatformServiceProvider(
        "Provider",
        PLACE,
        TEXT,
        namespace="ns-test",
        postgresCredential=_login("merge_login"),
        gitCredential=Credential("git", CredentialType.API_TOKEN),
        connectCredentials=Credential("connect", CredentialType.API_TOKEN),
        merge_datacontainer=_database("MergeDB", spec["merge"]),
    )
    return YellowDataPlatform(
        spec["platform"], TEXT, provider, YellowMilestoneStrategy(spec["strategy"])
    )


def _store(spec: dict[str, Any]) -> Datastore:
    return Datastore(
        spec["store"],
        documentation=TEXT,
        capture_metadata=_ingestion(spec),
        datasets=[_dataset(name, columns) for name, columns in spec["datasets"].items()],
    )


def _ingestion(spec: dict[str, Any]) -> Any:
    consistency = IngestionConsistencyType[spec["consistency"]]
    settings = (CronTrigger("Often", "* * * * *"), consistency, _login("source_login"))
    if spec["kafka"]:
        brokers = HostPortPairList([HostPortPair("kafka.example.org", 9092)])
        return KafkaIngestion(KafkaServer("Kafka", PLACE, brokers), *settings)
    ingestion = SQLSnapshotIngestion(_database("SourceDB", spec["source"]), *settings)
    ingestion.tableForDataset = spec["tables"]
    return ingestion


def _dataset(name: str, columns: list[dict[str, Any]]) -> Dataset:
    return Dataset(
        name,
        documentation=TEXT,
        classifications=[SimpleDC(SimpleDCTypes.PUB, "public")],
        schema=DDLTable(columns=[_column(**column) for column in columns]),
    )


def _column(name: str, type: list[Any], key: bool = False, required: bool = False) -> DDLColumn:
    return DDLColumn(
        name,
        getattr(types, type[0])(*type[1:]),
        nullable=NullableStatus.NOT_NULLABLE if key or required else NullableStatus.NULLABLE,
        primary_key=PrimaryKeyStatus.PK if key else PrimaryKeyStatus.NOT_PK,
    )


def _workspace(spec: dict[str, Any]) -> Workspace:
    live = spec["strategy"] == YellowMilestoneStrategy.LIVE_ONLY.value
    retention = ConsumerRetentionRequirements(
        r=DataMilestoningStrategy.LIVE_ONLY if live else DataMilestoningStrategy.FORENSIC,
        latency=DataLatency.MINUTES,
        regulator=None,
    )
    return Workspace(
        "Consumer",
        DataPlatformManagedDataContainer("Consumer container"),
        DatasetGroup(
            "DSG",
            sinks=[DatasetSink(spec["store"], name) for name in spec["datasets"]],
            platform_chooser=WorkspacePlatformConfig(retention),
        ),
    )


def _database(name: str, database: str) -> PostgresDatabase:
    return PostgresDatabase(
        name,
        hostPort=HostPortPair("pg-data.ns-test.svc.cluster.local", 5432),
        locations=PLACE,
        databaseName=database,
    )


def _login(name: str) -> Credential:
    return Credential(name, CredentialType.USER_PASSWORD)
