"""What the Yellow platform names, creates and renders."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from airflow_names import schedule_of
from conftest import import_file, registered_dags
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import String, Text
from yellow_models import IMAGE, PLACE, SINGLE, Model, Store, dataset

from datasurface.md import (
    Dataset,
    ExternallyTriggered,
    PlatformPipelineGraph,
    ValidationTree,
)
from datasurface.md.credential import (
    Credential,
    CredentialNotAvailableException,
    CredentialType,
)
from datasurface.md.schema import DDLColumn, DDLTable, NullableStatus, PrimaryKeyStatus
from datasurface.md.types import BigInt, Integer, VarChar
from datasurface.platforms.yellow import (
    JobStatus,
    KubernetesEnvVarsCredentialStore,
    YellowDataPlatform,
    YellowDatasetUtilities,
    YellowGraphHandler,
    YellowMilestoneStrategy,
    YellowPlatformServiceProvider,
)
from datasurface.platforms.yellow.dag_settings import pythonLiteral
from datasurface.platforms.yellow.kafka import hclString
from one_machine import Postgres

pytestmark = pytest.mark.embedded

HOSTILE = "'''\"\"\"\n{{ 7 * 7 }}{% raw %}\\'); import os; os._exit(1)  # \u2028é"


def static(**changes: Any) -> Model:
    return Model(
        platformClass=YellowDataPlatform, providerClass=YellowPlatformServiceProvider, **changes
    )


def bootstrap(model: Model, ring: int = 0) -> dict[str, str]:
    eco = model.build()
    return eco.getDataPlatformOrThrow(model.platform).generateBootstrapArtifacts(eco, ring)


def render(graph: PlatformPipelineGraph) -> tuple[dict[str, str], ValidationTree]:
    tree = ValidationTree(graph.eco)
    handler = graph.platform.createGraphHandler(graph)
    return handler.renderGraph(graph.platform.getCredentialStore(), tree), tree


def rendered(model: Model, folder: Path) -> dict[str, str]:
    files, tree = render(model.graph(folder))
    assert not tree.hasErrors(), tree.toText()
    return files


def settings_of(module: str) -> dict[str, Any]:
    """Return the one literal dictionary that a generated module assigns at its top."""
    for node in ast.parse(module).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict):
            found = ast.literal_eval(node.value)
            assert isinstance(found, dict)
            return found
    raise AssertionError("The module has no settings.")


def utilities(model: Model, strategy: YellowMilestoneStrategy | None = None) -> Any:
    eco = model.build()
    assert not eco.lintAndHydrateCaches().hasErrors()
    platform = eco.getDataPlatformOrThrow(model.platform)
    assert isinstance(platform, YellowDataPlatform)
    platform.milestoneStrategy = strategy or platform.milestoneStrategy
    store = eco.cache_getDatastoreOrThrow(model.stores[0].name).datastore
    return YellowDatasetUtilities(eco, platform.getCredentialStore(), platform, store)


# Names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("YellowLive", "yellowlive"),
        ("Test_DP", "test-dp"),
        ("my_cred", "my-cred"),
        ("a b__c", "a-b-c"),
        ("_Ünïcode!_", "ncode"),
        ("---", ""),
    ],
)
def test_kubernetes_names_have_lower_case_letters_digits_and_single_hyphens(
    name: str, expected: str
) -> None:
    assert YellowDataPlatform.to_k8s_name(name) == expected


def test_a_table_is_named_after_the_platform_in_lower_case() -> None:
    platform = static(platform="Test_DP").buildPlatform()

    assert platform.getTableForPlatform("airflow_dsg") == "test_dp_airflow_dsg"
    assert platform.getPhysDAGTableName() == "test_dp_airflow_dsg"


def test_long_table_names_fit_postgresql_and_stay_different() -> None:
    used = utilities(static(stores=[Store("S" * 60)]))

    names = [used.getPhysStagingTableNameForDataset(dataset(name)) for name in ("one", "two")]

    assert [len(name) for name in names] == [63, 63]
    assert names[0] != names[1]
    assert names[0][:59] == f"yellowlive_{'s' * 60}_one_staging"[:59]


def test_the_key_of_a_stream_in_the_batch_tables_tells_datasets_apart() -> None:
    used = utilities(static())

    one = YellowDatasetUtilities(used.eco, used.credStore, used.dp, used.store, "customers")

    assert (used.getKey(), one.getKey()) == ("Store1", "Store1#customers")


def test_an_unknown_dataset_is_refused_with_those_that_exist() -> None:
    used = utilities(static())

    with pytest.raises(ValueError, match=r"'nope'; its datasets are: customers, addresses"):
        YellowDatasetUtilities(used.eco, used.credStore, used.dp, used.store, "nope")


# Tables


def test_the_stream_table_has_the_documented_columns() -> None:
    table = static().buildPlatform().getAirflowDAGTable()

    assert [column.name for column in table.columns] == [
        "stream_key",
        "config_json",
        "status",
        "created_at",
        "updated_at",
    ]
    config = table.columns["config_json"].type
    assert isinstance(config, String)
    assert config.length == 2048
    assert [column.name for column in table.primary_key.columns] == ["stream_key"]


def test_the_state_of_a_batch_has_room_for_any_number_of_datasets() -> None:
    used = utilities(static())

    assert isinstance(used.getBatchMetricsTable().columns["state"].type, Text)


def test_a_live_table_holds_each_record_once() -> None:
    table = utilities(static()).getMergeSchemaForDataset(dataset("customers"), "t")

    assert [column.name for column in table.columns] == [
        "id",
        "name",
        "ds_surf_batch_id",
        "ds_surf_all_hash",
        "ds_surf_key_hash",
    ]
    assert [column.name for column in table.primary_key.columns] == ["id"]
    unique = [c for c in table.constraints if c.__class__.__name__ == "UniqueConstraint"]
    assert [list(c.columns.keys()) for c in unique] == [["ds_surf_key_hash"]]


def test_a_milestoned_table_holds_each_version_of_a_record() -> None:
    used = utilities(static(), YellowMilestoneStrategy.BATCH_MILESTONED)

    table = used.getMergeSchemaForDataset(dataset("customers"), "t")

    names = [column.name for column in table.columns]
    assert names[-2:] == ["ds_surf_batch_in", "ds_surf_batch_out"]
    assert [column.name for column in table.primary_key.columns] == ["id", "ds_surf_batch_in"]


def test_a_milestoned_table_without_a_key_takes_any_number_of_rows() -> None:
    keyless = Dataset("log", schema=DDLTable(columns=[DDLColumn("line", VarChar(10))]))
    used = utilities(static(), YellowMilestoneStrategy.BATCH_MILESTONED)

    assert not used.getMergeSchemaForDataset(keyless, "t").primary_key.columns


@pytest.mark.parametrize("strategy", YellowMilestoneStrategy)
def test_postgresql_takes_every_table_even_with_the_longest_names(
    strategy: YellowMilestoneStrategy, postgres: Postgres
) -> None:
    from datasurface.platforms.yellow.db_utils import createEngine

    database = f"tables_{strategy.value}"
    postgres.create_database(database)
    used = utilities(static(database=database, stores=[Store("S" * 100)]), strategy)
    one = used.store.datasets["customers"]
    engine = createEngine(used.dp.psp.mergeStore, postgres.user, postgres.password)

    staging = used.getStagingSchemaForDataset(one, used.getPhysStagingTableNameForDataset(one))
    merge = used.getMergeSchemaForDataset(one, used.getPhysMergeTableNameForDataset(one))
    for table in (staging, merge, used.getBatchCounterTable(), used.getBatchMetricsTable()):
        table.create(engine)

    assert {staging.name, merge.name} <= set(tables_of(postgres, database))


def tables_of(postgres: Postgres, database: str) -> list[str]:
    rows = postgres.execute(
        "SELECT table_name FROM information_schema.tables "
        "WHERE table_schema = 'public' ORDER BY table_name",
        database=database,
    )
    return [str(name) for (name,) in rows]


def test_the_schema_hash_follows_types_nullability_and_key() -> None:
    used = utilities(static())
    columns = [
        DDLColumn("id", Integer()),
        DDLColumn("id", BigInt()),
        DDLColumn("id", Integer(), nullable=NullableStatus.NOT_NULLABLE),
        DDLColumn("id", Integer(), primary_key=PrimaryKeyStatus.PK),
        DDLColumn("number", Integer()),
        DDLColumn("id", VarChar(10)),
        DDLColumn("id", VarChar(20)),
    ]
    hashes = [used.getSchemaHash(Dataset("d", schema=DDLTable(columns=[c]))) for c in columns]

    assert len(set(hashes)) == len(columns)
    assert used.getSchemaHash(dataset("a")) == used.getSchemaHash(dataset("b"))


# Bootstrap


def test_ring_0_gives_the_two_files_without_any_login_or_database(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGHOSTADDR", "192.0.2.1")
    for name in ("postgres_USER", "postgres_PASSWORD"):
        monkeypatch.delenv(name, raising=False)

    files = bootstrap(static(platform="Test_DP"))

    assert list(files) == ["kubernetes-bootstrap.yaml", "test-dp_infrastructure_dag.py"]


def test_ring_1_creates_the_batch_tables_and_can_be_repeated(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres.create_database("ring1")
    monkeypatch.setenv("my_pg_USER", postgres.user)
    monkeypatch.setenv("my_pg_PASSWORD", postgres.password)
    model = static(database="ring1", postgresCredential="my_pg")

    assert bootstrap(model, 1) == {}
    assert bootstrap(model, 1) == {}

    expected = ["yellowlive_batch_counter", "yellowlive_batch_metrics"]
    assert tables_of(postgres, "ring1") == expected


def test_ring_1_without_a_login_names_the_missing_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("postgres_USER", "postgres_PASSWORD"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(CredentialNotAvailableException, match="postgres_USER"):
        bootstrap(static(), 1)


@pytest.mark.parametrize("ring", [-1, 2])
def test_another_ring_is_refused(ring: int) -> None:
    with pytest.raises(ValueError, match=f"'YellowLive' has no bootstrap ring {ring}"):
        bootstrap(static(), ring)


def test_a_wrong_repository_name_is_refused_at_bootstrap() -> None:
    with pytest.raises(ValueError, match="'models' is not of the form owner/name"):
        bootstrap(static(repository="models"))


def infrastructure_dag(model: Model, folder: Path) -> Any:
    name = f"{YellowDataPlatform.to_k8s_name(model.platform)}_infrastructure_dag.py"
    file = folder / name
    file.write_text(bootstrap(model)[name], encoding="utf-8")
    [dag] = registered_dags(import_file(file)).values()
    return dag


def test_the_infrastructure_dag_merges_the_model_daily_once_it_is_unpaused(
    tmp_path: Path,
) -> None:
    dag = infrastructure_dag(static(platform="Test_DP"), tmp_path)

    assert dag.dag_id == "test-dp_infrastructure"
    assert schedule_of(dag) == "@daily"
    assert (dag.catchup, dag.is_paused_upon_creation, dag.max_active_runs) == (False, True, 1)
    assert [task.task_id for task in dag.topological_sort()] == [
        "start_infrastructure_tasks",
        "infrastructure_merge_task",
        "end_infrastructure_tasks",
    ]
    merge = dag.get_task("infrastructure_merge_task")
    assert [*merge.cmds, *merge.arguments] == [
        "python",
        "-m",
        "datasurface.cmd.platform",
        "handleModelMerge",
        "--model",
        "/cache/git-models",
        "--output",
        "/tmp/generated",
        "--platform",
        "Test_DP",
    ]


def test_the_merge_pod_reads_secrets_by_their_kubernetes_names(tmp_path: Path) -> None:
    model = static(postgresCredential="My_PG", gitCredential="git")

    merge = infrastructure_dag(model, tmp_path).get_task("infrastructure_merge_task")

    secrets = {
        variable.name: (
            variable.value_from.secret_key_ref.name,
            variable.value_from.secret_key_ref.key,
        )
        for variable in merge.env_vars
        if variable.value_from is not None
    }
    assert secrets == {
        "My_PG_USER": ("my-pg", "POSTGRES_USER"),
        "My_PG_PASSWORD": ("my-pg", "POSTGRES_PASSWORD"),
        "git_TOKEN": ("git", "token"),
    }


@pytest.mark.parametrize("enabled", [True, False])
def test_the_merge_pod_has_the_model_cache_when_there_is_one(enabled: bool, tmp_path: Path) -> None:
    model = static(providerArguments={"git_cache_enabled": enabled})

    merge = infrastructure_dag(model, tmp_path).get_task("infrastructure_merge_task")

    claims = [volume.persistent_volume_claim.claim_name for volume in merge.volumes]
    mounts = [mount.mount_path for mount in merge.volume_mounts]
    expected = (["test-git-model-cache"], ["/cache/git-models"]) if enabled else ([], [])
    assert (claims, mounts) == expected


def test_no_value_of_the_model_becomes_code_in_the_infrastructure_dag(tmp_path: Path) -> None:
    model = static(
        branch=HOSTILE, database=HOSTILE, providerArguments={"datasurfaceDockerImage": HOSTILE}
    )

    dag = infrastructure_dag(model, tmp_path)

    assert dag.get_task("infrastructure_merge_task").image == HOSTILE


# Merge


def test_a_merge_renders_one_file_per_stream_between_terraform_and_the_secrets(
    tmp_path: Path,
) -> None:
    model = static(
        platform="Test_DP",
        stores=[Store("Zoo"), Store("Apart", datasets=("b", "a"), consistency=SINGLE)],
    )

    assert list(rendered(model, tmp_path)) == [
        "terraform_code",
        "test-dp__Apart_b_ingestion.py",
        "test-dp__Apart_a_ingestion.py",
        "test-dp__Zoo_ingestion.py",
        "Test_DP-secrets.md",
    ]


def test_a_multi_dataset_stream_carries_all_its_settings(tmp_path: Path) -> None:
    files = rendered(static(), tmp_path)

    assert settings_of(files["yellowlive__Store1_ingestion.py"]) == {
        "stream_key": "Store1",
        "single_dataset": False,
        "datasets": ["customers", "addresses"],
        "store_name": "Store1",
        "ingestion_type": "sql_snapshot",
        "schedule_string": "* * * * *",
        "namespace_name": "ns-test",
        "platform_name": "yellowlive",
        "original_platform_name": "YellowLive",
        "postgres_hostname": "pg-data.ns-test.svc.cluster.local",
        "postgres_database": "merge",
        "postgres_port": 5432,
        "postgres_credential_secret_name": "postgres",
        "git_credential_secret_name": "git",
        "source_credential_secret_name": "postgres",
        "datasurface_docker_image": IMAGE,
        "ecosystem_k8s_name": "test",
        "git_repo_url": "https://github.com/acme/models",
        "git_repo_branch": "main",
        "git_cache_enabled": True,
        "git_cache_max_age_minutes": 5,
        "git_cache_storage_class": "standard",
        "git_cache_access_mode": "ReadWriteOnce",
        "git_cache_storage_size": "5Gi",
    }


def test_a_single_dataset_stream_names_its_dataset(tmp_path: Path) -> None:
    files = rendered(static(stores=[Store("Apart", consistency=SINGLE)]), tmp_path)

    found = settings_of(files["yellowlive__Apart_addresses_ingestion.py"])
    assert found["stream_key"] == "Apart_addresses"
    assert found["single_dataset"] is True
    assert (found["dataset_name"], found["datasets"]) == ("addresses", ["addresses"])


def test_an_original_credential_name_is_carried_where_the_secret_is_called_otherwise(
    tmp_path: Path,
) -> None:
    model = static(
        postgresCredential="My_PG",
        gitCredential="git",
        stores=[Store("Store1", credential="src_1")],
    )

    found = settings_of(rendered(model, tmp_path)["yellowlive__Store1_ingestion.py"])

    names = {key: value for key, value in found.items() if "_credential_" in key}
    assert names == {
        "postgres_credential_secret_name": "my-pg",
        "postgres_credential_name": "My_PG",
        "git_credential_secret_name": "git",
        "source_credential_secret_name": "src-1",
        "source_credential_name": "src_1",
    }


def test_a_kafka_stream_names_the_login_of_kafka_connect(tmp_path: Path) -> None:
    model = static(stores=[Store("Topics", consistency=SINGLE, kafka=True)])

    found = settings_of(rendered(model, tmp_path)["yellowlive__Topics_customers_ingestion.py"])

    assert found["ingestion_type"] == "kafka"
    assert found["kafka_connect_credential_secret_name"] == "connect"
    assert "source_credential_secret_name" not in found


def test_without_a_model_cache_its_settings_are_left_out(tmp_path: Path) -> None:
    model = static(providerArguments={"git_cache_enabled": False})

    found = settings_of(rendered(model, tmp_path)["yellowlive__Store1_ingestion.py"])

    assert {key: value for key, value in found.items() if key.startswith("git_cache")} == {
        "git_cache_enabled": False
    }


@pytest.mark.parametrize(
    ("trigger", "schedule"), [(ExternallyTriggered("outside"), None), (None, "@hourly")]
)
def test_streams_without_a_cron_trigger_have_a_schedule_too(
    trigger: Any, schedule: str | None, tmp_path: Path
) -> None:
    files = rendered(static(stores=[Store("Store1", trigger=trigger)]), tmp_path)

    assert settings_of(files["yellowlive__Store1_ingestion.py"])["schedule_string"] == schedule


def test_airflow_finds_one_dag_in_each_static_file(tmp_path: Path) -> None:
    files = rendered(static(stores=[Store("Store1"), Store("Store2")]), tmp_path)
    found = {}
    for name, text in files.items():
        if name.endswith(".py"):
            (tmp_path / name).write_text(text, encoding="utf-8")
            [dag] = registered_dags(import_file(tmp_path / name)).values()
            found[name] = dag.dag_id

    assert found == {
        "yellowlive__Store1_ingestion.py": "yellowlive__Store1_ingestion",
        "yellowlive__Store2_ingestion.py": "yellowlive__Store2_ingestion",
    }


def test_no_value_of_the_model_becomes_code_in_a_static_file(tmp_path: Path) -> None:
    model = static(database=HOSTILE, providerArguments={"datasurfaceDockerImage": HOSTILE})

    text = rendered(model, tmp_path)["yellowlive__Store1_ingestion.py"]

    found = settings_of(text)
    assert found["datasurface_docker_image"] == found["postgres_database"] == HOSTILE
    compile(text, "file", "exec")


@given(
    st.dictionaries(
        st.text(), st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text())
    )
)
def test_settings_survive_being_written_as_python(settings: dict[str, Any]) -> None:
    text = pythonLiteral(settings)

    assert text.isascii()
    assert ast.literal_eval(text) == settings
    assert len(text.splitlines()) == len(settings) + 2


def test_a_value_without_a_literal_is_refused() -> None:
    class Trap(str):
        def __repr__(self) -> str:
            return "__import__('os')"

    for value in (Trap("x"), object(), 1.5, b"x", ("a",), [Trap("x")]):
        with pytest.raises(TypeError, match="'key' cannot be written as a literal"):
            pythonLiteral({"key": value})


def test_two_merges_of_one_model_give_the_same_files(tmp_path: Path) -> None:
    model = static(stores=[Store(name) for name in ("B", "C", "A")])

    assert rendered(model, tmp_path) == rendered(model, tmp_path)


# Terraform


def test_without_kafka_terraform_is_a_comment(tmp_path: Path) -> None:
    lines = rendered(static(), tmp_path)["terraform_code"].splitlines()

    assert len(lines) == 1
    assert lines[0].startswith("# ")


def test_each_kafka_topic_gets_a_connector_into_its_staging_table(tmp_path: Path) -> None:
    model = static(stores=[Store("Topics", consistency=SINGLE, kafka=True), Store("Store1")])

    text = rendered(model, tmp_path)["terraform_code"]

    assert text.count('resource "kafka-connect_connector"') == 2
    assert '"topics" = "customers"' in text
    assert '"table.name.format" = "yellowlive_topics_customers_staging"' in text
    assert 'url = "http://kafka-connect-service.ns-test.svc.cluster.local:8083"' in text
    assert "store1" not in text


def test_terraform_takes_hostile_texts_as_texts() -> None:
    assert hclString('a"b\\c\n${x} %{y}') == '"a\\"b\\\\c\\n$${x} %%{y}"'


# Secrets


def test_the_secrets_page_lists_every_secret_once(tmp_path: Path) -> None:
    stores = [Store("S1"), Store("S2", credential="src_1"), Store("S3", credential="src_1")]

    page = rendered(static(stores=stores), tmp_path)["YellowLive-secrets.md"]

    assert page.startswith("# Kubernetes Secrets for YellowLive\n")
    assert "Total secrets required: 3\n" in page
    assert "**Namespace:** ns-test\n" in page
    headings = [line for line in page.splitlines() if line.startswith("#")]
    assert headings == [
        "# Kubernetes Secrets for YellowLive",
        "## Overview",
        "## Required Secrets",
        "### Platform Core",
        "#### `postgres`",
        "#### `git`",
        "### Ingestion Source",
        "#### `src-1`",
        "## Verification",
        "## Notes",
    ]
    assert "- pods that ingest datastore `S2`\n- pods that ingest datastore `S3`\n" in page


def test_the_merge_stores_secret_has_the_login_for_pods_and_for_airflow(tmp_path: Path) -> None:
    page = rendered(static(postgresCredential="my_pg"), tmp_path)["YellowLive-secrets.md"]

    assert (
        """\
