"""The DAGs of the streams."""

from __future__ import annotations

import functools
import gc
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from yellow_dynamic.factory.acceptance import format_reason, has_policies, validated
from yellow_dynamic.factory.compat import (
    DAG,
    SCHEDULE_ATTRIBUTE,
    Asset,
    BaseOperator,
    BranchPythonOperator,
    EmptyOperator,
    TriggerDagRunOperator,
)
from yellow_dynamic.factory.constants import METADATA_START, PULL_ALWAYS
from yellow_dynamic.factory.database import ALL_ROWS, Row, TableUnreadableError
from yellow_dynamic.factory.logs import log, one_line
from yellow_dynamic.factory.notify import FailureNotifier, notification_settings
from yellow_dynamic.factory.operators import (
    CHECK_TASK,
    ConfigErrorOperator,
    IngestionPodOperator,
    choose_next_task,
)
from yellow_dynamic.factory.platform import Platform
from yellow_dynamic.factory.pod import POD_OPTIONS
from yellow_dynamic.factory.podspec import JOBS, PodSpecs, job_task_id, to_timedelta
from yellow_dynamic.factory.result import ResultFromLog
from yellow_dynamic.factory.rows import load_rows
from yellow_dynamic.factory.rules import (
    DEFAULT_SCHEDULE,
    NO_SCHEDULE,
    REVISION_END,
    RUN_KEYS,
    START_DATE,
    TRANSFORMER,
    BadRowError,
    build_dag_id,
    compute_revision,
    dag_id_problem,
    get_batch_key,
    overlay_config,
    parse_config,
    row_problems,
    value_problems,
)

AIRFLOW_TAG_CHARACTERS = 100
ENDING_TAG = "ending"
ERROR_TAG = "config-error"
TAGS = {
    "transformer": ["datatransformer"],
    "transformer_output": ["ingestion", "datatransformer"],
}
# The keys that say when Airflow starts a stream.
SCHEDULE_KEYS = ("schedule_string", "started_by")
DEFAULT_ARGS = {"owner": "datasurface", "depends_on_past": False, "retries": 0}


