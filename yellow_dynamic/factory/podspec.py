"""What a stream's pod is given."""

from __future__ import annotations

import functools
import inspect
import json
import re
from datetime import timedelta
from typing import Any, NamedTuple

from kubernetes.client import Configuration
from kubernetes.client import models as k8s

from yellow_dynamic.factory.constants import MODEL_VOLUME, WORKING_VOLUME
from yellow_dynamic.factory.pod import LOST_NODE_SECONDS, START_SECONDS
from yellow_dynamic.factory.rules import (
    CREDENTIAL_NAMES,
    TRANSFORMER,
    TRANSFORMER_END,
)
from yellow_dynamic.factory.secrets import (
    escape_dollar,
    get_model_claim,
    get_model_folder,
    role_secret_keys,
)

# Where the transformer's job puts the code that it runs.
WORKING_FOLDER = "/workspace/datatransformer"
# 63 is Kubernetes' limit for a pod's host name; a dash and 8 characters of the DAG follow.
POD_NAME_CHARACTERS = 54
# Each Kubernetes model object builds a Configuration unless it is given one, which costs more
# than all the rest of a DAG. From release 37 of the client on, they know of none.
SHARED: dict[str, Any] = (
    {"local_vars_configuration": Configuration()}
    if "local_vars_configuration" in inspect.signature(k8s.V1EnvVar.__init__).parameters
    else {}
)


class Job(NamedTuple):
    """What the pods of a type of job have in common: the Python module that they run, and more."""

    module: str
    resources: k8s.V1ResourceRequirements


# By the name of the task that runs it; the figures are DataSurface's own.
JOBS = {
    "snapshot_merge_job": Job(
        "datasurface.platforms.yellow.jobs",
        k8s.V1ResourceRequirements(requests={"memory": "256Mi", "cpu": "100m"}, **SHARED),
    ),
    "datatransformer_job": Job(
        "datasurface.platforms.yellow.transformerjob",
        k8s.V1ResourceRequirements(
            requests={"memory": "512Mi", "cpu": "200m"},
            limits={"memory": "2Gi", "cpu": "1000m"},
            **SHARED,
        ),
    ),
}
# The attribute of the job's task that a key sets; the other keys set more than one attribute.
ATTRIBUTES = {
    "retries": "retries",
    "timeout_seconds": "active_deadline_seconds",
    "start_timeout_seconds": "startup_timeout_seconds",
    "pool": "pool",
    "pool_slots": "pool_slots",
    "priority_weight": "priority_weight",
    "queue": "queue",
    "pod_template": "pod_template_dict",
    "deferrable": "deferrable",
}


