"""Why a task waits without an end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from yellow_dynamic.monitoring.airflow import Pool, WaitingTask, executor_names, find_obstacle

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
SOON, LONG_AGO = NOW - timedelta(seconds=5), NOW - timedelta(minutes=5)
JOB = ("yellowlive__Store1_ingestion", "manual__1", "snapshot_merge_job")
WHERE = "the task snapshot_merge_job of its run manual__1"


def scheduled(slots: int) -> WaitingTask:
    return WaitingTask(*JOB, "scheduled", "erp", slots)


def deferred(since: datetime | None, seen: datetime | None) -> WaitingTask:
    return WaitingTask(*JOB, "deferred", "default_pool", 1, since, seen)


@pytest.mark.parametrize(
    ("pool", "problem"),
    [
        (None, "Airflow has no such pool, so none of its jobs runs"),
        (Pool(0, True), "it has 0 slots, and a job takes 3, so that job never runs"),
        (Pool(2, True), "it has 2 slots, and a job takes 3, so that job never runs"),
        (Pool(3, True), None),
        (Pool(-1, True), None),
    ],
)
def test_task_whose_pool_can_never_have_room_is_told(
    pool: Pool | None, problem: str | None
) -> None:
    pools = {"erp": pool} if pool else {}

    found = find_obstacle(scheduled(3), pools, None, NOW)

    expected = problem and (
        f"{WHERE} cannot start in the pool 'erp': {problem} (set it: airflow pools set erp SLOTS "
        "jobs --include-deferred)"
    )
    assert found == expected


@pytest.mark.parametrize(
    ("since", "seen"),
    [
        # The triggerer takes it in a moment, is alive, or Airflow does not say.
        (SOON, None),
        (LONG_AGO, SOON),
        (SOON, LONG_AGO),
        (None, None),
    ],
)
def test_deferred_task_that_a_triggerer_has_or_may_take_is_well(
    since: datetime | None, seen: datetime | None
) -> None:
    assert find_obstacle(deferred(since, seen), {}, None, NOW) is None


@pytest.mark.parametrize("seen", [None, LONG_AGO], ids=["nobody took it", "its triggerer is dead"])
def test_deferred_task_that_no_triggerer_waits_for_is_told(seen: datetime | None) -> None:
    assert find_obstacle(deferred(LONG_AGO, seen), {}, None, NOW) == (
        f"no triggerer of Airflow waits for {WHERE}, deferred at 2026-11-26 11:55:00 UTC (start "
        "one: airflow triggerer, with --team-name TEAM where Airflow has teams)"
    )


def asking(executor: str | None, setting: str | None) -> str | None:
    task = scheduled(1)._replace(executor=executor)
    names = None if setting is None else executor_names(setting)
    return find_obstacle(task, {"erp": Pool(1, True)}, names, NOW)


@pytest.mark.parametrize(
    ("executor", "setting"),
    [
        (None, "LocalExecutor"),
        ("LocalExecutor", "CeleryExecutor, LocalExecutor"),
        ("airflow.executors.local_executor.LocalExecutor", "LocalExecutor"),
        ("Own", "Short:acme.executors.Own"),
        ("Short", "LocalExecutor,Short:acme.executors.Own"),
        ("LocalExecutor", "CeleryExecutor;team1=LocalExecutor"),
        # Airflow does not show its settings.
        ("Own", None),
    ],
)
def test_executor_that_airflow_has_or_may_have_is_well(
    executor: str | None, setting: str | None
) -> None:
    assert asking(executor, setting) is None


def test_task_that_asks_for_an_executor_that_is_not_there_is_told() -> None:
    assert asking("KubernetesExecutor", "LocalExecutor") == (
        f"{WHERE} names the executor 'KubernetesExecutor', which Airflow does not have (a "
        "cluster policy sets it: add it to [core] executor, or change the policy)"
    )
