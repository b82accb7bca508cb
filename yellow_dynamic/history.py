"""The history of a platform's table: each change of a row, written by the database itself.

Triggers of the configuration table write it in the transaction of the change, so an edit by psql
is on record like a merge. All changes of one transaction are one revision, a number from 1 on.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import logging
import os
import re
import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import TIMESTAMP, BigInteger, Column, Index, MetaData, String, Table, Text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from yellow_dynamic import __version__
from yellow_dynamic.contract import Cause, cause_of
from yellow_dynamic.merge_store import (
    STREAM_KEY_CHARACTERS,
    config_table,
    execute_locking,
    quoted_name,
)

log = logging.getLogger(__name__)

#: What the names of the history and of what writes it end in, after that of the table.
HISTORY, RECORD, GUARD = "_history", "_record", "_append_only"
#: PostgreSQL cuts longer names.
NAME_BYTES = 63
#: The setting of a transaction in which a command says what it is; the triggers write it down.
ABOUT_SETTING = "yellow_dynamic.about"
#: The commands that write what rows are to be; whatever else changes a row is an edit by hand.
MERGE, ROLLBACK, BOOTSTRAP = "merge", "rollback", "bootstrap"
#: Begins the comment of a history from which the oldest changes were removed.
COMPLETE_FROM = "Complete from revision "


def name_beside(table: str, end: str) -> str:
    """Return the name of what belongs to a table; `end` is one of HISTORY, RECORD, GUARD."""
    if len(f"{table}{end}".encode()) <= NAME_BYTES:
        return f"{table}{end}"
    digest = hashlib.sha256(table.encode()).hexdigest()[:8]
    start = table.encode()[: NAME_BYTES - len(end) - len(digest) - 1].decode(errors="ignore")
    return f"{start}_{digest}{end}"


def history_table(table: str, schema: str | None = None) -> Table:
    """Return the history of the configuration table of this name; times are UTC.

    `number` counts the changes of a revision. `disabled_until` is that of the row afterwards, and
    of a removed one what it was.
    """
    name = name_beside(table, HISTORY)
    return Table(
        name,
        MetaData(),
        Column("revision", BigInteger(), primary_key=True, autoincrement=False),
        Column("number", BigInteger(), primary_key=True, autoincrement=False),
        Column("transaction_id", BigInteger(), nullable=False),
        Column("changed_at", TIMESTAMP(), nullable=False),
        Column("login", Text(), nullable=False),
        Column("application", Text()),
        Column("command", Text()),
        Column("about", Text()),
        Column("action", String(length=10), nullable=False),
        Column("stream_key", String(length=STREAM_KEY_CHARACTERS), nullable=False),
        Column("config_before", Text()),
        Column("status_before", String(length=50)),
        Column("config_after", Text()),
        Column("status_after", String(length=50)),
        Column("disabled_until", TIMESTAMP()),
        Index(name_beside(name, "_of"), "stream_key", "revision", "number"),
        schema=schema,
    )


# --- What writes it ---------------------------------------------------------------------------

#: Writes down how the rows `old` became the rows `new`, as changes of the revision of `last`.
RECORD_CHANGES = """\
INSERT INTO {history} (
    revision, number, transaction_id, changed_at, login, application, command, about, action,
    stream_key, config_before, status_before, config_after, status_after, disabled_until
)
SELECT
    {revision}, {number} + row_number() OVER (ORDER BY stream_key), txid_current(), {changed_at},
    session_user, current_setting('application_name'),
    CAST(nullif(current_setting('{about}', true), '') AS json) ->> 'command',
    nullif(current_setting('{about}', true), ''),
    CASE
        WHEN o.stream_key IS NULL THEN 'added'
        WHEN n.stream_key IS NULL THEN 'removed'
        WHEN o.config_json IS DISTINCT FROM n.config_json THEN 'changed'
        WHEN n.status = 'disabled' THEN 'disabled'
        WHEN o.status = 'disabled' THEN 'enabled'
        ELSE 'changed'
    END,
    stream_key, o.config_json, o.status, n.config_json, n.status,
    CASE WHEN n.stream_key IS NULL THEN o.disabled_until ELSE n.disabled_until END
FROM {old} AS o FULL JOIN {new} AS n USING (stream_key)
WHERE o.stream_key IS NULL OR n.stream_key IS NULL
    OR (o.config_json, o.status, o.disabled_until)
        IS DISTINCT FROM (n.config_json, n.status, n.disabled_until)
