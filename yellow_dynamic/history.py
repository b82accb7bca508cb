"""The history of a platform's table: each change of a row, recorded by the database itself.

Triggers of the configuration table write it in the transaction of the change, so an edit in psql
is recorded like a merge. All changes of one transaction are one revision, numbered from 1.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import re
import subprocess
import textwrap
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from importlib import resources
from pathlib import Path, PurePath
from typing import Annotated, Any, get_args, get_type_hints

import sqlalchemy
from sqlalchemy import TIMESTAMP, BigInteger, Column, Index, MetaData, String, Table, Text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from yellow_dynamic import __version__
from yellow_dynamic.factory.causes import Cause, classify_error, get_primary_message
from yellow_dynamic.factory.database import encodable
from yellow_dynamic.factory.logs import one_line
from yellow_dynamic.factory.rules import HISTORY, MERGE, ROLLBACK, TIME_AS_TEXT, derive_name
from yellow_dynamic.merge_store import (
    GUARD,
    RECORD,
    STREAM_KEY_CHARACTERS,
    SWITCH,
    config_table,
    execute_locking,
    find_foreign_functions,
    quoted_name,
)

log = logging.getLogger(__name__)

#: The setting in which a transaction describes its command; the triggers store it.
AUDIT_SETTING = "yellow_dynamic.about"
#: Writes the rows of a table without a history, as MERGE and ROLLBACK write those that are wanted;
#: any other change of a row is an edit by hand.
BOOTSTRAP = "bootstrap"
#: Stands for the command of a change that no trigger recorded.
UNRECORDED = "unrecorded"


def read_statements(file: str) -> dict[str, str]:
    """Return the statements of a file of the package by their names, without its comments."""
    text = resources.files("yellow_dynamic").joinpath("sql", file).read_text(encoding="utf-8")
    names = re.split(r"^-- (\w+) --$", text, flags=re.MULTILINE)[1:]
    return {
        name: re.sub(r"^--.*$", "", statement, flags=re.MULTILINE).strip()
        for name, statement in zip(names[::2], names[1::2], strict=True)
    }


SQL = read_statements("history.sql")
#: A table that has the columns of another one and no rows.
NO_ROWS = "(SELECT * FROM {} LIMIT 0)"


class TimeAsText(sqlalchemy.types.TypeDecorator):
    """A time that is read as text; see `factory.rules.TIME_AS_TEXT` and `DISABLED_UNTIL`."""

    impl = TIMESTAMP
    cache_ok = True

    def column_expression(self, column: Any) -> Any:
        """Return the expression that reads the column; "infinity" is for good, and so None."""
        text = sqlalchemy.func.to_jsonb(column).op("#>>")(sqlalchemy.literal_column("'{}'"))
        return sqlalchemy.func.nullif(sqlalchemy.func.replace(text, "+00:00", ""), "infinity")


@dataclass(frozen=True)
class Change:
    """One change of a row, and the columns of the history with their types; times are UTC.

    `number` counts the changes of a revision. `disabled_until` is the row's value after the
    change, as text; for a removed row, it is the value before.
    """

    revision: Annotated[int, BigInteger()]
    number: Annotated[int, BigInteger()]
    transaction_id: Annotated[int, BigInteger()]
    changed_at: Annotated[datetime, TIMESTAMP()]
    login: Annotated[str, Text()]
    application: Annotated[str | None, Text()]
    command: Annotated[str | None, Text()]
    about: Annotated[str | None, Text()]
    action: Annotated[str, String(length=10)]
    stream_key: Annotated[str, String(length=STREAM_KEY_CHARACTERS)]
    config_before: Annotated[str | None, Text()]
    status_before: Annotated[str | None, String(length=50)]
    config_after: Annotated[str | None, Text()]
    status_after: Annotated[str | None, String(length=50)]
    disabled_until: Annotated[str | None, TimeAsText()]

    @cached_property
    def audit_metadata(self) -> dict[str, Any]:
        """How the command described itself; unlike the login, anybody can set it to any value."""
        metadata = json.loads(self.about or "{}")
        return metadata if isinstance(metadata, dict) else {}

    @property
    def is_prune(self) -> bool:
        """Whether it is not of a row, but says that earlier revisions were pruned."""
        return self.number == 0

    @property
    def what(self) -> str:
        """The action, or "pruned"."""
        return "pruned" if self.is_prune else self.action

    @property
    def who(self) -> str:
        """The person whom the command named, and the login."""
        by = self.audit_metadata.get("by")
        return f"{by} (login {self.login})" if by and by != self.login else self.login

    @property
    def how(self) -> str:
        """The command and the model's commit, or else the application."""
        commit = self.audit_metadata.get("commit")
        if self.command is None:
            return self.application or "by hand"
        if commit is None:
            return self.command
        dirty = ", uncommitted" if self.audit_metadata.get("dirty") else ""
        return f"{self.command} of {str(commit)[:12]}{dirty}"


