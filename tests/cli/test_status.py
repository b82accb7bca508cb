"""`yellow-dynamic status` without Airflow's API: the rows, and what the factory file builds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from static_files import write_static_files

from one_machine import free_port

from .conftest import Operator

pytestmark = pytest.mark.slow


def states(operator: Operator, *words: Any, well: bool = False) -> dict[str, tuple[str, str]]:
    """Return state and reason of each stream, from a status that says whether all is well."""
    result = operator("status", *words, "--json")
    assert result.exit_code == (0 if well else 2), result.output
    found = json.loads(result.stdout)
    [platform] = found["platforms"]
    assert found["well"] == platform["well"] == well
    return {each["stream_key"]: (each["state"], each["reason"]) for each in platform["streams"]}


def test_all_is_well_where_rows_and_dags_agree(merged: Operator) -> None:
    merged.on_dags("disable", "Pair_a")

    result = merged.on_dags("status", "--model", merged.model)

    assert result.exit_code == 0, result.output
    assert "All is well: 2 healthy, 1 disabled." in result.stdout
    [store1] = [line for line in result.stdout.splitlines() if "Store1" in line]
    # Airflow was not asked, so there is no column of what it says.
    cells = ["healthy", "", "", "", "active", "built"]
    assert [cell.strip() for cell in store1.split("│")[2:-1]] == cells
    # A status is no parse: neither the snapshot nor the DAG folder is written.
    assert not merged.site.snapshots.exists()
    assert list(merged.dags.iterdir()) == [merged.factory]


@pytest.mark.embedded
def test_each_stream_that_is_not_well_is_named_with_its_reason(merged: Operator) -> None:
    merged.write_model("[Store('Store1'), Store('New'), Store('Pair', ['a', 'b'], SINGLE)]")
    merged.edit("Store1", schedule_string="every day")
    merged.site.insert("An odd key", "{}")
    write_static_files(merged.site, merged.site.folder / "static")
    static = merged.site.folder / "static" / "yellowlive__Store1_ingestion.py"
    (merged.dags / "yellowlive__Pair_a_ingestion.py").write_text(
        static.read_text().replace("Store1", "Pair_a")
    )

    found = states(merged, "--model", merged.model, "--dags", merged.dags)
    plain = states(merged, "--dags", merged.dags)

    assert found["Pair_b"] == ("healthy", "")
    assert found["New"] == (
        "missing",
        "the model has it and the table does not; run handleModelMerge",
    )
    assert found["Store1"][0] == found["An odd key"][0] == "not merged"
    assert plain.keys() == {"Pair_a", "Pair_b", "Store1", "An odd key"}
    assert plain["Pair_a"][0] == "static file"
    assert plain["Store1"][0] == plain["An odd key"][0] == "broken"
    assert "'every day' is not a cron expression" in plain["Store1"][1]
    assert "Airflow refuses the dag id" in plain["An odd key"][1]


def test_outage_is_told_from_a_role_that_may_not_read(
    merged: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged.parse()
    kept = [file.read_bytes() for file in merged.site.snapshots.iterdir()]
    monkeypatch.setenv("DATASURFACE_POSTGRES_PORT", str(free_port()))

    result = merged.on_dags("status")

    assert result.exit_code == 2, result.output
    assert "Not all is well: 3 served from snapshot." in result.stdout
    assert "could not read table 'yellowlive_airflow_dsg'" in result.stdout
    assert str(merged.site.snapshots) in result.stdout
    assert merged.site.postgres.password not in result.stdout
    assert kept == [file.read_bytes() for file in merged.site.snapshots.iterdir()]

    # Airflow has a login of its own, which this one's environment does not show.
    monkeypatch.delenv("DATASURFACE_POSTGRES_PORT")
    role = merged.site.create_role("refused_in_status", "a-password-2")
    refused = f"env postgres_USER={role} postgres_PASSWORD=a-password-2"
    found = states(merged, "--dags", merged.dags, "--python", f"{refused} {merged.python}")
    assert {state for state, _ in found.values()} == {"served from snapshot"}
    assert "permission denied" in found["Store1"][1]


def test_file_that_cannot_be_loaded_is_a_problem_of_the_platform(merged: Operator) -> None:
    merged.factory.write_text(merged.factory.read_text() + "\nraise RuntimeError('half a file')\n")

    result = merged.on_dags("status")

    assert result.exit_code == 2, result.output
    assert "The factory file cannot be loaded: RuntimeError: half a file" in result.stdout
    assert "3 broken" in result.stdout
