"""Airflow's remote logging with a folder as the remote place, and no local copy left."""

from __future__ import annotations

import os
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

from airflow.config_templates.airflow_local_settings import DEFAULT_LOGGING_CONFIG

LOGGING_CONFIG = deepcopy(DEFAULT_LOGGING_CONFIG)


class FolderLogs:
    """Keeps the logs of ended tasks in the folder that REMOTE_LOGS names."""

    processors = ()

    @property
    def folder(self) -> Path:
        return Path(os.environ["REMOTE_LOGS"])

    def upload(self, path: os.PathLike[str] | str, ti: Any) -> None:  # noqa: ARG002 - as Airflow calls it
        """Move a task's log away from the worker."""
        local = Path(path)
        base = Path(os.environ["AIRFLOW_HOME"], "logs")
        remote = self.folder / (local.relative_to(base) if local.is_absolute() else local)
        remote.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(base / local, remote)

    def read(self, relative_path: str, ti: Any) -> tuple[list[str], list[str]]:  # noqa: ARG002
        """Return where the log is, and the log."""
        remote = self.folder / relative_path
        if not remote.exists():
            return [f"There is no log {remote}."], []
        return [str(remote)], [remote.read_text(encoding="utf-8")]


REMOTE_TASK_LOG = FolderLogs()
DEFAULT_REMOTE_CONN_ID = None
