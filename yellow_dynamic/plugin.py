"""The plugin: a Yellow platform whose DAGs are rows of a table instead of files.

The data flows one way: the ecosystem model gives stream configs, these become the rows of
`{platform}_airflow_dsg`, and the factory file in Airflow's DAG folder turns each row into a DAG.
This module is the first half, up to the rows; `templates/yellow_platform_factory_dag.py.j2` is the
second.
"""

from __future__ import annotations

import importlib
import itertools
import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import timedelta
from fnmatch import fnmatchcase
from importlib import metadata
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import Table
from sqlalchemy.engine import Connection

from yellow_dynamic import __version__, deployment
from yellow_dynamic.contract import (
    ACTIVE,
    CREDENTIAL_NAMES,
    DEFAULT_SCHEDULE,
    KEYS,
    RUN_KEYS,
    SCHEMAS,
    TRANSFORMER,
    factory_name_of,
    factory_text_of,
    overlaid,
    problems_across_keys,
    secret_keys,
    size_problem,
    transformer_key_of,
    value_problem,
    value_problems,
    with_credential_names,
)
from yellow_dynamic.history import (
    MERGE,
    audit_metadata,
    create_history,
    git_commit,
    is_readable,
    no_history_message,
    set_audit_metadata,
)
from yellow_dynamic.merge_store import (
    config_limit,
    config_table,
    execute_locking,
    quoted_name,
    store_url,
    table_transaction,
    write_comment,
)
from yellow_dynamic.pods import resource_problems, template_problems, with_job_container
from yellow_dynamic.population import (
    PLAN_FILE,
    Guards,
    MergeError,
    Population,
    compare_rows,
    find_rows,
    lock_table,
    plan_problems,
    size_problems,
    write_difference,
)
from yellow_dynamic.schedules import moved_schedule, offset_of

try:
    from datasurface.md import (
        Credential,
        CredentialStore,
        CronTrigger,
        Datastore,
        DataTransformer,
        DataTransformerOutput,
        Ecosystem,
        EcosystemPipelineGraph,
        ExternallyTriggered,
        IngestionConsistencyType,
        KafkaIngestion,
        PlatformPipelineGraph,
        PostgresDatabase,
        SQLSnapshotIngestion,
        StepTrigger,
        ValidationTree,
        Workspace,
    )
    from datasurface.md.codeartifact import PythonRepoCodeArtifact
    from datasurface.md.credential import CredentialType
    from datasurface.md.lint import ObjectWrongType, ProblemSeverity
    from datasurface.md.repo import GitHubRepository
    from datasurface.platforms.yellow import YellowDataPlatform, YellowPlatformServiceProvider
    from datasurface.platforms.yellow.yellow_dp import JobUtilities, YellowGraphHandler
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "datasurface":
        raise
    raise ImportError(
        "yellow_dynamic is a plugin of DataSurface, and the package 'datasurface' with the Yellow "
        f"platform is not installed here ({error}). Install DataSurface 0.0.35 to 0.0.38, 0.0.56 "
        "or 0.0.57 as your vendor ships it; its container image has it. To try yellow_dynamic on "
        "one machine without it, install the stand-in from its source: pip install ./embedded"
    ) from None

log = logging.getLogger(__name__)

#: Building, serializing and storing so many DAGs stays within Airflow's time limits for a file.
STREAMS_PER_SHARD = 1_000
MOST_SHARDS = 1_000
#: What DataSurface loads a model from.
MODEL_FILE = "eco.py"
#: What Airflow takes for the id of a connection.
CONNECTION_ID = re.compile(r"[\w#!()\-.:/\\]{1,250}", re.ASCII)
MAIL_ADDRESS = re.compile(r"[^\s@,;<>\"]+@[^\s@,;<>\"]+")

StreamConfig = dict[str, Any]


# --- What releases of DataSurface differ in ---------------------------------------------------


class PlatformsBootstrap:
    """DataSurface 0.0.35 to 0.0.38, where each platform is bootstrapped and merged by itself."""

    #: What rows call each kind of ingestion.
    kinds: Mapping[type, str] = {SQLSnapshotIngestion: "sql_snapshot", KafkaIngestion: "kafka"}

    def k8s_name(self, name: str) -> str:
        """Return a name of the model as Kubernetes and Airflow carry it."""
        return str(YellowDataPlatform.to_k8s_name(name))

    def platforms(self, eco: Ecosystem) -> list[Any]:
        """Return all platforms of a model."""
        return list(eco.dataPlatforms.values())

    def namespace(self, psp: Any) -> str:
        """Return the Kubernetes namespace of a services provider."""
        return str(psp.namespace)

    def merge_credential(self, psp: Any) -> Credential:
        """Return the credential of the merge store."""
        credential: Credential = psp.postgresCredential
        return credential

    def table_name(self, psp: Any, name: str) -> str:
        """Return the name that a table of the merge store really has."""
        return str(psp.namingMapper.mapNoun(name))

    def settings(self, psp: Any) -> StreamConfig:
        """Return what jobs need besides what all releases have: of the cache, images and secrets.

        What a services provider leaves open is None.
        """
        if not psp.git_cache_enabled:
            return {"git_cache_enabled": psp.git_cache_enabled}
        return {
            "git_cache_enabled": psp.git_cache_enabled,
            "git_cache_storage_class": psp.git_cache_storage_class,
            "git_cache_access_mode": psp.git_cache_access_mode,
            "git_cache_storage_size": psp.git_cache_storage_size,
            "git_cache_max_age_minutes": psp.git_cache_max_age_minutes,
        }

    def of_factory(self, psp: Any) -> StreamConfig:
        """Return what the factory file needs besides what all releases have."""
        del psp
        return {}

    def hints(self, psp: Any, graph: PlatformPipelineGraph, config: StreamConfig) -> dict[str, Any]:
        """Return the arguments of RunSettings that DataSurface's own parts of a model give."""
        del psp, graph, config
        return {}

    def provider_problems(self, dp: YellowDynamicDataPlatform) -> Iterator[str]:
        """Yield what of its services provider keeps a platform from being served."""
        del dp
        yield from ()

    def unit(self, dp: YellowDynamicDataPlatform) -> deployment.Unit:
        """Return what the two commands are run for, so that they serve the platform."""
        name = self.k8s_name(dp.name)
        return deployment.Unit(
            kind="platform",
            name=dp.name,
            airflow_name=name,
            file_start=name,
            views_option="--platform-name",
            variable="DATASURFACE_PLATFORM_NAME",
            replaced=("_datatransformer_factory_dag.py",),
        )


