"""One bad row costs one stream: the others have DAGs, and the bad one's says why."""

from __future__ import annotations

import json
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
from bad_rows import BAD_CHANGES, BAD_TEXTS
from hypothesis import given, settings
from hypothesis import strategies as st
from pod_runs import TaskInstance
from units.conftest import config, row

from yellow_dynamic.factory.dag import DagBuilder
from yellow_dynamic.factory.database import Row
from yellow_dynamic.factory.platform import Platform

KEYS = ["Good1", "Good2"]
GOOD = [f"yellowlive__{key}_ingestion" for key in KEYS]


class Table:
    """Rows, and the DAGs that they become; those of KEYS are good.

    Args:
        platform: theirs.
    """

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.rows = [row(key) for key in KEYS]

    def insert(self, key: str, config_json: str | None, status: str | None = "active") -> None:
        self.rows.append(Row(key, config_json, status, None))

    def dags(self) -> dict[str, Any]:
        return DagBuilder(self.platform).build_dags(self.rows)


@pytest.fixture
def table(platform: Platform) -> Table:
    return Table(platform)


@pytest.mark.parametrize(("text", "reason"), BAD_TEXTS.values(), ids=BAD_TEXTS)
def test_row_that_is_no_config_costs_only_its_own_stream(
    table: Table, text: str | None, reason: str
) -> None:
    table.insert("Bad", text)

    assert_only_bad_is_broken(table, reason)


@pytest.mark.parametrize(("changes", "reason"), BAD_CHANGES.values(), ids=BAD_CHANGES)
def test_row_with_a_bad_value_costs_only_its_own_stream(
    table: Table, changes: dict[str, Any], reason: str
) -> None:
    table.insert("Bad", json.dumps(config("Bad") | changes))

    assert_only_bad_is_broken(table, reason)


def test_dag_that_airflow_itself_refuses_costs_only_its_own_stream(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.insert("Bad", json.dumps(config("Bad")))
    accept = DAG.validate

    def refuse_bad(dag: Any) -> None:
        """Stands in for a rule of a release to come."""
        if "__Bad_" in dag.dag_id and "config-error" not in dag.tags:
            raise ValueError("not to this Airflow's taste")
        accept(dag)

    monkeypatch.setattr(DAG, "validate", refuse_bad)

    assert_only_bad_is_broken(table, "ValueError: not to this Airflow's taste")


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
    table: Table, changes: dict[str, Any], expected: str | None
) -> None:
    table.insert("Bad", json.dumps(config("Bad", schedule_string="5 4 * * *") | changes))

    dag = table.dags()["yellowlive__Bad_ingestion"]

    assert "config-error" in dag.tags
    assert schedule_of(dag) == expected


def test_bad_row_of_a_transformer_fails_when_its_inputs_came(table: Table) -> None:
    changes = {"ingestion_type": "transformer", "schedule_string": None, "started_by": ["Good1"]}
    key = "W_datatransformer"
    table.insert(key, json.dumps(config(key) | changes))

    dag = table.dags()["yellowlive__W_datatransformer"]

    assert {"config-error", "datatransformer"} <= set(dag.tags)
    assert assets_of(dag) == {"datasurface://yellowlive/Good1"}


def test_bad_row_whose_starter_is_no_name_of_an_asset_is_shown(table: Table) -> None:
    changes = {"schedule_string": None, "started_by": ["St\xf6re"], "datasets": []}
    table.insert("Bad", json.dumps(config("Bad") | changes))

    assert_only_bad_is_broken(table, "datasets is []")


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_row_that_cannot_be_read_fails_hourly(table: Table, text: str | None) -> None:
    table.insert("Bad", text)

    assert schedule_of(table.dags()["yellowlive__Bad_ingestion"]) == "@hourly"


@pytest.mark.parametrize("status", ["Active", "DISABLED", "paused", "", None])
def test_row_with_an_unknown_status_is_shown_and_cannot_run(
    table: Table, status: str | None
) -> None:
    table.insert("Bad", json.dumps(config("Bad")), status)

    assert_only_bad_is_broken(table, "must be 'active' or 'disabled'")


def test_row_without_its_own_keys_says_which_are_missing(table: Table) -> None:
    given = config("Bad")
    del given["store_name"], given["datasets"]
    table.insert("Bad", json.dumps(given))

    assert_only_bad_is_broken(table, "lacks store_name, datasets")


def test_row_without_platform_keys_takes_the_platforms(table: Table) -> None:
    table.insert("Old", json.dumps(config("Old")))
    table.insert("Own", json.dumps(config("Own", namespace_name="ns-own")))

    dags = table.dags()

    for key, namespace in (("Old", "ns-test"), ("Own", "ns-own")):
        job = dags[f"yellowlive__{key}_ingestion"].get_task("snapshot_merge_job")
        assert job.namespace == namespace


def test_unknown_keys_of_a_newer_release_do_no_harm(table: Table) -> None:
    table.insert("New", json.dumps(config("New", priority={"of": "later"})))

    assert "config-error" not in table.dags()["yellowlive__New_ingestion"].tags


@pytest.mark.parametrize("key", ["with space", "a/../../b", "x" * 255, "quote\"'", "{{ now() }}"])
def test_key_that_airflow_refuses_gets_a_legal_id(table: Table, key: str) -> None:
    table.insert(key, json.dumps(config(key)))

    dags = table.dags()

    [(dag_id, dag)] = [item for item in dags.items() if item[0] not in GOOD]
    assert "Airflow refuses the dag id" in dag.doc_md
    assert dag.dag_id == dag_id
    assert len(dag_id) <= 250


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


# Ten rows each.
@settings(max_examples=20)
@given(generated=st.lists(ROWS, min_size=10, max_size=12))
def test_no_row_whatever_it_holds_stops_the_others(
    platform: Platform, generated: list[tuple[dict[str, Any], str | None]]
) -> None:
    table = Table(platform)
    for number, (changes, status) in enumerate(generated):
        key = f"Bad{number}"
        table.insert(key, json.dumps(config(key) | changes), status)

    dags = table.dags()

    assert set(GOOD) <= set(dags)
    assert not any("config-error" in dags[dag_id].tags for dag_id in GOOD)
    # What is registered must survive what Airflow does to it afterwards.
    for dag in dags.values():
        assert_airflow_can_store(dag)


def assert_airflow_can_store(dag: Any) -> None:
    check_as_airflow_does(dag)
    json.dumps(DagSerialization.to_dict(dag))


def assert_only_bad_is_broken(table: Table, reason: str) -> None:
    dags = table.dags()
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
