"""The operator's command, `yellow-dynamic`."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib import resources
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from yellow_dynamic.plugin import YellowDynamicDataPlatform, __version__

COULD_NOT_COMPARE = 1
DIFFERENT = 2

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"yellow-dynamic {__version__}")
        raise typer.Exit


@app.callback()
def yellow_dynamic(
    version: Annotated[
        bool,
        typer.Option("--version", callback=print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Look after the DAGs that yellow_dynamic builds from a database table."""


# --- verify-parity ----------------------------------------------------------------------------


class CannotCompareError(Exception):
    """The DAGs could not be read; the text says why and what to do."""


@dataclass
class Difference:
    """One key in which the two forms of a DAG differ; a form without the key has None."""

    key: str
    static: Any
    dynamic: Any


@dataclass
class Stream:
    """How the static and the dynamic DAG of one id compare."""

    dag_id: str
    result: str
    differences: list[Difference] = field(default_factory=list)


@app.command()
def verify_parity(
    platform: Annotated[str, typer.Option(help="The platform's name, as in the model.")],
    static: Annotated[str, typer.Option(help="Folder with the static DAG files.")],
    dags: Annotated[str, typer.Option(help="Airflow's DAG folder, with the factory file.")],
    python: Annotated[
        str,
        typer.Option(
            help="Command that starts Airflow's Python, where both folders are, for example "
            "'kubectl exec -i deploy/airflow-scheduler -- python'. Without it, this Python."
        ),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Compare a platform's static DAG files with the DAGs of its factory file.

    Both are loaded by Airflow, with the login of the configuration table from its environment.
    Compared are the serialized DAGs and the pods that their tasks would send. Nothing is written.

    Exit status: 0 when all streams are equal, 2 when any differs or is on one side only (and for
    a wrong command line), 1 when they could not be compared.
    """
    name = YellowDynamicDataPlatform.to_k8s_name(platform)
    try:
        found = read_dags(python_command(python), [static, dags, name])
    except CannotCompareError as error:
        typer.echo(f"Platform {platform!r}: {error}", err=True)
        raise typer.Exit(COULD_NOT_COMPARE) from None
    streams = compare(found["static"], found["dynamic"])
    equal = all(stream.result == "equal" for stream in streams) and not found["collide"]
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "platform": platform,
                    "airflow": found["airflow"],
                    "equal": equal,
                    "streams": [asdict(stream) for stream in streams],
                    "static_files_beside_the_factory": found["beside"],
                    "static_files_that_collide": found["collide"],
                },
                indent=2,
            )
        )
    else:
        show(f"{platform} on Airflow {found['airflow']}", streams)
        show_static_files(found["beside"], found["collide"])
    if not equal:
        raise typer.Exit(DIFFERENT)


def python_command(text: str) -> list[str]:
    try:
        return shlex.split(text) or [sys.executable]
    except ValueError as error:
        raise CannotCompareError(f"--python {text!r} is not a command: {error}.") from None


def read_dags(command: list[str], arguments: list[str]) -> dict[str, Any]:
    """Return what `_airflow_dags.py` finds when the Python that the command starts runs it.

    Raises:
        CannotCompareError: it finds a problem, or does not run to its end.
    """
    program = resources.files("yellow_dynamic").joinpath("_airflow_dags.py").read_text("utf-8")
    try:
        done = subprocess.run(
            [*command, "-", *arguments], input=program, capture_output=True, text=True
        )
    except OSError as error:
        raise CannotCompareError(
            f"The command {command[0]!r} cannot be started ({error.strerror}). Give --python the "
            "command that starts Airflow's Python."
        ) from None
    try:
        done.check_returncode()
        answer: dict[str, Any] = json.loads(done.stdout)
    except (subprocess.CalledProcessError, ValueError):
        said = (done.stderr or done.stdout).strip().splitlines()[-5:]
        raise CannotCompareError(
            f"Airflow's Python ({shlex.join(command)}) ended with exit code {done.returncode} and "
            f"without an answer. Its last words: {' | '.join(said) or 'none'}"
        ) from None
    if "problem" in answer:
        raise CannotCompareError(answer["problem"])
    return answer


def compare(static: dict[str, Any], dynamic: dict[str, Any]) -> list[Stream]:
    """Return how the DAGs of both sides compare, in the order of their ids."""
    streams = []
    for dag_id in sorted(static.keys() | dynamic.keys()):
        if dag_id not in dynamic:
            streams.append(Stream(dag_id, "only static"))
        elif dag_id not in static:
            streams.append(Stream(dag_id, "only dynamic"))
        else:
            streams.append(compare_dag(dag_id, static[dag_id], dynamic[dag_id]))
    return streams


def compare_dag(dag_id: str, static: dict[str, Any], dynamic: dict[str, Any]) -> Stream:
    if dynamic["problem"]:
        # Such a DAG has nothing in common with the static one but its id.
        reason = Difference("configuration", None, dynamic["problem"])
        return Stream(dag_id, "differs", [reason])
    found = [
        difference
        for part in ("dag", "tasks", "pods")
        for difference in differences(part, static[part], dynamic[part])
    ]
    return Stream(dag_id, "differs" if found else "equal", found)


def differences(key: str, static: Any, dynamic: Any) -> Iterator[Difference]:
    """Yield the innermost keys in which two values differ."""
    if static == dynamic:
        return
    parts = as_parts(static), as_parts(dynamic)
    if parts[0] is None or parts[1] is None or parts[0] == parts[1]:
        yield Difference(key, static, dynamic)
        return
    for name in sorted(parts[0].keys() | parts[1].keys()):
        yield from differences(f"{key}.{name}", parts[0].get(name), parts[1].get(name))


def as_parts(value: Any) -> dict[str, Any] | None:
    """Return a value's parts by name, as far as it has such: Kubernetes names items of lists."""
    if isinstance(value, dict):
        return value
    if isinstance(value, list) and all(isinstance(item, dict) and "name" in item for item in value):
        return {item["name"]: item for item in value}
    return None


def show(title: str, streams: list[Stream]) -> None:
    """Print the streams, and then what differs."""
    console = Console()
    table = Table(title=title)
    for heading in ("DAG", "result"):
        table.add_column(heading, overflow="fold")
    for stream in streams:
        colour = "green" if stream.result == "equal" else "red"
        table.add_row(Text(stream.dag_id), Text(stream.result, style=colour))
    console.print(table)
    for stream in streams:
        if stream.differences:
            console.print(differences_table(stream))


def differences_table(stream: Stream) -> Table:
    table = Table(title=stream.dag_id)
    for heading in ("key", "static", "dynamic"):
        table.add_column(heading, overflow="fold")
    for difference in stream.differences:
        values = (as_text(difference.static), as_text(difference.dynamic))
        table.add_row(Text(difference.key), *map(Text, values))
    return table


def as_text(value: Any) -> str:
    if value is None:
        return "(absent)"
    return value if isinstance(value, str) else json.dumps(value)


def show_static_files(beside: list[str], collide: list[str]) -> None:
    """Say which static files are left in the DAG folder, and what that means."""
    if beside:
        typer.echo(
            f"{len(beside)} static files lie beside the factory file. Their DAGs come from them "
            f"and not from the table, until you delete them: {', '.join(beside)}"
        )
    if collide:
        typer.echo(
            f"{len(collide)} static files elsewhere in the DAG folder define DAGs that the "
            "factory file defines too. Delete them, or move them beside the factory file to let "
            f"them go first: {', '.join(collide)}"
        )
