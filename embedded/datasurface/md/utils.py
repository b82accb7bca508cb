"""Checks and lookups that do not depend on the model classes."""

import re
import sys

from croniter import croniter

__all__ = ["is_valid_cron", "is_valid_sql_identifier", "model_source_location"]

_SQL_IDENTIFIER = re.compile(r"[a-zA-Z][a-zA-Z0-9_]{0,127}")

# The words that PostgreSQL reserves outright. Words such as YEAR or NAME, which are reserved
# in the SQL standard only, are usual column names and work there unquoted.
_RESERVED_WORDS = """
    all analyse analyze and any array as asc asymmetric both case cast check collate column
    constraint create current_catalog current_date current_role current_time current_timestamp
    current_user default deferrable desc distinct do else end except false fetch for foreign from
    grant group having in initially intersect into lateral leading limit localtime localtimestamp
    not null offset on only or order placing primary references returning select session_user
    some symmetric system_user table then to trailing true union unique user using variadic when
    where window with
"""
_RESERVED = frozenset(_RESERVED_WORDS.split())


def is_valid_sql_identifier(name: str) -> bool:
    """Tell whether `name` can name a table or column without quotes.

    Args:
        name: The name; a letter, then up to 127 letters, digits or underscores.

    Returns:
        False as well for words that SQL reserves, in any case of letters.
    """
    return bool(_SQL_IDENTIFIER.fullmatch(name)) and name.lower() not in _RESERVED


def is_valid_cron(cron: str) -> bool:
    """Tell whether `cron` is a cron expression of exactly five fields, such as "0 3 * * *"."""
    return len(cron.split()) == 5 and croniter.is_valid(cron)


def model_source_location() -> tuple[str, int]:
    """Find the place in a model that is constructing an object right now.

    Returns:
        The file and line of the innermost caller that is not itself a constructor.
    """
    # Subclasses may live anywhere, so constructors are told apart by name, not by package.
    frame = sys._getframe(1)
    while frame.f_code.co_name == "__init__" and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno
