"""The JSON form that model objects share."""

from abc import ABC, abstractmethod
from typing import Any

__all__ = ["JSONable"]


class JSONable(ABC):
    """An object that can describe itself as JSON."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Describe the object.

        Returns:
            A dictionary of JSON values. Its key `_type` holds the class name.
        """
        return {"_type": type(self).__name__}
