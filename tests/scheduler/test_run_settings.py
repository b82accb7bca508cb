"""What a real scheduler and a real triggerer make of jobs that run by settings of the model.

YELLOW_DYNAMIC_TIMES multiplies how many jobs wait when the triggerer is killed, 1 if not set.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from run_settings import EVERYTHING, POD_TEMPLATE

from one_machine import NotYetError, Postgres, wait_until
from yellow_dynamic import RunSettings
from yellow_dynamic.schedules import offset_of

from .installation import NAMESPACE, Installation, dag_id
from .test_overlap import all_ended, most_pods, rows, states

pytestmark = pytest.mark.scheduler

TIMES = int(os.getenv("YELLOW_DYNAMIC_TIMES", "1"))
WHOLE, FLAKY, HUNG, OVERDUE, FIRST, SECOND, UNREADY, SPREAD = (
    *("Whole", "Flaky", "Hung", "Overdue", "First", "Second", "Unready", "Spread"),
)
WAITING, WRONG, KILLED, FAILED, MISSED, CLEARED, STUCK, LEAVING, LATE = (
    *("Waiting", "Wrong", "Killed", "Failed", "Missed", "Cleared", "Stuck", "Leaving", "Late"),
)
#: Wait while the triggerer is killed.
CROWD = tuple(f"Crowd{number}" for number in range(10 * TIMES))
DEFERRED = (WAITING, WRONG, KILLED, FAILED, MISSED, CLEARED, STUCK, LEAVING, LATE, *CROWD)
STREAMS = (WHOLE, FLAKY, HUNG, OVERDUE, FIRST, SECOND, UNREADY, SPREAD, *DEFERRED)

#: A variable from a secret that nobody has made yet, so that the container cannot be made either.
LATE_SECRET = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "late", "key": "token"}}}
#: By how many minutes the stream that is spread is due later than the model says.
OFFSET = offset_of(SPREAD, "0 * * * *", 60)

DEFER = RunSettings(deferrable=True)
RUNS_OF = {
    WHOLE: EVERYTHING,
    FLAKY: RunSettings(retries=1, retryDelay=timedelta(seconds=1)),
    HUNG: RunSettings(timeout=timedelta(seconds=5)),
    OVERDUE: RunSettings(dagRunTimeout=timedelta(seconds=15)),
    FIRST: RunSettings(pool="narrow", priorityWeight=5),
    SECOND: RunSettings(pool="narrow"),
    UNREADY: RunSettings(
        startTimeout=timedelta(seconds=8),
        podTemplate={"spec": {"containers": [{"name": "base", "env": [LATE_SECRET]}]}},
    ),
    SPREAD: RunSettings(spread=60),
    **dict.fromkeys(DEFERRED, DEFER),
    STUCK: RunSettings(deferrable=True, timeout=timedelta(seconds=8)),
    LATE: RunSettings(deferrable=True, dagRunTimeout=timedelta(seconds=15)),
}
#: A job that does what its stream is for, by how often it ran before.
JOB = """#!/bin/sh
while [ "$1" != --store-name ]; do shift; done
cd {state} && echo run >> "runs-$2"
runs=$(wc -l < "runs-$2")
code=0
hang() {{ exec sleep 600; }}
case $2 in
    Flaky) [ $runs != 1 ] || code=-1;;
    Hung|Stuck|Overdue|Late) [ $runs != 1 ] || hang;;
    First|Second) sleep 4;;
    Wrong) echo '{{"level": "ERROR", "message": "The source is on fire."}}'; sleep 3; code=-1;;
    Killed|Failed|Missed|Cleared) [ $runs != 1 ] || hang;;
    Leaving) sleep 25;;
    Crowd*) until [ -e go-on ]; do sleep 0.5; done;;
    *) sleep 3;;