class DagBuilder:
    """Builds the DAGs of one platform; what they have in common is made once."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.pods = PodSpecs()
        self.has_policies = has_policies()
        self.dag_defaults = dag_defaults()
        self.task_prototypes = functools.cache(self.make_task_prototypes)
        self.timetables: dict[str, Any] = {}
        self.notification_settings = notification_settings(platform)
        self.on_failure = (
            FailureNotifier(platform).notify_failure if self.notification_settings else None
        )

    def build_dags(self, rows: Iterable[Row]) -> dict[str, DAG]:
        """Return the DAGs of the rows by dag id; a bad row costs its own stream and no other."""
        dags: dict[str, DAG] = {}
        with garbage_collector_paused():
            for row in rows:
                if not row.is_off:
                    dag_id = registered_dag_id(self.platform, row)
                    dag = self.build_dag_or_error(dag_id, row)
                    if dag is not None:
                        dags[dag_id] = dag
        return dags

    def stream_problems(self) -> Iterator[str]:
        """Yield what keeps streams of the platform from running, as far as this process sees."""
        try:
            reading = load_rows(self.platform, ALL_ROWS)
        except TableUnreadableError as error:
            yield str(error)
            return
        if reading.age is not None:
            yield self.platform.reading["reason"]
            return
        active = [row for row in reading.rows if not row.is_off]
        dags = self.build_dags(active)
        errors = list(config_errors(dags.values()))
        broken = len(errors) + len(active) - len(dags)
        disabled = len(reading.rows) - len(active)
        log.info("%d streams are active, %d are disabled.", len(active), disabled)
        if broken:
            yield (
                f"{broken} of {len(active)} streams have no DAG that can run; the log above names "
                f"each. {' '.join(errors[:5])}"
            )

    def build_dag_or_error(self, dag_id: str, row: Row) -> DAG | None:
        """Return the row's DAG; or one that says what is wrong, unless Airflow refuses that too."""

        def build() -> DAG:
            return self.build_stream_dag(dag_id, row, parse_config(row.config_json))

        try:
            return validated(build, policies=self.has_policies)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a row stays with it
            message = (
                f"The stream {row.stream_key!a:.300} of platform {self.platform.label!a} has no "
                f"ingestion DAG: {format_reason(error)}. Correct the row in the table "
                f"{self.platform.settings['config_table']!a}; handleModelMerge writes its "
                "config_json anew."
            )
        log.error("%s", message)
        build_error = functools.partial(self.build_error_dag, dag_id, row, message)
        try:
            return validated(build_error, policies=self.has_policies)
        except Exception as error:  # noqa: BLE001 - a policy may refuse the stream's tags
            reason = format_reason(error)
            log.warning("Airflow refuses it with tags and schedule of its stream: %s.", reason)
        build_error = functools.partial(build_error, plain=True)
        try:
            return validated(build_error, policies=self.has_policies)
        except Exception as error:  # noqa: BLE001 - it would take all DAGs of the file with it
            log.error(
                "Airflow refuses the DAG %s that would show this, too, so there is none: %s.",
                dag_id,
                format_reason(error),
            )
            return None

    def build_stream_dag(self, dag_id: str, row: Row, config: dict[str, Any]) -> DAG:
        """Return the DAG of a stream.

        Args:
            dag_id: its id.
            row: the stream's row.
            config: the row's configuration.

        Raises:
            BadRowError: see `row_settings`.
        """
        settings = row_settings(self.platform, row, config)
        revision = compute_revision(row.config_json)
        upstream = [self.delivery_asset(key) for key in settings.get("started_by", ())]
        work = (
            f"Runs the transformer of workspace {settings['workspace_name']} in"
            if settings["ingestion_type"] == TRANSFORMER
            else f"Ingests {settings['stream_key']} into"
        )
        dag = self.new_dag(
            dag_id,
            settings["stream_key"],
            description=f"{work} the merge store of {settings['original_platform_name']}"
            + REVISION_END.format(revision),
            schedule=upstream or settings["schedule_string"],
            doc_md=stream_documentation(self.platform, row, config, settings, revision),
            tags=get_tags(settings["ingestion_type"]),
            dagrun_timeout=to_timedelta(settings.get("dag_run_timeout_seconds")),
        )
        announced = settings.get("starts_others", False)
        job = vars(self.add_tasks(dag, settings["stream_key"], announced=announced))
        job.update(
            stream_key=row.stream_key,
            revision=revision,
            batch_key=get_batch_key(settings),
            **self.pods.attributes(settings),
        )
        if self.platform.settings.get("assets") and job["batch_key"]:
            job["outlets"] = [
                self.delivery_asset(f"{settings['store_name']}/{dataset}")
                for dataset in settings["datasets"]
            ]
        if not RUN_KEYS.keys().isdisjoint(settings):
            given = {key: settings[key] for key in settings if key in RUN_KEYS}
            job.update(self.pods.run_attributes(given, job["startup_timeout_seconds"]))
        return dag

    def build_error_dag(self, dag_id: str, row: Row, message: str, *, plain: bool = False) -> DAG:
        """Return a DAG that keeps the stream visible, and fails with the message when it is due.

        Args:
            dag_id: its id.
            row: the row.
            message: what is wrong with it.
            plain: whether it has ERROR_TAG alone and DEFAULT_SCHEDULE, not those of the row.
        """
        config = config_or_empty(row)
        comment = metadata_comment(
            row.stream_key, compute_revision(row.config_json), problem=message
        )
        dag = self.new_dag(
            dag_id,
            one_line(row.stream_key),
            description="This stream's configuration is not valid; see the documentation of this "
            "DAG",
            schedule=DEFAULT_SCHEDULE if plain else self.schedule_or_default(config),
            doc_md=f"### Not valid\n\n    {message}\n\n{comment}\n",
            tags=[ERROR_TAG, *get_tags(str(config.get("ingestion_type")))],
        )
        if plain:
            dag.tags = {ERROR_TAG}
        ConfigErrorOperator(dag=dag, task_id="config_error", reason=message)
        return dag

    def schedule_or_default(self, config: dict[str, Any]) -> str | list[Asset] | None:
        """Return when a row that is not valid should deliver, or else DEFAULT_SCHEDULE.

        Its runs fail then, which Airflow's counters and alerts see.
        """
        if any(value_problems({key: config[key] for key in SCHEDULE_KEYS if key in config})):
            return DEFAULT_SCHEDULE
        schedule = config.get("schedule_string", DEFAULT_SCHEDULE)
        if schedule not in NO_SCHEDULE:
            return str(schedule)
        try:
            return [self.delivery_asset(key) for key in config.get("started_by", ())] or None
        except ValueError:
            # Airflow has rules of its own for the name of an Asset.
            return DEFAULT_SCHEDULE

    def build_draining_dag(self, dag_id: str, stream_key: str) -> DAG:
        """Return the DAG of a stream that is disabled or gone, so that a run of it can end."""
        dag = self.new_dag(
            dag_id,
            stream_key,
            description="This stream is disabled or removed; its DAG goes when its last run has "
            "ended",
            schedule=None,
            doc_md="### Ending\n\nThe stream is disabled, or the model has it no more. Its DAG "
            "stays until the run that had begun has ended, and begins no job.\n\n"
            f"{metadata_comment(stream_key, None, ending=True)}\n",
            tags=["ingestion", ENDING_TAG],
        )
        self.add_tasks(dag, stream_key).ended = True
        return dag

    def new_dag(
        self, dag_id: str, stream_key: str, *, schedule: Any, tags: list[str], **options: Any
    ) -> DAG:
        """Return a DAG of a stream, without tasks."""
        names = (self.platform.name, stream_key)
        timetable = self.timetables.get(schedule) if isinstance(schedule, str) else None
        dag = DAG(
            dag_id=dag_id,
            schedule=schedule if timetable is None else timetable,
            start_date=START_DATE,
            catchup=False,
            max_active_runs=1,
            # None leaves it to Airflow's configuration.
            is_paused_upon_creation=self.platform.settings.get("paused_at_creation"),
            default_args=DEFAULT_ARGS,
            tags=["datasurface", *tags, *(name[:AIRFLOW_TAG_CHARACTERS] for name in names if name)],
            on_failure_callback=self.on_failure,
            **options,
            **self.dag_defaults,
        )
        # Cluster policies see it; Airflow sees who calls DAG, which may be the package.
        dag.fileloc = str(self.platform.file)
        if timetable is not None:
            # What Airflow keeps of a schedule that is given as text; Airflow 2 stores it too.
            vars(dag)[SCHEDULE_ATTRIBUTE] = schedule
        elif isinstance(schedule, str) and not self.has_policies:
            # All DAGs of a schedule share what Airflow makes of it, which is checked once. A
            # policy could change it.
            dag.timetable.validate = functools.cache(dag.timetable.validate)
            self.timetables[schedule] = dag.timetable
        return dag

    def add_tasks(self, dag: DAG, stream_key: str, *, announced: bool = False) -> Any:
        """Add a stream's four tasks to its DAG, and return the one that runs the job.

        Args:
            dag: the DAG.
            stream_key: the stream's.
            announced: whether other streams wait for its deliveries.
        """
        prototypes = self.task_prototypes(job_task_id(stream_key))
        job, _, again, wait = (clone_task(dag, prototype) for prototype in prototypes)
        again.trigger_dag_id = dag.dag_id
        if announced:
            wait.outlets = [self.delivery_asset(stream_key)]
        return job

    def delivery_asset(self, stream_key: str) -> Asset:
        """Return the Asset of Airflow that has an event for each delivery of a stream."""
        return Asset(f"datasurface://{self.platform.name}/{stream_key}")

    def make_task_prototypes(self, job_task: str) -> tuple[BaseOperator, ...]:
        """Return the tasks of every DAG of that job, without what is a stream's own.

        An operator's constructor takes ten times as long as a copy of what it made.
        """
        # How Airflow makes a task's priority of its weight, where the platform says so.
        names = self.platform.settings.keys() & {"weight_rule"}
        priority = {name: self.platform.settings[name] for name in names}
        job = IngestionPodOperator(
            task_id=job_task,
            image_pull_policy=PULL_ALWAYS,
            cmds=["python", "-m", JOBS[job_task].module],
            container_resources=JOBS[job_task].resources,
            callbacks=[ResultFromLog],
            # How often the triggerer looks, in seconds.
            poll_interval=5,
            **POD_OPTIONS,
            **priority,
            **DEFAULT_ARGS,
        )
        job.platform = self.platform
        check = BranchPythonOperator(
            task_id=CHECK_TASK, python_callable=choose_next_task, **DEFAULT_ARGS
        )
        again = TriggerDagRunOperator(
            task_id="reschedule_immediately",
            trigger_dag_id="the DAG itself",
            conf={"triggered_by": "reschedule"},
            deferrable=False,
            **DEFAULT_ARGS,
        )
        wait = EmptyOperator(task_id="wait_for_trigger", **DEFAULT_ARGS)
        # Not `with DAG(...)`, by which Airflow would register this DAG too.
        DAG("prototypes", schedule=None).add_tasks([job, check, again, wait])
        job >> check >> [again, wait]
        return job, check, again, wait


