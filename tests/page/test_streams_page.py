"""The page Streams and its server, in the pages of a real Airflow 3."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from browsing import Browser, browser_of, require_browser
from processors import IS_AIRFLOW_2
from statsd_server import StatsD

from one_machine import Airflow, NotYetError, wait_until

from .conftest import PASSWORD, STATES, Pages, dag_id

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(IS_AIRFLOW_2, reason="Airflow 2 has no place for such a page."),
]
STREAM = f"api/streams/{dag_id('Failing')}"


# --- What the server says ---------------------------------------------------------------------


def test_each_stream_has_its_state_and_what_it_delivered_last(pages: Pages) -> None:
    streams = pages.wait_for_states()

    healthy, failing = streams["Healthy"], streams["Failing"]
    assert healthy["reason"] == ""
    assert (healthy["good_batch"]["number"], healthy["good_batch"]["rows"]) == (12, "+1234 ~5 -0")
    assert failing["good_batch"]["number"] == 4
    assert failing["newest_batch"]["status"] == "failed"
    assert failing["reason"].startswith("its batch 5 failed at 2")
    assert streams["Late"]["reason"].startswith("no good batch since 2")
    assert streams["Refused"]["reason"].endswith("The source refused the login of its credential.")
    assert "'every day' is not a cron expression" in streams["Broken"]["reason"]
    assert (healthy["schedule"], len(healthy["revision"])) == ("0 * * * *", 12)


def test_each_stream_has_its_last_change_and_who_made_it(pages: Pages) -> None:
    streams = pages.streams()

    # Another test may have switched it off and on.
    assert streams["Healthy"]["last_change"]["action"] in ("added", "enabled")
    assert streams["Off"]["last_change"]["action"] == "disabled"
    assert streams["Off"]["last_change"]["who"] == pages.site.postgres.user
    assert streams["Off"]["last_change"]["how"] == "by hand"


def test_page_and_command_say_the_same(pages: Pages) -> None:
    said = pages.command_says()

    assert {key: (it["state"], it["reason"]) for key, it in pages.streams().items()} == said


@contextmanager
def paused(pages: Pages, pause: Callable[[], None]) -> Iterator[None]:
    """Have the stream Refused paused in Airflow, and on the page, meanwhile."""

    def is_paused(_: Any) -> bool:
        return "paused" in pages.streams()["Refused"]["reason"]

    pause()
    try:
        pages.wait_for(is_paused)
        yield
    finally:
        pages.airflow.pause(dag_id("Refused"), False)
        pages.wait_for(lambda _: not is_paused(_))


def test_stream_that_airflow_itself_paused_is_failing(pages: Pages) -> None:
    refused = dag_id("Refused")
    before = pages.wait_for_states()["Refused"]["reason"]
    with paused(pages, lambda: pages.airflow.pause_after_failures(refused)):
        reason = pages.wait_for_states()["Refused"]["reason"]
        unprivileged = pages.streams("auditor")["Refused"]["reason"]
        said = pages.command_says()

    assert reason.startswith("Airflow itself paused it at 2")
    assert reason.endswith(f"airflow dags unpause {refused}); {before}")
    assert said["Refused"] == ("failing", reason)
    assert unprivileged.startswith("Airflow itself paused it at 2")
    assert "The source refused" not in unprivileged
    # A user paused this one.
    assert said["Paused"] == ("paused", "it is paused in Airflow")


def test_stream_that_a_user_paused_after_a_failure_is_failing(pages: Pages) -> None:
    refused = dag_id("Refused")
    with paused(pages, lambda: pages.airflow.pause(refused, True)):
        reason = pages.wait_for_states()["Refused"]["reason"]
        said = pages.command_says()

    assert reason.startswith("it is paused in Airflow, so no run follows (correct the cause, then:")
    assert said["Refused"] == ("failing", reason)


def test_run_whose_pool_is_gone_says_so(pages: Pages) -> None:
    airflow, healthy = pages.airflow, dag_id("Healthy")
    run = airflow.trigger(healthy)
    airflow.let_wait(healthy, run, "snapshot_merge_job", state="scheduled", pool="erp")
    try:
        reason = pages.wait_for_states(Healthy="waiting")["Healthy"]["reason"]
        said = pages.command_says()
        airflow.set_pool("erp", slots=1)
        pages.wait_for_states()
    finally:
        airflow.end_run(healthy, run, "success")
        airflow.remove_pools()

    assert reason.startswith(
        f"the task snapshot_merge_job of its run {run} cannot start in the pool 'erp': Airflow has "
        "no such pool"
    )
    assert said["Healthy"] == ("waiting", reason)


def test_run_whose_executor_is_not_there_says_so(pages: Pages) -> None:
    airflow, healthy = pages.airflow, dag_id("Healthy")
    run = airflow.trigger(healthy)
    airflow.let_wait(healthy, run, "snapshot_merge_job", state="scheduled", executor="Gone")
    try:
        reason = pages.wait_for_states(Healthy="waiting")["Healthy"]["reason"]
        said = pages.command_says()
    finally:
        airflow.end_run(healthy, run, "success")
        pages.wait_for_states()

    assert f"of its run {run} names the executor 'Gone', which Airflow does not have" in reason
    assert said["Healthy"] == ("waiting", reason)


def test_run_that_no_triggerer_waits_for_says_so(pages: Pages) -> None:
    airflow, healthy = pages.airflow, dag_id("Healthy")
    run, trigger = airflow.trigger(healthy), airflow.make_trigger("5 min")
    airflow.let_wait(healthy, run, "snapshot_merge_job", state="deferred", trigger_id=trigger)
    try:
        reason = pages.wait_for_states(Healthy="waiting")["Healthy"]["reason"]
        said = pages.command_says()
    finally:
        airflow.end_run(healthy, run, "success")
        pages.wait_for_states()

    assert reason.startswith(
        f"no triggerer of Airflow waits for the task snapshot_merge_job of its run {run}, deferred "
    )
    assert said["Healthy"] == ("waiting", reason)


def test_path_in_an_object_store_is_no_reason(pages: Pages) -> None:
    late, task = dag_id("Late"), "check_result"
    run = pages.airflow.trigger(late)
    left = pages.keep_elsewhere(late, run, task, "failure", "The source is on fire.")
    pages.airflow._request(
        "PATCH", f"dags/{late}/dagRuns/{run}/taskInstances/{task}", json={"new_state": "failed"}
    )
    pages.airflow.end_run(late, run, "failed")
    try:
        reason = pages.wait_for_states(Late="failing")["Late"]["reason"]
        said = pages.command_says()
    finally:
        pages.airflow.end_run(late, run, "success")
        pages.wait_for_states()

    assert left.startswith("file://")
    assert reason.endswith(f": see the log of its task {task}")
    assert said["Late"] == ("failing", reason)


def test_stream_has_its_newest_batches_and_changes(pages: Pages) -> None:
    found = pages.get(STREAM).raise_for_status().json()

    assert found["stream"]["stream_key"] == "Failing"
    assert [(batch["number"], batch["status"]) for batch in found["batches"]] == [
        (5, "failed"),
        (4, "committed"),
    ]
    first = found["changes"][-1]
    assert (first["action"], first["how"]) == ("added", "merge")
    assert found["unread"] is None


def test_dag_of_no_stream_is_told_as_such(pages: Pages) -> None:
    answer = pages.get("api/streams/some_other_dag")

    assert answer.status_code == 404
    assert "some_other_dag is of no stream" in answer.json()["detail"]


def test_platform_whose_streams_are_all_disabled_is_there(pages: Pages) -> None:
    pages.site.sql("UPDATE {table} SET status = 'disabled'")
    try:
        streams = pages.wait_for_states(**dict.fromkeys(STATES, "disabled"))
    finally:
        pages.site.sql("UPDATE {table} SET status = 'active' WHERE stream_key <> 'Off'")
        pages.wait_for_states()

    # Airflow has no DAG of theirs.
    assert not any(stream["has_dag"] for stream in streams.values())


def test_airflow_has_taken_the_plugin_without_an_error(pages: Pages) -> None:
    assert pages.airflow.get("plugins/importErrors")["import_errors"] == []


def test_list_is_paged_filtered_and_sorted_by_the_server(pages: Pages) -> None:
    pages.wait_for_states()
    second = pages.list_page("order_by=-stream_key&limit=2&offset=2")
    failing = pages.list_page("state=failing&state=late&platform=YellowLive&order_by=stream_key")
    other = pages.list_page("platform=YellowDead")

    expected = sorted(STATES, reverse=True)[2:4]
    assert [stream["stream_key"] for stream in second["streams"]] == expected
    assert (second["total_entries"], second["offset"]) == (len(STATES), 2)
    found = [stream["stream_key"] for stream in failing["streams"]]
    assert (found, failing["total_entries"]) == (["Failing", "Late", "Refused"], 3)
    # The numbers of the states are those of all pages and states.
    for page in (second, failing):
        counts = {each["state"]: each["count"] for each in page["states"] if each["count"]}
        assert counts == Counter(STATES.values())
    assert (other["streams"], other["total_entries"]) == ([], 0)


@pytest.mark.parametrize(
    ("query", "parameter", "reason"),
    [
        ("limit=101", "limit", "less than or equal to 100"),
        ("offset=-1", "offset", "greater than or equal to 0"),
        ("offset=ten", "offset", "valid integer"),
        ("order_by=size", "order_by", "Input should be 'stream_key', '-stream_key', 'platform'"),
        ("state=ill", "state", "Input should be 'healthy', 'disabled'"),
    ],
)
def test_value_of_the_query_that_is_not_valid_is_named(
    pages: Pages, query: str, parameter: str, reason: str
) -> None:
    response = pages.get(f"api/streams?{query}")

    assert response.status_code == 422
    [problem] = response.json()["detail"]
    assert parameter in problem["loc"]
    assert reason in problem["msg"]


# --- Who may see it ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["api/streams", STREAM])
def test_nothing_is_said_without_a_login(pages: Pages, path: str) -> None:
    assert pages.get(path, user=None).status_code == 401


def test_user_sees_the_streams_whose_dags_he_may_read(pages: Pages) -> None:
    assert set(pages.streams("guest")) == {"Healthy"}
    page = pages.list_page(user="guest")
    assert page["total_entries"] == 1
    assert [each["state"] for each in page["states"] if each["count"]] == ["healthy"]
    assert pages.get(STREAM, "guest").status_code == 403
    assert pages.get(f"api/streams/{dag_id('Healthy')}", "guest").status_code == 200


def test_user_who_may_not_read_xcoms_is_not_told_what_a_task_said(pages: Pages) -> None:
    refused = pages.streams("auditor")["Refused"]

    assert refused["state"] == "failing"
    assert refused["reason"].startswith("its run manual__2")
    assert "The source refused" not in refused["reason"]
    # Nor can they find it out by searching for it.
    assert pages.list_page("q=source refused")["total_entries"] == 1
    assert pages.list_page("q=source refused", "auditor")["total_entries"] == 0


def test_user_who_may_read_no_dag_sees_no_platform(pages: Pages) -> None:
    answer = pages.get("api/streams", "stranger").raise_for_status()

    assert answer.json()["platforms"] == []
    assert "YellowLive" not in answer.text


# --- When something cannot be read ------------------------------------------------------------


def test_during_an_outage_the_page_has_what_was_read_last_and_says_so(pages: Pages) -> None:
    before = pages.wait_for_states()
    with pages.outage():
        platform = pages.platform()
        streams = pages.streams()
        stream = pages.get(STREAM).json()

    assert "could not read table 'yellowlive_airflow_dsg' in database" in platform["outage"]
    assert "It was read here last at 2" in platform["outage"]
    assert "where the newest runs had their rows from is not known" in platform["outage"]
    assert PASSWORD not in platform["outage"]
    # What is failing stays so, and what was healthy is not said to be.
    expected = STATES | {"Healthy": "served from snapshot"}
    assert {key: stream["state"] for key, stream in streams.items()} == expected
    assert "when the table was read last" in streams["Healthy"]["reason"]
    assert streams["Healthy"]["good_batch"] == before["Healthy"]["good_batch"]
    assert "could not read" in stream["unread"]
    pages.wait_for_states()


def test_run_says_where_airflow_has_its_rows_from_during_an_outage(pages: Pages) -> None:
    run = pages.airflow.trigger(dag_id("Late"))
    said = {"stream": "Late", "row": "snapshot, last confirmed by the database at 03:00 UTC"}
    pages.airflow.keep(dag_id("Late"), run, "snapshot_merge_job", "ran_with", said)
    pages.airflow.end_run(dag_id("Late"), run, "success")
    try:
        with pages.outage():
            outage = pages.platform()["outage"]
    finally:
        pages.forget_records()

    assert "had its row from: snapshot, last confirmed by the database at 03:00 UTC" in outage


def test_record_in_an_object_store_does_not_cost_the_page_during_an_outage(pages: Pages) -> None:
    run = pages.airflow.trigger(dag_id("Late"))
    said = {"stream": "Late", "row": "snapshot"}
    left = pages.keep_elsewhere(dag_id("Late"), run, "snapshot_merge_job", "ran_with", said)
    pages.airflow.end_run(dag_id("Late"), run, "success")
    try:
        with pages.outage():
            outage = pages.platform()["outage"]
    finally:
        pages.forget_records()

    assert "where the newest runs had their rows from is not known" in outage
    assert left not in outage


def test_missing_right_on_the_batches_costs_only_them(pages: Pages) -> None:
    tables = "yellowlive_batch_counter, yellowlive_batch_metrics"
    pages.site.sql(f"REVOKE SELECT ON {tables} FROM {pages.reader}")  # noqa: S608 - no query
    try:
        platform = pages.wait_for(lambda platform: platform["problems"])
        streams = pages.streams()
    finally:
        pages.site.sql(f"GRANT SELECT ON {tables} TO {pages.reader}")

    [problem] = platform["problems"]
    assert f"GRANT SELECT ON {tables} TO {pages.reader};" in problem
    assert set(streams) == set(STATES)
    pages.wait_for(lambda platform: not platform["problems"])


def test_file_that_airflow_cannot_import_is_said_to_who_may_see_import_errors(
    pages: Pages,
) -> None:
    other = pages.site.folder / "dags" / "yellowdead_factory_dag.py"
    other.write_text("# airflow dag\nraise RuntimeError('half a file')\n")
    try:
        pages.wait_for(lambda _: bool(pages.list_page()["problems"]))
        [problem] = pages.list_page()["problems"]
    finally:
        other.unlink()

    assert problem.endswith("yellowdead_factory_dag.py: RuntimeError: half a file")
    pages.wait_for(lambda _: not pages.list_page()["problems"])


# --- Metrics ----------------------------------------------------------------------------------


class AnotherServer(Airflow):
    """One more API server of the same Airflow, whose metrics go somewhere."""

    def __init__(self, pages: Pages, home: Path, statsd: StatsD) -> None:
        where = {
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PORT": str(statsd.port),
        }
        postgres, first = pages.site.postgres, pages.airflow
        super().__init__(home, first.dags_dir, postgres.url(f"airflow_of_{pages.site.database}"))
        kept = ("AIRFLOW_HOME", "AIRFLOW__API__PORT", "AIRFLOW__API__BASE_URL")
        self._env = {**first.env, **{name: self._env[name] for name in kept}, **where}
        self._components = ["api-server"]


def test_metrics_have_how_many_streams_fail_and_are_late_and_when_data_came_last(
    pages: Pages, tmp_path: Path
) -> None:
    with closing(StatsD()) as statsd, AnotherServer(pages, tmp_path / "airflow", statsd):

        def arrived() -> dict[str, float]:
            figures = statsd.figures("airflow.yellow_dynamic.yellowlive.")
            if "late_streams" not in figures:
                raise NotYetError(f"There are only {figures}.")
            return figures

        figures = wait_until(arrived, seconds=60)

    age = figures.pop("last_good_batch_age_seconds")
    assert figures == {"failing_streams": 2, "late_streams": 1}
    assert 600 <= age < 3600


# --- In the browser ---------------------------------------------------------------------------


@pytest.fixture
def browser(pages: Pages, tmp_path: Path) -> Iterator[Browser]:
    require_browser()
    with browser_of(pages.airflow, tmp_path, width=1400) as opened:
        yield opened
    foreign = [it for it in opened.addresses if not it.startswith((pages.airflow.address, "blob:"))]
    assert foreign == []
    assert opened.errors == []


def rows_of(browser: Browser) -> list[str]:
    """Return the streams that the page lists, once it lists any and waits for no others."""
    rows = browser.page.locator("table[aria-label=Streams][aria-busy=false] tbody tr")
    rows.first.wait_for()
    return [row.get_by_role("cell").first.inner_text() for row in rows.all()]


def wait_for_rows(browser: Browser, expected: set[str] | list[str]) -> None:
    """Wait until the page lists just these streams, in their order if they have one."""

    def arrived() -> None:
        if type(expected)(found := rows_of(browser)) != expected:
            raise NotYetError(f"The page lists {found}.")

    wait_until(arrived, seconds=20, every=0.1)


def parameters(browser: Browser) -> dict[str, str]:
    """Return the parameters of the page's URL."""
    return dict(parse_qsl(urlsplit(browser.page.url).query))


def test_navigation_leads_to_all_streams_and_the_ill_ones_are_first(
    pages: Pages, browser: Browser
) -> None:
    browser.page.get_by_role("link", name="Streams").click()

    keys = rows_of(browser)

    assert set(keys) == set(STATES)
    assert set(keys[-3:]) == {"Healthy", "Off", "Paused"}
    browser.take_picture("streams-page.png")


def test_streams_are_filtered_by_state_and_by_words(pages: Pages, browser: Browser) -> None:
    browser.open("plugin/streams")
    rows_of(browser)
    browser.page.get_by_role("button", name="2 failing").click()
    wait_for_rows(browser, {"Failing", "Refused"})
    # Slower than the pause after which the page searches: the field keeps the focus.
    browser.page.get_by_label("Search streams").press_sequentially("the login", delay=250)
    wait_for_rows(browser, {"Refused"})

    assert parameters(browser) == {"state": "failing", "q": "the login"}
    browser.page.goto(browser.page.url)
    assert rows_of(browser) == ["Refused"]
    # The number of each state is that of the search.
    browser.page.get_by_role("button", name="1 failing").click()
    assert rows_of(browser) == ["Refused"]
    browser.page.get_by_role("link", name="Streams").click()
    wait_for_rows(browser, set(STATES))
    assert browser.page.get_by_label("Search streams").input_value() == ""


