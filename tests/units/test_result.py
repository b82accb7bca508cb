"""The result and the errors that are read from a job's log, without a pod."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.client import ApiException, V1ContainerState, V1ContainerStateTerminated
from pytest_mock import MockerFixture

from yellow_dynamic.factory.operators import describe_result
from yellow_dynamic.factory.result import (
    KILLED_PROCESS,
    NO_RESULT,
    UNREADABLE,
    ErrorsInLog,
    ResultFromLog,
    overlapping,
    result_in_log,
)

POD = SimpleNamespace(
    metadata=SimpleNamespace(name="job", namespace="ns"),
    status=SimpleNamespace(phase="Succeeded", container_statuses=None),
)


class Log:
    """A pod's log as the Kubernetes client streams it, in chunks of these bytes.

    It is empty as often as `empty_reads` says before.
    """

    def __init__(self, *chunks: bytes, empty_reads: int = 0) -> None:
        self.chunks = chunks
        self.empty_reads = empty_reads
        self.closed = False

    def read_namespaced_pod_log(self, name: str, namespace: str, **options: Any) -> Log:
        assert (name, namespace) == ("job", "ns")
        assert options == {"container": "base", "tail_lines": 500, "_preload_content": False}
        return self

    def stream(self, size: int) -> Iterator[bytes]:
        assert 2**10 <= size <= 2**20
        if self.empty_reads:
            self.empty_reads -= 1
        else:
            yield from self.chunks

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("chunks", "result"),
    [
        ([b"DATASURFACE_RESULT_CODE=1\n"], "1"),
        ([b"DATASURFACE_RESULT_CODE=0\nsome closing words\n"], "0"),
        ([b"DATASURFACE_RESULT_CODE=0\nDATASURFACE_RESULT_CODE=-1\n"], "-1"),
        ([b"DATASURFACE_RESULT_CODE=banana\n"], "banana"),
        ([b'{"message": "DATASURFACE_RESULT_CODE=1"}\n'], "1"),
        ([b"DATASURFACE_RES", b"ULT_CODE=1\n"], "1"),
        ([b"all quiet\n"], None),
        ([b"\xff\xfe DATASURFACE_RESULT_CODE=0\n"], "0"),
    ],
)
def test_last_result_of_a_log_counts_however_it_is_cut(
    chunks: list[bytes], result: str | None
) -> None:
    log = Log(*chunks)

    assert result_in_log(log, POD) == result
    assert log.closed


@pytest.mark.parametrize(("empty_reads", "result"), [(2, "1"), (3, None)])
def test_log_that_is_empty_is_read_three_times_a_second_apart(
    monkeypatch: pytest.MonkeyPatch, empty_reads: int, result: str | None
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    log = Log(b"DATASURFACE_RESULT_CODE=1\n", empty_reads=empty_reads)

    assert result_in_log(log, POD) == result
    assert slept == [1] * empty_reads


def test_chunks_overlap_by_more_than_a_result_is_long() -> None:
    texts = list(overlapping([b"x" * 1000, b"y"]))

    assert texts[0] == "x" * 1000
    assert texts[1].endswith("xy")
    assert len(texts[1]) == 201


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (["Traceback (most recent call last):", '  File "x"', "KeyError: 'a'"], "KeyError: 'a'"),
        (["Traceback (most recent call last):", "E"], "E"),
        (["Traceback (most recent call last):", "  x", "E: y", "closing words"], "E: y"),
        (['{"level": "ERROR", "message": "no table"}'], "no table"),
        (['{"level": "CRITICAL", "message": "no table"}'], "no table"),
        (['{"level": "ERROR", "message": "no table"}', "closing words"], "no table"),
        (['{"level": "INFO", "message": "no table"}'], None),
        (['{"level": "ERROR", "message": "m", "exception": "Traceback (x)\\nOSError: b"}'],
         "OSError: b"),
        (["Traceback (most recent call last):", "  x", "DATASURFACE_RESULT_CODE=-1", "E: y"],
         "E: y"),
        (["all well", "{not json"], None),
    ],
)  # fmt: skip
def test_error_of_a_log_is_the_one_raised_or_else_the_one_logged(
    lines: list[str], error: str | None
) -> None:
    errors = ErrorsInLog()
    for line in lines:
        errors.read(line)

    assert errors.last == error


class Task:
    """Collects the XComs of a task instance."""

    def __init__(self) -> None:
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value


def complete(client: Any, pod: Any = POD) -> dict[str, Any]:
    task = Task()
    ResultFromLog.on_pod_completion(pod=pod, client=client, context={"ti": task})
    return task.xcoms


def test_result_and_error_of_a_completed_pod_become_xcoms() -> None:
    ResultFromLog.on_pod_creation()
    ResultFromLog.progress_callback(line="2026-01-01T00:00:00Z Traceback (x)\nValueError: bad\n")

    assert complete(Log(b"DATASURFACE_RESULT_CODE=-1\n")) == {
        "result_code": "-1",
        "job_error": "ValueError: bad",
    }


def test_result_of_a_failed_pod_does_not_count() -> None:
    ResultFromLog.on_pod_creation()
    failed = SimpleNamespace(
        metadata=POD.metadata, status=SimpleNamespace(phase="Failed", container_statuses=None)
    )

    assert complete(Log(b"DATASURFACE_RESULT_CODE=0\n"), failed) == {}
    assert ResultFromLog.result is None


def test_line_that_was_followed_counts_where_the_log_begins_anew() -> None:
    ResultFromLog.on_pod_creation()
    ResultFromLog.progress_callback(line="DATASURFACE_RESULT_CODE=1")

    assert complete(Log(b"a new file\n")) == {"result_code": "1"}


def test_pod_that_printed_no_result_has_an_empty_one() -> None:
    ResultFromLog.on_pod_creation()

    assert complete(Log(b"all quiet\n")) == {"result_code": NO_RESULT}


def test_log_that_cannot_be_read_is_said_as_such() -> None:
    class Gone:
        """An API that has no log."""

        def read_namespaced_pod_log(self, *_: Any, **__: Any) -> None:
            raise ApiException(status=404, reason="Not Found")

    ResultFromLog.on_pod_creation()

    assert complete(Gone()) == {"result_code": f"{UNREADABLE}404 Not Found"}


def test_result_that_was_followed_is_not_taken_before_an_outage_has_passed(
    mocker: MockerFixture,
) -> None:
    mocker.patch("tenacity.nap.time.sleep")
    log = Log(b"DATASURFACE_RESULT_CODE=0\nDATASURFACE_RESULT_CODE=-1\n")
    read, away = log.read_namespaced_pod_log, [ApiException(status=500)] * 9

    def read_after_the_outage(*args: Any, **options: Any) -> Any:
        if away:
            raise away.pop()
        return read(*args, **options)

    mocker.patch.object(log, "read_namespaced_pod_log", read_after_the_outage)
    ResultFromLog.on_pod_creation()
    ResultFromLog.progress_callback(line="DATASURFACE_RESULT_CODE=0")

    assert complete(log) == {"result_code": "-1"}


def test_process_that_was_killed_for_its_memory_is_said_wherever_the_error_is() -> None:
    ResultFromLog.on_pod_creation()
    ended = V1ContainerStateTerminated(exit_code=0, reason="OOMKilled")
    status = SimpleNamespace(name="base", state=V1ContainerState(terminated=ended))
    killed = SimpleNamespace(
        metadata=POD.metadata,
        status=SimpleNamespace(phase="Succeeded", container_statuses=[status]),
    )

    pushed = complete(Log(b"DATASURFACE_RESULT_CODE=-1\n"), killed)

    assert pushed["job_error"] == KILLED_PROCESS == ResultFromLog.errors.last


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (NO_RESULT, "printed no line DATASURFACE_RESULT_CODE=N"),
        ("-1", "reported an error (DATASURFACE_RESULT_CODE=-1)"),
        ("banana", "printed the unknown result DATASURFACE_RESULT_CODE='banana'"),
        (f"{UNREADABLE}404 Not Found", "its log cannot be read (404 Not Found)"),
    ],
)
def test_each_bad_result_is_described_with_the_jobs_own_error(code: str, words: str) -> None:
    assert words in describe_result(code, None)
    assert describe_result(code, "no table.").endswith(": no table.")
