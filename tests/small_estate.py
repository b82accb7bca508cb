"""A small ecosystem on a platform that renders whatever its test says."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasurface.md import (
    CaptureMetaData,
    CloudVendor,
    ConsumerRetentionRequirements,
    Credential,
    CredentialStore,
    CredentialType,
    CronTrigger,
    DataContainer,
    DataLatency,
    DataMilestoningStrategy,
    DataPlatform,
    DataPlatformExecutor,
    DataPlatformGraphHandler,
    DataPlatformManagedDataContainer,
    Dataset,
    DatasetGroup,
    DatasetSink,
    Datastore,
    Ecosystem,
    GitHubRepository,
    GovernanceZoneDeclaration,
    HostPortPair,
    InfrastructureLocation,
    InfrastructureVendor,
    IngestionConsistencyType,
    LocationKey,
    PlainTextDocumentation,
    PlatformPipelineGraph,
    PostgresDatabase,
    SchemaProjector,
    SimpleDC,
    SimpleDCTypes,
    SQLSnapshotIngestion,
    Team,
    TeamDeclaration,
    ValidationTree,
    Workspace,
    WorkspacePlatformConfig,
)
from datasurface.md.schema import DDLColumn, DDLTable, NullableStatus, PrimaryKeyStatus
from datasurface.md.types import Integer, VarChar

PLACE = {LocationKey("MyCorp:USA/NY_1")}
REPOSITORY = GitHubRepository("acme/models", "main")
TEXT = PlainTextDocumentation("For the tests")
MULTI = IngestionConsistencyType.MULTI_DATASET
SINGLE = IngestionConsistencyType.SINGLE_DATASET
LOGIN = Credential("source", CredentialType.USER_PASSWORD)
NIGHTLY = CronTrigger("Nightly", "0 3 * * *")


class NoCredentials(CredentialStore):
    """A store that holds no credential and takes every name."""

    def checkCredentialIsAvailable(self, cred: Credential, tree: ValidationTree) -> None:
        tree.addProblem(f"no {cred}")

    def getAsUserPassword(self, cred: Credential) -> tuple[str, str]:
        raise AssertionError(cred)

    def getAsPublicPrivateCertificate(self, cred: Credential) -> tuple[str, str, str]:
        raise AssertionError(cred)

    def getAsToken(self, cred: Credential) -> str:
        raise AssertionError(cred)

    def lintCredential(self, cred: Credential, tree: ValidationTree) -> None:
        if cred.name.startswith("bad"):
            tree.addProblem(f"{cred.name} is bad")


class PlainHandler(DataPlatformGraphHandler):
    """Renders what its platform says."""

    def getInternalDataContainers(self) -> set[DataContainer]:
        return set()

    def lintGraph(self, eco: Ecosystem, credStore: CredentialStore, tree: ValidationTree) -> None:
        del eco, credStore, tree

    def renderGraph(self, credStore: CredentialStore, issueTree: ValidationTree) -> dict[str, str]:
        del credStore
        platform = self.graph.platform
        assert isinstance(platform, PlainPlatform)
        return platform.render(issueTree)


class PlainPlatform(DataPlatform):
    """A platform whose files are those that its test gives."""

    def __init__(
        self, name: str, render: Callable[[ValidationTree], dict[str, str]] | None = None
    ) -> None:
        super().__init__(name, TEXT, DataPlatformExecutor())
        self.render = render or (lambda _: {"rendered.txt": f"merged {name}\n"})

    def getCredentialStore(self) -> CredentialStore:
        return NoCredentials("store", set())

    def getSupportedVendors(self, eco: Ecosystem) -> set[CloudVendor]:
        return {vendor for vendor in CloudVendor if eco.vendors}

    def isWorkspaceDataContainerSupported(self, eco: Ecosystem, dc: DataContainer) -> bool:
        return bool(eco.vendors) and isinstance(dc, DataPlatformManagedDataContainer)

    def createGraphHandler(self, graph: PlatformPipelineGraph) -> DataPlatformGraphHandler:
        return PlainHandler(graph)

    def generateBootstrapArtifacts(self, eco: Ecosystem, ringLevel: int) -> dict[str, str]:
        if ringLevel == 0:
            return {"bootstrap.txt": f"{eco.name} {self.name}\n"}
        return self.render(ValidationTree(eco))

    def createSchemaProjector(self, eco: Ecosystem) -> SchemaProjector:
        raise AssertionError(eco)

    def lintWorkspace(
        self, eco: Ecosystem, tree: ValidationTree, ws: Workspace, dsgName: str
    ) -> None:
        del eco
        if self.name == "Picky":
            tree.addProblem(f"Picky does not serve {ws.name}/{dsgName}")

    def resetBatchState(
        self, eco: Ecosystem, storeName: str, datasetName: str | None = None
    ) -> str:
        raise AssertionError((eco, storeName, datasetName))

    def lint(self, eco: Ecosystem, tree: ValidationTree) -> None:
        super().lint(eco, tree)


def database(name: str = "SourceDB", host: str = "db.example.org") -> PostgresDatabase:
    """Return a database in a known place."""
    return PostgresDatabase(name, HostPortPair(host, 5432), PLACE, "source")


def snapshot(*parts: Any) -> SQLSnapshotIngestion:
    """Return the capture of a database: all of it together unless `parts` says otherwise."""
    return SQLSnapshotIngestion(database(), *(parts or (MULTI, NIGHTLY, LOGIN)))


def dataset(name: str, *columns: DDLColumn, **parts: Any) -> Dataset:
    """Return a public dataset; of two columns unless others are given."""
    key = DDLColumn("id", Integer(), NullableStatus.NOT_NULLABLE, PrimaryKeyStatus.PK)
    schema = DDLTable(columns=list(columns or (key, DDLColumn("name", VarChar(100)))))
    parts.setdefault("classifications", [SimpleDC(SimpleDCTypes.PUB)])
    return Dataset(name, schema=schema, **parts)


def store(
    name: str = "Store1",
    datasets: Sequence[str] = ("customers", "addresses"),
    cmd: CaptureMetaData | None = None,
) -> Datastore:
    """Return a store of public datasets."""
    made = [dataset(each) for each in datasets]
    return Datastore(name, datasets=made, capture_metadata=cmd or snapshot())


def group(*sinks: DatasetSink, name: str = "DSG", chosen: bool = True) -> DatasetGroup:
    """Return a group of datasets that says what it needs of its platform, if `chosen`."""
    needs = ConsumerRetentionRequirements(
        DataMilestoningStrategy.LIVE_ONLY, DataLatency.DAYS, regulator=None
    )
    return DatasetGroup(
        name,
        sinks=list(sinks or (DatasetSink("Store1", "customers"),)),
        platform_chooser=WorkspacePlatformConfig(needs) if chosen else None,
    )


def workspace(*groups: DatasetGroup, name: str = "Consumer") -> Workspace:
    """Return a workspace that leaves its container to the platform."""
    return Workspace(name, DataPlatformManagedDataContainer(f"{name} data"), *groups)


def estate(
    *content: Any, platforms: Sequence[DataPlatform] = (), repository: Any = REPOSITORY
) -> Ecosystem:
    """Return an ecosystem whose one team owns `content`; a store and a consumer unless given."""
    eco = Ecosystem(
        "Test",
        repository,
        data_platforms=list(platforms or [PlainPlatform("One")]),
        governance_zone_declarations=[GovernanceZoneDeclaration("Zone", REPOSITORY)],
        infrastructure_vendors=[
            InfrastructureVendor(
                "MyCorp",
                InfrastructureLocation("USA", InfrastructureLocation("NY_1")),
                cloud_vendor=CloudVendor.PRIVATE,
            )
        ],
    )
    eco.getZoneOrThrow("Zone").add(TeamDeclaration("Team", REPOSITORY))
    team: Team = eco.getTeamOrThrow("Zone", "Team")
    team.add(*(content or (store(), workspace(group()))))
    return eco


def assigned(*platforms: str, **changes: Any) -> dict[str, Any]:
    """Return a mapping entry that assigns Consumer/DSG to `platforms`."""
    assignment = {
        "documentation": "All of it",
        "productionStatus": "PRODUCTION",
        "deprecationsAllowed": "NEVER",
        "status": "PROVISIONED",
    } | changes
    return {
        "dsgName": "DSG",
        "workspace": "Consumer",
        "assignments": [{"dataPlatform": name, **assignment} for name in platforms],
    }


def assign(eco: Ecosystem, folder: Path, *entries: dict[str, Any]) -> ValidationTree:
    """Lint `eco`, let it read `entries` from a file, and return the problems of the file."""
    eco.lintAndHydrateCaches()
    file = folder / "dsg_platform_mapping.json"
    file.write_text(json.dumps(entries))
    tree = ValidationTree(file)
    eco.hydrateDSGDataPlatformMappings(str(file), tree)
    return tree


def errors(tree: ValidationTree) -> list[str]:
    """Return the texts of all errors in `tree`."""
    return [problem.description for problem in tree.getErrors()]


def error(tree: ValidationTree) -> str:
    """Return the text of the only problem in `tree`."""
    found = tree.findMatchingProblems(lambda _: True)
    assert len(found) == 1, tree.toText()
    return found[0].description
