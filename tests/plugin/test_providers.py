"""Where a services provider bootstraps and merges its platforms: DataSurface 0.0.56 and 0.0.57."""

from __future__ import annotations

import importlib
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow_names import AirflowFailException
from conftest import Site, import_file, problems, registered_dags
from pytest_mock import MockerFixture
from told import slack_webhook
from transforming import TRANSFORMER, transform
from yellow_models import (
    PLACE,
    PROVIDER,
    PROVIDERS_BOOTSTRAP,
    SINGLE,
    Model,
    Store,
    bootstrap,
)

from datasurface import md
from datasurface.md import HostPortPair, ValidationTree
from datasurface.platforms import yellow
from datasurface.platforms.yellow import YellowDataPlatform, YellowPlatformServiceProvider
from yellow_dynamic import RunSettings, SlackWebhook, YellowDynamicDataPlatform
from yellow_dynamic.population import MergeError
from yellow_dynamic.stream_configs import config_rows, stream_configs

pytestmark = pytest.mark.skipif(
    not PROVIDERS_BOOTSTRAP, reason="needs DATASURFACE_SRC with DataSurface 0.0.56 or 0.0.57"
)


def provider_of(model: Model, folder: Path) -> tuple[Any, Any]:
    """Return a model's services provider and its ecosystem, all dataset groups assigned."""
    graph = model.graph(folder)
    platform: Any = graph.platform
    return platform.psp, graph.eco


def rows_of(model: Model, folder: Path) -> dict[str, dict[str, Any]]:
    graph = model.graph(folder)
    tree = ValidationTree(graph.eco)
    platform: Any = graph.platform
    rows = config_rows(platform, graph.eco, stream_configs(platform, graph, tree), tree)
    assert not tree.hasErrors(), problems(tree)
    return {key: json.loads(text) for key, text in rows.items()}


def merge(site: Site) -> None:
    psp, eco = provider_of(site.model, site.folder)
    psp.mergeHandler(eco, str(site.folder / "output"))


def factories(site: Site) -> list[tuple[str, str]]:
    """Return what the base's infrastructure DAG builds DAGs from."""
    return [
        (str(platform), str(kind))
        for platform, kind in site.sql(
            "SELECT platform_name, factory_type FROM provider_factory_dags ORDER BY 1, 2"
        )
    ]


# --- Ours and the base's, side by side --------------------------------------------------------


def test_base_builds_the_dags_of_its_own_platforms_alone(site: Site) -> None:
    site.model.others = {"Plain": YellowDataPlatform}
    site.bootstrap()
    site.sql(
        "INSERT INTO provider_factory_dags (platform_name, factory_type, status) "
        "VALUES ('YellowLive', 'platform', 'active')"
    )

    merge(site)

    assert factories(site) == [("Plain", "datatransformer"), ("Plain", "platform")]
    assert site.sql("SELECT stream_key FROM {table}") == [("Store1",)]
    assert site.sql("SELECT stream_key FROM plain_airflow_dsg") == [("Store1",)]


def test_two_of_ours_have_rows_each_and_the_base_none(site: Site) -> None:
    site.model.others = {"Twin": YellowDynamicDataPlatform}
    site.bootstrap()

    merge(site)

    assert factories(site) == []
    assert site.sql("SELECT stream_key FROM {table}") == [("Store1",)]
    assert site.sql("SELECT stream_key FROM twin_airflow_dsg") == [("Store1",)]


def test_provider_has_its_platforms_again_where_the_base_fails(
    site: Site, mocker: MockerFixture
) -> None:
    psp, eco = provider_of(site.model, site.folder)
    mocker.patch.object(
        YellowPlatformServiceProvider, "populateFactoryDAGConfigurations", side_effect=OSError
    )

    with pytest.raises(OSError):
        psp.populateFactoryDAGConfigurations(eco)

    assert list(psp.dataPlatforms) == ["YellowLive"]


def test_infrastructure_dag_of_the_base_stays_where_it_has_a_platform(site: Site) -> None:
    alone = Model(database=site.database, platformClass=YellowDataPlatform)
    base_of_one = bootstrap(alone.buildPlatform(), alone.build(), 0)
    site.model.others = {"Plain": YellowDataPlatform}

    files = site.bootstrap()

    theirs, ours = files["provider_infrastructure_dag.py"], "provider_dynamic_infrastructure_dag.py"
    assert theirs == base_of_one["provider_infrastructure_dag.py"]
    assert "'name': 'provider-dynamic'" in files[ours]
    assert "'factory_files': ['yellowlive_factory_dag.py']" in files[ours]
    assert "plain_factory_dag.py" not in files


