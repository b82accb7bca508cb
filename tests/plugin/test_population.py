"""The merge: from the model to the table's rows, all or nothing."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conftest import Site, problems
from pytest_mock import MockerFixture
from sqlalchemy.exc import OperationalError, ProgrammingError
from yellow_models import MULTI, SINGLE, Store, change_provider, live_repository

import yellow_dynamic
from datasurface.md import (
    Credential,
    CronTrigger,
    ExternallyTriggered,
    PlatformPipelineGraph,
    StepTrigger,
    ValidationTree,
)
from datasurface.md.credential import CredentialType
from datasurface.platforms.yellow.yellow_dp import YellowGraphHandler
from yellow_dynamic.plugin import YellowDynamicDataPlatform, YellowDynamicGraphHandler
from yellow_dynamic.population import MergeError
from yellow_dynamic.stream_configs import stream_configs

SCHEMA = json.loads(
    Path(yellow_dynamic.__file__).with_name("stream_config.schema.json").read_text()
)


def configs(site: Site) -> dict[str, dict[str, Any]]:
    return {
        key: json.loads(text)
        for key, text in site.sql("SELECT stream_key, config_json FROM {table}")
    }


def test_multi_dataset_store_is_one_stream_and_single_dataset_store_one_each(site: Site) -> None:
    site.model.stores = [Store("Many", ["b", "a"], MULTI), Store("Each", ["x", "y"], SINGLE)]
    site.bootstrap()
    site.merge_cleanly()

    found = configs(site)

    assert sorted(found) == ["Each_x", "Each_y", "Many"]
    assert found["Many"]["datasets"] == ["b", "a"]
    assert (found["Many"]["single_dataset"], found["Each_x"]["single_dataset"]) == (False, True)
    assert found["Each_y"]["dataset_name"] == "y"
    assert "dataset_name" not in found["Many"]


def test_streams_are_in_the_order_of_their_stores_names(site: Site) -> None:
    names = [f"Store{number}" for number in range(10, 30)]
    site.model.stores = [Store(name) for name in reversed(names)]
    graph = site.model.graph(site.folder)

    platform = graph.platform
    assert isinstance(platform, YellowDynamicDataPlatform)

    tree = ValidationTree(graph.eco)
    made = stream_configs(platform, graph, tree)

    assert [config["store_name"] for config in made] == names


def test_rows_hold_the_host_unmangled_and_sorted_keys(installed: Site) -> None:
    [(text,)] = installed.sql("SELECT config_json FROM {table}")

    assert json.loads(text)["postgres_hostname"] == "pg-data.ns-test.svc.cluster.local"
    assert text == json.dumps(json.loads(text), sort_keys=True)


def test_columns_may_be_in_any_order_and_others_beside_them(installed: Site) -> None:
    before = installed.sql("SELECT * FROM {table}")
    installed.sql("DROP TABLE {table}")
    installed.sql(
        "CREATE TABLE {table} (note TEXT DEFAULT 'ours', updated_at TIMESTAMP, "
        "created_at TIMESTAMP, status TEXT, config_json TEXT, stream_key TEXT PRIMARY KEY)"
    )

    installed.merge_cleanly()

    [row] = installed.sql("SELECT stream_key, config_json, status, note FROM {table}")
    assert row == (*before[0][:3], "ours")


@pytest.mark.parametrize(
    ("trigger", "schedule"),
    [(CronTrigger("Nightly", "0 3 * * *"), "0 3 * * *"), (ExternallyTriggered("By hand"), None)],
)
def test_trigger_gives_the_schedule(site: Site, trigger: StepTrigger, schedule: str | None) -> None:
    site.model.stores = [Store("Store1", trigger=trigger)]
    site.bootstrap()
    site.merge_cleanly()

    assert configs(site)["Store1"]["schedule_string"] == schedule


def test_every_row_is_valid_against_the_published_schema(site: Site) -> None:
    site.model.postgresCredential = "Merge_Cred"
    site.login(site.postgres.user, site.postgres.password)
    site.model.stores = [
        Store("Many"),
        Store("Each", consistency=SINGLE, credential="Other_Cred"),
        Store("Topic", ["t"], SINGLE, kafka=True),
        Store("Hand", trigger=ExternallyTriggered("By hand")),
    ]
    site.bootstrap()
    assert problems(populate(site.model.graph(site.folder))) == []

    for config in configs(site).values():
        jsonschema.validate(config, {**SCHEMA, "additionalProperties": False})


def test_store_of_300_datasets_fits(site: Site) -> None:
    names = [f"dataset_number_{number}" for number in range(300)]
    site.model.stores = [Store("Wide", names)]
    site.bootstrap()
    site.merge_cleanly()

    assert configs(site)["Wide"]["datasets"] == names


def test_merge_returns_the_bases_files_without_ingestion_dags(installed: Site) -> None:
    files = installed.merge_cleanly()

    assert {"YellowLive-secrets.md", "terraform_code"} <= set(files)
    assert not [name for name in files if name.endswith(".py")]


def test_merge_logs_what_it_changes(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "yellow_dynamic")
    site.model.stores = [Store("Stays"), Store("Changes"), Store("Goes")]
    site.bootstrap()
    site.merge_cleanly()
    caplog.clear()
    site.model.stores = [
        Store("Stays"),
        Store("Changes", trigger=CronTrigger("Nightly", "0 3 * * *")),
        Store("Comes"),
    ]

    site.merge_cleanly()

    assert [r.getMessage() for r in caplog.records if r.name.startswith("yellow_dynamic")] == [
        "Streams of platform 'YellowLive' in table 'yellowlive_airflow_dsg': "
        "1 added (Comes), 1 changed (Changes), 1 removed (Goes), 1 unchanged."
    ]


def test_times_and_status_survive_as_they_should(site: Site) -> None:
    site.model.stores = [Store("Stays"), Store("Changes"), Store("Off")]
    site.bootstrap()
    site.merge_cleanly()
    site.sql("UPDATE {table} SET created_at = '2001-01-01', updated_at = '2002-02-02'")
    site.sql("UPDATE {table} SET status = 'disabled' WHERE stream_key = 'Off'")
    site.model.stores[1].trigger = CronTrigger("Nightly", "0 3 * * *")

    site.merge_cleanly()

    rows = {
        key: (status, created.year, updated.year)
        for key, status, created, updated in site.sql(
            "SELECT stream_key, status, created_at, updated_at FROM {table}"
        )
    }
    assert rows["Stays"] == ("active", 2001, 2002)
    assert rows["Off"] == ("disabled", 2001, 2002)
    assert rows["Changes"][:2] == ("active", 2001)
    assert rows["Changes"][2] > 2020


def test_values_that_copy_gives_a_meaning_survive_a_merge(installed: Site) -> None:
    status = "a\tb\\c\nd\re \\N \\."
    installed.sql("UPDATE {table} SET status = %s, created_at = NULL", (status,))
    installed.model.stores = [Store("Store1"), Store("New")]

    installed.merge_cleanly()

    assert installed.sql("SELECT status FROM {table} ORDER BY stream_key") == [
        ("active",),
        (status,),
    ]


def test_unchanged_model_rewrites_nothing(installed: Site) -> None:
    before = installed.sql("SELECT xmin::text, * FROM {table}")

    installed.merge_cleanly()

    assert installed.sql("SELECT xmin::text, * FROM {table}") == before


def test_times_are_utc_wherever_the_session_is(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGTZ", "Pacific/Auckland")
    site.bootstrap()
    site.merge_cleanly()

    [(age,)] = site.sql(
        "SELECT extract(epoch FROM timezone('UTC', now()) - created_at) FROM {table}"
    )
    assert abs(age) < 300


def test_last_streams_are_not_removed_by_accident(installed: Site) -> None:
    graph = installed.model.graph(installed.folder)
    graph.storesToIngest.clear()

    assert_refused(installed, graph, "allowEmpty=True")


def test_last_streams_are_removed_where_that_is_allowed(installed: Site) -> None:
    installed.model.platformArguments = {"allowEmpty": True}
    graph = installed.model.graph(installed.folder)
    graph.storesToIngest.clear()
    tree = populate(graph)

    assert problems(tree) == []
    assert installed.sql("SELECT stream_key FROM {table}") == []


def test_row_too_long_for_the_column_it_finds_changes_nothing(installed: Site) -> None:
    installed.sql("ALTER TABLE {table} ALTER COLUMN config_json TYPE VARCHAR(2048)")
    installed.model.stores = [Store("Store1", [f"dataset_{n}" for n in range(200)])]
    before = configs(installed)

    files, tree = installed.merge()

    assert files == {}
    assert "holds 2048" in " ".join(problems(tree))
    assert configs(installed) == before


class Moonrise(StepTrigger):
    """A trigger that DataSurface may have one day."""

    def __init__(self) -> None:
        super().__init__("Moonrise")

    def lint(self, *_: Any) -> None:
        """Find no problem."""


@pytest.mark.parametrize(
    ("stores", "problem"),
    [
        ([Store("A_b"), Store("A", ["b"], SINGLE)], "have the key 'A_b'"),
        ([Store("S" * 120, ["d" * 127], SINGLE)], "Airflow refuses the dag id"),
        ([Store("S", credential="a_b"), Store("T", credential="A_b")], "share the Kubernetes"),
    ],
    ids=["two streams with one key", "dag id too long", "credentials that share a secret"],
)
def test_model_that_cannot_run_is_a_problem_and_writes_nothing(
    installed: Site, stores: list[Store], problem: str
) -> None:
    installed.model.stores = stores

    assert_refused(installed, installed.model.graph(installed.folder), problem)


def test_problem_that_the_base_finds_writes_nothing_either(installed: Site) -> None:
    installed.model.stores = [Store("A_b"), Store("A", ["b"], SINGLE)]

    files, tree = installed.merge()

    assert files == {}
    assert "A_b" in " ".join(problems(tree))
    assert installed.sql("SELECT stream_key FROM {table}") == [("Store1",)]


def test_model_with_a_problem_is_refused_before_the_database_is_asked(installed: Site) -> None:
    installed.model.stores = [Store("A_b"), Store("A", ["b"], SINGLE)]
    installed.login("nobody", "wrong")

    tree = populate(installed.model.graph(installed.folder))

    assert "have the key 'A_b'" in " ".join(problems(tree))


def test_problem_is_raised_where_the_base_returns_its_files_all_the_same(
    installed: Site, mocker: MockerFixture
) -> None:
    graph = installed.model.graph(installed.folder)
    tree = ValidationTree(graph.eco)
    tree.addProblem("something is wrong")
    # A real DataSurface does, and its command then exits with 0.
    mocker.patch.object(YellowGraphHandler, "renderGraph", return_value={"a.tf": "text"})

    handler = graph.platform.createGraphHandler(graph)

    with pytest.raises(MergeError, match="something is wrong"):
        handler.renderGraph(graph.platform.getCredentialStore(), tree)


def test_trigger_of_an_unknown_kind_is_a_problem(installed: Site) -> None:
    graph = installed.model.graph(installed.folder)
    cmd: Any = graph.eco.cache_getDatastoreOrThrow("Store1").datastore.cmd
    cmd.stepTrigger = Moonrise()

    assert_refused(installed, graph, "is a Moonrise")


def test_unsupported_ingestion_is_a_problem(installed: Site) -> None:
    graph = installed.model.graph(installed.folder)
    graph.eco.cache_getDatastoreOrThrow("Store1").datastore.cmd = None

    assert_refused(installed, graph, "has no ingestion")
    assert len(problems(populate(graph))) == 1


def test_problem_of_a_store_is_said_once_for_all_its_streams(installed: Site) -> None:
    installed.model.stores = [Store("Wide", ["a", "b", "c"], SINGLE)]
    graph = installed.model.graph(installed.folder)
    cmd: Any = graph.eco.cache_getDatastoreOrThrow("Wide").datastore.cmd
    cmd.stepTrigger = CronTrigger("Bad", "every day")
    cmd.credential = Credential("___", CredentialType.USER_PASSWORD)

    [cron, credential] = problems(populate(graph))

    assert cron.startswith("Stream 'Wide_a' of platform 'YellowLive': schedule_string 'every day'")
    assert "the credential '___' cannot be used: source_credential_secret_name" in credential


def test_setting_that_the_services_provider_leaves_open_has_no_key(installed: Site) -> None:
    graph = installed.model.graph(installed.folder)
    change_provider(graph.platform, "git_cache_storage_class", None)

    assert problems(populate(graph)) == []

    [config] = configs(installed).values()
    assert "git_cache_storage_class" not in config


@pytest.mark.parametrize("branch", ["a\nb", "a\u2028b", "x" * 5000, ""])
def test_value_that_the_factory_file_would_refuse_is_a_problem(
    installed: Site, branch: str
) -> None:
    graph = installed.model.graph(installed.folder)
    live_repository(graph.eco).branchName = branch

    assert_refused(installed, graph, "git_repo_branch")


def test_wrong_repository_name_is_a_problem(installed: Site) -> None:
    graph = installed.model.graph(installed.folder)
    live_repository(graph.eco).repositoryName = "models"

    assert_refused(installed, graph, "of the form owner/repository")


def populate(graph: PlatformPipelineGraph) -> ValidationTree:
    """Populate without the host's own checks before it."""
    tree = ValidationTree(graph.eco)
    handler = graph.platform.createGraphHandler(graph)
    assert isinstance(handler, YellowDynamicGraphHandler)
    handler.populateDAGConfigurations(graph.eco, tree)
    return tree


