"""Classification of data, and the policies that build on it."""

from enum import Enum
from typing import Any

from datasurface.md.lint import NotCoveredByEmbedded, UserDSLObject

__all__ = [
    "DataClassification",
    "DataClassificationPolicy",
    "SimpleDC",
    "SimpleDCTypes",
    "StoragePolicy",
]


class SimpleDCTypes(Enum):
    """How sensitive data is, from public to most sensitive personal data."""

    PUB = 0
    IP = 1
    PC1 = 2
    PC2 = 3
    CPI = 4
    MNPI = 5
    CSI = 6
    PC3 = 7


class DataClassification(UserDSLObject):
    """Says how sensitive a dataset or column is."""


class SimpleDC(DataClassification):
    """A classification by one of a fixed set of types.

    Args:
        dcType: The type.
        name: Narrows the type down, for example to a kind of personal data.
    """

    def __init__(self, dcType: SimpleDCTypes, name: str | None = None) -> None:
        super().__init__()
        self.dcType = dcType
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SimpleDC) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((self.dcType, self.name))

    def __str__(self) -> str:
        return f"SimpleDC({self.dcType.name})"

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"dcType": self.dcType.name, "name": self.name}


class StoragePolicy(NotCoveredByEmbedded, UserDSLObject):
    """Where a dataset may be stored.

    Args:
        name: Name of the policy.
    """

    coveredAlternative = "leave the storage policy out of the dataset"

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


class DataClassificationPolicy(NotCoveredByEmbedded, UserDSLObject):
    """Which classifications a workspace may hold.

    Args:
        name: Name of the policy.
    """

    coveredAlternative = "leave the classification policy out of the workspace"

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
