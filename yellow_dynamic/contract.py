"""Names of the contract under which other modules know it; see `yellow_dynamic.factory`."""

from __future__ import annotations

import re
from typing import Any

from yellow_dynamic.factory.causes import ADVICE, SCHEMAS, Cause
from yellow_dynamic.factory.causes import add_schemas as with_schemas
from yellow_dynamic.factory.causes import classify_error as cause_of
from yellow_dynamic.factory.constants import (
    JOB_CONTAINER,
    MODEL_VOLUME,
    PULL_ALWAYS,
    UNREGISTERED,
    WORKING_VOLUME,
)
from yellow_dynamic.factory.database import postgres_driver
from yellow_dynamic.factory.keys import KEYS, SCHEMA
from yellow_dynamic.factory import rules
from yellow_dynamic.factory.rules import (
    ACTIVE,
    BATCH_COLUMNS,
    COMMITTED,
    CREDENTIAL_NAMES,
    DEFAULT_SCHEDULE,
    DISABLED,
    DISABLED_UNTIL,
    EMPTIED_BY_MERGE,
    FAILED,
    FAILURE,
    INGESTION_END,
    MADE_BY_BOOTSTRAP,
    NO_SCHEDULE,
    PRESETS,
    ON_FAILURE,
    RAN_WITH,
    TRANSFORMER,
    BadRowError,
    problems_across_keys,
    START_DATE,
)
from yellow_dynamic.factory.rules import (
    REVISION_END,
    TRANSFORMER_END,
    cron_problem,
    dag_id_problem,
    row_problems,
    schedule_problem,
    size_problem,
    value_problem,
    value_problems,
)
from yellow_dynamic.factory.rules import add_credential_names as with_credential_names
from yellow_dynamic.factory.rules import build_dag_id as dag_id_of
from yellow_dynamic.factory.rules import compute_revision as revision_of
from yellow_dynamic.factory.rules import factory_file_name as factory_name_of
from yellow_dynamic.factory.rules import get_batch_key as batch_key_of
from yellow_dynamic.factory.rules import is_disabled as is_switched_off
from yellow_dynamic.factory.rules import number_suffix as suffix_of
from yellow_dynamic.factory.rules import overlay_config as overlaid
from yellow_dynamic.factory.rules import parse_config as parsed_config
from yellow_dynamic.factory.rules import parse_dag_id as stream_key_of
from yellow_dynamic.factory.secrets import escape_dollar as literally
from yellow_dynamic.factory.secrets import get_model_claim as model_claim_of
from yellow_dynamic.factory.secrets import get_model_folder as model_folder_of
from yellow_dynamic.factory.secrets import get_secret_keys as keys_of_secret

#: The key of a row by the argument of RunSettings that it comes from.
RUN_KEYS: dict[str, str] = {argument: key for key, argument in rules.RUN_KEYS.items()}
BATCH_TABLES = {"batch_counter_table", "batch_metrics_table"}


def secret_keys(role: str, settings: dict[str, Any]) -> dict[str, str]:
    return keys_of_secret(f"{role}_credential_secret_name", settings)


def command_options(settings: dict[str, Any]) -> list[str]:
    provider = settings.get("services_provider")
    return ["--psp", provider] if provider else ["--platform", settings["original_platform_name"]]


def factory_text_of(settings: dict[str, Any]) -> str:
    from yellow_dynamic.rendering import render_factory

    return render_factory(settings)


def python_literal(value: Any, indent: int = 0) -> str:
    from yellow_dynamic import rendering

    return rendering.python_literal(value, indent)


def transformer_key_of(workspace_name: str) -> str:
    return f"{workspace_name}{TRANSFORMER_END}"


DESCRIBED = re.compile(re.escape(REVISION_END).replace(r"\{\}", "([0-9a-f]{12})") + "$")


def revision_described(description: str | None) -> str | None:
    found = DESCRIBED.search(description or "")
    return found[1] if found else None
