"""The files that ring 0 renders for Airflow and Kubernetes, made from the platforms' settings."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from yellow_dynamic.factory.constants import PULL_ALWAYS
from yellow_dynamic.factory.rules import (
    HISTORY,
    ON_FAILURE,
    derive_name,
    factory_file_name,
    number_suffix,
)
from yellow_dynamic.factory.secrets import (
    escape_dollar,
    get_login_names,
    get_model_claim,
    get_model_folder,
    get_reader_secret,
    role_secret_keys,
)
from yellow_dynamic.population import ALLOWED_REMOVALS
from yellow_dynamic.rendering import FROM_PACKAGE, render, render_factory, render_infrastructure

log = logging.getLogger(__name__)

#: DataSurface's own image, the default of its services providers, without its tag.
DATASURFACE_IMAGE = "datasurface/datasurface"

#: The settings that name the two tables in which DataSurface's jobs keep a platform's batches.
BATCH_TABLES = ("batch_counter_table", "batch_metrics_table")

#: Building, serializing and storing this many DAGs stays within Airflow's time limits for a file.
STREAMS_PER_SHARD = 1_000
#: Where Airflow keeps the last good rows in its containers.
SNAPSHOT_FOLDER = "/var/lib/yellow-dynamic"
#: What Kubernetes allows for a Job's name, 63, less the longest end of ours.
JOB_NAME_CHARACTERS = 43

#: The files of a platform, and those of what the two commands are run for, each after the name.
#: Those with underscores are DataSurface's own names.
PLATFORM_FILES = ("-airflow-values.yaml", "-airflow-patch.yaml", "-airflow-reader.sql")
UNIT_FILES = (
    "-bootstrap-job.yaml",
    "_ring1_init_job.yaml",
    "_model_merge_job.yaml",
    "_reconcile_views_job.yaml",
)
INFRASTRUCTURE_FILE = "_infrastructure_dag.py"


@dataclass(frozen=True)
class Unit:
    """What the two commands run for: a platform, or a services provider with its platforms.

    Attributes:
        kind: "platform" or "services provider".
        name: its name in the model.
        airflow_name: its name in Kubernetes and Airflow.
        file_start: the start of the names of its files.
        views_option: the option with its name for the reconciliation of views.
        variable: the environment variable with its name for a Job.
        replaced: the ends of the names of more DataSurface files, which define nothing now.
        beside_own: whether DataSurface's own infrastructure DAG stays, for other platforms.
    """

    kind: str
    name: str
    airflow_name: str
    file_start: str
    views_option: str
    variable: str
    replaced: tuple[str, ...] = ()
    beside_own: bool = False

    @property
    def infrastructure_name(self) -> str:
        """The start of the id of its infrastructure DAG."""
        return f"{self.airflow_name}-dynamic" if self.beside_own else self.airflow_name

    @property
    def infrastructure_file(self) -> str:
        start = f"{self.file_start}_dynamic" if self.beside_own else self.file_start
        return f"{start}{INFRASTRUCTURE_FILE}"


# --- The factory files ------------------------------------------------------------------------


def render_factory_files(settings: dict[str, Any]) -> dict[str, str]:
    """Return the texts of a platform's factory files by name: the same text in each.

    A file takes its own number from its name; how many there are is in its settings.
    """
    text = render_factory(settings)
    numbers = range(1, settings["factory_shards"] + 1)
    return {
        f"{factory_file_name(settings['platform_name'], number)}.py": text for number in numbers
    }


def suitable_shards(streams: int) -> int:
    """Return how many factory files suit a number of streams."""
    return max(1, -(-streams // STREAMS_PER_SHARD))


def advise_shards(platform: str, shards: int, streams: int | None) -> None:
    """Log how many factory files suit a platform, as a warning if it has too few.

    Args:
        platform: the platform's name in the model.
        shards: its number of factory files.
        streams: its number of streams, or None if it is not known yet.
    """
    if streams is None:
        log.info(
            "No dataset group is assigned to platform %r yet, so its number of streams is not "
            "known. Choose factoryShards so that there is one factory file for each %d streams.",
            platform,
            STREAMS_PER_SHARD,
        )
        return
    suitable = suitable_shards(streams)
    log.log(
        logging.WARNING if shards < suitable else logging.INFO,
        "Platform %r has %d streams and factoryShards=%d; factoryShards=%d suits them, which is "
        "one factory file for each %d streams.",
        platform,
        streams,
        shards,
        suitable,
        STREAMS_PER_SHARD,
    )


# --- The image of the pods --------------------------------------------------------------------


def is_datasurface_image(image: str) -> bool:
    """Return whether an image is DataSurface's own, which does not have yellow_dynamic."""
    name = re.sub(r"(:[^/:@]*)?(@.*)?$", "", image)
    return re.sub(r"^((index|registry-1)\.)?docker\.io/", "", name) == DATASURFACE_IMAGE


def warn_datasurface_image(provider: str, image: str) -> None:
    """Log a warning if a services provider's image is DataSurface's own.

    Args:
        provider: the services provider's name in the model.
        image: its datasurfaceDockerImage.
    """
    if is_datasurface_image(image):
        log.warning(
            "Services provider %r runs all Jobs and pods in %r, DataSurface's own image, which "
            'does not have yellow_dynamic: each fails with "Failed to load ecosystem". Build an '
            "image with docker/datasurface.Dockerfile, and name it in the model as "
            "datasurfaceDockerImage of the services provider.",
            provider,
            image,
        )


# --- The files for a cluster ------------------------------------------------------------------


def cluster_files(
    platforms: Sequence[dict[str, Any]],
    unit: Unit,
    airflow: str,
    schedule: str | None,
    security: dict[str, Any],
) -> dict[str, str]:
    """Return what Kubernetes and Airflow need for platforms, by file name.

    For each platform: values for Airflow's Helm chart, the same as a plain patch, and the role
    that reads the table. For all of them: Jobs that run bootstrap, the merge and the
    reconciliation of views in the cluster, and a DAG that runs the latter two. Files whose names
    have underscores replace DataSurface's own, whose Jobs succeed even if their work failed.

    Args:
        platforms: the settings of each platform, as its factory file contains them.
        unit: the unit that they belong to.
        airflow: the name of their Airflow in Kubernetes.
        schedule: the schedule of the infrastructure DAG, or None.
        security: the securityContext of the pods, as far as the model has it.
    """
    files = render_unit_files(platforms, unit, schedule, security)
    for settings in platforms:
        files |= render_platform_files(settings, unit, airflow)
    return files


def render_platform_files(settings: dict[str, Any], unit: Unit, airflow: str) -> dict[str, str]:
    """Return the texts of one platform's files; see `cluster_files`."""
    names = platform_values(settings, airflow)
    start = settings["platform_name"]
    return {
        f"{start}{name}": render(f"{name[1:]}.j2", names)
        for name in (*PLATFORM_FILES, *unit.replaced)
    }


def render_unit_files(
    platforms: Sequence[dict[str, Any]],
    unit: Unit,
    schedule: str | None,
    security: dict[str, Any],
) -> dict[str, str]:
    """Return the text of each Job, and of the infrastructure DAG; see `cluster_files`."""
    names = {**unit_values(platforms, unit, schedule), "security": security}
    files = {f"{unit.file_start}{name}": render(f"{name[1:]}.j2", names) for name in UNIT_FILES}
    infrastructure = render_infrastructure(infrastructure_settings(platforms, names), names)
    return {**files, unit.infrastructure_file: infrastructure}


def platform_values(settings: dict[str, Any], airflow: str) -> dict[str, Any]:
    """Return the values of a platform's templates; see `cluster_files`."""
    return {
        "platform": settings["original_platform_name"],
        "platform_start": settings["platform_name"],
        "namespace": settings["namespace_name"],
        "airflow": airflow,
        "login_names": get_login_names(settings),
        "reader_secret": get_reader_secret(settings),
        "database": settings["postgres_database"],
        "table": settings["config_table"],
        "history": derive_name(settings["config_table"], HISTORY),
        "batch_tables": [settings[name] for name in BATCH_TABLES],
        "snapshot_folder": SNAPSHOT_FOLDER,
        "factory_file": factory_file_name(settings["platform_name"]),
    }


