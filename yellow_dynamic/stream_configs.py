"""From the model to stream configs, and from these to the rows of the platform's table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from datasurface.md import (
    CronTrigger,
    Datastore,
    DataTransformer,
    DataTransformerOutput,
    Ecosystem,
    ExternallyTriggered,
    IngestionConsistencyType,
    PlatformPipelineGraph,
    StepTrigger,
    ValidationTree,
    Workspace,
)
from datasurface.md.codeartifact import PythonRepoCodeArtifact
from yellow_dynamic.datasurface_adapter import DATASURFACE, DynamicPlatform
from yellow_dynamic.factory.rules import (
    DEFAULT_SCHEDULE,
    TRANSFORMER,
    TRANSFORMER_END,
    add_credential_names,
)
from yellow_dynamic.platform_settings import common_config, credential_config, platform_settings
from yellow_dynamic.pods import with_job_container
from yellow_dynamic.run_settings import (
    ARGUMENT_KEYS,
    find_contradictions,
    matches,
    matching_patterns,
    merge_run_settings,
    row_value,
)
from yellow_dynamic.schedules import moved_schedule, offset_of
from yellow_dynamic.validation import (
    OF_CREDENTIAL,
    find_shared_secrets,
    list_credentials,
    validate_stream,
    validate_values,
)

StreamConfig = dict[str, Any]

#: Sorts the keys, so that equal configs are equal text.
ENCODER = json.JSONEncoder(sort_keys=True)
#: The types of streams that read a source of their own.
WITH_SOURCE = frozenset(DATASURFACE.ingestion_types.values())


# --- Model to stream configs ------------------------------------------------------------------


def stream_configs(
    dp: DynamicPlatform, graph: PlatformPipelineGraph, tree: ValidationTree
) -> list[StreamConfig]:
    """Return each stream's own config, without the common settings: stores, then transformers.

    A store with MULTI_DATASET consistency is one stream, `Store`; with SINGLE_DATASET each of its
    datasets is one, `Store_dataset`. A transformer is one, `Workspace_datatransformer`, and the
    ingestion of its output another, `Store_dt`. The tree gets a problem for each part of the model
    that the factory file does not run.
    """
    ingestions: list[StreamConfig] = []
    for store_name in sorted(graph.storesToIngest):
        store: Datastore = graph.eco.cache_getDatastoreOrThrow(store_name).datastore
        ingestions += store_configs(dp, store, tree.addSubTree(store))
    configs = [*ingestions, *transformer_configs(graph, ingestions, tree)]
    upstream = {key for config in configs for key in config.get("started_by", ())}
    for config in configs:
        if config["stream_key"] in upstream:
            config["starts_others"] = True
        config |= run_config(dp, config, graph, tree)
    for pattern in dp.runsOf:
        if not any(matches(pattern, config["stream_key"]) for config in configs):
            tree.addProblem(
                f"runsOf of platform {dp.name!r} has {pattern!a:.300}, which is no stream of it."
            )
    return configs


def store_configs(
    dp: DynamicPlatform, store: Datastore, tree: ValidationTree
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
            "started_by": [f"{store.cmd.workSpaceName}{TRANSFORMER_END}"],
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


def ingestion_config(dp: DynamicPlatform, store: Datastore, tree: ValidationTree) -> StreamConfig:
    """Return the type, the schedule and the source's credential of a store's ingestion."""
    cmd = store.cmd
    trigger = getattr(cmd, "stepTrigger", None)
    config: StreamConfig = {"schedule_string": DEFAULT_SCHEDULE}
    if trigger is not None:
        config["schedule_string"] = trigger_schedule(trigger, f"store {store.name!r}", tree)
    known = DATASURFACE.ingestion_types
    found = next((name for ingestion, name in known.items() if isinstance(cmd, ingestion)), None)
    if found:
        config["ingestion_type"] = found
    else:
        what = "no ingestion" if cmd is None else f"the ingestion {type(cmd).__name__}"
        tree.addProblem(
            f"The store {store.name!r} has {what}; platform {dp.name!r} runs "
            f"{' and '.join(ingestion.__name__ for ingestion in known)}."
        )
    if found == "kafka":
        config |= credential_config("kafka_connect", dp.psp.connectCredentials)
    elif found and (credential := getattr(cmd, "credential", None)) is not None:
        config |= credential_config("source", credential)
    return config


def transformer_configs(
    graph: PlatformPipelineGraph, ingestions: list[StreamConfig], tree: ValidationTree
) -> Iterator[StreamConfig]:
    """Yield the own config of each transformer; `ingestions` are those of all stores."""
    suppliers = {
        (config["store_name"], dataset): config["stream_key"]
        for config in ingestions
        for dataset in config["datasets"]
    }
    for _, workspace in sorted(graph.workspaces.items()):
        if (transformer := workspace.dataTransformer) is not None:
            title = f"transformer of workspace {workspace.name!r}"
            config = transformer_config(workspace, transformer, title, tree)
            if transformer.trigger is None:
                upstream = upstream_streams(workspace, transformer, suppliers, title, tree)
                config |= {"started_by": upstream} if upstream else {}
            yield config


def transformer_config(
    workspace: Workspace,
    transformer: DataTransformer,
    title: str,
    tree: ValidationTree,
) -> StreamConfig:
    """Return the own config of the stream that runs a workspace's transformer."""
    store, trigger, code = transformer.outputDatastore, transformer.trigger, transformer.code
    config: StreamConfig = {
        "stream_key": f"{workspace.name}{TRANSFORMER_END}",
        "store_name": store.name,
        "single_dataset": False,
        "datasets": list(store.datasets),
        "ingestion_type": TRANSFORMER,
        "workspace_name": workspace.name,
        "schedule_string": None if trigger is None else trigger_schedule(trigger, title, tree),
    }
    if not isinstance(code, PythonRepoCodeArtifact):
        tree.addProblem(
            f"The code of the {title} is a {type(code).__name__}, not a PythonRepoCodeArtifact."
        )
    elif code.repo.credential is not None:
        config |= credential_config("code", code.repo.credential)
    return config


