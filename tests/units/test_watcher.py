"""When Airflow is asked to parse which file; no Airflow and no database is needed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from processors import IS_AIRFLOW_2
from pytest_mock import MockerFixture

from yellow_dynamic.factory.rules import build_dag_id, compute_revision
from yellow_dynamic.monitoring import OperationError
from yellow_dynamic.monitoring.airflow import DagView
from yellow_dynamic.monitoring.in_airflow import Facts
from yellow_dynamic.monitoring.installation import Installation
from yellow_dynamic.monitoring.rows import StreamRow

if IS_AIRFLOW_2:
    pytest.skip("The page needs Airflow 3.3", allow_module_level=True)

from yellow_dynamic.page import watcher
from yellow_dynamic.page.metadata import Factory
from yellow_dynamic.page.watcher import AirflowSide, Difference, File, Request, Stored, Watcher

FIRST = File("dags", "sub/live_factory_dag.py")
SECOND = File("dags", "sub/live_factory_dag_2.py")
PARSED = datetime(2026, 1, 1, tzinfo=UTC)


def row(key: str, config: str = "{}", status: str = "active", until: str | None = None) -> Any:
    return StreamRow(key, config, status, None, None, disabled_until=until)


def dag(
    key: str, config: str | None = "{}", path: str = f"/dags/{FIRST.path}", **changed: Any
) -> DagView:
    """Return the DAG of a stream; one without a configuration is that of a stream that ends."""
    revision = None if config is None else compute_revision(config)
    facts = Facts(key, revision, problem=None, ending=config is None)
    view = DagView(
        build_dag_id("live", key),
        stale=False,
        paused=False,
        import_errors=False,
        file=path,
        last_parsed=None,
        facts=facts,
    )
    for name, value in changed.items():
        setattr(view, name, value)
    return view


def airflow(
    *dags: DagView, running: tuple[str, ...] = (), files: tuple[File, ...] = (FIRST, SECOND)
) -> AirflowSide:
    installation = Installation("Live", {"platform_name": "live", "factory_shards": 2})
    return AirflowSide(
        installation,
        {installation.stream_key(each.dag_id): each for each in dags},
        {f"/dags/{file.path}": file for file in files},
        dict.fromkeys(files, PARSED),
        frozenset(build_dag_id("live", key) for key in running),
    )


def compare(side: AirflowSide, *rows: StreamRow) -> dict[File, list[str]]:
    found = side.compare(wanted(*rows))
    return {file: list(difference.wanted) for file, difference in found.items()}


def wanted(*rows: StreamRow) -> dict[str, str]:
    """Return the revisions of the streams that are to have DAGs."""
    return {
        row.stream_key: compute_revision(row.config_json) for row in rows if not row.is_disabled
    }


YEAR_2999 = "2999-01-01T00:00:00"


@pytest.mark.parametrize(
    ("rows", "dags", "running"),
    [
        ([row("A")], [dag("A")], ()),
        ([row("A")], [dag("A", "other", facts=None)], ()),
        ([row("A", status="disabled", until=YEAR_2999)], [dag("A", stale=True)], ()),
        ([row("A", status="disabled")], [], ()),
        ([row("A", status="disabled")], [dag("A", None)], ("A",)),
        ([], [dag("A", None)], ("A",)),
        ([], [dag("A", stale=True)], ()),
        ([row("A")], [dag("A", "other", path="/dags/live__A_ingestion.py")], ()),
    ],
    ids=[
        "the same revision", "a DAG that says nothing", "disabled for a while", "disabled",
        "disabled, and a run goes on", "removed, and a run goes on", "removed",
        "a static file has it",
    ],
)  # fmt: skip
def test_dags_that_are_as_the_rows_say_are_not_asked_for(
    rows: list[StreamRow], dags: list[DagView], running: tuple[str, ...]
) -> None:
    assert compare(airflow(*dags, running=running), *rows) == {}


@pytest.mark.parametrize(
    ("rows", "dags"),
    [
        ([row("A", '{"a": 1}')], [dag("A")]),
        ([row("A")], [dag("A", None)]),
        ([row("A", status="disabled")], [dag("A")]),
        ([row("A", status="disabled")], [dag("A", None)]),
        ([], [dag("A")]),
        ([], [dag("A", None)]),
    ],
    ids=[
        "another revision", "enabled while it ends", "disabled", "disabled, and no run goes on",
        "removed", "removed, and no run goes on",
    ],
)  # fmt: skip
def test_file_of_a_dag_that_differs_is_asked_for(
    rows: list[StreamRow], dags: list[DagView]
) -> None:
    assert compare(airflow(*dags), *rows) == {FIRST: ["A"]}


@pytest.mark.parametrize("stale", [True, False])
def test_stream_without_a_dag_is_asked_of_the_file_that_is_to_have_it(stale: bool) -> None:
    known = [dag("A", stale=True)] if stale else []
    keys = [f"stream{number}" for number in range(40)]

    found = compare(airflow(*known), *map(row, keys))

    assert found.keys() == {FIRST, SECOND}
    assert sorted(found[FIRST] + found[SECOND]) == sorted(keys)
    assert min(len(found[FIRST]), len(found[SECOND])) > 5


def test_file_of_which_airflow_has_no_dag_yet_is_asked_for_beside_the_others() -> None:
    keys = [f"stream{number}" for number in range(40)]

    assert compare(airflow(files=(FIRST,)), *map(row, keys)).keys() == {FIRST, SECOND}
    assert compare(airflow(files=()), *map(row, keys)) == {}


@pytest.fixture
def clock(mocker: MockerFixture) -> Any:
    """The time, as time.monotonic() has it."""
    now = SimpleNamespace(time=1000.0)
    mocker.patch.object(watcher.time, "monotonic", lambda: now.time)
    return now


def times_of_requests(clock: Any, request: Request, seconds: int) -> list[int]:
    """Return when a file is asked for, in seconds from now, while nothing follows."""
    start, times = clock.time, []
    for second in range(seconds):
        clock.time = start + second
        if request.take_turn():
            times.append(second)
    return times


def test_request_that_is_lost_is_made_again_ever_later_and_not_for_ever(clock: Any) -> None:
    request = Request(Difference(PARSED), clock.time)

    times = times_of_requests(clock, request, 2 * watcher.PATIENCE_SECONDS)

    assert times[:6] == [0, 3, 9, 21, 45, 75]
    assert times[6:8] == [105, 135]
    assert times[-1] > watcher.PATIENCE_SECONDS - watcher.LONGEST_WAIT_SECONDS
    assert request.is_given_up


def test_file_is_asked_for_until_a_parse_of_it_began_after_the_change(clock: Any) -> None:
    request = Request(Difference(PARSED), clock.time)
    assert request.take_turn()

    request.follow(Difference(PARSED))
    assert not request.is_answered
    assert not request.take_turn()
    # It may have read the table before.
    request.follow(Difference(PARSED + timedelta(seconds=5)))
    assert not request.is_answered
    assert request.take_turn()
    request.follow(Difference(PARSED + timedelta(seconds=9)))

    assert request.is_answered
    clock.time += 1000
    assert not request.take_turn()
    assert not request.is_given_up


def test_dag_that_is_to_go_is_asked_for_once_more_when_airflow_lets_it_go(
    clock: Any, mocker: MockerFixture
) -> None:
    now = mocker.patch.object(watcher, "datetime", mocker.Mock(now=lambda _: clock.now)).now
    useful_after = PARSED + timedelta(seconds=50)
    request = Request(Difference(PARSED, useful_after=useful_after), clock.time)
    for seconds in (4, 9):
        clock.now = PARSED + timedelta(seconds=seconds)
        request.follow(Difference(clock.now, useful_after=useful_after))
    assert now(UTC) < useful_after

    clock.time += 10 * watcher.PATIENCE_SECONDS
    assert not request.take_turn()
    clock.now = useful_after + timedelta(seconds=1)
    assert request.take_turn()
    assert not request.is_given_up
    request.follow(Difference(clock.now, useful_after=useful_after))
    assert not request.take_turn()
    # Airflow has not let it go although it could.
    clock.time += watcher.GOING_SECONDS
    assert request.take_turn()
    request.follow(Difference(clock.now))

    assert request.is_answered


def test_dag_goes_when_airflow_has_missed_it_for_long_enough(mocker: MockerFixture) -> None:
    mocker.patch.object(watcher.conf, "getint", return_value=50)
    parsed = [PARSED + timedelta(seconds=seconds) for seconds in (0, 20, 10)]
    dags = [dag(f"S{at.second}", last_parsed=at.isoformat()) for at in parsed]

    [difference] = airflow(*dags).compare({}).values()

    assert difference.useful_after == PARSED + timedelta(seconds=70)
    [difference] = airflow(*dags).compare(wanted(row("S20"), row("S0"))).values()
    assert difference.useful_after == PARSED + timedelta(seconds=60)


class Store:
    """A platform whose table and Airflow are as a test says."""

    def __init__(self, mocker: MockerFixture) -> None:
        self.watcher = Watcher(Installation("Live", {"platform_name": "live"}))
        self.revision = 7
        self.differences: dict[File, Difference] = {}
        self.ending: frozenset[str] = frozenset()
        self.rows: list[StreamRow] = []
        self.stored: dict[str, Stored] = {}
        self.compared = 0
        mocker.patch.object(self.watcher, "_read_revision", lambda: self.revision)
        mocker.patch.object(watcher, "read_rows", lambda _: self.rows)
        mocker.patch.object(watcher, "create_session")
        mocker.patch.object(AirflowSide, "read", lambda *_: self)
        self.requested = mocker.patch.object(watcher, "request_parse")
        self.running = mocker.patch.object(
            watcher, "find_running", side_effect=lambda *_: self.ending
        )

    def compare(self, _: Any) -> dict[File, Difference]:
        self.compared += 1
        return self.differences

    def look(self) -> int:
        """Look, and return how many files were asked for."""
        self.requested.reset_mock()
        self.watcher.look()
        return int(self.requested.call_count)


@pytest.fixture
def store(mocker: MockerFixture, clock: Any) -> Store:
    return Store(mocker)


def test_table_that_does_not_change_is_compared_every_five_minutes(
    store: Store, clock: Any
) -> None:
    for _ in range(300):
        assert store.look() == 0
        clock.time += 2

    assert store.compared == 2


def test_change_is_asked_for_until_it_is_followed(store: Store, clock: Any) -> None:
    store.look()
    store.revision, store.differences = 8, {FIRST: Difference(PARSED, {"A": "r"})}
    assert store.look() == 1
    assert store.look() == 0
    clock.time += watcher.FIRST_WAIT_SECONDS
    assert store.look() == 1

    store.differences = {}
    store.look()
    compared = store.compared
    store.look()

    assert store.compared == compared


def test_stream_that_never_follows_does_not_keep_its_file_parsing(store: Store, clock: Any) -> None:
    asked = 0
    for second in range(60):
        clock.time += 1
        store.differences = {
            FIRST: Difference(PARSED + timedelta(seconds=second // 10), {"A": "r"})
        }
        asked += store.look()

    assert asked < 6
    compared = store.compared
    store.look()
    assert store.compared == compared


@pytest.mark.parametrize("parses", [0, 2])
@pytest.mark.parametrize("minutes", [0, 9, 20])
def test_another_change_is_asked_for_at_once(
    store: Store, clock: Any, parses: int, minutes: int
) -> None:
    for parse in range(parses + 1):
        store.differences = {FIRST: Difference(PARSED + timedelta(seconds=parse), {"A": "r"})}
        assert store.look() == (parse < 2)
    clock.time += 60 * minutes
    store.look()
    store.revision += 1
    store.differences = {FIRST: Difference(store.differences[FIRST].parsed, {"A": "another"})}

    assert store.look() == 1
    assert bool(store.watcher.problems) is (not parses and minutes == 20)


def test_file_that_airflow_does_not_parse_is_a_problem_until_it_does(
    store: Store, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    store.differences = {FIRST: Difference(PARSED, {"A": "r", "B": "r"})}
    for _ in range(watcher.PATIENCE_SECONDS):
        clock.time += 2
        store.look()

    [problem] = store.watcher.problems
    assert "10 minutes to parse sub/live_factory_dag.py and parsed it last at 2026-01" in problem
    assert "the DAGs of 2 streams are not what the rows say (A, B)" in problem
    assert caplog.text.count(problem) == 1

    store.differences = {}
    clock.time += watcher.RECHECK_SECONDS
    assert store.look() == 0
    assert store.watcher.problems == []


def test_stream_that_is_enabled_by_its_time_is_asked_for_then(
    store: Store, clock: Any, mocker: MockerFixture
) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    store.rows = [row("A", status="disabled", until=f"{soon:%Y-%m-%dT%H:%M:%S}")]
    store.look()
    clock.time += 10
    assert store.look() == 0
    store.differences = {FIRST: Difference(PARSED, {"A": "r"})}
    assert store.look() == 0

    mocker.patch.object(watcher, "datetime", mocker.Mock(now=lambda _: soon))

    assert store.look() == 1


def test_end_of_the_last_run_of_a_stream_is_looked_for(store: Store) -> None:
    store.ending = frozenset({"live__A_ingestion"})
    store.look()
    assert store.look() == 0
    assert (store.compared, store.running.call_count) == (1, 1)
    store.ending, store.differences = frozenset(), {FIRST: Difference(PARSED, {"A": "r"})}

    assert store.look() == 1


def test_stream_that_differs_later_in_a_file_that_was_answered_is_asked_for(
    store: Store, clock: Any
) -> None:
    for second in range(3):
        store.differences = {FIRST: Difference(PARSED + timedelta(seconds=second), {"A": "r"})}
        store.look()
    clock.time += watcher.RECHECK_SECONDS
    assert store.look() == 0
    clock.time += watcher.RECHECK_SECONDS
    store.differences = {FIRST: Difference(PARSED + timedelta(seconds=2), {"A": "r", "B": "r"})}

    assert store.look() == 1


def test_file_that_goes_on_to_have_a_removed_stream_is_not_parsed_for_ever(
    store: Store, clock: Any, mocker: MockerFixture
) -> None:
    now = [PARSED]
    mocker.patch.object(watcher, "datetime", mocker.Mock(now=lambda _: now[0]))
    asked = 0
    for _ in range(1800):
        asked += (requested := store.look())
        clock.time += 2
        now[0] += timedelta(seconds=2)
        if requested or not store.differences:
            # Each parse finds its DAG once more.
            store.differences = {
                FIRST: Difference(now[0], {"A": "r"}, now[0] + timedelta(seconds=50))
            }

    assert asked < 8
    assert store.compared < 120


def test_dag_that_is_only_listed_as_changed_is_asked_for_when_airflow_stores_it(
    mocker: MockerFixture,
) -> None:
    mocker.patch.object(watcher.conf, "getint", return_value=30)
    side = airflow(dag("A", last_parsed=PARSED.isoformat()))
    side.stored["A"] = Stored(compute_revision("older"), PARSED + timedelta(seconds=3))

    [difference] = side.compare(wanted(row("A"))).values()

    assert difference.useful_after == PARSED + timedelta(seconds=33)


def test_dag_is_read_as_the_scheduler_has_it_until_that_is_what_is_wanted(
    store: Store, clock: Any, mocker: MockerFixture
) -> None:
    read = mocker.patch.object(AirflowSide, "read", return_value=store)
    store.rows = [row("A"), row("B")]
    for stored in ("A", "B"):
        store.look()
        store.stored[stored] = Stored(compute_revision("{}"), PARSED)
        clock.time += watcher.RECHECK_SECONDS
        store.look()
        clock.time += watcher.RECHECK_SECONDS
    store.rows = [row("A", '{"a": 1}'), row("B")]
    store.look()

    asked = [call.args[2] for call in read.call_args_list]
    assert asked == [{"A", "B"}, {"A", "B"}, {"B"}, {"B"}, {"A"}]


def test_row_that_never_becomes_a_dag_costs_no_parse_when_others_change(store: Store) -> None:
    for parse in range(3):
        store.differences = {FIRST: Difference(PARSED + timedelta(seconds=parse), {"A": "r"})}
        store.look()
    store.revision += 1

    assert store.look() == 0


def test_platform_that_cannot_be_watched_says_so_once_and_on_the_page(
    store: Store, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    looks = iter([OperationError("The table needs a login."), KeyError("x"), None])
    mocker.patch.object(store.watcher, "look", side_effect=lambda: raise_each(looks))
    problems = []

    def wait(_: float) -> bool:
        problems.append(store.watcher.problems)
        return len(problems) > 3

    mocker.patch.object(store.watcher.stopped, "wait", wait)

    store.watcher.run()

    said = "Platform 'Live' is not watched now, so changes of its rows arrive with Airflow's next"
    assert problems[0] == problems[3] == []
    assert problems[1] == [f"{said} parse: The table needs a login."]
    assert problems[2] == [f"{said} parse: KeyError('x')"]
    assert caplog.text.count(said) == 2


def raise_each(errors: Any) -> None:
    if error := next(errors):
        raise error


def test_look_that_hangs_is_a_problem(store: Store, clock: Any) -> None:
    store.watcher._began = clock.time
    assert store.watcher.problems == []
    clock.time += watcher.HANGING_SECONDS + 1

    assert "a query has no answer" in store.watcher.problems[0]


def test_platforms_are_watched_while_airflow_has_them_with_these_settings(
    mocker: MockerFixture,
) -> None:
    mocker.patch.object(watcher, "create_session")
    started = mocker.patch.object(watcher, "Thread")
    platforms = ["A", "B"]

    def find(_: Any) -> list[Factory]:
        return [
            Factory(Installation(name[0], {"platform_name": name}), "a_dag", name != "B")
            for name in platforms
        ]

    mocker.patch.object(watcher.metadata, "find_factories", find)
    watchers = watcher.Watchers()
    watchers.update()
    first = dict(watchers._by_name)
    watchers.update()
    assert watchers._by_name == first
    assert not first["B"].in_service

    platforms[:] = ["A2"]
    watchers.update()

    assert first["A"].stopped.is_set()
    assert first["B"].stopped.is_set()
    [moved] = watchers._by_name.values()
    assert moved.installation.airflow_name == "A2"
    assert started.call_count == 3


@pytest.mark.parametrize(
    ("problems", "interval", "advised"), [([], 30, True), ([], 600, False), (["x"], 30, False)]
)
def test_longer_interval_is_advised_only_while_all_platforms_are_watched(
    mocker: MockerFixture, problems: list[str], interval: int, advised: bool
) -> None:
    mocker.patch.object(watcher.conf, "getint", return_value=interval)
    mocker.patch.object(watcher, "Thread")
    watchers = watcher.Watchers()
    assert "watch_changes would let them" in watchers.describe()
    watchers.start()
    watched = Watcher(Installation("Live", {}))
    watched._given_up = problems
    watchers._by_name["Live"] = watched

    assert "API server watches the tables" in watchers.describe()
    assert ("set it to 600" in watchers.describe()) is advised
