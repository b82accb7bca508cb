"""Structured logging: one JSON object per line on standard error."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

_context: ContextVar[dict[str, str] | None] = ContextVar("datasurface_log_context", default=None)


class JsonHandler(logging.Handler):
    """Writes each record as one line of JSON to what `sys.stderr` is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record."""
        print(self.format(record), file=sys.stderr, flush=True)

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON, with the context and the values named in the call."""
        entry: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **(_context.get() or {}),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["exception"] = logging.Formatter().formatException(record.exc_info)
        return json.dumps(entry, default=str)


class ContextualLogger:
    """A logger whose methods take a message and any named values to record beside it."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def info(self, message: str, **fields: Any) -> None:
        """Log at level INFO."""
        self._log(logging.INFO, message, fields)

    def warning(self, message: str, **fields: Any) -> None:
        """Log at level WARNING."""
        self._log(logging.WARNING, message, fields)

    def error(self, message: str, **fields: Any) -> None:
        """Log at level ERROR."""
        self._log(logging.ERROR, message, fields)

    def critical(self, message: str, **fields: Any) -> None:
        """Log at level CRITICAL."""
        self._log(logging.CRITICAL, message, fields)

    def exception(self, message: str, **fields: Any) -> None:
        """Log at level ERROR with the traceback of the exception being handled."""
        self._log(logging.ERROR, message, fields, exc_info=True)

    def _log(
        self, level: int, message: str, fields: dict[str, Any], exc_info: bool = False
    ) -> None:
        # The message goes in as an argument: a per cent sign in it must not be a format.
        self._logger.log(level, "%s", message, extra={"fields": fields}, exc_info=exc_info)


def setup_logging_for_environment() -> None:
    """Send every log record of the process, from level INFO on, to standard error as JSON.

    Calling it again changes nothing.
    """
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    if not any(isinstance(handler, JsonHandler) for handler in root.handlers):
        root.addHandler(JsonHandler())


def get_contextual_logger(name: str) -> ContextualLogger:
    """Return the logger of that name, whose methods take `(message, **named_values)`."""
    return ContextualLogger(name)


def set_context(
    workspace: str | None = None, platform: str | None = None, request: str | None = None
) -> None:
    """Replace the values that every following log line of this context carries.

    A value left at None is not logged.
    """
    values = {"workspace": workspace, "platform": platform, "request": request}
    _context.set({name: value for name, value in values.items() if value is not None})


@contextmanager
def log_operation_timing(logger: ContextualLogger, op: str, **ctx: Any) -> Iterator[None]:
    """Log when an operation begins, and how many seconds it took to finish or fail.

    Args:
        logger: Where to log.
        op: What the operation is called in the log.
        **ctx: Named values recorded on both lines.
    """
    logger.info(f"{op} started", **ctx)
    began = time.monotonic()
    outcome = "failed"
    try:
        yield
        outcome = "finished"
    finally:
        logger.info(f"{op} {outcome}", **ctx, seconds=round(time.monotonic() - began, 3))
