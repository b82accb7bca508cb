"""The factory files of a platform, and what they keep on disk."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import NamedTuple

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
    make_private_folder(path.parent)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def make_private_folder(folder: Path) -> None:
    """Make a folder for this user alone; root makes it for the owner of the folder above.

    Airflow's own user could not use it otherwise, once an administrator has parsed the file.
    """
    if folder.is_dir():
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if os.geteuid() == 0:
        above = folder.parent.stat()
        os.chown(folder, above.st_uid, above.st_gid, follow_symlinks=False)


class OwnFile(NamedTuple):
    """A file of this process's user: its text, and when it was written or confirmed."""

    text: str
    modified: float


def read_own(path: Path) -> OwnFile | None:
    """Return a file of this process's user, or None where there is none.

    Raises:
        OSError: it cannot be read, or it belongs to another user.
        ValueError: it is no text.
    """
    try:
        with path.open(encoding="utf-8") as file:
            about = os.fstat(file.fileno())
            if about.st_uid != os.geteuid():
                raise PermissionError("it belongs to another user")
            return OwnFile(file.read(), about.st_mtime)
    except (FileNotFoundError, NotADirectoryError):
        return None


def describe_disk_error(error: Exception) -> str:
    """Return why a file of the snapshot's folder cannot be used, and whose it must be instead."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if not isinstance(error, PermissionError):
        return reason
    if os.geteuid() == 0:
        return f"{reason}; parse as Airflow's own user and not as root"
    return f"{reason}; as root, run chown -R {os.geteuid()} {snapshot_folder()}"
