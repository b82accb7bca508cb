"""The error of the operator's command."""

from __future__ import annotations


class CommandError(Exception):
    """A command cannot do what it was asked; the text says why and what to do."""
