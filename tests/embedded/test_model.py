"""The model classes: how they are put together, and what linting says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_estate import (
    LOGIN,
    MULTI,
    NIGHTLY,
    PLACE,
    REPOSITORY,
    SINGLE,
    TEXT,
    NoCredentials,
    PlainPlatform,
    assign,
    assigned,
    database,
    dataset,
    error,
    errors,
    estate,
    group,
    snapshot,
    store,
    workspace,
)

import datasurface.md as md
from datasurface.md import (
    AttributeAlreadySetException,
    AttributeNotSet,
    CDCCaptureIngestion,
    Credential,
    CredentialType,
    CronTrigger,
    DataPlatformKey,
    DatasetSink,
    Datastore,
    DataTransformer,
    DataTransformerOutput,
    DefaultDataPlatform,
    DeprecationInfo,
    DeprecationsAllowed,
    DeprecationStatus,
    Ecosystem,
    ExternallyTriggered,
    FakeRepository,
    GitHubRepository,
    HostPortPair,
    KafkaIngestion,
    KafkaServer,
    LocationKey,
    MySQLDatabase,
    NameMustBeSQLIdentifier,
    NotCoveredProblem,
    ObjectAlreadyExistsException,
    ObjectDoesntExistException,
    PlainTextDocumentation,
    PlatformServicesProvider,
    PostgresDatabase,
    ProblemSeverity,
    ProductionStatus,
    PythonRepoCodeArtifact,
    SimpleDC,
    SimpleDCTypes,
    SQLSnapshotDeltaIngestion,
    SQLSnapshotIngestion,
    UnknownObjectReference,
    ValidationTree,
    Workspace,
)
from datasurface.md.governance import HostPortPairList
from datasurface.md.schema import DDLColumn, DDLTable, NullableStatus, PrimaryKeyStatus
from datasurface.md.types import Char, Decimal, Integer, String, Timestamp, VarChar, Variant

pytestmark = pytest.mark.embedded


def test_a_sound_model_has_no_problems() -> None:
    tree = estate().lintAndHydrateCaches()

    assert (tree.problems, tree.children) == ([], [])


def test_linting_twice_finds_the_same() -> None:
    eco = estate(store(cmd=snapshot(MULTI, CronTrigger("Bad", "99 * * * *"))))

    assert errors(eco.lintAndHydrateCaches()) == errors(eco.lintAndHydrateCaches()) != []


def test_parts_may_be_given_by_type_or_by_keyword() -> None:
    public = SimpleDC(SimpleDCTypes.PUB)
    key = DDLColumn("id", Integer(), NullableStatus.NOT_NULLABLE, PrimaryKeyStatus.PK, TEXT)
    same_key = DDLColumn(
        "id",
        Integer(),
        nullable=NullableStatus.NOT_NULLABLE,
        primary_key=PrimaryKeyStatus.PK,
        documentation=TEXT,
    )
    by_type = md.Dataset("d", DDLTable(key), public, TEXT)
    by_keyword = md.Dataset(
        "d", schema=DDLTable(columns=[same_key]), classifications=[public], documentation=TEXT
    )

    assert by_type.to_json() == by_keyword.to_json()


def test_ecosystem_refuses_parts_by_position_and_by_keyword_together() -> None:
    with pytest.raises(TypeError, match="either by position or by keyword"):
        Ecosystem("Test", REPOSITORY, TEXT, data_platforms=[PlainPlatform("One")])


def test_an_ecosystem_takes_a_live_repository_with_parts_of_either_kind() -> None:
    live = GitHubRepository("acme/live", "main")
    by_position = Ecosystem("Test", REPOSITORY, TEXT, liveRepo=live)
    by_keyword = Ecosystem("Test", REPOSITORY, documentation=TEXT, liveRepo=live)

    assert (by_position.owningRepo, by_position.liveRepo) == (REPOSITORY, live)
    assert (by_keyword.owningRepo, by_keyword.liveRepo) == (REPOSITORY, live)
    assert Ecosystem("Test", REPOSITORY).liveRepo is None


def test_a_live_repository_is_checked_as_the_edited_one_is() -> None:
    eco = Ecosystem("Test", REPOSITORY, liveRepo=GitHubRepository("no owner", "main"))

    assert any("no owner" in problem for problem in errors(eco.lintAndHydrateCaches()))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Datastore("s", 7),  # type: ignore[arg-type]
        lambda: Workspace("w", 7),  # type: ignore[arg-type]
        lambda: DDLTable(7),  # type: ignore[arg-type]
        lambda: SQLSnapshotIngestion(database(), 7),  # type: ignore[arg-type]
    ],
)
def test_a_part_of_a_foreign_type_is_refused_by_name(make: Any) -> None:
    with pytest.raises(TypeError, match="takes no int"):
        make()


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: estate(platforms=[PlainPlatform("One"), PlainPlatform("One")]), "One"),
        (lambda: estate(store(), store()), "Store1"),
        (lambda: estate(workspace(), workspace()), "Consumer"),
        (lambda: Datastore("s", datasets=[dataset("d"), dataset("d")]), "Dataset.d"),
        (lambda: DDLTable(DDLColumn("c", Integer()), DDLColumn("c", Integer())), "'c'"),
        (lambda: workspace(group(), group()), "DSG"),
        (lambda: group(DatasetSink("a", "b"), DatasetSink("a", "b")), "a:b"),
    ],
)
def test_two_parts_of_one_name_are_refused(make: Any, named: str) -> None:
    with pytest.raises(ObjectAlreadyExistsException, match=named):
        make()


@pytest.mark.parametrize(
    "parts", [(MULTI, SINGLE), (NIGHTLY, ExternallyTriggered("x")), (LOGIN, LOGIN), (database(),)]
)
def test_an_ingestion_takes_each_attribute_once(parts: Any) -> None:
    with pytest.raises(AttributeAlreadySetException):
        SQLSnapshotIngestion(database(), *parts)


def test_source_tables_named_in_the_constructor_are_kept() -> None:
    cmd = SQLSnapshotIngestion(database(), MULTI, {"customers": "crm_customers"})

    assert cmd.tableForDataset == {"customers": "crm_customers"}


def test_a_source_table_for_an_unknown_dataset_is_a_problem() -> None:
    eco = estate(store(cmd=snapshot(MULTI, {"customer": "crm_customers"})))

    assert "'customer'" in error(eco.lintAndHydrateCaches())


def test_the_primary_key_follows_from_the_columns() -> None:
    schema = dataset("d").originalSchema

    assert isinstance(schema, DDLTable)
    assert schema.primaryKeyColumns.colNames == ["id"]
    assert DDLTable(DDLColumn("c", Integer())).primaryKeyColumns.colNames == []


def test_a_platform_needs_an_executor() -> None:
    class WithoutExecutor(PlainPlatform):
        def __init__(self) -> None:
            md.DataPlatform.__init__(self, "P", TEXT)

    with pytest.raises(ObjectDoesntExistException, match="executor"):
        WithoutExecutor()


def test_platforms_are_equal_by_name_executor_and_documentation() -> None:
    class Special(PlainPlatform):
        pass

    assert Special("One") == PlainPlatform("One") != PlainPlatform("Two")


def test_credentials_are_equal_by_name_and_type() -> None:
    token = Credential("a", CredentialType.API_TOKEN)

    assert {token, Credential("a", CredentialType.API_TOKEN)} == {token}
    assert token != Credential("a", CredentialType.USER_PASSWORD)


def test_types_are_equal_by_their_parameters() -> None:
    assert VarChar(10) == VarChar(10) != VarChar(11)
    assert VarChar(10) != String(10)
    assert Timestamp() == Timestamp() != Integer()
    assert Char().maxSize == 1
    assert str(Decimal(10, 2)) == "Decimal(10, 2)"


@pytest.mark.parametrize("make", [lambda: VarChar(0), lambda: Decimal(2, 3)])
def test_impossible_type_parameters_are_refused(make: Any) -> None:
    with pytest.raises(ValueError, match=r"maxSize|precision"):
        make()


def test_unknown_names_are_refused_with_what_there_is() -> None:
    eco = estate()
    eco.lintAndHydrateCaches()

    with pytest.raises(ObjectDoesntExistException, match="'Nope'; it has: One"):
        eco.getDataPlatformOrThrow("Nope")
    with pytest.raises(ObjectDoesntExistException, match="zone 'Nope'"):
        eco.getTeamOrThrow("Nope", "Team")
    with pytest.raises(ObjectDoesntExistException, match="team 'Nope'"):
        eco.getTeamOrThrow("Zone", "Nope")
    with pytest.raises(ObjectDoesntExistException, match="datastore 'Nope'"):
        eco.cache_getDatastoreOrThrow("Nope")
    with pytest.raises(ObjectDoesntExistException, match="workspace 'Nope'"):
        eco.cache_getWorkspaceOrThrow("Nope")
    assert eco.getTeam("Nope", "Team") is eco.cache_getDataset("Nope", "d") is None


def test_lint_fills_the_caches_and_keys() -> None:
    eco = estate()
    eco.lintAndHydrateCaches()

    found = eco.cache_getDatastoreOrThrow("Store1")
    assert found.team is eco.getTeamOrThrow("Zone", "Team")
    assert found.datastore.key is not None
    assert found.datastore.key.team.tdName == "Team"
    assert eco.cache_getDataset("Store1", "addresses") is found.datastore.datasets["addresses"]
    assert eco.cache_getWorkspaceOrThrow("Consumer").team is found.team


def test_two_teams_with_a_store_of_one_name_are_a_problem() -> None:
    eco = estate()
    eco.getZoneOrThrow("Zone").add(md.TeamDeclaration("Other", REPOSITORY))
    eco.getTeamOrThrow("Zone", "Other").add(store(), workspace())

    found = errors(eco.lintAndHydrateCaches())

    assert found == [
        "Two teams have a datastore 'Store1'.",
        "Two teams have a workspace 'Consumer'.",
    ]


@pytest.mark.parametrize("name", ["", "1st", "a-b", "select", "User", "x" * 129, "ä"])
def test_a_name_that_is_no_sql_identifier_is_a_problem(name: str) -> None:
    tree = estate(store(datasets=[name])).lintAndHydrateCaches()

    assert tree.containsProblemType(NameMustBeSQLIdentifier)


@pytest.mark.parametrize("name", ["year", "Name", "x" * 128, "a_1"])
def test_usual_column_names_are_accepted(name: str) -> None:
    eco = estate(Datastore("s", dataset("d", DDLColumn(name, Integer())), snapshot()))

    assert errors(eco.lintAndHydrateCaches()) == []


@pytest.mark.parametrize("cron", ["* * * * *", "*/5 0-6 1,15 * mon-fri", "0 3 * * *"])
def test_a_cron_expression_of_five_fields_is_accepted(cron: str) -> None:
    eco = estate(store(cmd=snapshot(MULTI, CronTrigger("Trigger", cron))))

    assert errors(eco.lintAndHydrateCaches()) == []


@pytest.mark.parametrize(
    "cron", ["", "None", "@daily", "* * * *", "* * * * * *", "60 * * * *", "x * * * *"]
)
def test_any_other_cron_expression_is_a_problem_that_quotes_it(cron: str) -> None:
    eco = estate(store(cmd=snapshot(MULTI, CronTrigger("Trigger", cron))))

    assert f"'{cron}' is not a cron expression" in error(eco.lintAndHydrateCaches())


def test_a_missing_classification_is_a_warning_that_does_not_fail() -> None:
    eco = estate(Datastore("s", dataset("d", classifications=[]), snapshot()))
    tree = eco.lintAndHydrateCaches()

    assert not tree.hasErrors()
    assert tree.hasWarnings()


def test_a_missing_classification_is_an_error_in_production() -> None:
    unclassified = dataset("d", classifications=[])
    eco = estate(Datastore("s", unclassified, snapshot(), ProductionStatus.PRODUCTION))

    assert "no classification" in errors(eco.lintAndHydrateCaches())[0]


def test_columns_may_be_classified_one_by_one() -> None:
    column = DDLColumn("c", Integer(), SimpleDC(SimpleDCTypes.PUB))
    eco = estate(Datastore("s", dataset("d", column, classifications=[]), snapshot()))

    assert not eco.lintAndHydrateCaches().hasWarnings()


def test_a_nullable_key_column_is_a_problem() -> None:
    column = DDLColumn("c", Integer(), primary_key=PrimaryKeyStatus.PK)
    eco = estate(Datastore("s", dataset("d", column), snapshot()))

    assert "NOT_NULLABLE" in error(eco.lintAndHydrateCaches())


@pytest.mark.parametrize(
    "content",
    [
        Datastore("s", dataset("d")),
        Datastore("s", md.Dataset("d", SimpleDC(SimpleDCTypes.PUB)), snapshot()),
        store(cmd=snapshot(NIGHTLY)),
        Workspace("w"),
    ],
)
def test_a_missing_part_is_a_problem(content: Any) -> None:
    assert estate(content).lintAndHydrateCaches().containsProblemType(AttributeNotSet)


def test_a_store_without_datasets_is_a_problem() -> None:
    assert "no datasets" in error(estate(store(datasets=[])).lintAndHydrateCaches())


def test_a_sink_on_an_unknown_dataset_is_a_problem() -> None:
    eco = estate(store(), workspace(group(DatasetSink("Store1", "nope"))))
    tree = eco.lintAndHydrateCaches()

    assert tree.containsProblemType(UnknownObjectReference)
    assert "'nope' of the datastore 'Store1'" in error(tree)


@pytest.mark.parametrize(
    ("allowed", "severity"),
    [
        (DeprecationsAllowed.NEVER, ProblemSeverity.ERROR),
        (DeprecationsAllowed.ALLOWED, ProblemSeverity.WARNING),
    ],
)
def test_a_deprecated_dataset_is_for_those_who_allow_it(
    allowed: DeprecationsAllowed, severity: ProblemSeverity
) -> None:
    old = store()
    old.add(DeprecationInfo(DeprecationStatus.DEPRECATED, PlainTextDocumentation("old")))
    eco = estate(old, workspace(group(DatasetSink("Store1", "customers", allowed))))

    assert [p.sev for p in eco.lintAndHydrateCaches().findMatchingProblems(lambda _: True)] == [
        severity
    ]


@pytest.mark.parametrize("place", ["MyCorp:USA/LA", "Nope:USA", "MyCorp", "MyCorp:", ":USA"])
def test_an_unknown_location_is_a_problem_that_names_it(place: str) -> None:
    elsewhere = PostgresDatabase("DB", HostPortPair("h", 5432), {LocationKey(place)}, "d")
    eco = estate(store(cmd=SQLSnapshotIngestion(elsewhere, MULTI)))

    assert f"'{place}'" in error(eco.lintAndHydrateCaches())


@pytest.mark.parametrize(("host", "port"), [("", 5432), ("a b", 5432), ("h", 0), ("h", 65536)])
def test_an_impossible_address_is_a_problem(host: str, port: int) -> None:
    there = PostgresDatabase("DB", HostPortPair(host, port), PLACE, "d")
    eco = estate(store(cmd=SQLSnapshotIngestion(there, MULTI)))

    assert len(errors(eco.lintAndHydrateCaches())) == 1


@pytest.mark.parametrize("repository", ["models", "a/b/c", "a b/c", ""])
def test_a_repository_name_not_of_the_form_owner_name_is_a_problem(repository: str) -> None:
    eco = estate(repository=GitHubRepository(repository, "main"))

    assert "owner/name" in error(eco.lintAndHydrateCaches())


def test_the_provider_checks_what_its_platforms_serve(tmp_path: Path) -> None:
    bad = Credential("bad_login", CredentialType.USER_PASSWORD)
    eco = estate(store(cmd=SQLSnapshotIngestion(database(), MULTI, bad)), workspace(group()))
    eco.add(PlatformServicesProvider("Provider", PLACE, NoCredentials("store", PLACE)))
    assign(eco, tmp_path, assigned("One"))

    assert error(eco.lintAndHydrateCaches()) == "bad_login is bad"


def test_the_place_of_the_provider_and_the_name_of_its_store_are_checked() -> None:
    eco = estate()
    elsewhere = {LocationKey("Nope:USA")}
    eco.add(
        PlatformServicesProvider("Provider", elsewhere, NoCredentials("", {LocationKey("USA")}))
    )

    assert errors(eco.lintAndHydrateCaches()) == [
        "The location 'Nope:USA' is not one of the ecosystem's.",
        "Name is empty",
        "The location 'USA' has not the form 'vendor:location/location'.",
    ]


def test_the_containers_of_a_team_are_checked_and_unique() -> None:
    eco = estate(store(), PostgresDatabase("DB", HostPortPair("h", 5432), PLACE, ""))
    team = eco.getTeamOrThrow("Zone", "Team")

    assert error(eco.lintAndHydrateCaches()) == "The name of the database is empty."
    with pytest.raises(ObjectAlreadyExistsException, match="DB"):
        team.add(database("DB"))


def test_a_workspace_takes_one_container() -> None:
    with pytest.raises(AttributeAlreadySetException, match="dataContainer"):
        Workspace("w", database(), database())


def test_a_repository_of_another_kind_is_found() -> None:
    eco = estate(repository=FakeRepository("elsewhere"))
    tree = ValidationTree(eco)

    eco.checkAllRepositoriesInEcosystem(tree, [GitHubRepository])

    assert "supported: GitHubRepository" in error(tree)


def test_an_unknown_default_platform_is_a_problem() -> None:
    eco = estate()
    eco.add(DefaultDataPlatform(DataPlatformKey("Nope")))

    assert "Nope" in error(eco.lintAndHydrateCaches())


def transformed() -> Workspace:
    """Return a workspace with a data transformer."""
    output = store("Output", ["masked"])
    output.cmd = None
    made = workspace(group(), name="Masking")
    made.add(DataTransformer("Mask", output, PythonRepoCodeArtifact(REPOSITORY, "main")))
    return made


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (store(cmd=CDCCaptureIngestion(database(), SINGLE)), "CDCCaptureIngestion"),
        (store(cmd=SQLSnapshotDeltaIngestion(database(), SINGLE)), "SQLSnapshotDeltaIngestion"),
        (
            store(
                cmd=SQLSnapshotIngestion(
                    MySQLDatabase("My", HostPortPair("h", 3306), PLACE, "d"), MULTI
                )
            ),
            "MySQLDatabase(My)",
        ),
        (Datastore("Store1", dataset("customers", DDLColumn("c", Variant())), snapshot()), "Varia"),
    ],
)
def test_what_is_not_covered_is_refused_by_name(content: Any, named: str) -> None:
    others = [] if isinstance(content, Datastore) else [store()]
    tree = estate(content, *others).lintAndHydrateCaches()

    assert tree.containsProblemType(NotCoveredProblem)
    assert f"The embedded DataSurface does not cover {named}" in error(tree)
    # Advice to take the real one helps only where that one takes it.
    refused = "CDC" in named or "Delta" in named
    assert ("install the real DataSurface" in error(tree)) is not refused


def test_a_transformers_output_store_says_where_its_data_comes_from() -> None:
    team = estate(store(), transformed()).getTeamOrThrow("Zone", "Team")

    output = team.dataStores["Output"].cmd
    assert isinstance(output, DataTransformerOutput)
    assert output.workSpaceName == "Masking"
    assert output.singleOrMultiDatasetIngestion is MULTI


def test_kafka_is_described_and_its_addresses_are_checked() -> None:
    cluster = KafkaServer("Kafka", PLACE, HostPortPairList([HostPortPair("k", 9092)]), "group")
    empty = KafkaServer("Kafka", PLACE, HostPortPairList([]))

    sound = estate(store(cmd=KafkaIngestion(cluster, SINGLE))).lintAndHydrateCaches()
    assert errors(sound) == []
    broken = estate(store(cmd=KafkaIngestion(empty, MULTI))).lintAndHydrateCaches()
    assert "brokers" in error(broken)


def test_long_names_are_shortened_and_stay_distinct() -> None:
    mapper = database().getNamingAdapter()
    names = {mapper.mapNoun("x" * 70 + end) for end in "ab"}

    assert mapper.mapNoun("x" * 63) == "x" * 63
    assert {len(name) for name in names} == {63}
    assert len(names) == 2


def test_a_problem_tree_prints_where_in_the_model_each_problem_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    estate(store(datasets=["a-b"])).lintAndHydrateCaches().printTree()

    printed = capsys.readouterr().out
    assert "Dataset(a-b) at " in printed
    assert "small_estate.py:" in printed
    assert "ERROR: The name 'a-b' is not an SQL identifier" in printed


def test_pruning_keeps_only_what_has_problems() -> None:
    tree = ValidationTree("root")
    tree.addSubTree("good").addSubTree("good too")
    tree.addSubTree("bad").addSubTree("worse").addProblem("why", ProblemSeverity.INFO)

    tree.prune()

    assert tree.toText() == "root\n  bad\n    worse\n      INFO: why"
    assert not tree.hasErrors()
    assert not tree.hasWarnings()


def test_the_json_form_names_each_class() -> None:
    described = estate().to_json()

    assert described["_type"] == "Ecosystem"
    described = described["zones"][0]["teams"][0]["dataStores"][0]
    assert described["_type"] == "Datastore"
    assert described["cmd"]["dataContainer"]["hostPort"] == {
        "_type": "HostPortPair",
        "hostName": "db.example.org",
        "port": 5432,
    }


def test_every_public_class_can_be_imported_from_md() -> None:
    from datasurface.md import governance

    exported = {name for name in vars(governance) if not name.startswith("_")}
    assert exported <= set(vars(md))