def config_errors(dags: Iterable[DAG]) -> Iterator[str]:
    """Yield why streams have no DAG that can run."""
    for dag in dags:
        for task in dag.tasks:
            if isinstance(task, ConfigErrorOperator):
                yield task.reason


def dag_defaults() -> dict[str, Any]:
    """Return what every DAG takes from Airflow's configuration, which is slow to read."""
    plain = DAG("plain", schedule=None)
    names = ("max_active_tasks", "max_consecutive_failed_dag_runs")
    options = {name: getattr(plain, name) for name in names}
    if hasattr(plain, "disable_bundle_versioning"):
        # A run takes the rows of now, and so the file of now: the one of its own version may not
        # have been there, where a commit has changed the number of files since.
        options["disable_bundle_versioning"] = True
    return options


def clone_task(dag: DAG, prototype: BaseOperator) -> Any:
    """Add a copy of the task, with its dependencies, to the DAG, and return it."""
    task = object.__new__(type(prototype))
    # Not by attribute: an operator looks at each one that is set.
    vars(task).update(
        vars(prototype),
        upstream_task_ids=set(prototype.upstream_task_ids),
        downstream_task_ids=set(prototype.downstream_task_ids),
        start_date=None,
        task_group=None,
        _dag=None,
    )
    dag.add_task(task)
    return task


