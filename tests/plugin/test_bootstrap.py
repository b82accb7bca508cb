"""What bootstrap writes and creates."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Site, problems
from sqlalchemy.exc import OperationalError, ProgrammingError
from yellow_models import PROVIDERS_BOOTSTRAP, SINGLE, Model, Store, bootstrap

from datasurface.md import Credential
from datasurface.md.credential import CredentialType
from datasurface.platforms.yellow import YellowDataPlatform, YellowPlatformServiceProvider
from one_machine import free_port
from yellow_dynamic.deployment import advise_shards
from yellow_dynamic.plugin import deployment_files


def column_type(site: Site) -> str:
    [(found,)] = site.sql(
        "SELECT data_type FROM information_schema.columns "
        "WHERE table_name = '{table}' AND column_name = 'config_json'"
    )
    return str(found)


def test_ring_0_adds_the_factory_and_deployment_files_to_all_that_the_base_renders() -> None:
    base = Model(platformClass=YellowDataPlatform).build()
    eco = Model().build()
    platform: Any = eco.getDataPlatformOrThrow("YellowLive")

    ours = bootstrap(platform, eco, 0)
    theirs = bootstrap(base.getDataPlatformOrThrow("YellowLive"), base, 0)

    added = {"yellowlive_factory_dag.py", *deployment_files([platform], eco)}
    assert set(ours) == set(theirs) | added
    of_transformers = [] if PROVIDERS_BOOTSTRAP else ["yellowlive_datatransformer_factory_dag.py"]
    unit = "provider" if PROVIDERS_BOOTSTRAP else "yellowlive"
    # Whatever of these names the base renders is replaced.
    assert added == {
        "yellowlive_factory_dag.py",
        *of_transformers,
        f"{unit}_infrastructure_dag.py",
        f"{unit}_model_merge_job.yaml",
        f"{unit}_reconcile_views_job.yaml",
        f"{unit}_ring1_init_job.yaml",
        "yellowlive-airflow-patch.yaml",
        "yellowlive-airflow-reader.sql",
        "yellowlive-airflow-values.yaml",
        f"{unit}-bootstrap-job.yaml",
    }
    unchanged = set(theirs) - added
    assert {name: ours[name] for name in unchanged} == {name: theirs[name] for name in unchanged}
    assert {"kubernetes-bootstrap.yaml", f"{unit}_infrastructure_dag.py"} <= set(theirs)


def test_ring_0_renders_as_many_equal_factory_files_as_the_platform_asks_for() -> None:
    eco = Model(platformArguments={"factoryShards": 3}).build()

    files = bootstrap(eco.getDataPlatformOrThrow("YellowLive"), eco, 0)

    factories = {name: text for name, text in files.items() if "live_factory_dag" in name}
    assert sorted(factories) == [
        "yellowlive_factory_dag.py",
        "yellowlive_factory_dag_2.py",
        "yellowlive_factory_dag_3.py",
    ]
    assert len(set(factories.values())) == 1


@pytest.mark.parametrize("shards", [0, -1, True, "3", 1.0, None, 1001])
def test_number_of_factory_files_that_is_none_is_refused(shards: object) -> None:
    eco = Model(platformArguments={"factoryShards": shards}).build()

    tree = eco.lintAndHydrateCaches()

    [text] = [text for text in problems(tree) if "factoryShards" in text]
    assert text == (
        f"factoryShards of platform 'YellowLive' is {shards!r}; it must be a whole number from 1 "
        "to 1000."
    )
    with pytest.raises(ValueError, match="factoryShards"):
        bootstrap(eco.getDataPlatformOrThrow("YellowLive"), eco, 0)


@pytest.mark.parametrize(
    ("streams", "shards", "level", "suits"),
    [
        (0, 1, "INFO", 1),
        (1_000, 1, "INFO", 1),
        (1_001, 1, "WARNING", 2),
        (100_000, 100, "INFO", 100),
        (100_000, 99, "WARNING", 100),
    ],
)
def test_too_few_factory_files_for_the_streams_are_warned_of(
    caplog: pytest.LogCaptureFixture, streams: int, shards: int, level: str, suits: int
) -> None:
    caplog.set_level("INFO", logger="yellow_dynamic")

    advise_shards("YellowLive", shards, streams)

    [record] = caplog.records
    assert record.levelname == level
    assert record.getMessage() == (
        f"Platform 'YellowLive' has {streams} streams and factoryShards={shards}; "
        f"factoryShards={suits} suits them, which is one factory file for each 1000 streams."
    )


def test_ring_0_counts_the_streams_of_the_model(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="yellow_dynamic")
    model = Model(stores=[Store("One"), Store("Two", ["a", "b"], consistency=SINGLE)])
    graph = model.graph(tmp_path)

    bootstrap(graph.platform, graph.eco, 0)

    assert "'YellowLive' has 3 streams" in caplog.text


def test_ring_0_needs_no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.1")
    monkeypatch.setenv("PGPORT", str(free_port()))
    eco = Model().build()

    assert bootstrap(eco.getDataPlatformOrThrow("YellowLive"), eco, 0)


def test_ring_1_creates_the_table_once(site: Site) -> None:
    site.bootstrap()
    site.insert("Kept", "{}")

    site.bootstrap()

    assert column_type(site) == "text"
    assert site.sql("SELECT stream_key FROM {table}") == [("Kept",)]


def test_ring_1_widens_the_plans_column_in_place(site: Site) -> None:
    site.sql(
        "CREATE TABLE {table} (stream_key VARCHAR(255) PRIMARY KEY, config_json VARCHAR(2048), "
        "status VARCHAR(50), created_at TIMESTAMP, updated_at TIMESTAMP)"
    )
    site.insert("Kept", "{}")

    site.bootstrap()

    assert column_type(site) == "text"
    assert site.sql("SELECT stream_key FROM {table}") == [("Kept",)]


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("json_type", ["json", "jsonb"])
def test_merge_refuses_a_column_of_json_until_ring_1_has_made_it_text(
    installed: Site, json_type: str
) -> None:
    before = installed.sql("SELECT * FROM {table}")
    installed.sql(
        f"ALTER TABLE {{table}} ALTER config_json TYPE {json_type} USING config_json::{json_type}"
    )
    installed.model.stores = [Store("Store1"), Store("New")]

    _, tree = installed.merge()

    [problem] = problems(tree)
    assert f"config_json of table {installed.table!r} has the type {json_type} instead" in problem
    assert "Run generatePlatformBootstrap with --ringLevel 1, which makes it text." in problem
    installed.bootstrap()
    installed.merge_cleanly()
    assert column_type(installed) == "text"
    after = {row[0]: row for row in installed.sql("SELECT * FROM {table}")}
    assert after.keys() == {"Store1", "New"} and after["Store1"][1] == before[0][1]


def test_unknown_ring_is_refused() -> None:
    eco = Model().build()

    with pytest.raises(ValueError):
        bootstrap(eco.getDataPlatformOrThrow("YellowLive"), eco, 7)


def test_role_that_may_not_create_tables_is_told_what_to_grant(site: Site) -> None:
    site.postgres.create_role(f"weak_{site.database}", "weak")
    site.postgres.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC", database=site.database)
    site.login(f"weak_{site.database}", "weak")

    with pytest.raises(ProgrammingError) as failure:
        site.bootstrap()

    assert "permission denied" in str(failure.value)
    assert "Grant the role CREATE on the schema" in failure.value.__notes__[0]


def test_unreachable_database_is_named_without_the_password(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.bootstrap()
    monkeypatch.setenv("PGHOSTADDR", "127.77.77.77")

    with pytest.raises(OperationalError) as failure:
        site.merge()

    [note] = failure.value.__notes__
    for part in ("YellowLive", site.table, site.model.host, site.database, "Nothing was changed"):
        assert part in note
    assert site.postgres.password not in note + str(failure.value)


def test_repository_that_is_not_owner_and_name_is_refused() -> None:
    eco = Model(repository="models").build()

    with pytest.raises(ValueError, match="owner/"):
        bootstrap(eco.getDataPlatformOrThrow("YellowLive"), eco, 0)


def test_every_argument_of_the_base_class_is_accepted() -> None:
    names = {"kafkaConnectName": "connect", "kafkaClusterName": "cluster"}
    arguments = {"stagingBatchesToKeep": 3} if PROVIDERS_BOOTSTRAP else names

    platform = Model(platformArguments=arguments).buildPlatform()

    assert platform.name == "YellowLive"


def test_slack_credential_must_be_a_token() -> None:
    slack = Credential("slack", CredentialType.USER_PASSWORD)
    eco = Model(platformArguments={"slackCredential": slack}).build()

    tree = eco.lintAndHydrateCaches()

    assert tree.hasErrors()
    assert "slack" in " ".join(problems(tree))


def test_slack_credential_must_have_a_name_that_the_job_can_read() -> None:
    slack = Credential("1 slack", CredentialType.API_TOKEN)
    eco = Model(platformArguments={"slackCredential": slack}).build()

    tree = eco.lintAndHydrateCaches()

    assert "1 slack" in " ".join(problems(tree))


def test_platforms_that_would_share_a_name_in_airflow_are_refused() -> None:
    eco = Model(platform="Yellow_Live").build()
    twin = Model(platform="yellow-live").buildPlatform()
    platform: Any = eco.getDataPlatformOrThrow("Yellow_Live")
    siblings = platform.psp.dataPlatforms if PROVIDERS_BOOTSTRAP else eco.dataPlatforms
    siblings[twin.name] = twin

    tree = eco.lintAndHydrateCaches()

    assert any("would share the name 'yellow-live'" in text for text in problems(tree))


@pytest.mark.parametrize(
    ("arguments", "warnings"),
    [({}, 0), ({"datasurfaceDockerImage": "datasurface/datasurface:latest"}, 1)],
    ids=["an image of its own", "DataSurface's own"],
)
def test_ring_0_warns_of_an_image_without_the_plugin(
    caplog: pytest.LogCaptureFixture, arguments: dict[str, str], warnings: int
) -> None:
    eco = Model(providerArguments=arguments).build()

    bootstrap(eco.getDataPlatformOrThrow("YellowLive"), eco, 0)

    said = [text for text in caplog.messages if "does not have yellow_dynamic" in text]
    assert len(said) == warnings
    assert all(
        "'Provider' runs all Jobs and pods in 'datasurface/datasurf" in text for text in said
    )


def test_import_without_datasurface_says_what_to_install() -> None:
    program = "import sys; sys.modules['datasurface'] = None; import yellow_dynamic.plugin"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.returncode == 1
    assert "Install DataSurface 0.0.36 to 0.0.38" in done.stderr
    assert "During handling" not in done.stderr


@pytest.mark.parametrize(
    "methods",
    [(), ("generateBootstrapArtifacts", "getFactoryDAGTable")],
    ids=["0.0.39 to 0.0.55", "late 0.0.38"],
)
def test_datasurface_between_is_refused_by_its_release(methods: tuple[str, ...]) -> None:
    program = (
        "from importlib import metadata\n"
        "from datasurface.platforms import yellow\n"
        "yellow.YellowDataPlatform = type('YellowDataPlatform', (), dict.fromkeys(sys.argv[1:]))\n"
        "metadata.version = lambda name: f'{name} 0.0.47'\n"
        "from yellow_dynamic import YellowDynamicDataPlatform\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{program}", *methods], capture_output=True, text=True
    )

    assert done.returncode == 1
    assert "supports DataSurface 0.0.36 to 0.0.38" in done.stderr
    assert "installed here, datasurface 0.0.47, is one between these" in done.stderr
    assert "Install one of these" in done.stderr


def test_datasurface_without_services_provider_is_refused_by_its_release() -> None:
    program = (
        "from importlib import metadata\n"
        "from datasurface.platforms import yellow\n"
        "del yellow.YellowPlatformServiceProvider\n"
        "metadata.version = lambda name: f'{name} 0.0.35'\n"
        "from yellow_dynamic import YellowDynamicDataPlatform\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.returncode == 1
    assert "supports DataSurface 0.0.36 to 0.0.38" in done.stderr
    assert "installed here, datasurface 0.0.35, lacks what the plugin needs" in done.stderr
    assert "cannot import name 'YellowPlatformServiceProvider'" in done.stderr


def test_ring_1_makes_the_tables_of_batches_where_the_host_leaves_them_to_its_jobs(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As DataSurface 0.0.36 to 0.0.38 do, 0.0.56 and 0.0.57.
    base: Any = YellowPlatformServiceProvider if PROVIDERS_BOOTSTRAP else YellowDataPlatform
    monkeypatch.setattr(base, "generateBootstrapArtifacts", lambda *_: {})
    eco = site.model.build()

    bootstrap(eco.getDataPlatformOrThrow(site.model.platform), eco, 1)

    assert site.sql("SELECT * FROM yellowlive_batch_counter, yellowlive_batch_metrics") == []
