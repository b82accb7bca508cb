"""What an import of a factory file registers."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from airflow.utils.file import find_dag_file_paths

from yellow_dynamic.factory.compat import DAG, get_parsing_context
from yellow_dynamic.factory.constants import UNREGISTERED
from yellow_dynamic.factory.dag import DagBuilder, config_errors, registered_dag_id
from yellow_dynamic.factory.database import ALL_ROWS
from yellow_dynamic.factory.draining import build_draining_dags, draining_dags
from yellow_dynamic.factory.logs import log
from yellow_dynamic.factory.platform import Platform
from yellow_dynamic.factory.rows import load_rows, load_shard
from yellow_dynamic.factory.rules import build_dag_id, parse_dag_id
from yellow_dynamic.factory.shards import Shard, current_shard


def register_dags(settings: dict[str, Any], module: dict[str, Any]) -> None:
    """Register what this import of a factory file is for: all its DAGs, one, or none.

    Programs that want no DAG import the file under the name UNREGISTERED. The file's module gets
    `BUILDER` for them and, for all, `READING`: see `Platform.reading`.

    Args:
        settings: the literal PLATFORM of the file.
        module: the names of the file's module.
    """
    platform = Platform(settings, module["__file__"])
    builder = DagBuilder(platform)
    module.update(BUILDER=builder, READING=platform.reading)
    if module["__name__"] == UNREGISTERED:
        return
    dag_id = get_parsing_context().dag_id
    module.update(shard_dags(builder) if dag_id is None else running_dag(builder, dag_id))


def shard_dags(builder: DagBuilder) -> dict[str, DAG]:
    """Return the DAGs of this file's shard of the streams by their ids, and report them."""
    started = time.monotonic()
    platform = builder.platform
    shard = current_shard(platform)
    reading = load_shard(platform, shard)
    draining, own = draining_dags(builder, reading, shard), builder.build_dags(reading.rows)
    dags = exclude_static(platform, draining | own)
    if draining:
        ids = ", ".join(draining)
        log.info("%d DAGs stay until their last run has ended: %s.", len(draining), ids)
    served = [dag for dag_id, dag in dags.items() if dag_id in own]
    report_parse(platform, shard, served, reading.age, (time.monotonic() - started) * 1000)
    return dags


def running_dag(builder: DagBuilder, dag_id: str) -> dict[str, DAG]:
    """Return the DAG whose task is about to start: it was this file's, whichever has it now.

    A stream that has ended meanwhile has the DAG that ends its run.
    """
    platform = builder.platform
    if not dag_id.startswith(f"{platform.name}__"):
        return {}
    key = parse_dag_id(platform.name, dag_id) or dag_id
    rows = load_rows(platform, ("stream_key = {}", key)).rows
    if key not in {row.stream_key for row in rows}:
        # The id of a bad row's DAG does not always name the row.
        rows = load_rows(platform, ALL_ROWS).rows
    own_ids = ((row, build_dag_id(platform.name, row.stream_key)) for row in rows)
    wanted = [
        row for row, own_id in own_ids if dag_id in (own_id, registered_dag_id(platform, row))
    ]
    if all(row.is_off for row in wanted):
        # A run that had begun goes on to its end.
        return build_draining_dags(builder, {dag_id: key})
    return builder.build_dags(wanted)


def exclude_static(platform: Platform, dags: dict[str, DAG]) -> dict[str, DAG]:
    """Return the DAGs that no static file beside the factory file defines: one DAG has one file."""
    static = static_dag_ids(platform) & dags.keys()
    left = sorted(static)
    if left:
        log.warning(
            "%d static DAG files lie beside %s, and their DAGs come from them instead of the table "
            "%r, until you delete them: %s%s.",
            len(left),
            platform.file,
            platform.settings["config_table"],
            ", ".join(f"{dag_id}.py" for dag_id in left[:10]),
            ", ..." if left[10:] else "",
        )
    return {dag_id: dag for dag_id, dag in dags.items() if dag_id not in static}


def static_dag_ids(platform: Platform) -> set[str]:
    """Return the ids of the DAGs of files beside the factory file that Airflow parses."""
    folder = platform.file.parent
    keys = {
        file: parse_dag_id(platform.name, file.stem)
        for file in folder.glob(f"{platform.name}__*.py")
    }
    files = {file: key for file, key in keys.items() if key is not None}
    if not files:
        return set()
    # The rules of an .airflowignore hold below its folder.
    above = [each for each in folder.parents if (each / ".airflowignore").exists()]
    try:
        parsed = set(find_dag_file_paths(above[-1] if above else folder, safe_mode=True))
    except Exception as error:  # noqa: BLE001 - a folder that cannot be searched ignores no file
        log.warning("Which files Airflow ignores in %s is not known: %r.", folder, error)
        parsed = set(map(str, files))
    ids = set()
    for file, key in files.items():
        if str(file) in parsed and has_text(file, key):
            ids.add(file.stem)
        else:
            log.warning(
                "The static file %s gives Airflow no DAG: it is ignored, cannot be read, or does "
                "not name it. The DAG comes from the table; delete the file.",
                file,
            )
    return ids


def has_text(file: Path, text: str) -> bool:
    """Return whether a file can be read, and has this text."""
    try:
        return text in file.read_text("utf-8", "replace")
    except OSError:
        return False


def report_parse(
    platform: Platform, shard: Shard, dags: Collection[DAG], age: float | None, milliseconds: float
) -> None:
    """Log what a parse came to, and give the same figures to Airflow's metrics.

    Args:
        platform: the file's.
        shard: the shard of the streams that is registered.
        dags: its DAGs, without those of streams that have ended.
        age: that of the snapshot in seconds, or None when the rows are the database's.
        milliseconds: what the parse took.
    """
    broken = len(list(config_errors(dags)))
    divided = max(shard.file_count, platform.number) > 1
    log.info(
        "Platform %s%s: %d ingestion DAGs, %d of them not valid, from the %s, in %d ms.",
        platform.name,
        f", factory file {platform.number} of {shard.file_count}" if divided else "",
        len(dags),
        broken,
        "database" if age is None else f"snapshot of {age:.0f} s ago",
        milliseconds,
    )
    figures = {
        "streams": len(dags),
        "broken_streams": broken,
        "snapshot_age_seconds": 0 if age is None else max(1, round(age)),
        "parse_ms": round(milliseconds),
    }
    try:
        stats = airflow_stats()
        for name, value in figures.items():
            # In the name and not as tags, which plain StatsD drops.
            stats.gauge(f"yellow_dynamic.{platform.name}.{platform.number}.{name}", value)
    except Exception as error:  # noqa: BLE001 - no DAG is lost because it cannot be counted
        log.warning("Airflow's metrics do not take the figures of this parse: %r.", error)


def airflow_stats() -> Any:
    """Return Airflow's client for metrics."""
    try:
        # The one that the DAG processor sets up; airflow.sdk has another, for tasks.
        from airflow.observability.stats import Stats
    except ImportError:  # Airflow 2
        from airflow.stats import Stats
    return Stats
