"""Each function is one comparison, and returns its medians by side and number of streams."""

from __future__ import annotations

import gc
import io
import os
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import Any

from airflow.cli import cli_parser

from benchmarks import AIRFLOW_DATABASE, Figures, sides
from benchmarks.estate import COLUMNS, TABLE, Estate, database, populate
from benchmarks.measure import Cost, Work, measure_in_child, measure_in_turn, run_without_pyc
from datasurface.md import PlatformPipelineGraph, ValidationTree
from yellow_dynamic.history import HISTORY
from yellow_dynamic.plugin import merge_store_transaction, write_rows
from yellow_dynamic.population import Population, lock_table, write_difference

Row = tuple[Any, ...]
#: Medians by side and number of streams.
Measured = dict[tuple[str, int], Cost]
Comparison = Callable[[Estate, Sequence[int]], Measured]

FORGET_ALL_DAGS = "TRUNCATE dag, dag_version, serialized_dag, dag_code CASCADE"
SIZES = {
    "full parse": (10, 100, 1_000, 10_000),
    "task start": (10, 1_000, 10_000),
    "DAG-processor pass": (1_000, 10_000),
    "population": (1_000, 10_000, 100_000),
    "one change": (10, 10_000),
    "bootstrap": (1_000,),
}
QUICK_SIZES = {
    **SIZES,
    "full parse": (10, 100, 1_000),
    "DAG-processor pass": (10, 50),
    "population": (1_000, 10_000),
}
ROUNDS = 5
#: Of work that takes less than 0.1 s, whose time other load on the machine changes most.
SHORT_ROUNDS = 25


def measure(estate: Estate, *, quick: bool) -> Figures:
    sizes = QUICK_SIZES if quick else SIZES
    for size in sorted({size for group in sizes.values() for size in group}):
        measure_in_child(partial(estate.install, size))
    for size in sizes["full parse"]:
        # Each in a process of its own, so that the memory it leaves behind serves no side.
        measure_in_child(partial(estate.write_other_files, size))
    estate.short_folder.mkdir()
    measure_in_child(partial(estate.write_short_file, 10, estate.short_folder))
    import_everything(estate)
    # As Airflow's DAG processor does before it forks.
    gc.freeze()
    figures: Figures = {}
    for name, function in ALL.items():
        print(f"{name}: {', '.join(f'{size:,}' for size in sizes[name])} streams ...", flush=True)
        for (side, size), cost in function(estate, sizes[name]).items():
            costs = figures.setdefault(name, {}).setdefault(side, {})
            costs[str(size)] = cost._asdict()
    return figures


def import_everything(estate: Estate) -> None:
    """Import what any side imports, so that no turn pays for it."""
    import dagfactory  # noqa: F401
    import sqlalchemy.dialects.postgresql.psycopg2  # noqa: F401

    os.environ["_AIRFLOW_PARSING_CONTEXT_DAG_ID"] = "none of this file"
    sides.parse_factory(estate.factory_file)
    del os.environ["_AIRFLOW_PARSING_CONTEXT_DAG_ID"]
    # The DAG processor has sent metrics before it forks; the first one makes Airflow read a list.
    from airflow.observability.stats import Stats

    Stats.gauge("yellow_dynamic.benchmarks", 0)


def factory_sides(estate: Estate) -> dict[str, Work]:
    """Return the ways of parsing a factory file."""
    parse = partial(sides.parse_factory, estate.factory_file)
    short = estate.short_folder / estate.factory_file.name
    return {
        "factory file": parse,
        "factory file, no .pyc": partial(run_without_pyc, parse),
        "short factory file": partial(sides.parse_short_factory, short),
    }


