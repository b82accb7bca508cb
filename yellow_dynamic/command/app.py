"""The operator's command, `yellow-dynamic`: its options, output and exit codes."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar, cast, get_type_hints

import typer
from sqlalchemy.exc import SQLAlchemyError
from typer.core import TyperGroup

from yellow_dynamic import __version__
from yellow_dynamic.command.batches import BatchesReport
from yellow_dynamic.command.checks import CheckReport, Checks
from yellow_dynamic.command.history import (
    PruneReport,
    build_history_report,
    build_revision_report,
    prune_history,
    read_history,
    read_revision,
    roll_back,
)
from yellow_dynamic.command.installations import find_installations
from yellow_dynamic.command.merge import (
    DriftReport,
    Plan,
    PlanReport,
    find_drift,
    plan_merge,
    write_plan,
)
from yellow_dynamic.command.moments import moment
from yellow_dynamic.command.parity import Parity, ParityReport, compare
from yellow_dynamic.command.pools import PlatformPools, PoolsReport, look_at_pools
from yellow_dynamic.command.printing import own_output, print_json, printable
from yellow_dynamic.command.selection import find_stream, require_some
from yellow_dynamic.command.status import StatusReport
from yellow_dynamic.command.streams import StreamsReport, build_stream_report
from yellow_dynamic.command.switch import Switch, switch_streams
from yellow_dynamic.command.trigger import trigger_streams
from yellow_dynamic.factory.rules import ACTIVE, DISABLED
from yellow_dynamic.merge_store import leave_time_zone_to_server
from yellow_dynamic.monitoring import OperationError, airflow_python
from yellow_dynamic.monitoring.airflow_api import AirflowApi
from yellow_dynamic.monitoring.batches import PlatformBatches, find_batches
from yellow_dynamic.monitoring.installation import Installation
from yellow_dynamic.monitoring.rows import read_rows
from yellow_dynamic.monitoring.selection import Selection
from yellow_dynamic.monitoring.status import (
    PlatformStatus,
    State,
    StreamFilter,
    platform_status,
    read_sources,
)
from yellow_dynamic.monitoring.text import format_error

EXIT_FAILED = 1
DIFFERENT = 2

EXIT_CODES = """
Exit codes of all commands: 0 all is well, or nothing differs; 2 something differs or is not well;
1 the command could not do what it was asked, or was typed wrongly.
"""

Result = TypeVar("Result")
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
        error.exit_code = EXIT_FAILED  # type: ignore[attr-defined]
        raise


app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False)


# --- Options that several commands have -------------------------------------------------------

Python = Annotated[
    str,
    typer.Option(
        envvar="YELLOW_DYNAMIC_PYTHON",
        help="Command that starts Airflow's Python, for example "
        "'kubectl exec -i deploy/airflow-scheduler -- python'. Without it, this Python.",
    ),
]
Names = Annotated[
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
Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="STREAM",
        help="Only these streams: their keys, or patterns such as 'Erp_*'. The name of a platform "
        "is one for --platform.",
        show_default=False,
    ),
]
Patterns = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="STREAM", help="Keys of streams, or patterns such as 'Erp_*'.", show_default=False
    ),
]
StreamKey = Annotated[
    str, typer.Argument(metavar="STREAM", help="The stream's key, as `streams` lists it.")
]
Revision = Annotated[
    int, typer.Argument(metavar="REVISION", min=1, help="A revision, as `history` lists it.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needed in scripts.")]
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


@dataclass
class Output:
    """How a command results."""

    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False


@dataclass
class Platforms(Output):
    """Which platforms a command is about, and where they are described."""

    model: Annotated[
        Path | None,
        typer.Option(envvar="YELLOW_DYNAMIC_MODEL", help="Folder of the model, with eco.py."),
    ] = None
    dags: Annotated[
        str | None,
        typer.Option(
            envvar="YELLOW_DYNAMIC_DAGS",
            help="Airflow's DAG folder, or the factory file in it, on the machine where --python "
            "runs.",
        ),
    ] = None
    python: Python = ""
    platform: Names = None

    def find(self, more: list[str] | None = None) -> list[Installation]:
        """Return the platforms; see `find_installations`."""
        names = [*(self.platform or []), *(more or [])]
        return find_installations(names, model=self.model, dags=self.dags, python=self.python)


Store = Annotated[str, typer.Option(help="Streams of this store, or of those like 'Erp_*'.")]
SourceCredential = Annotated[
    str, typer.Option(help="Streams whose source is read with this credential.")
]


@dataclass
class Chosen(Platforms):
    """Which streams of the platforms a command is about: those for which all given holds."""

    store: Store = ""
    source_credential: SourceCredential = ""

    def find_streams(self, words: list[str] | None) -> tuple[list[Installation], Selection | None]:
        """Return the platforms, and which of their streams are meant; None is for all.

        Args:
            words: names of platforms, or else keys of streams and patterns of them.
        """
        found = find_installations(
            self.platform or [],
            perhaps=words or [],
            model=self.model,
            dags=self.dags,
            python=self.python,
        )
        return found, build_selection(found, words, self.store, self.source_credential)


def build_selection(
    found: list[Installation], words: list[str] | None, store: str, source_credential: str
) -> Selection | None:
    """Return which streams are meant, or None for all; see `Chosen.find_streams`."""
    names = {each.name for each in found}
    patterns = tuple(word for word in words or () if word not in names)
    if not (patterns or store or source_credential):
        return None
    return Selection(patterns, store or None, source_credential or None)


@dataclass
class Streams(Chosen):
    """Which streams of the platforms a command acts on, and whether it asks."""

    everything: Annotated[bool, typer.Option("--all", help="Every stream.")] = False
    yes: Yes = False

    def selected(self, patterns: list[str] | None) -> Selection:
        return Selection(
            tuple(patterns or ()), self.store or None, self.source_credential or None,
            self.everything,
        )  # fmt: skip

    def confirm(self, question: str) -> None:
        """Ask whether to act on more than one stream."""
        confirm(question, self.yes)

    def switch(self, patterns: list[str] | None, switch: Switch) -> Report:
        """Write a status; more than one stream is asked about first."""
        return switch_streams(self.find(), self.selected(patterns), switch, self.confirm)


def confirm(question: str, yes: bool) -> None:
    """Ask whether to go on.

    Raises:
        OperationError: the answer is no, or there is nobody to ask.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise OperationError(f"{question} There is nobody to ask here; give --yes for yes.")
    if not typer.confirm(question, err=True):
        raise OperationError("Nothing was changed.")


