"""The plugin: a Yellow platform whose DAGs are rows of a table instead of files.

Here are the classes that DataSurface calls: the platform, its graph handler and the services
provider. The data flows one way: the ecosystem model gives stream configs (`stream_configs.py`),
these become the rows of `{platform}_airflow_dsg` (`population.py`), and the factory file in
Airflow's DAG folder turns each row into a DAG.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import Table
from sqlalchemy.engine import Connection

from yellow_dynamic.releases import LACKING, unsupported_release

try:
    from datasurface.md import (
        Credential,
        CredentialStore,
        Ecosystem,
        EcosystemPipelineGraph,
        PlatformPipelineGraph,
        PostgresDatabase,
        ValidationTree,
    )
    from datasurface.md.credential import CredentialType
    from datasurface.md.lint import ObjectWrongType, ProblemSeverity
    from datasurface.platforms.yellow import YellowDataPlatform, YellowPlatformServiceProvider
    from datasurface.platforms.yellow.yellow_dp import YellowGraphHandler
except ImportError as error:
    if (error.name or "").partition(".")[0] != "datasurface":
        raise
    if not isinstance(error, ModuleNotFoundError):
        # Such as 0.0.35, which has no services provider.
        raise unsupported_release(LACKING.format(error)) from None
    raise ImportError(
        "yellow_dynamic is a plugin of DataSurface, and the package 'datasurface' with the Yellow "
        f"platform is not installed here ({error}). Install DataSurface 0.0.36 to 0.0.38, 0.0.56 "
        "or 0.0.57 as your vendor ships it; its container image has it. To try yellow_dynamic on "
        "one machine without it, install the stand-in from its source: pip install ./embedded"
    ) from None

from yellow_dynamic.datasurface_adapter import DATASURFACE
from yellow_dynamic.deployment import (
    advise_shards,
    cluster_files,
    render_factory_files,
    suitable_shards,
    warn_datasurface_image,
)
from yellow_dynamic.factory.keys import KEYS
from yellow_dynamic.factory.rules import value_problem
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
    config_table,
    create_config_table,
    quoted_name,
    store_url,
    table_transaction,
)
from yellow_dynamic.notifications import EMail, SlackWebhook
from yellow_dynamic.platform_settings import (
    deployable_settings,
    job_utilities,
    platform_settings,
    secrets_settings,
)
from yellow_dynamic.pods import security_context
from yellow_dynamic.population import (
    MAX_REMOVED,
    PLAN_FILE,
    Guards,
    MergeError,
    Population,
    StoredRow,
    compare_rows,
    find_rows,
    lock_table,
    plan_problems,
    size_problems,
    write_difference,
)
from yellow_dynamic.rendering import render_factory
from yellow_dynamic.run_settings import RunSettings
from yellow_dynamic.secrets_page import secrets_page
from yellow_dynamic.stream_configs import config_rows, stream_configs

log = logging.getLogger(__name__)

MOST_SHARDS = 1_000
#: The name under which DataSurface's loader imports a model's `eco.py`.
MODEL_MODULE = "eco"


try:
    #: The folder of the process when a model imports the plugin; the model may change it later.
    STARTED_IN = Path.cwd()
except OSError:
    # It is removed, so nothing is found by a path that is relative to it.
    STARTED_IN = Path()


# --- The platform -----------------------------------------------------------------------------


class YellowDynamicDataPlatform(YellowDataPlatform):
    """A YellowDataPlatform whose DAGs Airflow builds from the rows of a table.

    Bootstrap ring 0 renders, in addition to all that the base renders, the factory file
    `{platform}_factory_dag.py` for Airflow's DAG folder, and with `factoryShards` above 1 also
    `{platform}_factory_dag_2.py` and so on. Its Jobs and infrastructure DAG replace the base's.
    Ring 1 creates the table `{platform}_airflow_dsg` and its history. `renderGraph`, which
    `handleModelMerge` calls, writes the rows of the table instead of rendering DAG files.

    Args:
        *args: the base class's arguments, unchanged.
        slackCredential: an API_TOKEN credential; each job's pod gets it as `{name}_TOKEN`.
        slackChannel: each job's pod gets it as DATASURFACE_SLACK_CHANNEL.
        allowEmpty: let a merge remove the last streams of the platform. By default, a merge that
            would remove all streams is refused.
        maxRemoved: the share of the platform's streams, from 0 to 1, that one merge may remove. A
            merge that would remove more is refused; it may always remove five.
        factoryShards: the number of factory files that the streams are divided among, 1 or more.
            One file per 1,000 streams keeps well within Airflow's time limits for a file; where
            Airflow's API server watches the table, changes arrive sooner with one per 100.
        factoryFromPackage: write short DAG files that import their code from the package
            yellow-dynamic, which Airflow's image must have in the same minor version. By default,
            a DAG file holds all its code, and Airflow's image needs nothing of yellow-dynamic.
        infrastructureSchedule: the cron expression or preset on which Airflow merges the model.
            If None, trigger the infrastructure DAG, or start the Job, yourself.
        pausedAtCreation: whether Airflow pauses the DAGs of new streams; DataSurface's own DAGs say
            False. If None, Airflow's `[core] dags_are_paused_at_creation` decides.
        assets: make each dataset an Airflow Asset (2.11: Dataset),
            `datasurface://{platform}/{store}/{dataset}`, with an event when a job has committed
            a batch and has no more to do.
        onFailure: how Airflow notifies users of each failed DAG run, a `SlackWebhook` or an
            `EMail`; None for no notification.
        runs: how the jobs run.
        runsOf: how the jobs of some streams run, by stream key or by pattern such as `Erp_*`. For
            each argument, the most specific RunSettings win.
        **kwargs: the base class's keyword arguments, unchanged.
    """

    def __init__(
        self,
        *args: Any,
        slackCredential: Credential | None = None,
        slackChannel: str | None = None,
        allowEmpty: bool = False,
        maxRemoved: float = MAX_REMOVED,
        factoryShards: int = 1,
        factoryFromPackage: bool = False,
        infrastructureSchedule: str | None = None,
        pausedAtCreation: bool | None = None,
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
        self.factoryFromPackage = factoryFromPackage
        self.infrastructureSchedule = infrastructureSchedule
        self.pausedAtCreation = pausedAtCreation
        self.assets = assets
        self.onFailure = onFailure
        self.runs = RunSettings() if runs is None else runs
        self.runsOf = {} if runsOf is None else runsOf
        self._model_folder = model_folder()

    def lint(self, eco: Ecosystem, tree: ValidationTree) -> None:
        """Add the platform's problems to the tree: the base's, its own arguments', clashes."""
        super().lint(eco, tree)
        for problem in (
            *validate_arguments(self),
            *validate_provider(self),
            *validate_logins(self),
        ):
            tree.addProblem(problem)
        if self.slackCredential is not None:
            self.getCredentialStore().lintCredential(self.slackCredential, tree)
            if self.slackCredential.credentialType is not CredentialType.API_TOKEN:
                tree.addRaw(
                    ObjectWrongType(self.slackCredential, CredentialType, ProblemSeverity.ERROR)
                )
        own_name = DATASURFACE.k8s_name(self.name)
        for other in DATASURFACE.platforms(eco):
            if other is not self and DATASURFACE.k8s_name(other.name) == own_name:
                tree.addProblem(
                    f"The platforms {self.name!r} and {other.name!r} would share the name "
                    f"{own_name!r} in Airflow and Kubernetes. Rename one."
                )

    def createGraphHandler(self, graph: PlatformPipelineGraph) -> YellowGraphHandler:
        """Return the handler that writes this platform's rows for the given pipeline graph."""
        return YellowDynamicGraphHandler(self, graph)

    def getAirflowDAGTable(self) -> Table:
        """Return the table that holds one row per stream; timestamps are UTC.

        `config_json` is TEXT: DataSurface's VARCHAR(2048) does not hold a store of about 100
        datasets.
        """
        return config_table(self.getPhysDAGTableName())

    def generateBootstrapArtifacts(self, eco: Ecosystem, ringLevel: int) -> dict[str, str]:
        """Render the platform's files (ring 0) or create its tables (ring 1).

        Returns:
            File texts by file name: all that the base renders and, on ring 0, the factory files and
            the files for a cluster (see deployment_files).

        Raises:
            ValueError: the base does not know the ring, the repository is not of form owner/name,
                Kubernetes refuses a name, two credentials would share a Secret, or an argument of
                the platform is not valid.
            sqlalchemy.exc.SQLAlchemyError: the table cannot be created or widened; its notes name
                the platform, table and host, and what to grant.
        """
        if ringLevel == 1:
            # Before the base's own tables, so that the error of a role without the privilege says
            # what to grant.
            create_tables(self, eco)
        files: dict[str, str] = super().generateBootstrapArtifacts(eco, ringLevel)
        return files | bootstrap_files([self], eco) if ringLevel == 0 else files


