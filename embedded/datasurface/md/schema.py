"""Tables and columns of datasets."""

from enum import Enum
from typing import Any

from datasurface.md.documentation import Documentable, Documentation
from datasurface.md.exceptions import AttributeAlreadySetException, ObjectAlreadyExistsException
from datasurface.md.json import JSONable
from datasurface.md.lint import ANSI_SQL_NamedObject, UserDSLObject, ValidationTree, lintCoverage
from datasurface.md.policy import DataClassification
from datasurface.md.types import DataType

__all__ = [
    "DDLColumn",
    "DDLTable",
    "NullableStatus",
    "PartitionKeyList",
    "PrimaryKeyList",
    "PrimaryKeyStatus",
    "Schema",
]


class NullableStatus(Enum):
    """Whether a column may be null."""

    NOT_NULLABLE = 0
    NULLABLE = 1


class PrimaryKeyStatus(Enum):
    """Whether a column is part of the primary key."""

    NOT_PK = 0
    PK = 1


class PrimaryKeyList(JSONable):
    """The columns of a primary key, in order."""

    def __init__(self, colNames: list[str]) -> None:
        self.colNames = colNames

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(tuple(self.colNames))

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"colNames": self.colNames}


class PartitionKeyList(PrimaryKeyList):
    """The columns that a table is partitioned by, in order."""


class DDLColumn(ANSI_SQL_NamedObject, Documentable):
    """A column of a table.

    Args:
        name: An SQL identifier.
        data_type: Its type.
        *args: The other attributes by type, instead of by keyword.
        nullable: Whether it may be null; yes unless given.
        primary_key: Whether it is part of the primary key; no unless given.
        documentation: Description.
        classifications: How sensitive it is.
    """

    def __init__(
        self,
        name: str,
        data_type: DataType,
        *args: NullableStatus | PrimaryKeyStatus | DataClassification | Documentation,
        nullable: NullableStatus | None = None,
        primary_key: PrimaryKeyStatus | None = None,
        documentation: Documentation | None = None,
        classifications: list[DataClassification] | None = None,
    ) -> None:
        ANSI_SQL_NamedObject.__init__(self, name)
        Documentable.__init__(self, documentation)
        self.type = data_type
        self.nullable = nullable or NullableStatus.NULLABLE
        self.primaryKey = primary_key or PrimaryKeyStatus.NOT_PK
        self.classification: list[DataClassification] = list(classifications or [])
        for arg in args:
            self._add(arg)

    def _add(
        self, arg: NullableStatus | PrimaryKeyStatus | DataClassification | Documentation
    ) -> None:
        match arg:
            case NullableStatus():
                self.nullable = arg
            case PrimaryKeyStatus():
                self.primaryKey = arg
            case DataClassification():
                self.classification.append(arg)
            case Documentation():
                self.documentation = arg
            case _:
                raise TypeError(f"{self} takes no {type(arg).__name__}.")

    def lint(self, tree: ValidationTree) -> None:
        """Add the problems of the column to `tree`."""
        self.nameLint(tree)
        lintCoverage(self.type, tree)
        if self._isPrimaryKey() and self.nullable is NullableStatus.NULLABLE:
            tree.addProblem(
                f"The column '{self.name}' is part of the primary key, "
                "so it must be NullableStatus.NOT_NULLABLE."
            )

    def to_json(self) -> dict[str, Any]:
        return (
            super().to_json()
            | {
                "type": self.type.to_json(),
                "nullable": self.nullable.name,
                "primaryKey": self.primaryKey.name,
                "classification": [c.to_json() for c in self.classification],
            }
            | self.documentationJson()
        )

    def _isPrimaryKey(self) -> bool:
        return self.primaryKey is PrimaryKeyStatus.PK


class Schema(UserDSLObject, Documentable):
    """The structure of a dataset."""

    def __init__(self, documentation: Documentation | None = None) -> None:
        UserDSLObject.__init__(self)
        Documentable.__init__(self, documentation)


class DDLTable(Schema):
    """A structure of named columns.

    Args:
        *args: Columns and the other attributes by type, instead of by keyword.
        columns: The columns, in order.
        primary_key_list: Primary key; taken from the columns' flags unless given.
        partition_key_list: Columns that the table is partitioned by.
        documentation: Description.

    Raises:
        ObjectAlreadyExistsException: Two columns have the same name.
    """

    def __init__(
        self,
        *args: DDLColumn | PrimaryKeyList | PartitionKeyList | Documentation,
        columns: list[DDLColumn] | None = None,
        primary_key_list: PrimaryKeyList | None = None,
        partition_key_list: PartitionKeyList | None = None,
        documentation: Documentation | None = None,
    ) -> None:
        super().__init__(documentation)
        self.columns: dict[str, DDLColumn] = {}
        self._primaryKeyList = primary_key_list
        self.ingestionPartitionColumns = partition_key_list
        for arg in [*(columns or []), *args]:
            self.add(arg)

    @property
    def primaryKeyColumns(self) -> PrimaryKeyList:
        """The primary key; empty when the table has none."""
        if self._primaryKeyList is not None:
            return self._primaryKeyList
        return PrimaryKeyList([c.name for c in self.columns.values() if c._isPrimaryKey()])

    def add(self, arg: DDLColumn | PrimaryKeyList | PartitionKeyList | Documentation) -> None:
        """Add a column, or set another attribute by its type.

        Raises:
            ObjectAlreadyExistsException: There is a column of that name.
            AttributeAlreadySetException: There is a key list already.
        """
        match arg:
            case DDLColumn():
                if arg.name in self.columns:
                    raise ObjectAlreadyExistsException(
                        f"The table already has a column '{arg.name}'."
                    )
                self.columns[arg.name] = arg
            case PartitionKeyList():
                if self.ingestionPartitionColumns is not None:
                    raise AttributeAlreadySetException("partition_key_list")
                self.ingestionPartitionColumns = arg
            case PrimaryKeyList():
                if self._primaryKeyList is not None:
                    raise AttributeAlreadySetException("primary_key_list")
                self._primaryKeyList = arg
            case Documentation():
                self.documentation = arg
            case _:
                raise TypeError(f"A DDLTable takes no {type(arg).__name__}.")

    def lint(self, tree: ValidationTree) -> None:
        """Add the problems of the table and of its columns to `tree`."""
        if not self.columns:
            tree.addProblem("The table has no columns.")
        for column in self.columns.values():
            column.lint(tree.addSubTree(column))
        for keyList in (self.primaryKeyColumns, self.ingestionPartitionColumns):
            for name in keyList.colNames if keyList is not None else []:
                if name not in self.columns:
                    tree.addProblem(f"The key column '{name}' is not a column of the table.")

    def to_json(self) -> dict[str, Any]:
        partition = self.ingestionPartitionColumns
        return (
            super().to_json()
            | {
                "columns": [c.to_json() for c in self.columns.values()],
                "primaryKeyColumns": self.primaryKeyColumns.to_json(),
                "ingestionPartitionColumns": None if partition is None else partition.to_json(),
            }
            | self.documentationJson()
        )