@pytest.mark.parametrize("platform", [YellowDataPlatform, YellowDynamicDataPlatform])
def test_provider_without_a_dynamic_platform_is_said_by_lint_ring_0_and_merge(
    site: Site, platform: type[YellowDataPlatform], caplog: pytest.LogCaptureFixture
) -> None:
    site.model.platformClass = platform
    said = "none of its platforms is dynamic: 'YellowLive' is a YellowDataPlatform"

    tree = site.model.build().lintAndHydrateCaches()
    psp, eco = provider_of(site.model, site.folder)
    psp.generateBootstrapArtifacts(eco, 0)
    psp.generateBootstrapArtifacts(eco, 1)
    psp.mergeHandler(eco, str(site.folder / "output"))

    warned = [str(problem.description) for problem in tree.getWarnings()]
    times = 1 if platform is YellowDataPlatform else 0
    assert sum(said in text for text in warned) == times
    assert sum(said in text for text in caplog.messages) == 3 * times


def test_one_infrastructure_dag_and_one_set_of_jobs_serve_all_of_ours(site: Site) -> None:
    site.model.others = {"Twin": YellowDynamicDataPlatform}

    files = site.bootstrap()

    dag = files["provider_infrastructure_dag.py"]
    assert "'factory_files': ['yellowlive_factory_dag.py', 'twin_factory_dag.py']" in dag
    assert "'name': 'provider'" in dag
    assert f"'DATASURFACE_PSP_NAME': '{PROVIDER}'" in dag
    job = files["provider-bootstrap-job.yaml"]
    assert "/workspace/ring-0/Provider/yellowlive_factory_dag.py" in job
    assert "--container factory-file-2 > twin_factory_dag.py" in job
    assert {"twin_factory_dag.py", "twin-airflow-reader.sql", "yellowlive-airflow-reader.sql"} <= (
        files.keys()
    )
    for name in ("provider_model_merge_job.yaml", "provider_reconcile_views_job.yaml"):
        assert f'- "--psp"\n            - "{PROVIDER}"\n' in files[name]


def infrastructure(site: Site) -> Any:
    """Return the DAG that merges two platforms of ours, with their factory files beside it."""
    site.model.others = {"Twin": YellowDynamicDataPlatform}
    files = site.bootstrap()
    for name in ("twin_factory_dag.py", "provider_infrastructure_dag.py"):
        (site.folder / name).write_text(files[name], encoding="utf-8")
    file = site.folder / "provider_infrastructure_dag.py"
    [dag] = registered_dags(import_file(file)).values()
    return dag


def test_check_looks_at_a_platform_whatever_is_wrong_with_another(site: Site) -> None:
    dag = infrastructure(site)
    site.factory_file.unlink()
    site.sql("DROP TABLE twin_airflow_dsg")

    with pytest.raises(AirflowFailException) as failed:
        dag.get_task("check").python_callable()

    assert f"There is no {site.factory_file}, so the platform has no DAG." in str(failed.value)
    assert "The configuration table 'twin_airflow_dsg' of platform 'Twin'" in str(failed.value)


def test_people_of_two_platforms_are_told_once_though_a_factory_file_is_missing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.model.platformArguments["onFailure"] = SlackWebhook("slack_failures")
    dag = infrastructure(site)
    callback = dag.on_failure_callback
    context = {"dag": dag, "run_id": "manual__2026-11-27T03:00:00+00:00", "reason": "task_failure"}

    with slack_webhook() as (texts, connection):
        monkeypatch.setenv("AIRFLOW_CONN_SLACK_FAILURES", connection)
        (callback[0] if isinstance(callback, list) else callback)(context)
        assert len(texts) == 1
        site.factory_file.unlink()
        (callback[0] if isinstance(callback, list) else callback)(context)

    assert len(texts) == 2


def test_files_of_a_provider_take_the_places_of_the_bases() -> None:
    def files(model: Model) -> set[str]:
        eco = model.build()
        return set(bootstrap(eco.getDataPlatformOrThrow("YellowLive"), eco, 0))

    ours = files(Model(provider="Test_DP"))
    base = files(
        Model(
            provider="Test_DP",
            platformClass=YellowDataPlatform,
            providerClass=YellowPlatformServiceProvider,
        )
    )

    assert "test_dp_infrastructure_dag.py" in base <= ours


def test_ring_1_makes_table_and_history_of_each_platform(site: Site) -> None:
    site.model.others = {"Twin": YellowDynamicDataPlatform}

    site.bootstrap()

    for table in ("yellowlive_airflow_dsg_history", "twin_airflow_dsg_history"):
        assert site.sql(f"TABLE {table}") == []


def test_ring_1_renders_nothing_that_would_overwrite_ring_0(site: Site) -> None:
    site.model.others = {"Plain": YellowDataPlatform}
    eco = site.model.build()

    assert bootstrap(eco.getDataPlatformOrThrow("YellowLive"), eco, 1) == {}

    for table in ("yellowlive_airflow_dsg", "plain_airflow_dsg", "provider_factory_dags"):
        assert site.sql(f"TABLE {table}") == []


def test_platform_without_streams_keeps_all_of_its_provider_from_being_merged(site: Site) -> None:
    site.model.others = {"Idle": YellowDynamicDataPlatform}
    site.bootstrap()
    psp, eco = provider_of(Model(database=site.database), site.folder)
    psp.dataPlatforms["Idle"] = Model(platform="Idle").buildPlatform()

    with pytest.raises(MergeError, match=r"'Provider' was merged: .* platform 'Idle'"):
        psp.mergeHandler(eco, str(site.folder / "output"))

    assert site.sql("SELECT * FROM {table}") == []


# --- What a model may not say -----------------------------------------------------------------


def lint_of(model: Model) -> list[str]:
    return problems(model.build().lintAndHydrateCaches())


def test_provider_that_would_not_bootstrap_it_is_a_problem_of_the_platform() -> None:
    found = lint_of(Model(providerClass=YellowPlatformServiceProvider))

    [problem] = [text for text in found if "YellowDynamicPlatformServiceProvider" in text]
    assert problem.startswith(
        "Platform 'YellowLive' is given to services provider 'Provider', which is a "
        "YellowPlatformServiceProvider."
    )


def assembly_classes() -> list[Any]:
    """Return the classes of assemblies that the release has."""
    if not PROVIDERS_BOOTSTRAP:
        return []
    modules = (importlib.import_module(f"{yellow.__name__}.{name}") for name in ASSEMBLIES)
    found = {each for module in modules for each in vars(module).values() if is_assembly(each)}
    return sorted(found, key=lambda each: str(each.__name__))


ASSEMBLIES = ("assembly", "aws_assembly")


def is_assembly(value: Any) -> bool:
    base = vars(importlib.import_module(f"{yellow.__name__}.assembly"))["K8sAssemblyFactory"]
    return isinstance(value, type) and issubclass(value, base) and value is not base


def give_assembly(model: Model, kind: Any) -> tuple[Any, Any]:
    """Return a model's platform and its ecosystem, with an assembly of this class."""
    eco = model.build()
    platform: Any = eco.getDataPlatformOrThrow(model.platform)
    psp, amount = platform.psp, vars(md)["StorageRequirement"]("1G")
    values = {
        "name": "Assembly",
        "namespace": "ns-test",
        "git_cache_config": psp.yp_assm.git_cache_config,
        "nfs_server_node": "node",
        "afHostPortPair": HostPortPair("airflow", 5432),
        "afDB": psp.mergeStore,
        "afDBcred": psp.mergeRW_Credential,
        "aws_account_id": "1" * 12,
        "airflow_iam_role_arn": "arn:aws:iam::111111111111:role/airflow",
        **dict.fromkeys(
            ("afWebserverResourceLimits", "afSchedulerResourceLimits"), limits("1G", 1)
        ),
        **dict.fromkeys(("dbStorageNeeds", "mergeDBStorageNeeds", "afDBStorageNeeds"), amount),
    }
    names = inspect.signature(kind).parameters
    psp.yp_assm = kind(**{name: value for name, value in values.items() if name in names})
    return platform, eco


def jobs_of(files: dict[str, str]) -> dict[str, str]:
    """Return the manifests of Jobs among the files of ring 0."""
    return {name: text for name, text in files.items() if name.endswith("job.yaml")}


