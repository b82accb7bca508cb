"""One bad row costs one stream: the others load, and the bad one says why."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import pytest
from airflow_names import (
    DAG,
    AirflowFailException,
    DagSerialization,
    assets_of,
    check_as_airflow_does,
    schedule_of,
)
from bad_rows import BAD_CHANGES, BAD_TEXTS, good_config
from conftest import Site
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pod_runs import TaskInstance
from yellow_models import Store

KEYS = ["Good1", "Good2"]
GOOD = [f"yellowlive__{key}_ingestion" for key in KEYS]


@pytest.fixture
def two_good(site: Site) -> Site:
    site.model.stores = [Store(key) for key in KEYS]
    site.bootstrap()
    site.merge_cleanly()
    return site


@pytest.fixture
def factory_and_config(two_good: Site) -> tuple[ModuleType, dict[str, Any]]:
    """The factory file as a module, and a valid configuration."""
    return two_good.module(), good_config(two_good, "Good1")


def without(config: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in keys}


@pytest.mark.parametrize(("text", "reason"), BAD_TEXTS.values(), ids=BAD_TEXTS)
def test_row_that_is_no_config_costs_only_its_own_stream(
    two_good: Site, text: str | None, reason: str
) -> None:
    two_good.insert("Bad", text)

    assert_only_bad_is_broken(two_good, reason)


@pytest.mark.parametrize(("changes", "reason"), BAD_CHANGES.values(), ids=BAD_CHANGES)
def test_row_with_a_bad_value_costs_only_its_own_stream(
    two_good: Site, changes: dict[str, Any], reason: str
) -> None:
    two_good.insert("Bad", json.dumps(good_config(two_good, "Bad") | changes))

    assert_only_bad_is_broken(two_good, reason)


def test_dag_that_airflow_itself_refuses_costs_only_its_own_stream(
    two_good: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_good.insert("Bad", json.dumps(good_config(two_good, "Bad")))
    accept = DAG.validate

    def refuse_bad(dag: Any) -> None:
        """Stands in for a rule of a release to come."""
        if "__Bad_" in dag.dag_id and "config-error" not in dag.tags:
            raise ValueError("not to this Airflow's taste")
        accept(dag)

    monkeypatch.setattr(DAG, "validate", refuse_bad)

    assert_only_bad_is_broken(two_good, "ValueError: not to this Airflow's taste")


def test_dag_is_checked_though_others_have_the_same_schedule(
    two_good: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept = DAG.validate

    def refuse_the_last(dag: Any) -> None:
        if "__Good2_" in dag.dag_id and "config-error" not in dag.tags:
            raise ValueError("not to this Airflow's taste")
        accept(dag)

    monkeypatch.setattr(DAG, "validate", refuse_the_last)

    first, last = (two_good.parse()[dag_id] for dag_id in GOOD)
    assert schedule_of(first) == schedule_of(last)
    assert ("config-error" in first.tags, "config-error" in last.tags) == (False, True)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"namespace_name": "No Name"}, "5 4 * * *"),
        ({"schedule_string": "every day"}, "@hourly"),
        ({"schedule_string": 5}, "@hourly"),
        ({"schedule_string": None, "namespace_name": "No Name"}, None),
        ({"started_by": ["Good1"]}, "5 4 * * *"),
        ({"schedule_string": None, "started_by": []}, "@hourly"),
    ],
)
def test_bad_row_fails_whenever_it_should_have_delivered(
    two_good: Site, changes: dict[str, Any], expected: str | None
) -> None:
    config = good_config(two_good, "Bad", schedule_string="5 4 * * *")
    two_good.insert("Bad", json.dumps(config | changes))

    dag = two_good.parse()["yellowlive__Bad_ingestion"]

    assert "config-error" in dag.tags
    assert schedule_of(dag) == expected


def test_bad_row_of_a_transformer_fails_when_its_inputs_came(two_good: Site) -> None:
    changes = {"ingestion_type": "transformer", "schedule_string": None, "started_by": ["Good1"]}
    key = "W_datatransformer"
    two_good.insert(key, json.dumps(good_config(two_good, key) | changes))

    dag = two_good.parse()["yellowlive__W_datatransformer"]

    assert {"config-error", "datatransformer"} <= set(dag.tags)
    assert assets_of(dag) == {"datasurface://yellowlive/Good1"}


def test_bad_row_whose_starter_is_no_name_of_an_asset_is_shown(two_good: Site) -> None:
    changes = {"schedule_string": None, "started_by": ["St\xf6re"], "datasets": []}
    two_good.insert("Bad", json.dumps(good_config(two_good, "Bad") | changes))

    assert_only_bad_is_broken(two_good, "datasets is []")


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_row_that_cannot_be_read_fails_hourly(two_good: Site, text: str | None) -> None:
    two_good.insert("Bad", text)

    assert schedule_of(two_good.parse()["yellowlive__Bad_ingestion"]) == "@hourly"


@pytest.mark.parametrize("status", ["Active", "DISABLED", "paused", "", None])
def test_row_with_an_unknown_status_is_shown_and_cannot_run(
    two_good: Site, status: str | None
) -> None:
    two_good.insert("Bad", json.dumps(good_config(two_good, "Bad")), status)

    assert_only_bad_is_broken(two_good, "must be 'active' or 'disabled'")


def test_row_without_its_own_keys_says_which_are_missing(two_good: Site) -> None:
    config = without(good_config(two_good, "Bad"), "store_name", "datasets")
    two_good.insert("Bad", json.dumps(config))

    assert_only_bad_is_broken(two_good, "lacks store_name, datasets")


def test_row_without_platform_keys_takes_the_platforms(two_good: Site) -> None:
    config = without(good_config(two_good, "Old"), "namespace_name", "git_repo_branch")
    two_good.insert("Old", json.dumps(config))

    job = two_good.parse()["yellowlive__Old_ingestion"].get_task("snapshot_merge_job")

    assert job.namespace == "ns-test"


def test_unknown_keys_of_a_newer_release_do_no_harm(two_good: Site) -> None:
    two_good.insert("New", json.dumps(good_config(two_good, "New", priority={"of": "later"})))

    assert "config-error" not in two_good.parse()["yellowlive__New_ingestion"].tags


@pytest.mark.parametrize("key", ["with space", "a/../../b", "x" * 255, "quote\"'", "{{ now() }}"])
def test_key_that_airflow_refuses_gets_a_legal_id(two_good: Site, key: str) -> None:
    two_good.insert(key, json.dumps(good_config(two_good, key)))

    dags = two_good.parse()

    [(dag_id, dag)] = [item for item in dags.items() if item[0] not in GOOD]
    assert "Airflow refuses the dag id" in dag.doc_md
    assert dag.dag_id == dag_id
    assert len(dag_id) <= 250


def test_a_hundred_good_rows_load_beside_every_bad_one(two_good: Site) -> None:
    for number in range(100):
        two_good.insert(f"Row{number}", json.dumps(good_config(two_good, f"Row{number}")))
    for number, (text, _) in enumerate(BAD_TEXTS.values()):
        two_good.insert(f"BadText{number}", text)
    for number, (changes, _) in enumerate(BAD_CHANGES.values()):
        key = f"BadValue{number}"
        two_good.insert(key, json.dumps(good_config(two_good, key) | changes))

    dags = two_good.parse()

    broken = [dag_id for dag_id, dag in dags.items() if "config-error" in dag.tags]
    assert len(broken) == len(BAD_TEXTS) + len(BAD_CHANGES)
    assert len(dags) - len(broken) == 102


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=5,
)
KNOWN_KEYS = [
    "stream_key",
    "single_dataset",
    "datasets",
    "store_name",
    "dataset_name",
    "ingestion_type",
    "schedule_string",
    "started_by",
    "namespace_name",
    "platform_name",
    "git_repo_url",
    "git_repo_branch",
    "git_cache_enabled",
    "source_credential_secret_name",
    "postgres_credential_name",
    "ecosystem_k8s_name",
]


ROWS = st.tuples(
    st.dictionaries(st.sampled_from(KNOWN_KEYS) | st.text(), JSON_VALUES),
    st.sampled_from(["active", "disabled"]) | st.none() | st.text(),
)


@settings(
    # Ten rows each: a thousand and more.
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(generated=st.lists(ROWS, min_size=10, max_size=12))
def test_no_row_whatever_it_holds_stops_the_others(
    factory_and_config: tuple[ModuleType, dict[str, Any]],
    generated: list[tuple[dict[str, Any], str | None]],
) -> None:
    factory, config = factory_and_config

    def row(key: str, changes: dict[str, Any], status: str | None) -> Any:
        text = json.dumps({**config, "stream_key": key, **changes})
        return factory.Row(key, text, status, None)

    good = [row(key, {}, "active") for key in KEYS]
    bad = [row(f"Bad{number}", *parts) for number, parts in enumerate(generated)]

    dags = factory.BUILDER.build_dags([*good, *bad])

    assert set(GOOD) <= set(dags)
    assert not any("config-error" in dags[dag_id].tags for dag_id in GOOD)
    # What is registered must survive what Airflow does to it afterwards.
    for dag in dags.values():
        assert_airflow_can_store(dag)


def assert_airflow_can_store(dag: Any) -> None:
    check_as_airflow_does(dag)
    json.dumps(DagSerialization.to_dict(dag))


def assert_only_bad_is_broken(site: Site, reason: str) -> None:
    dags = site.parse()
    assert sorted(dags) == ["yellowlive__Bad_ingestion", *GOOD]
    bad = dags.pop("yellowlive__Bad_ingestion")
    assert not any("config-error" in dag.tags for dag in dags.values())
    assert set(bad.tags) == {"config-error", "datasurface", "ingestion", "yellowlive", "Bad"}
    assert schedule_of(bad) is not None
    assert reason in bad.doc_md
    [task] = bad.tasks
    ti = TaskInstance(task)
    with pytest.raises(AirflowFailException) as failure:
        task.execute({"ti": ti})
    assert reason in str(failure.value)
    # Who is told of the run reads it there.
    assert " ".join(reason.split()) in ti.xcoms["failure"]