"""
#: The lock is held until the transaction ends, so revisions are in the order of the commits. A
#: number that a stale snapshot gives twice is refused by the primary key. A column that a DBA added
#: may have the name of a variable.
RECORD_BODY = """
#variable_conflict use_variable
DECLARE
    last record;
    next_revision bigint := 1;
    last_number bigint := 0;
    at timestamp := timezone('UTC', clock_timestamp());
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('{about}', CAST(TG_RELID AS bigint)));
    SELECT revision, number, transaction_id, changed_at INTO last
    FROM {history} ORDER BY revision DESC, number DESC LIMIT 1;
    IF FOUND THEN
        next_revision := last.revision + 1;
        IF last.transaction_id = txid_current() AND last.changed_at >= timezone('UTC', now()) THEN
            next_revision := last.revision;
            last_number := last.number;
            at := last.changed_at;
        END IF;
    END IF;
    IF TG_OP = 'INSERT' THEN
        {inserted};
    ELSIF TG_OP = 'UPDATE' THEN
        {updated};
    ELSIF TG_OP = 'DELETE' THEN
        {deleted};
    ELSE
        {truncated};
    END IF;
    RETURN NULL;
END
"""
GUARD_BODY = """
BEGIN
    IF TG_OP <> 'INSERT' OR pg_trigger_depth() < 2 THEN
        RAISE EXCEPTION 'the history % is append-only', TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege', HINT = 'The triggers of the configuration table '
            'write it, and `yellow-dynamic history --prune` removes what is old.';
    END IF;
    RETURN NULL;
END
"""
#: When each trigger of the configuration table fires, and what it sees, by the end of its name.
TRIGGERS = {
    "_inserted": "AFTER INSERT ON {table} REFERENCING NEW TABLE AS new_rows",
    "_updated": "AFTER UPDATE ON {table} REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
    "_deleted": "AFTER DELETE ON {table} REFERENCING OLD TABLE AS old_rows",
    "_truncated": "BEFORE TRUNCATE ON {table}",
}
#: What a table is not that has no rows.
NONE_OF = "(SELECT * FROM {rows} LIMIT 0)"


@dataclass(frozen=True)
class Recorder:
    """A configuration table and what records its changes, as they stand in SQL."""

    name: str
    schema: str
    table: str
    history: str
    record: str
    guard: str

    @classmethod
    def of(cls, connection: Connection, table: Table) -> Recorder:
        name = {"name": quoted_name(connection, table)}
        schema = str(connection.scalar(sqlalchemy.text(SCHEMA_OF), name))
        quote = connection.dialect.identifier_preparer.quote
        names = (name_beside(table.name, end) for end in ("", HISTORY, RECORD, GUARD))
        return cls(table.name, schema, *(f"{quote(schema)}.{quote(each)}" for each in names))

    def changes(self, old: str, new: str, revision: str, number: str, changed_at: str) -> str:
        """Return the statement that writes down how the rows `old` became the rows `new`."""
        return RECORD_CHANGES.format(
            history=self.history, about=ABOUT_SETTING, old=old, new=new, revision=revision,
            number=number, changed_at=changed_at,
        )  # fmt: skip

    @property
    def record_body(self) -> str:
        """The body of the triggers' function."""
        variables = ("next_revision", "last_number", "at")

        def changes(old: str, new: str) -> str:
            return self.changes(old, new, *variables).rstrip()

        return RECORD_BODY.format(
            about=ABOUT_SETTING,
            history=self.history,
            inserted=changes(NONE_OF.format(rows="new_rows"), "new_rows"),
            updated=changes("old_rows", "new_rows"),
            deleted=changes("old_rows", NONE_OF.format(rows="old_rows")),
            truncated=changes(self.table, NONE_OF.format(rows=self.table)),
        )


def create_history(connection: Connection, table: Table) -> None:
    """Create the history of a table that exists, and what writes it; or say why there is none.

    Rows that no change of the history gives are its newest revision afterwards: all there are, in
    a table that had no history.
    """
    recorder = Recorder.of(connection, table)
    if is_complete(connection, recorder):
        return
    try:
        with connection.begin_nested():
            create_recorder(connection, recorder)
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None)
        if cause_of(cause) is not Cause.NO_PERMISSION:
            raise
        owner, role = connection.execute(sqlalchemy.text(OWNER), {"name": recorder.table}).one()
        reason = str(cause).strip().partition("\n")[0]
        log.warning(
            "Changes of table %r are not on record: the role %s may not create what records them "
            "(%s). Merges work without. Let the role %s run generatePlatformBootstrap with "
            "--ringLevel 1, or first, as an administrator: GRANT %s TO %s; GRANT CREATE ON SCHEMA "
            "%s TO %s.",
            table.name, role, reason, owner, owner, role, recorder.schema, role,
        )  # fmt: skip


