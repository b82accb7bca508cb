"""What brings a platform onto a cluster: files for Kubernetes and for Airflow.

The factory file is apart, in contract.py: it is all that Airflow needs to build the DAGs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from yellow_dynamic.contract import BATCH_TABLES, command_options, secret_keys
from yellow_dynamic.factory.constants import PULL_ALWAYS
from yellow_dynamic.factory.rules import (
    MADE_BY_BOOTSTRAP,
    ON_FAILURE,
    factory_file_name,
    number_suffix,
)
from yellow_dynamic.factory.secrets import escape_dollar, get_model_claim, get_model_folder
from yellow_dynamic.history import HISTORY, derive_name
from yellow_dynamic.population import ALLOWED_REMOVALS
from yellow_dynamic.rendering import FROM_PACKAGE, render, render_infrastructure

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
    """What the two commands are run for: a platform, or a services provider with its platforms.

    Attributes:
        kind: which of them, in words.
        name: its name in the model.
        airflow_name: its name as Kubernetes and Airflow carry it.
        file_start: how the names of its files begin.
        views_option: the option of the reconciliation of views that names it.
        variable: the environment variable that tells a Job the name.
        replaced: the ends of further files of DataSurface, which define nothing now.
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
        """How the id of its infrastructure DAG begins."""
        return f"{self.airflow_name}-dynamic" if self.beside_own else self.airflow_name

    @property
    def infrastructure_file(self) -> str:
        start = f"{self.file_start}_dynamic" if self.beside_own else self.file_start
        return f"{start}{INFRASTRUCTURE_FILE}"


def of_platform(settings: dict[str, Any], unit: Unit, airflow: str) -> dict[str, str]:
    """Return the text of each file that Airflow, or the database, needs for one platform.

    Args:
        settings: those that its factory file carries.
        unit: what it belongs to.
        airflow: the name of its Airflow, as Kubernetes has it.
    """
    names = platform_values(settings, airflow)
    start = settings["platform_name"]
    return {
        f"{start}{name}": render(f"{name[1:]}.j2", names)
        for name in (*PLATFORM_FILES, *unit.replaced)
    }


def of_unit(platforms: list[dict[str, Any]], unit: Unit, schedule: str | None) -> dict[str, str]:
    """Return the text of each Job, and of the infrastructure DAG.

    Args:
        platforms: the settings of each of its platforms, as their factory files carry them.
        unit: what they belong to.
        schedule: that of the infrastructure DAG, or None.
    """
    names = unit_values(platforms, unit, schedule)
    files = {f"{unit.file_start}{name}": render(f"{name[1:]}.j2", names) for name in UNIT_FILES}
    infrastructure = render_infrastructure(infrastructure_settings(platforms, names), names)
    return {**files, unit.infrastructure_file: infrastructure}


def platform_values(settings: dict[str, Any], airflow: str) -> dict[str, Any]:
    """Return what the templates of a platform say of it; see `of_platform`."""
    return {
        "platform": settings["original_platform_name"],
        "platform_start": settings["platform_name"],
        "namespace": settings["namespace_name"],
        "airflow": airflow,
        "credential": settings["postgres_credential_name"],
        "secret": settings["postgres_credential_secret_name"],
        "database": settings["postgres_database"],
        "table": settings["config_table"],
        "read_too": [
            derive_name(settings["config_table"], HISTORY),
            *(settings[name] for name in sorted(BATCH_TABLES)),
        ],
        "made_by_bootstrap": MADE_BY_BOOTSTRAP,
        "snapshot_folder": SNAPSHOT_FOLDER,
        "factory_file": factory_file_name(settings["platform_name"]),
    }


def unit_values(
    platforms: list[dict[str, Any]], unit: Unit, schedule: str | None
) -> dict[str, Any]:
    """Return what the templates of Jobs and infrastructure DAG say; see `of_unit`."""
    # What it takes of them, they have in common.
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
            for part, key in secret_keys(role, settings).items()
        ],
    }


def infrastructure_settings(
    platforms: list[dict[str, Any]], values: dict[str, Any]
) -> dict[str, Any]:
    """Return the literal of the infrastructure DAG's file.

    Args:
        platforms: the settings of each platform.
        values: see `unit_values`.
    """
    unit = values["unit"]
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
        "plugin_version": platforms[0]["plugin_version"],
        "schedule": values["schedule"],
        "secrets": {name: (secret, key) for name, secret, key in values["job_secrets"]},
    }


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

    views = ["python", "-m", "datasurface.platforms.yellow.reconcile_workspace_views"]
    return {
        "ring_0": command("ring-0", "generatePlatformBootstrap", "--ringLevel", "0"),
        "ring_1": command("ring-1", "generatePlatformBootstrap", "--ringLevel", "1"),
        "merge_model": command("merge", "handleModelMerge"),
        "reconcile_views": [*views, unit.views_option, unit.name, *model],
    }
