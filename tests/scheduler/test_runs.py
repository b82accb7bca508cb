"""What a real scheduler makes of the streams, each of which is due every minute."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from one_machine import NotYetError, wait_until

from .installation import (
    BROKEN,
    BUSY,
    FRAGILE,
    LEAVING,
    NAMESPACE,
    SLOW,
    STEADY,
    STREAMS,
    Installation,
    dag_id,
    moment,
    seconds_between,
)

pytestmark = pytest.mark.scheduler

ARRIVING = "Invoices"


def test_runs_start_by_the_schedule(installation: Installation, figures: dict[str, float]) -> None:
    first, *later = installation.ended(STEADY, at_least=3)

    assert first["run_type"] == "scheduled"
    assert {run["run_type"] for run in later} == {"scheduled"}
    assert {run["state"] for run in (first, *later)} == {"success"}
    for one, next_one in pairwise(later):
        assert seconds_between(one["run_after"], next_one["run_after"]) == 60
    figures["from the scheduled minute to the start of the run, at most"] = max(
        seconds_between(run["run_after"], run["start_date"]) for run in later
    )
    figures["from the start of a run to its end, at most"] = max(run["duration"] for run in later)


def test_stream_with_more_work_triggers_itself_until_it_is_done(
    installation: Installation, figures: dict[str, float]
) -> None:
    runs = installation.ended(BUSY, at_least=4)
    triggered = [
        run
        for run in installation.airflow.runs(dag_id(BUSY))
        if run["conf"] == {"triggered_by": "reschedule"}
    ]

    for number, run in enumerate(runs, start=1):
        done = number % 3 == 0
        states = installation.states(run)
        assert states["reschedule_immediately"] == ("skipped" if done else "success")
        assert states["wait_for_trigger"] == ("success" if done else "skipped")
        followers = [each for each in triggered if is_within(each["queued_at"], run)]
        assert len(followers) == (0 if done else 1)
    figures["from the end of a run with more work to the start of the next, at most"] = max(
        seconds_between(run["end_date"], after["start_date"])
        for number, (run, after) in enumerate(pairwise(runs), start=1)
        if number % 3
    )


def is_within(happened: str, run: dict[str, Any]) -> bool:
    """Tell whether something happened while a run was under way."""
    return moment(run["start_date"]) < moment(happened) < moment(run["end_date"])


def test_two_runs_of_a_stream_never_overlap(installation: Installation) -> None:
    by_hand = {installation.airflow.trigger(dag_id(SLOW)) for _ in range(3)}

    def all_ended() -> None:
        ended = {run["dag_run_id"] for run in installation.ended(SLOW)}
        if not by_hand <= ended:
            raise NotYetError(f"{sorted(by_hand - ended)} have not ended.")

    wait_until(all_ended, seconds=240, every=1)

    assert not (installation.jobs / "overlap").exists()
    slow = installation.ended(SLOW)
    assert any(
        moment(later["queued_at"]) < moment(earlier["end_date"])
        for earlier, later in pairwise(slow)
    ), "No run was asked for while another one was under way."
    for stream in (STEADY, BUSY, SLOW, BROKEN):
        for earlier, later in pairwise(installation.ended(stream)):
            assert moment(earlier["end_date"]) <= moment(later["start_date"]), stream


def test_stream_that_reports_an_error_fails_alone(installation: Installation) -> None:
    failed = installation.ended(BROKEN, at_least=2)

    for run in failed:
        assert run["state"] == "failed"
        states = installation.states(run)
        assert states["snapshot_merge_job"] == "success"
        assert states["check_result"] == "failed"
        assert states["reschedule_immediately"] == states["wait_for_trigger"] == "upstream_failed"
    log = installation.log(failed[0], "check_result")
    assert "The job reported an error (DATASURFACE_RESULT_CODE=-1): The source is on fire." in log
    assert "The source is on fire." in installation.log(failed[0], "snapshot_merge_job")
    for stream in (STEADY, BUSY, SLOW):
        assert {run["state"] for run in installation.ended(stream)} == {"success"}


def test_slack_channel_is_told_of_a_failed_run_and_why(installation: Installation) -> None:
    installation.ended(BROKEN)

    def told() -> str:
        found = [text for text in installation.told if f"stream {BROKEN} failed" in text]
        if not found:
            raise NotYetError(f"The channel has {installation.told}.")
        return found[0]

    first, why, link = wait_until(told, seconds=60).splitlines()

    run = first.split()[-1].rstrip(".")
    assert run in {each["dag_run_id"] for each in installation.runs(BROKEN)}
    assert "(DATASURFACE_RESULT_CODE=-1): The source is on fire. Its output is in" in why
    assert f"/dags/{dag_id(BROKEN)}/" in link


def test_killed_pod_fails_its_run_with_the_reason_and_the_run_can_be_repeated(
    installation: Installation,
) -> None:
    mark = {"metadata": {"annotations": {"localkube/fail-with": "OOMKilled"}}}
    pod = installation.pod_of(FRAGILE)
    installation.kubernetes.patch_namespaced_pod(pod, NAMESPACE, mark)
    run = installation.ended(FRAGILE)[0]

    assert run["state"] == "failed"
    assert installation.states(run)["snapshot_merge_job"] == "failed"
    assert installation.states(run)["check_result"] == "upstream_failed"
    log = installation.log(run, "snapshot_merge_job")
    assert f"The job's pod {pod} failed: its container ended with exit code 137 (OOMKilled)." in log

    installation.airflow.clear(run["dag_id"], run["dag_run_id"])

    def repeated() -> None:
        states = installation.states(run)
        if states["wait_for_trigger"] != "success":
            raise NotYetError(f"The tasks of the repeated run are {states}.")

    wait_until(repeated, seconds=120, every=0.5)
    assert "DATASURFACE_RESULT_CODE=0" in installation.log(run, "snapshot_merge_job", attempt=2)


def test_merge_alone_brings_a_new_stream_and_takes_a_removed_one_away(
    installation: Installation, figures: dict[str, float]
) -> None:
    services, files = installation.airflow.services(), installation.dag_folder_state()
    streams = (*(name for name in STREAMS if name != LEAVING), ARRIVING)

    installation.merge(streams)

    merged = datetime.now(UTC)
    installation.wait_for_dag(ARRIVING)
    appeared = datetime.now(UTC)
    installation.wait_for_dags(streams)
    settled = datetime.now(UTC)
    [run, *_] = installation.ended(ARRIVING)
    assert (run["run_type"], run["state"]) == ("scheduled", "success")
    for what, when in (
        ("the new stream's DAG", appeared),
        ("the start of its first run", moment(run["start_date"])),
        ("the end of its first run", moment(run["end_date"])),
        ("the removed stream's end", settled),
    ):
        figures[f"from the end of handleModelMerge to {what}"] = (when - merged).total_seconds()
    assert len(services) == 3
    assert installation.airflow.services() == services
    assert installation.dag_folder_state() == files
    assert len(files) == 1


def test_stream_whose_row_is_not_valid_fails_by_its_schedule_until_it_is_corrected(
    installation: Installation,
) -> None:
    # Its own schedule, each minute, can be used.
    with installation.row("Receipts", namespace_name="No Name"):
        tags = installation.airflow.tags(dag_id("Receipts"))
        assert tags == {"config-error", "datasurface", "ingestion", "yellowlive", "Receipts"}

        [run, *_] = installation.ended("Receipts")
        assert (run["run_type"], run["state"]) == ("scheduled", "failed")
        assert "'No Name' is not a Kubernetes name" in installation.log(run, "config_error")

        installation.insert_row("Receipts")

        def runs_by_schedule() -> None:
            runs = [(run["run_type"], run["state"]) for run in installation.runs("Receipts")]
            if ("scheduled", "success") not in runs:
                raise NotYetError(f"The runs of the corrected stream are {runs}.")

        # The scheduler of Airflow 2 may give the first one the tasks that the DAG had before.
        wait_until(runs_by_schedule, seconds=200, every=0.5)