def full_parse(estate: Estate, sizes: Sequence[int]) -> Measured:
    """Turn all rows into DAGs."""
    measured: Measured = {}
    for size in sizes:
        estate.use(size)
        configs = estate.configs(size)
        static = partial(sides.parse_static_files, estate.static_folder(size))
        work: dict[str, Work] = {
            **factory_sides(estate),
            "static files": static,
            "static files, no .pyc": partial(run_without_pyc, static),
            "naive factory": partial(sides.parse_naively, estate.url(size), TABLE),
            "dag-factory": partial(sides.parse_dag_factory, estate.yaml_file(size)),
            "constructors alone": partial(
                sides.call_constructors, configs, sides.pod_parts(configs[0])
            ),
        }
        if size == sizes[0]:
            measure_in_child(partial(sides.check_equal, work))
        rounds = SHORT_ROUNDS if size <= 10 else ROUNDS
        measured |= {(side, size): cost for side, cost in measure_in_turn(work, rounds).items()}
    return measured


def task_start(estate: Estate, sizes: Sequence[int]) -> Measured:
    """Parse the file of one DAG in the context of that DAG; the sizes take turns too."""

    def start(parse: Work, size: int) -> object:
        estate.use(size)
        wanted = f"yellowlive__Store{size // 2}_ingestion"
        os.environ["_AIRFLOW_PARSING_CONTEXT_DAG_ID"] = wanted
        dags: Any = parse()
        assert list(dags) == [wanted]
        return dags

    work: dict[tuple[str, int], Work] = {
        (side, size): partial(start, parse, size)
        for side, parse in factory_sides(estate).items()
        for size in sizes
    }
    [file] = estate.static_folder(sizes[0]).glob(f"*__Store{sizes[0] // 2}_ingestion.py")
    static = partial(start, partial(sides.parse_static_file, file), sizes[0])
    work["static file", sizes[0]] = static
    work["static file, no .pyc", sizes[0]] = partial(run_without_pyc, static)
    return measure_in_turn(work, SHORT_ROUNDS)


def processor_pass(estate: Estate, sizes: Sequence[int]) -> Measured:
    """Parse, serialize and write to Airflow's database, as `airflow dags reserialize` does."""
    arguments = cli_parser.get_parser().parse_args(["dags", "reserialize"])
    reserialize = partial(arguments.func, arguments)
    forget = partial(estate.postgres.execute, FORGET_ALL_DAGS, database=AIRFLOW_DATABASE)
    measured: Measured = {}
    for size in sizes:
        estate.use(size)
        measured |= measure_in_turn(
            {("all DAGs new", size): reserialize, ("nothing changed", size): reserialize},
            ROUNDS,
            before={("all DAGs new", size): forget},
        )
    return measured


def population(estate: Estate, sizes: Sequence[int]) -> Measured:
    """Fill an empty table from a model, against a bare COPY of the rows that this gives.

    A merge is a command of its own, so it shares no memory with a parent process.
    """
    measured: Measured = {}
    for size in sizes:
        graph = estate.graph(size)
        rows = estate.rows(size)
        work: dict[tuple[str, int], Work] = {
            ("all rows new", size): partial(populate, graph),
            ("all rows new, no history", size): partial(populate, graph),
            ("transaction", size): partial(run_transaction, graph, rows),
            ("transaction, no history", size): partial(run_transaction, graph, rows),
            ("bare COPY", size): partial(copy_rows, estate, size, rows),
        }
        empty: dict[tuple[str, int], Work] = {
            (side, size): partial(
                empty_table, estate, size, recorded=side in ("all rows new", "transaction")
            )
            for side, size in work
        }
        measured |= measure_in_turn(work, ROUNDS, before=empty, apart=True)
        set_recording(estate, size, recorded=True)
        measured |= measure_in_turn(
            {("nothing changed", size): partial(populate, graph)}, ROUNDS, apart=True
        )
    return measured


def empty_table(estate: Estate, size: int, *, recorded: bool) -> None:
    """Empty the table and its history, and record later changes or not."""
    set_recording(estate, size, recorded=False)
    execute = partial(estate.postgres.execute, database=database(size))
    execute(f"ALTER TABLE {TABLE}{HISTORY} DISABLE TRIGGER USER")
    execute(f"TRUNCATE {TABLE}, {TABLE}{HISTORY}")
    execute(f"ALTER TABLE {TABLE}{HISTORY} ENABLE TRIGGER USER")
    set_recording(estate, size, recorded=recorded)