def pod_needs(job: str) -> dict[str, Any]:
    """Return what the pod of a Job gets from elsewhere."""
    spec = yaml.safe_load(job)["spec"]["template"]["spec"]
    keys = [
        each["valueFrom"]["secretKeyRef"]
        for container in spec["containers"]
        for each in container["env"]
        if "valueFrom" in each
    ]
    claims = [each.get("persistentVolumeClaim", {}).get("claimName") for each in spec["volumes"]]
    return {
        "account": spec.get("serviceAccountName"),
        "secrets": {(key["name"], key["key"]) for key in keys},
        "claims": set(filter(None, claims)),
    }


@pytest.mark.parametrize("kind", assembly_classes(), ids=lambda kind: str(kind.__name__))
def test_jobs_get_what_the_assembly_gives_those_of_the_base_or_it_is_refused(kind: Any) -> None:
    base = Model(platformClass=YellowDataPlatform, providerClass=YellowPlatformServiceProvider)
    theirs = jobs_of(bootstrap(*give_assembly(base, kind), 0))
    platform, eco = give_assembly(Model(), kind)
    refused = [text for text in problems(eco.lintAndHydrateCaches()) if "assembly" in text]

    if not any("secretsmanager" in job for job in theirs.values()):
        ours = jobs_of(bootstrap(platform, eco, 0))
        for name, job in theirs.items():
            assert pod_needs(ours[name]) == pod_needs(job), name
        assert refused == []
        return

    [problem] = refused
    assert problem.startswith(
        f"Platform 'YellowLive' cannot use the assembly 'Assembly', a {kind.__name__}, of services "
        "provider 'Provider': with it, jobs get their logins from AWS Secrets Manager"
    )
    with pytest.raises(ValueError, match="Use YellowTwinDatabaseAssembly or"):
        bootstrap(platform, eco, 0)


def test_merge_store_that_is_no_postgresql_is_named() -> None:
    other = vars(md)["SQLServerDatabase"]
    store = other("OtherDB", hostPort=HostPortPair("h", 1433), locations=PLACE, databaseName="m")
    eco = Model().build()
    platform: Any = eco.getDataPlatformOrThrow("YellowLive")
    platform.psp.mergeStore = store

    found = problems(eco.lintAndHydrateCaches())

    assert (
        "The merge store 'OtherDB' of services provider 'Provider' is a SQLServerDatabase; platform"
        " 'YellowLive' needs a PostgresDatabase."
    ) in found


def test_platforms_of_one_infrastructure_dag_have_one_schedule() -> None:
    eco = Model(
        others={"Twin": YellowDynamicDataPlatform},
        platformArguments={"infrastructureSchedule": "@daily"},
    ).build()
    assert not any(
        "infrastructureSchedules" in text for text in problems(eco.lintAndHydrateCaches())
    )
    twin: Any = eco.getDataPlatformOrThrow("Twin")
    twin.infrastructureSchedule = "@hourly"

    found = problems(eco.lintAndHydrateCaches())

    assert any("the infrastructureSchedules '@daily', '@hourly'" in text for text in found)
    twin.infrastructureSchedule = ["@daily"]
    assert any("['@daily']" in text for text in problems(eco.lintAndHydrateCaches()))


# --- What the model says of jobs --------------------------------------------------------------


def limits(memory: str, cpu: float) -> Any:
    assembly: Any = importlib.import_module("datasurface.platforms.yellow.assembly")
    amount = vars(md)["StorageRequirement"](memory)
    return assembly.K8sResourceLimits(amount, amount, cpu, cpu)


def requests(row: dict[str, Any]) -> dict[str, str]:
    return dict(row["resources"]["requests"])


def test_hints_of_the_model_are_run_settings_and_ours_win(tmp_path: Path) -> None:
    hint = vars(yellow)["K8sIngestionHint"]
    of_transformer = vars(yellow)["K8sDataTransformerHint"]("Producer", limits("3G", 1.5))
    hints = [hint("Store1", limits("2G", 1)), hint("Each", limits("4G", 2), "x"), of_transformer]
    model = transform(
        Model(
            providerArguments={"hints": {each.name: each for each in hints}},
            platformArguments={"runsOf": {"Each_x": RunSettings(resources={"requests": {}})}},
        )
    )

    rows = rows_of(model, tmp_path)

    assert requests(rows["Store1"]) == {"memory": "2Gi", "cpu": "1000m"}
    assert requests(rows[TRANSFORMER]) == {"memory": "3Gi", "cpu": "1500m"}
    assert rows["Each_x"]["resources"] == {"requests": {}}
    # As DataSurface's own factory has it where there is no hint.
    assert rows["Each_y"]["resources"] == {
        "requests": {"memory": "256M", "cpu": "100m"},
        "limits": {"memory": "1Gi", "cpu": "500m"},
    }


