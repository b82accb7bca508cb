"""The operator's command, `yellow-dynamic`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from sqlalchemy.exc import SQLAlchemyError
from typer.core import TyperGroup

from yellow_dynamic._airflow import ask_airflow
from yellow_dynamic._airflow_api import AirflowApi
from yellow_dynamic._checks import Check, Checks
from yellow_dynamic._cluster import Cluster, cluster_checks
from yellow_dynamic._drift import find_drift
from yellow_dynamic._errors import CommandError
from yellow_dynamic._factory import dag_of
from yellow_dynamic._installation import find_installations
from yellow_dynamic._parity import compare
from yellow_dynamic._plan import Plan, plan_merge
from yellow_dynamic._printing import (
    print_checks,
    print_dag,
    print_drift,
    print_json,
    print_line,
    print_parity,
    print_plan,
    print_static_files,
    print_status,
    print_stream,
    print_streams,
    printable,
)
from yellow_dynamic._status import in_words, model_rows, platform_status, sources_of
from yellow_dynamic._streams import ACTIVE, DISABLED, find_stream, read_rows, set_status
from yellow_dynamic.plugin import YellowDynamicDataPlatform, __version__

FAILED = 1
DIFFERENT = 2

EXIT_CODES = """
Exit codes of all commands: 0 all is well, or nothing differs; 2 something differs or is not well;
1 the command could not do what it was asked, or was typed wrongly.
"""

UsageError = cast("type[Exception]", typer.BadParameter.__base__)


class Commands(TyperGroup):
    """Gives a wrong command line the exit code 1: 2 says that something differs."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with usage_errors():
            return super().make_context(*args, **kwargs)

    def invoke(self, *args: Any, **kwargs: Any) -> Any:
        with usage_errors():
            return super().invoke(*args, **kwargs)


@contextmanager
def usage_errors() -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        error.exit_code = FAILED  # type: ignore[attr-defined]
        raise


app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False)

Model = Annotated[
    Path | None,
    typer.Option(envvar="YELLOW_DYNAMIC_MODEL", help="Folder of the model, with eco.py."),
]
Dags = Annotated[
    str | None,
    typer.Option(
        envvar="YELLOW_DYNAMIC_DAGS",
        help="Airflow's DAG folder, or the factory file in it, on the machine where --python runs.",
    ),
]
Python = Annotated[
    str,
    typer.Option(
        envvar="YELLOW_DYNAMIC_PYTHON",
        help="Command that starts Airflow's Python, for example "
        "'kubectl exec -i deploy/airflow-scheduler -- python'. Without it, this Python.",
    ),
]
PlatformNames = Annotated[
    list[str] | None,
    typer.Option(
        "--platform", "-p", help="A platform's name, as in the model. Without it, every platform."
    ),
]
MoreNames = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME",
        help="More names for --platform, which may be given as handleModelMerge takes them.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"yellow-dynamic {__version__}")
        raise typer.Exit


