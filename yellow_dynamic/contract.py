"""What the plugin, the factory file and the operator's command agree on; it needs no DataSurface.

`stream_config.schema.json` says what a row may hold. From "Ids, and what a row may hold" on, this
is part of every factory file too, which has no yellow_dynamic to import.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import importlib.util
import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from importlib import resources
from typing import Any

from croniter import croniter
from jinja2 import Environment, PackageLoader, StrictUndefined

# --- The rules of a row -----------------------------------------------------------------------


def rules_by_key(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the rule of each key of a configuration, in the words of JSON Schema.

    References are resolved, descriptions left out, and `needed` says whether a row must have it.
    """

    def resolved(rule: dict[str, Any]) -> dict[str, Any]:
        kind = rule.get("$ref", "").rpartition("/")[2]
        whole = {**(resolved(schema["$defs"][kind]) if kind else {}), **rule}
        for word in ("items", "additionalProperties"):
            if isinstance(whole.get(word), dict):
                whole[word] = resolved(whole[word])
        if "properties" in whole:
            whole["properties"] = {
                name: resolved(part) for name, part in whole["properties"].items()
            }
        return {word: whole[word] for word in whole if word not in ("$ref", "description")}

    return {
        key: {**resolved(rule), "needed": key in schema["required"]}
        for key, rule in schema["properties"].items()
    }


PACKAGE = resources.files("yellow_dynamic")
SCHEMA: dict[str, Any] = json.loads(
    PACKAGE.joinpath("stream_config.schema.json").read_text("utf-8")
)
#: The rule of each key of a configuration, as each factory file has it too.
KEYS = rules_by_key(SCHEMA)

#: The key of a row by the argument of RunSettings that it comes from.
RUN_KEYS: dict[str, str] = {
    rule["runSetting"]: key for key, rule in KEYS.items() if "runSetting" in rule
}

#: The settings that name the two tables in which DataSurface's jobs keep a platform's batches.
BATCH_TABLES = {"batch_counter_table", "batch_metrics_table"}


def secret_keys(role: str, settings: dict[str, Any]) -> dict[str, str]:
    """Return the keys of the secret of a credential in this role; see `keys_of_secret`.

    Args:
        role: `postgres`, `git`, `slack`, `source`, `kafka_connect` or `code`.
        settings: those of its platform, or of a stream.
    """
    return keys_of_secret(f"{role}_credential_secret_name", settings)


def command_options(settings: dict[str, Any]) -> list[str]:
    """Return the option of DataSurface's two commands that names what serves a platform.

    Args:
        settings: the platform's, as its factory file carries them.
    """
    provider = settings.get("services_provider")
    return ["--psp", provider] if provider else ["--platform", settings["original_platform_name"]]


# --- The factory file -------------------------------------------------------------------------


#: The container of a job's pod that runs the job; others stand beside it.
JOB_CONTAINER = "base"
FIRST_OF_FACTORY = "# --- Ids, and what a row may hold"


def factory_text_of(settings: dict[str, Any]) -> str:
    """Return the text of the factory file with these settings."""
    own_text = PACKAGE.joinpath("contract.py").read_text("utf-8")
    template = templates().get_template("yellow_platform_factory_dag.py.j2")
    return template.render(
        platform_literal=python_literal(dict(sorted(settings.items()))),
        keys_literal=python_literal(KEYS),
        contract=own_text[own_text.rindex(FIRST_OF_FACTORY) :].rstrip("\n"),
    )


def templates(**filters: Callable[[Any], str]) -> Environment:
    """Return the environment of this package's templates."""
    environment = Environment(
        loader=PackageLoader("yellow_dynamic", "templates"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
        trim_blocks=True,
    )
    environment.filters |= filters
    environment.globals |= {"job_container": JOB_CONTAINER, "model_volume": MODEL_VOLUME}
    return environment


def python_literal(value: Any, indent: int = 0) -> str:
    """Return a dict of texts, numbers, booleans, lists and such dicts as Python source.

    The outermost has one key a line, and so have those within that would make a long line.
    `ascii` quotes every value, so none of them can become code.
    """
    plain = ascii(value)
    if not isinstance(value, dict) or (indent and indent + len(plain) < LONGEST_LITERAL):
        return plain
    inner = indent + 4
    lines = [
        f"{' ' * inner}{key!a}: {python_literal(part, inner)},\n" for key, part in value.items()
    ]
    return "{\n" + "".join(lines) + " " * indent + "}"


LONGEST_LITERAL = 70


# --- Ids, and what a row may hold -------------------------------------------------------------

ACTIVE, DISABLED = "active", "disabled"
# Stand in the comment of the table: who made it, and whether a merge has removed its last row.
MADE_BY_BOOTSTRAP = "Configuration table of yellow_dynamic"
EMPTIED_BY_MERGE = "emptied by a merge"
# Far above any real stream: a store of 100 datasets takes about 4,000 characters.
MAX_CONFIG_CHARACTERS = 1_000_000
AIRFLOW_ID_CHARACTERS = 250
# What a program names the module that it makes of a factory file for its functions alone.
UNREGISTERED = "yellow_dynamic_unregistered"
START_DATE = datetime(2025, 1, 1, tzinfo=timezone.utc)
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
COMMITTED, FAILED = "committed", "failed"
# The XComs of a run: what its job ran with, and why a task of it failed.
RAN_WITH, FAILURE = "ran_with", "failure"
# How the settings begin that say who is told of a run that failed.
ON_FAILURE = "on_failure_"
DEFAULT_SCHEDULE = "@hourly"
# Rows of DataSurface's own factory carry the text "None" for an external trigger.
NO_SCHEDULE = (None, "", "None")
# Airflow's own words, which croniter does not know.
PRESETS = ("@once", "@continuous", "@quarterly")
# croniter's R, as in "R R * * *" and "R(0-29) * * * *".
RANDOM_CRON = re.compile(r"(^|\s)r(\(|/|\s|$)", re.IGNORECASE)
# The job that runs a transformer; all others ingest.
TRANSFORMER = "transformer"
NEEDED = [key for key, rule in KEYS.items() if rule["needed"]]
# How the ids of DAGs end, as DataSurface has them too; the key of a transformer has its end itself.
INGESTION_END, TRANSFORMER_END = "_ingestion", "_datatransformer"
# The key of each credential's own name, by that of its secret's.
CREDENTIAL_NAMES = {
    key: key.replace("_secret_name", "_name") for key, rule in KEYS.items() if "secretKeys" in rule
}


class BadRowError(Exception):
    """A row that cannot become a DAG; the text is the reason that the operator reads."""


def is_switched_off(status: str | None, disabled_until: str | None) -> bool:
    """Tell whether a stream is disabled at this moment.

    Args:
        status: the row's.
        disabled_until: the row's, as `DISABLED_UNTIL` reads it: ISO 8601 in UTC, or None for until
            somebody enables it.
    """
    if status != DISABLED or disabled_until is None:
        return status == DISABLED
    # Compared as texts, which tells "infinity" too.
    return disabled_until > datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")


def transformer_key_of(workspace_name: str) -> str:
    """Return the key of the stream that runs a workspace's transformer."""
    return f"{workspace_name}{TRANSFORMER_END}"


def dag_id_of(platform_name: str, stream_key: str) -> str:
    """Return the id of a stream's DAG; `platform_name` is the one that Airflow carries."""
    end = "" if stream_key.endswith(TRANSFORMER_END) else INGESTION_END
    return f"{platform_name}__{stream_key}{end}"


def stream_key_of(platform_name: str, dag_id: str) -> str | None:
    """Return the key of the stream whose DAG has this id, or None for one of something else."""
    key = dag_id.removeprefix(f"{platform_name}__").removesuffix(INGESTION_END)
    return key if dag_id_of(platform_name, key) == dag_id else None


def batch_key_of(config: dict[str, Any]) -> str | None:
    """Return a stream's key in the tables of batches, or None where its job has no batches."""
    if config.get("ingestion_type") == TRANSFORMER:
        return None
    store = config.get("store_name")
    return f"{store}#{config.get('dataset_name')}" if config.get("single_dataset") else str(store)


def factory_name_of(platform_name: str, number: int = 1) -> str:
    """Return the name of a platform's factory file of that number, without its `.py`."""
    return f"{platform_name}_factory_dag{suffix_of(number)}"


def suffix_of(number: int, separator: str = "_") -> str:
    """Return the end of what belongs to a factory file of that number."""
    return "" if number == 1 else f"{separator}{number}"


def revision_of(config_json: str | None) -> str:
    """Return a short name of exactly this configuration."""
    return hashlib.sha256((config_json or "").encode()).hexdigest()[:12]


# How the description of a stream's DAG ends, which Airflow lists where it does not list the page.
REVISION_END = " (revision {})"
DESCRIBED = re.compile(re.escape(REVISION_END).replace(r"\{\}", "([0-9a-f]{12})") + "$")


def revision_described(description: str | None) -> str | None:
    """Return the revision with which the description of a DAG ends, or None for none."""
    found = DESCRIBED.search(description or "")
    return found[1] if found else None


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
    yield from problems_across_keys(stream_key, status, settings, platform_name)
    yield from value_problems(settings)


def problems_across_keys(
    stream_key: str, status: str | None, settings: dict[str, Any], platform_name: str
) -> Iterator[str]:
    """Yield what of a row is not a matter of one value; see `row_problems`."""
    if status not in (ACTIVE, DISABLED):
        yield f"its status is {status!r}; it must be 'active' or 'disabled'"
    if problem := dag_id_problem(dag_id_of(platform_name, stream_key)):
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
            look = known_problem if isinstance(value, str) else problem_of
            if problem := look(key, value):
                yield problem


def problem_of(key: str, value: Any) -> str | None:
    return value_problem(key, value, KEYS[key])


# The rows of a platform have most of their texts in common.
known_problem = functools.lru_cache(maxsize=10_000)(problem_of)


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


# --- Why a table cannot be read ---------------------------------------------------------------


class Cause(str, enum.Enum):
    """What kind of failure kept the table from being read or written."""

    # None in the environment.
    NO_LOGIN = "no login"
    LOGIN = "login refused"
    NO_CONNECTION = "no connection"
    NO_SERVICE = "no service"
    TLS = "tls"
    CONNECTIONS = "too many connections"
    NO_PERMISSION = "no permission"
    ROW_SECURITY = "row security"
    READ_ONLY = "read only"
    NO_TABLE = "no table"
    # Empty, and no merge has emptied it.
    EMPTY = "empty"
    NO_ANSWER = "no answer"
    TIMEOUT = "statement timeout"
    LOCKED = "locked"
    REFERENCED = "referenced"
    NOT_NULL = "not null"
    DEPENDENT = "dependent"
    OTHER = "other"

    @classmethod
    def _missing_(cls, value: object) -> Cause:  # noqa: ARG003 - a later release may know more
        return cls.OTHER


# By PostgreSQL's code for the error.
CAUSES = {
    "0A000": Cause.DEPENDENT,
    "23502": Cause.NOT_NULL,
    "23503": Cause.REFERENCED,
    "25006": Cause.READ_ONLY,
    "28000": Cause.LOGIN,
    "28P01": Cause.LOGIN,
    "2BP01": Cause.DEPENDENT,
    "42501": Cause.NO_PERMISSION,
    "42P01": Cause.NO_TABLE,
    "53300": Cause.CONNECTIONS,
    "55P03": Cause.LOCKED,
    "57014": Cause.NO_ANSWER,
}
# By PostgreSQL's own words, where its drivers hand on no code or one code stands for several
# causes. Where it speaks another language, the cause is the more general one.
CAUSES_BY_WORDS = {
    "row-level security": Cause.ROW_SECURITY,
    "statement timeout": Cause.TIMEOUT,
    'password authentication failed|no password supplied|role ".*" does not exist': Cause.LOGIN,
    "no pg_hba.conf entry": Cause.LOGIN,
    "too many (clients|connections)|remaining connection slots": Cause.CONNECTIONS,
    "definition of service": Cause.NO_SERVICE,
    "session is (not )?read-only|in recovery mode|hot standby": Cause.READ_ONLY,
    "SSL|certificate": Cause.TLS,
}
# What to do about each, for whoever meets it.
ADVICE = {
    Cause.LOGIN: "Check the login, and that pg_hba.conf of the server lets it in from here",
    Cause.NO_CONNECTION: "Check that the database is up and can be reached from here",
    Cause.NO_SERVICE: "PGSERVICE names it; PGSERVICEFILE is the file that must have it",
    Cause.TLS: "Check PGSSLMODE and PGSSLROOTCERT here against what the server offers",
    Cause.CONNECTIONS: "Raise the limit of the server, the database or the role, or free some",
    Cause.ROW_SECURITY: "Row security would hide rows of the table: give the role BYPASSRLS, or "
    "switch row security off for the table",
    Cause.READ_ONLY: "This is a standby, or the role or the database is set to read only; name the "
    "primary server",
    Cause.TIMEOUT: "The role's or the database's statement_timeout is too short for it",
    Cause.NO_TABLE: "Run bootstrap with --ringLevel 1 to create the table",
    Cause.REFERENCED: "A foreign key of another table points at a row that goes; remove the key, "
    "or let it cascade",
    Cause.NOT_NULL: "A column that was added to the table takes no NULL and has no default; give "
    "it one",
    Cause.DEPENDENT: "A view or a rule depends on the table; drop it, do this, and create it again",
}


def cause_of(error: BaseException | None) -> Cause:
    """Return what kind of failure an error of psycopg2 or psycopg is."""
    for words, cause in CAUSES_BY_WORDS.items():
        if re.search(words, str(error)):
            return cause
    code = getattr(error, "pgcode", None) or getattr(error, "sqlstate", None)
    # An attempt to connect that fails has no code.
    if code is None and type(error).__name__ == "OperationalError":
        return Cause.NO_CONNECTION
    return CAUSES.get(str(code), Cause.OTHER)


# Reads the column of a row, as text; a table that an earlier release made has no such column.
DISABLED_UNTIL = "CASE status WHEN 'disabled' THEN to_jsonb({table}) ->> 'disabled_until' END"
# The schemas that have a table of the name, besides one that the role sees.
SCHEMAS = """\
SELECT relnamespace::regnamespace::text FROM pg_class
WHERE relname = {name} AND relkind IN ('r', 'p') AND NOT pg_table_is_visible(oid) ORDER BY 1
"""


def with_schemas(advice: str, schemas: list[str]) -> str:
    """Return the advice on a table that is missing, where other schemas have one of its name."""
    if not schemas:
        return advice
    return (
        f"There is one in schema {', '.join(schemas)}, which the role's search_path does not name; "
        f"add it there. Or else: {advice[0].lower()}{advice[1:]}"
    )


# --- What Kubernetes and PostgreSQL are given -------------------------------------------------

# Where Jobs keep copies of the model in their containers, unless a platform says otherwise.
MODEL_FOLDER = "/cache/git-models"
# The parts of a login.
LOGIN_PARTS = {"USER", "PASSWORD"}
# Jobs look for a newer image each time, unless a platform says otherwise.
PULL_ALWAYS = "Always"
# The volumes that a job's pod may have itself: of the model, and of a transformer's code.
MODEL_VOLUME, WORKING_VOLUME = "git-model-cache", "datatransformer"


def model_claim_of(settings: dict[str, Any]) -> str | None:
    """Return the claim of the volume that all Jobs keep the model on, or None for no volume."""
    if not settings.get("git_cache_enabled"):
        return None
    return settings.get("git_cache_claim") or f"{settings['ecosystem_k8s_name']}-git-model-cache"


def model_folder_of(settings: dict[str, Any]) -> str:
    """Return the folder in which Jobs keep copies of the model in their containers."""
    return settings.get("git_cache_folder") or MODEL_FOLDER


def keys_of_secret(secret_key: str, settings: dict[str, Any]) -> dict[str, str]:
    """Return the keys of a credential's secret.

    Args:
        secret_key: the setting that names the secret.
        settings: those of a platform or of a stream.

    Returns:
        Each key by the end of the environment variable's name that carries it to the job.
    """
    keys: dict[str, str] = KEYS[secret_key]["secretKeys"]
    if settings.get("login_keys_by_secret") and keys.keys() == LOGIN_PARTS:
        return {part: f"{settings[secret_key]}_{part}" for part in keys}
    return keys


def literally(value: str) -> str:
    """Return a value as Kubernetes must be given it, which expands `$(VARIABLE)`, secrets too."""
    return value.replace("$", "$$")


def postgres_driver() -> str:
    """Return the name of the PostgreSQL driver that is installed."""
    return "psycopg2" if importlib.util.find_spec("psycopg2") else "psycopg"
