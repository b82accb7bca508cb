"""What a parse of streams with every setting of RunSettings costs, and one without any."""

from __future__ import annotations

import json
import os
from functools import partial

from run_settings import EVERYTHING

from benchmarks import Figures, sides
from benchmarks.estate import TABLE, Estate, database
from benchmarks.measure import Work, measure_in_turn
from yellow_dynamic.run_settings import ARGUMENT_KEYS, row_value

STREAMS = 1_000
ROUNDS = 15


def measure(estate: Estate, *, quick: bool) -> Figures:  # noqa: ARG001 - as short either way
    estate.install(STREAMS)
    plain, whole = database(STREAMS), "every_setting"
    estate.postgres.execute(f"CREATE DATABASE {whole} TEMPLATE {plain}")
    given = {ARGUMENT_KEYS[name]: row_value(value) for name, value in EVERYTHING.given.items()}
    estate.postgres.execute(
        f"UPDATE {TABLE} SET config_json = (config_json::jsonb || %s::jsonb)::text",  # noqa: S608
        [json.dumps(given)],
        database=whole,
    )

    def parse(database: str) -> object:
        os.environ["DATASURFACE_POSTGRES_DATABASE"] = database
        dags = sides.parse_factory(estate.factory_file)
        assert len(dags) == STREAMS
        return dags

    work: dict[str, Work] = {
        "no settings": partial(parse, plain),
        "every setting": partial(parse, whole),
    }
    # A round takes two seconds, and five of them differ by more than the target leaves.
    costs = measure_in_turn(work, ROUNDS)
    return {"run settings": {side: {str(STREAMS): costs[side]._asdict()} for side in costs}}
