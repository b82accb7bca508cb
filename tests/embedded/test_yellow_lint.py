"""What the Yellow platform refuses, and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from yellow_models import PLACE, SINGLE, Model, Store

from datasurface.md import (
    CaptureMetaData,
    Credential,
    DataMilestoningStrategy,
    Datastore,
    Ecosystem,
    PlatformPipelineGraph,
    PostgresDatabase,
    StepTrigger,
    ValidationTree,
    WorkspacePlatformConfig,
)
from datasurface.md.credential import CredentialType, CredentialTypeNotSupportedProblem
from datasurface.md.governance import DatasetConsistencyNotSupported
from datasurface.md.lint import (
    AttributeNotSet,
    ConstraintViolation,
    ObjectMissing,
    ObjectNotSupportedByDataPlatform,
    UnknownObjectReference,
    ValidationProblem,
)
from datasurface.md.repo import GitHubRepository, GitLabRepository
from datasurface.platforms.yellow import (
    YellowDataPlatform,
    YellowMilestoneStrategy,
)
from datasurface.platforms.yellow.dag_settings import platformSettings

pytestmark = pytest.mark.embedded


def static(**changes: Any) -> Model:
    return Model(platformClass=YellowDataPlatform, **changes)


def yellow(eco: Ecosystem) -> YellowDataPlatform:
    platform = eco.getDataPlatformOrThrow("YellowLive")
    assert isinstance(platform, YellowDataPlatform)
    return platform


def errors(tree: ValidationTree) -> list[str]:
    return [problem.description for problem in tree.getErrors()]


def lint(eco: Ecosystem) -> list[str]:
    return errors(eco.lintAndHydrateCaches())


def test_a_model_that_is_right_has_no_problem(tmp_path: Path) -> None:
    graph = static(stores=[Store("S1"), Store("S2", consistency=SINGLE)]).graph(tmp_path)
    tree = ValidationTree(graph.eco)

    graph.lint(graph.platform.getCredentialStore(), tree)

    assert tree.getProblems() == []


# The services provider


@pytest.mark.parametrize("namespace", ["", "Upper", "under_score", "-x", "x-", "a.b", "a" * 64])
def test_a_name_that_is_no_namespace_is_refused(namespace: str) -> None:
    [problem] = lint(static(namespace=namespace).build())

    assert f"does not take {namespace!r} as a namespace" in problem


@pytest.mark.parametrize("namespace", ["x", "ns-kub-pg-test", "0a", "a" * 63])
def test_a_dns_label_is_a_namespace(namespace: str) -> None:
    assert lint(static(namespace=namespace).build()) == []


@pytest.mark.parametrize(
    ("attribute", "wrong"),
    [
        ("postgresCredential", CredentialType.API_TOKEN),
        ("gitCredential", CredentialType.USER_PASSWORD),
        ("connectCredentials", CredentialType.USER_PASSWORD),
    ],
)
def test_a_login_of_the_wrong_type_is_refused(attribute: str, wrong: CredentialType) -> None:
    eco = static().build()
    setattr(yellow(eco).psp, attribute, Credential("odd", wrong))

    tree = eco.lintAndHydrateCaches()

    assert [type(problem) for problem in tree.getErrors()] == [CredentialTypeNotSupportedProblem]
    assert "'odd'" in errors(tree)[0]


def test_kafka_connect_may_have_a_key_pair() -> None:
    eco = static().build()
    yellow(eco).psp.connectCredentials = Credential("connect", CredentialType.API_KEY_PAIR)

    assert lint(eco) == []


@pytest.mark.parametrize("name", ["my-login", "1login", "", "a b", "ü", "_", "x\n"])
def test_a_credential_that_cannot_be_an_environment_variable_is_refused(name: str) -> None:
    [problem] = lint(static(postgresCredential=name).build())

    assert repr(name) in problem
    assert "environment variable" in problem


@pytest.mark.parametrize(
    ("settings", "fragment"),
    [
        ({"airflowName": "__"}, "The Airflow name '__'"),
        ({"datasurfaceDockerImage": ""}, "datasurfaceDockerImage"),
        ({"git_cache_access_mode": "ReadWrite"}, "The access mode 'ReadWrite'"),
        ({"git_cache_storage_size": "5 GB"}, "The size '5 GB'"),
        ({"git_cache_storage_size": "0Gi"}, "The size '0Gi'"),
        ({"git_cache_max_age_minutes": -1}, "The age -1"),
        ({"git_cache_max_age_minutes": 2.5}, "The age 2.5"),
    ],
)
def test_a_setting_that_kubernetes_would_refuse_is_refused(
    settings: dict[str, Any], fragment: str
) -> None:
    [problem] = lint(static(providerArguments=settings).build())

    assert fragment in problem


def test_settings_of_a_model_cache_that_is_off_do_not_matter() -> None:
    settings = {
        "git_cache_enabled": False,
        "git_cache_storage_size": "",
        "git_cache_access_mode": "",
    }

    assert lint(static(providerArguments=settings).build()) == []


def test_a_merge_store_that_is_not_postgresql_is_refused() -> None:
    from datasurface.md import DataPlatformManagedDataContainer

    eco = static().build()
    yellow(eco).psp.mergeStore = DataPlatformManagedDataContainer("Else")  # type: ignore[assignment]

    tree = eco.lintAndHydrateCaches()

    assert tree.containsProblemType(ObjectNotSupportedByDataPlatform)


def test_the_address_of_the_merge_store_is_checked() -> None:
    assert any("not a host name" in problem for problem in lint(static(host="a b").build()))


@pytest.mark.parametrize("attribute", ["owningRepo", "liveRepo"])
def test_only_github_repositories_will_do(attribute: str) -> None:
    eco = static().build()
    gitlab = GitLabRepository("https://gitlab.example.com", "acme/models", "main")
    setattr(eco, attribute, gitlab)

    [problem] = lint(eco)

    assert "GitLabRepository" in problem
    assert "GitHubRepository" in problem


def test_an_ecosystem_with_a_provider_lints_the_graph_of_its_platforms(tmp_path: Path) -> None:
    model = static()
    eco = model.graph(tmp_path).eco
    eco.platformServicesProvider = yellow(eco).psp
    ingestion = eco.cache_getDatastoreOrThrow("Store1").datastore.cmd
    assert ingestion is not None
    ingestion.stepTrigger = StepTrigger("odd")

    problems = lint(eco)

    assert problems == [
        "The trigger 'odd' of datastore 'Store1' is a StepTrigger; the Yellow platform runs a "
        "CronTrigger or an ExternallyTriggered."
    ]


# The platform


@pytest.mark.parametrize("name", ["../x", "a/b", "..", "", "-x", "x\n", "ü", "x" * 129])
def test_a_platform_name_that_cannot_name_files_is_refused(name: str) -> None:
    model = static(platform=name)
    eco = model.build()

    assert any(f"The platform name {name!r}" in problem for problem in lint(eco))
    tree = ValidationTree(eco)
    graph = PlatformPipelineGraph(eco, eco.getDataPlatformOrThrow(name))
    handler = graph.platform.createGraphHandler(graph)
    assert handler.renderGraph(graph.platform.getCredentialStore(), tree) == {}


@pytest.mark.parametrize("name", ["YellowLive", "Yellow live 2.0", "0-x_y"])
def test_other_platform_names_are_fine(name: str) -> None:
    assert lint(static(platform=name).build()) == []


def test_an_ecosystem_name_that_leaves_nothing_for_kubernetes_is_refused() -> None:
    [problem] = lint(static(name="生态").build())

    assert "'生态'" in problem


def test_platforms_that_kubernetes_cannot_tell_apart_are_refused() -> None:
    eco = static(platform="Yellow_Live").build()
    eco.add(static(platform="yellow__live").buildPlatform())

    [problem] = lint(eco)

    assert "'Yellow_Live' and 'yellow__live'" in problem


def workspace_problems(change: Any = None) -> list[ValidationProblem]:
    eco = static().build()
    assert lint(eco) == []
    workspace = eco.cache_getWorkspaceOrThrow("Consumer").workspace
    if change is not None:
        change(yellow(eco), workspace)
    tree = ValidationTree(workspace)
    yellow(eco).lintWorkspace(eco, tree, workspace, "LiveDSG")
    return list(tree.getErrors())


def test_a_dataset_group_that_fits_is_served() -> None:
    assert workspace_problems() == []


@pytest.mark.parametrize(
    ("strategy", "served"),
    [
        (YellowMilestoneStrategy.LIVE_ONLY, DataMilestoningStrategy.LIVE_ONLY),
        (YellowMilestoneStrategy.BATCH_MILESTONED, DataMilestoningStrategy.FORENSIC),
    ],
)
@pytest.mark.parametrize("asked", DataMilestoningStrategy)
def test_each_milestoning_serves_one_kind_of_retention(
    strategy: YellowMilestoneStrategy,
    served: DataMilestoningStrategy,
    asked: DataMilestoningStrategy,
) -> None:
    def change(platform: YellowDataPlatform, workspace: Any) -> None:
        platform.milestoneStrategy = strategy
        config = workspace.dsgs["LiveDSG"].platformMD
        assert isinstance(config, WorkspacePlatformConfig)
        config.retention.milestoningStrategy = asked

    problems = workspace_problems(change)

    expected = [] if asked is served else [ConstraintViolation]
    assert [type(problem) for problem in problems] == expected


def test_a_workspace_elsewhere_than_in_the_merge_store_is_refused() -> None:
    def change(platform: YellowDataPlatform, workspace: Any) -> None:
        workspace.dataContainer = platform.psp.mergeStore

    [problem] = workspace_problems(change)

    assert isinstance(problem, ObjectNotSupportedByDataPlatform)


def test_a_dataset_group_without_platform_config_is_refused() -> None:
    def change(platform: YellowDataPlatform, workspace: Any) -> None:
        del platform
        workspace.dsgs["LiveDSG"].platformMD = None

    [problem] = workspace_problems(change)

    assert isinstance(problem, ObjectMissing)


def test_an_unknown_dataset_group_is_refused() -> None:
    def change(platform: YellowDataPlatform, workspace: Any) -> None:
        del platform
        workspace.dsgs.clear()

    [problem] = workspace_problems(change)

    assert isinstance(problem, UnknownObjectReference)


# The graph


def merge_tree(model: Model, folder: Path, change: Any = None) -> tuple[ValidationTree, Any]:
    """Merge after changing the capture of the model's first store; return tree and files."""
    graph = model.graph(folder)
    store = graph.eco.cache_getDatastoreOrThrow(model.stores[0].name).datastore
    if change is not None:
        change(store)
    tree = ValidationTree(graph.eco)
    handler = graph.platform.createGraphHandler(graph)
    return tree, handler.renderGraph(graph.platform.getCredentialStore(), tree)