def model_folder() -> Path | None:
    """Return the folder of the model that is being loaded, or None outside of a load.

    DataSurface's loader imports `eco.py` as the module `eco`, and tells the platform nothing.
    """
    file = getattr(sys.modules.get(MODEL_MODULE), "__file__", None)
    return Path(file).parent.absolute() if file else None


# --- What a model may give the platform -------------------------------------------------------


def validate_arguments(dp: YellowDynamicDataPlatform) -> Iterator[str]:
    """Yield the problems of the platform's own arguments."""
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
    for name in ("assets", "factoryFromPackage"):
        if not isinstance(value := getattr(dp, name), bool):
            yield f"{name} of platform {dp.name!r} is {value!r:.100}; it must be True or False."
    if not isinstance(dp.pausedAtCreation, (bool, type(None))):
        yield (
            f"pausedAtCreation of platform {dp.name!r} is {dp.pausedAtCreation!r:.100}; it must be "
            "True, False or None."
        )
    yield from validate_notification(dp)
    yield from validate_run_settings(dp)
    rule = KEYS["schedule_string"]
    if problem := value_problem("infrastructureSchedule", schedule, rule):
        yield f"Platform {dp.name!r}: {problem}."


def validate_notification(dp: YellowDynamicDataPlatform) -> Iterator[str]:
    """Yield the problems of the platform's onFailure."""
    notification = dp.onFailure
    if isinstance(notification, (SlackWebhook, EMail)):
        for problem in notification.validate():
            yield f"onFailure of platform {dp.name!r}: {problem}."
    elif notification is not None:
        yield (
            f"onFailure of platform {dp.name!r} is {notification!r:.100}; it must be a "
            "SlackWebhook or an EMail."
        )