def assert_refused(site: Site, graph: Any, problem: str) -> None:
    before = site.sql("SELECT * FROM {table}")
    tree = populate(graph)
    assert problem in " ".join(problems(tree))
    assert site.sql("SELECT * FROM {table}") == before


def test_merge_before_bootstrap_says_to_run_it(site: Site) -> None:
    with pytest.raises(ProgrammingError) as failure:
        site.merge()

    assert "--ringLevel 1" in failure.value.__notes__[0]


def test_failure_in_the_middle_leaves_the_old_rows_and_claims_nothing(
    installed: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "yellow_dynamic")
    installed.sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'no room'; END $$"
    )
    installed.sql("CREATE TRIGGER t BEFORE INSERT ON {table} EXECUTE FUNCTION refuse()")
    installed.model.stores = [Store("New")]

    with pytest.raises(Exception, match="no room"):
        installed.merge()

    assert "1 added" not in caplog.text
    assert installed.sql("SELECT stream_key FROM {table}") == [("Store1",)]


def test_readers_go_on_while_a_merge_holds_the_table(installed: Site) -> None:
    with closing(installed.postgres.connect(installed.database)) as merge:
        merge.cursor().execute("LOCK TABLE yellowlive_airflow_dsg IN EXCLUSIVE MODE")
        merge.cursor().execute("DELETE FROM yellowlive_airflow_dsg")

        assert list(installed.parse()) == ["yellowlive__Store1_ingestion"]