# --- How a command is made of a function ------------------------------------------------------


class Report(Protocol):
    """What a command results."""

    @property
    def differs(self) -> bool:
        """Whether something differs or is not well."""

    def as_json(self) -> dict[str, Any]:
        """Return it for JSON."""

    def show(self) -> None:
        """Print it as text."""


def command(epilog: str) -> Callable[[Callable[..., Report]], Callable[..., Report]]:
    """Make a command of a function that takes options first and returns a report.

    The fields of the options become options of the command, after the function's own.
    """

    def register(function: Callable[..., Report]) -> Callable[..., Report]:
        first, *own = inspect.signature(function, eval_str=True).parameters.values()
        options = first.annotation

        def run(**values: Any) -> None:
            chosen = options(**{field.name: values.pop(field.name) for field in fields(options)})
            leave_time_zone_to_server()
            with own_output():
                with report_errors():
                    report = function(chosen, **values)
                print_report(report, as_json=chosen.as_json)

        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            sorted(
                [*own, *option_parameters(options)], key=lambda each: each.default is not each.empty
            )
        )
        name = function.__name__.replace("_", "-")
        app.command(name, help=unwrapped(function.__doc__), epilog=epilog)(run)
        return function

    return register


def unwrapped(text: str | None) -> str:
    """Return a text with a line a paragraph, which the terminal breaks where it must."""
    paragraphs = inspect.cleandoc(text or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def option_parameters(options: type[Output]) -> list[inspect.Parameter]:
    hints = get_type_hints(options, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=field.default,
            annotation=hints[field.name],
        )
        for field in fields(options)
    ]


