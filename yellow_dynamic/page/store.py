"""What a platform's merge store says: its rows, what they delivered, and who changed them last."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from yellow_dynamic import history
from yellow_dynamic.monitoring.installation import Installation
from yellow_dynamic.monitoring.status import Sources, read_store


@dataclass(frozen=True)
class Table:
    """What was read of a platform's merge store, and when."""

    sources: Sources
    changes: dict[str, history.Change]
    at: datetime


def load_table(installation: Installation) -> Table:
    """Read the rows of a platform, what they delivered and their last changes.

    Raises:
        OperationError: the login is missing.
        sqlalchemy.exc.SQLAlchemyError: the table cannot be read.
    """
    at = datetime.now(UTC)
    sources = Sources(installation)
    read_store(sources)
    # Kept with them, as parsing those of thousands of streams takes longer than the rest.
    _ = sources.configs
    changes: dict[str, history.Change] = {}
    with installation.transaction("read the history of") as connection:
        if history.is_readable(connection, installation.table):
            changes = history.newest_changes(connection, installation.table)
        else:
            sources.problems.append(history.no_history_message(installation.table))
    return Table(sources, changes, at)