class ProvidersBootstrap(PlatformsBootstrap):
    """DataSurface 0.0.56 and 0.0.57, where a services provider does it for its platforms."""

    def __init__(self) -> None:
        assembly = importlib.import_module("datasurface.platforms.yellow.assembly")
        self._names: Any = assembly.K8sUtils
        self._quantity: Any = assembly.Component.storageToKubernetesFormat
        by_watermark = importlib.import_module("datasurface.md").SQLWatermarkSnapshotDeltaIngestion
        by_sql = dict.fromkeys((SQLSnapshotIngestion, by_watermark), "sql_source")
        self.kinds = {**by_sql, KafkaIngestion: "kafka"}

    def k8s_name(self, name: str) -> str:
        return str(self._names.to_k8s_name(name))

    def platforms(self, eco: Ecosystem) -> list[Any]:
        providers: list[Any] = vars(eco)["platformServicesProviders"]
        return [dp for psp in providers for dp in psp.dataPlatforms.values()]

    def namespace(self, psp: Any) -> str:
        return str(psp.yp_assm.namespace)

    def merge_credential(self, psp: Any) -> Credential:
        credential: Credential = psp.mergeRW_Credential
        return credential

    def table_name(self, psp: Any, name: str) -> str:
        return str(psp.namingMapper.fmtTVI(name))

    def settings(self, psp: Any) -> StreamConfig:
        cache = psp.yp_assm.git_cache_config
        of_cache = {
            "git_cache_claim": cache.pvc_name,
            "git_cache_storage_class": cache.storageClass,
            "git_cache_access_mode": cache.access_mode,
            "git_cache_storage_size": self._quantity(cache.storage_size),
            "git_cache_max_age_minutes": cache.git_cache_max_age_minutes,
        }
        return {
            "git_cache_enabled": cache.enabled,
            "git_cache_folder": cache.cacheLocalPath,
            **(of_cache if cache.enabled else {}),
            "image_pull_policy": psp.image_pull_policy.value,
            "login_keys_by_secret": True,
        }

    def of_factory(self, psp: Any) -> StreamConfig:
        return {"weight_rule": "absolute", "services_provider": psp.name}

    def hints(self, psp: Any, graph: PlatformPipelineGraph, config: StreamConfig) -> dict[str, Any]:
        if config["ingestion_type"] == TRANSFORMER:
            hint = psp.getDataTransformerJobHint(config["workspace_name"])
            limits = hint.to_k8s_json() if hint else TRANSFORMER_LIMITS
        else:
            hint = psp.getIngestionJobHint(config["store_name"], config.get("dataset_name"))
            limits = hint.to_k8s_json() if hint else INGESTION_LIMITS
        resources = {
            kind: {name: limits[f"{start}_{name}"] for name in ("memory", "cpu")}
            for kind, start in (("requests", "requested"), ("limits", "limits"))
        }
        return {"resources": resources, "priorityWeight": priority_of(graph, config)}

    def provider_problems(self, dp: YellowDynamicDataPlatform) -> Iterator[str]:
        psp = services_provider(dp)
        if not isinstance(psp, YellowDynamicPlatformServiceProvider):
            yield (
                f"Platform {dp.name!r} is given to services provider {psp.name!r}, which is a "
                f"{type(psp).__name__}. This release of DataSurface lets the services provider "
                "bootstrap its platforms: make it a YellowDynamicPlatformServiceProvider."
            )
        if not isinstance(psp.mergeStore, PostgresDatabase):
            yield (
                f"The merge store {psp.mergeStore.name!r} of services provider {psp.name!r} is a "
                f"{type(psp.mergeStore).__name__}; platform {dp.name!r} needs a PostgresDatabase."
            )
        given = (each.infrastructureSchedule for each in dynamic_platforms(psp))
        schedules = sorted({ascii(schedule) for schedule in given if schedule is not None})
        if len(schedules) > 1:
            yield (
                f"The platforms of services provider {psp.name!r} have the infrastructureSchedules "
                f"{', '.join(schedules)}. One infrastructure DAG merges all of them: give one of "
                "them a schedule, or all the same."
            )

    def unit(self, dp: YellowDynamicDataPlatform) -> deployment.Unit:
        psp = services_provider(dp)
        return deployment.Unit(
            kind="services provider",
            name=psp.name,
            airflow_name=self.k8s_name(psp.name),
            file_start=psp.to_python_name(psp.name),
            views_option="--psp",
            variable="DATASURFACE_PSP_NAME",
            beside_own=len(dynamic_platforms(psp)) < len(psp.dataPlatforms),
        )


#: What DataSurface 0.0.56 and 0.0.57 give the jobs of which the model has no hint.
INGESTION_LIMITS = {
    "requested_memory": "256M",
    "requested_cpu": "100m",
    "limits_memory": "1Gi",
    "limits_cpu": "500m",
}
TRANSFORMER_LIMITS = {
    "requested_memory": "512M",
    "requested_cpu": "200m",
    "limits_memory": "2Gi",
    "limits_cpu": "1000m",
}


def priority_of(graph: PlatformPipelineGraph, config: StreamConfig) -> int:
    """Return the priority that workspaces give a stream, 0 where none says any."""
    store, platform = config["store_name"], graph.platform.name
    if config["ingestion_type"].startswith(TRANSFORMER):
        makers = {
            workspace.dataTransformer.outputDatastore.name: workspace.name
            for workspace in graph.workspaces.values()
            if workspace.dataTransformer is not None
        }
        node = f"DataTransformerNode/DataTransformer/{platform}/{makers[store]}"
    elif config["single_dataset"]:
        node = f"IngestionSingleNode/Ingest/{platform}/{store}/{config['dataset_name']}"
    else:
        node = f"IngestionMultiNode/Ingest/{platform}/{store}"
    priority: Any = getattr(graph.nodes.get(node), "priority", None)
    return 0 if priority is None else int(priority.priority.value)


def generation() -> PlatformsBootstrap:
    """Return what the DataSurface installed here is, by what it offers.

    Raises:
        ImportError: it is one of those between, which neither of ours serves.
    """
    if hasattr(YellowDataPlatform, "getPSP"):
        return ProvidersBootstrap()
    # The late 0.0.38 has both: bootstrap on the platform, and factories inside the infrastructure
    # DAG.
    if hasattr(YellowDataPlatform, "generateBootstrapArtifacts") and not hasattr(
        YellowDataPlatform, "getFactoryDAGTable"
    ):
        return PlatformsBootstrap()
    raise ImportError(
        f"yellow_dynamic {__version__} supports DataSurface 0.0.35 to 0.0.38 (up to 29 July 2025), "
        f"0.0.56 and 0.0.57. The DataSurface installed here, {installed_release()}, is one between "
        "these, whose infrastructure DAG builds the ingestion DAGs itself, which would define "
        "each of them twice. Install DataSurface 0.0.57; until then, keep YellowDataPlatform in "
        "the model. docs/compatibility.md of yellow_dynamic says more."
    )


def installed_release() -> str:
    """Return the release of the DataSurface installed here, as far as it says."""
    try:
        return metadata.version("datasurface")
    except metadata.PackageNotFoundError:
        return "of an unknown release"


def services_provider(dp: YellowDynamicDataPlatform) -> Any:
    """Return the object that holds credentials, namespace, image and merge store."""
    return dp.psp


def dynamic_platforms(psp: Any) -> list[YellowDynamicDataPlatform]:
    """Return those of a services provider's platforms that are ours."""
    return [dp for dp in psp.dataPlatforms.values() if isinstance(dp, YellowDynamicDataPlatform)]


#: All that the plugin asks of the release that is installed.
GENERATION = generation()


# --- The platform -----------------------------------------------------------------------------


@dataclass(frozen=True)
class SlackWebhook:
    """Lets Airflow tell a Slack channel of each run that failed; an `onFailure` of the platform.

    Args:
        connectionId: id of the Airflow connection of type Slack Incoming Webhook. Airflow's image
            needs apache-airflow-providers-slack.
    """

    connectionId: str

    @property
    def settings(self) -> StreamConfig:
        return {"on_failure_slack_connection": self.connectionId}

    def problems(self) -> Iterator[str]:
        yield from connection_problems(self.connectionId)