def test_streams_are_sorted_with_the_keyboard(pages: Pages, browser: Browser) -> None:
    browser.open("plugin/streams?state=failing")
    assert rows_of(browser) == ["Failing", "Refused"]
    heading = browser.page.get_by_role("columnheader", name="stream")
    heading.get_by_role("button").focus()
    for key, direction in (("Enter", "ascending"), ("Space", "descending")):
        browser.page.keyboard.press(key)
        require_browser().expect(heading).to_have_attribute("aria-sort", direction)

    wait_for_rows(browser, ["Refused", "Failing"])
    assert parameters(browser) == {"state": "failing", "order_by": "-stream_key"}


def serve_many(route: Any) -> None:
    """Respond as for a platform of 120 streams."""
    asked = dict(parse_qsl(urlsplit(route.request.url).query))
    offset, limit = int(asked.get("offset", 0)), int(asked["limit"])
    content = route.fetch(url=route.request.url.replace("offset", "ignored")).json()
    [first, *_] = content["streams"]
    numbers = range(120)[offset : offset + limit]
    content["streams"] = [
        {**first, "stream_key": f"Stream{number}", "dag_id": f"dag{number}"} for number in numbers
    ]
    route.fulfill(json={**content, "offset": offset, "total_entries": 120})


def test_page_is_part_of_the_url_and_each_is_asked_for_alone(
    pages: Pages, browser: Browser
) -> None:
    expect = require_browser().expect
    browser.page.route("**/api/streams?*", serve_many)
    browser.open("plugin/streams")
    assert len(rows_of(browser)) == 50
    status = browser.page.get_by_role("status").filter(has_text="streams, as of")
    expect(status).to_contain_text("1-50 of 120 streams")
    expect(browser.page.get_by_role("button", name="Previous")).to_be_disabled()

    browser.page.get_by_role("button", name="Next").press("Enter")
    expect(status).to_contain_text("51-100 of 120 streams")
    browser.page.get_by_role("button", name="Next").click()
    expect(status).to_contain_text("101-120 of 120 streams")
    expect(browser.page.get_by_role("button", name="Next")).to_be_disabled()
    assert parameters(browser) == {"offset": "100"}
    browser.page.go_back()
    expect(status).to_contain_text("51-100 of 120 streams")
    # Another order begins at its first page.
    browser.page.get_by_role("button", name="schedule").click()
    expect(status).to_contain_text("1-50 of 120 streams")
    assert parameters(browser) == {"order_by": "schedule"}