def test_two_merges_at_once_take_turns(installed: Site) -> None:
    installed.model.stores = [Store("New")]
    with closing(installed.postgres.connect(installed.database)) as other:
        other.cursor().execute("LOCK TABLE yellowlive_airflow_dsg IN EXCLUSIVE MODE")
        merge = threading.Thread(target=installed.merge_cleanly)
        merge.start()
        wait_for_a_waiting_lock(installed)
        assert installed.sql("SELECT stream_key FROM {table}") == [("Store1",)]
    merge.join(timeout=30)

    assert installed.sql("SELECT stream_key FROM {table}") == [("New",)]


def test_merges_that_are_let_in_together_still_take_turns(installed: Site) -> None:
    installed.model.stores = [Store("New")]
    graphs = [installed.model.graph(installed.folder) for _ in range(2)]
    with (
        ThreadPoolExecutor(2) as merges,
        closing(installed.postgres.connect(installed.database)) as other,
    ):
        other.cursor().execute("LOCK TABLE yellowlive_airflow_dsg IN EXCLUSIVE MODE")
        both = [merges.submit(populate, graph) for graph in graphs]
        wait_for_a_waiting_lock(installed, locks=2)
        other.commit()

        for merge in both:
            assert not merge.result(timeout=30).hasErrors()

    assert installed.sql("SELECT stream_key FROM {table}") == [("New",)]


