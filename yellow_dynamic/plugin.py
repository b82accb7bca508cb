"""The plugin: a Yellow platform whose ingestion DAGs are rows of a table instead of files.

The data flows one way: the ecosystem model gives stream configs, these become the rows of
`{platform}_airflow_dsg`, and the factory file in Airflow's DAG folder turns each row into a DAG.
This module is the first half, up to the rows; `templates/yellow_platform_factory_dag.py.j2` is the
second.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from itertools import islice
from typing import Any

import sqlalchemy
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from sqlalchemy import TIMESTAMP, Column, MetaData, String, Table, Text
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

try:
    from datasurface.md import (
        Credential,
        CredentialStore,
        CronTrigger,
        Datastore,
        DataTransformerOutput,
        Ecosystem,
        EcosystemPipelineGraph,
        ExternallyTriggered,
        IngestionConsistencyType,
        KafkaIngestion,
        PlatformPipelineGraph,
        SQLSnapshotIngestion,
        ValidationTree,
    )
    from datasurface.md.credential import CredentialType
    from datasurface.md.lint import ObjectWrongType, ProblemSeverity
    from datasurface.md.repo import GitHubRepository
    from datasurface.platforms.yellow import YellowDataPlatform
    from datasurface.platforms.yellow.yellow_dp import YellowGraphHandler
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "datasurface":
        raise
    raise ImportError(
        "yellow_dynamic is a plugin of DataSurface, and the package 'datasurface' with the Yellow "
        f"platform is not installed here ({error}). Install DataSurface 0.0.35 to 0.0.38 as your "
        "vendor ships it; its container image has it. To try yellow_dynamic on one machine "
        "without it, install the stand-in from its source: pip install ./embedded"
    ) from None

__version__ = "0.1.0"


def installed_release() -> str:
    """Return the release of the DataSurface installed here, as far as it says."""
    try:
        return metadata.version("datasurface")
    except metadata.PackageNotFoundError:
        return "of an unknown release"


# The late 0.0.38 has both: bootstrap on the platform, and factories inside the infrastructure DAG.
if not hasattr(YellowDataPlatform, "generateBootstrapArtifacts") or hasattr(
    YellowDataPlatform, "getFactoryDAGTable"
):
    raise ImportError(
        f"yellow_dynamic {__version__} supports DataSurface 0.0.35 to 0.0.38 (up to 29 July 2025). "
        f"The DataSurface installed here, {installed_release()}, is a later one: its services "
        "provider bootstraps and its infrastructure DAG builds the ingestion DAGs itself, which "
        "would define each of them twice. Keep YellowDataPlatform in the model there; "
        "docs/compatibility.md of yellow_dynamic says more."
    )

log = logging.getLogger(__name__)

#: What the factory file accepts; a stream beyond these limits is a problem of the model.
AIRFLOW_ID_CHARACTERS = 250
STREAM_KEY_CHARACTERS = 255
CONFIG_CHARACTERS = 1_000_000
VALUE_CHARACTERS = 1024
AIRFLOW_ID = re.compile(r"[\w.-]+")
KUBERNETES_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
ENVIRONMENT_NAME = re.compile(r"[-._A-Za-z][-._A-Za-z0-9]*")

#: Building, serializing and storing so many DAGs stays within Airflow's time limits for a file.
STREAMS_PER_SHARD = 1_000
MOST_SHARDS = 1_000

CONNECT_TIMEOUT_SECONDS = 10
LOCK_TIMEOUT_SECONDS = 60
#: After how long without a sign of life from a merge the database gives its lock away.
LOST_CLIENT_SECONDS = 60

#: Where Jobs keep copies of the model, and Airflow the last good rows, in their containers.
MODEL_FOLDER = "/cache/git-models"
SNAPSHOT_FOLDER = "/var/lib/yellow-dynamic"
#: What Kubernetes allows for a Job's name, 63, less the longest end of ours.
JOB_NAME_CHARACTERS = 50

#: What the text format of COPY gives a meaning of its own.
COPY_ESCAPES = {"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"}

StreamConfig = dict[str, Any]


# --- The platform -----------------------------------------------------------------------------


class YellowDynamicDataPlatform(YellowDataPlatform):
    """A YellowDataPlatform whose ingestion DAGs Airflow builds from the rows of a table.

    Bootstrap ring 0 renders, beside all that the base renders, `{platform}_factory_dag.py` for
    Airflow's DAG folder, and with `factoryShards` above 1 `{platform}_factory_dag_2.py` and so on;
    ring 1 creates the table `{platform}_airflow_dsg`; `renderGraph`, which `handleModelMerge`
    calls, replaces the table's rows instead of rendering DAG files.

    Args:
        *args: the base class's arguments, unchanged.
        slackCredential: an API_TOKEN credential; each job's pod gets it as `{name}_TOKEN`.
        slackChannel: each job's pod gets it as DATASURFACE_SLACK_CHANNEL.
        allowEmpty: let a merge remove the last streams of the platform. Without it, a merge
            that would leave no stream where there were some is refused.
        factoryShards: among how many factory files the streams are divided, 1 or more. One file
            per 1,000 streams keeps well within Airflow's time limits for a file.
        **kwargs: the base class's keyword arguments, unchanged.
    """

    def __init__(
        self,
        *args: Any,
        slackCredential: Credential | None = None,
        slackChannel: str | None = None,
        allowEmpty: bool = False,
        factoryShards: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.slackCredential = slackCredential
        self.slackChannel = slackChannel
        self.allowEmpty = allowEmpty
        self.factoryShards = factoryShards

    def lint(self, eco: Ecosystem, tree: ValidationTree) -> None:
        """Add the platform's problems to the tree: the base's, its own arguments', clashes."""
        super().lint(eco, tree)
        if problem := factory_shards_problem(self):
            tree.addProblem(problem)
        if self.slackCredential is not None:
            self.getCredentialStore().lintCredential(self.slackCredential, tree)
            if self.slackCredential.credentialType is not CredentialType.API_TOKEN:
                tree.addRaw(
                    ObjectWrongType(self.slackCredential, CredentialType, ProblemSeverity.ERROR)
                )
        for other in eco.dataPlatforms.values():
            if other is not self and self.to_k8s_name(other.name) == self.to_k8s_name(self.name):
                tree.addProblem(
                    f"The platforms {self.name!r} and {other.name!r} would share the name "
                    f"{self.to_k8s_name(self.name)!r} in Airflow and Kubernetes. Rename one."
                )

    def createGraphHandler(self, graph: PlatformPipelineGraph) -> YellowGraphHandler:
        """Return the handler that writes this platform's rows for the given pipeline graph."""
        return YellowDynamicGraphHandler(self, graph)

    def getAirflowDAGTable(self) -> Table:
        """Return the table that holds one row per ingestion stream.

        The plan's shape, but for `config_json`: the plan's VARCHAR(2048) does not hold a store of
        about 100 datasets. Timestamps are UTC.
        """
        return config_table(self.getPhysDAGTableName())

    def generateBootstrapArtifacts(self, eco: Ecosystem, ringLevel: int) -> dict[str, str]:
        """Render the platform's files (ring 0) or create its tables (ring 1).

        Returns:
            File texts by file name: all that the base renders and, on ring 0, the factory files and
            what brings them onto a cluster (see deployment_files).

        Raises:
            ValueError: for a ring the base does not know, a repository not of form owner/name, a
                name that Kubernetes refuses, two credentials that would share a secret, or
                factoryShards that is not a whole number from 1.
            sqlalchemy.exc.SQLAlchemyError: when the table cannot be created or widened; notes on
                it say on which platform, table and host, and what to grant.
        """
        if ringLevel == 1:
            # Before the base's own tables, so that a role without the right hears what to grant.
            with merge_store_transaction(self, "create or widen") as connection:
                create_config_table(connection, self.getAirflowDAGTable())
        files: dict[str, str] = super().generateBootstrapArtifacts(eco, ringLevel)
        if ringLevel == 0:
            files |= factory_files(self, eco)
            files |= deployment_files(self, eco, files)
            advise_shards(self, stream_count(self, eco))
        return files


