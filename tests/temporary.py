"""A folder that lives as long as this process."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile


def temporary_folder(prefix: str) -> str:
    """Return a new folder, which is removed last of all when the process ends."""
    folder, owner = tempfile.mkdtemp(prefix=prefix), os.getpid()

    def remove() -> None:
        # Forked processes come here too.
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder
