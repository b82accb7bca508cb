"""What the factory file, a merge and the command see alike.

All of this but the imports is part of every factory file, which has no yellow_dynamic to import.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import json
import re
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from croniter import croniter

from yellow_dynamic.contract import KEYS

# --- Ids, and what a row may hold -------------------------------------------------------------

ACTIVE, DISABLED = "active", "disabled"
# Far above any real stream: a store of 100 datasets takes about 4,000 characters.
MAX_CONFIG_CHARACTERS = 1_000_000
AIRFLOW_ID_CHARACTERS = 250
START_DATE = datetime(2025, 1, 1, tzinfo=timezone.utc)
DEFAULT_SCHEDULE = "@hourly"
# Rows of DataSurface's own factory carry the text "None" for an external trigger.
NO_SCHEDULE = (None, "", "None")
# Airflow's own words, which croniter does not know.
PRESETS = ("@once", "@continuous", "@quarterly")
NEEDED = [key for key, rule in KEYS.items() if rule["needed"]]
# The key of each credential's own name, by that of its secret's.
CREDENTIAL_NAMES = {
    key: key.replace("_secret_name", "_name") for key, rule in KEYS.items() if "secretKeys" in rule
}


class BadRowError(Exception):
    """A row that cannot become a DAG; the text is the reason that the operator reads."""


def dag_id_of(platform_name: str, stream_key: str) -> str:
    """Return the id of a stream's DAG; `platform_name` is the one that Airflow carries."""
    return f"{platform_name}__{stream_key}_ingestion"


def revision_of(config_json: str | None) -> str:
    """Return a short name of exactly this configuration."""
    return hashlib.sha256((config_json or "").encode()).hexdigest()[:12]


def dag_id_problem(dag_id: str) -> str | None:
    if len(dag_id) <= AIRFLOW_ID_CHARACTERS and re.fullmatch(r"[\w.-]+", dag_id):
        return None
    return (
        f"Airflow refuses the dag id {dag_id!a:.300}; at most {AIRFLOW_ID_CHARACTERS} letters, "
        "digits, dashes, dots and underscores are allowed"
    )


def parsed_config(config_json: str | None) -> dict[str, Any]:
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


def overlaid(platform: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Return a platform's settings overlaid with a row's configuration."""
    return {"schedule_string": DEFAULT_SCHEDULE, **platform, **with_credential_names(config)}


def with_credential_names(config: dict[str, Any]) -> dict[str, Any]:
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
        settings: what `overlaid` made of its configuration.
        platform_name: the name that its platform has in Airflow.
    """
    if status not in (ACTIVE, DISABLED):
        yield f"its status is {status!r}; it must be {ACTIVE!r} or {DISABLED!r}"
    if problem := dag_id_problem(dag_id_of(platform_name, stream_key)):
        yield problem
    if missing := [key for key in NEEDED if key not in settings]:
        yield f"its config_json lacks {', '.join(missing)}"
    yield from value_problems(settings)
    if settings.get("stream_key", stream_key) != stream_key:
        yield f"its config_json is that of stream {settings['stream_key']!r}"
    if settings.get("platform_name", platform_name) != platform_name:
        yield f"it belongs to platform {settings['platform_name']!r}"
    if settings.get("single_dataset") is True:
        datasets = settings.get("datasets")
        if isinstance(datasets, list) and settings.get("dataset_name") not in datasets:
            yield "single_dataset is true, but dataset_name does not name one of its datasets"
    if settings.get("git_cache_enabled") is True and "ecosystem_k8s_name" not in settings:
        yield "git_cache_enabled is true, but ecosystem_k8s_name is not given"


def value_problems(settings: dict[str, Any]) -> Iterator[str]:
    """Yield which values are not what their keys' rules say; keys without a rule may be newer."""
    for key, value in settings.items():
        if key in KEYS and (problem := value_problem(key, value, KEYS[key])):
            yield problem


def value_problem(key: str, value: Any, rule: dict[str, Any]) -> str | None:
    """Return what is wrong with the value of a key, or None."""
    kind = rule["type"]
    if kind == "string":
        return text_problem(key, value, rule)
    if kind == "integer":
        return number_problem(key, value, rule)
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


def text_problem(key: str, value: Any, rule: dict[str, Any]) -> str | None:
    if not isinstance(value, str) or not value:
        return f"{key} is {value!r:.50}, not a text"
    if len(value) > rule["maxLength"]:
        return f"{key} has {len(value)} characters, more than {rule['maxLength']}"
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
    try:
        # A first date is computed too: "0 0 30 2 *" parses, and fails only in the scheduler.
        croniter(schedule, START_DATE).get_next()
    except (ValueError, KeyError) as error:
        return f"{key} {schedule!r} is not a cron expression: {error}"
    return None


# --- Why a table cannot be read ---------------------------------------------------------------


class Cause(str, enum.Enum):
    """What kind of failure kept the table from being read."""

    LOGIN = "login"
    PERMISSION = "permission"
    NO_TABLE = "no table"
    UNREACHABLE = "unreachable"
    NO_ANSWER = "no answer"
    OTHER = "other"


# By PostgreSQL's code for the error.
CAUSES = {
    "28000": Cause.LOGIN,
    "28P01": Cause.LOGIN,
    "42501": Cause.PERMISSION,
    "42P01": Cause.NO_TABLE,
    "57014": Cause.NO_ANSWER,
}


def cause_of(error: BaseException | None) -> Cause:
    """Return what kind of failure an error of psycopg2 or psycopg is."""
    code = getattr(error, "pgcode", None) or getattr(error, "sqlstate", None)
    # An attempt to connect that fails has no code.
    if code is None and type(error).__name__ == "OperationalError":
        return Cause.UNREACHABLE
    return CAUSES.get(str(code), Cause.OTHER)