def print_report(report: Report, *, as_json: bool) -> None:
    """Print a report, and exit with the code for what it found."""
    failures = list_failures(report)
    if as_json:
        print_json(report.as_json())
    else:
        report.show()
    for failure in failures:
        print_error(failure)
    if failures:
        raise typer.Exit(EXIT_FAILED)
    if report.differs:
        raise typer.Exit(DIFFERENT)


def list_failures(report: Report) -> list[str]:
    """Return the errors of a report."""
    if isinstance(report, PartialReport):
        return [*report.failures, *list_failures(report.report)]
    return report.failures if isinstance(report, PlanReport) else []


@dataclass
class PartialReport:
    """A report on the platforms that can be read, and the errors of the others."""

    report: Report
    failures: list[str]

    @property
    def differs(self) -> bool:
        return self.report.differs

    def as_json(self) -> dict[str, Any]:
        return {**self.report.as_json(), "errors": self.failures}

    def show(self) -> None:
        self.report.show()


def build_report(
    found: list[Installation],
    run: Callable[[Installation], Result],
    build: Callable[[list[Result]], Report],
) -> Report:
    """Return a report on all platforms; one that fails does not fail the others.

    Raises:
        OperationError: all of them fail, or there is nothing to report on.
    """
    results, failures = [], []
    for each in found:
        try:
            results.append(run(each))
        except (OperationError, SQLAlchemyError) as error:
            failures.append(format_error(error))
    if failures and not results:
        raise OperationError(" ".join(failures))
    try:
        report = build(results)
    except OperationError as error:
        raise OperationError(" ".join([str(error), *failures])) from None
    return PartialReport(report, failures) if failures else report


def print_error(text: str) -> None:
    typer.echo(printable(text), err=True)


@contextmanager
def report_errors() -> Iterator[None]:
    """Print the error of a command on standard error, and exit with 1."""
    try:
        yield
    except (OperationError, SQLAlchemyError) as error:
        print_error(format_error(error))
        raise typer.Exit(EXIT_FAILED) from None


# --- The commands -----------------------------------------------------------------------------


HELP = """
Look after the DAGs that yellow_dynamic builds from a database table.

Most commands find a platform through --model (the folder with eco.py), --dags (the folder with
Airflow's factory file, where no model is at hand), or both. The login of the table comes from the
environment variables {credential}_USER and {credential}_PASSWORD, as everywhere.

Before a merge: plan. After it: status. Around a deployment: check. To switch a stream off: streams,
then disable. What was changed: history; the way back: rollback. Each command's --help has an
example.
"""


def print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"yellow-dynamic {__version__}")
        raise typer.Exit


