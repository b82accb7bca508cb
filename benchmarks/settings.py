"""What a parse of streams with every setting of RunSettings costs, against those without any.

python -m benchmarks.settings [FACTORY_FILE]

A factory file of another release, of the same model, is measured beside.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.__main__ import migration, set_environment
from one_machine import Postgres

STREAMS = 1_000
ROUNDS = 15
#: A parse with every setting, of one without.
TARGET = 1.3


def main() -> int:
    with (
        tempfile.TemporaryDirectory(prefix="benchmarks-", ignore_cleanup_errors=True) as folder,
        Postgres(Path(folder) / "data") as postgres,
    ):
        set_environment(postgres, Path(folder))
        with migration(Path(folder) / "migration.log"):
            pass
        return measure(postgres, Path(folder), [Path(word) for word in sys.argv[1:]])


def measure(postgres: Postgres, folder: Path, others: list[Path]) -> int:
    """Print the ratios, and return 1 where the target is missed."""
    # Only now, when Airflow finds its settings.
    import logging

    from run_settings import EVERYTHING

    from benchmarks import sides
    from benchmarks.estate import TABLE, Estate, database
    from benchmarks.measure import Work, in_turn
    from yellow_dynamic.contract import RUN_KEYS
    from yellow_dynamic.run_settings import row_value

    logging.disable(logging.WARNING)
    estate = Estate(postgres, folder)
    estate.install(STREAMS)
    plain, whole = database(STREAMS), "every_setting"
    postgres.execute(f"CREATE DATABASE {whole} TEMPLATE {plain}")
    given = {RUN_KEYS[name]: row_value(value) for name, value in EVERYTHING.given.items()}
    postgres.execute(
        f"UPDATE {TABLE} SET config_json = (config_json::jsonb || %s::jsonb)::text",  # noqa: S608
        [json.dumps(given)],
        database=whole,
    )

    def parse(file: Path, database: str) -> object:
        os.environ["DATASURFACE_POSTGRES_DATABASE"] = database
        dags = sides.factory(file)
        assert len(dags) == STREAMS
        return dags

    work: dict[str, Work] = {
        "without settings": partial(parse, estate.factory_file, plain),
        "with every setting": partial(parse, estate.factory_file, whole),
    }
    for number, other in enumerate(others):
        copied = folder / f"other_{number}" / estate.factory_file.name
        copied.parent.mkdir()
        shutil.copy(other, copied)
        work[f"without settings, {other}"] = partial(parse, copied, plain)
    costs = in_turn(work, ROUNDS)
    base = costs["without settings"]
    print(f"a parse of {STREAMS} streams:")
    for name, cost in costs.items():
        print(f"  {name}: {cost.seconds * 1000:.0f} ms, {cost.seconds / base.seconds:.3f}")
    ratio = costs["with every setting"].seconds / base.seconds
    print(f"{ratio:.2f} of {TARGET}: {'met' if ratio <= TARGET else 'MISSED'}")
    return int(ratio > TARGET)


if __name__ == "__main__":
    sys.exit(main())