def validate_run_settings(dp: YellowDynamicDataPlatform) -> Iterator[str]:
    """Yield the problems of the platform's RunSettings."""
    if not isinstance(dp.runsOf, Mapping) or not all(isinstance(key, str) for key in dp.runsOf):
        yield f"runsOf of platform {dp.name!r} is {dp.runsOf!r:.100}; it must be a dict by text."
        return
    given = {f"runsOf[{pattern!a:.300}]": runs for pattern, runs in dp.runsOf.items()}
    for name, runs in {"runs": dp.runs, **given}.items():
        if not isinstance(runs, RunSettings):
            yield f"{name} of platform {dp.name!r} is {runs!r:.100}; it must be a RunSettings."
            continue
        for problem in runs.validate():
            yield f"{name} of platform {dp.name!r}: {problem}."


def validate_provider(dp: YellowDynamicDataPlatform) -> Iterator[str]:
    """Yield what keeps the platform's services provider from bootstrapping and merging it."""
    if not DATASURFACE.provider_bootstraps:
        return
    psp: Any = dp.psp
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


def validate_logins(dp: YellowDynamicDataPlatform) -> Iterator[str]:
    """Yield why the platform's pods cannot get the logins that DataSurface's own pods get."""
    psp: Any = dp.psp
    if (place := DATASURFACE.foreign_logins(psp)) is None:
        return
    yield (
        f"Platform {dp.name!r} cannot use the assembly {psp.yp_assm.name!r}, a "
        f"{type(psp.yp_assm).__name__}, of services provider {psp.name!r}: with it, jobs get their "
        f"logins from {place} by an IAM role, and the pods of yellow_dynamic read Kubernetes "
        "Secrets alone. Use YellowTwinDatabaseAssembly or YellowExternalSingleDatabaseAssembly, "
        "which take databases of RDS too, and copy the logins into Kubernetes Secrets; or keep "
        "YellowDataPlatform in the model."
    )


# --- The services provider --------------------------------------------------------------------


class YellowDynamicPlatformServiceProvider(YellowPlatformServiceProvider):
    """A YellowPlatformServiceProvider that bootstraps and merges dynamic platforms.

    With DataSurface 0.0.56 and 0.0.57 it does so for all of its dynamic platforms, and leaves its
    other platforms to the base. With 0.0.36 to 0.0.38 it behaves as the base class.
    """

    dataPlatforms: dict[str, Any]

    def lint(self, eco: Ecosystem, tree: ValidationTree) -> None:
        """Add the provider's problems to the tree: the base's, and that no platform is dynamic."""
        super().lint(eco, tree)
        if idle := find_idle_provider(self, eco):
            tree.addProblem(idle, ProblemSeverity.WARNING)

    def generateBootstrapArtifacts(self, eco: Ecosystem, ringLevel: int) -> dict[str, str]:
        """Render the files of the provider and its platforms (ring 0) or create tables (ring 1).

        Returns:
            File texts by file name. Ring 0 gives the base's files and those of
            YellowDynamicDataPlatform. If all platforms are dynamic, our infrastructure DAG replaces
            the base's. Ring 1 gives none: the base's would overwrite those of ring 0.

        Raises:
            ValueError: as for YellowDynamicDataPlatform.
            sqlalchemy.exc.SQLAlchemyError: as for YellowDynamicDataPlatform.
        """
        dynamic = dynamic_platforms(self)
        if note := find_idle_provider(self, eco):
            log.warning("%s", note)
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
            MergeError: a platform has no dataset group, so nothing was merged; or as for the
                graph handler of a dynamic platform.
        """
        if note := find_idle_provider(self, eco):
            log.warning("%s", note)
        roots = EcosystemPipelineGraph(eco).roots
        if unassigned := [name for name in self.dataPlatforms if name not in roots]:
            raise MergeError(
                f"Nothing of services provider {self.name!r} was merged: no dataset group is "
                f"assigned to platform {', '.join(map(repr, unassigned))}. Assign one in "
                "dsg_platform_mapping.json beside eco.py, or take the platform out of the model."
            )
        super().mergeHandler(eco, basePlatformDir)  # type: ignore[misc]

    def populateFactoryDAGConfigurations(self, eco: Ecosystem) -> None:
        """Write the rows of the base's infrastructure DAG, without those of dynamic platforms."""
        every = self.dataPlatforms
        dynamic = {dp.name for dp in dynamic_platforms(self)}
        self.dataPlatforms = {name: dp for name, dp in every.items() if name not in dynamic}
        try:
            super().populateFactoryDAGConfigurations(eco)  # type: ignore[misc]
        finally:
            self.dataPlatforms = every


def dynamic_platforms(psp: Any) -> list[YellowDynamicDataPlatform]:
    """Return the dynamic ones among a services provider's platforms."""
    return [dp for dp in psp.dataPlatforms.values() if isinstance(dp, YellowDynamicDataPlatform)]


def find_idle_provider(psp: Any, eco: Ecosystem) -> str | None:
    """Return that none of a services provider's platforms is dynamic, or None if one is."""
    served = [dp for dp in DATASURFACE.platforms(eco) if getattr(dp, "psp", None) is psp]
    if not served or any(isinstance(dp, YellowDynamicDataPlatform) for dp in served):
        return None
    names = ", ".join(f"{dp.name!r} is a {type(dp).__name__}" for dp in served)
    return (
        f"Services provider {psp.name!r} is a {type(psp).__name__}, but none of its platforms is "
        f"dynamic: {names}. DataSurface's own files build their DAGs. To build them from a table, "
        "make each platform a YellowDynamicDataPlatform."
    )