@dataclass(frozen=True)
class EMail:
    """Lets Airflow send a mail for each run that failed; an `onFailure` of the platform.

    Args:
        to: the addresses.
        connectionId: id of the Airflow connection of type SMTP, which has the sender too.
    """

    to: str | Sequence[str]
    connectionId: str = "smtp_default"

    @property
    def addresses(self) -> list[Any]:
        return list(self.to) if isinstance(self.to, (list, tuple)) else [self.to]

    @property
    def settings(self) -> StreamConfig:
        return {
            "on_failure_mail_connection": self.connectionId,
            "on_failure_mail_to": ",".join(self.addresses),
        }

    def problems(self) -> Iterator[str]:
        yield from connection_problems(self.connectionId)
        for address in self.addresses or [None]:
            if not (isinstance(address, str) and MAIL_ADDRESS.fullmatch(address)):
                yield f"it has {address!a:.100}, which is no mail address"


def connection_problems(connection_id: str) -> Iterator[str]:
    if not (isinstance(connection_id, str) and CONNECTION_ID.fullmatch(connection_id)):
        yield f"it has {connection_id!a:.100}, which cannot be the id of a connection of Airflow"


@dataclass(frozen=True)
class RunSettings:
    """How the jobs of a platform, or of some of its streams, run: `runs` and `runsOf`.

    What is None is as it is without RunSettings, or as less exact RunSettings have it.

    Args:
        resources: what the job's container asks for and may take at most, as Kubernetes has it:
            `{"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}`.
        podTemplate: a PodTemplateSpec of Kubernetes as a dict, with what the job's pod is to have
            besides its own: a service account, pull secrets, node selectors, tolerations, labels,
            volumes, further containers. The job's container is the one named `base`; the image,
            the command and the variables of the job win.
        retries: how often a job is tried again whose pod failed, or that reported an error.
        retryDelay: how long Airflow waits before it tries again.
        timeout: how long the job's pod may be on its node; then Kubernetes ends it, and the task
            fails and says so.
        startTimeout: how long the pod may take until it runs, image and all; 15 minutes otherwise.
        dagRunTimeout: how long a run may take with all its tasks and tries.
        pool: the pool of Airflow from which the job takes its slots. It must exist:
            `yellow-dynamic pools` makes it.
        poolPerSource: take as pool the host of the stream's source, so that no source has more
            jobs at once than its pool has slots. A stream without such a host has the default pool.
        poolSlots: how many slots the job takes.
        priorityWeight: its priority among the tasks that wait for a slot; 1 otherwise.
        queue: the queue of Airflow's executor for the job's task.
        deferrable: let Airflow's triggerer wait for the job, so that it takes no slot and no
            process meanwhile. The triggerer must run, and be allowed to read and delete pods.
        spread: the number of minutes over which the streams of one schedule are spread. Each
            starts by its own number of minutes later, which its key decides: up to the end of the
            day, or of the hour where the schedule names several minutes of certain hours.
    """

    resources: Mapping[str, Mapping[str, str]] | None = None
    podTemplate: Mapping[str, Any] | None = None
    retries: int | None = None
    retryDelay: timedelta | None = None
    timeout: timedelta | None = None
    startTimeout: timedelta | None = None
    dagRunTimeout: timedelta | None = None
    pool: str | None = None
    poolPerSource: bool | None = None
    poolSlots: int | None = None
    priorityWeight: int | None = None
    queue: str | None = None
    deferrable: bool | None = None
    spread: int | None = None

    @property
    def given(self) -> dict[str, Any]:
        """The arguments that are given, by their names."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the arguments, each with its name."""
        given = self.given
        for name in sorted(DURATIONS & given.keys()):
            if not isinstance(given[name], timedelta):
                yield f"{name} is {given[name]!r:.100}, not a timedelta"
                del given[name]
        if not isinstance(given.pop("poolPerSource", False), bool):
            yield f"poolPerSource is {self.poolPerSource!r:.100}, not True or False"
        if self.pool is not None and self.poolPerSource:
            yield "it has both pool and poolPerSource"
        for name, value in given.items():
            if problem := value_problem(name, row_value(value), KEYS[RUN_KEYS[name]]):
                yield problem
            elif name == "resources":
                yield from resource_problems(value)
            elif name == "podTemplate":
                yield from template_problems(value)


#: The arguments of RunSettings that are times.
DURATIONS = {"retryDelay", "timeout", "startTimeout", "dagRunTimeout"}


class YellowDynamicDataPlatform(YellowDataPlatform):
    """A YellowDataPlatform whose DAGs Airflow builds from the rows of a table.

    Bootstrap ring 0 renders, beside all that the base renders, `{platform}_factory_dag.py` for
    Airflow's DAG folder, and with `factoryShards` above 1 `{platform}_factory_dag_2.py` and so on;
    Jobs and infrastructure DAG are its own. Ring 1 creates the table `{platform}_airflow_dsg` and
    its history; `renderGraph`, which `handleModelMerge` calls, writes the table's rows
    instead of rendering DAG files.

    Args:
        *args: the base class's arguments, unchanged.
        slackCredential: an API_TOKEN credential; each job's pod gets it as `{name}_TOKEN`.
        slackChannel: each job's pod gets it as DATASURFACE_SLACK_CHANNEL.
        allowEmpty: let a merge remove the last streams of the platform. Without it, a merge
            that would leave no stream where there were some is refused.
        maxRemoved: the share of the platform's streams, from 0 to 1, that one merge may remove;
            five may always go. More are refused.
        factoryShards: among how many factory files the streams are divided, 1 or more. One file
            per 1,000 streams keeps well within Airflow's time limits for a file.
        infrastructureSchedule: the cron expression or preset by which Airflow merges the model;
            None leaves that to whoever starts the infrastructure DAG, or the Job.
        assets: make each dataset an Asset of Airflow (2.11: Dataset),
            `datasurface://{platform}/{store}/{dataset}`, with an event when a job has
            committed a batch and has no more to do.
        onFailure: how Airflow tells of each run that failed, a `SlackWebhook` or an `EMail`; None
            is not at all.
        runs: how the jobs run.
        runsOf: how those of some streams run, by their keys or by patterns such as `Erp_*`. What
            the most exact one gives wins, argument by argument.
        **kwargs: the base class's keyword arguments, unchanged.
    """

    def __init__(
        self,
        *args: Any,
        slackCredential: Credential | None = None,
        slackChannel: str | None = None,
        allowEmpty: bool = False,
        maxRemoved: float = 0.25,
        factoryShards: int = 1,
        infrastructureSchedule: str | None = None,
        assets: bool = False,
        onFailure: SlackWebhook | EMail | None = None,
        runs: RunSettings | None = None,
        runsOf: Mapping[str, RunSettings] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.slackCredential = slackCredential
        self.slackChannel = slackChannel
        self.allowEmpty = allowEmpty
        self.maxRemoved = maxRemoved
        self.factoryShards = factoryShards
        self.infrastructureSchedule = infrastructureSchedule
        self.assets = assets
        self.onFailure = onFailure
        self.runs = RunSettings() if runs is None else runs
        self.runsOf = {} if runsOf is None else runsOf
        self._model_folder = model_folder()

    def lint(self, eco: Ecosystem, tree: ValidationTree) -> None:
        """Add the platform's problems to the tree: the base's, its own arguments', clashes."""
        super().lint(eco, tree)
        for problem in (*argument_problems(self), *GENERATION.provider_problems(self)):
            tree.addProblem(problem)
        if self.slackCredential is not None:
            self.getCredentialStore().lintCredential(self.slackCredential, tree)
            if self.slackCredential.credentialType is not CredentialType.API_TOKEN:
                tree.addRaw(
                    ObjectWrongType(self.slackCredential, CredentialType, ProblemSeverity.ERROR)
                )
        own_name = GENERATION.k8s_name(self.name)
        for other in GENERATION.platforms(eco):
            if other is not self and GENERATION.k8s_name(other.name) == own_name:
                tree.addProblem(
                    f"The platforms {self.name!r} and {other.name!r} would share the name "
                    f"{own_name!r} in Airflow and Kubernetes. Rename one."
                )

    def createGraphHandler(self, graph: PlatformPipelineGraph) -> YellowGraphHandler:
        """Return the handler that writes this platform's rows for the given pipeline graph."""
        return YellowDynamicGraphHandler(self, graph)

    def getAirflowDAGTable(self) -> Table:
        """Return the table that holds one row per stream.

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
                name that Kubernetes refuses, two credentials that would share a secret, or an
                argument of the platform that is not valid.
            sqlalchemy.exc.SQLAlchemyError: when the table cannot be created or widened; notes on
                it say on which platform, table and host, and what to grant.
        """
        if ringLevel == 1:
            # Before the base's own tables, so that a role without the right hears what to grant.
            create_tables(self, eco)
        files: dict[str, str] = super().generateBootstrapArtifacts(eco, ringLevel)
        return files | bootstrap_files([self], eco) if ringLevel == 0 else files


class YellowDynamicPlatformServiceProvider(YellowPlatformServiceProvider):
    """A YellowPlatformServiceProvider that bootstraps and merges dynamic platforms.

    DataSurface 0.0.56 and 0.0.57 let it do so for all of its platforms; other platforms of it are
    left to the base. On 0.0.35 to 0.0.38 it is the base class.
    """

    dataPlatforms: dict[str, Any]

    def generateBootstrapArtifacts(self, eco: Ecosystem, ringLevel: int) -> dict[str, str]:
        """Render the files of the provider and its platforms (ring 0) or create tables (ring 1).

        Returns:
            File texts by file name. Those of ring 0 are the base's and those of
            YellowDynamicDataPlatform; where all platforms are dynamic, our infrastructure DAG takes
            the place of the base's. Ring 1 has none: the base's would overwrite those of ring 0.

        Raises:
            ValueError: as for YellowDynamicDataPlatform.
            sqlalchemy.exc.SQLAlchemyError: as for YellowDynamicDataPlatform.
        """
        dynamic = dynamic_platforms(self)
        if ringLevel == 1:
            for dp in dynamic:
                create_tables(dp, eco)
        files: dict[str, str] = super().generateBootstrapArtifacts(eco, ringLevel)  # type: ignore[misc]
        if ringLevel == 1:
            return {}
        return files | bootstrap_files(dynamic, eco) if dynamic else files

    def mergeHandler(self, eco: Ecosystem, basePlatformDir: str) -> None:
        """Merge the model into each platform.

        Raises:
            MergeError: a platform has no dataset group, so that nothing was merged; or as for the
                handler of a dynamic platform.
        """
        roots = EcosystemPipelineGraph(eco).roots
        if idle := [name for name in self.dataPlatforms if name not in roots]:
            raise MergeError(
                f"Nothing of services provider {self.name!r} was merged: no dataset group is "
                f"assigned to platform {', '.join(map(repr, idle))}. Assign one in "
                "dsg_platform_mapping.json beside eco.py, or take the platform out of the model."
            )
        super().mergeHandler(eco, basePlatformDir)  # type: ignore[misc]

    def populateFactoryDAGConfigurations(self, eco: Ecosystem) -> None:
        """Write the rows from which the base's infrastructure DAG builds DAGs: none of ours."""
        every = self.dataPlatforms
        dynamic = {dp.name for dp in dynamic_platforms(self)}
        self.dataPlatforms = {name: dp for name, dp in every.items() if name not in dynamic}
        try:
            super().populateFactoryDAGConfigurations(eco)  # type: ignore[misc]
        finally:
            self.dataPlatforms = every


def model_folder() -> Path | None:
    """Return the folder of the model that is being loaded: DataSurface tells nobody."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        file = Path(frame.f_code.co_filename)
        if file.name == MODEL_FILE:
            return file.parent.absolute()
    return None


class YellowDynamicGraphHandler(YellowGraphHandler):
    """Fills the platform's table from a pipeline graph, with streams and transformers alike."""

    dp: YellowDynamicDataPlatform
    graph: PlatformPipelineGraph
    #: Whether the table's rows are those of the graph by now.
    rows_written = False

    def renderGraph(self, credStore: CredentialStore, issueTree: ValidationTree) -> dict[str, str]:
        """Write the platform's rows and return the base's files, without ingestion DAG files.

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
                f"{'are those of the model' if self.rows_written else 'were left as they are'}. "
                "Problems:" + "".join(f"\n- {problem}" for problem in problems)
            )
        return files

    def createAirflowDAGs(self, eco: Ecosystem, issueTree: ValidationTree) -> dict[str, str]:
        """Populate the table, where a base that has no table of its own renders DAG files."""
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
        configs = stream_configs(self.dp, self.graph, issueTree)
        rows = config_rows(self.dp, eco, configs, issueTree)
        if issueTree.hasErrors():
            return
        if self.dp.factoryShards < suitable_shards(len(rows)):
            advise_shards(self.dp, len(rows))
        metadata = audit_metadata(MERGE, **git_commit(self.dp._model_folder))
        with merge_store_transaction(self.dp, "write the rows of") as connection:
            set_audit_metadata(connection, metadata)
            write_rows(connection, self.dp, rows, issueTree)
            if not issueTree.hasErrors():
                clear_transformers_of_base(connection, self.dp)
        self.rows_written = not issueTree.hasErrors()

    def populateDataTransformerConfigurations(
        self, eco: Ecosystem, issueTree: ValidationTree
    ) -> None:
        """Do nothing: the transformers are among the rows that are written already."""

    def generateSecretsDocumentation(self, eco: Ecosystem, issueTree: ValidationTree) -> str:
        """Return the base's secrets documentation, and what the factory file needs besides."""
        return super().generateSecretsDocumentation(eco, issueTree) + secrets_of_the_factory(
            self.dp
        )


# --- Model to stream configs ------------------------------------------------------------------


def stream_configs(
    dp: YellowDynamicDataPlatform, graph: PlatformPipelineGraph, tree: ValidationTree
) -> list[StreamConfig]:
    """Return each stream's own config, without what all share: stores first, then transformers.

    A store with MULTI_DATASET consistency is one stream, `Store`; with SINGLE_DATASET each of its
    datasets is one, `Store_dataset`. A transformer is one, `Workspace_datatransformer`, and the
    ingestion of its output another, `Store_dt`. What the factory file does not run is a problem on
    the tree.
    """
    configs: list[StreamConfig] = []
    for store_name in sorted(graph.storesToIngest):
        store: Datastore = graph.eco.cache_getDatastoreOrThrow(store_name).datastore
        configs += store_configs(dp, store, tree.addSubTree(store))
    brings = {
        (config["store_name"], dataset): config["stream_key"]
        for config in configs
        for dataset in config["datasets"]
    }
    for _, workspace in sorted(graph.workspaces.items()):
        if (transformer := workspace.dataTransformer) is not None:
            about = f"transformer of workspace {workspace.name!r}"
            config = transformer_config(workspace, transformer, about, tree)
            if transformer.trigger is None:
                config |= starters_of(workspace, transformer, brings, about, tree)
            configs.append(config)
    starters = {key for config in configs for key in config.get("started_by", ())}
    for config in configs:
        if config["stream_key"] in starters:
            config["starts_others"] = True
        config |= run_config(dp, config, graph, tree)
    for pattern in dp.runsOf:
        if not any(is_meant(pattern, config["stream_key"]) for config in configs):
            tree.addProblem(
                f"runsOf of platform {dp.name!r} has {pattern!a:.300}, which is no stream of it."
            )
    return configs


def store_configs(
    dp: YellowDynamicDataPlatform, store: Datastore, tree: ValidationTree
) -> Iterator[StreamConfig]:
    """Yield the own config of each stream of one store."""
    if isinstance(store.cmd, DataTransformerOutput):
        yield {
            "stream_key": f"{store.name}_dt",
            "store_name": store.name,
            "single_dataset": False,
            "datasets": list(store.datasets),
            "ingestion_type": "transformer_output",
            "schedule_string": None,
            "started_by": [transformer_key_of(store.cmd.workSpaceName)],
        }
        return
    of_store = {"store_name": store.name, **ingestion_config(dp, store, tree)}
    if "ingestion_type" not in of_store:
        return
    consistency = getattr(store.cmd, "singleOrMultiDatasetIngestion", None)
    if consistency is IngestionConsistencyType.MULTI_DATASET:
        datasets = list(store.datasets)
        yield {**of_store, "stream_key": store.name, "single_dataset": False, "datasets": datasets}
    elif consistency is IngestionConsistencyType.SINGLE_DATASET:
        for dataset in store.datasets:
            yield {
                **of_store,
                "stream_key": f"{store.name}_{dataset}",
                "single_dataset": True,
                "datasets": [dataset],
                "dataset_name": dataset,
            }
    else:
        tree.addProblem(
            f"The ingestion of store {store.name!r} says neither SINGLE_DATASET nor MULTI_DATASET."
        )


def transformer_config(
    workspace: Workspace,
    transformer: DataTransformer,
    about: str,
    tree: ValidationTree,
) -> StreamConfig:
    """Return the own config of the stream that runs a workspace's transformer."""
    store, trigger, code = transformer.outputDatastore, transformer.trigger, transformer.code
    config: StreamConfig = {
        "stream_key": transformer_key_of(workspace.name),
        "store_name": store.name,
        "single_dataset": False,
        "datasets": list(store.datasets),
        "ingestion_type": TRANSFORMER,
        "workspace_name": workspace.name,
        "schedule_string": None if trigger is None else schedule_of(trigger, about, tree),
    }
    if not isinstance(code, PythonRepoCodeArtifact):
        tree.addProblem(
            f"The code of the {about} is a {type(code).__name__}, not a PythonRepoCodeArtifact."
        )
    elif code.repo.credential is not None:
        config |= credential_config("code", code.repo.credential)
    return config


def starters_of(
    workspace: Workspace,
    transformer: DataTransformer,
    brings: dict[tuple[str, str], str],
    about: str,
    tree: ValidationTree,
) -> StreamConfig:
    """Return which streams start the transformer of a workspace: those that bring what it reads.

    Args:
        workspace: the workspace.
        transformer: its transformer.
        brings: the key of the stream that brings a dataset, by the names of store and dataset.
        about: what to call the transformer.
        tree: takes the datasets that no stream brings.
    """
    started_by: dict[str, None] = {}
    # Of what it makes itself, it reads what there is.
    own = transformer.outputDatastore.name
    sinks = (sink for group in workspace.dsgs.values() for sink in group.sinks.values())
    for sink in (sink for sink in sinks if sink.storeName != own):
        if key := brings.get((sink.storeName, sink.datasetName)):
            started_by[key] = None
        else:
            tree.addProblem(
                f"The {about} waits for dataset {sink.datasetName!r} of store {sink.storeName!r}, "
                "which no stream of its platform brings. Give the transformer a CronTrigger, or "
                "assign that dataset group to the platform too."
            )
    return {"started_by": list(started_by)} if started_by else {}


def ingestion_config(
    dp: YellowDynamicDataPlatform, store: Datastore, tree: ValidationTree
) -> StreamConfig:
    """Return the kind, the schedule and the source's credential of a store's ingestion."""
    cmd = store.cmd
    trigger = getattr(cmd, "stepTrigger", None)
    config: StreamConfig = {"schedule_string": DEFAULT_SCHEDULE}
    if trigger is not None:
        config["schedule_string"] = schedule_of(trigger, f"store {store.name!r}", tree)
    kinds = (name for ingestion, name in GENERATION.kinds.items() if isinstance(cmd, ingestion))
    if kind := next(kinds, None):
        config["ingestion_type"] = kind
    else:
        what = "no ingestion" if cmd is None else f"the ingestion {type(cmd).__name__}"
        tree.addProblem(
            f"The store {store.name!r} has {what}; platform {dp.name!r} runs "
            f"{' and '.join(ingestion.__name__ for ingestion in GENERATION.kinds)}."
        )
    if kind == "kafka":
        config |= credential_config("kafka_connect", services_provider(dp).connectCredentials)
    elif kind and (credential := getattr(cmd, "credential", None)) is not None:
        config |= credential_config("source", credential)
    return config


def schedule_of(trigger: StepTrigger, about: str, tree: ValidationTree) -> str | None:
    """Return a cron expression or preset, or None for what others trigger."""
    if isinstance(trigger, CronTrigger):
        return str(trigger.cron)
    if not isinstance(trigger, ExternallyTriggered):
        tree.addProblem(
            f"The trigger of {about} is a {type(trigger).__name__}; it must be a CronTrigger or "
            "an ExternallyTriggered."
        )
    return None


def run_config(
    dp: YellowDynamicDataPlatform,
    config: StreamConfig,
    graph: PlatformPipelineGraph,
    tree: ValidationTree,
) -> StreamConfig:
    """Return what RunSettings make of a stream's config: its keys, and a schedule that is spread.

    What DataSurface's own parts of the model say of its job holds where RunSettings do not.

    Args:
        dp: the platform.
        config: the stream's own config so far.
        graph: has its store.
        tree: takes settings that contradict each other.
    """
    hints = GENERATION.hints(services_provider(dp), graph, config)
    given = hints | run_settings_of(dp, config["stream_key"], tree)
    if given.pop("poolPerSource", False) and config["ingestion_type"] in WITH_SOURCE:
        store = graph.eco.cache_getDatastoreOrThrow(config["store_name"]).datastore
        given |= {"pool": host} if (host := source_host(store)) else {}
    minutes = given.pop("spread", 0)
    if "podTemplate" in given:
        given["podTemplate"] = with_job_container(given["podTemplate"])
    own = {RUN_KEYS[name]: row_value(value) for name, value in given.items()}
    schedule = config.get("schedule_string")
    if schedule and minutes and (offset := offset_of(config["stream_key"], schedule, minutes)):
        own["spread_minutes"] = offset
        own["schedule_string"] = moved_schedule(schedule, offset)
    return own


#: The kinds of streams that read a source of their own.
WITH_SOURCE = frozenset(GENERATION.kinds.values())


def run_settings_of(
    dp: YellowDynamicDataPlatform, key: str, tree: ValidationTree
) -> dict[str, Any]:
    """Return the arguments of RunSettings that hold for a stream, the most exact of each."""

    def exactness(pattern: str) -> tuple[bool, int]:
        return pattern == key, sum(character not in "*?[]" for character in pattern)

    patterns = sorted((each for each in dp.runsOf if is_meant(each, key)), key=exactness)
    for one, other in itertools.pairwise(patterns):
        both = dp.runsOf[one].given, dp.runsOf[other].given
        if exactness(one) == exactness(other) and any(
            both[0][name] != both[1][name] for name in both[0].keys() & both[1].keys()
        ):
            tree.addProblem(
                f"runsOf of platform {dp.name!r} has {one!a:.300} and {other!a:.300}, which are "
                f"as exact as each other and contradict each other for stream {key!a:.300}. Give "
                "it an entry of its own."
            )
    given: dict[str, Any] = {}
    for settings in (dp.runs, *(dp.runsOf[pattern] for pattern in patterns)):
        if not POOLS.isdisjoint(settings.given):
            given = {name: value for name, value in given.items() if name not in POOLS}
        given |= settings.given
    return given


#: The arguments of RunSettings of which one takes the place of the other.
POOLS = {"pool", "poolPerSource"}


def is_meant(pattern: str, key: str) -> bool:
    return pattern == key or fnmatchcase(key, pattern)


def row_value(value: Any) -> Any:
    """Return the value of an argument of RunSettings as rows have it, times in seconds."""
    return round(value.total_seconds()) if isinstance(value, timedelta) else value


def source_host(store: Datastore) -> str | None:
    """Return the host that a store is read from, or None where its container has none."""
    container = getattr(store.cmd, "dataContainer", None)
    brokers = getattr(getattr(container, "bootstrapServers", None), "pairs", [None])
    address = getattr(container, "hostPortPair", brokers[0])
    return None if address is None else str(address.hostName)


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
        "namespace_name": GENERATION.namespace(psp),
        "platform_name": GENERATION.k8s_name(dp.name),
        "original_platform_name": dp.name,
        "postgres_hostname": psp.mergeStore.hostPortPair.hostName,
        "postgres_database": psp.mergeStore.databaseName,
        "postgres_port": psp.mergeStore.hostPortPair.port,
        "datasurface_docker_image": psp.datasurfaceDockerImage,
        "git_repo_url": f"https://github.com/{repo.repositoryName}",
        "git_repo_branch": repo.branchName,
        **credential_config("postgres", GENERATION.merge_credential(psp)),
        **credential_config("git", psp.gitCredential),
        **GENERATION.settings(psp),
    }
    if dp.slackCredential is not None:
        config |= credential_config("slack", dp.slackCredential)
    # What a services provider leaves open has no key.
    return {key: value for key, value in config.items() if value is not None}


def credential_config(role: str, credential: Credential) -> StreamConfig:
    """Return the name of the credential's Kubernetes secret, and its own name where it differs.

    The job reads the environment variable that carries the credential's own name; Kubernetes
    cannot hold that name for its secret where it has capitals or underscores.
    """
    secret = GENERATION.k8s_name(credential.name)
    config = {f"{role}_credential_secret_name": secret}
    if credential.name != secret:
        config[f"{role}_credential_name"] = credential.name
    return config


# --- Stream configs to rows -------------------------------------------------------------------


#: Sorts the keys, so that equal configs are equal text.
ENCODER = json.JSONEncoder(sort_keys=True)


def config_rows(
    dp: YellowDynamicDataPlatform,
    eco: Ecosystem,
    configs: list[StreamConfig],
    tree: ValidationTree,
) -> dict[str, str]:
    """Return each stream's config_json by its key.

    What Airflow cannot run of a stream, and what Kubernetes refuses of the platform, is a problem
    on the tree.
    """
    try:
        common, settings = common_config(dp, eco), platform_settings(dp, eco)
    except ValueError as error:
        tree.addProblem(str(error))
        return {}
    rows: dict[str, str] = {}
    credentials = credentials_of(settings)
    said: set[tuple[str, str]] = set()
    for config in configs:
        key, store = config["stream_key"], config["store_name"]
        if key in rows:
            tree.addProblem(
                f"Two streams of platform {dp.name!r} have the key {key!r}; one is of store "
                f"{store!r}. Rename a store or a dataset."
            )
        rows[key] = ENCODER.encode({**common, **config})
        for problem in stream_problems(key, config, rows[key], settings):
            # What is wrong with a store, or with a credential, is wrong with many streams.
            about = "" if problem.startswith(OF_CREDENTIAL) else store
            if (about, problem) not in said:
                tree.addProblem(f"Stream {key!r} of platform {dp.name!r}: {problem}.")
                said.add((about, problem))
        credentials |= credentials_of(with_credential_names(config))
    platform_problems = [
        *named_problems(settings), *shared_secrets(credentials), *shared_tables(dp, configs)
    ]  # fmt: skip
    for problem in platform_problems:
        tree.addProblem(f"Platform {dp.name!r}: {problem}.")
    return rows


def shared_tables(dp: YellowDynamicDataPlatform, configs: list[StreamConfig]) -> Iterator[str]:
    """Yield which datasets would be merged into one table, whose name is in small letters."""
    datasets: dict[str, str] = {}
    for config in configs:
        # A transformer merges nothing itself.
        if config["ingestion_type"] == TRANSFORMER:
            continue
        for dataset in config["datasets"]:
            name = f"{config['store_name']}_{dataset}_merge"
            table = GENERATION.table_name(services_provider(dp), dp.getTableForPlatform(name))
            own = f"{config['store_name']}.{dataset}"
            if datasets.setdefault(table, own) != own:
                yield (
                    f"the datasets {datasets[table]!a:.300} and {own!a:.300} would share the table "
                    f"{table!a:.300} of the merge store; rename one"
                )


def stream_problems(
    key: str, config: StreamConfig, config_json: str, settings: StreamConfig
) -> Iterator[str]:
    """Yield why the factory file would refuse the row of a stream.

    Args:
        key: the stream's.
        config: the stream's own config.
        config_json: the text of its row.
        settings: those of its platform, whose own problems are not the stream's.
    """
    if problem := size_problem(config_json):
        yield problem
    whole = overlaid(settings, config)
    yield from problems_across_keys(key, ACTIVE, whole, settings["platform_name"])
    yield from named_problems(with_credential_names(config))


#: Begins what is said of a credential.
OF_CREDENTIAL = "the credential "


def named_problems(settings: StreamConfig) -> Iterator[str]:
    """Yield the problems of values; those of a secret's name with that of its credential."""
    for key, value in settings.items():
        for problem in value_problems({key: value}):
            name_key = CREDENTIAL_NAMES.get(key, key)
            if name_key in CREDENTIAL_NAMES.values():
                name = settings.get(name_key)
                yield f"{OF_CREDENTIAL}{name!a:.300} cannot be used: {problem}"
            else:
                yield problem


def shared_secrets(credentials: set[tuple[str, str]]) -> Iterator[str]:
    """Yield which of `credentials_of` some settings have different names and the same secret."""
    names: dict[str, str] = {}
    for name, secret in sorted(credentials):
        if names.setdefault(secret, name) != name:
            yield (
                f"the credentials {names[secret]!a:.300} and {name!a:.300} would share the "
                f"Kubernetes secret {secret!a:.300}; rename one"
            )