def set_recording(estate: Estate, size: int, *, recorded: bool) -> None:
    """Record changes of the table, or not."""
    how = "ENABLE" if recorded else "DISABLE"
    estate.postgres.execute(f"ALTER TABLE {TABLE} {how} TRIGGER USER", database=database(size))


def run_transaction(graph: PlatformPipelineGraph, rows: Sequence[Row]) -> None:
    """Do the transaction of a population, with rows that are ready."""
    platform: Any = graph.platform
    tree = ValidationTree(graph.eco)
    with merge_store_transaction(platform, "write the rows of") as connection:
        write_rows(connection, platform, {row[0]: row[1] for row in rows}, tree)


def change(estate: Estate, sizes: Sequence[int]) -> Measured:
    """Merge a model that differs from the table in one stream."""
    works: dict[tuple[str, int], Work] = {}
    before: dict[tuple[str, int], Work] = {}
    for size in sizes:
        graph = estate.graph(size)
        rows = estate.rows(size)
        texts = {row[0]: row[1] for row in rows}
        population = Population([], ["Store7"], [], [key for key in texts if key != "Store7"])
        for side, work in (
            ("write of a known difference", partial(write_one, graph, texts, population)),
            ("transaction", partial(run_transaction, graph, rows)),
            ("transaction, no history", partial(run_transaction, graph, rows)),
            ("whole merge", partial(populate, graph)),
        ):
            works[side, size] = work
            recorded = "no history" not in side
            before[side, size] = partial(edit_one, estate, size, recorded=recorded)
    return measure_in_turn(works, ROUNDS, before=before, apart=True)


def edit_one(estate: Estate, size: int, *, recorded: bool) -> None:
    """Make one row differ from the model, and record later changes or not."""
    set_recording(estate, size, recorded=recorded)
    estate.postgres.execute(
        f"UPDATE {TABLE} SET config_json = config_json || ' ' "  # noqa: S608 - our own name
        "WHERE stream_key = 'Store7'",
        database=database(size),
    )


def write_one(graph: PlatformPipelineGraph, texts: dict[str, str], population: Population) -> None:
    """Write the one stream that is known to differ."""
    platform: Any = graph.platform
    with merge_store_transaction(platform, "change a row of") as connection:
        table = platform.getAirflowDAGTable()
        lock_table(connection, table)
        write_difference(connection, platform.name, table, texts, population)


def copy_rows(estate: Estate, size: int, rows: Sequence[Row]) -> None:
    """Connect, send the rows and commit, which every way of writing them must do."""
    # No value in these rows needs an escape.
    text = io.StringIO("".join("\t".join(map(str, row)) + "\n" for row in rows))
    with (
        closing(estate.postgres.connect(database(size))) as connection,
        connection.cursor() as cursor,
    ):
        cursor.copy_expert(f"COPY {TABLE} ({', '.join(COLUMNS)}) FROM STDIN", text)
        connection.commit()


def bootstrap(estate: Estate, sizes: Sequence[int]) -> Measured:
    """Run both rings of a platform whose tables do not exist yet."""
    tables = ", ".join(
        (TABLE, f"{TABLE}{HISTORY}", "yellowlive_batch_counter", "yellowlive_batch_metrics")
    )
    measured: Measured = {}
    for size in sizes:
        drop = partial(
            estate.postgres.execute, f"DROP TABLE IF EXISTS {tables}", database=database(size)
        )
        key = "both rings", size
        work = {key: partial(estate.bootstrap, size)}
        measured |= measure_in_turn(work, ROUNDS, before={key: drop})
    return measured


ALL: dict[str, Comparison] = {
    "full parse": full_parse,
    "task start": task_start,
    "DAG-processor pass": processor_pass,
    "population": population,
    "one change": change,
    "bootstrap": bootstrap,
}