# --- The graph handler ------------------------------------------------------------------------


class YellowDynamicGraphHandler(YellowGraphHandler):
    """Writes the rows of the platform's table from a pipeline graph, transformers included."""

    dp: YellowDynamicDataPlatform
    graph: PlatformPipelineGraph
    #: Whether the table's rows are those of the graph by now.
    rows_written = False

    def renderGraph(self, credStore: CredentialStore, issueTree: ValidationTree) -> dict[str, str]:
        """Write the platform's rows and return the base's files, without ingestion DAG files.

        Raises:
            MergeError: the model has problems, which are on `issueTree` too. DataSurface's command
                prints that tree and exits with 0, so only this error shows that the old rows stay.
            sqlalchemy.exc.SQLAlchemyError: the rows cannot be written; the old ones stay.
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
        """Write the table's rows, where a base without a table of its own renders DAG files."""
        self.populateDAGConfigurations(eco, issueTree)
        return {}

    def populateDAGConfigurations(self, eco: Ecosystem, issueTree: ValidationTree) -> None:
        """Make the table's rows equal the model's streams, in one transaction.

        Everything is validated first. Readers see the old rows or the new ones. A stream that
        stays keeps its `created_at` and its `status`, and its `updated_at` unless its
        configuration changed.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the rows cannot be written; the old ones stay.
        """
        configs = stream_configs(self.dp, self.graph, issueTree)
        rows = config_rows(self.dp, eco, configs, issueTree)
        if issueTree.hasErrors():
            return
        if self.dp.factoryShards < suitable_shards(len(rows)):
            advise_shards(self.dp.name, self.dp.factoryShards, len(rows))
        rendered = (self.dp.name, DATASURFACE.unit([self.dp]).name)
        metadata = audit_metadata(MERGE, **git_commit(self.dp._model_folder, rendered))
        with merge_store_transaction(self.dp, "write the rows of") as connection:
            set_audit_metadata(connection, metadata)
            write_rows(connection, self.dp, rows, issueTree)
            if not issueTree.hasErrors():
                clear_transformers_of_base(connection, self.dp)
        self.rows_written = not issueTree.hasErrors()

    def populateDataTransformerConfigurations(
        self, eco: Ecosystem, issueTree: ValidationTree
    ) -> None:
        """Do nothing: the rows that are already written include the transformers."""

    def generateSecretsDocumentation(self, eco: Ecosystem, issueTree: ValidationTree) -> str:
        """Return a page on the Secrets that pods, Jobs and Airflow read, instead of the base's.

        On DataSurface 0.0.56 and 0.0.57 that of the base has keys that no pod reads.
        """
        # It has the problems of the configs already.
        del issueTree
        configs = stream_configs(self.dp, self.graph, ValidationTree(eco))
        return secrets_page(secrets_settings(self.dp), configs)


# --- The merge --------------------------------------------------------------------------------


@contextmanager
def merge_store_transaction(dp: YellowDynamicDataPlatform, action: str) -> Iterator[Connection]:
    """Yield a connection in a transaction that writes; see `table_transaction`."""
    store = dp.psp.mergeStore
    login = dp.getCredentialStore().getAsUserPassword(DATASURFACE.merge_credential(dp.psp))
    url = store_url(login, store.hostPortPair.hostName, store.hostPortPair.port, store.databaseName)
    with table_transaction(url, dp.name, dp.getPhysDAGTableName(), action) as connection:
        yield connection


def write_rows(
    connection: Connection,
    dp: YellowDynamicDataPlatform,
    rows: dict[str, str],
    tree: ValidationTree,
) -> None:
    """Make the table hold exactly these rows, or add the reasons against it to the tree.

    The lock keeps other merges out and lets the factory files read.
    """
    table = dp.getAirflowDAGTable()
    lock_table(connection, table)
    old, population, problems = compare_with_table(connection, dp, rows)
    if planned := os.environ.get(PLAN_FILE):
        file = STARTED_IN / planned
        problems += plan_problems(connection, file, dp.name, table.name, old, rows)
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
    # A role without the privilege has never filled it.
    may = sqlalchemy.text("SELECT has_table_privilege(to_regclass(:name), 'DELETE')")
    if connection.scalar(may, {"name": quoted}):
        connection.execute(table.delete())


