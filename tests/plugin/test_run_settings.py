"""How the jobs run, by the model: RunSettings of the platform, and of some of its streams."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from croniter import croniter
from hypothesis import given
from hypothesis import strategies as st
from run_settings import EVERYTHING, POD_TEMPLATE
from transforming import transform
from yellow_models import HINTED, SINGLE, SQL_KIND, Model, Store

from datasurface.md import CronTrigger, ExternallyTriggered, ValidationTree
from yellow_dynamic.run_settings import RunSettings
from yellow_dynamic.schedules import CRON_OF_PRESET, moved_schedule, offset_of, room_of
from yellow_dynamic.stream_configs import config_rows, stream_configs

HOURLY = CronTrigger("Hourly", "0 * * * *")


def lint(**arguments: Any) -> str:
    """Return the problems of a platform with these arguments."""
    tree = Model(platformArguments=arguments).build().lintAndHydrateCaches()
    return "\n".join(str(problem) for problem in tree.getErrors())


def rows_of(model: Model, folder: Path) -> tuple[dict[str, dict[str, Any]], str]:
    """Return the rows that a merge would write, and its problems."""
    graph: Any = model.graph(folder)
    tree = ValidationTree(graph.eco)
    rows = config_rows(graph.platform, graph.eco, stream_configs(graph.platform, graph, tree), tree)
    problems = "\n".join(str(problem) for problem in tree.getErrors())
    return {key: json.loads(text) for key, text in rows.items()}, problems


def estate(**arguments: Any) -> Model:
    """Return a platform of some streams, each of them hourly."""
    stores = [Store(name, trigger=HOURLY) for name in ("Erp_Orders", "Erp_Stock", "Crm")]
    return Model(stores=stores, platformArguments=arguments)


def test_everything_travels_in_the_row(tmp_path: Path) -> None:
    rows, problems = rows_of(estate(runsOf={"Crm": EVERYTHING}), tmp_path)

    assert not problems
    offset = offset_of("Crm", "0 * * * *", 30)
    spec = POD_TEMPLATE["spec"]
    wanted = {
        "resources": EVERYTHING.resources,
        "pod_template": {**POD_TEMPLATE, "spec": spec},
        "retries": 2,
        "retry_delay_seconds": 1,
        "timeout_seconds": 1800,
        "start_timeout_seconds": 1200,
        "dag_run_timeout_seconds": 10800,
        "pool": "erp",
        "pool_slots": 2,
        "priority_weight": 7,
        "queue": "heavy",
        "spread_minutes": offset,
        "schedule_string": f"{offset} * * * *",
    }
    assert {key: rows["Crm"].get(key) for key in wanted} == wanted
    assert not (wanted.keys() - {"schedule_string", *HINTED}) & rows["Erp_Orders"].keys()


def test_rows_without_settings_are_as_they_were(tmp_path: Path) -> None:
    assert rows_of(estate(), tmp_path) == rows_of(estate(runs=RunSettings()), tmp_path)


def test_most_exact_settings_win_argument_by_argument(tmp_path: Path) -> None:
    runs_of = {
        "Erp_Orders": RunSettings(retries=3),
        "*": RunSettings(retries=1, queue="all", poolSlots=1),
        "Erp_*": RunSettings(retries=2, queue="erp"),
    }
    model = estate(runs=RunSettings(retries=9, pool="platform"), runsOf=runs_of)

    rows, problems = rows_of(model, tmp_path)

    assert not problems
    keys = ("retries", "queue", "pool", "pool_slots")
    found = {name: tuple(row.get(key) for key in keys) for name, row in rows.items()}
    assert found == {
        "Erp_Orders": (3, "erp", "platform", 1),
        "Erp_Stock": (2, "erp", "platform", 1),
        "Crm": (1, "all", "platform", 1),
    }


def test_settings_as_exact_as_each_other_must_agree(tmp_path: Path) -> None:
    runs_of = {"Erp_*": RunSettings(retries=1), "*rp_O": RunSettings(retries=1)}
    differing = {"Erp_*": RunSettings(retries=1), "*ders": RunSettings(retries=2)}

    assert "is no stream of it" in rows_of(estate(runsOf=runs_of), tmp_path)[1]
    problem = rows_of(estate(runsOf=differing), tmp_path)[1]
    assert "'Erp_*' and '*ders', which are as exact as each other" in problem
    assert "contradict each other for stream 'Erp_Orders'" in problem


def test_pattern_that_matches_no_stream_is_a_problem(tmp_path: Path) -> None:
    problem = rows_of(estate(runsOf={"Sap_*": RunSettings(retries=1)}), tmp_path)[1]

    assert "runsOf of platform 'YellowLive' has 'Sap_*', which is no stream of it." in problem


def test_settings_of_transformers_and_datasets_go_by_their_keys(tmp_path: Path) -> None:
    model = Model(platformArguments={"runsOf": {"*_datatransformer": RunSettings(retries=4)}})
    transform(model).stores.append(Store("Pair", ["x", "y"], SINGLE))
    model.platformArguments["runsOf"]["Pair_x"] = RunSettings(retries=5)

    rows, problems = rows_of(model, tmp_path)

    assert not problems
    retries = {key: row["retries"] for key, row in rows.items() if "retries" in row}
    assert sorted(retries.values()) == [4, 5]
    assert retries["Pair_x"] == 5


def test_pool_of_a_source_is_its_host(tmp_path: Path) -> None:
    model = Model(platformArguments={"runs": RunSettings(poolPerSource=True)})
    transform(model).stores.append(Store("Events", kafka=True))

    rows, problems = rows_of(model, tmp_path)

    assert not problems
    pools = {row["ingestion_type"]: row.get("pool") for row in rows.values()}
    assert pools == {
        SQL_KIND: "pg-data.ns-test.svc.cluster.local",
        "kafka": "kafka.ns-test.svc.cluster.local",
        "transformer": None,
        "transformer_output": None,
    }


def test_pool_of_a_stream_takes_the_place_of_that_of_its_source(tmp_path: Path) -> None:
    runs_of = {"Crm": RunSettings(pool="crm"), "Erp_Stock": RunSettings(poolPerSource=False)}
    model = estate(runs=RunSettings(poolPerSource=True), runsOf=runs_of)

    rows, _ = rows_of(model, tmp_path)

    host = "pg-data.ns-test.svc.cluster.local"
    assert [rows[key].get("pool") for key in ("Crm", "Erp_Orders", "Erp_Stock")] == [
        "crm",
        host,
        None,
    ]


def test_job_is_the_first_container_of_a_template(tmp_path: Path) -> None:
    template = {
        "spec": {
            "containers": [{"name": "proxy", "image": "proxy:1"}, {"name": "base", "tty": True}]
        }
    }
    others = {"metadata": {"labels": {"a": "b"}}}
    model = estate(
        runsOf={"Crm": RunSettings(podTemplate=template), "Erp_*": RunSettings(podTemplate=others)}
    )

    rows, problems = rows_of(model, tmp_path)

    assert not problems
    names = [each["name"] for each in rows["Crm"]["pod_template"]["spec"]["containers"]]
    assert names == ["base", "proxy"]
    assert rows["Erp_Stock"]["pod_template"] == {
        **others,
        "spec": {"containers": [{"name": "base"}]},
    }


# --- What is refused --------------------------------------------------------------------------

LIMIT = {"limits": {"memory": "1Gi"}}


def template(**spec: Any) -> dict[str, Any]:
    return {"podTemplate": {"spec": spec}}


def base(**fields: Any) -> dict[str, Any]:
    return template(containers=[{"name": "base", **fields}])


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"resources": {"requests": {"cpu": "1 core"}}}, "resources.requests.cpu '1 core' is not"),
        ({"resources": {"request": {"cpu": "1"}}}, "resources has 'request', which is none of"),
        ({"resources": {"requests": {"memory": "2Gi"}, **LIMIT}}, "more than its limit 1Gi"),
        ({"resources": {"limits": {"cpu": 1}}}, "resources.limits.cpu is 1, not a text"),
        ({"resources": "1Gi"}, "resources is '1Gi', not requests and limits"),
        (template(serviceAccount_name="x"), "has a field 'serviceAccount_name', which Kubernetes"),
        (template(nodeSelector={"a": 1}), "podTemplate.spec.nodeSelector.a is 1, not of type str"),
        (template(hostNetwork="yes"), "podTemplate.spec.hostNetwork is 'yes', not of type bool"),
        (template(tolerations={"key": "a"}), "spec.tolerations is {'key': 'a'}, not a list"),
        (template(containers="base"), "spec.containers is 'base', not a list"),
        (template(volumes=[{"emptyDir": {}}]), "podTemplate.spec.volumes[0]: "),
        (template(restartPolicy="Always"), "gives restartPolicy of spec, which the job has itself"),
        (template(activeDeadlineSeconds=5), "gives activeDeadlineSeconds of spec"),
        (base(image="other"), "podTemplate gives image of base, which the job has itself"),
        (base(resources={}), "podTemplate gives resources of base"),
        (base(env=[{"name": "A", "value": 1}]), "containers[0].env[0].value is 1, not of type str"),
        ({"podTemplate": {"metadata": {"name": "x"}}}, "gives name of metadata"),
        ({"podTemplate": {"kind": "Pod"}}, "podTemplate has 'kind', which is none of"),
        (
            template(volumes=[{"name": "git-model-cache", "emptyDir": {}}]),
            "has the volume 'git-model-cache' besides the job's own",
        ),
        (
            template(initContainers=[{"name": "base", "image": "x"}]),
            "has the container 'base' besides the job's own",
        ),
        ({"retries": -1}, "retries is -1, not a whole number from 0 to 100"),
        ({"retries": True}, "retries is True, not a whole number"),
        ({"timeout": 30}, "timeout is 30, not a timedelta"),
        ({"retryDelay": timedelta(milliseconds=1)}, "retryDelay is 0, not a whole number from 1"),
        ({"pool": ""}, "pool is '', not a text"),
        ({"pool": "a\nb"}, "pool holds a character that cannot be printed"),
        ({"pool": "a", "poolPerSource": True}, "it has both pool and poolPerSource"),
        ({"poolPerSource": "yes"}, "poolPerSource is 'yes', not True or False"),
        ({"poolSlots": 0}, "poolSlots is 0, not a whole number from 1"),
        ({"priorityWeight": 1.5}, "priorityWeight is 1.5, not a whole number"),
        ({"queue": 5}, "queue is 5, not a text"),
        ({"spread": 1441}, "spread is 1441, not a whole number from 0 to 1440"),
    ],
)
def test_bad_setting_is_a_problem_of_the_model(arguments: dict[str, Any], problem: str) -> None:
    for name, given_to in (
        ("runs", {"runs": RunSettings(**arguments)}),
        ("runsOf['Store1']", {"runsOf": {"Store1": RunSettings(**arguments)}}),
    ):
        found = lint(**given_to)
        assert problem in found
        assert f"{name} of platform 'YellowLive': " in found


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"runs": {"retries": 1}}, "runs of platform 'YellowLive' is {'retries': 1}; it must be"),
        ({"runsOf": RunSettings()}, "it must be a dict by text."),
        ({"runsOf": {5: RunSettings()}}, "it must be a dict by text."),
        ({"runsOf": {"Store1": None}}, "runsOf['Store1'] of platform 'YellowLive' is None"),
    ],
)
def test_settings_of_another_kind_are_a_problem_of_the_model(
    arguments: dict[str, Any], problem: str
) -> None:
    assert problem in lint(**arguments)


def test_good_settings_are_no_problem() -> None:
    assert lint(runs=EVERYTHING, runsOf={"Store*": EVERYTHING}) == ""


# --- Spread over time -------------------------------------------------------------------------


def times(schedule: str, count: int = 50) -> list[datetime]:
    dates = croniter(schedule, datetime(2026, 1, 1, tzinfo=UTC) - timedelta(seconds=1))
    return [dates.get_next(datetime) for _ in range(count)]


SCHEDULES = [
    *("@hourly", "@daily", "@quarterly", "50 * * * *", "*/20 * * * *", "30 2 * * *"),
    *("0,30 8-18 * * *", "55 23 * * *", "0 */6 * * *", "10-20 3 1 * *"),
]


@given(
    schedule=st.sampled_from(SCHEDULES),
    share=st.floats(min_value=0, max_value=1, exclude_max=True),
)
def test_moved_schedule_has_the_same_times_so_many_minutes_later(
    schedule: str, share: float
) -> None:
    offset = int(room_of(schedule) * share)
    before = times(CRON_OF_PRESET.get(schedule, schedule))
    after = times(moved_schedule(schedule, offset))

    wanted = {time + timedelta(minutes=offset) for time in before}
    # Of the hours before the first time, some minutes may come in.
    assert [time for time in after if before[0] + timedelta(minutes=offset) <= time][:40] == (
        sorted(wanted)[:40]
    )


@pytest.mark.parametrize("schedule", ["* * * * *", "@once", "0 0 * * * 30", "no schedule"])
def test_schedule_without_room_stays(schedule: str) -> None:
    assert offset_of("Store1", schedule, 30) == 0


def test_streams_of_one_schedule_are_spread_evenly_and_each_for_good() -> None:
    keys = [f"Store{number}" for number in range(3000)]

    offsets = [offset_of(key, "0 * * * *", 30) for key in keys]

    assert offsets == [offset_of(key, "0 * * * *", 30) for key in keys]
    assert set(offsets) == set(range(30))
    assert max(offsets.count(minute) for minute in range(30)) < 150


def test_external_stream_is_not_spread(tmp_path: Path) -> None:
    model = Model(
        stores=[Store("Store1", trigger=ExternallyTriggered("By others"))],
        platformArguments={"runs": RunSettings(spread=30)},
    )

    rows, _ = rows_of(model, tmp_path)

    assert rows["Store1"]["schedule_string"] is None
    assert "spread_minutes" not in rows["Store1"]