def test_hint_of_a_dataset_is_for_its_stream_alone(tmp_path: Path) -> None:
    hint = vars(yellow)["K8sIngestionHint"]("Each", limits("4G", 2), "x")

    stores = [Store("Each", ["x", "y"], SINGLE)]
    model = Model(stores=stores, providerArguments={"hints": {hint.name: hint}})

    rows = rows_of(model, tmp_path)

    assert requests(rows["Each_x"]) == {"memory": "4Gi", "cpu": "2000m"}
    assert requests(rows["Each_y"]) == {"memory": "256M", "cpu": "100m"}


def test_transformer_without_a_hint_has_what_datasurface_gives_one(tmp_path: Path) -> None:
    rows = rows_of(transform(Model()), tmp_path)

    assert rows[TRANSFORMER]["resources"] == {
        "requests": {"memory": "512M", "cpu": "200m"},
        "limits": {"memory": "2Gi", "cpu": "1000m"},
    }


def test_priority_comes_from_the_workspaces_that_read_a_stream(tmp_path: Path) -> None:
    model = Model(
        stores=[Store("Store1"), Store("Each", ["x"], SINGLE)],
        priority="CRITICAL",
        platformArguments={"runsOf": {"Each_x": RunSettings(priorityWeight=9)}},
    )

    rows = rows_of(model, tmp_path)

    assert rows["Store1"]["priority_weight"] == 4
    assert rows["Each_x"]["priority_weight"] == 9


def test_transformer_and_its_output_have_a_priority_too(tmp_path: Path) -> None:
    rows = rows_of(transform(Model(priority="HIGH")), tmp_path)

    assert {key: row["priority_weight"] for key, row in rows.items()} == dict.fromkeys(rows, 3)


def test_store_of_watermarks_is_a_stream_of_its_own_login(tmp_path: Path) -> None:
    model = Model(stores=[Store("Store1", watermark="id", credential="source_login")])

    row = rows_of(model, tmp_path)["Store1"]

    assert row["ingestion_type"] == "sql_source"
    assert row["source_credential_secret_name"] == "source-login"


def test_size_of_the_cache_is_a_quantity_of_kubernetes(tmp_path: Path) -> None:
    model = Model(
        providerArguments={"git_cache_storage_size": vars(md)["StorageRequirement"]("7G")}
    )

    assert rows_of(model, tmp_path)["Store1"]["git_cache_storage_size"] == "7Gi"


def test_jobs_have_the_cache_the_images_and_the_secrets_of_the_release(site: Site) -> None:
    kinds = vars(yellow)["K8sImagePullPolicy"]
    site.model = Model(
        database=site.database,
        stores=[Store("Store1", credential="Source_Cred")],
        providerArguments={
            "git_cache_claim": "models-pvc",
            "git_cache_folder": "/models",
            "image_pull_policy": kinds.NEVER,
        },
    )
    site.bootstrap()
    site.merge_cleanly()

    [dag] = site.parse().values()

    job = dag.get_task("snapshot_merge_job")
    keys = {
        variable.name: variable.value_from.secret_key_ref.key
        for variable in job.env_vars
        if variable.value_from
    }
    assert keys == {
        "postgres_USER": "postgres_USER",
        "postgres_PASSWORD": "postgres_PASSWORD",
        "git_TOKEN": "token",
        "Source_Cred_USER": "source-cred_USER",
        "Source_Cred_PASSWORD": "source-cred_PASSWORD",
    }
    assert job.volumes[0].persistent_volume_claim.claim_name == "models-pvc"
    assert job.volume_mounts[0].mount_path == "/models"
    assert job.arguments[job.arguments.index("--git-repo-path") + 1] == "/models"
    assert job.image_pull_policy == "Never"
    assert "absolute" in str(job.weight_rule).lower()


def test_platforms_of_two_providers_are_told_apart_by_their_names_in_kubernetes() -> None:
    eco = Model().build()
    other: Any = Model(platform="YELLOWLIVE", provider="Other").buildPlatform()
    vars(eco)["platformServicesProviders"].append(other.psp)
    tree = ValidationTree(eco)

    eco.getDataPlatformOrThrow("YellowLive").lint(eco, tree)

    assert "'YellowLive' and 'YELLOWLIVE' would share the name" in str(problems(tree))