def refused(model: Model, folder: Path, change: Any = None) -> ValidationTree:
    tree, files = merge_tree(model, folder, change)
    assert files == {}
    return tree


def capture(**attributes: Any) -> Any:
    def change(store: Datastore) -> None:
        assert store.cmd is not None
        for name, value in attributes.items():
            setattr(store.cmd, name, value)

    return change


def test_an_unknown_trigger_is_refused_and_nothing_is_rendered(tmp_path: Path) -> None:
    tree = refused(static(), tmp_path, capture(stepTrigger=StepTrigger("odd")))

    assert "The trigger 'odd' of datastore 'Store1' is a StepTrigger" in tree.toText()


def test_a_missing_trigger_is_a_warning_that_names_the_schedule(tmp_path: Path) -> None:
    tree, files = merge_tree(static(stores=[Store("Store1", trigger=None)]), tmp_path)

    assert "yellowlive__Store1_ingestion.py" in files
    [warning] = tree.getWarnings()
    assert "'Store1' has no trigger; it is ingested @hourly" in warning.description


def test_an_unknown_kind_of_ingestion_is_refused(tmp_path: Path) -> None:
    def change(store: Datastore) -> None:
        store.cmd = CaptureMetaData()

    tree = refused(static(), tmp_path, change)

    assert tree.containsProblemType(ObjectNotSupportedByDataPlatform)
    assert "CaptureMetaData of Datastore(Store1)" in tree.toText()


