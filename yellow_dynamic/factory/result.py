"""The job's result."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

from airflow.providers.cncf.kubernetes.callbacks import KubernetesPodOperatorCallback
from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from yellow_dynamic.factory.constants import JOB_CONTAINER
from yellow_dynamic.factory.kube import (
    MORE_MEMORY,
    OUT_OF_MEMORY,
    api_error_message,
    has_failed,
    ran_out_of_memory,
    through_outage,
)
from yellow_dynamic.factory.logs import one_line

RESULT_KEY = "result_code"
# What Kubernetes puts before each line, and old releases of the provider leave there.
KUBERNETES_TIME = re.compile(r"^\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d) ")
# A job may print it within a line of JSON.
RESULT_LINE = re.compile(r"DATASURFACE_RESULT_CODE=([^\s\"]*)")
RESULT_CHARACTERS = 100
# What went wrong by the job's own log.
JOB_ERROR = "job_error"
ERROR_CHARACTERS = 500
# Kubernetes ends the whole container, or on some nodes this process alone.
KILLED_PROCESS = (
    f"a process of it was killed at its limit of memory ({OUT_OF_MEMORY}). {MORE_MEMORY}"
)
# The job has brought what there is, or there is more to bring.
DONE, MORE = GOOD_RESULTS = ("0", "1")
# The result that the job's task pushes when its job printed none.
NO_RESULT = ""
# The start of the result that it pushes when the job's log could not be read.
UNREADABLE = "unreadable: "


class ErrorsInLog:
    """Finds what went wrong in the lines of a job's log: JSON of DataSurface, or a traceback."""

    #: What Kubernetes reports about the job's processes.
    of_pod: str | None = None

    def __init__(self) -> None:
        self._in_traceback = False
        self._raised: str | None = None
        self._logged: str | None = None

    @property
    def last(self) -> str | None:
        """The last error; one that was raised says more than one that was only logged."""
        found = self._raised or self._logged
        in_log = one_line(found)[:ERROR_CHARACTERS] if found else None
        return "; ".join(filter(None, (in_log, self.of_pod))) or None

    def read(self, line: str) -> None:
        if line.startswith("Traceback "):
            self._in_traceback = True
        elif self._in_traceback:
            if line and not line[0].isspace() and not RESULT_LINE.search(line):
                self._in_traceback, self._raised = False, line
        elif line.startswith("{"):
            self._read_entry(line)

    def _read_entry(self, line: str) -> None:
        try:
            entry = json.loads(line)
        except ValueError:
            return
        if entry.get("level") in ("ERROR", "CRITICAL"):
            self._logged = str(entry.get("message"))
            for each in str(entry.get("exception") or "").splitlines():
                self.read(each)
            self._in_traceback = False


class ResultFromLog(KubernetesPodOperatorCallback):
    """Takes the job's result from the pod's log and hands it to check_result.

    It asks the Kubernetes API, as the operator itself does, so it needs neither Airflow's log
    files nor the right to exec into pods.
    """

    #: The last result among the lines that were followed. A process runs one task.
    followed: str | None = None
    #: What the job's task pushes as the result; None where its pod failed.
    result: str | None = None
    errors = ErrorsInLog()

    @staticmethod
    def on_pod_creation(**_: Any) -> None:
        ResultFromLog.followed = ResultFromLog.result = None
        ResultFromLog.errors = ErrorsInLog()

    @staticmethod
    def progress_callback(*, line: str, **_: Any) -> None:
        if codes := RESULT_LINE.findall(line):
            ResultFromLog.followed = codes[-1]
        for each in line.splitlines():
            ResultFromLog.errors.read(KUBERNETES_TIME.sub("", each))

    @staticmethod
    def on_pod_completion(*, pod: Any, client: Any, context: Any, **_: Any) -> None:
        # The result of a failed pod does not count, and the log of an evicted one may be gone.
        if pod is None or has_failed(pod):
            return
        try:
            code = through_outage(result_in_log, client, pod)
        except (ApiException, HTTPError) as error:
            code = None
            unknown = f"{UNREADABLE}{api_error_message(error)}"
        else:
            unknown = NO_RESULT
        # The kubelet may have begun a new log file after the last line.
        code = code or ResultFromLog.followed
        ResultFromLog.result = code[:RESULT_CHARACTERS] if code else unknown
        context["ti"].xcom_push(key=RESULT_KEY, value=ResultFromLog.result)
        if ran_out_of_memory(pod):
            ResultFromLog.errors.of_pod = KILLED_PROCESS
        if said := ResultFromLog.errors.last:
            context["ti"].xcom_push(key=JOB_ERROR, value=said)


def result_in_log(client: Any, pod: Any) -> str | None:
    """Return the last result in the end of a pod's log, or None."""
    for _ in range(3):
        response = client.read_namespaced_pod_log(
            pod.metadata.name,
            pod.metadata.namespace,
            container=JOB_CONTAINER,
            tail_lines=500,
            # Some releases of the client decode to the text of a bytes literal, "b'...\\n'".
            _preload_content=False,
        )
        with closing(response):
            empty, code = True, None
            for text in overlapping(response.stream(2**16)):
                empty = False
                # The job prints its result last; an earlier one can only be something it echoed.
                if codes := RESULT_LINE.findall(text):
                    code = codes[-1]
        if not empty:
            return code
        # The log cannot be read for a moment.
        time.sleep(1)
    return None


def overlapping(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield texts that each begin with the end of the one before, however long the lines are."""
    end = b""
    for chunk in chunks:
        text = end + chunk
        yield text.decode("utf-8", "replace")
        end = text[-2 * RESULT_CHARACTERS :]
