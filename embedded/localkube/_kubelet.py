"""Runs the pods: each from being scheduled to its final status, and to its end when deleted."""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from localkube._errors import Json
from localkube._events import Recorder
from localkube._launch import ConfigError, Machine, prepare
from localkube._logs import PodLog
from localkube._pods import FAIL_WITH
from localkube._process import Command, Process, StartError
from localkube._store import Store, now

logger = logging.getLogger(__name__)

NODE = "localkube"
#: Seconds that pods have to end when the server stops.
STOP_GRACE = 5.0
#: Seconds between attempts to pull an image whose folder is not there yet.
PULL_SECONDS = 1.0

_DEADLINE = "Pod was active on the node longer than the specified deadline"
# With a space at the end, as a kubelet has it.
_EVICTED = "The node was low on resource: memory. "
_START_FAILED = 128
_ADDRESS = "127.0.0.1"
#: When a container was started that never was.
_NEVER = "1970-01-01T00:00:00Z"
_COMPLETED, _FAILED = {"reason": "PodCompleted"}, {"reason": "PodFailed"}
#: Seconds between the end of a log, that of its container and that of the pod, which a cluster
#: shows one after the other too.
_LAG = 0.03
#: The message of a kubelet for a container that was never created.
_UNKNOWN = {
    "exitCode": 128 + signal.SIGKILL,
    "reason": "ContainerStatusUnknown",
    "message": "The container could not be located when the pod was terminated",
    "startedAt": None,
    "finishedAt": None,
}
#: Names that an image can have.
_IMAGE = re.compile(
    r"([a-zA-Z0-9.-]+(:\d+)?/)?[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*"
    r"(/[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*)*(:\w[\w.-]{0,127})?(@[a-z0-9]+:[a-f0-9]{32,})?"
)


def _condition(kind: str, true: bool, **why: str) -> Json:
    return {"type": kind, "status": str(true), "lastTransitionTime": now(), **why}


def _set_conditions(status: Json, unready: dict[str, str], *, network: bool) -> None:
    """Write the conditions that a kubelet writes, in its order.

    Args:
        status: the status of the pod.
        unready: why its container does not run; empty where it does.
        network: whether the pod has what its containers run in.
    """
    ready, completed = not unready, unready if unready == _COMPLETED else {}
    before = {condition["type"]: condition for condition in status.get("conditions", [])}
    status["conditions"] = [
        _condition("PodReadyToStartContainers", network),
        _condition("Initialized", True, **completed),
        _condition("Ready", ready, **unready),
        _condition("ContainersReady", ready, **unready),
        _condition("PodScheduled", True),
    ]
    for condition in status["conditions"]:
        old = before.get(condition["type"])
        if old is not None and old["status"] == condition["status"]:
            condition["lastTransitionTime"] = old["lastTransitionTime"]