#: The Python type and the SQL type of each column of the history.
COLUMNS = {
    name: get_args(hint) for name, hint in get_type_hints(Change, include_extras=True).items()
}


def history_table(table: str, schema: str | None = None) -> Table:
    """Return the history of the configuration table of this name."""
    name = derive_name(table, HISTORY)
    columns = [
        Column(
            column,
            sql_type,
            primary_key=column in ("revision", "number"),
            autoincrement=False,
            nullable=isinstance(None, python_type),
        )
        for column, (python_type, sql_type) in COLUMNS.items()
    ]
    index = Index(derive_name(name, "_of"), "stream_key", "revision", "number")
    return Table(name, MetaData(), *columns, index, schema=schema)


# --- Recording changes ------------------------------------------------------------------------


@dataclass(frozen=True)
class Recorder:
    """A configuration table, its history and their functions, quoted as in SQL."""

    name: str
    schema: str
    table: str
    history: str
    record: str
    guard: str
    switch: str

    @classmethod
    def for_table(cls, connection: Connection, table: Table) -> Recorder:
        name = {"name": quoted_name(connection, table)}
        schema = str(connection.scalar(sqlalchemy.text(SQL["find_schema"]), name))
        quote = connection.dialect.identifier_preparer.quote
        suffixes = ("", HISTORY, RECORD, GUARD, SWITCH)
        names = (derive_name(table.name, suffix) for suffix in suffixes)
        return cls(table.name, schema, *(f"{quote(schema)}.{quote(each)}" for each in names))

    def statement(self, name: str, **parts: str) -> str:
        """Return a statement of the SQL file for this table."""
        return SQL[name].format(**vars(self), setting=AUDIT_SETTING, **parts)

    def insert_changes(
        self, old: str, new: str, revision: str, number: str, transaction: str, changed_at: str
    ) -> str:
        """Return the statement that records how the rows `old` became the rows `new`."""
        # Bootstrap and check compare the text of the function, line breaks included.
        columns = textwrap.indent(textwrap.fill(", ".join(COLUMNS), 96), " " * 4)
        return self.statement(
            "record_changes", columns=columns, old=old, new=new, revision=revision,
            number=number, transaction=transaction, changed_at=changed_at, differs=SQL["differs"],
        )  # fmt: skip

    @property
    def create_functions(self) -> str:
        """The statements that create the functions of the triggers."""

        def insert(old: str, new: str) -> str:
            return self.insert_changes(
                old, new, "next_revision", "last_number", "txid_current()", "at"
            )

        return self.statement(
            "create_functions",
            record_insert=insert(NO_ROWS.format("new_rows"), "new_rows"),
            record_update=insert("old_rows", "new_rows"),
            record_delete=insert("old_rows", NO_ROWS.format("old_rows")),
            record_truncate=insert(self.table, NO_ROWS.format(self.table)),
        )

    def create_triggers(self, connection: Connection) -> list[str]:
        """Return the statements that create the triggers, in place of any of their names."""
        quote = connection.dialect.identifier_preparer.quote
        suffixes = ("inserted", "updated", "deleted", "truncated", "switched", "append_only")
        names = {each: quote(derive_name(self.name, f"_{each}")) for each in suffixes}
        return self.statement("create_triggers", **names).split(";\n")


