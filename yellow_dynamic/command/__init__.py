"""The operator's command, `yellow-dynamic`: each part by its name, `app.py` puts them together."""


class CommandError(Exception):
    """What the command cannot do; the text says why and what to do, and is all that is printed."""
