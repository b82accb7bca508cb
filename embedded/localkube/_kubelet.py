"""Runs the pods: each from being scheduled to its final status, and to its end when deleted."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from localkube._errors import Json
from localkube._events import Recorder
from localkube._launch import ConfigError, Launch, Machine, prepare
from localkube._logs import PodLog
from localkube._pods import FAIL_WITH
from localkube._process import Process, StartError
from localkube._store import Store, now

logger = logging.getLogger(__name__)

NODE = "localkube"
#: Seconds that pods have to end when the server stops.
STOP_GRACE = 5.0
#: Seconds between attempts to pull an image whose folder is not there yet.
PULL_SECONDS = 1.0

_DEADLINE = "Pod was active on the node longer than the specified deadline"
_EVICTED = "The node was low on resource: memory."
_START_FAILED = 128


def _condition(kind: str, true: bool, reason: str = "") -> Json:
    condition = {"type": kind, "status": str(true), "lastTransitionTime": now()}
    return condition | ({"reason": reason} if reason else {})


def _set_conditions(status: Json, ready: bool, reason: str = "") -> None:
    kept = {condition["type"]: condition for condition in status.get("conditions", [])}
    wanted = [
        _condition("PodScheduled", True),
        _condition("Initialized", True),
        _condition("ContainersReady", ready, reason),
        _condition("Ready", ready, reason),
    ]
    for condition in wanted:
        old = kept.get(condition["type"])
        if old is None or old["status"] != condition["status"]:
            kept[condition["type"]] = condition
        elif reason and condition["status"] == "False":
            old["reason"] = reason
    status["conditions"] = list(kept.values())


class _PodRun:
    """One pod's life on this machine."""

    def __init__(
        self,
        pod: Json,
        machine: Machine,
        store: Store,
        recorder: Recorder,
        removed: Callable[[_PodRun], None],
    ) -> None:
        self.uid: str = pod["metadata"]["uid"]
        self.log: PodLog | None = None
        self.finished = False
        self._namespace: str = pod["metadata"]["namespace"]
        self._name: str = pod["metadata"]["name"]
        self._grace: float = pod["spec"]["terminationGracePeriodSeconds"]
        self._machine = machine
        self._store = store
        self._recorder = recorder
        self._removed = removed
        self.folder = machine.pod_dir(pod)
        self._process: Process | None = None
        self._started_at = ""
        self._pod_reason = ""
        self._container_reason = ""
        self._message = ""
        self._deadline: asyncio.TimerHandle | None = None
        self.task = asyncio.create_task(self._run())
        self.task.add_done_callback(self._report_failure)

    @property
    def pod(self) -> Json:
        """The pod as it is now in the store."""
        return self._store.get("pods", self._namespace, self._name)

    def _report_failure(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            logger.error("Pod %s was lost", self._name, exc_info=task.exception())

    def _update(self, edit: Callable[[Json], None]) -> None:
        self._store.update("pods", self._namespace, self._name, lambda pod: edit(pod["status"]))

    async def _run(self) -> None:
        self._schedule()
        container = self.pod["spec"]["containers"][0]
        image = container["image"]
        if image not in self._machine.images:
            self._cannot_pull(
                image,
                f'rpc error: code = NotFound desc = image "{image}" not found: start localkube '
                f"with --image {image}=BIN_DIR, where BIN_DIR is the folder of the image's "
                "executables",
            )
            return
        while not self._machine.images[image].is_dir():
            self._cannot_pull(image, "dial tcp: connect: connection refused")
            await asyncio.sleep(PULL_SECONDS)
        self._recorder.normal(
            self.pod, "Pulled", f'Container image "{container["image"]}" is present on this machine'
        )
        try:
            self._process = await self._start(await self._prepared())
        except (StartError, OSError) as error:
            self._message = f"cannot start the command: {error}"
            self._recorder.warning(self.pod, "Failed", f"Error: {self._message}")
            self._container_reason = "StartError"
            self._finish(_START_FAILED)
        else:
            self._running()
            self._finish(await self._process.wait())

    def _schedule(self) -> None:
        def edit(pod: Json) -> None:
            pod["spec"]["nodeName"] = NODE
            pod["status"] |= {"startTime": now(), "hostIP": "127.0.0.1", "podIP": "127.0.0.1"}
            _set_conditions(pod["status"], False, "ContainersNotReady")

        self._store.update("pods", self._namespace, self._name, edit)
        self._waiting("ContainerCreating")
        where = f"{self._namespace}/{self._name}"
        self._recorder.normal(self.pod, "Scheduled", f"Successfully assigned {where} to {NODE}")
        seconds = self.pod["spec"].get("activeDeadlineSeconds")
        if seconds is not None:
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(seconds, self._deadline_passed)

    def _cannot_pull(self, image: str, why: str) -> None:
        message = f'Failed to pull image "{image}": {why}'
        self._waiting("ErrImagePull", message)
        self._recorder.warning(self.pod, "Failed", message)
        self._recorder.warning(self.pod, "Failed", "Error: ErrImagePull")
        self._recorder.normal(self.pod, "BackOff", f'Back-off pulling image "{image}"')
        self._waiting("ImagePullBackOff", f'Back-off pulling image "{image}": {why}')

    async def _prepared(self) -> Launch:
        told = ""
        while True:
            try:
                return prepare(self.pod, self._machine, self._secret)
            except ConfigError as error:
                if str(error) != told:
                    told = str(error)
                    self._waiting("CreateContainerConfigError", told)
                    self._recorder.warning(self.pod, "Failed", f"Error: {told}")
                await self._store.changed.wait()

    def _secret(self, name: str) -> dict[str, str] | None:
        found = self._store.find("secrets", self._namespace, name)
        return None if found is None else found.get("data", {})

    async def _start(self, launch: Launch) -> Process:
        container = self.pod["spec"]["containers"][0]["name"]
        if launch.skipped:
            names = ", ".join(launch.skipped)
            message = f"Keys [{names}] from secrets were skipped since they are invalid names"
            self._recorder.warning(self.pod, "InvalidEnvironmentVariableNames", message)
        self._recorder.normal(self.pod, "Created", f"Created container: {container}")
        self.log = PodLog(self.folder / f"{container}.log")
        return await Process.start(launch.command, self.log)

    def _container_status(self, state: Json, *, running: bool = False) -> list[Json]:
        container = self.pod["spec"]["containers"][0]
        status = {
            "name": container["name"],
            "image": container["image"],
            "imageID": f"localkube://{container['image']}",
            "state": state,
            "lastState": {},
            "ready": running,
            "started": running,
            "restartCount": 0,
        }
        return [status | ({"containerID": f"localkube://{self.uid}"} if self._started_at else {})]

    def _waiting(self, reason: str, message: str = "") -> None:
        state = {"waiting": {"reason": reason} | ({"message": message} if message else {})}
        statuses = self._container_status(state)
        self._update(lambda status: status.update(containerStatuses=statuses))

    def _running(self) -> None:
        self._started_at = now()
        statuses = self._container_status(
            {"running": {"startedAt": self._started_at}}, running=True
        )

        def edit(status: Json) -> None:
            status |= {"phase": "Running", "containerStatuses": statuses}
            _set_conditions(status, True)

        self._update(edit)
        container = self.pod["spec"]["containers"][0]["name"]
        self._recorder.normal(self.pod, "Started", f"Started container {container}")
        self.fail_if_asked()

    def _finish(self, exit_code: int | None) -> None:
        """Write the final status; `exit_code` is None for a container that never started."""
        self.finished = True
        if self._deadline is not None:
            self._deadline.cancel()
        succeeded = exit_code == 0 and not self._pod_reason and not self._container_reason
        terminated = {
            "exitCode": exit_code,
            "reason": self._container_reason or ("Completed" if exit_code == 0 else "Error"),
            "startedAt": self._started_at or now(),
            "finishedAt": now(),
            "containerID": f"localkube://{self.uid}",
        }
        if self._message and not self._pod_reason:
            terminated["message"] = self._message
        statuses = self._container_status({"terminated": terminated})

        def edit(status: Json) -> None:
            status["phase"] = "Succeeded" if succeeded else "Failed"
            if exit_code is not None:
                status["containerStatuses"] = statuses
            if self._pod_reason:
                status |= {"reason": self._pod_reason, "message": self._message}
            _set_conditions(status, False, "PodCompleted" if succeeded else "PodFailed")

        self._update(edit)
        if self.log is not None:
            self.log.close()
        if "deletionTimestamp" in self.pod["metadata"]:
            self._remove()

    def _remove(self) -> None:
        self._store.delete("pods", self._namespace, self._name)
        self._removed(self)

    def _deadline_passed(self) -> None:
        self._pod_reason, self._message = "DeadlineExceeded", _DEADLINE
        self._recorder.normal(self.pod, "DeadlineExceeded", _DEADLINE)
        self.stop(self._grace)

    def fail_if_asked(self) -> None:
        """End a running pod whose annotation says how it is to fail."""
        failure = self.pod["metadata"].get("annotations", {}).get(FAIL_WITH)
        if failure is None or self._process is None or self.finished:
            return
        if failure == "Evicted":
            self._pod_reason, self._message = "Evicted", _EVICTED
            self._recorder.warning(self.pod, "Evicted", _EVICTED)
        else:
            self._container_reason = failure
        self._process.kill()

    def stop(self, grace: float) -> None:
        """End a pod that has not finished: ask first, and kill after `grace` seconds."""
        if self._process is None:
            self.task.cancel()
            self._finish(None)
            return
        container = self.pod["spec"]["containers"][0]["name"]
        self._recorder.normal(self.pod, "Killing", f"Stopping container {container}")
        if grace > 0:
            self._process.terminate()
            asyncio.get_running_loop().call_later(grace, self._process.kill)
        else:
            self._process.kill()

    def delete(self, grace: float) -> None:
        """Remove the pod, once it has ended if it still runs."""
        if self.finished:
            self._remove()
        else:
            self.stop(grace)


class Kubelet:
    """Runs pods and keeps what belongs to them until they are deleted."""

    def __init__(self, machine: Machine, store: Store) -> None:
        self._machine = machine
        self._store = store
        self._recorder = Recorder(store)
        self._runs: dict[str, _PodRun] = {}
        self._cleaning: set[asyncio.Task[None]] = set()

    def _run_of(self, pod: Json) -> _PodRun:
        return self._runs[pod["metadata"]["uid"]]

    def run(self, pod: Json) -> None:
        """Start a pod that is in the store."""
        run = _PodRun(pod, self._machine, self._store, self._recorder, self._clean)
        self._runs[run.uid] = run

    def log(self, pod: Json) -> PodLog | None:
        """Return the log of a pod's container, or None if it has not been started."""
        return self._run_of(pod).log

    def annotated(self, pod: Json) -> None:
        """Act on the annotations of a pod that has been changed."""
        self._run_of(pod).fail_if_asked()

    def delete(self, pod: Json, grace: float) -> None:
        """Remove a pod from the store, after at most `grace` seconds if it still runs."""
        self._run_of(pod).delete(grace)

    def _clean(self, run: _PodRun) -> None:
        del self._runs[run.uid]
        task = asyncio.create_task(asyncio.to_thread(remove_folder, run.folder))
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)

    async def stop(self) -> None:
        """End all pods, and return when all their processes have ended."""
        running = [run for run in self._runs.values() if not run.finished]
        for run in running:
            run.stop(STOP_GRACE)
        tasks = {run.task for run in running} | self._cleaning
        if tasks:
            await asyncio.wait(tasks)


def remove_folder(folder: Path) -> None:
    """Remove a folder; what cannot be removed stays, with a warning."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        logger.warning("%s could not be removed; the next start tries again.", folder)
