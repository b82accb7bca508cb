"""One page of the list of streams, with the query parameters of Airflow's REST API."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, Field

from yellow_dynamic.monitoring.status import State, StreamStatus
from yellow_dynamic.page.overview import PlatformView
from yellow_dynamic.page.shapes import describe_schedule, find_change, find_config

MAX_LIMIT = 100
MAX_SORT_KEYS = 3

#: As in Airflow, a minus sign is descending order.
OrderBy = Literal[
    "stream_key",
    "-stream_key",
    "platform",
    "-platform",
    "state",
    "-state",
    "good_batch",
    "-good_batch",
    "schedule",
    "-schedule",
    "last_change",
    "-last_change",
]


class StreamQuery(BaseModel):
    """The query parameters of the list.

    Attributes:
        limit: the number of streams of a page.
        offset: the number of streams before it.
        order_by: the keys to sort by.
        platform: only streams of these platforms; of all if it is empty.
        state: only streams in these states; in any if it is empty.
        q: only streams with this text in their key, store, state, reason, revision or last
            change, in any case.
    """

    limit: int = Field(default=50, ge=0, le=MAX_LIMIT)
    offset: int = Field(default=0, ge=0)
    order_by: list[OrderBy] = Field(default=["state"], max_length=MAX_SORT_KEYS)
    platform: list[str] = []
    state: list[State] = []
    q: str = ""


class ListedStream(NamedTuple):
    """A stream and its platform."""

    platform: PlatformView
    stream: StreamStatus


class StreamPage(NamedTuple):
    """One page of the streams that match a query.

    Attributes:
        streams: those of the page.
        total_entries: how many match, on all pages.
        states: how many match by state, whichever states the query names.
    """

    streams: list[ListedStream]
    total_entries: int
    states: Counter[State]


# Problems first.
ORDERED_STATES = sorted(State, key=lambda state: (state.is_well, state))
STATE_RANK = {state: rank for rank, state in enumerate(ORDERED_STATES)}


def good_batch_key(listed: ListedStream) -> datetime | None:
    batch = listed.stream.good_batch
    return batch.ended if batch else None


def schedule_key(listed: ListedStream) -> str | None:
    return describe_schedule(find_config(listed.stream, listed.platform.table)) or None


def last_change_key(listed: ListedStream) -> datetime | None:
    change = find_change(listed.stream, listed.platform.table)
    return change.changed_at if change else None


SORT_KEYS: dict[str, Callable[[ListedStream], Any]] = {
    "stream_key": lambda listed: listed.stream.stream_key,
    "platform": lambda listed: listed.platform.installation.name,
    "state": lambda listed: STATE_RANK[listed.stream.state],
    "good_batch": good_batch_key,
    "schedule": schedule_key,
    "last_change": last_change_key,
}


def find_page(
    streams: list[ListedStream],
    query: StreamQuery,
    can_read_xcoms: Callable[[ListedStream], bool],
) -> StreamPage:
    """Return the page of streams that a query requests.

    Args:
        streams: those that the user can read.
        query: what to find, and in which order.
        can_read_xcoms: whether the user can read the XComs of a stream's DAG. Without it, a search
            must not find what its task said, or it could be guessed letter by letter.
    """
    found = streams
    if query.platform:
        found = [it for it in found if it.platform.installation.name in query.platform]
    if words := query.q.lower():
        found = [
            it
            for it in found
            if words in it.platform.search_texts[it.stream.dag_id]
            or (words in it.stream.reason.lower() and can_read_xcoms(it))
        ]
    states = Counter(it.stream.state for it in found)
    if query.state:
        found = [it for it in found if it.stream.state in query.state]
    for key in reversed(query.order_by):
        found = sort_streams(found, key)
    page = found[query.offset : query.offset + query.limit]
    return StreamPage(page, len(found), states)


def sort_streams(streams: list[ListedStream], order_by: OrderBy) -> list[ListedStream]:
    """Return the streams in an order, those without a value at its end as in Airflow."""
    key = SORT_KEYS[order_by.removeprefix("-")]
    values = [key(listed) for listed in streams]
    # Numbers and not pairs, which would be work for Python's garbage collector.
    with_value = [number for number, value in enumerate(values) if value is not None]
    with_value.sort(key=values.__getitem__, reverse=order_by.startswith("-"))
    without_value = [number for number, value in enumerate(values) if value is None]
    return [streams[number] for number in with_value + without_value]