def registered_dag_id(platform: Platform, row: Row) -> str:
    """Return the id of a row's DAG, or a legal and unmistakable one where Airflow refuses it."""
    dag_id = build_dag_id(platform.name, row.stream_key)
    if dag_id_problem(dag_id) is None:
        return dag_id
    digest = hashlib.sha256(dag_id.encode("utf-8", "backslashreplace")).hexdigest()[:8]
    return f"{re.sub('[^A-Za-z0-9_.-]', '_', dag_id)[:200]}_{digest}"


def row_settings(platform: Platform, row: Row, config: dict[str, Any]) -> dict[str, Any]:
    """Return the platform's settings overlaid with the row's, every value that is used checked.

    Raises:
        BadRowError: for anything that would fail later, in Airflow or in Kubernetes.
    """
    settings = overlay_config(platform.settings, config)
    for problem in row_problems(row.stream_key, row.status, settings, platform.name):
        raise BadRowError(problem)
    if settings["schedule_string"] in NO_SCHEDULE:
        settings["schedule_string"] = None
    path = settings["git_repo_url"].rstrip("/").removesuffix(".git")
    settings["git_repo_owner"], settings["git_repo_repo_name"] = path.split("/")[-2:]
    return settings


def config_or_empty(row: Row) -> dict[str, Any]:
    """Return what can be read of the configuration of a row that is not valid."""
    try:
        return parse_config(row.config_json)
    except BadRowError:
        return {}


def get_tags(ingestion_type: str) -> list[str]:
    """Return the tags of the DAGs of this type of ingestion."""
    return TAGS.get(ingestion_type, ["ingestion"])


def stream_documentation(
    platform: Platform,
    row: Row,
    config: dict[str, Any],
    settings: dict[str, Any],
    revision: str,
) -> str:
    """Return the page about a stream's DAG, in Markdown."""
    own = sorted(RUN_KEYS.keys() & settings.keys())
    more = {"settings": own} if own else {}
    return (
        f"### Stream {settings['stream_key']} of {settings['original_platform_name']}\n\n"
        f"Revision `{revision}` of its configuration, last changed "
        f"{row.updated_at or 'at an unknown time'}. It comes from the table "
        f"`{platform.settings['config_table']}`; change the model and run `handleModelMerge` to "
        f"change it.\n\n{json_block(config)}\n\n"
        f"{metadata_comment(row.stream_key, revision, **more)}\n"
    )


def metadata_comment(
    stream_key: str, revision: str | None, **more: str | bool | list[str] | None
) -> str:
    """Return what the command `yellow-dynamic` reads from a page, as Markdown that nobody sees.

    It is the definition of a link that no text uses: Airflow shows HTML comments as text.
    """
    known = {"stream": stream_key, "revision": revision, "problem": None, **more}
    return METADATA_START + json.dumps(known).replace("'", "\\u0027") + "'"


def json_block(config: dict[str, Any]) -> str:
    """Return a configuration as a Markdown code block.

    No value can end the block: line breaks are escaped, so each line begins with a bracket or,
    after its indentation, with a quotation mark.
    """
    # Python's fast encoder does not know `indent`.
    text = json.dumps(config, sort_keys=True, separators=(",\n  ", ": "))
    return "```json\n{\n  " + text[1:-1] + "\n}\n```"


@contextmanager
def garbage_collector_paused() -> Iterator[None]:
    """Keep the collector from searching again and again through DAGs that all stay in use."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
