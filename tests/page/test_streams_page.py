"""The page Streams and its server, in the pages of a real Airflow 3."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from browsing import Browser, browser_of, require_browser
from processors import IS_AIRFLOW_2
from statsd_server import StatsD
from typer.testing import CliRunner

from one_machine import Airflow, NotYetError, wait_until
from yellow_dynamic.command.app import app

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
    assert (healthy["good"]["number"], healthy["good"]["rows"]) == (12, "+1234 ~5 -0")
    assert (failing["good"]["number"], failing["newest"]["status"]) == (4, "failed")
    assert failing["reason"].startswith("its batch 5 failed at 2")
    assert streams["Late"]["reason"].startswith("no good batch since 2")
    assert streams["Refused"]["reason"].endswith("The source refused the login of its credential.")
    assert "'every day' is not a cron expression" in streams["Broken"]["reason"]
    assert (healthy["schedule"], len(healthy["revision"])) == ("0 * * * *", 12)


def test_each_stream_has_its_last_change_and_who_made_it(pages: Pages) -> None:
    streams = pages.streams()

    # Another test may have switched it off and on.
    assert streams["Healthy"]["change"]["action"] in ("added", "enabled")
    assert streams["Off"]["change"]["action"] == "disabled"
    assert streams["Off"]["change"]["who"] == pages.site.postgres.user
    assert streams["Off"]["change"]["how"] == "by hand"


def test_page_and_command_say_the_same(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_API_USER", "admin")
    monkeypatch.setenv("AIRFLOW_API_PASSWORD", pages.passwords["admin"])
    words = ["--dags", str(pages.site.folder / "dags"), "--airflow-url", pages.airflow.address]

    result = CliRunner().invoke(app, ["status", *words, "--json"])

    [platform] = json.loads(result.stdout)["platforms"]
    said = {each["stream_key"]: (each["state"], each["reason"]) for each in platform["streams"]}
    assert {key: (it["state"], it["reason"]) for key, it in pages.streams().items()} == said


def test_stream_has_its_newest_batches_and_changes(pages: Pages) -> None:
    found = pages.get(STREAM).raise_for_status().json()

    assert [stream["key"] for stream in found["streams"]] == ["Failing"]
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


# --- Who may see it ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["api/streams", STREAM])
def test_nothing_is_said_without_a_login(pages: Pages, path: str) -> None:
    assert pages.get(path, user=None).status_code == 401


def test_user_sees_the_streams_whose_dags_he_may_read(pages: Pages) -> None:
    assert set(pages.streams("guest")) == {"Healthy"}
    assert pages.get(STREAM, "guest").status_code == 403
    assert pages.get(f"api/streams/{dag_id('Healthy')}", "guest").status_code == 200


def test_user_who_may_not_read_xcoms_is_not_told_what_a_task_said(pages: Pages) -> None:
    refused = pages.streams("auditor")["Refused"]

    assert refused["state"] == "failing"
    assert refused["reason"].startswith("its run manual__2")
    assert "The source refused" not in refused["reason"]


def test_user_who_may_read_no_dag_sees_no_platform(pages: Pages) -> None:
    answer = pages.get("api/streams", "stranger").raise_for_status()

    assert answer.json()["platforms"] == []
    assert "YellowLive" not in answer.text


# --- When something cannot be read ------------------------------------------------------------


def test_during_an_outage_the_page_has_what_was_read_last_and_says_so(pages: Pages) -> None:
    before = pages.wait_for_states()
    with pages.outage():
        platform = pages.platform()
        stream = pages.get(STREAM).json()

    assert "could not read table 'yellowlive_airflow_dsg' in database" in platform["outage"]
    assert "It was read here last at 2" in platform["outage"]
    assert "no run has said yet where its row came from" in platform["outage"]
    assert PASSWORD not in platform["outage"]
    streams = {stream["key"]: stream for stream in platform["streams"]}
    # What is failing stays so, and what was healthy is not said to be.
    expected = STATES | {"Healthy": "served from snapshot"}
    assert {key: stream["state"] for key, stream in streams.items()} == expected
    assert "when the table was read last" in streams["Healthy"]["reason"]
    assert streams["Healthy"]["good"] == before["Healthy"]["good"]
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


def test_missing_right_on_the_batches_costs_only_them(pages: Pages) -> None:
    tables = "yellowlive_batch_counter, yellowlive_batch_metrics"
    pages.site.sql(f"REVOKE SELECT ON {tables} FROM {pages.reader}")  # noqa: S608 - no query
    try:
        platform = pages.wait_for(lambda platform: platform["problems"])
    finally:
        pages.site.sql(f"GRANT SELECT ON {tables} TO {pages.reader}")

    [problem] = platform["problems"]
    assert f"GRANT SELECT ON {tables} TO {pages.reader};" in problem
    assert {stream["key"] for stream in platform["streams"]} == set(STATES)
    pages.wait_for(lambda platform: not platform["problems"])


def test_file_that_airflow_cannot_import_is_said_to_who_may_see_import_errors(
    pages: Pages,
) -> None:
    other = pages.site.folder / "dags" / "yellowdead_factory_dag.py"
    other.write_text("# airflow dag\nraise RuntimeError('half a file')\n")
    try:
        pages.wait_for(lambda _: bool(pages.get("api/streams").json()["problems"]))
        [problem] = pages.get("api/streams").json()["problems"]
    finally:
        other.unlink()

    assert problem.endswith("yellowdead_factory_dag.py: RuntimeError: half a file")
    pages.wait_for(lambda _: not pages.get("api/streams").json()["problems"])


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
        super().__init__(home, first.dags_dir, postgres.url("airflow_of_pages"))
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
    """Return the streams that the page lists, once it lists any."""
    rows = browser.page.get_by_role("table", name="Streams").locator("[aria-rowindex]")
    rows.first.wait_for()
    return [row.get_by_role("cell").first.inner_text() for row in rows.all()]


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
    failing = rows_of(browser)
    browser.page.get_by_label("Search streams").fill("refused the login")
    refused = rows_of(browser)
    address = browser.page.url

    assert set(failing) == {"Failing", "Refused"}
    assert refused == ["Refused"]
    browser.page.goto(address)
    assert rows_of(browser) == ["Refused"]


def test_stream_leads_to_its_dag_its_runs_and_its_history(pages: Pages, browser: Browser) -> None:
    expect = require_browser().expect
    browser.open("plugin/streams?q=Failing")
    rows_of(browser)
    row = browser.page.locator("[aria-rowindex]").first

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
    row = browser.page.locator("[aria-rowindex]").first

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
