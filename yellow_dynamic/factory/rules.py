"""Ids, and what a row may hold."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from croniter import croniter

from yellow_dynamic.factory.keys import KEYS

ACTIVE, DISABLED = "active", "disabled"
# The end of the name of a table's history.
HISTORY = "_history"
# PostgreSQL truncates longer names.
NAME_BYTES = 63
# The commands that write the rows that are wanted, as the history has them.
MERGE, ROLLBACK = "merge", "rollback"
# Far above any real stream: a store of 100 datasets takes about 4,000 characters.
MAX_CONFIG_CHARACTERS = 1_000_000
AIRFLOW_ID_CHARACTERS = 250
# Without a zone, as in DataSurface's own DAGs: schedules are in Airflow's default time zone.
START_DATE = datetime(2025, 1, 1)
# The columns of the table of batches, besides its times, by what they are called here.
BATCH_COLUMNS = {
    "number": "batch_id",
    "status": "batch_status",
    "inserted": "records_inserted",
    "updated": "records_updated",
    "deleted": "records_deleted",
    "total": "total_records",
}
# What becomes of a batch in the end.
COMMITTED_BATCH, FAILED_BATCH = "committed", "failed"
# The XComs of a run: what its job ran with, and why a task of it failed.
RAN_WITH, FAILURE = "ran_with", "failure"
# How the values begin that an XCom backend leaves in place of what it keeps elsewhere.
URL = re.compile(r"[\w.+-]+://")
# The start of the settings that name the recipients of notifications.
ON_FAILURE = "on_failure_"
DEFAULT_SCHEDULE = "@hourly"
# Rows of DataSurface's own factory have the text "None" for an external trigger.
NO_SCHEDULE = (None, "", "None")
# Airflow's own words, which croniter does not know.
PRESETS = ("@once", "@continuous", "@quarterly")
# croniter's R, as in "R R * * *" and "R(0-29) * * * *".
RANDOM_CRON = re.compile(r"(^|\s)r(\(|/|\s|$)", re.IGNORECASE)
# The job that runs a transformer; all others ingest.
TRANSFORMER = "transformer"
NEEDED = [key for key, rule in KEYS.items() if rule["needed"]]
# The argument of RunSettings that a key comes from.
RUN_KEYS: dict[str, str] = {
    key: rule["runSetting"] for key, rule in KEYS.items() if "runSetting" in rule
}
# How the ids of DAGs end, as DataSurface has them too; the key of a transformer has its end itself.
INGESTION_END, TRANSFORMER_END = "_ingestion", "_datatransformer"
# The key of each credential's own name, by that of its secret's.
CREDENTIAL_NAMES = {
    key: key.replace("_secret_name", "_name") for key, rule in KEYS.items() if "secretKeys" in rule
}


# Reads a time of any type in a session whose zone is UTC: as text, since Python has neither every
# year nor "infinity".
TIME_AS_TEXT = "replace(to_jsonb({time}) #>> '{{}}', '+00:00', '')"
# The same for until when a row's stream is disabled; NULL is for good. A table that an earlier
# release made has no such column.
DISABLED_UNTIL = (
    "CASE status::text WHEN 'disabled' THEN "
    "nullif(replace(to_jsonb({table}) ->> 'disabled_until', '+00:00', ''), 'infinity') END"
)


class BadRowError(Exception):
    """A row that cannot become a DAG; the text is the reason that the operator reads."""


def is_disabled(status: str | None, disabled_until: str | None) -> bool:
    """Return whether a stream is disabled at this moment.

    Args:
        status: the row's.
        disabled_until: the row's, as `DISABLED_UNTIL` reads it: ISO 8601 in UTC, "-infinity", or
            None for until somebody enables it.
    """
    if status != DISABLED or disabled_until is None:
        return status == DISABLED
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    # A longer year is a later one, and "-infinity" has none.
    return (len(disabled_until.partition("-")[0]), disabled_until) > (4, now)


def parse_failure(value: Any) -> str | None:
    """Return the reason that a task pushed as FAILURE, or None for a value that is no sentence.

    Airflow's database has what the XCom backend made of it: an address, or what it encrypted.
    """
    is_sentence = isinstance(value, str) and " " in value and not URL.match(value)
    return value if is_sentence else None


def build_dag_id(platform_name: str, stream_key: str) -> str:
    """Return the id of a stream's DAG; `platform_name` is its name in Airflow."""
    end = "" if stream_key.endswith(TRANSFORMER_END) else INGESTION_END
    return f"{platform_name}__{stream_key}{end}"


