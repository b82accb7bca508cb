"""What is measured: each function is one comparison and returns its medians by side and size."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import Any

from airflow.cli import cli_parser

from benchmarks import AIRFLOW_DATABASE, sides
from benchmarks.estate import COLUMNS, TABLE, Estate, database, populate
from benchmarks.measure import Cost, Work, in_new_process, in_turn
from datasurface.md import PlatformPipelineGraph, ValidationTree
from yellow_dynamic.history import HISTORY
from yellow_dynamic.plugin import merge_store_transaction, write_rows
from yellow_dynamic.population import Population, lock_table, write_difference

Row = tuple[Any, ...]
#: Medians by side and number of streams.
Measured = dict[str, dict[int, Cost]]
Comparison = Callable[[Estate, Sequence[int], int], Measured]

FORGET_ALL_DAGS = "TRUNCATE dag, dag_version, serialized_dag, dag_code CASCADE"


def import_everything(estate: Estate) -> None:
    """Import what any side imports, so that no turn pays for it."""
    import dagfactory  # noqa: F401
    import sqlalchemy.dialects.postgresql.psycopg2  # noqa: F401

    os.environ["_AIRFLOW_PARSING_CONTEXT_DAG_ID"] = "none of this file"
    sides.factory(estate.factory_file)
    del os.environ["_AIRFLOW_PARSING_CONTEXT_DAG_ID"]


def by_side(measured: dict[int, dict[str, Cost]]) -> Measured:
    names = [name for costs in measured.values() for name in costs]
    return {
        name: {size: costs[name] for size, costs in measured.items() if name in costs}
        for name in dict.fromkeys(names)
    }


def full_parse(estate: Estate, sizes: Sequence[int], rounds: int) -> Measured:
    """Turn all rows into DAGs, in five ways."""
    measured = {}
    for size in sizes:
        estate.use(size)
        # Each in a process of its own, so that the memory it leaves behind serves no side.
        in_new_process(partial(estate.write_static_files, size))
        in_new_process(partial(estate.write_yaml_file, size))
        configs = estate.configs(size)
        work: dict[str, Work] = {
            "our factory": partial(sides.factory, estate.factory_file),
            "static files": partial(sides.static_files, estate.static_folder(size)),
            "the plan taken literally": partial(sides.plan_literal, estate.url(size), TABLE),
            "dag-factory": partial(sides.dag_factory, estate.yaml_file(size)),
            "the floor": partial(sides.floor, configs, sides.pod_parts(configs[0])),
        }
        if size == sizes[0]:
            in_new_process(partial(sides.check_equal, work))
        measured[size] = in_turn(work, rounds)
    return by_side(measured)


def task_start(estate: Estate, sizes: Sequence[int], rounds: int) -> Measured:
    """Parse the factory file in the context of one DAG; the sizes take turns too."""

    def start(size: int) -> object:
        estate.use(size)
        wanted = f"yellowlive__Store{size // 2}_ingestion"
        os.environ["_AIRFLOW_PARSING_CONTEXT_DAG_ID"] = wanted
        dags = sides.factory(estate.factory_file)
        assert list(dags) == [wanted]
        return dags

    costs = in_turn({str(size): partial(start, size) for size in sizes}, rounds)
    return {"our factory": {size: costs[str(size)] for size in sizes}}


def processor_pass(estate: Estate, sizes: Sequence[int], rounds: int) -> Measured:
    """Parse, serialize and write to Airflow's database, as `airflow dags reserialize` does."""
    arguments = cli_parser.get_parser().parse_args(["dags", "reserialize"])
    reserialize = partial(arguments.func, arguments)
    forget = partial(estate.postgres.execute, FORGET_ALL_DAGS, database=AIRFLOW_DATABASE)
    measured = {}
    for size in sizes:
        estate.use(size)
        measured[size] = in_turn(
            {"all DAGs new": reserialize, "nothing changed": reserialize},
            rounds,
            before={"all DAGs new": forget},
        )
    return by_side(measured)


def population(estate: Estate, sizes: Sequence[int], rounds: int) -> Measured:
    """Fill an empty table from a model, against a bare COPY of the rows that this gives.

    A merge is a command of its own, and nobody's fork.
    """
    measured = {}
    for size in sizes:
        graph = estate.graph(size)
        rows = estate.rows(size)
        work: dict[str, Work] = {
            "all rows new": partial(populate, graph),
            "all rows new, without a history": partial(populate, graph),
            "its write alone": partial(write, graph, rows),
            "its write alone, without a history": partial(write, graph, rows),
            "bare COPY": partial(copy, estate, size, rows),
        }
        empty: dict[str, Work] = {
            side: partial(
                empty_table, estate, size, recorded="without" not in side and side != "bare COPY"
            )
            for side in work
        }
        measured[size] = in_turn(work, rounds, before=empty, apart=True)
        record(estate, size, recorded=True)
        unchanged = {"nothing changed": partial(populate, graph)}
        measured[size] |= in_turn(unchanged, rounds, apart=True)
    return by_side(measured)