def test_response_to_an_older_search_does_not_replace_a_newer_one(
    pages: Pages, browser: Browser
) -> None:
    waiting: list[Any] = []
    browser.page.route("**/api/streams?*q=Late*", lambda route: waiting.append(route))
    browser.open("plugin/streams")
    rows_of(browser)
    search = browser.page.get_by_label("Search streams")
    search.fill("Late")
    browser.page.wait_for_url("**/plugin/streams?q=Late")
    search.fill("Healthy")
    browser.page.wait_for_url("**/plugin/streams?q=Healthy")
    wait_for_rows(browser, {"Healthy"})
    late = pages.list_page("limit=50&q=Late")
    for route in waiting:
        with suppress(require_browser().Error):  # The page may have cancelled it.
            route.fulfill(json=late)
    browser.page.wait_for_timeout(500)

    assert waiting
    assert rows_of(browser) == ["Healthy"]


def test_page_that_is_gone_becomes_the_last_one(pages: Pages, browser: Browser) -> None:
    browser.open("plugin/streams?offset=50")

    assert set(rows_of(browser)) == set(STATES)
    assert parameters(browser) == {}


def test_value_in_the_url_that_is_not_valid_is_named(pages: Pages, browser: Browser) -> None:
    browser.open("plugin/streams?order_by=size")

    alert = browser.page.get_by_role("alert")
    require_browser().expect(alert).to_contain_text("Input should be 'stream_key'")