class MergeError(Exception):
    """A platform was not merged because of its model; the text lists the problems."""


class YellowDynamicGraphHandler(YellowGraphHandler):
    """Fills the platform's table from a pipeline graph where the base renders one file a stream."""

    dp: YellowDynamicDataPlatform
    graph: PlatformPipelineGraph
    #: Whether the table's rows have been made those of the graph.
    populated = False

    def renderGraph(self, credStore: CredentialStore, issueTree: ValidationTree) -> dict[str, str]:
        """Replace the platform's rows and return the base's files, without ingestion DAG files.

        Raises:
            MergeError: for problems of the model, which are on `issueTree` too. DataSurface's
                command prints that tree and exits with 0, so nothing else would tell a job's
                operator that the old streams go on.
            sqlalchemy.exc.SQLAlchemyError: when the rows cannot be written; the old ones stay.
        """
        files: dict[str, str] = super().renderGraph(credStore, issueTree)
        problems = [str(problem.description) for problem in issueTree.getErrors()]
        if problems:
            raise MergeError(
                f"Platform {self.dp.name!r} was not merged, and none of its files is written. The "
                f"rows of table {self.dp.getPhysDAGTableName()!r} "
                f"{'are those of the model' if self.populated else 'were left as they are'}. "
                "Problems:" + "".join(f"\n- {problem}" for problem in problems)
            )
        return files

    def createAirflowDAGs(self, eco: Ecosystem, issueTree: ValidationTree) -> dict[str, str]:
        """Populate the table at the point where the static platform renders its DAG files."""
        self.populateDAGConfigurations(eco, issueTree)
        return {}

    def populateDAGConfigurations(self, eco: Ecosystem, issueTree: ValidationTree) -> None:
        """Make the table's rows equal the model's streams, in one transaction.

        Everything is validated first. Readers see the old rows or the new ones. A stream that
        stays keeps its `created_at` and its `status`, and its `updated_at` unless its
        configuration changed.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: when the rows cannot be written; the old ones stay.
        """
        configs = stream_configs(self.dp, eco, self.graph.storesToIngest, issueTree)
        rows = config_rows(self.dp, eco, configs, issueTree)
        if issueTree.hasErrors():
            return
        if self.dp.factoryShards < suitable_shards(len(rows)):
            advise_shards(self.dp, len(rows))
        with merge_store_transaction(self.dp, "replace the rows of") as connection:
            write_difference(connection, self.dp, rows, issueTree)
        self.populated = not issueTree.hasErrors()

    def populateDataTransformerConfigurations(
        self, eco: Ecosystem, issueTree: ValidationTree
    ) -> None:
        """Fill the base's table of transformers, unless the model is refused: both or neither."""
        if not issueTree.hasErrors():
            super().populateDataTransformerConfigurations(  # type: ignore[misc]
                eco, issueTree
            )

    def generateSecretsDocumentation(self, eco: Ecosystem, issueTree: ValidationTree) -> str:
        """Return the base's secrets documentation, and what the factory file needs besides."""
        return super().generateSecretsDocumentation(eco, issueTree) + secrets_of_the_factory(
            self.dp
        )


