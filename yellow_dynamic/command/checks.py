"""What must hold before and after a deployment, checked one by one."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any

from rich.text import Text
from sqlalchemy.exc import SQLAlchemyError

from yellow_dynamic import __version__, history
from yellow_dynamic.command.merge import plan_merge
from yellow_dynamic.command.pools import PoolDemand, demanded_pools
from yellow_dynamic.command.printing import print_line, printable
from yellow_dynamic.deployment import command_options, is_datasurface_image
from yellow_dynamic.factory.causes import Cause, classify_error
from yellow_dynamic.factory.rules import ACTIVE, DISABLED, factory_file_name
from yellow_dynamic.factory.secrets import get_reader_secret
from yellow_dynamic.factory.version import can_serve
from yellow_dynamic.merge_store import config_table, find_config_column
from yellow_dynamic.monitoring import OperationError, airflow_python
from yellow_dynamic.monitoring.airflow_api import AirflowApi
from yellow_dynamic.monitoring.in_airflow import BuiltDag, FactoryFile, LoadedFactory
from yellow_dynamic.monitoring.installation import Installation
from yellow_dynamic.monitoring.rows import StreamRow, find_row_problems, read_rows
from yellow_dynamic.monitoring.status import Sources, State, platform_status
from yellow_dynamic.monitoring.text import counted, format_error, shortened
from yellow_dynamic.rendering import FROM_PACKAGE, render_factory

#: How changes of rows arrive where no API server watches the tables.
AT_THE_INTERVAL = (
    "Changes of rows arrive with Airflow's next parse, within its min_file_process_interval. "
    "With yellow-dynamic in the image of its API server, Airflow 3.3 and newer has them within "
    "seconds."
)


@dataclass
class Check:
    """One thing that was checked; `fix` is the command that fixes it."""

    name: str
    passed: bool
    detail: str
    fix: str = ""


@dataclass
class CheckReport:
    """The checks of some platforms."""

    platforms: list[tuple[str, list[Check]]]

    @property
    def differs(self) -> bool:
        return not all(check.passed for _, checks in self.platforms for check in checks)

    def as_json(self) -> dict[str, Any]:
        return {
            "passed": not self.differs,
            "platforms": [
                {"platform": name, "checks": [asdict(check) for check in checks]}
                for name, checks in self.platforms
            ],
        }

    def show(self) -> None:
        for name, checks in self.platforms:
            print_line(f"Platform {name}", style="bold")
            for check in checks:
                word, colour = ("pass", "green") if check.passed else ("fail", "red")
                text = printable(f"{check.name}: {check.detail}")
                print_line(Text.assemble((f"  {word}  ", colour), text))
                if check.fix:
                    print_line(f"        fix: {check.fix}", style="yellow")
            failed = sum(not check.passed for check in checks)
            passed = f"{len(checks) - failed} of {len(checks)} checks pass."
            print_line(passed, style="red" if failed else "green")


class Checks:
    """The checks of one platform, in the order of a deployment.

    Args:
        installation: the platform.
        model: folder of the model, or None.
        api: Airflow's REST API, or None.
    """

    def __init__(
        self, installation: Installation, model: Path | None, api: AirflowApi | None
    ) -> None:
        self.installation = installation
        self.api = api
        self.factory: LoadedFactory | None = None
        self.rows: list[StreamRow] | None = None
        self._model = str(model or "MODEL")

    def run(self) -> Iterator[Check]:
        """Yield every check, each with what was found."""
        if self.installation.dags is not None:
            yield from self._file()
        yield from self._table()
        yield self._image()
        # Several files would be said again and again.
        if len(self.installation.files) <= 1:
            yield from self._airflow_python()
        if self.installation.dags is not None:
            yield self._static_files()
        if self.api is not None:
            yield from self._airflow(self.api)

    # --- the factory file

    def _file(self) -> Iterator[Check]:
        files = self.installation.files
        name = "factory file is there once"
        if not files:
            yield Check(name, False, self._why_no_file(), self._ring0)
            return
        if len(files) > 1:
            yield Check(name, False, *self._several_files(files))
            return
        yield Check(name, True, files[0].file)
        difference = self._difference(files[0].text, files[0].settings)
        about = f"of yellow_dynamic {__version__}" + (
            " and of the model" if self.installation.model else "; the model was not given"
        )
        yield Check(
            "factory file is current",
            not difference,
            difference or about,
            self._ring0 if difference else "",
        )
        shards = int(files[0].settings.get("factory_shards", 1))
        if shards > 1 or files[0].further:
            yield self._further_files(files[0], shards)

    def _why_no_file(self) -> str:
        """Return what files of the factory file's name are, or that there is none."""
        installation = self.installation
        name, dags = installation.factory_file, str(installation.dags)
        others = airflow_python.describe_files(dags, name, installation.python)
        return shortened(others) or f"{name} is not in {dags}"

    def _several_files(self, files: list[FactoryFile]) -> tuple[str, str]:
        """Return which files define the same DAGs, and the command that leaves the current one."""
        detail = f"{', '.join(file.file for file in files)} define the same DAGs"
        current = [file for file in files if not self._difference(file.text, file.settings)]
        if len({file.text for file in current}) != 1:
            return detail, f"{self._ring0}, and delete the others"
        name = self.installation.factory_file
        kept = min(current, key=lambda file: (PurePath(file.file).name != name, len(file.file)))
        left = [
            str(PurePath(file.file).with_name(each))
            for file in files
            if file is not kept
            for each in (PurePath(file.file).name, *file.further)
        ]
        return f"{detail}; {kept.file} is current", f"rm {' '.join(map(shlex.quote, left))}"

    def _further_files(self, first: FactoryFile, shards: int) -> Check:
        """Check that the other files of a divided platform lie beside its first one."""
        name = self.installation.airflow_name
        wanted = {f"{factory_file_name(name, number)}.py" for number in range(2, shards + 1)}
        wrong = [f"{name} is missing" for name in sorted(wanted - first.further.keys())]
        wrong += [f"{name} is not wanted any more" for name in first.further.keys() - wanted]
        wrong += [
            f"{name} has another text"
            for name, same in first.further.items()
            if not same and name in wanted
        ]
        return Check(
            "all factory files of the platform are there",
            not wrong,
            shortened(sorted(wrong)) or f"{shards}, with the same text",
            self._ring0 if wrong else "",
        )

    def _difference(self, text: str, settings: dict[str, Any]) -> str:
        """Return in what a factory file is not what bootstrap would write now."""
        model = self.installation.model
        wanted = (
            self.installation.settings if model else {**settings, "plugin_version": __version__}
        )
        current = model.factory_text if model else render_factory(wanted)
        if text == current:
            return ""
        keys = sorted(
            key
            for key in settings.keys() | wanted.keys()
            if settings.get(key) != wanted.get(key) or (key in settings) != (key in wanted)
        )
        if not keys:
            return "its text was edited, or comes from another build of this version"
        return "it has other values for " + ", ".join(
            f"{key} ({settings.get(key)!r}, not {wanted.get(key)!r})" for key in keys
        )

    # --- the table

    def _table(self) -> Iterator[Check]:
        installation = self.installation
        where = "{1} port {2}, database {3}, table {0}".format(
            installation.table, *installation.address
        )
        try:
            self.rows = read_rows(installation)
            with installation.transaction("read") as connection:
                table = config_table(installation.table)
                column = find_config_column(connection, table)
                recorded = history.is_recorded(connection, table)
                missed = history.find_unrecorded(connection, installation.table)
        except SQLAlchemyError as error:
            cause = classify_error(getattr(error, "orig", None))
            yield Check("table is there", False, format_error(error), self._table_remedy(cause))
            return
        except OperationError as error:
            first, second = installation.login_names
            login = f"export {first}=... {second}=..."
            yield Check("table is there", False, str(error), login)
            return
        if column.problem:
            detail = f"config_json of {installation.table} {column.problem}"
            yield Check("table is there", False, detail, self._ring1)
        else:
            yield Check("table is there", True, where)
        yield self._is_on_record(recorded, sorted(missed))
        problems = [
            problem for row in self.rows for problem in find_row_problems(row, installation)
        ]
        yield Check(
            "rows are valid",
            not problems,
            shortened(problems)
            or f"{counted(len(self.rows), 'row')}, by the rules of {__version__}",
            self._row_remedy(self.rows) if problems else "",
        )
        yield self._has_streams(self.rows)
        if installation.model is not None:
            yield self._as_the_model_says()

    def _is_on_record(self, recorded: bool, missed: list[str]) -> Check:
        name, table = "changes are on record", self.installation.table
        if not recorded:
            detail = f"{table} has no history, or a change of it would be missed"
            return Check(name, False, detail, self._ring1)
        if missed:
            detail = (
                f"rows of {table} were changed while its triggers were off: {shortened(missed)}. "
                "Ring 1 records this, and so does the next merge"
            )
            return Check(name, False, detail, self._ring1)
        return Check(name, True, "by the database itself")

    def _has_streams(self, rows: list[StreamRow]) -> Check:
        model = self.installation.model
        if rows or (model is not None and not model.rows):
            return Check("table has streams", True, f"{len(rows)}")
        detail = f"{self.installation.table} has no row, so no stream runs"
        return Check("table has streams", False, detail, self._merge)

    def _row_remedy(self, rows: list[StreamRow]) -> str:
        """Return the command that fixes a row; a merge does not change its status."""
        for row in rows:
            if row.status not in (ACTIVE, DISABLED):
                return f"yellow-dynamic enable {shlex.quote(row.stream_key)}"
        return self._merge

    def _as_the_model_says(self) -> Check:
        assert self.installation.model is not None
        name = "rows are as the model says"
        try:
            plan = plan_merge(self.installation, self.installation.model)
        except (OperationError, SQLAlchemyError) as error:
            return Check(
                name, False, format_error(error), f"yellow-dynamic plan --model {self._model}"
            )
        if plan.problems:
            look = f"yellow-dynamic plan --model {self._model}"
            return Check(name, False, shortened(plan.problems), look)
        return Check(
            name, not plan.streams, str(plan.population), self._merge if plan.streams else ""
        )

    def _image(self) -> Check:
        """Check that no job runs in DataSurface's own image, by its name."""
        configs = (self.installation.settings, *(row.config for row in self.rows or []))
        found = {config.get("datasurface_docker_image") for config in configs}
        images = sorted(image for image in found if isinstance(image, str))
        lacking = [image for image in images if is_datasurface_image(image)]
        name = "jobs have an image with yellow_dynamic"
        if not lacking:
            return Check(name, True, shortened(images))
        fix = (
            "build docker/datasurface.Dockerfile, name the image in the model as "
            "datasurfaceDockerImage, run ring 0, copy its DAG files, apply its Jobs, and merge"
        )
        return Check(
            name, False, f"they start in DataSurface's own image: {shortened(lacking)}", fix
        )

    # --- what Airflow's Python makes of it

    def _airflow_python(self) -> Iterator[Check]:
        names = ("factory file compiles", "factory file imports", "Airflow's role reads the table")
        try:
            self.factory = factory = self.installation.load()
        except OperationError as refusal:
            fix = "give --python the command that starts Airflow's Python"
            yield Check(names[0], False, str(refusal), fix)
            return
        version = f"Airflow {factory.airflow}, Python {factory.python}"
        wrong, error, reading = factory.syntax_error, factory.error, factory.reading
        yield Check(names[0], not wrong, wrong or version, self._ring0 if wrong else "")
        if self.installation.settings.get(FROM_PACKAGE):
            yield self._package(factory.package)
        fix = self._table_remedy(Cause(reading.cause)) if reading.cause else self._ring0
        yield Check(names[1], not error, error or "without an error", fix if error else "")
        if reading.reason or not error:
            detail = reading.reason or "with its own login, from its own environment"
            yield Check(names[2], not reading.reason, detail, fix if reading.reason else "")
        if not error:
            yield self._dags_load(factory.dags)

    def _package(self, installed: str | None) -> Check:
        """Check that Airflow's Python has the package that short DAG files import."""
        wanted = self.installation.settings["plugin_version"]
        serves = installed is not None and can_serve(installed, wanted)
        return Check(
            "Airflow has the package of the DAG files",
            serves,
            f"yellow-dynamic {installed or 'is not installed'}, and the DAG files are of {wanted}",
            ""
            if serves
            else f"install yellow-dynamic {wanted} in Airflow's image, or remove "
            "factoryFromPackage=True from the platform and run ring 0",
        )

    def _dags_load(self, dags: dict[str, BuiltDag]) -> Check:
        bad = [
            f"{dag.facts.stream} is {State.BROKEN}: {dag.facts.problem}"
            for dag in dags.values()
            if dag.facts.problem
        ]
        built = {
            dag.facts.stream or self.installation.stream_key(dag_id) for dag_id, dag in dags.items()
        }
        static = {
            self.installation.stream_key(PurePath(file).stem)
            for file in self.installation.static_files()
        }
        missing = [
            f"{row.stream_key} is {State.MISSING}: it has no DAG"
            for row in self.rows or []
            if not row.is_disabled and row.stream_key not in built | static
        ]
        detail = shortened(bad + missing) or f"{counted(len(dags), 'DAG')}, one for each active row"
        wrong = bool(bad or missing)
        return Check("its DAGs load", not wrong, detail, self._merge if wrong else "")

    def _static_files(self) -> Check:
        left = self.installation.static_files()
        return Check(
            "no static DAG files are left",
            not left,
            f"{len(left)} left: {shortened(left)}" if left else f"none in {self.installation.dags}",
            f"rm {' '.join(map(shlex.quote, left))}" if left else "",
        )

    # --- what Airflow has

    def _airflow(self, api: AirflowApi) -> Iterator[Check]:
        view = api.view(self.installation.airflow_name)
        sources = Sources(self.installation, airflow=view)
        if self.rows is not None:
            sources.rows = {row.stream_key: row for row in self.rows}
        bad = [
            f"{stream.stream_key} is {stream.state}: {stream.reason}"
            for stream in platform_status(sources).streams
            # How its runs end is a check of its own, and when they did none.
            if not (stream.state.is_well or stream.state in (State.FAILING, State.LATE))
        ]
        yield Check(
            "Airflow has the DAGs",
            not bad,
            shortened(bad) or f"Airflow {view.version} at {api.url}",
            "yellow-dynamic status --airflow-url " + api.url if bad else "",
        )
        name = self.installation.airflow_name
        factories = (f"{name}_factory", f"{name}_datatransformer_factory")
        own = [dag_id for dag_id in api.dag_ids(f"{name}_") if dag_id.startswith(factories)]
        yield Check(
            "the factory file is no DAG itself",
            not own,
            f"Airflow has the DAG {own[0]}, of another factory" if own else "as it should be",
            f"airflow dags delete {own[0]}, after removing its file" if own else "",
        )
        if wanted := demanded_pools(self.rows or []):
            yield self._pools(wanted, api)
        yield from self._triggerer(api)
        yield Check("how changes arrive", True, api.arrival_of_changes() or AT_THE_INTERVAL, "")
        failed = {
            dag.dag_id: f"{self.installation.stream_key(dag.dag_id)} is {State.FAILING}: "
            f"{dag.failure}"
            for dag in view.dags.values()
            if dag.failure
        }
        yield Check(
            "the newest runs did not fail",
            not failed,
            shortened([*failed.values()]) or f"of {counted(len(view.dags), 'DAG')}",
            f"airflow dags trigger {next(iter(failed))}, after reading the log of its run"
            if failed
            else "",
        )

    def _pools(self, wanted: list[PoolDemand], api: AirflowApi) -> Check:
        there = api.pools()
        problems = {
            each.name: problem for each in wanted if (problem := each.problem(there.get(each.name)))
        }
        texts = [f"{name}: {problem}" for name, problem in problems.items()]
        detail = shortened(texts) or f"{', '.join(each.name for each in wanted)}"
        fix = ""
        if any(name not in there for name in problems):
            fix = f"yellow-dynamic pools --airflow-url {api.url} --slots 4"
        elif problems:
            name = next(iter(problems))
            slots = next(each.most_slots for each in wanted if each.name == name)
            slots = max(slots, there[name].slots)
            fix = f"airflow pools set {shlex.quote(name)} {slots} 'jobs' --include-deferred"
        return Check("Airflow has the pools", not problems, detail, fix)

    def _triggerer(self, api: AirflowApi) -> Iterator[Check]:
        deferrable = [
            row.stream_key
            for row in self.rows or []
            if not row.is_disabled and row.config.get("deferrable") is True
        ]
        if not deferrable:
            return
        runs, count = api.is_triggerer_alive(), counted(len(deferrable), "stream")
        yield Check(
            "Airflow's triggerer runs",
            runs,
            f"it waits for the jobs of {count}"
            if runs
            else f"no triggerer is alive, so no run of {count} ends: {shortened(deferrable)}",
            "" if runs else "airflow triggerer, as a service beside the scheduler",
        )

    # --- the commands that fix a failure

    @property
    def _ring0(self) -> str:
        return f"{self._datasurface('generatePlatformBootstrap --ringLevel 0')}, and copy the file"

    @property
    def _ring1(self) -> str:
        return self._datasurface("generatePlatformBootstrap --ringLevel 1")

    @property
    def _merge(self) -> str:
        return self._datasurface("handleModelMerge")

    def _datasurface(self, command: str) -> str:
        options = shlex.join(command_options(self.installation.settings))
        return (
            f"python -m datasurface.cmd.platform {command} --model {shlex.quote(self._model)} "
            f"--output build {options}"
        )

    def _table_remedy(self, cause: Cause) -> str:
        """Return the command that fixes what keeps the table from being read."""
        installation = self.installation
        host, port, database = installation.address
        psql = f"psql -h {host} -p {port} -d {database} -c"
        login = (
            f"give Airflow the login of secret {get_reader_secret(installation.settings)}: "
            "kubectl patch deployment airflow-scheduler -p "
            f"'{login_patch('scheduler', installation)}'"
        )
        remedies = {
            Cause.NO_LOGIN: login,
            Cause.NO_CONNECT: f'GRANT CONNECT ON DATABASE "{database}" TO airflow_reader',
            Cause.NO_PERMISSION: f"GRANT SELECT ON {installation.table} TO airflow_reader",
            Cause.NO_TABLE: self._ring1,
            Cause.EMPTY: self._merge,
            **dict.fromkeys(
                (Cause.COLUMN, Cause.ROW_SECURITY), rf"{psql} '\d {installation.table}'"
            ),
        }
        return remedies.get(cause, f"{psql} 'SELECT 1'")


def login_patch(container: str, installation: Installation) -> str:
    """Return the patch that gives a container the login by which Airflow reads the table."""
    secret = get_reader_secret(installation.settings)
    variables = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}}
        for name in installation.login_names
    ]
    containers = [{"name": container, "env": variables}]
    return json.dumps({"spec": {"template": {"spec": {"containers": containers}}}})