def compare_with_table(
    connection: Connection, dp: YellowDynamicDataPlatform, rows: dict[str, str]
) -> tuple[dict[str, StoredRow], Population, list[str]]:
    """Return the table's rows by stream key, what a merge would change, and the reasons against it.

    This is a read-only operation.
    """
    table = dp.getAirflowDAGTable()
    old = find_rows(connection, table)
    population = compare_rows({key: row.config_json for key, row in old.items()}, rows)
    problems = [
        *removal_guards(dp).problems(dp.name, table.name, population),
        *size_problems(connection, table, rows),
    ]
    return old, population, problems


def removal_guards(dp: YellowDynamicDataPlatform) -> Guards:
    """Return how many streams of the platform may be removed at once."""
    return Guards(dp.allowEmpty, dp.maxRemoved)


# --- Bootstrap --------------------------------------------------------------------------------


def create_tables(dp: YellowDynamicDataPlatform, eco: Ecosystem) -> None:
    """Create or upgrade the platform's tables, in one transaction.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the database refuses; its notes say what to grant.
    """
    table, jobs = dp.getAirflowDAGTable(), job_utilities(dp, eco)
    with merge_store_transaction(dp, "create or widen") as connection:
        create_config_table(connection, table)
        create_history(connection, table)
        # DataSurface's first job would create these. The role that Airflow reads them with can be
        # granted SELECT before any job has run.
        for batches in (jobs.getBatchCounterTable(), jobs.getBatchMetricsTable()):
            batches.create(connection, checkfirst=True)


def bootstrap_files(platforms: list[YellowDynamicDataPlatform], eco: Ecosystem) -> dict[str, str]:
    """Return the texts that ring 0 renders for platforms that are bootstrapped together, by name.

    Raises:
        ValueError: the model's repository is not of form owner/name, an argument or the assembly
            of a platform is not valid, or as for `deployment_files`.
    """
    files: dict[str, str] = {}
    for dp in platforms:
        for problem in (*validate_arguments(dp), *validate_logins(dp)):
            raise ValueError(problem)
        files |= render_factory_files(platform_settings(dp, eco))
        advise_shards(dp.name, dp.factoryShards, count_streams(dp, eco))
    psp = platforms[0].psp
    warn_datasurface_image(psp.name, psp.datasurfaceDockerImage)
    return files | deployment_files(platforms, eco)


def count_streams(dp: YellowDynamicDataPlatform, eco: Ecosystem) -> int | None:
    """Return how many streams the model gives the platform, or None if it is not known yet."""
    graph = EcosystemPipelineGraph(eco).roots.get(dp.name)
    if graph is None:
        return None
    return len(stream_configs(dp, graph, ValidationTree(eco)))


def factory_text(dp: YellowDynamicDataPlatform, eco: Ecosystem) -> str:
    """Return the text of the platform's factory file.

    Raises:
        ValueError: the model's repository is not of form owner/name.
    """
    return render_factory(platform_settings(dp, eco))


def deployment_files(platforms: list[YellowDynamicDataPlatform], eco: Ecosystem) -> dict[str, str]:
    """Return the files for a cluster by name; see `cluster_files`.

    Args:
        platforms: those that are bootstrapped together, at least one.
        eco: their model.

    Raises:
        ValueError: Kubernetes would refuse a name of the model, or two credentials would share a
            Secret.
    """
    settings = [deployable_settings(dp, eco) for dp in platforms]
    schedules = (dp.infrastructureSchedule for dp in platforms)
    security = (security_context(dp.runs.given.get("podTemplate", {})) for dp in platforms)
    return cluster_files(
        settings,
        DATASURFACE.unit(platforms),
        DATASURFACE.k8s_name(platforms[0].psp.airflowName),
        next(filter(None, schedules), None),
        next(filter(None, security), {}),
    )
