"""The factory files of a platform, and what they keep on disk."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from yellow_dynamic.factory.environment import snapshot_folder
from yellow_dynamic.factory.platform import Platform
from yellow_dynamic.factory.rules import factory_file_name, number_suffix

# The last line of every factory file.
END_OF_FILE = b"\nregister_dags(PLATFORM, globals())\n"


def factory_file(platform: Platform, number: int) -> Path:
    """Return the path of the platform's factory file of that number, beside the one that runs."""
    return platform.file.with_name(f"{factory_file_name(platform.name, number)}.py")


def is_whole(file: Path) -> bool:
    """Return whether a factory file is there, and not only a part of it."""
    try:
        with file.open("rb") as opened:
            opened.seek(-len(END_OF_FILE), os.SEEK_END)
            return opened.read() == END_OF_FILE
    except OSError:
        return False


def snapshot_path(platform: Platform, suffix: str = "") -> Path:
    """Return where the running factory file keeps its snapshot, or another note of that suffix."""
    name = f"{platform.name}{number_suffix(platform.number)}{suffix}.json"
    return snapshot_folder() / name


def write_atomic(path: Path, text: str) -> None:
    """Replace a private file: a reader finds the old text or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def owned_by_us(path: Path) -> bool:
    """Return whether the file is there and this process's user owns it."""
    return path.exists() and path.stat().st_uid == os.geteuid()