def upstream_streams(
    workspace: Workspace,
    transformer: DataTransformer,
    suppliers: dict[tuple[str, str], str],
    title: str,
    tree: ValidationTree,
) -> list[str]:
    """Return the keys of the streams that deliver the transformer's input, and so start it.

    Args:
        workspace: the workspace.
        transformer: its transformer.
        suppliers: the key of the stream that delivers a dataset, by the names of store and dataset.
        title: what messages call the transformer.
        tree: gets a problem for each dataset that no stream delivers.
    """
    upstream: dict[str, None] = {}
    # A transformer that reads its own output does not wait for it.
    own = transformer.outputDatastore.name
    sinks = (sink for group in workspace.dsgs.values() for sink in group.sinks.values())
    for sink in (sink for sink in sinks if sink.storeName != own):
        if key := suppliers.get((sink.storeName, sink.datasetName)):
            upstream[key] = None
        else:
            tree.addProblem(
                f"The {title} waits for dataset {sink.datasetName!r} of store {sink.storeName!r}, "
                "which no stream of its platform brings. Give the transformer a CronTrigger, or "
                "assign that dataset group to the platform too."
            )
    return list(upstream)


def trigger_schedule(trigger: StepTrigger, title: str, tree: ValidationTree) -> str | None:
    """Return a cron expression or preset, or None for an external trigger."""
    if isinstance(trigger, CronTrigger):
        return str(trigger.cron)
    if not isinstance(trigger, ExternallyTriggered):
        tree.addProblem(
            f"The trigger of {title} is a {type(trigger).__name__}; it must be a CronTrigger or "
            "an ExternallyTriggered."
        )
    return None


# --- RunSettings of a stream ------------------------------------------------------------------


def run_config(
    dp: DynamicPlatform,
    config: StreamConfig,
    graph: PlatformPipelineGraph,
    tree: ValidationTree,
) -> StreamConfig:
    """Return what RunSettings add to a stream's config: their keys, and a spread schedule.

    The job hints of the model apply where RunSettings give nothing.

    Args:
        dp: the platform.
        config: the stream's own config so far.
        graph: has its store.
        tree: gets a problem for settings that contradict each other.
    """
    hints = DATASURFACE.default_run_settings(dp.psp, graph, config)
    given = hints | stream_run_settings(dp, config["stream_key"], tree)
    if given.pop("poolPerSource", False) and config["ingestion_type"] in WITH_SOURCE:
        store = graph.eco.cache_getDatastoreOrThrow(config["store_name"]).datastore
        given |= {"pool": host} if (host := source_host(store)) else {}
    minutes = given.pop("spread", 0)
    if "podTemplate" in given:
        given["podTemplate"] = with_job_container(given["podTemplate"])
    own = {ARGUMENT_KEYS[name]: row_value(value) for name, value in given.items()}
    schedule = config.get("schedule_string")
    if schedule and minutes and (offset := offset_of(config["stream_key"], schedule, minutes)):
        own["spread_minutes"] = offset
        own["schedule_string"] = moved_schedule(schedule, offset)
    return own


