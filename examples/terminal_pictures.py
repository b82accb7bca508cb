"""Record the operator's command for the documentation: `plan`, `status` and others at work.

Each picture in docs/images is the real output of the command on a real PostgreSQL, the model
nycflights and this environment's Airflow.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from contextlib import chdir
from pathlib import Path

from rich.console import Console
from rich.text import Text

import demo
from one_machine import Postgres, clean_environment
from yellow_dynamic.factory.rules import get_batch_key

IMAGES = demo.PROJECT / "docs" / "images"
COLUMNS = 132
ON_PLATFORM = "--platform NycLive"
TABLE = "nyclive_airflow_dsg"
WRITE_BATCH = """\
INSERT INTO nyclive_batch_metrics (
    key, batch_id, batch_status, batch_start_time, batch_end_time,
    records_inserted, records_updated, records_deleted, total_records
)
VALUES (
    %s, %s, %s, now()::timestamp - (%s + 0.1) * interval '1 hour',
    now()::timestamp - %s * interval '1 hour', 1200, 30, 4, 52000
)
"""
WRITE_COUNTER = """\
INSERT INTO nyclive_batch_counter (key, "currentBatch") VALUES (%s, 2)
"""


def main() -> None:
    """Make the pictures anew."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Postgres(Path(folder, "postgres")) as postgres,
        chdir(folder),
    ):
        environment = install(postgres)
        demo.FOLDER = Path(folder)
        demo.change_model()
        eco = Path("model", "eco.py")
        eco.write_text(eco.read_text().replace("0 3 * * *", "30 4 * * *"))
        record("plan", f"plan --model model {ON_PLATFORM}", environment)
        datasurface("handleModelMerge", environment)
        run(f"yellow-dynamic disable NycReference --dags dags {ON_PLATFORM}", environment)
        record("streams", f"streams --dags dags {ON_PLATFORM}", environment)
        deliver(postgres)
        record("status", f"status --dags dags {ON_PLATFORM}", environment)
        record("check", f"check --model model --dags dags {ON_PLATFORM}", environment)


def install(postgres: Postgres) -> dict[str, str]:
    """Bootstrap and merge the platform NycLive here, and return the operator's environment."""
    postgres.create_database(demo.MERGE)
    environment = clean_environment(
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        PGHOSTADDR=postgres.address,
        postgres_USER=postgres.user,
        postgres_PASSWORD=postgres.password,
        AIRFLOW_HOME=str(Path("airflow").absolute()),
        COLUMNS=str(COLUMNS),
        FORCE_COLOR="1",
    )
    run(f"cp -r {shlex.quote(str(demo.EXAMPLE))} model", environment)
    for ring in (0, 1):
        datasurface(f"generatePlatformBootstrap --ringLevel {ring}", environment)
    datasurface("handleModelMerge", environment)
    Path("dags").mkdir()
    run("cp build/NycLive/nyclive_factory_dag.py dags", environment)
    return environment


def deliver(postgres: Postgres) -> None:
    """Let the streams have delivered, but for one whose batch failed and one that is late."""
    query = f"SELECT config_json FROM {TABLE} ORDER BY stream_key"  # noqa: S608 - our own name
    rows = postgres.execute(query, database=demo.MERGE)
    keys = [get_batch_key(json.loads(text)) for (text,) in rows]
    for number, key in enumerate(filter(None, keys)):
        for batch in (1, 2):
            failed = number == 1 and batch == 2
            status, hours = ("failed", 0.2) if failed else ("committed", 100 if number == 2 else 2)
            postgres.execute(WRITE_BATCH, [key, batch, status, hours, hours], database=demo.MERGE)
        postgres.execute(WRITE_COUNTER, [key], database=demo.MERGE)


def datasurface(command: str, environment: dict[str, str]) -> None:
    options = f"--model model --output build {ON_PLATFORM}"
    run(f"python -m datasurface.cmd.platform {command} {options}", environment)


def run(command: str, environment: dict[str, str]) -> str:
    """Return what a command prints; 2 is the exit code of a plan with changes."""
    done = subprocess.run(shlex.split(command), env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 2):
        sys.exit(f"{command} failed: {done.stdout}{done.stderr}")
    return done.stdout


def record(name: str, words: str, environment: dict[str, str]) -> None:
    """Write the picture of one command."""
    command = f"yellow-dynamic {words}"
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    console.print(Text(f"$ {command}", style="bold"))
    console.print(Text.from_ansi(run(command, environment).rstrip()))
    svg = console.export_svg(title=command, unique_id=f"terminal-{name}")
    # A picture loads nothing from elsewhere, fonts included.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    file = IMAGES / f"{name}.svg"
    file.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8")
    print(f"Wrote {file}")


if __name__ == "__main__":
    main()
