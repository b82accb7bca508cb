"""Why a table cannot be read or written."""

from __future__ import annotations

import enum
import re


class Cause(str, enum.Enum):
    """What kind of failure kept the table from being read or written."""

    # None in the environment.
    NO_LOGIN = "no login"
    LOGIN = "login refused"
    # In a language that is not known.
    REFUSED = "connection refused by the server"
    NO_CONNECTION = "no connection"
    NO_SERVICE = "no service"
    NO_DATABASE = "no database"
    NO_CONNECT = "no CONNECT privilege"
    TLS = "tls"
    CONNECTIONS = "too many connections"
    ENDED = "session ended"
    NO_PERMISSION = "no permission"
    ROW_SECURITY = "row security"
    READ_ONLY = "read only"
    NO_TABLE = "no table"
    # Empty, and no merge has emptied it.
    EMPTY = "empty"
    NO_ANSWER = "no answer"
    TIMEOUT = "statement timeout"
    LOCKED = "locked"
    CONFLICT = "conflict"
    REFERENCED = "referenced"
    NOT_NULL = "not null"
    CONSTRAINT = "constraint"
    TRIGGER = "trigger"
    COLUMN = "column"
    ENCODING = "encoding"
    DEPENDENT = "dependent"
    SERVER = "server"
    OTHER = "other"

    @classmethod
    def _missing_(cls, value: object) -> Cause:  # noqa: ARG003 - a later release may know more
        return cls.OTHER


# PostgreSQL's codes for errors, and the classes of codes, which are their first two characters.
CODES = {
    Cause.COLUMN: "22001 22P02 42703 42804 42846 42883 428C9",
    Cause.CONFLICT: "40",
    Cause.CONNECTIONS: "53300",
    Cause.CONSTRAINT: "23",
    Cause.DEPENDENT: "0A000 2BP01",
    Cause.ENCODING: "22021 22P05",
    Cause.ENDED: "08 25P03 25P04 57",
    Cause.LOCKED: "55P03",
    Cause.LOGIN: "28",
    Cause.NOT_NULL: "23502",
    Cause.NO_ANSWER: "57014",
    Cause.NO_DATABASE: "3D000",
    Cause.NO_PERMISSION: "42501",
    Cause.NO_TABLE: "42P01",
    Cause.READ_ONLY: "25006",
    Cause.REFERENCED: "23503",
    Cause.SERVER: "53 58 XX",
    Cause.TRIGGER: "09 38 39 P0",
}
CAUSES = {code: cause for cause, codes in CODES.items() for code in codes.split()}
# By the function of the server that reports the error, where one code has several causes.
CAUSES_BY_FUNCTION = {"check_enable_rls": Cause.ROW_SECURITY, "exec_stmt_raise": Cause.TRIGGER}
# An attempt to connect that fails has no code. By how the server's own words begin, in English.
REFUSALS = {
    r"\w+ authentication failed|role \".*\" (does|is) not|(no )?pg_hba|no such user|connection "
    "requires a valid client": Cause.LOGIN,
    "sorry, too many|too many connections|remaining connection|no more conn": Cause.CONNECTIONS,
    r"database \".*\" does not exist|no such database": Cause.NO_DATABASE,
    "permission denied for database": Cause.NO_CONNECT,
    r"the database system is|database \".*\" is not currently": Cause.ENDED,
}
# By libpq's message about a failed attempt to connect, without the quoted names.
CLIENT_WORDS = {
    "definition of service|service file": Cause.NO_SERVICE,
    "no password supplied": Cause.LOGIN,
    "session is (not )?read-only|hot standby": Cause.READ_ONLY,
    "not support SSL|SSL error: (?!unexpected eof)|certificate|private key|sslmode": Cause.TLS,
}
# What to do about each.
ADVICE = {
    Cause.LOGIN: "Check the login, and that pg_hba.conf of the server lets it in from here",
    Cause.REFUSED: "The server is up and refuses the connection. Check the login, pg_hba.conf, the "
    "name of the database and the privilege CONNECT on it, and the limits of connections",
    Cause.NO_CONNECTION: "Check that the database is up and can be reached from here",
    Cause.NO_SERVICE: "PGSERVICE names it; PGSERVICEFILE is the file that must have it",
    Cause.NO_DATABASE: "Check the name of the database in the model and in "
    "DATASURFACE_POSTGRES_DATABASE",
    Cause.NO_CONNECT: "Grant the role CONNECT on the database",
    Cause.TLS: "Check PGSSLMODE and PGSSLROOTCERT here against what the server offers",
    Cause.CONNECTIONS: "Raise the limit of the server, the database or the role, or free some",
    Cause.ENDED: "The server, or a pooler before it, takes no session now or ended this one: it "
    "starts, stops or was told to. Try again when it is ready",
    Cause.ROW_SECURITY: "Row security would hide rows of the table: give the role BYPASSRLS, or "
    "switch row security off for the table",
    Cause.READ_ONLY: "This is a standby, or the role or the database is set to read only; name the "
    "primary server",
    Cause.TIMEOUT: "The role's or the database's statement_timeout is too short for it",
    Cause.NO_TABLE: "Run bootstrap with --ringLevel 1 to create the table",
    Cause.CONFLICT: "Another transaction changed the same at that time; run this again",
    Cause.REFERENCED: "A foreign key of another table points at a row that goes; remove the key, "
    "or let it cascade",
    Cause.NOT_NULL: "A column that was added to the table takes no NULL and has no default; give "
    "it one",
    Cause.CONSTRAINT: "A constraint or an index that was added to the table refuses a row; drop "
    "it, or let it allow what merges write",
    Cause.TRIGGER: "A trigger that was added to the table fails or refuses this; drop or correct "
    "it, or do what it says",
    Cause.COLUMN: "A column of the table was renamed, generated, shortened or given another type; "
    "change it back to stream_key varchar(255), config_json text, status varchar(50), created_at "
    "or updated_at timestamp",
    Cause.ENCODING: "The encoding of the database has no such character; use a database in UTF8",
    Cause.DEPENDENT: "A view or a rule depends on the table; drop it, do this, and create it again",
    Cause.SERVER: "The server lacks memory, disk or another resource, or is damaged; its log says "
    "more",
}


def classify_error(error: BaseException | None) -> Cause:
    """Return what kind of failure an error of psycopg2 or psycopg is."""
    code = str(getattr(error, "pgcode", None) or getattr(error, "sqlstate", None) or "")
    if not code:
        return classify_attempt(error)
    diag = getattr(error, "diag", None)
    if code == "57014" and "statement timeout" in get_primary_message(error):
        return Cause.TIMEOUT
    # Two sessions created the same.
    if code == "23505" and getattr(diag, "schema_name", None) == "pg_catalog":
        return Cause.CONFLICT
    by_code = CAUSES.get(code) or CAUSES.get(code[:2], Cause.OTHER)
    return CAUSES_BY_FUNCTION.get(getattr(diag, "source_function", None) or "", by_code)


def get_primary_message(error: BaseException | None) -> str:
    """Return an error's message without its details, context and hint, which quote rows."""
    return str(getattr(getattr(error, "diag", None), "message_primary", None) or "")


ATTEMPT = re.compile(r"^(.*?connection (failed|is bad|to server .*? failed): )+")


def classify_attempt(error: BaseException | None) -> Cause:
    """Return why an attempt to connect failed, or a connection ended without a word."""
    if all(each.__name__ != "OperationalError" for each in type(error).__mro__):
        return Cause.OTHER
    # A line for each address that was tried. Others have details, which may quote names.
    first, *further = str(error).splitlines() or [""]
    lines = [first, *(line for line in further if "connection to server" in line)]
    attempts = [ATTEMPT.sub("", line) for line in lines]
    # The server's words come after their severity, which is in its language too.
    refusals = [words for _, mark, words in (each.partition(":  ") for each in attempts) if mark]
    for start, cause in REFUSALS.items():
        if any(re.match(start, words) for words in refusals):
            return cause
    if refusals:
        return Cause.REFUSED
    said = re.sub('"[^"]*"', "", "\n".join(attempts))
    found = (cause for words, cause in CLIENT_WORDS.items() if re.search(words, said))
    return next(found, Cause.NO_CONNECTION)


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