@app.callback(help=unwrapped(HELP), epilog=unwrapped(EXIT_CODES))
def yellow_dynamic(
    version: Annotated[
        bool,
        typer.Option("--version", callback=print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Take the options that stand before a command."""


@command("Exit codes: 0 no change, 2 changes, 1 error.")
def plan(
    options: Output,  # noqa: ARG001
    model: Annotated[
        Path, typer.Option(envvar="YELLOW_DYNAMIC_MODEL", help="Folder of the model, with eco.py.")
    ],
    full: Annotated[
        bool, typer.Option("--full", help="List every stream, those with equal changes too.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Keep the plan in this file; a merge with YELLOW_DYNAMIC_PLAN=FILE carries out "
            "exactly this plan, or refuses."
        ),
    ] = None,
    since: Annotated[
        int | None,
        typer.Option(
            "--from", min=1, help="Compare with the rows of this revision instead of today's."
        ),
    ] = None,
    platform: Names = None,
    store: Store = "",
    source_credential: SourceCredential = "",
    stream: Words = None,
) -> Report:
    """Show what handleModelMerge would change, stream by stream and key by key.

    It is worked out by the merge's own code on the same model and the same table, with the login
    that the merge uses, and nothing is written. A merge logs the same summary. Whatever the merge
    would refuse is an error here too.

    Example: yellow-dynamic plan --model model --platform YellowLive --out reviewed.json
    """
    found = find_installations(platform or [], perhaps=stream or [], model=model)
    selection = build_selection(found, stream, store, source_credential)
    if out and (since or selection):
        what = "--from an earlier revision" if since else "of some streams"
        raise OperationError(f"A plan {what} is none that a merge can carry out.")

    def plan_platform(each: Installation) -> Plan:
        assert each.model is not None
        return plan_merge(each, each.model, since, selection)

    def build(plans: list[Plan]) -> PlanReport:
        count = sum(each.selected for each in plans)
        require_some(selection, count, [each.platform for each in plans])
        return PlanReport(plans, full)

    report = build_report(found, plan_platform, build)
    if out and isinstance(report, PlanReport):
        write_plan(report, out)
    return report


@command("Exit codes: 0 listed, 1 error.")
def streams(options: Platforms, more: MoreNames = None) -> Report:
    """List the rows of the table: each stream with its status, schedule and times (UTC).

    A model or a factory file says which table that is; DATASURFACE_POSTGRES_HOST, _PORT and
    _DATABASE point elsewhere, for example to a forwarded port. The status is `active` or
    `disabled`, which an operator sets and a merge keeps.

    Example: yellow-dynamic streams --dags /opt/airflow/dags
    """
    return build_report(options.find(more), lambda each: (each, read_rows(each)), StreamsReport)


@command("Exit codes: 0 shown, 1 error.")
def show(options: Platforms, stream: StreamKey) -> Report:
    """Show one stream: its row, and its DAG as Airflow will see it.

    The DAG is built by Airflow's own Python (--python) from the factory file in --dags, or from
    the one that the model renders where --dags is not given: its tasks, and the pod that its job
    would run in. Only names of secrets are shown, as the row holds no others.

    Example: yellow-dynamic show Store1 --model model
    """
    installation, row, failures = find_stream(options.find(), stream)
    report = build_stream_report(installation, row)
    return PartialReport(report, failures) if failures else report


@command("Exit codes: 0 the streams are disabled, 1 error.")
def disable(
    options: Streams,
    stream: Patterns = None,
    reason: Annotated[
        str, typer.Option(help="Why; `streams`, `status` and `history` show it.")
    ] = "",
    until: Annotated[
        str,
        typer.Option(help="Until when: a time (UTC), or how long, such as 90m, 12h or 7d."),
    ] = "",
) -> Report:
    """Switch streams off, until `enable`: their DAGs leave Airflow with the next parse.

    The rows stay, with the status `disabled`, which merges keep, also where one drops the stream
    and a later one brings it back. A run that has begun goes on to its end. With --until, Airflow
    takes the stream as active from that time on by itself. Streams that wait for it do not start
    either; they are listed. More than one stream is asked about first. Needs a login that may
    UPDATE the table; Airflow's own may only read it.

    Example: yellow-dynamic disable 'Erp_*' --reason "source is down" --until 12h --model model
    """
    ends = moment(until, ahead=True) if until else None
    return options.switch(stream, Switch(DISABLED, reason or None, ends))


@command("Exit codes: 0 the streams are active, 1 error.")
def enable(options: Streams, stream: Patterns = None) -> Report:
    """Switch streams on again: their DAGs are back in Airflow with the next parse.

    Their runs and the pause switch are as they were. Runs of the time in between are not made up
    for. More than one stream is asked about first. Needs a login that may UPDATE the table;
    Airflow's own may only read it.

    Example: yellow-dynamic enable Store1 --dags /opt/airflow/dags
    """
    return options.switch(stream, Switch(ACTIVE))


@command("Exit codes: 0 all runs are started, 2 one is not, 1 error.")
def trigger(options: Streams, airflow_url: AirflowUrl = "", stream: Patterns = None) -> Report:
    """Start a run of streams now, through Airflow, and list what started and what did not.

    A run that is under way goes on, and the new one waits for its end. A stream that is disabled,
    paused in Airflow or without a DAG is not started. More than one stream is asked about first.

    Example: yellow-dynamic trigger 'Erp_*' --model model --airflow-url https://airflow.example.org
    """
    with needed_api(airflow_url) as api:
        return trigger_streams(options.find(), options.selected(stream), api, options.confirm)


@command("Exit codes: 0 all pools are there, 2 one is missing or does not do, 1 error.")
def pools(
    options: Platforms,
    airflow_url: AirflowUrl = "",
    slots: Annotated[
        int | None,
        typer.Option(min=1, help="Make the pools that are missing, with so many slots each."),
    ] = None,
    more: MoreNames = None,
) -> Report:
    """List the pools that RunSettings of the model name, and what Airflow has of them.

    A job in a pool that Airflow has not never runs. --slots makes those that are missing; they
    count the jobs that the triggerer waits for, too. A pool that is there stays as it is.

    Example: yellow-dynamic pools --model model --airflow-url https://airflow.example.org --slots 4
    """
    with needed_api(airflow_url) as api:

        def look(each: Installation) -> PlatformPools:
            return look_at_pools(each, api, slots)

        return build_report(options.find(more), look, PoolsReport)


@command("Exit codes: 0 listed, 1 error.")
def history(
    options: Platforms,
    about: Annotated[
        str,
        typer.Argument(
            metavar="[STREAM|REVISION]",
            help="A stream's key or a pattern of keys; or a number, which is a revision.",
            show_default=False,
        ),
    ] = "",
    since: Annotated[
        str, typer.Option(help="None before: a time (UTC), or how long ago, such as 12h or 7d.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
    prunes: Annotated[
        bool, typer.Option("--prune", help="Remove the changes before --older-than.")
    ] = False,
    older_than: Annotated[
        str, typer.Option(help="With --prune: a time (UTC), or how long ago, such as 400d.")
    ] = "",
    yes: Yes = False,
) -> Report:
    """List who changed which stream and when, newest first; times are UTC.

    The database writes it, so an edit by psql is on record like a merge. All changes of one
    transaction are one revision. With the number of a revision: what it changed, key by key.

    --prune removes what is old, and nothing else ever does; the revisions before cannot be rolled
    back to then. It needs the login of the table's owner.

    Example: yellow-dynamic history Store1 --since 7d --model model
    """
    found = options.find()
    if prunes or older_than:
        if not (prunes and older_than) or about or since:
            raise OperationError("Give --prune and --older-than together, and nothing else.")
        before = moment(older_than)
        names = ", ".join(each.name for each in found)
        confirm(f"Remove the changes of {names} before {before} UTC?", yes)
        return build_report(
            found, lambda each: prune_history(each, before), lambda it: PruneReport(it, before)
        )
    if about.isdecimal():
        number = int(about)
        return build_report(
            found,
            lambda each: read_revision(each, number),
            lambda results: build_revision_report(results, number),
        )
    start = moment(since) if since else None
    return build_report(
        found,
        lambda each: read_history(each, about or None, start, limit),
        lambda results: build_history_report(results, about or None, start, limit),
    )


@command("Exit codes: 0 the rows are those of the revision, 1 error.")
def rollback(
    options: Platforms,
    revision: Revision,
    stream: Annotated[str, typer.Option(help="Only this stream, by its key.")] = "",
    yes: Yes = False,
) -> Report:
    """Make the rows those of an earlier revision again, as a new revision.

    Shows what that changes, and asks. What an operator disabled stays disabled. The next merge of
    an unchanged model undoes it; what to revert in the model is said at the end. Needs the login
    that merges use.

    Example: yellow-dynamic rollback 12 --platform YellowLive --model model
    """
    found = options.find()
    if len(found) > 1:
        names = ", ".join(each.name for each in found)
        raise OperationError(f"Each platform has revisions of its own; give one of {names}.")

    def agree(plan: PlanReport) -> None:
        if not (yes and options.as_json):
            plan.show()
        confirm(f"Go back to revision {revision}?", yes)

    return roll_back(found[0], revision, stream or None, agree)


@command("Exit codes: 0 no drift, 2 a row was edited by hand, 1 error.")
def drift(options: Platforms, more: MoreNames = None) -> Report:
    """Find rows that were edited by hand since a merge or a rollback wrote them.

    Listed are the streams whose configuration differs, in which keys, and who edited them and
    when, as the table's history has it. With --model, what the model says by now is no drift.

    A status set by hand or by `disable` is an operator's own and no drift. The next merge undoes
    what was changed in a configuration.

    Example: yellow-dynamic drift --model model
    """
    return build_report(options.find(more), lambda each: (each, find_drift(each)), DriftReport)


@command("Exit codes: 0 all is well, 2 a stream or its platform is not, 1 error.")
def status(
    options: Chosen,
    airflow_url: AirflowUrl = "",
    late: Annotated[bool, typer.Option("--late", help="Only streams that are late.")] = False,
    failing: Annotated[
        bool, typer.Option("--failing", help="Only those that are failing.")
    ] = False,
    broken: Annotated[bool, typer.Option("--broken", help="Only those that are broken.")] = False,
    late_after: Annotated[
        str,
        typer.Option(
            help="Call a stream late after so long without a good batch, such as 90m, 12h or 7d, "
            "whatever its schedule."
        ),
    ] = "",
    stream: Words = None,
) -> Report:
    """Say of each stream whether it delivers: its row, its DAG, Airflow's view, its last batches.

    --model also compares the rows with the model. --dags loads the factory file with Airflow's
    Python, as a parse would; --airflow-url asks Airflow itself. Give as many as you have.

    healthy: the row, the DAG and Airflow agree, to the revision of the configuration, and the data
    comes.
    failing: its last run in Airflow, or its last batch, failed, or Airflow paused it for that.
    late: no good batch, or no good run of a transformer, for longer than three times its schedule.
    disabled, paused: switched off, in the table or in Airflow, which may pause new DAGs.
    ending: disabled or removed, and its DAG stays until its last run has ended.
    served from snapshot: the factory file cannot read the table, and the last good rows serve.
    waiting: Airflow has not parsed the last change yet, a task of its run can never start or end,
    or it waits for a stream that is off. not merged: the model is ahead of the row.
    broken: with the reason. missing: it should have a DAG and has none. left over: a DAG without a
    row. static file: an old file of its own still defines the DAG.

    All is well where every stream is healthy, disabled, paused or ending. Nothing is written.

    Example: yellow-dynamic status --model model --airflow-url https://airflow.example.org
    """
    flags = {State.LATE: late, State.FAILING: failing, State.BROKEN: broken}
    found, selection = options.find_streams(stream)
    wanted = StreamFilter([state for state, flag in flags.items() if flag], selection)
    since = moment(late_after) if late_after else None
    with airflow_api(airflow_url) as api:
        load = bool(options.dags or options.python or not api)

        def read_status(each: Installation) -> PlatformStatus:
            sources = read_sources(each, load=load, api=api, late_after=since)
            return platform_status(sources, wanted)

        def report(results: list[PlatformStatus]) -> StatusReport:
            count = sum(each.selected + len(each.problems) for each in results)
            require_some(selection, count, [each.platform for each in results])
            return StatusReport(results)

        return build_report(found, read_status, report)


@command("Exit codes: 0 listed, 1 error.")
def batches(
    options: Chosen,
    stream: Words = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
) -> Report:
    """List the batches that the jobs brought, newest first: when, how long, how many rows.

    They are what DataSurface's jobs write down in the merge store; times are UTC. Of a batch that
    is not committed yet, rows and end are not known.

    Example: yellow-dynamic batches Store1 --model model
    """
    found, selection = options.find_streams(stream)

    def report(results: list[PlatformBatches]) -> BatchesReport:
        count = sum(each.streams for each in results)
        require_some(selection, count, [each.installation.name for each in results])
        return BatchesReport(results, limit)

    return build_report(
        found,
        lambda each: find_batches(each, selection, limit),
        report,
    )


@command("Exit codes: 0 all checks pass, 2 one fails, 1 error.")
def check(
    options: Platforms,
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
    more: MoreNames = None,
) -> Report:
    """Run the checklist of a deployment; each line says pass, or fail and what fixes it.

    Always: the table is there, its rows are valid by the rules of this release, Airflow's own
    Python loads the factory file, reads the table with Airflow's login, and builds a DAG for each
    active row. With --model: the rows are as the model says. With --dags: the factory file is
    there once, it is what bootstrap would write now, and no static DAG files are left. With
    --airflow-url: Airflow has the DAGs and the pools, the factory file is none, and the newest runs
    did not fail.
    With --namespace: the jobs' secrets have their keys, and Airflow's scheduler and DAG processor
    have the login and the factory file, and read where the merge writes (DATASURFACE_POSTGRES_
    variables are needed only to lead them elsewhere).

    Before a deployment, run it with --model alone or with the new file; after it, with all you
    have. Nothing is written.

    Example: yellow-dynamic check --model model --dags /opt/airflow/dags --namespace airflow
    """
    # The client of Kubernetes takes half a second to import, and no other command needs it.
    from yellow_dynamic.command.cluster import Cluster, cluster_checks

    found = options.find(more)
    cluster = Cluster(namespace) if namespace else None
    checked = []
    with airflow_api(airflow_url) as api:
        for each in found:
            checks = Checks(each, options.model, api)
            results = list(checks.run())
            if cluster:
                version = checks.factory.airflow if checks.factory else ""
                results += cluster_checks(cluster, each, checks.rows or [], version)
            checked.append((each.name, results))
    return CheckReport(checked)


@contextmanager
def needed_api(url: str) -> Iterator[AirflowApi]:
    """Yield a connection to the REST API at this address.

    Raises:
        OperationError: there is no address.
    """
    with airflow_api(url) as api:
        if api is None:
            raise OperationError("Give --airflow-url, or set AIRFLOW_API_URL: Airflow does this.")
        yield api


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


@command("Exit codes: 0 all streams are equal, 2 one differs or is on one side only, 1 error.")
def verify_parity(
    options: Output,  # noqa: ARG001
    static: Annotated[str, typer.Option(help="Folder with the static DAG files.")],
    dags: Annotated[
        str,
        typer.Option(
            envvar="YELLOW_DYNAMIC_DAGS", help="Airflow's DAG folder, with the factory file."
        ),
    ],
    python: Python = "",
    platform: Names = None,
    more: MoreNames = None,
) -> Report:
    """Compare static DAG files with the DAGs of the factory file of their platform.

    Both are loaded by Airflow, with the login of the configuration table from its environment.
    Compared are the serialized DAGs and the pods that their tasks would send. Nothing is written.

    Example: yellow-dynamic verify-parity --platform YellowLive --static old-dags --dags dags
    """
    names = [*(platform or []), *(more or [])]

    def compare_platform(each: Installation) -> Parity:
        try:
            sides = airflow_python.both_sides(static, dags, each.airflow_name, python)
        except OperationError as error:
            raise OperationError(f"Platform {each.name!r}: {error}") from None
        return Parity(each.name, sides, compare(sides.static, sides.dynamic))

    return build_report(
        find_installations(names, dags=dags, python=python), compare_platform, ParityReport
    )