def stream_run_settings(dp: DynamicPlatform, key: str, tree: ValidationTree) -> dict[str, Any]:
    """Return the arguments of RunSettings that apply to a stream, each from the most specific."""
    patterns = matching_patterns(dp.runsOf, key)
    for one, other in find_contradictions(dp.runsOf, patterns, key):
        tree.addProblem(
            f"runsOf of platform {dp.name!r} has {one!a:.300} and {other!a:.300}, which are "
            f"as exact as each other and contradict each other for stream {key!a:.300}. Give "
            "it an entry of its own."
        )
    return merge_run_settings((dp.runs, *(dp.runsOf[pattern] for pattern in patterns)))


def source_host(store: Datastore) -> str | None:
    """Return the host name of a store's source, or None if its container has none."""
    container = getattr(store.cmd, "dataContainer", None)
    brokers = getattr(getattr(container, "bootstrapServers", None), "pairs", [None])
    address = getattr(container, "hostPortPair", brokers[0])
    return None if address is None else str(address.hostName)


# --- Stream configs to rows -------------------------------------------------------------------


def config_rows(
    dp: DynamicPlatform,
    eco: Ecosystem,
    configs: list[StreamConfig],
    tree: ValidationTree,
) -> dict[str, str]:
    """Return each stream's config_json by its key.

    The tree gets a problem for each value that Airflow cannot run or Kubernetes refuses.
    """
    try:
        common, settings = common_config(dp, eco), platform_settings(dp, eco)
    except ValueError as error:
        tree.addProblem(str(error))
        return {}
    rows: dict[str, str] = {}
    reported: set[tuple[str, str]] = set()
    for config in configs:
        key, store = config["stream_key"], config["store_name"]
        if key in rows:
            tree.addProblem(
                f"Two streams of platform {dp.name!r} have the key {key!r}; one is of store "
                f"{store!r}. Rename a store or a dataset."
            )
        rows[key] = ENCODER.encode({**common, **config})
        for problem in validate_stream(key, config, rows[key], settings):
            # A problem of a store, or of a credential, is one of many streams.
            subject = "" if problem.startswith(OF_CREDENTIAL) else store
            if (subject, problem) not in reported:
                tree.addProblem(f"Stream {key!r} of platform {dp.name!r}: {problem}.")
                reported.add((subject, problem))
    for problem in validate_platform(dp, configs, settings):
        tree.addProblem(f"Platform {dp.name!r}: {problem}.")
    return rows


def validate_platform(
    dp: DynamicPlatform, configs: list[StreamConfig], settings: dict[str, Any]
) -> Iterator[str]:
    """Yield the problems of a platform's settings, and clashes among its streams."""
    yield from validate_values(settings)
    credentials = list_credentials(settings)
    for config in configs:
        credentials |= list_credentials(add_credential_names(config))
    yield from find_shared_secrets(credentials)
    yield from find_shared_tables(dp, configs)


def find_shared_tables(dp: DynamicPlatform, configs: list[StreamConfig]) -> Iterator[str]:
    """Yield which datasets would be merged into the same table, whose name is in lower case."""
    datasets: dict[str, str] = {}
    for config in configs:
        # A transformer merges nothing itself.
        if config["ingestion_type"] == TRANSFORMER:
            continue
        for dataset in config["datasets"]:
            name = f"{config['store_name']}_{dataset}_merge"
            table = DATASURFACE.table_name(dp.psp, dp.getTableForPlatform(name))
            own = f"{config['store_name']}.{dataset}"
            if datasets.setdefault(table, own) != own:
                yield (
                    f"the datasets {datasets[table]!a:.300} and {own!a:.300} would share the table "
                    f"{table!a:.300} of the merge store; rename one"
                )
