"""A row is good or bad alike for the schema, for a merge, and for the factory file."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from bad_rows import BAD_CHANGES
from conftest import import_file
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker
from run_settings import EVERYTHING
from transforming import transform
from yellow_models import MULTI, PROVIDERS_BOOTSTRAP, SINGLE, Model, Store

import yellow_dynamic
from datasurface.md import Credential, CronTrigger, PlatformPipelineGraph, ValidationTree
from datasurface.md.credential import CredentialType
from yellow_dynamic.factory.keys import KEYS, SCHEMA
from yellow_dynamic.factory.rules import (
    CREDENTIAL_NAMES,
    NO_SCHEDULE,
    REVISION_END,
    compute_revision,
    schedule_problem,
)
from yellow_dynamic.monitoring.airflow import parse_revision
from yellow_dynamic.platform_settings import platform_settings
from yellow_dynamic.plugin import factory_text
from yellow_dynamic.stream_configs import config_rows, stream_configs
from yellow_dynamic.validation import validate_stream

#: What one row's keys must be to each other, or to the row's columns: beyond a schema's words.
RULES_ACROSS_KEYS = (
    "git_cache_enabled is true, but ",
    "its config_json is that of stream",
    "it belongs to platform",
    "dataset_name does not name one of its datasets",
    "its ingestion_type is transformer, but ",
    "it is of a transformer, but its key",
    "it has both a schedule_string and started_by",
)
#: What the factory file makes of a row's values, and no row has.
MADE_BY_THE_FACTORY = {"git_repo_owner", "git_repo_repo_name"}
#: What only some releases of DataSurface need.
OF_OTHER_RELEASES = (
    set()
    if PROVIDERS_BOOTSTRAP
    else {"git_cache_claim", "git_cache_folder", "image_pull_policy", "login_keys_by_secret"}
)
#: What bootstrap gives the factory file beside the keys of a row.
OF_THE_FACTORY_ALONE = {
    "assets",
    "batch_counter_table",
    "batch_metrics_table",
    "config_table",
    "factory_shards",
    "on_failure_mail_connection",
    "on_failure_mail_to",
    "on_failure_slack_connection",
    "paused_at_creation",
    "plugin_version",
    "services_provider",
    "weight_rule",
}


@pytest.fixture(scope="module", params=[True, False], ids=["cache", "no cache"])
def graph(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> PlatformPipelineGraph:
    """A platform whose rows and settings use every key, but for the cache's where it has none."""
    stores = [
        Store("Store2", ["a", "b"], MULTI, credential="Source_Login"),
        Store("Pair", ["x", "y"], SINGLE, trigger=CronTrigger("Hourly", "0 * * * *")),
        Store("Events", kafka=True),
    ]
    slack, code = (Credential(name, CredentialType.API_TOKEN) for name in ("slack", "Code_Token"))
    model = Model(
        platformArguments={
            "assets": True,
            "slackCredential": slack,
            "slackChannel": "#data",
            "runsOf": {"Pair_x": EVERYTHING},
        },
        providerArguments={"git_cache_enabled": request.param},
    )
    transform(model, credential=code).stores += stores
    return model.graph(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def settings(graph: Any) -> dict[str, Any]:
    """What bootstrap gives the factory file."""
    return platform_settings(graph.platform, graph.eco)


@pytest.fixture(scope="module")
def rows(graph: Any) -> dict[str, dict[str, Any]]:
    """The configurations that a merge writes, by stream key."""
    tree = ValidationTree(graph.eco)
    configs = stream_configs(graph.platform, graph, tree)
    texts = config_rows(graph.platform, graph.eco, configs, tree)
    assert not tree.hasErrors()
    return {key: json.loads(text) for key, text in texts.items()}


@pytest.fixture(scope="module")
def factory(graph: Any, tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The factory file, which has read no table."""
    file = tmp_path_factory.mktemp("factory") / "yellowlive_factory_dag.py"
    file.write_text(factory_text(graph.platform, graph.eco))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "a DAG of another file")
        return import_file(file)


def of_the_schema(config: dict[str, Any]) -> list[str]:
    """Return what the schema says of a configuration, its formats checked."""
    formats = FormatChecker(formats=())
    formats.checks("printable")(lambda value: not isinstance(value, str) or value.isprintable())
    formats.checks("schedule")(
        lambda value: (
            value in NO_SCHEDULE
            or schedule_problem("schedule_string", value, KEYS["schedule_string"]) is None
        )
    )
    validator = Draft202012Validator(SCHEMA, format_checker=formats)
    return [error.message for error in validator.iter_errors(config)]


def of_the_factory(factory: ModuleType, key: str, config: dict[str, Any]) -> str | None:
    """Return why the factory file refuses a row, or None."""
    try:
        row = factory.Row(key, json.dumps(config), "active", None)
        parsed = factory.parse_config(row.config_json)
        factory.row_settings(factory.BUILDER.platform, row, parsed)
    except factory.BadRowError as error:
        return str(error)
    return None


def across_keys(problem: str, config: dict[str, Any]) -> bool:
    """Tell whether a problem is not one of a single value."""
    problem = problem.rpartition(" cannot be used: ")[2]
    # Where a credential has no name of its own, its secret's becomes a variable's name.
    name_of_secret = problem.partition(" ")[0] in {
        name for secret, name in CREDENTIAL_NAMES.items() if name not in config and secret in config
    }
    return name_of_secret or any(rule in problem for rule in RULES_ACROSS_KEYS)


def assert_agreement(
    settings: dict[str, Any], factory: ModuleType, key: str, config: dict[str, Any]
) -> list[str]:
    """See that all three say the same of a row, and return what a merge says."""
    merge = list(validate_stream(key, config, json.dumps(config), settings))
    refusal = of_the_factory(factory, key, config)
    schema = of_the_schema(config)

    assert any(problem.endswith(refusal or "") for problem in merge) == (refusal is not None)
    assert bool(schema) == any(not across_keys(problem, config) for problem in merge), (
        schema,
        merge,
    )
    return merge


@pytest.mark.parametrize(("changes", "reason"), BAD_CHANGES.values(), ids=BAD_CHANGES)
def test_bad_row_is_refused_by_all_three(
    settings: dict[str, Any],
    rows: dict[str, dict[str, Any]],
    factory: ModuleType,
    changes: dict[str, Any],
    reason: str,
) -> None:
    found = assert_agreement(settings, factory, "Store1", {**rows["Store1"], **changes})

    assert any(reason in problem for problem in found)


@pytest.mark.parametrize("key", ["Store1", "Pair_x", "Pair_y", "Events"])
def test_row_of_a_merge_is_accepted_by_all_three(
    settings: dict[str, Any], rows: dict[str, dict[str, Any]], factory: ModuleType, key: str
) -> None:
    assert assert_agreement(settings, factory, key, rows[key]) == []


def test_cache_needs_an_age_that_the_row_or_its_platform_gives(
    settings: dict[str, Any], rows: dict[str, dict[str, Any]], factory: ModuleType
) -> None:
    config = {**rows["Store1"], "git_cache_enabled": True}

    found = assert_agreement(settings, factory, "Store1", config)

    reason = "git_cache_enabled is true, but git_cache_max_age_minutes is not given"
    assert found == ([] if settings["git_cache_enabled"] else [reason])


def values_of(key: str) -> st.SearchStrategy[Any]:
    """Values of a key: near to good ones, and of every kind."""
    anything = (
        st.none()
        | st.booleans()
        | st.integers()
        # For JSON Schema a whole number is an integer however it is written.
        | st.floats(allow_nan=False).filter(lambda number: not number.is_integer())
        | st.text()
        | st.lists(st.text() | st.integers(), max_size=3)
        | st.dictionaries(st.text(), st.text(), max_size=1)
        | st.sampled_from(["", " ", "a\n", "x" * 64, "x" * 254, "x" * 1025, "a.b", "A_b", "-a"])
        | st.sampled_from(["None", "@daily", "@once", "* * * * *", "0 0 30 2 *", "o/r", "o/.git"])
    )
    rule = KEYS[key]
    if "enum" in rule:
        return anything | st.sampled_from(rule["enum"])
    if rule["type"] == "object":
        parts = st.sampled_from(["1", "500m", "1x", "a\n", 1, None]) | st.just({"a": "1Gi"})
        names = st.sampled_from([*rule["properties"], "other"])
        return anything | st.dictionaries(names, parts | st.dictionaries(st.text(), parts))
    return anything | st.from_regex(rule["pattern"]) if "pattern" in rule else anything


CHANGES = st.sampled_from(sorted(KEYS)).flatmap(lambda key: st.tuples(st.just(key), values_of(key)))


@given(changes=st.lists(CHANGES, max_size=3), dropped=st.sets(st.sampled_from(sorted(KEYS))))
def test_any_row_is_judged_alike_by_all_three(
    settings: dict[str, Any],
    rows: dict[str, dict[str, Any]],
    factory: ModuleType,
    changes: list[tuple[str, Any]],
    dropped: set[str],
) -> None:
    config = {key: value for key, value in rows["Store1"].items() if key not in dropped}

    assert_agreement(settings, factory, "Store1", {**config, **dict(changes)})


def keys_read(source: str) -> Iterator[str]:
    """Yield the keys that a factory file's functions take from settings."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Subscript(
                value=ast.Name(id="settings") | ast.Attribute(attr="settings"),
                slice=ast.Constant(value=key),
            ):
                yield str(key)
            case ast.Call(
                func=ast.Attribute(
                    value=ast.Name(id="settings") | ast.Attribute(attr="settings"), attr="get"
                ),
                args=[ast.Constant(value=key), *_],
            ):
                yield str(key)


def test_key_of_one_side_is_a_key_of_all(
    settings: dict[str, Any], rows: dict[str, dict[str, Any]], factory: ModuleType
) -> None:
    written = {key for config in rows.values() for key in config}
    read = set(keys_read(Path(str(factory.__file__)).read_text()))

    assert factory.KEYS == KEYS
    assert written <= KEYS.keys()
    assert settings.keys() - OF_THE_FACTORY_ALONE <= KEYS.keys()
    assert read - MADE_BY_THE_FACTORY - OF_THE_FACTORY_ALONE <= KEYS.keys()
    names = set(CREDENTIAL_NAMES.values())
    assert not OF_OTHER_RELEASES & (written | settings.keys())
    unwritten = KEYS.keys() - (written | settings.keys() | names | OF_OTHER_RELEASES)
    assert all(key.startswith("git_cache_") for key in unwritten)
    assert not (unwritten and settings["git_cache_enabled"])


def test_each_pattern_limit_and_secret_key_is_written_once() -> None:
    package = Path(str(yellow_dynamic.__file__)).parent
    tree = "".join(
        file.read_text()
        for file in sorted(package.rglob("*"))
        if file.suffix in (".py", ".json", ".j2")
    )
    for pattern in {rule["pattern"] for rule in KEYS.values() if "pattern" in rule}:
        assert tree.count(json.dumps(pattern)) == 1
        assert tree.count(pattern.strip("^$")) <= 1
    for limit in {rule["maxLength"] for rule in KEYS.values() if "maxLength" in rule}:
        assert tree.count(f'"maxLength": {limit}') == 1
    for name in {key for rule in KEYS.values() for key in rule.get("secretKeys", {}).values()}:
        assert tree.count(f'"{name}"') == 1, name


def test_revision_is_read_from_the_description_that_has_it(factory: ModuleType) -> None:
    revision = compute_revision("{}")

    assert parse_revision(f"Ingests it{factory.REVISION_END.format(revision)}") == (revision)
    for other in (None, "", "Ingests it", f"{REVISION_END.format(revision)} and more"):
        assert parse_revision(other) is None
