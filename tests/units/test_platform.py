"""A platform and its files, and that platforms in one process share nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import DAG
from units.conftest import SETTINGS, row

from yellow_dynamic.factory.dag import DagBuilder
from yellow_dynamic.factory.files import read_own, snapshot_path, write_atomic
from yellow_dynamic.factory.platform import Platform


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("yellowlive_factory_dag.py", 1),
        ("yellowlive_factory_dag_2.py", 2),
        ("yellowlive_factory_dag_37.py", 37),
        ("yellowlive_factory_dag_0.py", 1),
        ("mine.py", 1),
        ("xyellowlive_factory_dag_2.py", 1),
    ],
)
def test_number_of_a_file_is_in_its_name(name: str, number: int) -> None:
    assert Platform(SETTINGS, f"/dags/{name}").number == number


def test_each_file_has_a_snapshot_of_its_own(platform: Platform, tmp_path: Path) -> None:
    second = Platform(SETTINGS, str(tmp_path / "yellowlive_factory_dag_2.py"))

    assert snapshot_path(platform).name == "yellowlive.json"
    assert snapshot_path(second, ".ended").name == "yellowlive_2.ended.json"


def test_file_is_replaced_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "note.json"

    for text in ("one", "two"):
        write_atomic(path, text)
        assert path.read_text() == text
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["note.json"]
    own = read_own(path)
    assert own and own.text == "two"


def test_platforms_in_one_process_share_nothing(platform: Platform, tmp_path: Path) -> None:
    other = Platform(
        {
            **SETTINGS,
            "platform_name": "other",
            "original_platform_name": "Other",
            "weight_rule": "absolute",
            "assets": True,
            "on_failure_slack_connection": "slack",
        },
        str(tmp_path / "other_factory_dag.py"),
    )

    for _ in range(2):
        dags = {**DagBuilder(platform).build_dags([row("A")]),
                **DagBuilder(other).build_dags([row("A")])}  # fmt: skip
        mine, theirs = dags["yellowlive__A_ingestion"], dags["other__A_ingestion"]
        assert (bool(mine.on_failure_callback), bool(theirs.on_failure_callback)) == (False, True)
        assert weight_rule(mine) != weight_rule(theirs)
        assert [bool(job(dag).outlets) for dag in (mine, theirs)] == [False, True]
        assert job(mine).platform is platform
        assert job(theirs).platform is other


def job(dag: DAG) -> Any:
    return dag.get_task("snapshot_merge_job")


def weight_rule(dag: DAG) -> str:
    return repr(job(dag).weight_rule)