def empty_table(estate: Estate, size: int, *, recorded: bool) -> None:
    """Empty the table and its history, and let what comes be recorded or not."""
    record(estate, size, recorded=False)
    execute = partial(estate.postgres.execute, database=database(size))
    execute(f"ALTER TABLE {TABLE}{HISTORY} DISABLE TRIGGER USER")
    execute(f"TRUNCATE {TABLE}, {TABLE}{HISTORY}")
    execute(f"ALTER TABLE {TABLE}{HISTORY} ENABLE TRIGGER USER")
    record(estate, size, recorded=recorded)


def record(estate: Estate, size: int, *, recorded: bool) -> None:
    """Let changes of the table be recorded, or not."""
    how = "ENABLE" if recorded else "DISABLE"
    estate.postgres.execute(f"ALTER TABLE {TABLE} {how} TRIGGER USER", database=database(size))


def write(graph: PlatformPipelineGraph, rows: Sequence[Row]) -> None:
    """Do the transaction of a population, with rows that are ready."""
    platform: Any = graph.platform
    tree = ValidationTree(graph.eco)
    with merge_store_transaction(platform, "write the rows of") as connection:
        write_rows(connection, platform, {row[0]: row[1] for row in rows}, tree)


def change(estate: Estate, sizes: Sequence[int], rounds: int) -> Measured:
    """Merge a model that differs from the table in one stream."""
    costs: dict[int, dict[str, Cost]] = {size: {} for size in sizes}
    works: dict[str, Work] = {}
    before: dict[str, Work] = {}
    for size in sizes:
        graph = estate.graph(size)
        rows = estate.rows(size)
        texts = {row[0]: row[1] for row in rows}
        population = Population([], ["Store7"], [], [key for key in texts if key != "Store7"])
        for side, work in (
            ("its write, without the look", partial(write_one, graph, texts, population)),
            ("its transaction", partial(write, graph, rows)),
            ("its transaction, without a history", partial(write, graph, rows)),
            ("all of it", partial(populate, graph)),
        ):
            works[f"{side}/{size}"] = work
            before[f"{side}/{size}"] = partial(
                edit_one, estate, size, recorded="without a history" not in side
            )
    for name, cost in in_turn(works, rounds, before=before, apart=True).items():
        side, _, streams = name.partition("/")
        costs[int(streams)][side] = cost
    return by_side(costs)


def edit_one(estate: Estate, size: int, *, recorded: bool) -> None:
    """Let one row differ from the model, and let what comes be recorded or not."""
    record(estate, size, recorded=recorded)
    estate.postgres.execute(
        f"UPDATE {TABLE} SET config_json = config_json || ' ' "  # noqa: S608 - our own name
        "WHERE stream_key = 'Store7'",
        database=database(size),
    )


def write_one(graph: PlatformPipelineGraph, texts: dict[str, str], population: Population) -> None:
    """Write the one stream that differs, which is known."""
    platform: Any = graph.platform
    with merge_store_transaction(platform, "change a row of") as connection:
        table = platform.getAirflowDAGTable()
        lock_table(connection, table)
        write_difference(connection, platform.name, table, texts, population)


def copy(estate: Estate, size: int, rows: Sequence[Row]) -> None:
    """Do what no way of writing these rows does without: connect, send them, commit."""
    # Nothing in these rows needs an escape.
    text = io.StringIO("".join("\t".join(map(str, row)) + "\n" for row in rows))
    with closing(estate.postgres.connect(database(size))) as connection, connection.cursor() as to:
        to.copy_expert(f"COPY {TABLE} ({', '.join(COLUMNS)}) FROM STDIN", text)
        connection.commit()


def bootstrap(estate: Estate, sizes: Sequence[int], rounds: int) -> Measured:
    """Run both rings of a platform whose tables do not exist yet."""
    tables = ", ".join(
        (TABLE, f"{TABLE}{HISTORY}", "yellowlive_batch_counter", "yellowlive_batch_metrics")
    )
    measured = {}
    for size in sizes:
        drop = partial(
            estate.postgres.execute, f"DROP TABLE IF EXISTS {tables}", database=database(size)
        )
        work = {"both rings": partial(estate.bootstrap, size)}
        measured[size] = in_turn(work, rounds, before={"both rings": drop})
    return by_side(measured)


ALL: dict[str, Comparison] = {
    "full parse": full_parse,
    "task start": task_start,
    "DAG-processor pass": processor_pass,
    "population": population,
    "one change": change,
    "bootstrap": bootstrap,
}