esac
echo "DATASURFACE_RESULT_CODE=$code"
"""


@pytest.fixture(scope="module")
def installed(
    postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """A running platform whose streams run by settings, when somebody asks.

    The one that is spread is due soon after Airflow has started.
    """
    said = datetime.now(UTC) + timedelta(minutes=4 - OFFSET)
    soon = {
        # How long a triggerer that is gone keeps its jobs.
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",
        "AIRFLOW__CORE__PARALLELISM": "6",
    }
    whole = Installation(
        postgres,
        tmp_path_factory.mktemp("settings"),
        STREAMS,
        job=JOB,
        triggers={
            **dict.fromkeys(STREAMS, "ExternallyTriggered('By hand')"),
            SPREAD: f"CronTrigger('Hourly', '{said.minute} * * * *')",
        },
        airflow_settings=soon,
    )
    whole.model.platformArguments |= {"runsOf": RUNS_OF}
    with whole.running():
        whole.airflow.create_pool("erp", 4)
        whole.airflow.create_pool("narrow", 1)
        account = {"metadata": {"name": "ingestion"}}
        whole.kubernetes.create_namespaced_service_account(NAMESPACE, account)
        yield whole


def run_of(installed: Installation, stream: str) -> str:
    run_id: str = installed.airflow.trigger(dag_id(stream))
    return run_id


def pods(installed: Installation, stream: str) -> list[Any]:
    start = f"yellowlive-{stream.lower()}-job-"
    found = installed.kubernetes.list_namespaced_pod(NAMESPACE).items
    return [pod for pod in found if pod.metadata.name.startswith(start)]


def wait_for_state(installed: Installation, stream: str, state: str, seconds: float = 90) -> None:
    """Wait until the task of the stream's job is in a state."""

    def reached() -> None:
        installed.airflow.raise_if_ended()
        if (found := job_states(installed, stream)) != [state]:
            raise NotYetError(f"The job's task of {stream} is {found}.")

    wait_until(reached, seconds=seconds, every=0.3)


def job_states(installed: Installation, stream: str) -> list[str]:
    query = (
        "SELECT state FROM task_instance WHERE dag_id = %s AND task_id = 'snapshot_merge_job' "
        "ORDER BY start_date DESC LIMIT 1"
    )
    return [state for (state,) in rows(installed, query, dag_id(stream))]


def wait_for_deferred_job(installed: Installation, stream: str) -> str:
    """Wait until the triggerer waits for the running job of a stream, and return its pod."""
    pod = installed.pod_of(stream)
    wait_for_state(installed, stream, "deferred")
    return pod


def log_of(installed: Installation, stream: str, attempt: int = 1) -> str:
    """Return the log of the newest run's job."""
    [*_, run] = installed.runs(stream)
    text: str = installed.log(run, "snapshot_merge_job", attempt)
    return text


@pytest.mark.localkube
def test_job_with_every_setting_reaches_kubernetes_and_runs(installed: Installation) -> None:
    run_of(installed, WHOLE)
    name = installed.pod_of(WHOLE)
    pod = installed.kubernetes.read_namespaced_pod(name, NAMESPACE)
    all_ended(installed, WHOLE, 1, 90)

    template = POD_TEMPLATE["spec"]
    container = pod.spec.containers[0]
    assert pod.spec.service_account_name == template["serviceAccountName"]
    assert pod.spec.node_selector == template["nodeSelector"]
    assert pod.spec.tolerations[0].key == "batch"
    assert pod.spec.active_deadline_seconds == 1800
    assert pod.metadata.labels["cost-centre"] == "4711"
    assert container.resources.limits == {"cpu": "2", "memory": "2Gi"}
    assert container.image_pull_policy == "IfNotPresent"
    assert states(installed, WHOLE) == {"success": 1}
    query = (
        "SELECT pool, pool_slots, priority_weight, queue, max_tries FROM task_instance "
        "WHERE dag_id = %s AND task_id = 'snapshot_merge_job'"
    )
    # The priority is that of the task and of the three after it.
    assert rows(installed, query, dag_id(WHOLE)) == [("erp", 2, 10, "heavy", 2)]
    [run] = installed.runs(WHOLE)
    record, rendered = installed.airflow.record(
        dag_id(WHOLE), run["dag_run_id"], "snapshot_merge_job", "ran_with"
    )
    assert record["settings"]["pool"] == rendered["settings"]["pool"] == "erp"


def test_job_that_reports_an_error_is_tried_again(installed: Installation) -> None:
    run_of(installed, FLAKY)
    all_ended(installed, FLAKY, 1, 120)

    assert states(installed, FLAKY) == {"success": 1}
    assert "The job reported an error (DATASURFACE_RESULT_CODE=-1)" in log_of(installed, FLAKY)
    assert "DATASURFACE_RESULT_CODE=0" in log_of(installed, FLAKY, attempt=2)


@pytest.mark.parametrize("stream", [HUNG, STUCK], ids=["in its task", "in the triggerer"])
def test_hung_job_ends_at_its_timeout_and_the_next_run_starts(
    installed: Installation, stream: str
) -> None:
    run_of(installed, stream)
    all_ended(installed, stream, 1, 120)

    assert states(installed, stream) == {"failed": 1}
    assert "it did not end within its timeout of" in log_of(installed, stream)
    assert pods(installed, stream) == []

    run_of(installed, stream)
    all_ended(installed, stream, 2, 90)
    assert states(installed, stream) == {"failed": 1, "success": 1}


def test_job_that_does_not_start_in_time_fails_and_its_pod_goes(installed: Installation) -> None:
    run_of(installed, UNREADY)
    all_ended(installed, UNREADY, 1, 90)

    assert states(installed, UNREADY) == {"failed": 1}
    log = log_of(installed, UNREADY)
    assert 'secret "late" not found' in log
    assert "it could not start, " in log
    assert pods(installed, UNREADY) == []

    installed.kube.create_secret(NAMESPACE, "late", {"token": "t"})
    run_of(installed, UNREADY)
    all_ended(installed, UNREADY, 2, 90)
    assert states(installed, UNREADY) == {"failed": 1, "success": 1}


@pytest.mark.parametrize("stream", [OVERDUE, LATE], ids=["in its task", "in the triggerer"])
def test_run_beyond_its_timeout_fails_and_its_pod_goes(
    installed: Installation, stream: str
) -> None:
    run_of(installed, stream)
    installed.pod_of(stream)
    all_ended(installed, stream, 1, 90)

    assert states(installed, stream) == {"failed": 1}
    wait_until(lambda: none_left(installed, stream), seconds=60)

    run_of(installed, stream)
    all_ended(installed, stream, 2, 90)
    assert states(installed, stream) == {"failed": 1, "success": 1}


def test_stream_that_is_spread_is_due_by_its_own_minutes_later(installed: Installation) -> None:
    all_ended(installed, SPREAD, 1, 60 * 6)

    query = "SELECT data_interval_end FROM dag_run WHERE dag_id = %s"
    due = rows(installed, query, dag_id(SPREAD))[0][0]
    said = due - timedelta(minutes=OFFSET)
    assert OFFSET != 0
    assert f"'{said.minute} * * * *'" in installed.triggers[SPREAD]
    assert set(states(installed, SPREAD)) == {"success"}


def none_left(installed: Installation, stream: str) -> None:
    if found := pods(installed, stream):
        raise NotYetError(f"There is {found[0].metadata.name}.")


def test_jobs_of_a_pool_take_turns(installed: Installation) -> None:
    with most_pods(installed) as most:
        for stream in (FIRST, SECOND):
            run_of(installed, stream)
        at_once = []
        ended = time.monotonic() + 120
        while time.monotonic() < ended and states(installed, SECOND) != {"success": 1}:
            at_once.append(len(pods(installed, FIRST)) + len(pods(installed, SECOND)))
            time.sleep(0.1)
        all_ended(installed, FIRST, 1, 60)

    assert most[FIRST] == most[SECOND] == 1
    assert max(at_once) == 1
    assert states(installed, FIRST) == states(installed, SECOND) == {"success": 1}


# --- In the triggerer -------------------------------------------------------------------------


def test_deferred_job_ends_as_one_that_its_task_waits_for(installed: Installation) -> None:
    run_of(installed, WAITING)
    wait_for_deferred_job(installed, WAITING)
    all_ended(installed, WAITING, 1, 90)

    [run] = installed.runs(WAITING)
    assert installed.states(run) == {
        "snapshot_merge_job": "success",
        "check_result": "success",
        "reschedule_immediately": "skipped",
        "wait_for_trigger": "success",
    }
    assert "DATASURFACE_RESULT_CODE=0" in log_of(installed, WAITING)
    record, _ = installed.airflow.record(
        dag_id(WAITING), run["dag_run_id"], "snapshot_merge_job", "ran_with"
    )
    assert record["settings"]["deferrable"] is True
    assert record["row"] == "database"
    assert pods(installed, WAITING) == []


def test_deferred_job_that_reports_an_error_fails_with_its_reason(installed: Installation) -> None:
    run_of(installed, WRONG)
    wait_for_deferred_job(installed, WRONG)
    all_ended(installed, WRONG, 1, 90)

    [run] = installed.runs(WRONG)
    log = installed.log(run, "check_result")
    assert "The job reported an error (DATASURFACE_RESULT_CODE=-1): The source is on fire." in log


@pytest.mark.localkube
def test_killed_pod_of_a_deferred_job_fails_with_the_reason(installed: Installation) -> None:
    run_of(installed, KILLED)
    pod = wait_for_deferred_job(installed, KILLED)
    mark = {"metadata": {"annotations": {"localkube/fail-with": "OOMKilled"}}}
    installed.kubernetes.patch_namespaced_pod(pod, NAMESPACE, mark)
    all_ended(installed, KILLED, 1, 90)

    assert states(installed, KILLED) == {"failed": 1}
    reason = f"The job's pod {pod} failed: its container ended with exit code 137 (OOMKilled)."
    assert reason in log_of(installed, KILLED)
    assert pods(installed, KILLED) == []


def test_deferred_job_that_is_failed_by_hand_loses_its_pod(installed: Installation) -> None:
    run_id = run_of(installed, FAILED)
    wait_for_deferred_job(installed, FAILED)
    # The triggerer takes up what is deferred once a second.
    time.sleep(5)
    installed.airflow.fail(dag_id(FAILED), run_id)
    all_ended(installed, FAILED, 1, 60)

    wait_until(lambda: none_left(installed, FAILED), seconds=60)
    run_of(installed, FAILED)
    all_ended(installed, FAILED, 2, 90)
    assert states(installed, FAILED) == {"failed": 1, "success": 1}


def test_pod_of_a_job_that_was_failed_while_no_triggerer_waited_goes_with_the_next_run(
    installed: Installation,
) -> None:
    with installed.airflow.without("triggerer"):
        run_id = run_of(installed, MISSED)
        pod = wait_for_deferred_job(installed, MISSED)
        installed.airflow.fail(dag_id(MISSED), run_id)
        all_ended(installed, MISSED, 1, 60)
    assert [each.metadata.name for each in pods(installed, MISSED)] == [pod]

    run_of(installed, MISSED)
    all_ended(installed, MISSED, 2, 120)

    assert states(installed, MISSED) == {"failed": 1, "success": 1}
    assert f"The former pod {pod}, which nobody waits for" in log_of(installed, MISSED)
    assert pods(installed, MISSED) == []


def test_cleared_deferred_job_starts_again_in_one_pod(installed: Installation) -> None:
    run_id = run_of(installed, CLEARED)
    wait_for_deferred_job(installed, CLEARED)

    with most_pods(installed) as most:
        installed.airflow.clear(dag_id(CLEARED), run_id)

        def done() -> None:
            if states(installed, CLEARED) != {"success": 1}:
                raise NotYetError(f"The run is {states(installed, CLEARED)}.")

        wait_until(done, seconds=120, every=0.5)

    assert most[CLEARED] == 1
    assert (installed.jobs / f"runs-{CLEARED}").read_text().count("run") == 2
    wait_until(lambda: none_left(installed, CLEARED), seconds=60)


def test_deferred_job_whose_stream_ends_meanwhile_goes_on_to_its_end(
    installed: Installation,
) -> None:
    run_of(installed, LEAVING)
    wait_for_deferred_job(installed, LEAVING)
    installed.delete_row(LEAVING)
    all_ended(installed, LEAVING, 1, 120)

    assert states(installed, LEAVING) == {"success": 1}
    [run] = installed.runs(LEAVING)
    assert installed.states(run)["wait_for_trigger"] == "success"
    assert pods(installed, LEAVING) == []


def test_killed_triggerer_loses_no_job(installed: Installation) -> None:
    for stream in CROWD:
        run_of(installed, stream)

    def all_wait() -> None:
        installed.airflow.raise_if_ended()
        waiting = [stream for stream in CROWD if job_states(installed, stream) == ["deferred"]]
        if len(waiting) < len(CROWD):
            raise NotYetError(f"{len(waiting)} of {len(CROWD)} jobs wait in the triggerer.")

    wait_until(all_wait, seconds=60 + 10 * len(CROWD), every=1)
    with installed.airflow.without("triggerer"):
        (installed.jobs / "go-on").touch()

    for stream in CROWD:
        all_ended(installed, stream, 1, 120 + 10 * len(CROWD))
        assert states(installed, stream) == {"success": 1}
        assert runs_of_job(installed.jobs, stream) == 1
        assert pods(installed, stream) == []


def runs_of_job(folder: Path, stream: str) -> int:
    return (folder / f"runs-{stream}").read_text().count("run")
