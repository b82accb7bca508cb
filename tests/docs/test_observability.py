"""The metrics and the alerts that the documents show fit each other and the factory file."""

from __future__ import annotations

import re
from typing import Any

import yaml
from conftest import Site
from doc_blocks import ROOT, blocks

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
    """Return the labels of what the mapping makes of each gauge of a parse, by its name."""
    module: Any = site.module()
    gauges: list[str] = []
    module.airflow_stats = lambda: type(
        "Stats", (), {"gauge": lambda self, name, value: gauges.append(f"airflow.{name}")}
    )()
    module.register_all()
    [mapping] = shown("mappings")["mappings"]
    pattern = re.escape(mapping["match"]).replace(r"\*", "([^.]*)")
    made = {}
    for gauge in gauges:
        found = re.fullmatch(pattern, gauge)
        assert found, gauge
        parts = {f"${number}": part for number, part in enumerate(found.groups(), 1)}
        name = "".join(parts.get(piece, piece) for piece in re.split(r"(\$\d)", mapping["name"]))
        made[name] = {label: parts[part] for label, part in mapping["labels"].items()}
    return made


def test_alerts_ask_for_metrics_that_the_mapping_makes_of_a_parse(installed: Site) -> None:
    metrics = exported(installed)
    assert set(map(str, metrics.values())) == {"{'platform': 'yellowlive', 'file': '1'}"}

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
    assert asked == set(metrics)


def test_every_metric_is_described(installed: Site) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")

    for name in exported(installed):
        figure = name.removeprefix("airflow_yellow_dynamic_")
        assert f"`yellow_dynamic.{{platform}}.{{file}}.{figure}`" in text


def test_the_log_lines_are_as_shown(installed: Site) -> None:
    [block] = [block for block in blocks("text") if block.document == DOCUMENT]
    module: Any = installed.module()
    lines: list[str] = []
    module.log = type(
        "Log", (), {"info": lambda self, text, *values: lines.append(text % values)}
    )()

    module.register_all()

    numbers = re.compile(r"\d+")
    assert numbers.sub("N", lines[0]) == numbers.sub("N", block.text.splitlines()[0])