# --- Model to stream configs ------------------------------------------------------------------


def stream_configs(
    dp: YellowDynamicDataPlatform,
    eco: Ecosystem,
    stores_to_ingest: set[str],
    tree: ValidationTree,
) -> Iterator[StreamConfig]:
    """Yield each ingestion stream's own config, without what all share, by their stores' names.

    A store with MULTI_DATASET consistency is one stream, `Store`; with SINGLE_DATASET each of its
    datasets is one, `Store_dataset`. What the factory file does not run is a problem on the tree.
    """
    for store_name in sorted(stores_to_ingest):
        store: Datastore = eco.cache_getDatastoreOrThrow(store_name).datastore
        # The output of a transformer is ingested by the DAG that runs the transformer.
        if not isinstance(store.cmd, DataTransformerOutput):
            yield from store_configs(dp, store, tree.addSubTree(store))


def store_configs(
    dp: YellowDynamicDataPlatform, store: Datastore, tree: ValidationTree
) -> Iterator[StreamConfig]:
    """Yield the own config of each stream of one store."""
    shared = {"store_name": store.name, **ingestion_config(dp, store, tree)}
    consistency = getattr(store.cmd, "singleOrMultiDatasetIngestion", None)
    if consistency is IngestionConsistencyType.MULTI_DATASET:
        datasets = list(store.datasets)
        yield {**shared, "stream_key": store.name, "single_dataset": False, "datasets": datasets}
    elif consistency is IngestionConsistencyType.SINGLE_DATASET:
        for dataset in store.datasets:
            yield {
                **shared,
                "stream_key": f"{store.name}_{dataset}",
                "single_dataset": True,
                "datasets": [dataset],
                "dataset_name": dataset,
            }
    else:
        tree.addProblem(
            f"The ingestion of store {store.name!r} says neither SINGLE_DATASET nor MULTI_DATASET."
        )


def ingestion_config(
    dp: YellowDynamicDataPlatform, store: Datastore, tree: ValidationTree
) -> StreamConfig:
    """Return the kind, the schedule and the source's credential of a store's ingestion."""
    cmd = store.cmd
    config: StreamConfig = {"schedule_string": schedule_of_store(store, tree)}
    if isinstance(cmd, KafkaIngestion):
        config["ingestion_type"] = "kafka"
        config |= credential_config(dp, "kafka_connect", services_provider(dp).connectCredentials)
    elif isinstance(cmd, SQLSnapshotIngestion):
        config["ingestion_type"] = "sql_snapshot"
        if cmd.credential is not None:
            config |= credential_config(dp, "source", cmd.credential)
    else:
        kind = "no ingestion" if cmd is None else f"the ingestion {type(cmd).__name__}"
        tree.addProblem(
            f"The store {store.name!r} has {kind}; platform {dp.name!r} runs "
            "SQLSnapshotIngestion and KafkaIngestion."
        )
    return config


def schedule_of_store(store: Datastore, tree: ValidationTree) -> str | None:
    """Return a cron expression or preset, or None for a stream that others trigger."""
    trigger = getattr(store.cmd, "stepTrigger", None)
    if trigger is None:
        return "@hourly"
    if isinstance(trigger, CronTrigger):
        return str(trigger.cron)
    if not isinstance(trigger, ExternallyTriggered):
        tree.addProblem(
            f"The trigger of store {store.name!r} is a {type(trigger).__name__}; it must be a "
            "CronTrigger or an ExternallyTriggered."
        )
    return None


def common_config(dp: YellowDynamicDataPlatform, eco: Ecosystem) -> StreamConfig:
    """Return what all streams of a platform share.

    Raises:
        ValueError: when the model's repository is not a GitHub repository of form owner/name.
    """
    psp = services_provider(dp)
    # DataSurface 0.0.38 has the repository of the live model apart from the owning one.
    repo = getattr(eco, "liveRepo", None) or eco.owningRepo
    if not isinstance(repo, GitHubRepository) or not re.fullmatch(
        r"[\w.-]+/[\w.-]+", repo.repositoryName
    ):
        name = getattr(repo, "repositoryName", repo)
        raise ValueError(
            f"The repository of ecosystem {eco.name!r} is {name!r}; platform {dp.name!r} needs a "
            "GitHubRepository with a name of the form owner/repository."
        )
    config: StreamConfig = {
        "namespace_name": psp.namespace,
        "platform_name": dp.to_k8s_name(dp.name),
        "original_platform_name": dp.name,
        "postgres_hostname": psp.mergeStore.hostPortPair.hostName,
        "postgres_database": psp.mergeStore.databaseName,
        "postgres_port": psp.mergeStore.hostPortPair.port,
        "datasurface_docker_image": psp.datasurfaceDockerImage,
        "git_repo_url": f"https://github.com/{repo.repositoryName}",
        "git_repo_branch": repo.branchName,
        **credential_config(dp, "postgres", psp.postgresCredential),
        **credential_config(dp, "git", psp.gitCredential),
        "git_cache_enabled": psp.git_cache_enabled,
    }
    if dp.slackCredential is not None:
        config |= credential_config(dp, "slack", dp.slackCredential)
    if psp.git_cache_enabled:
        config |= {
            "git_cache_storage_class": psp.git_cache_storage_class,
            "git_cache_access_mode": psp.git_cache_access_mode,
            "git_cache_storage_size": psp.git_cache_storage_size,
            "git_cache_max_age_minutes": psp.git_cache_max_age_minutes,
        }
    return config


def credential_config(
    dp: YellowDynamicDataPlatform, role: str, credential: Credential
) -> StreamConfig:
    """Return the name of the credential's Kubernetes secret, and its own name where it differs.

    The job reads the environment variable that carries the credential's own name; Kubernetes
    cannot hold that name for its secret where it has capitals or underscores.
    """
    secret = dp.to_k8s_name(credential.name)
    config = {f"{role}_credential_secret_name": secret}
    if credential.name != secret:
        config[f"{role}_credential_name"] = credential.name
    return config


def services_provider(dp: YellowDynamicDataPlatform) -> Any:
    """Return the object that holds credentials, namespace, image and merge store."""
    return getattr(dp, "psp", dp)


# --- Stream configs to rows -------------------------------------------------------------------


def config_rows(
    dp: YellowDynamicDataPlatform,
    eco: Ecosystem,
    configs: Iterable[StreamConfig],
    tree: ValidationTree,
) -> dict[str, str]:
    """Return each stream's config_json by its key.

    What Airflow cannot run of a stream, and what Kubernetes refuses of the platform, is a problem
    on the tree.
    """
    try:
        common = CommonConfig(common_config(dp, eco))
    except ValueError as error:
        tree.addProblem(str(error))
        return {}
    rows: dict[str, str] = {}
    credentials = credentials_of(common.config)
    for config in configs:
        key = config["stream_key"]
        if key in rows:
            tree.addProblem(
                f"Two streams of platform {dp.name!r} have the key {key!r}; one is of store "
                f"{config['store_name']!r}. Rename a store or a dataset."
            )
        rows[key] = common.merged(config)
        for problem in stream_problems(common.config["platform_name"], config, rows[key]):
            tree.addProblem(f"Stream {key!r} of platform {dp.name!r}: {problem}.")
        credentials |= credentials_of(config)
    for problem in [
        *name_problems(common.config["namespace_name"], credentials),
        *value_problems(common.config, ENCODER.encode(common.config)),
    ]:
        tree.addProblem(f"Platform {dp.name!r}: {problem}.")
    return rows


#: The keys of a credential's own name and of its secret's.
CREDENTIAL_KEYS = [
    (f"{role}_credential_name", f"{role}_credential_secret_name")
    for role in ("postgres", "git", "slack", "source", "kafka_connect")
]
#: Sorts the keys, so that equal configs are equal text.
ENCODER = json.JSONEncoder(sort_keys=True)


class CommonConfig:
    """What all streams of a platform share, which becomes JSON only once."""

    def __init__(self, config: StreamConfig) -> None:
        self.config = config
        self.marks = lru_cache(self.marksAmong)

    def merged(self, config: StreamConfig) -> str:
        """Return JSON of this and a stream's own config, with the keys of both in order."""
        text = ENCODER.encode(config)
        marks, rest = self.marks(tuple(config))
        for mark, more in marks:
            text = text.replace(mark, more, 1)
        return text[:-1] + rest + "}"

    def marksAmong(self, keys: tuple[str, ...]) -> tuple[list[tuple[str, str]], str]:
        """Return what these keys of JSON become, with the common ones before them, and the rest.

        A key's mark is nowhere else, since JSON escapes the quotes in a value.
        """
        marks, before = [], ""
        for key in sorted({*keys, *self.config}):
            if key in self.config:
                before += ENCODER.encode({key: self.config[key]})[1:-1] + ", "
            elif before:
                mark = f"{ENCODER.encode(key)}: "
                marks.append((mark, before + mark))
                before = ""
        return marks, before and ", " + before.removesuffix(", ")


def stream_problems(platform: str, config: StreamConfig, text: str) -> Iterator[str]:
    """Yield what makes the factory file refuse this stream, whose config_json is this text."""
    dag_id = f"{platform}__{config['stream_key']}_ingestion"
    if len(dag_id) > AIRFLOW_ID_CHARACTERS or not AIRFLOW_ID.fullmatch(dag_id):
        yield (
            f"Airflow refuses its dag id {dag_id!a:.300}; at most {AIRFLOW_ID_CHARACTERS} letters, "
            "digits, dashes, dots and underscores are allowed"
        )
    if len(text) > CONFIG_CHARACTERS:
        yield f"its configuration has {len(text)} characters, more than {CONFIG_CHARACTERS}"
    yield from value_problems(config, text)


def value_problems(config: StreamConfig, text: str) -> Iterator[str]:
    """Yield which values of a config are not one line of text; `text` is JSON that holds them."""
    # Nearly every stream is done with here, without a look at each of its values: its JSON has no
    # escape, no empty text, and no DEL, which JSON does not escape.
    usual = "\\" not in text and '""' not in text and "\x7f" not in text
    if usual and len(text) <= VALUE_CHARACTERS:
        return
    for key, value in config.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str) and not (item and item.isprintable()):
                yield f"{key} is empty or holds a character that cannot be printed: {item!a:.100}"
            elif isinstance(item, str) and len(item) > VALUE_CHARACTERS:
                yield f"{key} has {len(item)} characters, more than {VALUE_CHARACTERS}"