def create_history(connection: Connection, table: Table) -> None:
    """Create the history and the triggers of an existing table, or log why it has none.

    Afterwards, rows that differ from the history are its newest revision: all rows, if the table
    had no history.
    """
    recorder = Recorder.for_table(connection, table)
    if is_complete(connection, recorder):
        record_missed(connection, table)
        return
    try:
        with connection.begin_nested():
            create_recorder(connection, recorder)
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None)
        # Merges fail too where the functions belong to another role.
        foreign = find_foreign_functions(connection, table.name)
        if classify_error(cause) is not Cause.NO_PERMISSION or foreign:
            raise
        owner, role, _ = find_owner(connection, recorder.table)
        log.warning(
            "Changes of table %r are not on record: the role %s may not create what records them "
            "(%s). Merges work without. Let the role %s run generatePlatformBootstrap with "
            "--ringLevel 1, or first, as an administrator: GRANT %s TO %s; GRANT CREATE ON SCHEMA "
            "%s TO %s.",
            table.name, role, get_primary_message(cause), owner, owner, role, recorder.schema, role,
        )  # fmt: skip


def is_recorded(connection: Connection, table: Table) -> bool:
    """Return whether all changes of the table are recorded in the way of this release."""
    return is_complete(connection, Recorder.for_table(connection, table))


def is_complete(connection: Connection, recorder: Recorder) -> bool:
    """See `is_recorded`."""
    _, record_body, _, guard_body, _, switch_body, _ = recorder.create_functions.split("$body$")
    bodies = {"record_body": record_body, "guard_body": guard_body, "switch_body": switch_body}
    values = {**vars(recorder), **bodies}
    return bool(connection.scalar(sqlalchemy.text(SQL["is_complete"]), values))


def create_recorder(connection: Connection, recorder: Recorder) -> None:
    """Create what is missing of the history, its triggers and their functions."""
    execute_locking(connection, f"LOCK TABLE {recorder.table} IN EXCLUSIVE MODE")
    inspector = sqlalchemy.inspect(connection)
    columns = inspector.get_columns(recorder.name)
    if "disabled_until" not in {column["name"] for column in columns}:
        add = f"ALTER TABLE {recorder.table} ADD COLUMN disabled_until TIMESTAMP"
        execute_locking(connection, add)
    history = history_table(recorder.name, recorder.schema)
    if not inspector.has_table(history.name):
        history.create(connection)
        grant_readers(connection, recorder)
    execute(connection, recorder.create_functions)
    for statement in find_foreign_functions(connection, recorder.name):
        execute(connection, statement)
    for statement in recorder.create_triggers(connection):
        execute_locking(connection, statement)
    is_new = last_revision(connection, recorder.name) == 0
    first_revision = find_first_revision(connection, recorder.name)
    with triggers_disabled(connection, recorder):
        backfill(connection, recorder, BOOTSTRAP if is_new else UNRECORDED)
        if first_revision > 1:
            mark_pruned(connection, recorder, first_revision)
    log.info("Changes of table %r are on record from now on.", recorder.name)


def grant_readers(connection: Connection, recorder: Recorder) -> None:
    """Grant SELECT on a new history to the readers of its table, and nothing to other roles."""
    query = sqlalchemy.text(SQL["find_grantees"])
    everybody = {"name": recorder.history, "privilege": "%"}
    for (grantee,) in connection.execute(query, everybody).all():
        execute(connection, f"REVOKE ALL ON {recorder.history} FROM {grantee}")
    readers = {"name": recorder.table, "privilege": "SELECT"}
    for (grantee,) in connection.execute(query, readers).all():
        execute(connection, f"GRANT SELECT ON {recorder.history} TO {grantee}")


def record_missed(connection: Connection, table: Table) -> None:
    """Record the changes that no trigger recorded, or log why that cannot be done.

    A session with session_replication_role = replica makes such changes. Without this, the next
    change of such a row would contradict the one before.

    Args:
        connection: one in a transaction that writes; the description of its command stays.
        table: the configuration table.
    """
    missed = find_unrecorded(connection, table.name)
    if not missed:
        return
    owner = find_foreign_owner(connection, table.name)
    if owner is not None:
        log.warning(
            "Changes of table %r are not on record (number of rows: %d), and only the role %s can "
            "record them: let it run generatePlatformBootstrap with --ringLevel 1.",
            table.name, len(missed), owner,
        )  # fmt: skip
        return
    about = connection.scalar(sqlalchemy.text(f"SELECT current_setting('{AUDIT_SETTING}', true)"))
    recorder = Recorder.for_table(connection, table)
    with triggers_disabled(connection, recorder):
        backfill(connection, recorder, UNRECORDED)
    set_audit_metadata(connection, json.loads(about or "{}"))
    log.warning(
        "Rows of table %r were changed while its triggers were off (their number: %d). This is on "
        "record now, as yellow-dynamic history shows it.",
        table.name, len(missed),
    )  # fmt: skip


def find_unrecorded(connection: Connection, table: str) -> dict[str, tuple[str | None, str | None]]:
    """Return the rows that were changed and are not on record, if there is a history.

    Returns:
        By stream key, config_json as the history has it and as the table has it; None is for a row
        that is not there. Nothing where the columns of table and history differ, until ring 1.
    """
    if not is_readable(connection, table):
        return {}
    recorder = Recorder.for_table(connection, config_table(table))
    if not connection.scalar(sqlalchemy.text(SQL["is_comparable"]), {"table": recorder.table}):
        return {}
    query = recorder.statement("unrecorded", differs=SQL["differs"])
    return {key: (known, now) for key, known, now in execute(connection, query)}


def backfill(connection: Connection, recorder: Recorder, command: str) -> None:
    """Record the changes that no trigger recorded, as ones of this command."""
    known = recorder.statement("rows_at", condition="true")
    # The number of no transaction, so that further changes of this one are a revision of their own.
    statement = recorder.insert_changes(
        f"({known})", recorder.table, f"{recorder.statement('last_revision')} + 1", "0", "0",
        "timezone('UTC', clock_timestamp())",
    )  # fmt: skip
    by = {} if command == BOOTSTRAP else {"by": "unknown"}
    set_audit_metadata(connection, {**audit_metadata(command), **by})
    execute(connection, statement)


@contextmanager
def triggers_disabled(connection: Connection, recorder: Recorder) -> Iterator[None]:
    """Let the history's owner write it, until the block ends."""
    guard = f"{recorder.history} %s TRIGGER USER"
    execute_locking(connection, f"ALTER TABLE {guard % 'DISABLE'}")
    yield
    execute_locking(connection, f"ALTER TABLE {guard % 'ENABLE'}")


def json_array(texts: Collection[str]) -> str:
    """Return texts as one parameter of JSON; a database in SQL_ASCII cannot read escapes in it."""
    return json.dumps(list(texts), ensure_ascii=False)


def execute(connection: Connection, statements: str) -> Any:
    """Return the result of statements without parameters.

    They may contain colons and percent signs.
    """
    return connection.exec_driver_sql(statements, execution_options={"no_parameters": True})


# --- The description of a command -------------------------------------------------------------


def audit_metadata(command: str, **more: Any) -> dict[str, Any]:
    """Return the description of a command that the history stores with each change.

    Args:
        command: MERGE, ROLLBACK, BOOTSTRAP, or the command that an operator typed.
        **more: further values; those that are None are left out.
    """
    metadata = {"command": command, "release": __version__, "by": current_user(), **more}
    return {
        key: encodable(value) if isinstance(value, str) else value
        for key, value in metadata.items()
        if value is not None
    }


def set_audit_metadata(connection: Connection, metadata: dict[str, Any]) -> None:
    """Set the description of the command whose changes this transaction makes."""
    statement = sqlalchemy.text(f"SELECT set_config('{AUDIT_SETTING}', :metadata, true)")
    # Where the database is SQL_ASCII, the triggers could not read escapes.
    text = json.dumps(metadata, ensure_ascii=False)
    connection.execute(statement, {"metadata": text})


def current_user() -> str:
    """Return the name of the user: DATASURFACE_USER, else that of the operating system."""
    try:
        return os.environ.get("DATASURFACE_USER") or getpass.getuser()
    except (OSError, KeyError):
        # In a container, the user may have a number and no name.
        return f"uid {os.getuid()}"


