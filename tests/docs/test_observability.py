"""The metrics and the alerts that the documents show fit each other and the factory file."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import yaml
from batch_rows import write_batch
from conftest import Site
from doc_blocks import ROOT, blocks

from yellow_dynamic.monitoring.airflow import AirflowView
from yellow_dynamic.monitoring.in_airflow import parse_settings
from yellow_dynamic.monitoring.installation import Installation
from yellow_dynamic.monitoring.status import platform_status
from yellow_dynamic.page import gauges, metadata, overview, store

DOCUMENT = ROOT / "docs" / "observability.md"


def shown(key: str) -> dict[str, Any]:
    """Return the document's YAML that has this key."""
    [found] = [
        loaded
        for block in blocks("yaml")
        if block.document == DOCUMENT
        for loaded in [yaml.safe_load(block.text)]
        if key in loaded
    ]
    return found


def exported(site: Site) -> dict[str, dict[str, str]]:
    """Return the labels of what the mappings make of each gauge, by its name."""
    gauges: list[str] = []
    stats = SimpleNamespace(gauge=lambda name, value: gauges.append(f"airflow.{name}"))
    module: Any = site.module()
    module.airflow_stats = lambda: stats
    module.shard_dags(module.BUILDER)
    send_of_the_page(site, stats)
    return dict(map(mapped, gauges))


def send_of_the_page(site: Site, stats: Any) -> None:
    """Send what the API server sends of a platform that has delivered."""
    settings = contract_settings(site)
    write_batch(site, "Store1", 1)
    table = store.load_table(Installation(site.model.platform, settings))
    table.sources.airflow = AirflowView("3.3", {}, {})
    status = platform_status(table.sources)
    factory = metadata.Factory(table.sources.installation, "", True)
    gauges.send(stats, overview.PlatformView(factory, status, table.sources.airflow, table, None))


def contract_settings(site: Site) -> dict[str, Any]:
    settings = parse_settings(site.factory_file.read_text(encoding="utf-8"))
    assert settings is not None
    return settings


def mapped(gauge: str) -> tuple[str, dict[str, str]]:
    """Return the name and the labels that the first mapping that fits makes of a gauge."""
    for mapping in shown("mappings")["mappings"]:
        pattern = re.escape(mapping["match"]).replace(r"\*", "([^.]*)")
        if found := re.fullmatch(pattern, gauge):
            parts = {f"${number}": part for number, part in enumerate(found.groups(), 1)}
            pieces = re.split(r"(\$\d)", mapping["name"])
            name = "".join(parts.get(piece, piece) for piece in pieces)
            return name, {label: parts[part] for label, part in mapping["labels"].items()}
    raise AssertionError(f"No mapping fits {gauge}.")


def test_alerts_ask_for_metrics_that_the_mapping_makes_of_a_parse(installed: Site) -> None:
    metrics = exported(installed)
    assert {labels["platform"] for labels in metrics.values()} == {"yellowlive"}

    [group] = shown("groups")["groups"]
    asked = set()
    for rule in group["rules"]:
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"\d+[smh]", rule["for"])
        named = set(re.findall(r"airflow_yellow_dynamic_\w+", rule["expr"]))
        assert named
        asked |= named
        labels = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
        grouped = set(re.findall(r"\w+", "".join(re.findall(r"by \(([^)]*)\)", rule["expr"]))))
        assert labels <= grouped
        assert all(grouped <= metrics[name].keys() for name in named)
    assert asked == set(metrics)


def test_every_metric_is_described(installed: Site) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")

    for name, labels in exported(installed).items():
        figure = name.removeprefix("airflow_yellow_dynamic_")
        parts = ".".join(f"{{{label}}}" for label in labels)
        assert f"`yellow_dynamic.{parts}.{figure}`" in text


def test_the_log_lines_are_as_shown(installed: Site) -> None:
    [block] = [block for block in blocks("text") if block.document == DOCUMENT]
    module: Any = installed.module()
    lines: list[str] = []
    module.log = type(
        "Log", (), {"info": lambda self, text, *values: lines.append(text % values)}
    )()

    module.shard_dags(module.BUILDER)

    numbers = re.compile(r"\d+")
    assert numbers.sub("N", lines[0]) == numbers.sub("N", block.text.splitlines()[0])