kubectl create secret generic my-pg \\
  --from-literal=POSTGRES_USER='<user>' \\
  --from-literal=POSTGRES_PASSWORD='<password>' \\
  --from-literal=my_pg_USER='<user>' \\
  --from-literal=my_pg_PASSWORD='<password>' \\
  --namespace ns-test
"""
        in page
    )
    assert "`envFrom`" in page
    assert "Never commit actual secret values" in page


def test_kafka_connects_secret_has_the_keys_that_its_pods_read(tmp_path: Path) -> None:
    model = static(stores=[Store("Topics", consistency=SINGLE, kafka=True)])

    page = rendered(model, tmp_path)["YellowLive-secrets.md"]

    section = page.partition("#### `connect`")[2].partition("####")[0]
    assert "--from-literal=api_key=" in section
    assert "--from-literal=api_secret=" in section


# Credentials


def store_of_credentials() -> KubernetesEnvVarsCredentialStore:
    return KubernetesEnvVarsCredentialStore("store", PLACE, "ns-test")


def test_credentials_are_read_under_their_original_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "My_Login_USER": "u",
        "My_Login_PASSWORD": "p'\"$ ",
        "tok_TOKEN": "t",
        "cert_PUB": "1",
        "cert_PRV": "2",
        "cert_PWD": "3",
    }.items():
        monkeypatch.setenv(name, value)
    store = store_of_credentials()

    login = Credential("My_Login", CredentialType.USER_PASSWORD)
    assert store.getAsUserPassword(login) == ("u", "p'\"$ ")
    assert store.getAsToken(Credential("tok", CredentialType.API_TOKEN)) == "t"
    certificate = Credential("cert", CredentialType.CLIENT_CERT_WITH_KEY)
    assert store.getAsPublicPrivateCertificate(certificate) == ("1", "2", "3")


def test_a_missing_variable_is_named_and_the_present_one_is_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("login_PASSWORD", "s3cret")
    monkeypatch.delenv("login_USER", raising=False)
    credential = Credential("login", CredentialType.USER_PASSWORD)
    tree = ValidationTree(credential)

    store_of_credentials().checkCredentialIsAvailable(credential, tree)
    with pytest.raises(CredentialNotAvailableException, match="login_USER") as caught:
        store_of_credentials().getAsUserPassword(credential)

    assert "login_USER" in tree.toText()
    assert "s3cret" not in str(caught.value) + tree.toText()


# Extending


def test_a_plain_subclass_is_a_whole_platform(tmp_path: Path) -> None:
    class Sub(YellowDataPlatform):
        pass

    model = static()
    theirs = rendered(model, tmp_path)
    model.platformClass = Sub

    assert rendered(model, tmp_path) == theirs


def test_a_graph_handler_can_replace_the_static_files_alone(tmp_path: Path) -> None:
    class WithoutFiles(YellowGraphHandler):
        def createAirflowDAGs(self, *_: Any) -> dict[str, str]:
            return {}

    graph = static().graph(tmp_path)
    platform = graph.platform
    assert isinstance(platform, YellowDataPlatform)

    files = WithoutFiles(platform, graph).renderGraph(
        platform.getCredentialStore(), ValidationTree(graph.eco)
    )

    assert list(files) == ["terraform_code", "YellowLive-secrets.md"]


def test_a_problem_found_while_rendering_takes_back_every_file(tmp_path: Path) -> None:
    class WithProblem(YellowGraphHandler):
        def createAirflowDAGs(self, _eco: Any, issue_tree: ValidationTree) -> dict[str, str]:
            issue_tree.addProblem("Something is wrong.")
            return {}

    graph = static().graph(tmp_path)
    platform = graph.platform
    assert isinstance(platform, YellowDataPlatform)

    files = WithProblem(platform, graph).renderGraph(
        platform.getCredentialStore(), ValidationTree(graph.eco)
    )

    assert files == {}


def test_the_results_of_a_job_have_the_documented_values() -> None:
    assert {status.name: status.value for status in JobStatus} == {
        "KEEP_WORKING": 1,
        "DONE": 0,
        "ERROR": -1,
    }


def test_resetting_a_stream_that_does_not_exist_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("postgres_USER", "u")
    monkeypatch.setenv("postgres_PASSWORD", "p")
    graph = static().graph(tmp_path)

    result = graph.platform.resetBatchState(graph.eco, "Nowhere")

    assert result.startswith("ERROR: ")
    assert "Nowhere" in result


def test_the_model_and_the_platform_describe_themselves_as_json() -> None:
    eco = static().build()

    text = json.dumps(eco.to_json())
    provider = json.dumps(static().buildPlatform().psp.to_json())

    assert "YellowDataPlatform" in text
    assert "YellowPlatformServiceProvider" in provider


def test_jobs_read_the_live_repository_where_one_is_given(tmp_path: Path) -> None:
    graph = Model(platformClass=YellowDataPlatform).graph(tmp_path)
    branches = []
    for live in (graph.eco.liveRepo, None):
        graph.eco.liveRepo = live
        handler = graph.platform.createGraphHandler(graph)
        tree = ValidationTree(graph.eco)
        files = handler.renderGraph(graph.platform.getCredentialStore(), tree)
        [line] = [
            line
            for line in files["yellowlive__Store1_ingestion.py"].splitlines()
            if "'git_repo_branch'" in line
        ]
        branches.append(ast.literal_eval("{" + line + "}")["git_repo_branch"])

    assert branches == ["main", "edited"]
