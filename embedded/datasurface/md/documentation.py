"""Text that describes the objects of a model."""

from typing import Any

from datasurface.md.lint import UserDSLObject

__all__ = ["Documentable", "Documentation", "MarkdownDocumentation", "PlainTextDocumentation"]


class Documentation(UserDSLObject):
    """A description of a model object.

    Args:
        description: The text.
        tags: Free keys and values.
    """

    def __init__(self, description: str, tags: dict[str, str] | None = None) -> None:
        super().__init__()
        self.description = description
        self.tags = tags or {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Documentation) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((type(self).__name__, self.description))

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"description": self.description, "tags": self.tags}


class PlainTextDocumentation(Documentation):
    """A description without markup."""


class MarkdownDocumentation(Documentation):
    """A description with a longer Markdown text.

    Args:
        description: One line.
        markdown: The Markdown text.
        tags: Free keys and values.
    """

    def __init__(self, description: str, markdown: str, tags: dict[str, str] | None = None) -> None:
        super().__init__(description, tags)
        self.markdown = markdown

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"markdown": self.markdown}


class Documentable:
    """An object that may carry a description.

    Attributes:
        documentation: The description, or None.
    """

    def __init__(self, documentation: Documentation | None) -> None:
        self.documentation = documentation

    def documentationJson(self) -> dict[str, Any]:
        """Return the entry that describes this object's documentation in its JSON form."""
        doc = self.documentation
        return {"documentation": None if doc is None else doc.to_json()}
