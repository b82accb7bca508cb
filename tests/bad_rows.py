"""Rows that cannot become an ingestion DAG, as hands and other releases may write them."""

from __future__ import annotations

import json
from typing import Any

from conftest import Site


def good_config(site: Site, key: str, **changes: Any) -> dict[str, Any]:
    """Return a valid configuration of stream `key`, made after that of the stream Good1."""
    [(text,)] = site.sql("SELECT config_json FROM {table} WHERE stream_key = 'Good1'")
    return {**json.loads(text), "stream_key": key, "store_name": key, **changes}


#: What config_json may hold instead of a configuration, and what the reason says of it.
BAD_TEXTS = {
    "broken JSON": ("{", "is not JSON"),
    "a list": ("[]", "not an object but list"),
    "null": ("null", "not an object but NoneType"),
    "SQL NULL": (None, "is NULL"),
    "deep nesting": ("[" * 100_000, "is not JSON"),
    "5 MB": (json.dumps({"x": "y" * 5_000_000}), "more than 1000000"),
}
#: Bad values in an otherwise valid configuration, and what the reason says of them.
BAD_CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "invalid cron": ({"schedule_string": "every day"}, "not a cron expression"),
    "cron that never comes": ({"schedule_string": "0 0 30 2 *"}, "not a cron expression"),
    "cron of a year that is over": (
        {"schedule_string": "0 0 1 1 * 0 2020"},
        "not a cron expression",
    ),
    "cron of a year to come": ({"schedule_string": "0 0 1 1 * 0 2098"}, "not a cron expression"),
    "cron at random": ({"schedule_string": "R R * * *"}, "at a random time"),
    "wrong-typed text": ({"store_name": 7}, "store_name is 7, not a text"),
    "wrong-typed flag": ({"single_dataset": "no"}, "not true or false"),
    "wrong-typed cache flag": ({"git_cache_enabled": 1}, "not true or false"),
    "wrong-typed age": ({"git_cache_max_age_minutes": "5"}, "whole number"),
    "datasets of a text": ({"datasets": "customers"}, "not a list"),
    "no datasets": ({"datasets": []}, "not a list of at least one"),
    "dataset that is a number": ({"datasets": [1]}, "datasets is 1, not a text"),
    "single without its name": ({"single_dataset": True}, "dataset_name does not name"),
    "another stream's config": ({"stream_key": "Other"}, "that of stream 'Other'"),
    "another platform's config": ({"platform_name": "other"}, "belongs to platform 'other'"),
    "line break in a name": ({"git_repo_branch": "main\nroot"}, "cannot be printed"),
    "NUL": ({"store_name": "a\0b"}, "cannot be printed"),
    "line separator": ({"store_name": "a\u2028b"}, "cannot be printed"),
    "10 kB name": ({"store_name": "x" * 10_000}, "more than 1024"),
    "namespace with capitals": ({"namespace_name": "Prod"}, "not a Kubernetes name"),
    "credential with a space": ({"source_credential_name": "my cred"}, "environment variable"),
    "quantity that is none": ({"resources": {"limits": {"cpu": "1x"}}}, "not a quantity such as"),
    "resources of a text": ({"resources": "1Gi"}, "not requests and limits of resources"),
    "resources of another word": ({"resources": {"limit": {}}}, "'limit', which is none of"),
    "pod template of a list": ({"pod_template": []}, "not a PodTemplateSpec"),
    "pod template of another word": ({"pod_template": {"kind": "Pod"}}, "'kind', which is none of"),
    "pod template without an object": ({"pod_template": {"spec": 1}}, "spec is 1, not an object"),
    "retries of a text": ({"retries": "2"}, "retries is '2', not a whole number from 0 to 100"),
    "timeout of no time": ({"timeout_seconds": 0}, "not a whole number from 1 to"),
    "pool of a number": ({"pool": 1}, "pool is 1, not a text"),
    "unknown ingestion": ({"ingestion_type": "cdc"}, "not one this version knows"),
    "repository without owner": ({"git_repo_url": "https://github.com/x"}, "owner/repository"),
    "path in the repository": ({"git_repo_url": "https://github.com/a/../b"}, "owner/repository"),
}
