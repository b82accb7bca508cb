"""Runs the Jobs that bootstrap renders, as Kubernetes would: attempts until one ends well."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from checkouts import Checkouts
from datasurface_host import PYTHON, python_path
from deployment_files import Manifest, pods_of
from kubernetes import client, config
from merge_command import TESTS
from pod_runs import NAMESPACE
from yellow_models import IMAGE, login_secret

from one_machine import LocalKube, NotYetError, Postgres, wait_until

ENDED = ("Succeeded", "Failed")


@dataclass
class JobEnd:
    """How a Job ended: its condition, and what the containers of each attempt printed."""

    condition: str
    attempts: list[list[str]]

    @property
    def text(self) -> str:
        return "\n".join(text for attempt in self.attempts for text in attempt)


class JobCluster:
    """A Kubernetes API whose one image has the programs of the environment with DataSurface."""

    def __init__(self, folder: Path, postgres: Postgres) -> None:
        volume = LocalKube(folder / "kube", {}, {}).volume_dir(NAMESPACE, "test-git-model-cache")
        self.checkouts = Checkouts(folder / "git", volume)
        self._volume = volume
        self.kube = LocalKube(
            folder / "kube",
            {IMAGE: PYTHON.parent},
            {
                "PGHOSTADDR": postgres.address,
                "PYTHONPATH": python_path(str(TESTS)),
                **self.checkouts.environment,
            },
        )
        self._postgres = postgres
        self._numbers = itertools.count(1)

    def start(self) -> None:
        """Start the cluster, with the secrets of the tests' models."""
        self.kube.start()
        self.core = client.CoreV1Api(config.new_client_from_config(str(self.kube.kubeconfig)))
        login = (self._postgres.user, self._postgres.password)
        self.kube.create_secret(NAMESPACE, "postgres", login_secret("postgres", *login))
        wrong = login_secret("wrong-login", self._postgres.user, "not the password")
        self.kube.create_secret(NAMESPACE, "wrong-login", wrong)
        self.kube.create_secret(NAMESPACE, "git", {"token": "none"})

    def check_in(self, model: Path) -> None:
        """Make the model in a folder the live one, of which nobody has a copy yet."""
        for entry in self._volume.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        self.checkouts.check_in(model)

    def run(self, job: Manifest, once_it_runs: Callable[[str, int], Any] | None = None) -> JobEnd:
        """Run a Job to its end.

        Args:
            job: its manifest.
            once_it_runs: called with the name of each pod that runs, and the attempt's number.
        """
        attempts: list[list[str]] = []
        for attempt in range(1, job["spec"]["backoffLimit"] + 2):
            texts, succeeded = [], True
            for pod in pods_of(job):
                pod["metadata"]["name"] += f"-{next(self._numbers)}"
                name = self._start(pod)
                if once_it_runs is not None:
                    wait_until(partial(self._phase, name, "Running", *ENDED), seconds=30)
                    once_it_runs(name, attempt)
                phase, text = self._end(name)
                texts.append(text)
                if phase != "Succeeded":
                    succeeded = False
                    break
            attempts.append(texts)
            if succeeded:
                return JobEnd("Complete", attempts)
        return JobEnd("Failed", attempts)

    def _start(self, pod: Manifest) -> str:
        self.core.create_namespaced_pod(NAMESPACE, pod)
        return str(pod["metadata"]["name"])

    def _end(self, name: str) -> tuple[str, str]:
        phase: str = wait_until(partial(self._phase, name, *ENDED), seconds=120)
        log = self.core.read_namespaced_pod_log(name, NAMESPACE, _preload_content=False)
        return phase, log.data.decode("utf-8", "replace")

    def _phase(self, name: str, *wanted: str) -> str:
        phase = str(self.core.read_namespaced_pod(name, NAMESPACE).status.phase)
        if phase not in wanted:
            raise NotYetError(f"The pod {name} is in phase {phase}.")
        return phase

    def kill(self, name: str) -> None:
        """Kill the container of a pod, as a node does that runs out of memory."""
        mark = {"metadata": {"annotations": {"localkube/fail-with": "OOMKilled"}}}
        self.core.patch_namespaced_pod(name, NAMESPACE, mark)