def test_stream_leads_to_its_dag_its_runs_and_its_history(pages: Pages, browser: Browser) -> None:
    expect = require_browser().expect
    browser.open("plugin/streams?q=Failing")
    rows_of(browser)
    row = browser.page.locator("tbody tr").first

    row.get_by_role("link", name="History").click()
    batches = browser.page.get_by_role("table", name="Newest batches")
    expect(batches).to_contain_text("committed")
    expect(browser.page.get_by_role("table", name="Newest changes")).to_contain_text("merge")
    browser.page.go_back()
    row.get_by_role("link", name="Runs").click()
    browser.page.wait_for_url(f"**/dags/{dag_id('Failing')}/runs")
    browser.page.go_back()
    row.get_by_role("link", name="Failing").click()
    browser.page.wait_for_url(f"**/dags/{dag_id('Failing')}")


def test_page_of_a_dag_has_a_tab_for_its_stream(pages: Pages, browser: Browser) -> None:
    expect = require_browser().expect
    browser.open(f"dags/{dag_id('Failing')}")

    browser.page.get_by_role("link", name="Stream", exact=True).click()

    expect(browser.page.get_by_text("its batch 5 failed at")).to_be_visible()
    expect(browser.page.get_by_role("table", name="Newest batches")).to_contain_text("failed")
    browser.take_picture("stream-tab.png")


def test_stream_without_a_dag_has_its_history_too(pages: Pages, browser: Browser) -> None:
    expect = require_browser().expect
    browser.open("plugin/streams?q=Off")
    rows_of(browser)
    row = browser.page.locator("tbody tr").first

    assert row.get_by_role("link").all_inner_texts() == ["History"]
    row.get_by_role("link", name="History").click()
    changes = browser.page.get_by_role("table", name="Newest changes")
    expect(changes).to_contain_text("disabled")
    expect(changes).to_contain_text('status: "active"')
    browser.page.get_by_role("link", name="All streams").click()
    assert set(rows_of(browser)) == set(STATES)


def test_outage_is_on_the_page(pages: Pages, browser: Browser) -> None:
    with pages.outage():
        browser.open("plugin/streams")
        keys = rows_of(browser)
        banner = browser.page.get_by_role("alert").inner_text()
        browser.take_picture("streams-outage.png")

    assert set(keys) == set(STATES)
    assert "The table yellowlive_airflow_dsg of YellowLive cannot be read" in banner