def derive_name(table: str, suffix: str) -> str:
    """Return a table's name with a suffix, shortened where PostgreSQL would truncate it."""
    if len(f"{table}{suffix}".encode()) <= NAME_BYTES:
        return f"{table}{suffix}"
    digest = hashlib.sha256(table.encode()).hexdigest()[:8]
    start = table.encode()[: NAME_BYTES - len(suffix) - len(digest) - 1].decode(errors="ignore")
    return f"{start}_{digest}{suffix}"


def parse_dag_id(platform_name: str, dag_id: str) -> str | None:
    """Return the key of the stream whose DAG has this id, or None for one of something else."""
    key = dag_id.removeprefix(f"{platform_name}__").removesuffix(INGESTION_END)
    return key if build_dag_id(platform_name, key) == dag_id else None


def get_batch_key(config: dict[str, Any]) -> str | None:
    """Return a stream's key in the tables of batches, or None where its job has no batches."""
    if config.get("ingestion_type") == TRANSFORMER:
        return None
    store = config.get("store_name")
    return f"{store}#{config.get('dataset_name')}" if config.get("single_dataset") else str(store)


def factory_file_name(platform_name: str, number: int = 1) -> str:
    """Return the name of a platform's factory file of that number, without its `.py`."""
    return f"{platform_name}_factory_dag{number_suffix(number)}"


def number_suffix(number: int, separator: str = "_") -> str:
    """Return the end of what belongs to a factory file of that number."""
    return "" if number == 1 else f"{separator}{number}"


def compute_revision(config_json: str | None) -> str:
    """Return a short name of exactly this configuration."""
    return hashlib.sha256((config_json or "").encode()).hexdigest()[:12]


# How the description of a stream's DAG ends, which Airflow lists where it does not list the page.
REVISION_END = " (revision {})"


def dag_id_problem(dag_id: str) -> str | None:
    if len(dag_id) <= AIRFLOW_ID_CHARACTERS and re.fullmatch(r"[\w.-]+", dag_id):
        return None
    return (
        f"Airflow refuses the dag id {dag_id!a:.300}; at most {AIRFLOW_ID_CHARACTERS} letters, "
        "digits, dashes, dots and underscores are allowed"
    )


