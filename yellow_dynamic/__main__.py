"""Runs the operator's command: `yellow-dynamic`, or `python -m yellow_dynamic`."""

from __future__ import annotations

import sys

#: What the extra `cli` adds to the packages that the plugin needs.
PACKAGES = ("httpx", "rich", "typer")


def main() -> None:
    """Run the command, or say what to install where what it needs is missing."""
    try:
        from yellow_dynamic.command.app import app
        from yellow_dynamic.command.printing import escape_what_the_output_cannot_hold
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in PACKAGES:
            raise
        sys.exit(
            f"The command yellow-dynamic needs more packages ({error}). Install them with: "
            f"{sys.executable} -m pip install {' '.join(PACKAGES)}"
        )
    escape_what_the_output_cannot_hold()
    app(prog_name="yellow-dynamic")


if __name__ == "__main__":
    main()