SCHEMA_OF = """\
SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE pg_class.oid = CAST(:name AS regclass)
"""
OWNER = """\
SELECT CAST(relowner::regrole AS text), quote_ident(current_user) FROM pg_class
WHERE oid = CAST(:name AS regclass)
"""
IS_COMPLETE = """\
SELECT EXISTS (SELECT FROM pg_proc WHERE oid = to_regproc(:record) AND prosrc = :body)
    AND EXISTS (SELECT FROM pg_proc WHERE oid = to_regproc(:guard) AND prosrc = :guard_body)
    AND (SELECT count(*) FROM pg_trigger
        WHERE tgrelid = to_regclass(:table) AND tgfoid = to_regproc(:record) AND tgenabled <> 'D'
    ) = :triggers
    AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass(:table)
        AND attname = 'disabled_until' AND NOT attisdropped)
    AND EXISTS (SELECT FROM pg_trigger
        WHERE tgrelid = to_regclass(:history) AND tgfoid = to_regproc(:guard) AND tgenabled <> 'D')
"""


def is_recorded(connection: Connection, table: Table) -> bool:
    """Tell whether all changes of the table are on record, as this release does it."""
    return is_complete(connection, Recorder.of(connection, table))


def is_complete(connection: Connection, recorder: Recorder) -> bool:
    """See `is_recorded`."""
    values = {
        **{name: getattr(recorder, name) for name in ("table", "history", "record", "guard")},
        "body": recorder.record_body,
        "guard_body": GUARD_BODY,
        "triggers": len(TRIGGERS),
    }
    return bool(connection.scalar(sqlalchemy.text(IS_COMPLETE), values))


def create_recorder(connection: Connection, recorder: Recorder) -> None:
    """Create what is missing of the history, its triggers and their functions."""
    execute_locking(connection, f"LOCK TABLE {recorder.table} IN EXCLUSIVE MODE")
    inspector = sqlalchemy.inspect(connection)
    columns = inspector.get_columns(recorder.name, schema=recorder.schema)
    if "disabled_until" not in {column["name"] for column in columns}:
        add = f"ALTER TABLE {recorder.table} ADD COLUMN disabled_until TIMESTAMP"
        execute_locking(connection, add)
    history = history_table(recorder.name, recorder.schema)
    if not inspector.has_table(history.name, schema=recorder.schema):
        history.create(connection)
        grant_as_table(connection, recorder)
    create_function(connection, recorder.record, recorder.record_body, "SECURITY DEFINER")
    create_function(connection, recorder.guard, GUARD_BODY)
    for end, occasion in TRIGGERS.items():
        create_trigger(
            connection, name_beside(recorder.name, end), recorder.table,
            occasion.format(table=recorder.table), recorder.record,
        )  # fmt: skip
    create_trigger(
        connection, name_beside(recorder.name, GUARD), recorder.history,
        f"BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {recorder.history}", recorder.guard,
    )  # fmt: skip
    record_what_is_unknown(connection, recorder)
    log.info("Changes of table %r are on record from now on.", recorder.name)


def create_function(connection: Connection, name: str, body: str, rights: str = "") -> None:
    """Create a trigger's function, which nobody else may hang on a table of his own."""
    execute(
        connection,
        f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql {rights} "
        f"SET search_path = pg_catalog, pg_temp AS $body${body}$body$",
    )
    execute(connection, f"REVOKE ALL ON FUNCTION {name}() FROM PUBLIC")


def create_trigger(
    connection: Connection, name: str, table: str, occasion: str, function: str
) -> None:
    """Create a trigger of a table, in place of one of its name."""
    quoted = connection.dialect.identifier_preparer.quote(name)
    execute_locking(connection, f"DROP TRIGGER IF EXISTS {quoted} ON {table}")
    each = f"CREATE TRIGGER {quoted} {occasion} FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
    execute_locking(connection, each)


GRANTEES = """\
SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE CAST(grantee::regrole AS text) END
FROM pg_class, aclexplode(relacl)
WHERE oid = CAST(:name AS regclass) AND grantee <> relowner AND privilege_type LIKE :privilege
"""