#: How Git marks a file that it does not track, and what DataSurface reads beside Python.
UNTRACKED, MAPPING = "??", "dsg_platform_mapping.json"


def git_commit(folder: Path | None, rendered: Collection[str] = ()) -> dict[str, Any]:
    """Return the Git commit of a model's folder, and whether its files differ from that.

    All files count that Git tracks. Of those that it neither tracks nor ignores, only those count
    that DataSurface reads of a model: Python, and the mapping of dataset groups. What bootstrap and
    merges render may be in the folder too, and does not count.

    Args:
        folder: the folder, or None where it is not known.
        rendered: the names of the folders that bootstrap and merges make for what they render.

    Returns:
        `commit` and `dirty`. Nothing outside of a repository, and nothing but a warning where Git
        cannot tell the commit.
    """
    if folder is None or find_repository(folder) is None:
        return {}
    try:
        commit, prefix = run_git(folder, "rev-parse", "HEAD", "--show-prefix").split("\n")[:2]
        status = ("status", "--porcelain", "-z", "--untracked-files=all", "--", ".")
        changes = run_git(folder, *status).split("\0")
    except (OSError, subprocess.SubprocessError) as error:
        reason = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
        log.warning(
            "The commit of the model in %s is not recorded in the history: Git cannot tell it "
            "(%s).",
            folder,
            one_line(reason).rstrip("."),
        )
        return {}
    dirty = any(
        change[:2] != UNTRACKED or is_read(PurePath(change[3:].removeprefix(prefix)), rendered)
        for change in filter(None, changes)
    )
    return {"commit": commit, "dirty": dirty}


def is_read(file: PurePath, rendered: Collection[str]) -> bool:
    """Return whether DataSurface may read a file of a model, given by its path there."""
    is_rendered = not {*rendered}.isdisjoint(file.parts[:-1])
    return not is_rendered and (file.suffix == ".py" or file.name == MAPPING)


def find_repository(folder: Path) -> Path | None:
    """Return the top folder of the Git repository that a folder is in, or None."""
    inner = folder.resolve()
    return next((each for each in (inner, *inner.parents) if os.path.lexists(each / ".git")), None)


def run_git(folder: Path, *words: str) -> str:
    """Return the output of a Git command in a folder."""
    everything = os.environ.items()
    others = {name: value for name, value in everything if not name.startswith("GIT_")}
    # In a hook, these point to the repository of the hook.
    of_hook = start_git("rev-parse", "--local-env-vars", env=others).split()
    own = {name: value for name, value in everything if name not in of_hook}
    top = find_repository(folder)
    trust: list[str] = []
    # Git trusts no repository of another user. A merge runs the code of the one whom the model
    # belongs to.
    if top and top.stat().st_uid == folder.stat().st_uid:
        trust = ["-c", f"safe.directory={top}"]
    return start_git(*trust, "-C", str(folder), *words, env=own)


def start_git(*words: str, env: dict[str, str]) -> str:
    done = subprocess.run(
        ["git", "--no-optional-locks", *words], env=env, capture_output=True, check=True,
        timeout=30, encoding="utf-8", errors="surrogateescape",
    )  # fmt: skip
    return done.stdout


# --- Reading the history ----------------------------------------------------------------------


def is_readable(connection: Connection, table: str) -> bool:
    """Return whether the table of this name has a history that this role may read."""
    quoted = connection.dialect.identifier_preparer.quote(derive_name(table, HISTORY))
    may = sqlalchemy.text("SELECT has_table_privilege(to_regclass(:name), 'SELECT')")
    return bool(connection.scalar(may, {"name": quoted}))


def no_history_message(table: str) -> str:
    """Return the consequences of a history that is not readable, and what to do."""
    return (
        f"Table {table!r} has no history that this role may read, so a stream that was disabled, "
        "removed and comes back is active again, Airflow keeps the last streams of a table that a "
        "merge empties for a day, and nothing can be said of former changes. Run "
        "generatePlatformBootstrap with --ringLevel 1 as the table's owner, and let the role read "
        f"the table {derive_name(table, HISTORY)!r}."
    )


