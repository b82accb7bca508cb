"""Types of columns."""

from typing import Any

from datasurface.md.json import JSONable
from datasurface.md.lint import NotCoveredByEmbedded

__all__ = [
    "IEEE32",
    "IEEE64",
    "BigInt",
    "Binary",
    "Boolean",
    "Char",
    "DataType",
    "Date",
    "Decimal",
    "Double",
    "Float",
    "Integer",
    "Interval",
    "NChar",
    "NVarChar",
    "SmallInt",
    "String",
    "TextDataType",
    "TimeZone",
    "Timestamp",
    "TinyInt",
    "VarChar",
    "Variant",
]


class DataType(JSONable):
    """The type of a column; equal when class and parameters are."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DataType) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(type(self).__name__)

    def __str__(self) -> str:
        values = [str(v) for k, v in self.to_json().items() if k != "_type" and v is not None]
        return f"{type(self).__name__}({', '.join(values)})"

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | vars(self)


class TextDataType(DataType):
    """Text.

    Args:
        maxSize: Longest value, in characters; None for no limit.
        collationString: Collation.
    """

    def __init__(self, maxSize: int | None = None, collationString: str | None = None) -> None:
        if maxSize is not None and maxSize < 1:
            raise ValueError(f"maxSize of a {type(self).__name__} must be positive, not {maxSize}.")
        self.maxSize = maxSize
        self.collationString = collationString


class VarChar(TextDataType):
    """Text of varying length."""


class NVarChar(TextDataType):
    """Unicode text of varying length."""


class String(NVarChar):
    """Unicode text of varying length."""


class Char(TextDataType):
    """Text of fixed length.

    Args:
        maxSize: The length, in characters.
        collationString: Collation.
    """

    def __init__(self, maxSize: int = 1, collationString: str | None = None) -> None:
        super().__init__(maxSize, collationString)


class NChar(Char):
    """Unicode text of fixed length."""


class Boolean(DataType):
    """True or false."""


class TinyInt(DataType):
    """An integer of 8 bits."""


class SmallInt(DataType):
    """An integer of 16 bits."""


class Integer(DataType):
    """An integer of 32 bits."""


class BigInt(DataType):
    """An integer of 64 bits."""


class IEEE32(DataType):
    """A floating-point number of 32 bits."""


class Float(IEEE32):
    """A floating-point number of 32 bits."""


class IEEE64(DataType):
    """A floating-point number of 64 bits."""


class Double(IEEE64):
    """A floating-point number of 64 bits."""


class Decimal(DataType):
    """A number of fixed decimal places.

    Args:
        maxSize: How many digits in all.
        precision: How many of them after the point.
    """

    def __init__(self, maxSize: int, precision: int) -> None:
        if not 0 <= precision <= maxSize or maxSize < 1:
            raise ValueError(f"Decimal({maxSize}, {precision}): need 0 <= precision <= maxSize.")
        self.maxSize = maxSize
        self.precision = precision


class Date(DataType):
    """A day of the calendar."""


class TimeZone:
    """A time zone by name.

    Args:
        timeZone: Name, such as "UTC".
    """

    def __init__(self, timeZone: str) -> None:
        self.timeZone = timeZone

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TimeZone) and self.timeZone == other.timeZone

    def __hash__(self) -> int:
        return hash(self.timeZone)


class Timestamp(DataType):
    """A date with a time of day.

    Args:
        tz: Zone that the values are in; UTC unless given.
    """

    def __init__(self, tz: TimeZone | None = None) -> None:
        self.tz = tz if tz is not None else TimeZone("UTC")

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"tz": self.tz.timeZone}


class Interval(DataType):
    """A length of time."""


class Variant(NotCoveredByEmbedded, DataType):
    """A value of any type.

    Args:
        maxSize: Longest value, in bytes; None for no limit.
    """

    coveredAlternative = "use a VarChar column"

    def __init__(self, maxSize: int | None = None) -> None:
        self.maxSize = maxSize


class Binary(NotCoveredByEmbedded, DataType):
    """Bytes.

    Args:
        maxSize: Longest value, in bytes; None for no limit.
    """

    coveredAlternative = "use a VarChar column"
    coveredByReal = False

    def __init__(self, maxSize: int | None = None) -> None:
        self.maxSize = maxSize
