"""What must hold before and after a deployment, checked one by one."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path, PurePath
from typing import Any

from jsonschema import Draft202012Validator
from sqlalchemy.exc import SQLAlchemyError

from yellow_dynamic._airflow_api import AirflowApi
from yellow_dynamic._errors import CommandError
from yellow_dynamic._factory import load_factory, static_files
from yellow_dynamic._installation import FactoryFile, Installation
from yellow_dynamic._plan import plan_merge
from yellow_dynamic._status import WELL, Sources, in_words, platform_status
from yellow_dynamic._streams import ACTIVE, DISABLED, StreamRow, read_rows
from yellow_dynamic.plugin import (
    __version__,
    config_limit,
    config_table,
    factory_text,
    factory_text_of,
)

SHOWN = 5


@dataclass
class Check:
    """One thing that was checked; `mend` is the command that puts it right."""

    name: str
    passed: bool
    detail: str
    mend: str = ""


class Checks:
    """The checks of one platform, in the order of a deployment.

    Args:
        installation: the platform.
        model: folder of the model, or None.
        dags: Airflow's DAG folder, or None.
        python: the command that starts Airflow's Python; empty for this one.
        api: Airflow's REST API, or None.
    """

    def __init__(
        self,
        installation: Installation,
        model: Path | None,
        dags: str | None,
        python: str,
        api: AirflowApi | None,
    ) -> None:
        self.installation = installation
        self.dags = dags
        self.python = python
        self.api = api
        self.factory: dict[str, Any] | None = None
        self.rows: list[StreamRow] | None = None
        self._model = str(model or "MODEL")

    def run(self) -> Iterator[Check]:
        """Yield every check, each with what was found."""
        if self.dags is not None:
            yield from self._file()
        yield from self._table()
        yield from self._airflow_python()
        if self.dags is not None:
            yield self._static_files()
        if self.api is not None:
            yield from self._airflow(self.api)

    # --- the factory file

    def _file(self) -> Iterator[Check]:
        files = self.installation.files
        name = f"{self.installation.airflow_name}_factory_dag.py"
        found = ", ".join(file.file for file in files)
        if len(files) != 1:
            mend = f"rm {' '.join(shlex.quote(file.file) for file in files[1:])}"
            detail = f"{found} define the same DAGs" if files else f"{name} is not in {self.dags}"
            yield Check("factory file is there once", False, detail, mend if files else self._ring0)
            return
        yield Check("factory file is there once", True, found)
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

    def _further_files(self, first: FactoryFile, shards: int) -> Check:
        """Check that the other files of a divided platform lie beside its first one."""
        stem = PurePath(first.file).stem
        wanted = {f"{stem}_{number}.py" for number in range(2, shards + 1)}
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
        current = factory_text(model.platform, model.eco) if model else factory_text_of(wanted)
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
                limit = config_limit(connection, config_table(installation.table))
        except SQLAlchemyError as error:
            yield Check("table is there", False, in_words(error), self._table_remedy(str(error)))
            return
        except CommandError as error:
            user = installation.credential
            login = f"export {user}_USER=... {user}_PASSWORD=..."
            yield Check("table is there", False, str(error), login)
            return
        if limit:
            detail = f"config_json of {installation.table} holds only {limit} characters"
            yield Check("table is there", False, detail, self._ring1)
        else:
            yield Check("table is there", True, where)
        problems = [problem for row in self.rows for problem in row_problems(row, installation)]
        yield Check(
            "rows are valid",
            not problems,
            shortened(problems) or f"{len(self.rows)} rows, against stream_config.schema.json",
            self._merge if problems else "",
        )
        if installation.model is not None:
            yield self._as_the_model_says()

    def _as_the_model_says(self) -> Check:
        assert self.installation.model is not None
        name = "rows are as the model says"
        try:
            plan = plan_merge(self.installation.model)
        except (CommandError, SQLAlchemyError) as error:
            reason = in_words(error) if isinstance(error, SQLAlchemyError) else str(error)
            return Check(name, False, reason, f"yellow-dynamic plan --model {self._model}")
        return Check(
            name, not plan.streams, str(plan.population), self._merge if plan.streams else ""
        )

    # --- what Airflow's Python makes of it

    def _airflow_python(self) -> Iterator[Check]:
        names = ("factory file compiles", "factory file imports", "Airflow's role reads the table")
        try:
            self.factory = factory = load_factory(self.installation, self.python)
        except CommandError as refusal:
            mend = "give --python the command that starts Airflow's Python"
            yield Check(names[0], False, str(refusal), mend)
            return
        version = f"Airflow {factory['airflow']}, Python {factory['python']}"
        compiles, error, snapshot = (factory[key] for key in ("compiles", "error", "snapshot"))
        yield Check(names[0], not compiles, compiles or version, self._ring0 if compiles else "")
        mend = self._table_remedy(error) if error else ""
        yield Check(names[1], not error, error or "without an error", mend)
        unread = snapshot or (error if error and "TableUnreadable" in error else None)
        if unread or not error:
            detail = unread or "with its own login, from its own environment"
            mend = self._table_remedy(unread) if unread else ""
            yield Check(names[2], not unread, detail, mend)
        if not error:
            yield self._dags_load(factory["dags"])

    def _dags_load(self, dags: dict[str, Any]) -> Check:
        bad = [dag["problem"] for dag in dags.values() if dag["problem"]]
        static = {PurePath(file).stem for file in self._static()}
        missing = [
            f"{row.stream_key} has no DAG"
            for row in self.rows or []
            if row.status == ACTIVE
            and self.installation.dag_id(row.stream_key) not in dags.keys() | static
            and not any(f"The stream {row.stream_key!a:.300} of" in problem for problem in bad)
        ]
        detail = shortened(bad + missing) or f"{len(dags)} DAGs, one for each active row"
        return Check(
            "its DAGs load",
            not (bad or missing),
            detail,
            self._merge if bad or missing else "",
        )

    def _static(self) -> list[str]:
        return static_files(self.installation, self.dags, self.python)

    def _static_files(self) -> Check:
        left = self._static()
        return Check(
            "no static DAG files are left",
            not left,
            f"{len(left)} left: {shortened(left)}" if left else f"none in {self.dags}",
            f"rm {' '.join(map(shlex.quote, left))}" if left else "",
        )

    # --- what Airflow has

    def _airflow(self, api: AirflowApi) -> Iterator[Check]:
        view = api.view(self.installation.airflow_name)
        rows = None if self.rows is None else {row.stream_key: row for row in self.rows}
        sources = Sources(self.installation, rows, None, None, [], view, [])
        bad = [
            f"{stream.stream_key} is {stream.state}: {stream.reason}"
            for stream in platform_status(sources).streams
            if stream.state not in WELL
        ]
        yield Check(
            "Airflow has the DAGs",
            not bad,
            shortened(bad) or f"Airflow {view.version} at {api.url}",
            "yellow-dynamic status --airflow-url " + api.url if bad else "",
        )
        own = [
            dag_id
            for dag_id in api.dag_ids(f"{self.installation.airflow_name}_factory")
            if dag_id.startswith(f"{self.installation.airflow_name}_factory")
        ]
        yield Check(
            "the factory file is no DAG itself",
            not own,
            f"Airflow has the DAG {own[0]}, of another factory" if own else "as it should be",
            f"airflow dags delete {own[0]}, after removing its file" if own else "",
        )
        failed = [
            dag.dag_id
            for dag in view.dags.values()
            if not dag.stale and api.newest_state(dag.dag_id) == "failed"
        ]
        yield Check(
            "the newest runs did not fail",
            not failed,
            shortened(failed) or f"of {len(view.dags)} DAGs",
            f"airflow dags trigger {failed[0]}, after reading the log of its run" if failed else "",
        )

    # --- the commands that mend

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
        return (
            f"python -m datasurface.cmd.platform {command} --model {shlex.quote(self._model)} "
            f"--output build --platform {shlex.quote(self.installation.name)}"
        )

    def _table_remedy(self, reason: str) -> str:
        """Return the command that mends the usual reasons why a table cannot be read."""
        host, port, database = self.installation.address
        credential = self.installation.credential
        if "environment variables" in reason:
            return (
                "give Airflow the login: kubectl patch deployment airflow-scheduler -p "
                f"'{login_patch('scheduler', credential, self.installation.settings)}'"
            )
        if "permission denied" in reason:
            return f"GRANT SELECT ON {self.installation.table} TO airflow_reader"
        if re.search("relation .* does not exist", reason):
            return self._ring1
        if "TableUnreadable" in reason or "connection" in reason:
            return f"psql -h {host} -p {port} -d {database} -c 'SELECT 1'"
        return self._ring0


def login_patch(container: str, credential: str, settings: dict[str, Any]) -> str:
    """Return the patch that gives a container the merge store's login from its secret."""
    secret = settings["postgres_credential_secret_name"]
    variables = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}}
        for name in (f"{credential}_USER", f"{credential}_PASSWORD")
    ]
    containers = [{"name": container, "env": variables}]
    return json.dumps({"spec": {"template": {"spec": {"containers": containers}}}})


@cache
def schema_validator() -> Draft202012Validator:
    text = (
        resources.files("yellow_dynamic").joinpath("stream_config.schema.json").read_text("utf-8")
    )
    return Draft202012Validator(json.loads(text))


def row_problems(row: StreamRow, installation: Installation) -> Iterator[str]:
    """Yield what is wrong with a row."""
    for error in schema_validator().iter_errors(row.config):
        yield f"{row.stream_key}: {error.json_path.removeprefix('$.')}: {error.message:.200}"
    if row.config.get("stream_key") != row.stream_key:
        yield f"{row.stream_key}: its configuration is that of another stream"
    if row.config.get("platform_name", installation.airflow_name) != installation.airflow_name:
        yield f"{row.stream_key}: its configuration is that of another platform"
    if row.status not in (ACTIVE, DISABLED):
        yield f"{row.stream_key}: its status is {row.status!r}, neither active nor disabled"


def shortened(texts: list[str]) -> str:
    more = f"; and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return "; ".join(texts[:SHOWN]) + more
