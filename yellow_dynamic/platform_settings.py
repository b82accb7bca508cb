"""A platform's settings: what all its streams share, and what its factory file needs besides."""

from __future__ import annotations

import re
from typing import Any

from datasurface.md import Credential, Ecosystem
from datasurface.md.repo import GitHubRepository
from datasurface.platforms.yellow.yellow_dp import JobUtilities
from yellow_dynamic import __version__
from yellow_dynamic.datasurface_adapter import DATASURFACE, DynamicPlatform
from yellow_dynamic.factory.rules import CREDENTIAL_NAMES, add_credential_names
from yellow_dynamic.rendering import FROM_PACKAGE
from yellow_dynamic.validation import find_shared_secrets, list_credentials, validate_values


def platform_settings(dp: DynamicPlatform, eco: Ecosystem) -> dict[str, Any]:
    """Return the settings that the factory file contains: the streams' common ones and its own.

    Raises:
        ValueError: as for `common_config`.
    """
    jobs = job_utilities(dp, eco)
    settings = {
        **add_credential_names(common_config(dp, eco)),
        "config_table": dp.getPhysDAGTableName(),
        "batch_counter_table": jobs.getPhysBatchCounterTableName(),
        "batch_metrics_table": jobs.getPhysBatchMetricsTableName(),
        "ecosystem_k8s_name": DATASURFACE.k8s_name(eco.name),
        "factory_shards": dp.factoryShards,
        "plugin_version": __version__,
        **DATASURFACE.factory_settings(dp.psp),
    }
    if dp.slackChannel is not None:
        settings["slack_channel_name"] = dp.slackChannel
    if dp.pausedAtCreation is not None:
        settings["paused_at_creation"] = dp.pausedAtCreation
    if dp.assets:
        settings["assets"] = True
    if dp.factoryFromPackage:
        settings[FROM_PACKAGE] = True
    return settings | (dp.onFailure.settings if dp.onFailure else {})


def deployable_settings(dp: DynamicPlatform, eco: Ecosystem) -> dict[str, Any]:
    """Return the platform's settings if Kubernetes accepts its names.

    Raises:
        ValueError: Kubernetes would refuse a name, two credentials would share a Secret, or as
            for `platform_settings`.
    """
    settings = platform_settings(dp, eco)
    named = {
        key: value
        for key, value in settings.items()
        if key == "namespace_name" or key in {*CREDENTIAL_NAMES, *CREDENTIAL_NAMES.values()}
    }
    for problem in [*validate_values(named), *find_shared_secrets(list_credentials(settings))]:
        raise ValueError(f"Platform {dp.name!a:.300} cannot be put on a cluster: {problem}.")
    return settings


def secrets_settings(dp: DynamicPlatform) -> dict[str, Any]:
    """Return the settings that the page on Secrets needs; they need no repository."""
    return {**platform_names(dp), **add_credential_names(cluster_config(dp))}


def common_config(dp: DynamicPlatform, eco: Ecosystem) -> dict[str, Any]:
    """Return what all streams of a platform share.

    Raises:
        ValueError: the model's repository is not a GitHub repository of form owner/name.
    """
    repository, psp = model_repository(dp, eco), dp.psp
    config = {
        **platform_names(dp),
        "postgres_hostname": psp.mergeStore.hostPortPair.hostName,
        "postgres_database": psp.mergeStore.databaseName,
        "postgres_port": psp.mergeStore.hostPortPair.port,
        "datasurface_docker_image": psp.datasurfaceDockerImage,
        "git_repo_url": f"https://github.com/{repository.repositoryName}",
        "git_repo_branch": repository.branchName,
        **cluster_config(dp),
    }
    # A setting that the services provider leaves open has no key.
    return {key: value for key, value in config.items() if value is not None}


def platform_names(dp: DynamicPlatform) -> dict[str, Any]:
    """Return where the platform runs, and its name in Kubernetes and in the model."""
    return {
        "namespace_name": DATASURFACE.namespace(dp.psp),
        "platform_name": DATASURFACE.k8s_name(dp.name),
        "original_platform_name": dp.name,
    }


def cluster_config(dp: DynamicPlatform) -> dict[str, Any]:
    """Return the platform's credentials, and the settings of jobs that some releases have."""
    config = {
        **credential_config("postgres", DATASURFACE.merge_credential(dp.psp)),
        **credential_config("git", dp.psp.gitCredential),
        **DATASURFACE.job_settings(dp.psp),
    }
    if dp.slackCredential is not None:
        config |= credential_config("slack", dp.slackCredential)
    return config


def model_repository(dp: DynamicPlatform, eco: Ecosystem) -> GitHubRepository:
    """Return the repository from which jobs clone the model.

    Raises:
        ValueError: it is not a GitHub repository of form owner/name.
    """
    # DataSurface 0.0.38 has the repository of the live model apart from the owning one.
    repository = getattr(eco, "liveRepo", None) or eco.owningRepo
    if isinstance(repository, GitHubRepository) and re.fullmatch(
        r"[\w.-]+/[\w.-]+", repository.repositoryName
    ):
        return repository
    name = getattr(repository, "repositoryName", repository)
    raise ValueError(
        f"The repository of ecosystem {eco.name!r} is {name!r}; platform {dp.name!r} needs a "
        "GitHubRepository with a name of the form owner/repository."
    )


def credential_config(role: str, credential: Credential) -> dict[str, Any]:
    """Return the name of the credential's Kubernetes Secret, and its own name if it differs.

    The job reads the environment variable that has the credential's own name. Kubernetes does not
    accept that name for the Secret if it has capitals or underscores.
    """
    secret = DATASURFACE.k8s_name(credential.name)
    config = {f"{role}_credential_secret_name": secret}
    if credential.name != secret:
        config[f"{role}_credential_name"] = credential.name
    return config


def job_utilities(dp: Any, eco: Ecosystem) -> JobUtilities:
    """Return what DataSurface's jobs know of the platform's tables."""
    return JobUtilities(eco, dp.getCredentialStore(), dp)