@app.callback(epilog=EXIT_CODES)
def yellow_dynamic(
    version: Annotated[
        bool,
        typer.Option("--version", callback=print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Look after the DAGs that yellow_dynamic builds from a database table.

    Most commands find a platform through --model (the folder with eco.py), --dags (the folder
    with Airflow's factory file, where no model is at hand), or both. The login of the table comes
    from the environment variables {credential}_USER and {credential}_PASSWORD, as everywhere.

    Before a merge: plan. After it: status. Around a deployment: check. To switch one stream off:
    streams, then disable. Each command's --help has an example.
    """


@contextmanager
def errors_in_words(start: str = "") -> Iterator[None]:
    """Turn what a command cannot do into its reason on standard error, and exit code 1."""
    try:
        yield
    except CommandError as error:
        reason = str(error)
    except SQLAlchemyError as error:
        reason = in_words(error)
    else:
        return
    typer.echo(f"{start}{printable(' '.join(reason.split()))}", err=True)
    raise typer.Exit(FAILED)


# --- plan -------------------------------------------------------------------------------------


@app.command(epilog="Exit codes: 0 no change, 2 changes, 1 error.")
def plan(
    model: Annotated[
        Path, typer.Option(envvar="YELLOW_DYNAMIC_MODEL", help="Folder of the model, with eco.py.")
    ],
    platform: PlatformNames = None,
    more: MoreNames = None,
    as_json: AsJson = False,
) -> None:
    """Show what handleModelMerge would change, stream by stream and key by key.

    It is worked out by the merge's own code on the same model and the same table, with the login
    that the merge uses, and nothing is written. A merge logs the same summary. Whatever the merge
    would refuse is an error here too.

    Example: yellow-dynamic plan --model model --platform YellowLive
    """
    with errors_in_words():
        names = [*(platform or []), *(more or [])]
        found = find_installations(model, None, names, "")
        plans = [plan_merge(each.model) for each in found if each.model]
    if as_json:
        print_json({"changes": any(each.streams for each in plans), "platforms": plans_json(plans)})
    else:
        for each in plans:
            print_plan(each)
    if any(each.streams for each in plans):
        raise typer.Exit(DIFFERENT)


def plans_json(plans: list[Plan]) -> list[dict[str, Any]]:
    return [{**asdict(each), "summary": str(each.population)} for each in plans]


# --- streams, show, disable, enable -----------------------------------------------------------

StreamKey = Annotated[
    str, typer.Argument(metavar="STREAM", help="The stream's key, as `streams` lists it.")
]


@app.command(epilog="Exit codes: 0 listed, 1 error.")
def streams(
    model: Model = None,
    dags: Dags = None,
    python: Python = "",
    platform: PlatformNames = None,
    more: MoreNames = None,
    as_json: AsJson = False,
) -> None:
    """List the rows of the table: each stream with its status, schedule and times (UTC).

    A model or a factory file says which table that is; DATASURFACE_POSTGRES_HOST, _PORT and
    _DATABASE point elsewhere, for example to a forwarded port. The status is `active` or
    `disabled`, which an operator sets and a merge keeps.

    Example: yellow-dynamic streams --dags /opt/airflow/dags
    """
    with errors_in_words():
        found = find_installations(model, dags, [*(platform or []), *(more or [])], python)
        tables = [(each, read_rows(each)) for each in found]
    if as_json:
        print_json(
            {
                "platforms": [
                    {
                        "platform": each.name,
                        "table": each.table,
                        "streams": [row.as_json() for row in rows],
                    }
                    for each, rows in tables
                ]
            }
        )
    else:
        for each, rows in tables:
            print_streams(each, rows)


@app.command(epilog="Exit codes: 0 shown, 1 error.")
def show(
    stream: StreamKey,
    model: Model = None,
    dags: Dags = None,
    python: Python = "",
    platform: PlatformNames = None,
    as_json: AsJson = False,
) -> None:
    """Show one stream: its row, and its DAG as Airflow will see it.

    The DAG is built by Airflow's own Python (--python) from the factory file in --dags, or from
    the one that the model renders where --dags is not given: its tasks, and the pod that its job
    would run in. Only names of secrets are shown, as the row holds no others.

    Example: yellow-dynamic show Store1 --model model
    """
    with errors_in_words():
        installation, row = find_stream(
            find_installations(model, dags, platform or [], python), stream
        )
        dag, reason = dag_of(installation, row, python)
    if as_json:
        print_json({"platform": installation.name, **row.as_json(), "dag": dag, "no_dag": reason})
    else:
        print_stream(installation, row)
        if dag is None:
            print_line(f"No DAG: {reason}")
        else:
            print_dag(installation.dag_id(stream), dag)


@app.command(epilog="Exit codes: 0 the stream is disabled, 1 error.")
def disable(
    stream: StreamKey,
    model: Model = None,
    dags: Dags = None,
    python: Python = "",
    platform: PlatformNames = None,
    as_json: AsJson = False,
) -> None:
    """Switch one stream off, until `enable`: its DAG leaves Airflow with the next parse.

    The row stays, with the status `disabled`, which merges keep. A run that has begun goes on to
    its end. Needs a login that may UPDATE the table; Airflow's own may only read it.

    Example: yellow-dynamic disable Store1 --dags /opt/airflow/dags
    """
    change_status(stream, DISABLED, (model, dags, platform or [], python), as_json)


@app.command(epilog="Exit codes: 0 the stream is active, 1 error.")
def enable(
    stream: StreamKey,
    model: Model = None,
    dags: Dags = None,
    python: Python = "",
    platform: PlatformNames = None,
    as_json: AsJson = False,
) -> None:
    """Switch one stream on again: its DAG is back in Airflow with the next parse.

    Its runs and the pause switch are as they were. Runs of the time in between are not made up
    for. Needs a login that may UPDATE the table; Airflow's own may only read it.

    Example: yellow-dynamic enable Store1 --dags /opt/airflow/dags
    """
    change_status(stream, ACTIVE, (model, dags, platform or [], python), as_json)


def change_status(
    stream: str,
    status: str,
    place: tuple[Path | None, str | None, list[str], str],
    as_json: bool,
) -> None:
    with errors_in_words():
        installation, row = find_stream(find_installations(*place), stream)
        if row.status != status:
            set_status(installation, stream, status)
    if as_json:
        print_json(
            {
                "platform": installation.name,
                "stream_key": stream,
                "status": status,
                "was": row.status,
            }
        )
    elif row.status == status:
        print_line(f"The stream {stream} of platform {installation.name} is {status} already.")
    else:
        print_line(
            f"The stream {stream} of platform {installation.name} is {status} now; it was "
            f"{row.status}. Airflow follows with its next parse of the factory file."
        )


@app.command(epilog="Exit codes: 0 no drift, 2 a row was edited by hand, 1 error.")
def drift(
    model: Model = None,
    dags: Dags = None,
    python: Python = "",
    platform: PlatformNames = None,
    more: MoreNames = None,
    as_json: AsJson = False,
) -> None:
    """Find rows that were edited by hand since the last merge.

    Point --model at the model of the last merge, for example a checkout of its commit: a row
    keeps no copy of what the merge wrote, so a newer model would show its own changes as drift
    (`plan` shows those). Listed are the keys that differ, rows that were inserted and rows that
    were deleted.

    Marked "certainly" is what no merge writes, whatever the model: a config_json in another
    writing, of another stream or platform; an unknown status; times that cannot be. Without
    --model these are all that is looked for, and an edit that keeps the writing is not seen.

    A status set by `disable` is an operator's own and no drift. The next merge undoes drift.

    Example: yellow-dynamic drift --model checkout-of-the-last-merge
    """
    with errors_in_words():
        found = find_installations(model, dags, [*(platform or []), *(more or [])], python)
        drifts = [(each, find_drift(each, read_rows(each), model_rows(each))) for each in found]
    drifted = any(streams for _, streams in drifts)
    if as_json:
        print_json(
            {
                "drift": drifted,
                "platforms": [
                    {
                        "platform": each.name,
                        "compared_with_model": each.model is not None,
                        "streams": [asdict(stream) for stream in streams],
                    }
                    for each, streams in drifts
                ],
            }
        )
    else:
        for each, streams in drifts:
            print_drift(each, streams)
    if drifted:
        raise typer.Exit(DIFFERENT)


# --- status and check -------------------------------------------------------------------------

AirflowUrl = Annotated[
    str,
    typer.Option(
        envvar="AIRFLOW_API_URL",
        help="Address of Airflow's web server, to ask its REST API (Airflow 2 or 3). The login "
        "comes from AIRFLOW_API_USER and AIRFLOW_API_PASSWORD (asked for where it is not set), or "
        "AIRFLOW_API_TOKEN.",
        show_default=False,
    ),
]


@app.command(epilog="Exit codes: 0 all is well, 2 a stream or its platform is not, 1 error.")
def status(
    model: Model = None,
    dags: Dags = None,
    python: Python = "",
    airflow_url: AirflowUrl = "",
    platform: PlatformNames = None,
    more: MoreNames = None,
    as_json: AsJson = False,
) -> None:
    """Say of each stream whether it arrived: its row, its DAG, and Airflow's view of the DAG.

    --model also compares the rows with the model. --dags loads the factory file with Airflow's
    Python, as a parse would; --airflow-url asks Airflow itself. Give as many as you have.

    healthy: the row, the DAG and Airflow agree, to the revision of the configuration.
    disabled, paused: switched off by a person, in the table or in Airflow.
    served from snapshot: the factory file cannot read the table, and the last good rows serve.
    waiting: Airflow has not parsed the last change yet. not merged: the model is ahead of the row.
    broken: with the reason. missing: it should have a DAG and has none. left over: a DAG without a
    row. static file: an old file of its own still defines the DAG.

    All is well where every stream is healthy, disabled or paused. Nothing is written.

    Example: yellow-dynamic status --model model --airflow-url https://airflow.example.org
    """
    with errors_in_words():
        found = find_installations(model, dags, [*(platform or []), *(more or [])], python)
        with airflow_api(airflow_url) as api:
            asks_python = bool(dags or python or not api)
            statuses = [
                platform_status(sources_of(each, python if asks_python else None, dags, api))
                for each in found
            ]
    well = all(each.well for each in statuses)
    if as_json:
        print_json(
            {"well": well, "platforms": [{**asdict(each), "well": each.well} for each in statuses]}
        )
    else:
        for each in statuses:
            print_status(each)
    if not well:
        raise typer.Exit(DIFFERENT)


@app.command(epilog="Exit codes: 0 all checks pass, 2 one fails, 1 error.")
def check(
    model: Model = None,
    dags: Dags = None,
    python: Python = "",
    airflow_url: AirflowUrl = "",
    namespace: Annotated[
        str,
        typer.Option(
            "--namespace",
            "-n",
            help="Namespace of Airflow's pods, to ask the Kubernetes API (kubeconfig, or the "
            "service account of a pod).",
            show_default=False,
        ),
    ] = "",
    platform: PlatformNames = None,
    more: MoreNames = None,
    as_json: AsJson = False,
) -> None:
    """Run the checklist of a deployment; each line says pass or fail, and what mends it.

    Always: the table is there, its rows are valid against the schema, Airflow's own Python loads
    the factory file, reads the table with Airflow's login, and builds a DAG for each active row.
    With --model: the rows are as the model says. With --dags: the factory file is there once, it
    is what bootstrap would write now, and no static DAG files are left. With --airflow-url:
    Airflow has the DAGs, the factory file is none, and the newest runs did not fail. With
    --namespace: the jobs' secrets have their keys, and Airflow's scheduler and DAG processor have
    the login and the factory file, and read where the merge writes (DATASURFACE_POSTGRES_ variables
    are needed only to lead them elsewhere).

    Before a deployment, run it with --model alone or with the new file; after it, with all you
    have. Nothing is written.

    Example: yellow-dynamic check --model model --dags /opt/airflow/dags --namespace airflow
    """
    with errors_in_words():
        found = find_installations(model, dags, [*(platform or []), *(more or [])], python)
        cluster = Cluster(namespace) if namespace else None
        with airflow_api(airflow_url) as api:
            checked = [
                (each.name, all_checks(Checks(each, model, dags, python, api), cluster))
                for each in found
            ]
    passed = all(result.passed for _, results in checked for result in results)
    if as_json:
        print_json(
            {
                "passed": passed,
                "platforms": [
                    {"platform": name, "checks": [asdict(result) for result in results]}
                    for name, results in checked
                ],
            }
        )
    else:
        for name, results in checked:
            print_checks(name, results)
    if not passed:
        raise typer.Exit(DIFFERENT)


def all_checks(checks: Checks, cluster: Cluster | None) -> list[Check]:
    """Run the checks of a platform, and those of the cluster with what they found."""
    results = list(checks.run())
    if cluster:
        version = (checks.factory or {}).get("airflow", "")
        rows = checks.rows or []
        results += cluster_checks(cluster, checks.installation, rows, checks.dags, version)
    return results


@contextmanager
def airflow_api(url: str) -> Iterator[AirflowApi | None]:
    """Yield a connection to the REST API at this address; None for an empty one."""
    if not url:
        yield None
        return
    user, password, token = (
        os.environ.get(f"AIRFLOW_API_{part}", "") for part in ("USER", "PASSWORD", "TOKEN")
    )
    if user and not password and not token and sys.stdin.isatty():
        password = typer.prompt(f"Password of {user}", hide_input=True, err=True)
    with closing(AirflowApi(url, user, password, token)) as api:
        yield api


# --- verify-parity ----------------------------------------------------------------------------


@app.command(
    epilog="Exit codes: 0 all streams are equal, 2 one differs or is on one side only, 1 error."
)
def verify_parity(
    platform: Annotated[str, typer.Option(help="The platform's name, as in the model.")],
    static: Annotated[str, typer.Option(help="Folder with the static DAG files.")],
    dags: Annotated[
        str,
        typer.Option(
            envvar="YELLOW_DYNAMIC_DAGS", help="Airflow's DAG folder, with the factory file."
        ),
    ],
    python: Python = "",
    as_json: AsJson = False,
) -> None:
    """Compare a platform's static DAG files with the DAGs of its factory file.

    Both are loaded by Airflow, with the login of the configuration table from its environment.
    Compared are the serialized DAGs and the pods that their tasks would send. Nothing is written.

    Example: yellow-dynamic verify-parity --platform YellowLive --static old-dags --dags dags
    """
    name = YellowDynamicDataPlatform.to_k8s_name(platform)
    with errors_in_words(f"Platform {platform!r}: "):
        found = ask_airflow(
            python, "both_sides", static_folder=static, dag_folder=dags, platform=name
        )
    streams = compare(found["static"], found["dynamic"])
    equal = all(stream.result == "equal" for stream in streams) and not found["collide"]
    if as_json:
        print_json(
            {
                "platform": platform,
                "airflow": found["airflow"],
                "equal": equal,
                "streams": [asdict(stream) for stream in streams],
                "static_files_beside_the_factory": found["beside"],
                "static_files_that_collide": found["collide"],
            }
        )
    else:
        print_parity(f"{platform} on Airflow {found['airflow']}", streams)
        print_static_files(found["beside"], found["collide"])
    if not equal:
        raise typer.Exit(DIFFERENT)
