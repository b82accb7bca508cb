"""How many streams of each platform fail or are late, for Airflow's metrics.

The API server sends them: it knows them for its page, where a parse of the factory file cannot see
how runs ended. A thread there is safe, as unlike the scheduler it forks no task.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from datetime import UTC, datetime
from threading import Thread
from typing import Any

from yellow_dynamic.monitoring.status import State
from yellow_dynamic.page.overview import OVERVIEW, PlatformView

EVERY_SECONDS = 60

log = logging.getLogger(__name__)


def start() -> None:
    """Send the figures from now on, beside what this process does."""
    Thread(target=send_for_ever, name="gauges of yellow_dynamic", daemon=True).start()


def send_for_ever() -> None:
    from airflow.observability.stats import Stats

    while True:
        try:
            for platform in OVERVIEW.answer(patience=None).platforms:
                send(Stats, platform)
        except Exception as error:  # noqa: BLE001 - the next time may go well
            log.warning("The figures of the streams cannot be sent: %r.", error)
        time.sleep(EVERY_SECONDS)


def send(stats: Any, platform: PlatformView) -> None:
    for name, value in count_figures(platform).items():
        # In the name and not as tags, which plain StatsD drops.
        stats.gauge(f"yellow_dynamic.{platform.installation.airflow_name}.{name}", value)


def count_figures(platform: PlatformView) -> dict[str, int]:
    """Return the figures of a platform by name; what is not known is left out."""
    streams = platform.status.streams
    states = Counter(stream.state for stream in streams)
    figures = {"failing_streams": states[State.FAILING]}
    table = platform.table
    if table is None or table.sources.deliveries is None:
        return figures
    figures["late_streams"] = states[State.LATE]
    ended = [batch.ended for batch in (stream.good_batch for stream in streams) if batch]
    if newest := max(filter(None, ended), default=None):
        age = datetime.now(UTC).replace(tzinfo=None) - newest
        figures["last_good_batch_age_seconds"] = round(age.total_seconds())
    return figures
