"""Runs DataSurface's program that makes views: python -m yellow_dynamic.reconcile_views OPTION ...

Each of its statements is a transaction of its own. DataSurface 0.0.36 to 0.0.57 keep the
transaction open in which they read the definition of a view while another connection of theirs
replaces the view: where the view differs from the model they would wait for themselves without end.
Up to PostgreSQL 15 it always does, as these write a definition in other words.
"""

from __future__ import annotations

import runpy
from typing import Any

from sqlalchemy import event
from sqlalchemy.pool import Pool

PROGRAM = "datasurface.platforms.yellow.reconcile_workspace_views"


def main() -> None:
    """Run the program with the arguments of this one."""
    event.listen(Pool, "checkout", set_autocommit)
    runpy.run_module(PROGRAM, run_name="__main__", alter_sys=True)


def set_autocommit(connection: Any, *_: Any) -> None:
    """Let a connection commit each statement, for which a new one is told not to."""
    connection.autocommit = True


if __name__ == "__main__":
    main()
