"""The settings that generated DAG files carry, and how they become Python text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from datasurface.md import (
    CronTrigger,
    Datastore,
    DataTransformerOutput,
    Ecosystem,
    ExternallyTriggered,
    KafkaIngestion,
    SQLSnapshotIngestion,
    StepTrigger,
    ValidationTree,
)
from datasurface.md.credential import Credential
from datasurface.md.governance import IngestionConsistencyType, IngestionMetadata
from datasurface.md.lint import ObjectNotSupportedByDataPlatform
from datasurface.md.repo import GitHubRepository
from datasurface.platforms.yellow.naming import (
    ingestionDagId,
    isLegalDagId,
    requireK8sName,
    splitRepositoryName,
)
from datasurface.platforms.yellow.platform_base import YellowPlatformBase

#: How often a stream runs whose store has no trigger.
DEFAULT_SCHEDULE: Final = "@hourly"

Settings = dict[str, Any]

_TEMPLATES: Final = Environment(
    loader=PackageLoader("datasurface.platforms.yellow.templates", "jinja"),
    undefined=StrictUndefined,
    # The templates make Python, where HTML escapes would be wrong.
    autoescape=False,
    keep_trailing_newline=True,
)


def render_dag_file(template: str, settings: Mapping[str, Any]) -> str:
    """Return a DAG file: one of the templates, with the settings as its one literal."""
    return _TEMPLATES.get_template(template).render(settings_literal=pythonLiteral(settings))


def pythonLiteral(settings: Mapping[str, Any]) -> str:
    """Return a dictionary as Python source, one key a line, sorted.

    The text is a literal and nothing else, whatever the values hold: it can be placed in a
    generated module. `ast.literal_eval` gives the dictionary back.

    Args:
        settings: Texts, numbers, booleans, None, and lists or dictionaries of these.

    Raises:
        TypeError: A value is of another type and so has no literal.
    """
    for key, value in settings.items():
        if not _isPlain(value):
            raise TypeError(f"The setting {key!r} cannot be written as a literal: {value!r}.")
    lines = [f"    {key!a}: {settings[key]!a}," for key in sorted(settings)]
    return "\n".join(["{", *lines, "}"])


def platformSettings(eco: Ecosystem, dp: YellowPlatformBase) -> Settings:
    """Return the settings that all DAGs of a platform share.

    Names of Secrets are in it, never a secret.

    Raises:
        ValueError: The model's repository is not a GitHub one called `owner/name`, or a name has
            nothing that Kubernetes could keep.
    """
    psp = dp.psp
    host = psp.mergeStore.hostPortPair
    settings: Settings = {
        "datasurface_docker_image": psp.datasurfaceDockerImage,
        "ecosystem_k8s_name": requireK8sName("ecosystem", eco.name),
        "namespace_name": psp.namespace,
        "original_platform_name": dp.name,
        "platform_name": requireK8sName("platform", dp.name),
        "postgres_database": psp.mergeStore.databaseName,
        "postgres_hostname": host.hostName,
        "postgres_port": host.port,
    }
    settings.update(_repositorySettings(eco))
    settings.update(_credentialSettings("postgres", psp.postgresCredential))
    settings.update(_credentialSettings("git", psp.gitCredential))
    settings["git_cache_enabled"] = psp.git_cache_enabled
    if psp.git_cache_enabled:
        settings["git_cache_access_mode"] = psp.git_cache_access_mode
        settings["git_cache_max_age_minutes"] = psp.git_cache_max_age_minutes
        settings["git_cache_storage_class"] = psp.git_cache_storage_class
        settings["git_cache_storage_size"] = psp.git_cache_storage_size
    return settings


def streamSettings(
    eco: Ecosystem, dp: YellowPlatformBase, storeNames: Iterable[str], tree: ValidationTree
) -> list[Settings]:
    """Return the settings of each ingestion stream, in the order of the stores' names.

    A multi-dataset store is one stream, a single-dataset store one stream per dataset. The
    output store of a data transformer has no ingestion stream.

    Args:
        eco: The ecosystem, with its caches filled.
        dp: The platform that ingests.
        storeNames: The datastores to ingest.
        tree: Takes a problem for each thing that cannot become a stream, by its name.

    Returns:
        The streams without a problem; empty when the settings they share have one.
    """
    try:
        shared = platformSettings(eco, dp)
    except ValueError as e:
        tree.addProblem(str(e))
        return []
    streams: list[Settings] = []
    for storeName in sorted(storeNames):
        store = eco.cache_getDatastoreOrThrow(storeName).datastore
        streams.extend(_storeStreams(shared, dp, store, tree.addSubTree(store)))
    _lintStreamKeys(streams, dp, tree)
    return streams


def _storeStreams(
    shared: Settings, dp: YellowPlatformBase, store: Datastore, tree: ValidationTree
) -> list[Settings]:
    cmd = store.cmd
    if isinstance(cmd, DataTransformerOutput):
        return []
    if not isinstance(cmd, SQLSnapshotIngestion | KafkaIngestion):
        supported = [SQLSnapshotIngestion, KafkaIngestion]
        tree.addRaw(ObjectNotSupportedByDataPlatform(f"{cmd} of {store}", supported))
        return []
    try:
        common = {
            **shared,
            **_ingestionSettings(dp, cmd),
            "schedule_string": _schedule(store, cmd.stepTrigger),
            "store_name": store.name,
        }
    except ValueError as e:
        tree.addProblem(str(e))
        return []
    datasets = list(store.datasets)
    if cmd.singleOrMultiDatasetIngestion == IngestionConsistencyType.SINGLE_DATASET:
        return [_singleDatasetStream(common, store.name, dataset) for dataset in datasets]
    return [{**common, "datasets": datasets, "single_dataset": False, "stream_key": store.name}]


def _singleDatasetStream(common: Settings, storeName: str, dataset: str) -> Settings:
    return {
        **common,
        "dataset_name": dataset,
        "datasets": [dataset],
        "single_dataset": True,
        "stream_key": f"{storeName}_{dataset}",
    }


def _ingestionSettings(dp: YellowPlatformBase, cmd: IngestionMetadata) -> Settings:
    if isinstance(cmd, KafkaIngestion):
        connect = _credentialSettings("kafka_connect", dp.psp.connectCredentials)
        return {"ingestion_type": "kafka", **connect}
    if cmd.credential is None:
        return {"ingestion_type": "sql_snapshot"}
    return {"ingestion_type": "sql_snapshot", **_credentialSettings("source", cmd.credential)}


def _schedule(store: Datastore, trigger: StepTrigger | None) -> str | None:
    if trigger is None:
        return DEFAULT_SCHEDULE
    if isinstance(trigger, CronTrigger):
        return trigger.cron
    if isinstance(trigger, ExternallyTriggered):
        return None
    raise ValueError(
        f"The trigger {trigger.name!r} of datastore {store.name!r} is a "
        f"{type(trigger).__name__}; the Yellow platform runs a CronTrigger or an "
        "ExternallyTriggered."
    )


def _repositorySettings(eco: Ecosystem) -> Settings:
    repository = eco.liveRepo or eco.owningRepo
    if not isinstance(repository, GitHubRepository):
        raise ValueError(
            f"The repository of ecosystem {eco.name!r} is a {type(repository).__name__}; "
            "the Yellow platform reads its model from a GitHubRepository."
        )
    owner, name = splitRepositoryName(repository.repositoryName)
    return {
        "git_repo_branch": repository.branchName,
        "git_repo_url": f"https://github.com/{owner}/{name}",
    }


def _credentialSettings(use: str, credential: Credential) -> Settings:
    """Name a credential's Secret, and the credential too where its own name is another."""
    secret = requireK8sName("credential", credential.name)
    settings = {f"{use}_credential_secret_name": secret}
    if secret != credential.name:
        settings[f"{use}_credential_name"] = credential.name
    return settings


def _lintStreamKeys(streams: list[Settings], dp: YellowPlatformBase, tree: ValidationTree) -> None:
    owners: dict[str, str] = {}
    for stream in streams:
        key, store = stream["stream_key"], stream["store_name"]
        if not isLegalDagId(ingestionDagId(dp.name, key)):
            tree.addProblem(
                f"The stream {key!r} of datastore {store!r} would have an Airflow DAG called "
                f"{ingestionDagId(dp.name, key)!r}; Airflow takes up to 250 letters, digits, "
                "hyphens, dots and underscores. Rename the datastore or the dataset."
            )
        if key in owners:
            tree.addProblem(
                f"The datastores {owners[key]!r} and {store!r} would both have a stream called "
                f"{key!r}; rename one of them or its dataset."
            )
        owners[key] = store


def _isPlain(value: Any) -> bool:
    if isinstance(value, list):
        return all(_isPlain(item) for item in value)
    if isinstance(value, dict):
        return all(_isPlain(part) for item in value.items() for part in item)
    return value is None or type(value) in (str, int, bool)