def _set_address(status: Json) -> None:
    status |= {"podIP": _ADDRESS, "podIPs": [{"ip": _ADDRESS}]}


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
        self._container: Json = pod["spec"]["containers"][0]
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
        self._killing = self._ended = self._gone = False
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
        image = self._container["image"]
        if image not in self._machine.images:
            self._refuse_image(image)
            return
        while not self._machine.images[image].is_dir():
            self._cannot_pull(image, "dial tcp: connect: connection refused")
            await asyncio.sleep(PULL_SECONDS)
        self._recorder.normal(
            self.pod, "Pulled", f'Container image "{image}" already present on machine'
        )
        try:
            self._process = await self._start(await self._prepared())
        except (StartError, OSError) as error:
            self._message = f"cannot start the command: {error}"
            self._recorder.warning(self.pod, "Failed", f"Error: {self._message}")
            self._container_reason = "StartError"
            await self._end(_START_FAILED)
        else:
            self._running()
            await self._end(await self._process.wait())

    def _schedule(self) -> None:
        def assign(pod: Json) -> None:
            pod["spec"]["nodeName"] = NODE
            pod["status"]["conditions"] = [_condition("PodScheduled", True)]

        def accept(status: Json) -> None:
            hosts = {"hostIP": _ADDRESS, "hostIPs": [{"ip": _ADDRESS}]}
            creating = self._container_status({"waiting": {"reason": "ContainerCreating"}})
            status |= {"startTime": now(), **hosts, "containerStatuses": creating}
            _set_conditions(status, self._unready(), network=False)

        self._store.update("pods", self._namespace, self._name, assign)
        self._update(accept)
        where = f"{self._namespace}/{self._name}"
        self._recorder.normal(self.pod, "Scheduled", f"Successfully assigned {where} to {NODE}")
        seconds = self.pod["spec"].get("activeDeadlineSeconds")
        if seconds is not None:
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(seconds, self._deadline_passed)

    def _unready(self) -> dict[str, str]:
        names = f"containers with unready status: [{self._container['name']}]"
        return {"reason": "ContainersNotReady", "message": names}

    def _refuse_image(self, image: str) -> None:
        """Leave a pod waiting whose image is not there, and never will be."""
        if not _IMAGE.fullmatch(image):
            why = f'couldn\'t parse image name "{image}": invalid reference format'
            message = f'Failed to apply default image tag "{image}": {why}'
            self._not_started("InvalidImageName", message, "InspectFailed")
        elif self._container["imagePullPolicy"] == "Never":
            message = f'Container image "{image}" is not present with pull policy of Never'
            self._not_started("ErrImageNeverPull", message, "ErrImageNeverPull")
        else:
            self._cannot_pull(
                image,
                f'rpc error: code = NotFound desc = image "{image}" not found: start localkube '
                f"with --image {image}=BIN_DIR, where BIN_DIR is the folder of the image's "
                "executables",
            )

    def _not_started(self, reason: str, message: str, event: str) -> None:
        self._recorder.warning(self.pod, event, message)
        self._recorder.warning(self.pod, "Failed", f"Error: {reason}")
        self._waiting(reason, message)

    def _cannot_pull(self, image: str, why: str) -> None:
        self._recorder.normal(self.pod, "Pulling", f'Pulling image "{image}"')
        self._recorder.warning(self.pod, "Failed", f'Failed to pull image "{image}": {why}')
        self._recorder.warning(self.pod, "Failed", "Error: ErrImagePull")
        self._waiting("ErrImagePull", why)
        message = f'Back-off pulling image "{image}"'
        self._recorder.normal(self.pod, "BackOff", message)
        self._recorder.warning(self.pod, "Failed", "Error: ImagePullBackOff")
        self._waiting("ImagePullBackOff", f"{message}: ErrImagePull: {why}")

    async def _prepared(self) -> Command:
        told = ""
        while True:
            try:
                return prepare(self.pod, self._machine, self._secret)
            except ConfigError as error:
                if str(error) != told:
                    told = str(error)
                    self._waiting(error.reason, told)
                    self._recorder.warning(self.pod, "Failed", f"Error: {told}")
                await self._store.changed.wait()

    def _secret(self, name: str) -> dict[str, str] | None:
        found = self._store.find("secrets", self._namespace, name)
        return None if found is None else found.get("data", {})

    async def _start(self, command: Command) -> Process:
        name = self._container["name"]
        self._recorder.normal(self.pod, "Created", f"Created container: {name}")
        self.log = PodLog(self.folder / f"{name}.log")
        return await Process.start(command, self.log)

    def _container_status(self, state: Json, *, running: bool = False) -> list[Json]:
        image = self._container["image"]
        status = {
            "name": self._container["name"],
            "image": image,
            "imageID": f"localkube://{image}" if self.log else "",
            "state": state,
            "lastState": {},
            "ready": running,
            "started": running,
            "restartCount": 0,
        }
        return [status | ({"containerID": f"localkube://{self.uid}"} if self.log else {})]

    def _waiting(self, reason: str, message: str = "") -> None:
        state = {"waiting": {"reason": reason} | ({"message": message} if message else {})}
        statuses = self._container_status(state)

        def edit(status: Json) -> None:
            status["containerStatuses"] = statuses
            _set_address(status)
            _set_conditions(status, self._unready(), network=True)

        self._update(edit)

    def _running(self) -> None:
        self._started_at = now()
        statuses = self._container_status(
            {"running": {"startedAt": self._started_at}}, running=True
        )

        def edit(status: Json) -> None:
            status |= {"phase": "Running", "containerStatuses": statuses}
            _set_address(status)
            _set_conditions(status, {}, network=True)

        self._update(edit)
        self._recorder.normal(self.pod, "Started", f"Started container {self._container['name']}")
        self.fail_if_asked()

    async def _end(self, exit_code: int) -> None:
        """Write how the container ended, and then the pod."""
        self._ended = True
        if self._deadline is not None:
            self._deadline.cancel()
        if self.log is not None:
            self.log.close()
        succeeded = exit_code == 0 and not self._pod_reason and not self._container_reason
        unready = _COMPLETED if succeeded else _FAILED
        terminated = {
            "exitCode": exit_code,
            "reason": self._container_reason or ("Completed" if exit_code == 0 else "Error"),
            "startedAt": self._started_at or _NEVER,
            "finishedAt": now(),
            "containerID": f"localkube://{self.uid}",
        }
        if self._message and not self._pod_reason:
            terminated["message"] = self._message
        statuses = self._container_status({"terminated": terminated})

        def end_container(status: Json) -> None:
            status["containerStatuses"] = statuses
            _set_address(status)
            _set_conditions(status, unready, network=True)

        await asyncio.sleep(_LAG)
        if not (self._gone or self._pod_reason or "deletionTimestamp" in self.pod["metadata"]):
            self._update(end_container)
            await asyncio.sleep(_LAG)
        if self._gone:
            self._removed(self)
        else:
            self._finish("Succeeded" if succeeded else "Failed", statuses, unready)

    def _finish(self, phase: str, statuses: list[Json] | None, unready: dict[str, str]) -> None:
        """Write the final status; a pod that is being deleted goes with it."""
        self.finished = True

        def edit(status: Json) -> None:
            status["phase"] = phase
            if statuses is not None:
                status["containerStatuses"] = statuses
            if self._pod_reason:
                status |= {"reason": self._pod_reason, "message": self._message}
            _set_conditions(status, unready, network=False)

        self._update(edit)
        if "deletionTimestamp" in self.pod["metadata"]:
            self._remove()

    def _remove(self) -> None:
        self._forget()
        self._removed(self)

    def _forget(self) -> None:
        """Take the pod out of the store."""

        def edit(pod: Json) -> None:
            pod["metadata"]["deletionGracePeriodSeconds"] = 0

        self._gone = True
        if self._deadline is not None:
            self._deadline.cancel()
        self._store.update("pods", self._namespace, self._name, edit)
        self._store.delete("pods", self._namespace, self._name)

    def _deadline_passed(self) -> None:
        self._pod_reason, self._message = "DeadlineExceeded", _DEADLINE
        network = self._process is not None
        self._update(lambda status: _set_conditions(status, _FAILED, network=network))
        self._recorder.normal(self.pod, "DeadlineExceeded", _DEADLINE)
        self.stop(self._grace)

    def fail_if_asked(self) -> None:
        """End a running pod whose annotation says how it is to fail."""
        failure = self.pod["metadata"].get("annotations", {}).get(FAIL_WITH)
        if failure is None or self._process is None or self._ended:
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
            if self._pod_reason:
                self._finish("Failed", None, _FAILED)
            else:
                unknown = self._container_status({"terminated": _UNKNOWN})
                self._finish("Failed", unknown, self._unready())
            return
        if not self._killing:
            message = f"Stopping container {self._container['name']}"
            self._recorder.normal(self.pod, "Killing", message)
        self._killing = True
        if grace > 0:
            self._process.terminate()
            asyncio.get_running_loop().call_later(grace, self._process.kill)
        else:
            self._process.kill()

    def delete(self, grace: float) -> None:
        """Remove the pod, once it has ended if it still runs; without a grace period, at once."""
        if self.finished:
            self._remove()
        elif grace > 0 or self._process is None:
            self.stop(grace)
        else:
            self.stop(grace)
            self._forget()


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