def credentials_of(settings: StreamConfig) -> set[tuple[str, str]]:
    """Return the name and the secret's name of each credential of some settings."""
    return {
        (str(settings[name_key]), str(settings[secret_key]))
        for secret_key, name_key in CREDENTIAL_NAMES.items()
        if secret_key in settings
    }


def write_rows(
    connection: Connection,
    dp: YellowDynamicDataPlatform,
    rows: dict[str, str],
    tree: ValidationTree,
) -> None:
    """Make the table hold exactly these rows, or put the reason why not on the tree.

    The lock keeps other merges out and lets the factory files read.
    """
    table = dp.getAirflowDAGTable()
    lock_table(connection, table)
    _, population, problems = compare_with_table(connection, dp, rows)
    if planned := os.environ.get(PLAN_FILE):
        problems += plan_problems(connection, Path(planned), dp.name, table.name, rows)
    for problem in problems:
        tree.addProblem(problem)
    if tree.hasErrors():
        return
    write_difference(connection, dp.name, table, rows, population)
    if not is_readable(connection, table.name):
        log.warning("%s", no_history_message(table.name))
    log.info("Streams of platform %r in table %r: %s.", dp.name, table.name, population)


def clear_transformers_of_base(connection: Connection, dp: YellowDynamicDataPlatform) -> None:
    """Empty DataSurface's own table of transformers: its factory file would define ours again."""
    if not hasattr(dp, "getDataTransformerDAGTable"):
        return
    table = dp.getDataTransformerDAGTable()
    quoted = quoted_name(connection, table)
    # A role without the right has never filled it.
    may = sqlalchemy.text("SELECT has_table_privilege(to_regclass(:name), 'DELETE')")
    if connection.scalar(may, {"name": quoted}):
        connection.execute(table.delete())


def compare_with_table(
    connection: Connection, dp: YellowDynamicDataPlatform, rows: dict[str, str]
) -> tuple[dict[str, Any], Population, list[str]]:
    """Return the table's rows by stream key, what a merge of these rows would change, and why not.

    Nothing is written.
    """
    table = dp.getAirflowDAGTable()
    old = find_rows(connection, table)
    population = compare_rows({key: row[1] for key, row in old.items()}, rows)
    guards = Guards(dp.allowEmpty, dp.maxRemoved)
    problems = [
        *guards.problems(dp.name, table.name, population),
        *size_problems(connection, table, rows),
    ]
    return old, population, problems


# --- The merge store --------------------------------------------------------------------------


@contextmanager
def merge_store_transaction(dp: YellowDynamicDataPlatform, action: str) -> Iterator[Connection]:
    """Yield a connection in a transaction that writes; see `table_transaction`."""
    psp = services_provider(dp)
    store = psp.mergeStore
    login = dp.getCredentialStore().getAsUserPassword(GENERATION.merge_credential(psp))
    url = store_url(login, store.hostPortPair.hostName, store.hostPortPair.port, store.databaseName)
    with table_transaction(url, dp.name, dp.getPhysDAGTableName(), action) as connection:
        yield connection


def create_tables(dp: YellowDynamicDataPlatform, eco: Ecosystem) -> None:
    """Create or upgrade the platform's tables, in one transaction.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the database refuses; its notes say what to grant.
    """
    with merge_store_transaction(dp, "create or widen") as connection:
        create_config_table(connection, dp.getAirflowDAGTable())
        create_history(connection, dp.getAirflowDAGTable())
        create_batch_tables(connection, dp, eco)


def create_config_table(connection: Connection, table: Table) -> None:
    """Create the table, or widen the VARCHAR(2048) that earlier releases created, in place."""
    if not sqlalchemy.inspect(connection).has_table(table.name):
        create_in_own_schema(connection, table)
    elif config_limit(connection, table) is not None:
        quoted = quoted_name(connection, table)
        execute_locking(connection, f"ALTER TABLE {quoted} ALTER COLUMN config_json TYPE TEXT")
        log.info("Widened column config_json of table %r to TEXT.", table.name)
    write_comment(connection, table)


def create_batch_tables(
    connection: Connection, dp: YellowDynamicDataPlatform, eco: Ecosystem
) -> None:
    """Create DataSurface's tables of batches, as its first job would: the reader's role reads them.

    Airflow's role can be given the right to before any job has run.
    """
    jobs = job_utilities(dp, eco)
    for table in (jobs.getBatchCounterTable(), jobs.getBatchMetricsTable()):
        table.create(connection, checkfirst=True)


def job_utilities(dp: YellowDynamicDataPlatform, eco: Ecosystem) -> JobUtilities:
    """Return what DataSurface's jobs know of the platform's tables."""
    return JobUtilities(eco, dp.getCredentialStore(), dp)


def create_in_own_schema(connection: Connection, table: Table) -> None:
    """Create the table in the first schema of the role's search_path."""
    query = sqlalchemy.text(SCHEMAS.format(name=":table"))
    others = [row[0] for row in connection.execute(query, {"table": table.name})]
    table.create(connection)
    schema = connection.scalar(sqlalchemy.text("SELECT current_schema()"))
    log.info("Created table %r in schema %r.", table.name, schema)
    if others:
        log.warning(
            "The schemas %s have a table %r too, which this role's search_path does not name. If "
            "one of them is this platform's, drop the new one, which is empty, and set the "
            "search_path of the role.",
            ", ".join(others),
            table.name,
        )


# --- What is rendered -------------------------------------------------------------------------


def bootstrap_files(platforms: list[YellowDynamicDataPlatform], eco: Ecosystem) -> dict[str, str]:
    """Return the texts that ring 0 renders for platforms that are bootstrapped together, by name.

    Raises:
        ValueError: as `factory_files` and `deployment_files` do.
    """
    files: dict[str, str] = {}
    for dp in platforms:
        files |= factory_files(dp, eco)
        advise_shards(dp, stream_count(dp, eco))
    return files | deployment_files(platforms, eco)


def factory_files(dp: YellowDynamicDataPlatform, eco: Ecosystem) -> dict[str, str]:
    """Return the texts of the platform's factory files by name: the same text in each.

    A file knows by its name which one it is, and the first one says how many there are, so that
    all of them go over to another number at the moment when that one is copied.

    Raises:
        ValueError: when the model's repository is not of form owner/name, or an argument of the
            platform is not valid.
    """
    for problem in argument_problems(dp):
        raise ValueError(problem)
    text = factory_text(dp, eco)
    name = GENERATION.k8s_name(dp.name)
    numbers = range(1, dp.factoryShards + 1)
    return {f"{factory_name_of(name, number)}.py": text for number in numbers}


def argument_problems(dp: YellowDynamicDataPlatform) -> Iterator[str]:
    """Yield what is wrong with the platform's own arguments."""
    shards, schedule = dp.factoryShards, dp.infrastructureSchedule
    if not isinstance(shards, int) or isinstance(shards, bool) or not 1 <= shards <= MOST_SHARDS:
        yield (
            f"factoryShards of platform {dp.name!r} is {shards!r:.100}; it must be a whole number "
            f"from 1 to {MOST_SHARDS}."
        )
    share = dp.maxRemoved
    if not isinstance(share, (int, float)) or isinstance(share, bool) or not 0 <= share <= 1:
        yield (
            f"maxRemoved of platform {dp.name!r} is {share!r:.100}; it must be a number from 0 to "
            "1, the share of its streams that a merge may remove."
        )
    if not isinstance(dp.assets, bool):
        yield f"assets of platform {dp.name!r} is {dp.assets!r:.100}; it must be True or False."
    told = dp.onFailure
    if told is not None and not isinstance(told, (SlackWebhook, EMail)):
        yield (
            f"onFailure of platform {dp.name!r} is {told!r:.100}; it must be a SlackWebhook or an "
            "EMail."
        )
    for wrong in told.problems() if isinstance(told, (SlackWebhook, EMail)) else ():
        yield f"onFailure of platform {dp.name!r}: {wrong}."
    yield from run_problems(dp)
    rule = KEYS["schedule_string"]
    if problem := value_problem("infrastructureSchedule", schedule, rule):
        yield f"Platform {dp.name!r}: {problem}."


def run_problems(dp: YellowDynamicDataPlatform) -> Iterator[str]:
    """Yield what is wrong with the platform's RunSettings."""
    if not isinstance(dp.runsOf, Mapping) or not all(isinstance(key, str) for key in dp.runsOf):
        yield f"runsOf of platform {dp.name!r} is {dp.runsOf!r:.100}; it must be a dict by text."
    else:
        given = {f"runsOf[{pattern!a:.300}]": runs for pattern, runs in dp.runsOf.items()}
        for name, runs in {"runs": dp.runs, **given}.items():
            if not isinstance(runs, RunSettings):
                yield f"{name} of platform {dp.name!r} is {runs!r:.100}; it must be a RunSettings."
                continue
            for wrong in runs.problems():
                yield f"{name} of platform {dp.name!r}: {wrong}."


def stream_count(dp: YellowDynamicDataPlatform, eco: Ecosystem) -> int | None:
    """Return how many streams the model gives the platform, or None where it is not known yet."""
    graph = EcosystemPipelineGraph(eco).roots.get(dp.name)
    if graph is None:
        return None
    return len(stream_configs(dp, graph, ValidationTree(eco)))


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


def platform_settings(dp: YellowDynamicDataPlatform, eco: Ecosystem) -> StreamConfig:
    """Return the settings that the factory file carries: the streams' common ones and its own."""
    settings = {
        **with_credential_names(common_config(dp, eco)),
        "config_table": dp.getPhysDAGTableName(),
        **batch_tables(dp, eco),
        "ecosystem_k8s_name": GENERATION.k8s_name(eco.name),
        "factory_shards": dp.factoryShards,
        "plugin_version": __version__,
        **GENERATION.of_factory(services_provider(dp)),
    }
    if dp.slackChannel is not None:
        settings["slack_channel_name"] = dp.slackChannel
    if dp.assets:
        settings["assets"] = True
    return settings | (dp.onFailure.settings if dp.onFailure else {})


def batch_tables(dp: YellowDynamicDataPlatform, eco: Ecosystem) -> dict[str, str]:
    """Return the names of the tables in which DataSurface's jobs keep the platform's batches."""
    jobs = job_utilities(dp, eco)
    return {
        "batch_counter_table": jobs.getPhysBatchCounterTableName(),
        "batch_metrics_table": jobs.getPhysBatchMetricsTableName(),
    }


def secrets_of_the_factory(dp: YellowDynamicDataPlatform) -> str:
    """Return the section on what Airflow itself needs to read the table, in Markdown."""
    psp = services_provider(dp)
    config = {
        **credential_config("postgres", GENERATION.merge_credential(psp)),
        **GENERATION.settings(psp),
    }
    credential = with_credential_names(config)["postgres_credential_name"]
    namespace, start = GENERATION.namespace(psp), GENERATION.k8s_name(dp.name)
    of_jobs = secret_keys("postgres", config)
    of_airflow = [f"{credential}_{part}" for part in of_jobs]
    keys = list(dict.fromkeys([*of_jobs.values(), *of_airflow]))
    reads = (
        f"They may be the login of the role in `{start}-airflow-reader.sql`, which only reads. The "
        "jobs' pods use the other two keys. Create the secret with all four:\n\n"
        if len(keys) == len([*of_jobs, *of_airflow])
        else "The jobs' pods use the same two keys. For the role in "
        f"`{start}-airflow-reader.sql`, which only reads, name a secret of its own in those files. "
        "Create the secret:\n\n"
    )
    text = (
        "\n## Airflow's access to the configuration table\n\n"
        f"The factory file of {dp.name} reads the table `{dp.getPhysDAGTableName()}`. Airflow's "
        f"scheduler, DAG processor and workers need `{credential}_USER` and "
        f"`{credential}_PASSWORD` in their environment; ring 0 wrote what hands them over, as "
        f"`{start}-airflow-values.yaml` for Airflow's Helm chart and as "
        f"`{start}-airflow-patch.yaml`. {reads}"
        + kubectl_command(config["postgres_credential_secret_name"], namespace, keys)
    )
    if dp.slackCredential is not None:
        slack = credential_config("slack", dp.slackCredential)
        keys = list(secret_keys("slack", slack).values())
        secret = slack["slack_credential_secret_name"]
        text += "\n## Slack\n\n" + kubectl_command(secret, namespace, keys)
    return text


def kubectl_command(secret: str, namespace: str, keys: list[str]) -> str:
    literals = " \\\n".join(f"  --from-literal={key}=<value>" for key in keys)
    return (
        "```bash\n"
        f"kubectl create secret generic {secret} --namespace {namespace} \\\n{literals}\n"
        "```\n"
    )


# --- What brings it onto a cluster ------------------------------------------------------------


def deployment_files(platforms: list[YellowDynamicDataPlatform], eco: Ecosystem) -> dict[str, str]:
    """Return what Kubernetes and Airflow need, by file name.

    These are, for each platform, values for Airflow's Helm chart, the same as a plain patch, and
    the role that reads the table; and for all of them Jobs that run bootstrap, the merge and the
    reconciliation of views in the cluster, and a DAG that does the latter two. The names with
    underscores are those by which DataSurface writes such files itself, which these replace: its
    Jobs succeed where their work failed.

    Args:
        platforms: those that are bootstrapped together, at least one.
        eco: their model.

    Raises:
        ValueError: when Kubernetes would refuse a name of the model, or two credentials would
            share a secret.
    """
    settings = [deployable_settings(dp, eco) for dp in platforms]
    unit = GENERATION.unit(platforms[0])
    schedules = (dp.infrastructureSchedule for dp in platforms)
    files = deployment.of_unit(settings, unit, next(filter(None, schedules), None))
    airflow = GENERATION.k8s_name(services_provider(platforms[0]).airflowName)
    for of_platform in settings:
        files |= deployment.of_platform(of_platform, unit, airflow)
    return files


def deployable_settings(dp: YellowDynamicDataPlatform, eco: Ecosystem) -> StreamConfig:
    """Return the settings of a platform's factory file, or raise as `deployment_files` does."""
    settings = platform_settings(dp, eco)
    named = {
        key: value
        for key, value in settings.items()
        if key == "namespace_name" or key in {*CREDENTIAL_NAMES, *CREDENTIAL_NAMES.values()}
    }
    for problem in [*named_problems(named), *shared_secrets(credentials_of(settings))]:
        raise ValueError(f"Platform {dp.name!a:.300} cannot be put on a cluster: {problem}.")
    return settings
