"""Folders that live as long as this process, or as a server."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

_MEMORY = Path("/dev/shm")
_NEEDED_BYTES = 2 * 2**30


def database_folder(prefix: str) -> tempfile.TemporaryDirectory[str]:
    """Return a new folder for the data of a database server, in memory where there is room.

    On a disk, creating a database costs ten times as much CPU. A run that is killed leaves the
    folder, in memory until the machine starts again. It is not below pytest's own folder, which
    another run of pytest may clear away.
    """
    return tempfile.TemporaryDirectory(
        prefix=prefix, dir=_memory_folder(), ignore_cleanup_errors=True
    )


def _memory_folder() -> Path | None:
    with suppress(OSError):
        if shutil.disk_usage(_MEMORY).free >= _NEEDED_BYTES and os.access(_MEMORY, os.W_OK):
            return _MEMORY
    return None


def temporary_folder(prefix: str) -> str:
    """Return a new folder, which is removed last of all when the process ends."""
    folder, owner = tempfile.mkdtemp(prefix=prefix), os.getpid()

    def remove() -> None:
        # Forked processes come here too.
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder
