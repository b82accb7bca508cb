"""The pieces of the benchmark run, it compares equal DAGs, and the pages cite its figures."""

from __future__ import annotations

import compileall
import importlib.util
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from airflow_names import IS_AIRFLOW_2

from benchmarks import Figures, __main__, report
from benchmarks.citations import CITATIONS, cite
from benchmarks.measure import (
    growth,
    measure_in_child,
    measure_in_turn,
    run_in_child,
    run_without_pyc,
)
from one_machine import NotYetError, Postgres, wait_until

STREAMS = 3
YEAR: Figures = {"history of a year": {"`history`": {"500": {"seconds": 0.5}}}}


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
    estate.write_other_files(STREAMS)
    estate.use(STREAMS)
    configs = estate.configs(STREAMS)
    built = {
        "factory": partial(sides.parse_factory, estate.factory_file),
        "static": partial(sides.parse_static_files, estate.static_folder(STREAMS)),
        "plan": partial(sides.parse_naively, estate.url(STREAMS), TABLE),
        "floor": partial(sides.call_constructors, configs, sides.pod_parts(configs[0])),
    }
    # Airflow loads its plugin wherever it is installed, so only the benchmark's own environment
    # has it; the benchmark checks this side before it measures.
    if importlib.util.find_spec("dagfactory"):
        built["dag-factory"] = partial(sides.parse_dag_factory, estate.yaml_file(STREAMS))

    sides.check_equal(built)

    assert len(built["factory"]()) == STREAMS
    with pytest.raises(ValueError, match="other DAGs than the first: floor"):
        sides.check_equal({**built, "floor": dict})


def test_work_is_measured_in_a_process_of_its_own() -> None:
    mark: list[int] = []

    cost = measure_in_child(lambda: mark.append(len(bytearray(50_000_000))))

    assert mark == []
    assert cost.seconds > 0
    assert cost.cpu_seconds > 0
    assert cost.megabytes > 40


def test_work_that_fails_is_no_measurement(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="failed"):
        measure_in_child(lambda: 1 / 0)

    assert "ZeroDivisionError" in capfd.readouterr().err


def test_sides_take_turns(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def note(text: str) -> None:
        with log.open("a") as file:
            file.write(text)

    costs = measure_in_turn(
        {"a": partial(note, "a"), "b": partial(note, "b")}, 2, before={"b": partial(note, "-")}
    )

    assert log.read_text() == "a-b-ba"
    assert set(costs) == {"a", "b"}


def test_growth_is_the_exponent() -> None:
    assert growth({10: 1.0, 100: 10.0, 1000: 100.0}) == pytest.approx(1)
    assert growth({10: 1.0, 100: 100.0}) == pytest.approx(2)


@pytest.mark.usefixtures("interruptible")
def test_signal_ends_the_child_too(tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    def parent_waits() -> None:
        if (status := psutil.Process(os.getppid()).status()) != psutil.STATUS_SLEEPING:
            raise NotYetError(f"The parent is {status}.")

    def interrupt_parent() -> None:
        # Python drops what a signal raises at the end of a fork.
        wait_until(parent_waits, seconds=60, every=0.05)
        os.kill(os.getppid(), signal.SIGINT)
        time.sleep(10)
        mark.touch()

    with pytest.raises(KeyboardInterrupt):
        run_in_child(interrupt_parent)

    assert not mark.exists()


def test_files_are_compiled_where_there_is_no_pyc(tmp_path: Path) -> None:
    file = tmp_path / "dag.py"
    file.write_text("value = 1")
    compileall.compile_file(file, quiet=1)
    when = file.stat().st_mtime_ns
    # As large and as old as the file that was compiled.
    file.write_text("value = 2")
    os.utime(file, ns=(when, when))
    from benchmarks.sides import import_file

    def value() -> Any:
        return import_file(file)["value"]

    assert (run_in_child(value), run_in_child(partial(run_without_pyc, value))) == (1, 2)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of all that a run writes."""
    for name in ("docs/performance.json", "docs/images/x", *CITATIONS):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    for name in ("docs/performance.json", *CITATIONS):
        shutil.copy(report.ROOT / name, tmp_path / name)
    for name, path in (
        ("ROOT", tmp_path),
        ("DOCS", tmp_path / "docs"),
        ("RESULTS", tmp_path / "docs/performance.json"),
        ("PAGE", tmp_path / "docs/performance.md"),
    ):
        monkeypatch.setattr(report, name, path)
    monkeypatch.setattr(report, "plot", lambda *_: None)
    monkeypatch.setattr(report, "PACKAGES", ())
    monkeypatch.setattr(__main__, "end_on_signals", lambda: None)
    return tmp_path


def test_all_parts_run_although_one_fails(
    root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def measure(part: str, *, quick: bool) -> Figures:
        if part == "stored":
            raise ValueError("of the test")
        return YEAR if part == "year" else {}

    monkeypatch.setattr(__main__, "measure", measure)

    assert __main__.main(["--quick"]) == 1

    runs = json.loads((root / "docs/performance.json").read_text())["runs"]
    assert runs["year"]["comparisons"] == "history of a year"
    printed = capfd.readouterr()
    assert "FAILED: part stored failed; its error is above\n" in printed.out
    assert "ValueError: of the test" in printed.err
    assert "waiting ..." not in printed.out


def test_missed_targets_are_listed(root: Path) -> None:
    report.record("year", YEAR, quick=False)
    assert not [problem for problem in report.publish() if "of a year, time" in problem]

    report.record("year", {"history of a year": {"x": {"1": {"seconds": 2}}}}, quick=False)

    assert "history of a year, time: slowest in seconds: missed" in report.publish()


def test_run_writes_its_figures_into_the_pages(root: Path) -> None:
    results = json.loads((root / "docs/performance.json").read_text())
    results["figures"]["full parse"]["dag-factory"]["1000"]["seconds"] = 123.44
    report.RESULTS.write_text(json.dumps(results))

    report.publish()

    assert "123.4 s" in " ".join((root / "README.md").read_text().split())
    assert "| 123.4 s |" in report.PAGE.read_text()


def test_page_without_the_words_of_a_citation_is_an_error() -> None:
    with pytest.raises(LookupError, match="is 0 times in README"):
        cite("README.md", "nothing", lambda path: 1)


def test_page_of_the_benchmark_is_of_its_figures() -> None:
    results = json.loads(report.RESULTS.read_text(encoding="utf-8"))

    assert report.PAGE.read_text(encoding="utf-8") == report.as_markdown(results)


@pytest.mark.parametrize("page", CITATIONS)
def test_page_cites_figures_of_the_last_run(page: str) -> None:
    figures = json.loads(report.RESULTS.read_text(encoding="utf-8"))["figures"]
    text = (report.ROOT / page).read_text(encoding="utf-8")

    assert text == cite(page, text, lambda path: report.look_up(figures, path)), (
        f"{page} cites other figures than docs/performance.json. `make bench` updates both."
    )