def name_problems(namespace: str, credentials: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield what Kubernetes refuses of a namespace's name and of `credentials_of` configs."""
    if not NAMESPACE.fullmatch(namespace):
        yield (
            f"Kubernetes refuses the namespace {namespace!a:.300}; at most 63 lower case letters, "
            "digits and dashes are allowed, and no dash at either end"
        )
    names: dict[str, str] = {}
    for name, secret in sorted(credentials):
        if not KUBERNETES_NAME.fullmatch(secret):
            yield (
                f"the credential {name!a:.300} has no name that Kubernetes takes for a secret; "
                f"{secret!a:.300} is not one"
            )
        if not ENVIRONMENT_NAME.fullmatch(name):
            yield f"the credential {name!a:.300} cannot start an environment variable's name"
        if names.setdefault(secret, name) != name:
            yield (
                f"the credentials {names[secret]!a:.300} and {name!a:.300} would share the "
                f"Kubernetes secret {secret!a:.300}; rename one"
            )


def credentials_of(config: StreamConfig) -> set[tuple[str, str]]:
    """Return the name and the secret's name of each credential of a config."""
    return {
        (str(config.get(name_key, config[secret_key])), str(config[secret_key]))
        for name_key, secret_key in CREDENTIAL_KEYS
        if secret_key in config
    }


@dataclass
class Population:
    """What a merge does to the table, by stream key."""

    added: list[str]
    changed: list[str]
    removed: list[str]
    unchanged: list[str]

    def __str__(self) -> str:
        names = [
            f"{len(keys)} {verb} ({', '.join(map(printable, keys[:10]))}"
            f"{', ...' if keys[10:] else ''})"
            if keys
            else f"0 {verb}"
            for verb, keys in vars(self).items()
            if verb != "unchanged"
        ]
        return ", ".join([*names, f"{len(self.unchanged)} unchanged"])


def printable(key: str) -> str:
    """Return a key as it may stand in a log: one that was written by hand may forge lines."""
    return key if key.isprintable() else ascii(key)


def compare_rows(old: dict[str, str | None], new: dict[str, str]) -> Population:
    """Return the difference between the table's configs and the model's, each by stream key."""
    return Population(
        added=sorted(new.keys() - old.keys()),
        changed=sorted(key for key in new.keys() & old.keys() if new[key] != old[key]),
        removed=sorted(old.keys() - new.keys()),
        unchanged=sorted(key for key in new.keys() & old.keys() if new[key] == old[key]),
    )


def write_difference(
    connection: Connection,
    dp: YellowDynamicDataPlatform,
    rows: dict[str, str],
    tree: ValidationTree,
) -> None:
    """Make the table hold exactly these rows, or put the reason why not on the tree.

    The lock keeps other merges out and lets the factory files read.
    """
    table = dp.getAirflowDAGTable()
    quoted = connection.dialect.identifier_preparer.format_table(table)
    connection.execute(sqlalchemy.text(f"LOCK TABLE {quoted} IN EXCLUSIVE MODE"))
    old, population = compare_with_table(connection, dp, rows, tree)
    if tree.hasErrors():
        return
    if population.added or population.changed or population.removed:
        now = connection.scalar(
            sqlalchemy.select(sqlalchemy.func.timezone("UTC", sqlalchemy.func.now()))
        )
        connection.execute(table.delete())
        copyRows(connection, table, copyLines(rows, old, str(now)))
    log.info("Streams of platform %r in table %r: %s.", dp.name, table.name, population)


def compare_with_table(
    connection: Connection,
    dp: YellowDynamicDataPlatform,
    rows: dict[str, str],
    tree: ValidationTree,
) -> tuple[dict[str, Any], Population]:
    """Return the table's rows by stream key, and what a merge of these rows would change.

    Why they must not replace the table's is a problem on the tree. Nothing is written.
    """
    table = dp.getAirflowDAGTable()
    old = {row.stream_key: row for row in connection.execute(sqlalchemy.select(table))}
    population = compare_rows({key: row.config_json for key, row in old.items()}, rows)
    for problem in population_problems(connection, dp, table, rows, population):
        tree.addProblem(problem)
    return old, population


class Lines:
    """A file of lines that are made while it is read, as fast as the database takes them."""

    def __init__(self, lines: Iterator[str]) -> None:
        self.lines = lines

    def read(self, _size: int) -> str:
        """Return some of the lines that are left, whatever the size, or nothing at the end."""
        return "".join(islice(self.lines, 100))


def copyRows(connection: Connection, table: Table, lines: Iterator[str]) -> None:
    """Add rows in the text format of COPY, which takes a third of the time of INSERT.

    Raises:
        sqlalchemy.exc.DBAPIError: when the database refuses them.
    """
    quoted = connection.dialect.identifier_preparer.format_table(table)
    statement = f"COPY {quoted} ({', '.join(table.columns.keys())}) FROM STDIN"
    driver: Any = connection.dialect.dbapi
    cursor: Any = connection.connection.cursor()
    try:
        if hasattr(cursor, "copy_expert"):
            cursor.copy_expert(statement, Lines(lines))
        else:  # psycopg 3
            with cursor.copy(statement) as copy:
                for line in lines:
                    copy.write(line)
    except driver.Error as error:
        # As SQLAlchemy does for what it executes itself.
        if connection.dialect.is_disconnect(error, connection.connection.dbapi_connection, cursor):
            connection.invalidate(error)
        raise DBAPIError.instance(statement, None, error, driver.Error) from error
    finally:
        cursor.close()


def copyLines(rows: dict[str, str], old: dict[str, Any], now: str) -> Iterator[str]:
    """Yield the new rows for COPY, their columns in the order of `config_table`.

    An operator's status and a row's history survive a merge.
    """
    for key, text in rows.items():
        row = old.get(key)
        status = (row and row.status) or "active"
        created = (row and row.created_at) or now
        updated = (row and row.config_json == text and row.updated_at) or now
        yield f"{copyText(key)}\t{copyText(text)}\t{copyText(status)}\t{created}\t{updated}\n"


def copyText(text: str) -> str:
    """Return a text in the text format of COPY."""
    for character, escape in COPY_ESCAPES.items():
        text = text.replace(character, escape)
    return text


def population_problems(
    connection: Connection,
    dp: YellowDynamicDataPlatform,
    table: Table,
    rows: dict[str, str],
    population: Population,
) -> Iterator[str]:
    """Yield why these rows must not replace the table's."""
    if population.removed and not rows and not dp.allowEmpty:
        yield (
            f"The model leaves platform {dp.name!r} without a stream, and the table "
            f"{table.name!r} has {len(population.removed)}. Nothing is removed. If that is what "
            "you want, make the platform with allowEmpty=True."
        )
    limit = config_limit(connection, table)
    for key in [key for key, text in rows.items() if limit is not None and len(text) > limit]:
        yield (
            f"The configuration of stream {key!r} has {len(rows[key])} characters, and the column "
            f"config_json of table {table.name!r} holds {limit}. Run generatePlatformBootstrap "
            "with --ringLevel 1, which widens it."
        )


# --- The merge store --------------------------------------------------------------------------


def config_table(name: str) -> Table:
    """Return a platform's table of this name; see `getAirflowDAGTable`."""
    return Table(
        name,
        MetaData(),
        Column("stream_key", String(length=STREAM_KEY_CHARACTERS), primary_key=True),
        Column("config_json", Text()),
        Column("status", String(length=50)),
        Column("created_at", TIMESTAMP()),
        Column("updated_at", TIMESTAMP()),
    )


@contextmanager
def merge_store_transaction(dp: YellowDynamicDataPlatform, action: str) -> Iterator[Connection]:
    """Yield a connection in a transaction on the merge store; see `table_transaction`."""
    psp = services_provider(dp)
    store = psp.mergeStore
    login = dp.getCredentialStore().getAsUserPassword(psp.postgresCredential)
    url = store_url(login, store.hostPortPair.hostName, store.hostPortPair.port, store.databaseName)
    with table_transaction(url, dp.name, dp.getPhysDAGTableName(), action) as connection:
        yield connection


def store_url(login: tuple[str, str], hostName: str, port: int, database: str) -> URL:
    """Return the address of a merge store, with the PostgreSQL driver that is installed."""
    driver = "psycopg2" if importlib.util.find_spec("psycopg2") else "psycopg"
    return URL.create(f"postgresql+{driver}", *login, hostName, port, database)


@contextmanager
def table_transaction(url: URL, platform: str, table: str, action: str) -> Iterator[Connection]:
    """Yield a connection in a transaction, which ends with the block.

    A database error carries a note that says what could not be done, where, what has become of
    the transaction, and what to look at.
    """
    engine = sqlalchemy.create_engine(
        url, poolclass=NullPool, connect_args={"connect_timeout": CONNECT_TIMEOUT_SECONDS}
    )
    outcome = "Nothing was changed."
    try:
        with engine.begin() as connection:
            set_timeouts(connection)
            yield connection
            # The answer to a COMMIT may get lost after it took effect.
            outcome = "The table holds the old rows or the new ones, and no mixture."
    except SQLAlchemyError as error:
        error.add_note(
            f"Platform {platform!r}: could not {action} table {table!r} in database "
            f"{url.database!r} on {url.host}:{url.port} as user {url.username!r}. {outcome} "
            f"{advice(error)}"
        )
        raise


def set_timeouts(connection: Connection) -> None:
    """Bound how long this transaction waits for a lock, and holds it when its client is lost."""
    for setting, seconds in (
        ("lock_timeout", LOCK_TIMEOUT_SECONDS),
        ("idle_in_transaction_session_timeout", LOST_CLIENT_SECONDS),
    ):
        connection.execute(sqlalchemy.text(f"SET LOCAL {setting} = '{seconds}s'"))


def advice(error: SQLAlchemyError) -> str:
    """Return what to do about a database error."""
    advices = {
        "UndefinedTable": "Run generatePlatformBootstrap with --ringLevel 1 to create the table.",
        "InsufficientPrivilege": "Grant the role CREATE on the schema for bootstrap, and SELECT, "
        "INSERT, UPDATE and DELETE on the table for merges.",
        "LockNotAvailable": f"Another merge held the table for {LOCK_TIMEOUT_SECONDS} s; look for "
        "a merge that hangs, and run this one again.",
        "QueryCanceled": "It was interrupted here, or cancelled in the database; run it again.",
    }
    cause = type(getattr(error, "orig", None)).__name__
    return advices.get(cause, "Check that the database is up and reachable, then run this again.")


def create_config_table(connection: Connection, table: Table) -> None:
    """Create the table, or widen the VARCHAR(2048) that earlier releases created, in place."""
    if not sqlalchemy.inspect(connection).has_table(table.name):
        table.create(connection)
        log.info("Created table %r.", table.name)
    elif config_limit(connection, table) is not None:
        preparer = connection.dialect.identifier_preparer
        connection.execute(
            sqlalchemy.text(
                f"ALTER TABLE {preparer.format_table(table)} ALTER COLUMN config_json TYPE TEXT"
            )
        )
        log.info("Widened column config_json of table %r to TEXT.", table.name)


def config_limit(connection: Connection, table: Table) -> int | None:
    """Return how many characters config_json holds in the database, or None for no limit."""
    # The inspector asks for all there is to know of a table, which takes ten times as long.
    length: int | None = connection.scalar(
        sqlalchemy.text(
            "SELECT nullif(atttypmod, -1) - 4 FROM pg_attribute "
            "WHERE attrelid = CAST(:name AS regclass) AND attname = 'config_json'"
        ),
        {"name": connection.dialect.identifier_preparer.format_table(table)},
    )
    return length


# --- What is rendered -------------------------------------------------------------------------


def factory_files(dp: YellowDynamicDataPlatform, eco: Ecosystem) -> dict[str, str]:
    """Return the texts of the platform's factory files by name: the same text in each.

    A file knows by its name which one it is, and the first one says how many there are, so that
    all of them go over to another number at the moment when that one is copied.

    Raises:
        ValueError: when the model's repository is not of form owner/name, or factoryShards is not
            a whole number from 1.
    """
    if problem := factory_shards_problem(dp):
        raise ValueError(problem)
    text = factory_text(dp, eco)
    name = f"{dp.to_k8s_name(dp.name)}_factory_dag"
    further = {f"{name}_{number}.py": text for number in range(2, dp.factoryShards + 1)}
    return {f"{name}.py": text, **further}


def factory_shards_problem(dp: YellowDynamicDataPlatform) -> str | None:
    """Return what is wrong with the platform's factoryShards, or None."""
    shards = dp.factoryShards
    if isinstance(shards, int) and not isinstance(shards, bool) and 1 <= shards <= MOST_SHARDS:
        return None
    return (
        f"factoryShards of platform {dp.name!r} is {shards!r:.100}; it must be a whole number from "
        f"1 to {MOST_SHARDS}."
    )


def stream_count(dp: YellowDynamicDataPlatform, eco: Ecosystem) -> int | None:
    """Return how many streams the model gives the platform, or None where it is not known yet."""
    graph = EcosystemPipelineGraph(eco).roots.get(dp.name)
    if graph is None:
        return None
    configs = stream_configs(dp, eco, graph.storesToIngest, ValidationTree(eco))
    return len(list(configs))


def suitable_shards(streams: int) -> int:
    """Return how many factory files suit a number of streams."""
    return max(1, -(-streams // STREAMS_PER_SHARD))


def advise_shards(dp: YellowDynamicDataPlatform, streams: int | None) -> None:
    """Log how many factory files suit a number of streams, as a warning where there are too few."""
    if streams is None:
        log.info(
            "No dataset group is assigned to platform %r yet, so its number of streams is not "
            "known. Choose factoryShards so that there is one factory file for each %d streams.",
            dp.name,
            STREAMS_PER_SHARD,
        )
        return
    suitable = suitable_shards(streams)
    log.log(
        logging.WARNING if dp.factoryShards < suitable else logging.INFO,
        "Platform %r has %d streams and factoryShards=%d; factoryShards=%d suits them, which is "
        "one factory file for each %d streams.",
        dp.name,
        streams,
        dp.factoryShards,
        suitable,
        STREAMS_PER_SHARD,
    )


def factory_text(dp: YellowDynamicDataPlatform, eco: Ecosystem) -> str:
    """Return the text of the platform's factory file.

    Raises:
        ValueError: when the model's repository is not of form owner/name.
    """
    return factory_text_of(platform_settings(dp, eco))


def factory_text_of(settings: StreamConfig) -> str:
    """Return the text of the factory file with these settings."""
    template = templates().get_template("yellow_platform_factory_dag.py.j2")
    return template.render(platform_literal=python_literal(settings))


def templates(**filters: Callable[[str], str]) -> Environment:
    """Return the environment of this package's templates."""
    environment = Environment(
        loader=PackageLoader("yellow_dynamic", "templates"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
        trim_blocks=True,
    )
    environment.filters |= filters
    return environment


def platform_settings(dp: YellowDynamicDataPlatform, eco: Ecosystem) -> StreamConfig:
    """Return the settings that the factory file carries: the streams' common ones and its own."""
    config = common_config(dp, eco)
    names = {
        name_key: config[secret_key]
        for name_key, secret_key in CREDENTIAL_KEYS
        if secret_key in config
    }
    settings = {
        **names,
        **config,
        "config_table": dp.getPhysDAGTableName(),
        "ecosystem_k8s_name": dp.to_k8s_name(eco.name),
        "factory_shards": dp.factoryShards,
        "plugin_version": __version__,
    }
    if dp.slackChannel is not None:
        settings["slack_channel_name"] = dp.slackChannel
    return settings


def python_literal(settings: StreamConfig) -> str:
    """Return a dict of texts, numbers and booleans as Python source, one key a line.

    `ascii` quotes every value, so none of them can become code.
    """
    lines = [f"    {key!a}: {settings[key]!a},\n" for key in sorted(settings)]
    return "{\n" + "".join(lines) + "}"


def secrets_of_the_factory(dp: YellowDynamicDataPlatform) -> str:
    """Return the section on what Airflow itself needs to read the table, in Markdown."""
    psp = services_provider(dp)
    credential, namespace = psp.postgresCredential.name, psp.namespace
    start = dp.to_k8s_name(dp.name)
    keys = ["POSTGRES_USER", "POSTGRES_PASSWORD", f"{credential}_USER", f"{credential}_PASSWORD"]
    text = (
        "\n## Airflow's access to the configuration table\n\n"
        f"The factory file of {dp.name} reads the table `{dp.getPhysDAGTableName()}`. Airflow's "
        f"scheduler, DAG processor and workers need `{credential}_USER` and "
        f"`{credential}_PASSWORD` in their environment; ring 0 wrote what hands them over, as "
        f"`{start}-airflow-values.yaml` for Airflow's Helm chart and as "
        f"`{start}-airflow-patch.yaml`. They may be the login of the role in "
        f"`{start}-airflow-reader.sql`, which only reads. The jobs' pods use the other two keys. "
        "Create the secret with all four:\n\n"
        + kubectl_command(dp.to_k8s_name(credential), namespace, keys)
    )
    if dp.slackCredential is not None:
        secret = dp.to_k8s_name(dp.slackCredential.name)
        text += "\n## Slack\n\n" + kubectl_command(secret, namespace, ["token"])
    return text


def kubectl_command(secret: str, namespace: str, keys: list[str]) -> str:
    literals = " \\\n".join(f"  --from-literal={key}=<value>" for key in keys)
    return (
        "```bash\n"
        f"kubectl create secret generic {secret} --namespace {namespace} \\\n{literals}\n"
        "```\n"
    )


# --- What brings it onto a cluster ------------------------------------------------------------


def deployment_files(
    dp: YellowDynamicDataPlatform, eco: Ecosystem, rendered: Collection[str]
) -> dict[str, str]:
    """Return what Kubernetes and Airflow need for the platform, by file name.

    These are values for Airflow's Helm chart, the same as a plain patch, the role that reads the
    table, and Jobs that run bootstrap and the merge in the cluster.

    Args:
        dp: the platform.
        eco: the ecosystem of its model.
        rendered: the names of ring 0's other files. Some releases of DataSurface render a Job for
            the merge, and then there is no second one.

    Raises:
        ValueError: when Kubernetes would refuse a name of the model, or two credentials would
            share a secret.
    """
    settings = platform_settings(dp, eco)
    for problem in name_problems(settings["namespace_name"], credentials_of(settings)):
        raise ValueError(f"Platform {dp.name!a:.300} cannot be put on a cluster: {problem}.")
    environment = templates(yaml=yaml_text, sql=sql_identifier, literally=literally)
    values = deployment_values(dp, settings)
    start = settings["platform_name"]
    names = ["airflow-values.yaml", "airflow-patch.yaml", "airflow-reader.sql"]
    names.append("bootstrap-job.yaml")
    if f"{start}_model_merge_job.yaml" not in rendered:
        names.append("model-merge-job.yaml")
    return {
        f"{start}-{name}": environment.get_template(f"{name}.j2").render(values) for name in names
    }


def deployment_values(dp: YellowDynamicDataPlatform, settings: StreamConfig) -> dict[str, Any]:
    """Return what the templates of the deployment say of a platform."""
    postgres, git = settings["postgres_credential_name"], settings["git_credential_name"]
    postgres_secret = settings["postgres_credential_secret_name"]
    cached = settings["git_cache_enabled"]
    return {
        "platform": dp.name,
        "file_start": settings["platform_name"],
        "job_start": settings["platform_name"][:JOB_NAME_CHARACTERS].strip("-"),
        "namespace": settings["namespace_name"],
        "airflow": dp.to_k8s_name(services_provider(dp).airflowName),
        "credential": postgres,
        "secret": postgres_secret,
        "database": settings["postgres_database"],
        "table": settings["config_table"],
        "snapshot_folder": SNAPSHOT_FOLDER,
        "image": settings["datasurface_docker_image"],
        "git_repo_owner": settings["git_repo_url"].split("/")[-2],
        "git_repo_name": settings["git_repo_url"].split("/")[-1],
        "git_repo_branch": settings["git_repo_branch"],
        "git_credential": git,
        "model_folder": MODEL_FOLDER if cached else "/workspace/model",
        "model_claim": f"{settings['ecosystem_k8s_name']}-git-model-cache" if cached else None,
        "job_secrets": [
            (f"{postgres}_USER", postgres_secret, "POSTGRES_USER"),
            (f"{postgres}_PASSWORD", postgres_secret, "POSTGRES_PASSWORD"),
            (f"{git}_TOKEN", settings["git_credential_secret_name"], "token"),
        ],
    }


def yaml_text(value: str) -> str:
    """Return a text as YAML in one line, quoted, so that it can be nothing but this text."""
    return yaml.safe_dump(value, default_style='"', width=float("inf")).rstrip("\n")


def sql_identifier(name: str) -> str:
    """Return a name as a quoted identifier of PostgreSQL."""
    return postgresql.dialect().identifier_preparer.quote_identifier(name)


def literally(value: str) -> str:
    """Return a value as Kubernetes must be given it, which expands `$(VARIABLE)`, secrets too."""
    return value.replace("$", "$$")