def grant_as_table(connection: Connection, recorder: Recorder) -> None:
    """Let those read a new history who read its table; nobody may do more."""
    query = sqlalchemy.text(GRANTEES)
    everybody = {"name": recorder.history, "privilege": "%"}
    for (grantee,) in connection.execute(query, everybody).all():
        execute(connection, f"REVOKE ALL ON {recorder.history} FROM {grantee}")
    readers = {"name": recorder.table, "privilege": "SELECT"}
    for (grantee,) in connection.execute(query, readers).all():
        execute(connection, f"GRANT SELECT ON {recorder.history} TO {grantee}")


#: The rows that the changes up to a revision give.
ROWS_AT = """\
SELECT stream_key, config_after AS config_json, status_after AS status, disabled_until FROM (
    SELECT DISTINCT ON (stream_key) * FROM {history} WHERE {condition}
    ORDER BY stream_key, revision DESC, number DESC
) AS newest WHERE action <> 'removed'
"""


def record_what_is_unknown(connection: Connection, recorder: Recorder) -> None:
    """Write down what changed while nothing recorded it."""
    known = ROWS_AT.format(history=recorder.history, condition="true")
    statement = recorder.changes(
        f"({known})", recorder.table, LAST_REVISION.format(history=recorder.history) + " + 1",
        "0", "timezone('UTC', clock_timestamp())",
    )  # fmt: skip
    with unguarded(connection, recorder):
        set_about(connection, about(BOOTSTRAP))
        execute(connection, statement)


@contextmanager
def unguarded(connection: Connection, recorder: Recorder) -> Iterator[None]:
    """Let the history's owner write it, until the block ends."""
    guard = f"{recorder.history} %s TRIGGER USER"
    execute_locking(connection, f"ALTER TABLE {guard % 'DISABLE'}")
    yield
    execute_locking(connection, f"ALTER TABLE {guard % 'ENABLE'}")


def execute(connection: Connection, statement: str) -> None:
    """Execute a statement that has no parameters, though it may hold colons and percent signs."""
    connection.execute(sqlalchemy.text(re.sub(r"(?<!:):(?!:)", r"\:", statement)))


# --- What a command says of itself ------------------------------------------------------------


def about(command: str, **more: Any) -> dict[str, Any]:
    """Return what a command says of itself beside what the database knows.

    Args:
        command: MERGE, ROLLBACK, BOOTSTRAP, or what an operator typed.
        **more: what else there is to say of it; None says nothing.
    """
    said = {"command": command, "release": __version__, "by": person(), **more}
    return {key: value for key, value in said.items() if value is not None}


def set_about(connection: Connection, said: dict[str, Any]) -> None:
    """Let the changes of this transaction say so of themselves."""
    statement = sqlalchemy.text(f"SELECT set_config('{ABOUT_SETTING}', :about, true)")
    connection.execute(statement, {"about": json.dumps(said)})


def person() -> str:
    """Return who runs this: DATASURFACE_USER, else the user of the operating system."""
    try:
        return os.environ.get("DATASURFACE_USER") or getpass.getuser()
    except (OSError, KeyError):
        # In a container, the user may have a number and no name.
        return f"uid {os.getuid()}"


def commit_of(folder: Path | None) -> dict[str, Any]:
    """Return the Git commit of a folder, and whether what is in it differs; nothing outside Git."""
    if folder is None:
        return {}
    try:
        commit = git(folder, "rev-parse", "HEAD").strip()
        changes = git(folder, "status", "--porcelain", "--untracked-files=all", "--", ".")
    except (OSError, subprocess.SubprocessError) as error:
        log.debug("The commit of %s is not known: %r.", folder, error)
        return {}
    # What a merge renders may lie here too, and is no part of the model.
    own = [line for line in changes.splitlines() if line[:2] != "??" or line.endswith(".py")]
    return {"commit": commit, "dirty": bool(own)}


GIT_PLACES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")