def wait_for_a_waiting_lock(site: Site, locks: int = 1) -> None:
    for _ in range(100):
        if len(site.sql("SELECT 1 FROM pg_locks WHERE NOT granted")) >= locks:
            return
        time.sleep(0.1)
    pytest.fail("The merge never waited for the table.")


def test_merge_that_waits_too_long_says_why(
    installed: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yellow_dynamic.merge_store.LOCK_TIMEOUT_SECONDS", 1)
    installed.model.stores = [Store("New")]
    with closing(installed.postgres.connect(installed.database)) as other:
        other.cursor().execute("LOCK TABLE yellowlive_airflow_dsg IN EXCLUSIVE MODE")

        with pytest.raises(OperationalError) as failure:
            installed.merge()

    assert re.search(
        r"The table was locked for 1 s, by process \d+ of user \w+ \(no name, for \d+ s\)\. When",
        failure.value.__notes__[0],
    )


def test_merge_that_is_cancelled_says_so_and_changes_nothing(installed: Site) -> None:
    before = installed.sql("SELECT * FROM {table}")
    installed.model.stores = [Store("New")]
    with closing(installed.postgres.connect(installed.database)) as other:
        other.cursor().execute("LOCK TABLE yellowlive_airflow_dsg IN EXCLUSIVE MODE")
        with ThreadPoolExecutor() as merges:
            merge = merges.submit(installed.merge)
            wait_for_a_waiting_lock(installed)
            installed.sql("SELECT pg_cancel_backend(pid) FROM pg_locks WHERE NOT granted")

            with pytest.raises(OperationalError) as failure:
                merge.result(timeout=30)

    [note] = failure.value.__notes__
    assert note.endswith(
        "Nothing was changed. It was interrupted here, or cancelled in the database; run it again."
    )
    assert installed.sql("SELECT * FROM {table}") == before


def test_passwords_with_any_characters_work(installed: Site) -> None:
    password = "@ : / % # ? ' \" \\ & = space"
    role = f"merger_{installed.database}"
    installed.postgres.create_role(role, password)
    installed.sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {{table}} TO {role}")
    installed.login(role, password)
    installed.model.stores = [Store("New")]

    assert problems(populate(installed.model.graph(installed.folder))) == []

    assert installed.sql("SELECT stream_key FROM {table}") == [("New",)]


def test_no_secret_reaches_a_row(installed: Site) -> None:
    assert installed.postgres.password not in json.dumps(configs(installed))