def test_kafka_is_ingested_dataset_by_dataset(tmp_path: Path) -> None:
    tree = refused(static(stores=[Store("Topics", kafka=True)]), tmp_path)

    assert [type(p) for p in tree.getErrors()] == [DatasetConsistencyNotSupported]


@pytest.mark.parametrize("attribute", ["credential", "singleOrMultiDatasetIngestion"])
def test_a_snapshot_needs_a_login_and_a_consistency(attribute: str, tmp_path: Path) -> None:
    tree = refused(static(), tmp_path, capture(**{attribute: None}))

    [problem] = tree.getErrors()
    assert isinstance(problem, AttributeNotSet)
    assert attribute in problem.description


def test_the_login_of_a_source_is_a_user_with_a_password(tmp_path: Path) -> None:
    token = Credential("token", CredentialType.API_TOKEN)

    tree = refused(static(), tmp_path, capture(credential=token))

    assert [type(p) for p in tree.getErrors()] == [CredentialTypeNotSupportedProblem]


def test_the_login_of_a_source_can_be_an_environment_variable(tmp_path: Path) -> None:
    login = Credential("my-login", CredentialType.USER_PASSWORD)

    tree = refused(static(), tmp_path, capture(credential=login))

    assert "'my-login' cannot start the name of an environment variable" in tree.toText()