def git(folder: Path, *words: str) -> str:
    """Return what Git says of a folder; in a hook of Git, its variables are of another one."""
    done = subprocess.run(
        ["git", "-c", f"safe.directory={folder}", "-C", str(folder), *words],
        env={name: value for name, value in os.environ.items() if name not in GIT_PLACES},
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    return done.stdout


# --- Reading it -------------------------------------------------------------------------------

LAST_REVISION = "(SELECT coalesce(max(revision), 0) FROM {history})"


@dataclass(frozen=True)
class Change:
    """One change of a row; times are UTC."""

    revision: int
    number: int
    changed_at: datetime
    login: str
    application: str | None
    command: str | None
    about_text: str | None
    action: str
    stream_key: str
    config_before: str | None
    status_before: str | None
    config_after: str | None
    status_after: str | None
    disabled_until: datetime | None

    @cached_property
    def about(self) -> dict[str, Any]:
        """What the command said of itself; anybody may say anything, unlike of his login."""
        said = json.loads(self.about_text or "{}")
        return said if isinstance(said, dict) else {}

    @property
    def who(self) -> str:
        """The person by his own words, and the login."""
        by = self.about.get("by")
        return f"{by} (login {self.login})" if by and by != self.login else self.login

    @property
    def how(self) -> str:
        """The command and the model's commit, or else the application."""
        commit = self.about.get("commit")
        if self.command is None:
            return self.application or "by hand"
        if commit is None:
            return self.command
        dirty = ", uncommitted" if self.about.get("dirty") else ""
        return f"{self.command} of {str(commit)[:12]}{dirty}"


def is_readable(connection: Connection, table: str) -> bool:
    """Tell whether the table of this name has a history that this role may read."""
    quoted = connection.dialect.identifier_preparer.quote(name_beside(table, HISTORY))
    may = sqlalchemy.text("SELECT has_table_privilege(to_regclass(:name), 'SELECT')")
    return bool(connection.scalar(may, {"name": quoted}))


def without_history(table: str) -> str:
    """Return what it means, and what to do, where `is_readable` says no."""
    return (
        f"Table {table!r} has no history that this role may read, so a stream that was disabled, "
        "removed and comes back is active again, and nothing can be said of former changes. Run "
        "generatePlatformBootstrap with --ringLevel 1 as the table's owner, and let the role read "
        f"the table {name_beside(table, HISTORY)!r}."
    )


def last_revision(connection: Connection, table: str) -> int:
    """Return the newest revision of a table, or 0 where nothing is on record."""
    history = history_table(table)
    newest = sqlalchemy.select(sqlalchemy.func.coalesce(sqlalchemy.func.max(history.c.revision), 0))
    return int(connection.scalar(newest) or 0)


def find_changes(
    connection: Connection, history: Any, *conditions: Any, limit: int | None = None
) -> list[Change]:
    """Return the changes of a `history_table` for which some conditions hold, newest first."""
    columns = [column for column in history.c if column.name != "transaction_id"]
    query = (
        sqlalchemy.select(*columns)
        .where(*conditions)
        .order_by(history.c.revision.desc(), history.c.number.desc())
        .limit(limit)
    )
    return [Change(*row) for row in connection.execute(query)]


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
    # Those of thousands of streams are much to send.
    left_out = ("config_before", "config_after")
    columns = [
        sqlalchemy.null().label(column.name) if column.name in left_out else column
        for column in of_row.c
        if column.name != "transaction_id"
    ]
    query = sqlalchemy.select(*columns).select_from(rows.join(of_row, sqlalchemy.true()))
    return {
        change.stream_key: change for change in (Change(*row) for row in connection.execute(query))
    }


def commits(connection: Connection, table: str) -> list[tuple[int, str]]:
    """Return which commit of the model each merge wrote, newest first, by its revision."""
    history = history_table(table)
    query = (
        sqlalchemy.select(history.c.revision, history.c.about)
        .where(history.c.command == MERGE)
        .distinct()
        .order_by(history.c.revision.desc())
    )
    said = [(revision, json.loads(text)) for revision, text in connection.execute(query)]
    return [(revision, str(each["commit"])) for revision, each in said if each.get("commit")]


def edited_by_hand(connection: Connection, table: str) -> dict[str, list[Change]]:
    """Return the edits of configurations since a merge or a rollback wrote them, newest first.

    Returns:
        By stream key; the oldest edit of each has before it what was written.
    """
    edit, later = (history_table(table).alias(name) for name in ("edit", "later"))
    overwritten = sqlalchemy.exists().where(
        later.c.stream_key == edit.c.stream_key,
        is_meant(later),
        changes_config(later),
        sqlalchemy.tuple_(later.c.revision, later.c.number)
        > sqlalchemy.tuple_(edit.c.revision, edit.c.number),
    )
    conditions = (~is_meant(edit), changes_config(edit), ~overwritten)
    edits: dict[str, list[Change]] = {}
    for change in find_changes(connection, edit, *conditions):
        edits.setdefault(change.stream_key, []).append(change)
    return edits


def is_meant(history: Any) -> Any:
    """Return the condition that a merge or a rollback made a change."""
    command = sqlalchemy.func.coalesce(history.c.command, "")
    return command.in_((MERGE, ROLLBACK, BOOTSTRAP))


def changes_config(history: Any) -> Any:
    """Return the condition that a change is not one of the status alone."""
    return history.c.config_before.is_distinct_from(history.c.config_after)


def rows_at(
    connection: Connection, table: str, revision: int
) -> dict[str, tuple[str | None, str | None]]:
    """Return config_json and status by stream key as the rows were at a revision.

    Raises:
        LookupError: there is no such revision, or its rows are not on record any more.
    """
    first, last = complete_from(connection, table), last_revision(connection, table)
    if not first <= revision <= last:
        raise LookupError(
            f"Table {table!r} has the rows of the revisions {first} to {last} on record, and not "
            f"those of {revision}."
        )
    query = ROWS_AT.format(history=quoted_history(connection, table), condition="revision <= :last")
    found = connection.execute(sqlalchemy.text(query), {"last": revision})
    return {key: (config_json, status) for key, config_json, status, _ in found}


def complete_from(connection: Connection, table: str) -> int:
    """Return the first revision whose rows are on record: 1 unless older changes were removed."""
    query = sqlalchemy.text("SELECT obj_description(CAST(:name AS regclass), 'pg_class')")
    name = {"name": quoted_history(connection, table)}
    comment = str(connection.scalar(query, name) or "")
    return int(comment.removeprefix(COMPLETE_FROM)) if comment.startswith(COMPLETE_FROM) else 1


def quoted_history(connection: Connection, table: str) -> str:
    """Return the name of a table's history as it stands in SQL."""
    return quoted_name(connection, history_table(table))


DISABLED_WHEN_REMOVED = """\
SELECT stream_key, disabled_until FROM (
    SELECT DISTINCT ON (stream_key) * FROM {history}
    WHERE stream_key = ANY (ARRAY(SELECT json_array_elements_text(CAST(:keys AS json))))
    ORDER BY stream_key, revision DESC, number DESC
) AS newest
WHERE action = 'removed' AND status_before = 'disabled'
    AND (disabled_until IS NULL OR disabled_until > timezone('UTC', now()))
"""


def disabled_when_removed(
    connection: Connection, table: str, keys: Collection[str]
) -> dict[str, datetime | None]:
    """Return which of these streams were disabled when they were removed, and until when."""
    query = DISABLED_WHEN_REMOVED.format(history=quoted_history(connection, table))
    found = connection.execute(sqlalchemy.text(query), {"keys": json.dumps(list(keys))})
    return {row[0]: row[1] for row in found}


# --- Removing what is old ---------------------------------------------------------------------

#: What gives the rows of later revisions stays, and who disabled a stream.
PRUNE = """\
DELETE FROM {history} AS old WHERE changed_at < :before AND EXISTS (
    SELECT FROM {history} AS newer
    WHERE newer.stream_key = old.stream_key AND newer.changed_at < :before
        AND (newer.revision, newer.number) > (old.revision, old.number)
        AND (newer.action IN ('disabled', 'enabled')) = (old.action IN ('disabled', 'enabled'))
)
"""


def owner_other_than_this_role(connection: Connection, table: str) -> str | None:
    """Return who owns the history of a table, or None where this role has the owner's rights."""
    query = sqlalchemy.text(
        "SELECT CAST(relowner::regrole AS text) FROM pg_class "
        "WHERE oid = CAST(:name AS regclass) AND NOT pg_has_role(relowner, 'USAGE')"
    )
    owner = connection.scalar(query, {"name": quoted_history(connection, table)})
    return None if owner is None else str(owner)


def prune(connection: Connection, table: Table, before: datetime) -> int:
    """Remove the changes before a time (UTC), and return how many those were.

    The rows of earlier revisions cannot be had again. Only the history's owner may do this.
    """
    recorder = Recorder.of(connection, table)
    history = history_table(table.name)
    newest = sqlalchemy.select(sqlalchemy.func.max(history.c.revision)).where(
        history.c.changed_at < before
    )
    with unguarded(connection, recorder):
        base = connection.scalar(newest)
        statement = sqlalchemy.text(PRUNE.format(history=recorder.history))
        removed = connection.execute(statement, {"before": before}).rowcount
    if removed:
        comment = f"COMMENT ON TABLE {recorder.history} IS '{COMPLETE_FROM}{base}'"
        connection.execute(sqlalchemy.text(comment))
    return int(removed)
