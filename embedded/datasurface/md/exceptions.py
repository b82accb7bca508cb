"""Exceptions that the model classes raise while a model is put together or looked up."""

__all__ = [
    "AttributeAlreadySetException",
    "ObjectAlreadyExistsException",
    "ObjectDoesntExistException",
]


class ObjectAlreadyExistsException(Exception):  # noqa: N818 (name of the public API)
    """A second object of the same name was added where names are unique."""


class ObjectDoesntExistException(Exception):  # noqa: N818 (name of the public API)
    """A named object was asked for that the model does not have."""


class AttributeAlreadySetException(Exception):  # noqa: N818 (name of the public API)
    """An attribute that takes one value was given a second one."""

    def __init__(self, attribute: str) -> None:
        super().__init__(f"The attribute '{attribute}' is already set; it takes one value.")
        self.attribute = attribute