def last_revision(connection: Connection, table: str) -> int:
    """Return the newest revision of a table, or 0 where nothing is on record."""
    history = history_table(table)
    newest = sqlalchemy.select(sqlalchemy.func.max(history.c.revision))
    return int(connection.scalar(newest) or 0)


def find_changes(
    connection: Connection, history: Any, *conditions: Any, limit: int | None = None
) -> list[Change]:
    """Return the changes of a `history_table` for which some conditions hold, newest first."""
    query = (
        sqlalchemy.select(history)
        .where(*conditions)
        .order_by(history.c.revision.desc(), history.c.number.desc())
        .limit(limit)
    )
    return [Change(*row) for row in connection.execute(query)]


def find_all_keys(connection: Connection, table: str) -> list[str]:
    """Return the keys of all streams that the table has, or had by its history, in their order."""
    rows, history = config_table(table), history_table(table)
    keys = sqlalchemy.union(
        sqlalchemy.select(history.c.stream_key).where(history.c.number > 0),
        sqlalchemy.select(rows.c.stream_key),
    )
    return sorted(connection.scalars(keys))


def is_one_of(keys: Collection[str]) -> Any:
    """Return the condition that a change is of one of these streams, with one parameter."""
    condition = "stream_key = ANY (ARRAY(SELECT json_array_elements_text(CAST(:keys AS json))))"
    return sqlalchemy.text(condition).bindparams(keys=json_array(keys))


def newest_changes(connection: Connection, table: str) -> dict[str, Change]:
    """Return the newest change of each row that is there, without its configurations, by key."""
    rows, history = config_table(table), history_table(table)
    of_row = (
        sqlalchemy.select(history)
        .where(history.c.stream_key == rows.c.stream_key)
        .order_by(history.c.revision.desc(), history.c.number.desc())
        .limit(1)
        .lateral()
    )
    # The configurations of thousands of streams are large.
    left_out = ("config_before", "config_after")
    columns = [
        sqlalchemy.null().label(column.name) if column.name in left_out else column
        for column in of_row.c
    ]
    query = sqlalchemy.select(*columns).select_from(rows.join(of_row, sqlalchemy.true()))
    return {
        change.stream_key: change for change in (Change(*row) for row in connection.execute(query))
    }


def find_merge_commits(connection: Connection, table: str) -> list[tuple[int, str]]:
    """Return the revision of each merge and the commit of its model, newest first."""
    history = history_table(table)
    query = (
        sqlalchemy.select(history.c.revision, history.c.about)
        .where(history.c.command == MERGE)
        .distinct()
        .order_by(history.c.revision.desc())
    )
    merges = [(revision, json.loads(text)) for revision, text in connection.execute(query)]
    return [(revision, str(each["commit"])) for revision, each in merges if each.get("commit")]


#: Reads disabled_until as TimeAsText does.
UNTIL_AS_TEXT = f"nullif({TIME_AS_TEXT.format(time='disabled_until')}, 'infinity')"
#: So many edits of a row are read, besides the oldest one.
LISTED_EDITS = 5


@dataclass
class ManualEdits:
    """The edits of one row's configuration since a merge or a rollback wrote it.

    Attributes:
        count: how many there are.
        newest: the newest LISTED_EDITS, newest first, without their configurations.
        before: the configuration that was written.
        after: the one that is there.
    """

    count: int
    newest: list[Change]
    before: str | None
    after: str | None


def find_manual_edits(connection: Connection, table: str) -> dict[str, ManualEdits]:
    """Return the edits of configurations since a merge or a rollback wrote them, by stream key."""
    configs = {
        "config_before": "CASE place WHEN count THEN config_before END",
        "config_after": "CASE place WHEN 1 THEN config_after END",
        "disabled_until": UNTIL_AS_TEXT,
    }
    query = SQL["manual_edits"].format(
        history=quoted_history(connection, table),
        columns=", ".join(configs.get(name, name) for name in COLUMNS),
        managed=", ".join(f"'{command}'" for command in (MERGE, ROLLBACK, BOOTSTRAP)),
    )
    found: dict[str, ManualEdits] = {}
    for count, *values in connection.execute(sqlalchemy.text(query), {"listed": LISTED_EDITS}):
        edit = Change(*values)
        edits = found.setdefault(edit.stream_key, ManualEdits(count, [], None, edit.config_after))
        edits.before = edit.config_before
        edits.newest = [*edits.newest, edit][:LISTED_EDITS]
    return found


