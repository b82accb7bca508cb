"""The state of the streams: computed here, printed by `command`, served by `page`."""


class OperationError(Exception):
    """An operation failed; the text says why and what to do, and is all that users see."""
