"""Runs the operator's command: `yellow-dynamic`, or `python -m yellow_dynamic`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command, or say what to install where Typer and Rich are missing."""
    try:
        from yellow_dynamic.cli import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit(
            f"The command yellow-dynamic needs Typer and Rich ({error}). Install them with: "
            "pip install 'yellow-dynamic[cli]'"
        )
    app(prog_name="yellow-dynamic")


if __name__ == "__main__":
    main()