def parse_config(config_json: str | None) -> dict[str, Any]:
    """Return the configuration that a row's text holds, or raise BadRowError."""
    if config_json is None:
        raise BadRowError("its config_json is NULL")
    if problem := size_problem(config_json):
        raise BadRowError(problem)
    try:
        config = json.loads(config_json)
    except (ValueError, RecursionError) as error:
        raise BadRowError(f"its config_json is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise BadRowError(f"its config_json is not an object but {type(config).__name__}")
    return config


def size_problem(config_json: str) -> str | None:
    if len(config_json) <= MAX_CONFIG_CHARACTERS:
        return None
    return f"its config_json has {len(config_json)} characters, more than {MAX_CONFIG_CHARACTERS}"


def overlay_config(platform: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Return a platform's settings overlaid with a row's configuration."""
    return {"schedule_string": DEFAULT_SCHEDULE, **platform, **add_credential_names(config)}


def add_credential_names(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration with the own name of each credential: where none is given, its
    secret's."""
    names = {
        name_key: config[secret_key]
        for secret_key, name_key in CREDENTIAL_NAMES.items()
        if secret_key in config
    }
    return {**names, **config}


def row_problems(
    stream_key: str, status: str | None, settings: dict[str, Any], platform_name: str
) -> Iterator[str]:
    """Yield what would fail later, in Airflow or in Kubernetes, of a row.

    Args:
        stream_key: the row's.
        status: the row's.
        settings: what `overlay_config` made of its configuration.
        platform_name: the name that its platform has in Airflow.
    """
    yield from problems_across_keys(stream_key, status, settings, platform_name)
    yield from value_problems(settings)


def problems_across_keys(
    stream_key: str, status: str | None, settings: dict[str, Any], platform_name: str
) -> Iterator[str]:
    """Yield what of a row is not a matter of one value; see `row_problems`."""
    if status not in (ACTIVE, DISABLED):
        yield f"its status is {status!r}; it must be 'active' or 'disabled'"
    if problem := dag_id_problem(build_dag_id(platform_name, stream_key)):
        yield problem
    if missing := [key for key in NEEDED if key not in settings]:
        yield f"its config_json lacks {', '.join(missing)}"
    if settings.get("stream_key", stream_key) != stream_key:
        yield f"its config_json is that of stream {settings['stream_key']!r:.300}"
    if settings.get("platform_name", platform_name) != platform_name:
        yield f"it belongs to platform {settings['platform_name']!r:.300}"
    if settings.get("single_dataset") is True:
        datasets = settings.get("datasets")
        if isinstance(datasets, list) and settings.get("dataset_name") not in datasets:
            yield "single_dataset is true, but dataset_name does not name one of its datasets"
    if settings.get("git_cache_enabled") is True:
        for key in ("ecosystem_k8s_name", "git_cache_max_age_minutes"):
            if key not in settings:
                yield f"git_cache_enabled is true, but {key} is not given"
    transforms = settings.get("ingestion_type") == TRANSFORMER
    if transforms and settings.get("workspace_name") is None:
        yield "its ingestion_type is transformer, but workspace_name is not given"
    if transforms and not stream_key.endswith(TRANSFORMER_END):
        yield f"it is of a transformer, but its key does not end in {TRANSFORMER_END}"
    if "started_by" in settings and settings["schedule_string"] not in NO_SCHEDULE:
        yield "it has both a schedule_string and started_by"


def value_problems(settings: dict[str, Any]) -> Iterator[str]:
    """Yield which values are not what their keys' rules say; keys without a rule may be newer."""
    for key, value in settings.items():
        if key in KEYS:
            look = find_text_problem if isinstance(value, str) else find_key_problem
            if problem := look(key, value):
                yield problem


def find_key_problem(key: str, value: Any) -> str | None:
    return value_problem(key, value, KEYS[key])


# The rows of a platform have most of their texts in common.
find_text_problem = functools.lru_cache(maxsize=10_000)(find_key_problem)


def value_problem(key: str, value: Any, rule: dict[str, Any]) -> str | None:
    """Return what is wrong with the value of a key, or None."""
    kind = rule["type"]
    if kind == "string":
        return text_problem(key, value, rule)
    if kind == "integer":
        return number_problem(key, value, rule)
    if kind == "object" and isinstance(value, dict):
        return object_problem(key, value, rule)
    if kind == "array" and isinstance(value, list) and value:
        problems = (text_problem(key, item, rule["items"]) for item in value)
        return next(filter(None, problems), None)
    if kind == "boolean" and isinstance(value, bool):
        return None
    if rule.get("format") == "schedule":
        return None if value in NO_SCHEDULE else schedule_problem(key, value, rule)
    return f"{key} is {value!r:.50}, not {rule['title']}"


def number_problem(key: str, value: Any, rule: dict[str, Any]) -> str | None:
    least, most = rule["minimum"], rule["maximum"]
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
        return None
    return f"{key} is {value!r:.50}, not a whole number from {least} to {most}"


def object_problem(key: str, value: dict[str, Any], rule: dict[str, Any]) -> str | None:
    parts = rule.get("properties", {})
    for name, part in value.items():
        of_part = parts.get(name, rule.get("additionalProperties", True))
        if of_part is False:
            return f"{key} has {name!a:.50}, which is none of {', '.join(parts)}"
        path = f"{key}.{name if name.isprintable() else ascii(name)}"
        problem = None if of_part is True else value_problem(path, part, of_part)
        if problem:
            return problem
    return None


def text_problem(key: str, value: Any, rule: dict[str, Any]) -> str | None:
    if not isinstance(value, str) or not value:
        return f"{key} is {value!r:.50}, not a text"
    if "maxLength" in rule and len(value) > rule["maxLength"]:
        most = rule["maxLength"]
        return f"{key} {value!a:.100} has {len(value)} characters, more than {most}"
    # Line breaks and other control characters forge log lines and break pod specifications.
    if not value.isprintable():
        return f"{key} holds a character that cannot be printed: {value!a:.100}"
    if "enum" in rule and value not in rule["enum"]:
        return f"{key} is {value!r:.50}, not {rule['title']}"
    if "pattern" in rule and not re.fullmatch(rule["pattern"], value):
        return f"{key} {value!r:.300} is not {rule['title']}"
    return None


def schedule_problem(key: str, value: Any, rule: dict[str, Any]) -> str | None:
    return text_problem(key, value, rule) or cron_problem(key, value)


@functools.cache
def cron_problem(key: str, schedule: str) -> str | None:
    """Return why Airflow cannot use a schedule, or None."""
    if schedule in PRESETS:
        return None
    if RANDOM_CRON.search(schedule):
        return f"{key} {schedule!r:.300} is at a random time, which Airflow draws anew at each look"
    try:
        # Dates are computed as the scheduler does, where "0 0 30 2 *" and a year that is over fail.
        now = datetime.now(timezone.utc)
        croniter(schedule, now).get_next()
        croniter(schedule, now).get_prev()
    except (ValueError, KeyError) as error:
        return f"{key} {schedule!r:.300} is not a cron expression: {error!s:.300}"
    return None
