"""The job as the process that a pod runs: output, exit code, kills, and two at once."""

from __future__ import annotations

import itertools
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from fault_table import FaultTable
from job_site import JobSite, log_entries
from psycopg2 import sql

from datasurface.platforms.yellow import ingestion_stream

pytestmark = pytest.mark.embedded

ROWS = 30_000
KILLS = 20


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=120)
    return process.returncode, output, errors


def test_result_is_all_of_standard_output(site: JobSite) -> None:
    model = site.folder / "eco.py"
    model.write_text(model.read_text() + "\nprint('DATASURFACE_RESULT_CODE=7', end='')\n")
    assert finish(site.start())[:2] == (0, "DATASURFACE_RESULT_CODE=1\n")
    assert finish(site.start())[:2] == (0, "DATASURFACE_RESULT_CODE=0\n")


def test_error_exits_with_1_and_one_line_of_reason(site: JobSite) -> None:
    site.write_model(tables={"people": "persons"})
    code, output, errors = finish(site.start())
    assert (code, output) == (1, "DATASURFACE_RESULT_CODE=-1\n")
    reasons = [entry["message"] for entry in log_entries(errors) if entry["level"] == "ERROR"]
    assert len(reasons) == 1
    assert "persons" in reasons[0]
    assert "Traceback" not in errors


def test_wrong_arguments_give_the_result_line_too() -> None:
    command = [sys.executable, "-m", "datasurface.platforms.yellow.jobs", "--store-name", "Store1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "DATASURFACE_RESULT_CODE=-1\n")
    assert "--platform-name" in done.stderr


def test_fault_of_the_program_gives_the_result_line_and_a_traceback(
    site: JobSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingestion_stream, "EcosystemPipelineGraph", lambda _: 1 / 0)
    assert site.run() == -1
    assert "ZeroDivisionError" in site.log[-1]["exception"]


def test_log_lines_carry_platform_and_stream(site: JobSite) -> None:
    assert site.run() == 1
    ingested = [entry for entry in site.log if entry["message"] == "Batch ingested."]
    assert [(e["platform"], e["request"], e["rows"]) for e in ingested] == [
        ("YellowLive", "Store1", {"people": 0})
    ]


def test_two_runs_at_once_do_not_corrupt_the_stream(site: JobSite) -> None:
    site.source("INSERT INTO people SELECT n, 'x' FROM generate_series(1, 20000) n")
    for _ in range(2):
        site.source("UPDATE people SET name = md5(random()::text) WHERE id % 3 = 0")
        pair = [site.start(), site.start()]
        codes = [finish(process)[0] for process in pair]
        assert codes == [0, 0]
    settle(site)
    assert site.live_equals_source()
    assert {status for _, _, status in site.batches()} == {"committed"}


def settle(site: JobSite) -> None:
    """Run the job until a batch that began after now is merged."""
    while site.run() != 0:
        pass
    site.cycle()


def kill_during(site: JobSite, operation: str, share: float, seconds: float) -> bool:
    """Start the job and kill it when `share` of the operation's usual time is over.

    Returns:
        Whether it was killed within the operation.
    """
    process = site.start()
    assert process.stderr is not None
    entered = False
    for line in process.stderr:
        if f'"{operation} started"' in line:
            entered = True
            # The pause is what is tested: the kill has to hit different moments.
            threading.Event().wait(seconds * share)
            process.send_signal(signal.SIGKILL)
            break
    process.communicate(timeout=60)
    return entered and process.returncode == -signal.SIGKILL


def seconds_of(site: JobSite, operation: str) -> float:
    entry = next(e for e in site.log if e["message"] == f"{operation} finished")
    return float(entry["seconds"])


def moments() -> Iterator[tuple[str, float]]:
    """Yield an operation and the share of its usual time after which to kill the job, endlessly."""
    chance = random.Random(20130101)
    for share in itertools.chain([0.0], iter(chance.random, None)):
        yield "Ingesting", share
        yield "Merging", share


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["live_only", "batch_milestoned"])
def test_killed_anywhere_the_job_does_nothing_or_everything(
    site: JobSite, strategy: str, faults: FaultTable
) -> None:
    site.write_model(strategy=strategy)
    site.source("INSERT INTO people SELECT n, 'x' FROM generate_series(1, %s) n", ROWS)
    assert site.run() == 1
    usual = {"Ingesting": seconds_of(site, "Ingesting")}
    assert site.run() == 0
    usual["Merging"] = seconds_of(site, "Merging")
    live = "ds_surf_batch_out = 2147483647" if strategy == "batch_milestoned" else "true"
    snapshots = [site.source("SELECT id, name FROM people ORDER BY 1")]
    hits: list[str] = []
    for number, (operation, share) in enumerate(moments()):
        site.source("DELETE FROM people WHERE id %% 31 = %s", number)
        site.source("UPDATE people SET name = %s WHERE id %% 17 = %s", f"b{number}", number)
        site.source(
            "INSERT INTO people SELECT n, 'new' FROM generate_series(%s, %s) n",
            ROWS + 100 * number + 1,
            ROWS + 100 * number + 100,
        )
        snapshots.append(site.source("SELECT id, name FROM people ORDER BY 1"))
        if operation == "Merging":
            assert site.run() == 1, site.error_output
        if kill_during(site, operation, share, usual[operation]):
            hits.append(operation)
        assert site.content(where=live) in snapshots[-2:]
        while site.run() != 0:
            pass
        assert site.live_equals_source()
        if len(hits) == KILLS:
            break
    assert {"Ingesting", "Merging"} == set(hits)
    assert site.batches() == [
        ("Store1", batch, "committed") for batch in range(1, len(site.batches()) + 1)
    ]
    if strategy == "batch_milestoned":
        assert_history(site, snapshots)
    faults.record(
        f"SIGKILL of the job at a random point, {strategy.replace('_', ' ')}",
        injected=len(hits),
        survived=len(hits),
    )


def assert_history(site: JobSite, snapshots: list[list[tuple[object, ...]]]) -> None:
    """Check that each batch's rows can be read back, and no key has two live versions."""
    states: list[list[tuple[object, ...]]] = []
    for _, batch, _ in site.batches():
        state = site.content(where=f"{batch} BETWEEN ds_surf_batch_in AND ds_surf_batch_out")
        if not states or state != states[-1]:
            states.append(state)
    assert states == snapshots
    overlaps = site.merge(
        sql.SQL(
            "SELECT count(*) FROM {0} a JOIN {0} b ON a.ds_surf_key_hash = b.ds_surf_key_hash "
            "AND a.ds_surf_batch_in < b.ds_surf_batch_in "
            "AND b.ds_surf_batch_in <= a.ds_surf_batch_out"
        ).format(sql.Identifier(site.table("people")))
    )
    assert overlaps == [(0,)]
