"""The file that assigns dataset groups to platforms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_estate import PlainPlatform, assign, assigned, error, errors, estate, group, store
from small_estate import workspace as consumer

from datasurface.md import ValidationTree

pytestmark = pytest.mark.embedded


def without(entry: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != key}


def test_an_assignment_is_found_by_workspace_and_group(tmp_path: Path) -> None:
    eco = estate()

    assert errors(assign(eco, tmp_path, assigned("One"))) == []

    mapping = eco.getDSGPlatformMapping("Consumer", "DSG")
    assert mapping is not None
    assert [a.dataPlatform.name for a in mapping.assignments] == ["One"]
    assert list(eco.dsgPlatformMappings) == ["Consumer#DSG"]
    assert eco.getDSGPlatformMapping("Consumer", "Other") is None


def test_an_entry_without_a_workspace_means_the_default_workspace(tmp_path: Path) -> None:
    eco = estate(store(), consumer(group(), name="default_workspace"))

    tree = assign(eco, tmp_path, without(assigned("One"), "workspace"))

    assert errors(tree) == []
    assert eco.getDSGPlatformMapping("default_workspace", "DSG") is not None


def test_reading_again_replaces_what_was_read_before(tmp_path: Path) -> None:
    eco = estate()
    assign(eco, tmp_path, assigned("One"))

    assign(eco, tmp_path)

    assert eco.dsgPlatformMappings == {}


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (assigned("Nope"), "data platform 'Nope' (the model has: One)"),
        (assigned("One") | {"workspace": "Nope"}, "the workspace 'Nope'"),
        (assigned("One") | {"dsgName": "Nope"}, "the dataset group 'Nope'"),
        (assigned("One", status="DONE"), "'status' is 'DONE'; use one of PROVISIONING, PROV"),
        (assigned("One", productionStatus="YES"), "use one of PRODUCTION, NOT_PRODUCTION"),
        (assigned("One", deprecationsAllowed="?"), "use one of NEVER, ALLOWED"),
        (assigned("One", documentation=None), "'documentation' is not set"),
        (assigned("One", documentation=7), "'documentation' must be a str, not 7"),
        (without(assigned("One"), "dsgName"), "'dsgName' is not set"),
        (without(assigned("One"), "assignments"), "'assignments' is not set"),
        (assigned("One") | {"assignments": {}}, "'assignments' must be a list"),
        (assigned("One", "One"), "assigned twice"),
    ],
)
def test_what_is_wrong_with_an_entry_is_said(
    tmp_path: Path, entry: dict[str, Any], problem: str
) -> None:
    assert problem in error(assign(estate(), tmp_path, entry))


@pytest.mark.parametrize(
    "key", ["dataPlatform", "documentation", "productionStatus", "deprecationsAllowed", "status"]
)
def test_every_key_of_an_assignment_is_required(tmp_path: Path, key: str) -> None:
    entry = assigned("One")
    del entry["assignments"][0][key]

    assert f"'{key}' is not set" in error(assign(estate(), tmp_path, entry))


def test_all_problems_of_a_file_are_said_at_once(tmp_path: Path) -> None:
    tree = assign(estate(), tmp_path, assigned("Nope"), {})

    assert len(errors(tree)) == 3


def test_a_group_listed_twice_is_a_problem(tmp_path: Path) -> None:
    tree = assign(estate(), tmp_path, assigned("One"), assigned("One"))

    assert "has an entry already" in error(tree)


def test_a_group_that_does_not_say_what_it_needs_cannot_be_assigned(tmp_path: Path) -> None:
    eco = estate(store(), consumer(group(chosen=False)))

    assert "platform_chooser" in error(assign(eco, tmp_path, assigned("One")))


def test_the_platform_is_asked_whether_it_can_serve_the_group(tmp_path: Path) -> None:
    eco = estate(platforms=[PlainPlatform("Picky")])

    assert error(assign(eco, tmp_path, assigned("Picky"))) == ("Picky does not serve Consumer/DSG")


def test_the_platform_is_not_asked_about_a_decommissioned_assignment(tmp_path: Path) -> None:
    eco = estate(platforms=[PlainPlatform("Picky")])

    assert errors(assign(eco, tmp_path, assigned("Picky", status="DECOMMISSIONED"))) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[\n  {"dsgName": "DSG",}\n]', "line 2, column"),
        ("", "line 1, column 1"),
        ("{}", "must hold a list, not a dict"),
        (json.dumps(["DSG"]), 'must be an object, not "DSG"'),
    ],
)
def test_a_malformed_file_is_said_with_its_place(tmp_path: Path, text: str, problem: str) -> None:
    eco = estate()
    eco.lintAndHydrateCaches()
    file = tmp_path / "mapping.json"
    file.write_text(text)
    tree = ValidationTree("mapping")

    eco.hydrateDSGDataPlatformMappings(str(file), tree)

    assert problem in error(tree)


@pytest.mark.parametrize("content", [None, b"[\xff]"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "mapping.json"
    if content is not None:
        file.write_bytes(content)
    tree = ValidationTree("mapping")

    estate().hydrateDSGDataPlatformMappings(str(file), tree)

    assert f"{file} cannot be read" in error(tree)
