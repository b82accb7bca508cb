"""Why a table cannot be read or written."""

from __future__ import annotations

import enum
import re


class Cause(str, enum.Enum):
    """What kind of failure kept the table from being read or written."""

    # None in the environment.
    NO_LOGIN = "no login"
    LOGIN = "login refused"
    NO_CONNECTION = "no connection"
    NO_SERVICE = "no service"
    TLS = "tls"
    CONNECTIONS = "too many connections"
    NO_PERMISSION = "no permission"
    ROW_SECURITY = "row security"
    READ_ONLY = "read only"
    NO_TABLE = "no table"
    # Empty, and no merge has emptied it.
    EMPTY = "empty"
    NO_ANSWER = "no answer"
    TIMEOUT = "statement timeout"
    LOCKED = "locked"
    REFERENCED = "referenced"
    NOT_NULL = "not null"
    DEPENDENT = "dependent"
    OTHER = "other"

    @classmethod
    def _missing_(cls, value: object) -> Cause:  # noqa: ARG003 - a later release may know more
        return cls.OTHER


# By PostgreSQL's code for the error.
CAUSES = {
    "0A000": Cause.DEPENDENT,
    "23502": Cause.NOT_NULL,
    "23503": Cause.REFERENCED,
    "25006": Cause.READ_ONLY,
    "28000": Cause.LOGIN,
    "28P01": Cause.LOGIN,
    "2BP01": Cause.DEPENDENT,
    "42501": Cause.NO_PERMISSION,
    "42P01": Cause.NO_TABLE,
    "53300": Cause.CONNECTIONS,
    "55P03": Cause.LOCKED,
    "57014": Cause.NO_ANSWER,
}
# By PostgreSQL's own words, where its drivers pass no code, or one code has several
# causes. Where it speaks another language, the cause is the more general one.
CAUSES_BY_WORDS = {
    "row-level security": Cause.ROW_SECURITY,
    "statement timeout": Cause.TIMEOUT,
    'password authentication failed|no password supplied|role ".*" does not exist': Cause.LOGIN,
    "no pg_hba.conf entry": Cause.LOGIN,
    "too many (clients|connections)|remaining connection slots": Cause.CONNECTIONS,
    "definition of service": Cause.NO_SERVICE,
    "session is (not )?read-only|in recovery mode|hot standby": Cause.READ_ONLY,
    "SSL|certificate": Cause.TLS,
}
# What to do about each.
ADVICE = {
    Cause.LOGIN: "Check the login, and that pg_hba.conf of the server lets it in from here",
    Cause.NO_CONNECTION: "Check that the database is up and can be reached from here",
    Cause.NO_SERVICE: "PGSERVICE names it; PGSERVICEFILE is the file that must have it",
    Cause.TLS: "Check PGSSLMODE and PGSSLROOTCERT here against what the server offers",
    Cause.CONNECTIONS: "Raise the limit of the server, the database or the role, or free some",
    Cause.ROW_SECURITY: "Row security would hide rows of the table: give the role BYPASSRLS, or "
    "switch row security off for the table",
    Cause.READ_ONLY: "This is a standby, or the role or the database is set to read only; name the "
    "primary server",
    Cause.TIMEOUT: "The role's or the database's statement_timeout is too short for it",
    Cause.NO_TABLE: "Run bootstrap with --ringLevel 1 to create the table",
    Cause.REFERENCED: "A foreign key of another table points at a row that goes; remove the key, "
    "or let it cascade",
    Cause.NOT_NULL: "A column that was added to the table takes no NULL and has no default; give "
    "it one",
    Cause.DEPENDENT: "A view or a rule depends on the table; drop it, do this, and create it again",
}


def classify_error(error: BaseException | None) -> Cause:
    """Return what kind of failure an error of psycopg2 or psycopg is."""
    for words, cause in CAUSES_BY_WORDS.items():
        if re.search(words, str(error)):
            return cause
    code = getattr(error, "pgcode", None) or getattr(error, "sqlstate", None)
    # An attempt to connect that fails has no code.
    if code is None and type(error).__name__ == "OperationalError":
        return Cause.NO_CONNECTION
    return CAUSES.get(str(code), Cause.OTHER)


# The schemas that have a table of the name, besides one that the role sees.
SCHEMAS = """\
SELECT relnamespace::regnamespace::text FROM pg_class
WHERE relname = {name} AND relkind IN ('r', 'p') AND NOT pg_table_is_visible(oid) ORDER BY 1
"""


def add_schemas(advice: str, schemas: list[str]) -> str:
    """Return the advice on a table that is missing, where other schemas have one of its name."""
    if not schemas:
        return advice
    return (
        f"There is one in schema {', '.join(schemas)}, which the role's search_path does not name; "
        f"add it there. Or else: {advice[0].lower()}{advice[1:]}"
    )
