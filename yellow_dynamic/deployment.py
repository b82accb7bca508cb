"""What brings a platform onto a cluster: files for Kubernetes and for Airflow.

The factory file is apart, in contract.py: it is all that Airflow needs to build the DAGs.
"""

from __future__ import annotations

from typing import Any

import yaml
from sqlalchemy.dialects import postgresql

from yellow_dynamic.contract import (
    BATCH_TABLES,
    MADE_BY_BOOTSTRAP,
    MODEL_FOLDER,
    ON_FAILURE,
    UNREGISTERED,
    factory_name_of,
    literally,
    model_claim_of,
    secret_keys,
    templates,
)
from yellow_dynamic.history import HISTORY, name_beside
from yellow_dynamic.population import ALLOWED_REMOVALS

#: Where Airflow keeps the last good rows in its containers.
SNAPSHOT_FOLDER = "/var/lib/yellow-dynamic"
#: What Kubernetes allows for a Job's name, 63, less the longest end of ours.
JOB_NAME_CHARACTERS = 43

#: The files, each after the platform's name. Those with underscores are DataSurface's own names.
FILES = (
    "-airflow-values.yaml",
    "-airflow-patch.yaml",
    "-airflow-reader.sql",
    "-bootstrap-job.yaml",
    "_ring1_init_job.yaml",
    "_model_merge_job.yaml",
    "_reconcile_views_job.yaml",
    "_infrastructure_dag.py",
    "_datatransformer_factory_dag.py",
)


def rendered(settings: dict[str, Any], airflow: str, schedule: str | None) -> dict[str, str]:
    """Return the text of each file by its name; `values` says what the arguments are."""
    environment = templates(yaml=yaml_text, sql=sql_identifier, literally=literally, python=ascii)
    names = values(settings, airflow, schedule)
    start = settings["platform_name"]
    return {
        f"{start}{name}": environment.get_template(f"{name[1:]}.j2").render(names) for name in FILES
    }


def values(settings: dict[str, Any], airflow: str, schedule: str | None) -> dict[str, Any]:
    """Return what the templates say of a platform.

    Args:
        settings: those that its factory file carries.
        airflow: the name of its Airflow, as Kubernetes has it.
        schedule: that of the infrastructure DAG, or None.
    """
    postgres_secret = settings["postgres_credential_secret_name"]
    cached = settings["git_cache_enabled"]
    return {
        "platform": settings["original_platform_name"],
        "file_start": settings["platform_name"],
        "job_start": settings["platform_name"][:JOB_NAME_CHARACTERS].strip("-"),
        "namespace": settings["namespace_name"],
        "airflow": airflow,
        "credential": settings["postgres_credential_name"],
        "secret": postgres_secret,
        "database": settings["postgres_database"],
        "table": settings["config_table"],
        "read_too": [
            name_beside(settings["config_table"], HISTORY),
            *(settings[name] for name in sorted(BATCH_TABLES)),
        ],
        "allowed_removals": ALLOWED_REMOVALS,
        "tells": any(key.startswith(ON_FAILURE) for key in settings),
        "made_by_bootstrap": MADE_BY_BOOTSTRAP,
        "snapshot_folder": SNAPSHOT_FOLDER,
        "image": settings["datasurface_docker_image"],
        "model_folder": MODEL_FOLDER,
        "model_claim": model_claim_of(settings["ecosystem_k8s_name"]) if cached else None,
        "schedule": schedule,
        "unregistered": UNREGISTERED,
        "factory_file": factory_name_of(settings["platform_name"]),
        "commands": cluster_commands(settings),
        "job_environment": {
            "DATASURFACE_PLATFORM_NAME": settings["original_platform_name"],
            "DATASURFACE_NAMESPACE": settings["namespace_name"],
        },
        "job_secrets": [
            (f"{settings[f'{role}_credential_name']}_{part}", secret, key)
            for role in ("postgres", "git")
            for secret in [settings[f"{role}_credential_secret_name"]]
            for part, key in secret_keys(role).items()
        ],
    }


def cluster_commands(settings: dict[str, Any]) -> dict[str, list[str]]:
    """Return the commands that Jobs, and the infrastructure DAG, run in the cluster, by name."""
    owner, name = settings["git_repo_url"].split("/")[-2:]
    cached = settings["git_cache_enabled"]
    model = [
        "--git-repo-path", MODEL_FOLDER if cached else "/workspace/model",
        "--git-repo-owner", owner,
        "--git-repo-name", name,
        "--git-repo-branch", settings["git_repo_branch"],
        "--git-platform-repo-credential-name", settings["git_credential_name"],
        *(["--use-git-cache", "--max-cache-age-minutes", "0"] if cached else []),
    ]  # fmt: skip
    platform = settings["original_platform_name"]

    def command(work: str, *options: str) -> list[str]:
        return [
            *("python", "-m", "datasurface.cmd.platform", *options),
            *("--output", f"/workspace/{work}", "--platform", platform, *model),
        ]

    views = ["python", "-m", "datasurface.platforms.yellow.reconcile_workspace_views"]
    return {
        "ring_0": command("ring-0", "generatePlatformBootstrap", "--ringLevel", "0"),
        "ring_1": command("ring-1", "generatePlatformBootstrap", "--ringLevel", "1"),
        "merge_model": command("merge", "handleModelMerge"),
        "reconcile_views": [*views, "--platform-name", platform, *model],
    }


def yaml_text(value: str) -> str:
    """Return a text as YAML in one line, quoted, so that it can be nothing but this text."""
    return yaml.safe_dump(value, default_style='"', width=float("inf")).rstrip("\n")


def sql_identifier(name: str) -> str:
    """Return a name as a quoted identifier of PostgreSQL."""
    return postgresql.dialect().identifier_preparer.quote_identifier(name)