def unit_values(
    platforms: Sequence[dict[str, Any]], unit: Unit, schedule: str | None
) -> dict[str, Any]:
    """Return the values of the templates of Jobs and infrastructure DAG; see `cluster_files`."""
    # Only settings that all of them share are used.
    settings = platforms[0]
    factory_files = [f"{factory_file_name(each['platform_name'])}.py" for each in platforms]
    return {
        "unit": unit,
        "job_start": unit.airflow_name[:JOB_NAME_CHARACTERS].strip("-"),
        "namespace": settings["namespace_name"],
        "image": settings["datasurface_docker_image"],
        "pull_policy": settings.get("image_pull_policy", PULL_ALWAYS),
        "model_folder": get_model_folder(settings),
        "model_claim": get_model_claim(settings),
        "schedule": schedule,
        "installed": all(each.get(FROM_PACKAGE) for each in platforms),
        "factory_files": factory_files,
        "factory_containers": [
            (f"factory-file{number_suffix(number, '-')}", file)
            for number, file in enumerate(factory_files, start=1)
        ],
        "commands": cluster_commands(settings, unit),
        "job_environment": {
            unit.variable: unit.name,
            "DATASURFACE_NAMESPACE": settings["namespace_name"],
        },
        "job_secrets": [
            (f"{settings[f'{role}_credential_name']}_{part}", secret, key)
            for role in ("postgres", "git")
            for secret in [settings[f"{role}_credential_secret_name"]]
            for part, key in role_secret_keys(role, settings).items()
        ],
    }


def infrastructure_settings(
    platforms: Sequence[dict[str, Any]], values: dict[str, Any]
) -> dict[str, Any]:
    """Return the literal of the infrastructure DAG's file.

    Args:
        platforms: the settings of each platform.
        values: see `unit_values`.
    """
    unit = values["unit"]
    paused = {each.get("paused_at_creation") for each in platforms}
    environment = {
        **values["job_environment"],
        "DATASURFACE_USER": f"{unit.infrastructure_name}_infrastructure",
    }
    return {
        "allowed_removals": ALLOWED_REMOVALS,
        "commands": {
            task_id: [escape_dollar(word) for word in values["commands"][task_id]]
            for task_id in ("merge_model", "reconcile_views")
        },
        "environment": {name: escape_dollar(value) for name, value in environment.items()},
        "factory_files": values["factory_files"],
        "image": values["image"],
        "image_pull_policy": values["pull_policy"],
        "model_claim": values["model_claim"],
        "model_folder": values["model_folder"],
        "name": unit.infrastructure_name,
        "namespace": values["namespace"],
        "notifies": any(key.startswith(ON_FAILURE) for each in platforms for key in each),
        "paused_at_creation": paused.pop() if len(paused) == 1 else None,
        "plugin_version": platforms[0]["plugin_version"],
        "schedule": values["schedule"],
        "secrets": {name: (secret, key) for name, secret, key in values["job_secrets"]},
        "security": values["security"],
    }


def command_options(settings: dict[str, Any]) -> list[str]:
    """Return the option of DataSurface's two commands that names what serves a platform.

    Args:
        settings: the platform's, as its factory file has them.
    """
    provider = settings.get("services_provider")
    return ["--psp", provider] if provider else ["--platform", settings["original_platform_name"]]


def cluster_commands(settings: dict[str, Any], unit: Unit) -> dict[str, list[str]]:
    """Return the commands that Jobs, and the infrastructure DAG, run in the cluster, by name."""
    owner, name = settings["git_repo_url"].split("/")[-2:]
    cached = settings["git_cache_enabled"]
    model = [
        "--git-repo-path", get_model_folder(settings) if cached else "/workspace/model",
        "--git-repo-owner", owner,
        "--git-repo-name", name,
        "--git-repo-branch", settings["git_repo_branch"],
        "--git-platform-repo-credential-name", settings["git_credential_name"],
        *(["--use-git-cache", "--max-cache-age-minutes", "0"] if cached else []),
    ]  # fmt: skip

    def command(work: str, *options: str) -> list[str]:
        return [
            *("python", "-m", "datasurface.cmd.platform", *options),
            *("--output", f"/workspace/{work}", *command_options(settings), *model),
        ]

    views = ["python", "-m", "yellow_dynamic.reconcile_views"]
    return {
        "ring_0": command("ring-0", "generatePlatformBootstrap", "--ringLevel", "0"),
        "ring_1": command("ring-1", "generatePlatformBootstrap", "--ringLevel", "1"),
        "merge_model": command("merge", "handleModelMerge"),
        "reconcile_views": [*views, unit.views_option, unit.name, *model],
    }