def find_disabling_changes(
    connection: Connection, table: str, keys: Collection[str]
) -> dict[str, Change]:
    """Return the newest change that disabled each of these streams, by key.

    They are without configurations, which are large.
    """
    read = {"config_before": "NULL", "config_after": "NULL", "disabled_until": UNTIL_AS_TEXT}
    names = (read.get(name, name) for name in COLUMNS)
    history = quoted_history(connection, table)
    query = SQL["disabling_changes"].format(history=history, columns=", ".join(names))
    found = connection.execute(sqlalchemy.text(query), {"keys": json_array(keys)})
    return {change.stream_key: change for change in (Change(*row) for row in found)}


def rows_at(
    connection: Connection, table: str, revision: int
) -> dict[str, tuple[str | None, str | None]]:
    """Return config_json and status by stream key as the rows were at a revision.

    Raises:
        LookupError: there is no such revision, or its rows are not on record any more.
    """
    first, last = find_first_revision(connection, table), last_revision(connection, table)
    if not first <= revision <= last:
        raise LookupError(
            f"Table {table!r} has the rows of the revisions {first} to {last} on record, and not "
            f"those of {revision}."
        )
    history = quoted_history(connection, table)
    rows = SQL["rows_at"].format(history=history, condition="revision <= :last")
    query = f"SELECT stream_key, config_json, status FROM ({rows}) AS past"  # noqa: S608
    found = connection.execute(sqlalchemy.text(query), {"last": revision})
    return {key: (config_json, status) for key, config_json, status in found}


def find_first_revision(connection: Connection, table: str) -> int:
    """Return the first revision whose rows are on record: 1 unless changes were pruned."""
    history = quoted_history(connection, table)
    query = sqlalchemy.text(SQL["first_revision"].format(history=history))
    return int(connection.scalar(query, {"name": history}) or 1)


def quoted_history(connection: Connection, table: str) -> str:
    """Return the name of a table's history, quoted as in SQL."""
    return quoted_name(connection, history_table(table))


def find_removed_while_disabled(
    connection: Connection, table: str, keys: Collection[str]
) -> dict[str, str | None]:
    """Return which of these streams were disabled when they were removed, and until when."""
    query = SQL["removed_while_disabled"].format(history=quoted_history(connection, table))
    found = connection.execute(sqlalchemy.text(query), {"keys": json_array(keys)})
    return {row[0]: row[1] for row in found}


# --- Pruning the history ----------------------------------------------------------------------


def find_owner(connection: Connection, quoted: str) -> tuple[str, str, bool]:
    """Return the owner of a table, this role, and whether it has the privileges of the owner."""
    query = sqlalchemy.text(SQL["find_owner"])
    owner, role, is_owner = connection.execute(query, {"name": quoted}).one()
    return owner, role, is_owner


def find_foreign_owner(connection: Connection, table: str) -> str | None:
    """Return the owner of a table's history, or None if this role has the owner's privileges."""
    owner, _, is_owner = find_owner(connection, quoted_history(connection, table))
    return None if is_owner else owner


def prune(connection: Connection, table: Table, before: datetime) -> int:
    """Remove the changes before a time (UTC), and return their number.

    The rows of earlier revisions are lost. Only the history's owner may do this.
    """
    recorder = Recorder.for_table(connection, table)
    history = history_table(table.name)
    newest = sqlalchemy.select(sqlalchemy.func.max(history.c.revision)).where(
        history.c.changed_at < before
    )
    with triggers_disabled(connection, recorder):
        base = connection.scalar(newest)
        statement = sqlalchemy.text(recorder.statement("prune"))
        removed = connection.execute(statement, {"before": before}).rowcount
        if removed:
            mark_pruned(connection, recorder, base)
    return int(removed)


def mark_pruned(connection: Connection, recorder: Recorder, first_revision: int) -> None:
    """Keep in the history that only the rows of this revision and later ones are on record."""
    statements = recorder.statement("mark_pruned", first_revision=str(first_revision))
    execute(connection, statements)