def test_a_snapshot_comes_from_postgresql(tmp_path: Path) -> None:
    from datasurface.md import HostPortPair, MySQLDatabase

    other = MySQLDatabase("Else", HostPortPair("db", 3306), PLACE, "x")

    tree = refused(static(), tmp_path, capture(dataContainer=other))

    [problem] = tree.getErrors()
    assert isinstance(problem, ObjectNotSupportedByDataPlatform)
    assert PostgresDatabase.__name__ in problem.description


def test_streams_of_one_name_are_refused(tmp_path: Path) -> None:
    stores = [Store("A_b", datasets=["x"]), Store("A", datasets=["b"], consistency=SINGLE)]

    tree = refused(static(stores=stores), tmp_path)

    assert "'A' and 'A_b' would both have a stream called 'A_b'" in tree.toText()


def test_a_dag_name_that_is_too_long_for_airflow_is_refused(tmp_path: Path) -> None:
    model = static(stores=[Store("S" * 128, datasets=["d" * 110], consistency=SINGLE)])

    tree = refused(model, tmp_path)

    assert "Airflow takes up to 250" in tree.toText()


def test_datasets_that_would_share_a_table_are_refused(tmp_path: Path) -> None:
    stores = [Store("A", datasets=["b_c"]), Store("a_b", datasets=["c"])]

    tree = refused(static(stores=stores), tmp_path)

    assert "'A.b_c' and 'a_b.c' would share the table 'yellowlive_a_b_c_merge'" in tree.toText()


def test_credentials_that_would_share_a_secret_are_refused(tmp_path: Path) -> None:
    model = static(postgresCredential="my_login", stores=[Store("S", credential="My_Login")])

    [problem] = refused(model, tmp_path).getErrors()

    assert "Secret 'my-login'" in problem.description
    assert "My_Login" in problem.description


def test_a_merge_of_a_model_in_another_kind_of_repository_is_refused(tmp_path: Path) -> None:
    graph = static().graph(tmp_path)
    graph.eco.liveRepo = GitLabRepository("https://gitlab.example.com", "acme/models", "main")
    tree = ValidationTree(graph.eco)

    files = graph.platform.createGraphHandler(graph).renderGraph(
        graph.platform.getCredentialStore(), tree
    )

    assert files == {}
    assert "GitLabRepository" in tree.toText()


@pytest.mark.parametrize(("live", "branch"), [("main", "main"), (None, "edited")])
def test_jobs_read_the_live_repository_or_else_the_only_one(live: str | None, branch: str) -> None:
    eco = static().build()
    eco.owningRepo = GitHubRepository("acme/models", "edited")
    eco.liveRepo = None if live is None else GitHubRepository("acme/models", live)

    settings = platformSettings(eco, yellow(eco))

    assert settings["git_repo_branch"] == branch


def test_an_issue_from_before_keeps_everything_from_being_rendered(tmp_path: Path) -> None:
    graph = static().graph(tmp_path)
    tree = ValidationTree(graph.eco)
    tree.addProblem("Something else is wrong.")

    files = graph.platform.createGraphHandler(graph).renderGraph(
        graph.platform.getCredentialStore(), tree
    )

    assert files == {}