class PodSpecs:
    """Makes what the pods of one platform are given; pods with the same settings share objects."""

    def __init__(self) -> None:
        self.environment = functools.cache(make_environment)
        self.volumes = functools.cache(make_volumes)
        self.resources = functools.cache(make_resources)

    def attributes(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Return the attributes of the task that runs a stream's job.

        Args:
            settings: the platform's and the row's, checked.
        """
        transforms = settings["ingestion_type"] == TRANSFORMER
        volumes, mounts = self.volumes(
            get_model_claim(settings), get_model_folder(settings), transforms
        )
        attributes = {
            "name": pod_name(settings),
            "namespace": settings["namespace_name"],
            "image": settings["datasurface_docker_image"],
            "arguments": job_arguments(settings),
            "env_vars": self.environment(*pod_variables(settings)),
            "volumes": volumes,
            "volume_mounts": mounts,
        }
        if "image_pull_policy" in settings:
            attributes["image_pull_policy"] = settings["image_pull_policy"]
        return attributes

    def run_attributes(self, given: dict[str, Any], start_timeout: int) -> dict[str, Any]:
        """Return the attributes that RunSettings of the model set.

        Args:
            given: the keys of the row that come from RunSettings.
            start_timeout: how long the pod may take until it runs, unless they say so, in seconds.
        """
        attributes = {ATTRIBUTES[key]: given[key] for key in ATTRIBUTES if key in given}
        attributes["run_settings"] = given
        if "retry_delay_seconds" in given:
            attributes["retry_delay"] = to_timedelta(given["retry_delay_seconds"])
        if "start_timeout_seconds" in given:
            # The triggerer counts from the moment when the pod has a node, and before that apart.
            attributes["schedule_timeout_seconds"] = given["start_timeout_seconds"]
        if "timeout_seconds" in given:
            # Kubernetes ends the pod. Where it does not, as its node is lost, the task ends all
            # the same, after all that it may have waited for before.
            before = START_SECONDS + attributes.get("startup_timeout_seconds", start_timeout)
            timeout = before + given["timeout_seconds"] + LOST_NODE_SECONDS
            attributes["execution_timeout"] = to_timedelta(timeout)
        if "resources" in given:
            attributes["container_resources"] = self.resources(json.dumps(given["resources"]))
        if policy := template_pull_policy(given.get("pod_template", {})):
            attributes["image_pull_policy"] = policy
        return attributes


def job_task_id(stream_key: str) -> str:
    """Return the id of the task that runs a stream's job."""
    return "datatransformer_job" if stream_key.endswith(TRANSFORMER_END) else "snapshot_merge_job"


def pod_name(settings: dict[str, Any]) -> str:
    """Return how the names of a stream's pods begin."""
    name = f"{settings['platform_name']}-{settings['stream_key']}".lower()
    name = re.sub(r"[^a-z0-9]+", "-", name)[: POD_NAME_CHARACTERS - len("-job")].strip("-")
    return f"{name}-job"


def job_arguments(settings: dict[str, Any]) -> list[str]:
    """Return the arguments of a stream's job."""
    if settings["ingestion_type"] == TRANSFORMER:
        work = [
            "--workspace-name", settings["workspace_name"],
            "--operation", "run-datatransformer",
            "--working-folder", WORKING_FOLDER,
        ]  # fmt: skip
    else:
        work = ["--store-name", settings["store_name"], "--operation", "snapshot-merge"]
    arguments = [
        "--platform-name", settings["original_platform_name"],
        *work,
        "--git-repo-path", get_model_folder(settings),
        "--git-repo-owner", settings["git_repo_owner"],
        "--git-repo-name", settings["git_repo_repo_name"],
        "--git-repo-branch", settings["git_repo_branch"],
        "--git-platform-repo-credential-name", settings["git_credential_name"],
    ]  # fmt: skip
    if settings.get("git_cache_enabled"):
        age = str(settings["git_cache_max_age_minutes"])
        arguments += ["--use-git-cache", "--max-cache-age-minutes", age]
    if settings["single_dataset"]:
        arguments += ["--dataset-name", settings["dataset_name"]]
    return [escape_dollar(argument) for argument in arguments]


# Variables by name: their values; for those of a secret, its name and the key in it.
Plain = tuple[tuple[str, str], ...]
FromSecrets = tuple[tuple[str, tuple[str, str]], ...]


def pod_variables(settings: dict[str, Any]) -> tuple[Plain, FromSecrets]:
    """Return the environment variables of a stream's pod."""
    plain = {
        "DATASURFACE_PLATFORM_NAME": settings["original_platform_name"],
        "DATASURFACE_NAMESPACE": settings["namespace_name"],
    }
    if settings.get("slack_channel_name"):
        plain["DATASURFACE_SLACK_CHANNEL"] = settings["slack_channel_name"]
    own_role = {"kafka": "kafka_connect", TRANSFORMER: "code"}
    roles = ["postgres", "git", "slack", own_role.get(settings["ingestion_type"], "source")]
    secrets: dict[str, tuple[str, str]] = {}
    for role in roles:
        secret_key = f"{role}_credential_secret_name"
        if secret_key in settings:
            name = settings[CREDENTIAL_NAMES[secret_key]]
            # A credential that serves twice is given once, as the first that named it.
            for part, key in role_secret_keys(role, settings).items():
                secrets.setdefault(f"{name}_{part}", (settings[secret_key], key))
    return tuple(plain.items()), tuple(secrets.items())


def make_environment(plain: Plain, secrets: FromSecrets) -> list[k8s.V1EnvVar]:
    """Return the variables as Kubernetes takes them."""
    return [
        k8s.V1EnvVar(name=name, value=escape_dollar(value), **SHARED) for name, value in plain
    ] + [
        k8s.V1EnvVar(
            name=name,
            value_from=k8s.V1EnvVarSource(
                secret_key_ref=k8s.V1SecretKeySelector(name=secret, key=key, **SHARED), **SHARED
            ),
            **SHARED,
        )
        for name, (secret, key) in secrets
    ]


def make_volumes(
    model_claim: str | None, model_folder: str, transforms: bool
) -> tuple[list[Any], list[Any]]:
    """Return the volumes of a pod and where they are mounted."""
    volumes, mounts = [], []
    if model_claim:
        source = k8s.V1PersistentVolumeClaimVolumeSource(claim_name=model_claim, **SHARED)
        name = MODEL_VOLUME
        volumes.append(k8s.V1Volume(name=name, persistent_volume_claim=source, **SHARED))
        mounts.append(
            k8s.V1VolumeMount(name=name, mount_path=model_folder, read_only=False, **SHARED)
        )
    if transforms:
        name, empty = WORKING_VOLUME, k8s.V1EmptyDirVolumeSource(**SHARED)
        volumes.append(k8s.V1Volume(name=name, empty_dir=empty, **SHARED))
        mounts.append(k8s.V1VolumeMount(name=name, mount_path=WORKING_FOLDER, **SHARED))
    return volumes, mounts


def make_resources(resources: str) -> k8s.V1ResourceRequirements:
    """Return the resources that a row has as JSON."""
    return k8s.V1ResourceRequirements(**json.loads(resources), **SHARED)


def template_pull_policy(template: dict[str, Any]) -> str | None:
    """Return the pull policy that a PodTemplateSpec has for the job's container."""
    containers = template.get("spec", {}).get("containers") or [{}]
    policy: str | None = containers[0].get("imagePullPolicy")
    return policy


def to_timedelta(seconds: int | None) -> timedelta | None:
    """Return the time of so many seconds, or None for None."""
    return None if seconds is None else timedelta(seconds=seconds)
