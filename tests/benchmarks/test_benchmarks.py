"""The pieces of the benchmark run, and what it compares is equal."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from airflow_names import IS_AIRFLOW_2

from benchmarks.measure import growth, in_new_process, in_turn
from one_machine import Postgres

STREAMS = 3


@pytest.fixture
def restored_environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.skipif(IS_AIRFLOW_2, reason="the benchmark is for the current Airflow")
def test_all_sides_build_the_same_dags(
    postgres: Postgres, tmp_path: Path, restored_environment: None
) -> None:
    from benchmarks import sides
    from benchmarks.estate import TABLE, Estate

    estate = Estate(postgres, tmp_path)
    estate.install(STREAMS)
    estate.write_static_files(STREAMS)
    estate.write_yaml_file(STREAMS)
    estate.use(STREAMS)
    configs = estate.configs(STREAMS)
    built = {
        "factory": partial(sides.factory, estate.factory_file),
        "static": partial(sides.static_files, estate.static_folder(STREAMS)),
        "plan": partial(sides.plan_literal, estate.url(STREAMS), TABLE),
        "floor": partial(sides.floor, configs, sides.pod_parts(configs[0])),
    }
    # Airflow loads its plugin wherever it is installed, so only the benchmark's own environment
    # has it; the benchmark checks this side before it measures.
    if importlib.util.find_spec("dagfactory"):
        built["dag-factory"] = partial(sides.dag_factory, estate.yaml_file(STREAMS))

    sides.check_equal(built)

    assert len(built["factory"]()) == STREAMS
    with pytest.raises(ValueError, match="other DAGs than the first: floor"):
        sides.check_equal({**built, "floor": dict})


def test_work_is_measured_in_a_process_of_its_own() -> None:
    mark: list[int] = []

    cost = in_new_process(lambda: mark.append(len(bytearray(50_000_000))))

    assert mark == []
    assert cost.seconds > 0
    assert cost.megabytes > 40


def test_work_that_fails_is_no_measurement(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="failed"):
        in_new_process(lambda: 1 / 0)

    assert "ZeroDivisionError" in capfd.readouterr().err


def test_sides_take_turns(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def note(text: str) -> None:
        with log.open("a") as file:
            file.write(text)

    costs = in_turn(
        {"a": partial(note, "a"), "b": partial(note, "b")}, 2, before={"b": partial(note, "-")}
    )

    assert log.read_text() == "a-ba-b"
    assert set(costs) == {"a", "b"}


def test_growth_is_the_exponent() -> None:
    assert growth({10: 1.0, 100: 10.0, 1000: 100.0}) == pytest.approx(1)
    assert growth({10: 1.0, 100: 100.0}) == pytest.approx(2)
