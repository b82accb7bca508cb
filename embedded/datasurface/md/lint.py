"""Problems that linting finds in a model, and the tree that collects them."""

from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Any

from datasurface.md.json import JSONable
from datasurface.md.utils import is_valid_sql_identifier, model_source_location

__all__ = [
    "ANSI_SQL_NamedObject",
    "AttributeNotSet",
    "ConstraintViolation",
    "NameMustBeSQLIdentifier",
    "NamedObject",
    "NotCoveredByEmbedded",
    "NotCoveredProblem",
    "ObjectMissing",
    "ObjectNotSupportedByDataPlatform",
    "ObjectWrongType",
    "ProblemSeverity",
    "UnknownObjectReference",
    "UserDSLObject",
    "ValidationProblem",
    "ValidationTree",
    "lintCoverage",
    "lintName",
]


class ProblemSeverity(Enum):
    """How serious a problem is; only errors make a model unusable."""

    ERROR = 0
    WARNING = 1
    INFO = 2


class ValidationProblem:
    """One finding about an object of the model.

    Args:
        desc: What is wrong, as a full sentence.
        sev: How serious it is.
    """

    def __init__(self, desc: str, sev: ProblemSeverity = ProblemSeverity.ERROR) -> None:
        self.description = desc
        self.sev = sev

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ValidationProblem)
            and type(self) is type(other)
            and (self.description, self.sev) == (other.description, other.sev)
        )

    def __hash__(self) -> int:
        return hash((self.description, self.sev))

    def __str__(self) -> str:
        return f"{self.sev.name}: {self.description}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.description!r}, {self.sev})"


class UnknownObjectReference(ValidationProblem):
    """The model refers to an object that it does not define."""

    def __init__(self, obj: object, sev: ProblemSeverity = ProblemSeverity.ERROR) -> None:
        super().__init__(f"The model refers to an unknown object: {obj}.", sev)


class AttributeNotSet(ValidationProblem):
    """A required attribute has no value."""

    def __init__(self, key: str) -> None:
        super().__init__(f"The attribute '{key}' is not set.")


class ObjectWrongType(ValidationProblem):
    """An object is of another type than its place asks for."""

    def __init__(
        self, obj: object, type_: type, sev: ProblemSeverity = ProblemSeverity.ERROR
    ) -> None:
        super().__init__(f"{obj} is a {type(obj).__name__}, not a {type_.__name__}.", sev)


class ObjectMissing(ValidationProblem):
    """A container lacks an object that it has to have."""

    def __init__(
        self, container: object, missing: object, sev: ProblemSeverity = ProblemSeverity.ERROR
    ) -> None:
        super().__init__(f"{container} has no {missing}.", sev)


class ObjectNotSupportedByDataPlatform(ValidationProblem):
    """A data platform cannot work with an object of the model."""

    def __init__(
        self,
        obj: object,
        types: Iterable[type],
        sev: ProblemSeverity = ProblemSeverity.ERROR,
    ) -> None:
        names = ", ".join(sorted(t.__name__ for t in types))
        super().__init__(f"The data platform does not support {obj}; it supports {names}.", sev)


class ConstraintViolation(ValidationProblem):
    """The model breaks a rule that spans several objects."""

    def __init__(self, obj: object, sev: ProblemSeverity = ProblemSeverity.ERROR) -> None:
        super().__init__(str(obj), sev)


class NameMustBeSQLIdentifier(ValidationProblem):
    """A name cannot be used for a table or column."""

    def __init__(self, name: str, sev: ProblemSeverity = ProblemSeverity.ERROR) -> None:
        super().__init__(
            f"The name '{name}' is not an SQL identifier: use a letter, then up to 127 letters, "
            "digits or underscores, and no reserved word.",
            sev,
        )


class NotCoveredProblem(ValidationProblem):
    """The model uses a part of DataSurface that the embedded DataSurface does not have."""

    def __init__(self, what: str, alternative: str, coveredByReal: bool = True) -> None:
        real = (
            ", or install the real DataSurface in its place"
            if coveredByReal
            else "; the real Yellow platform refuses it too"
        )
        super().__init__(f"The embedded DataSurface does not cover {what}: {alternative}{real}.")


class NotCoveredByEmbedded:
    """Marks a class that models may name and that lint refuses.

    Subclasses set `coveredAlternative` to what to do instead, as an imperative clause, and
    `coveredByReal` to whether the Yellow platform of the real DataSurface takes it.
    """

    coveredAlternative = "leave it out"
    coveredByReal = True


class UserDSLObject(JSONable):
    """An object that a model author writes; it remembers where.

    Args:
        filename: File of the model, where known. Taken from the caller otherwise.
        linenumber: Line in that file.
    """

    def __init__(self, filename: str | None = None, linenumber: int | None = None) -> None:
        here = model_source_location()
        self.filename = filename if filename is not None else here[0]
        self.linenumber = linenumber if linenumber is not None else here[1]

    def getSourceReferenceString(self) -> str:
        """Return the object and its place in the model, for people to read."""
        return f"{self} at {self.filename}:{self.linenumber}"

    def to_json(self) -> dict[str, Any]:
        return super().to_json()

    def __str__(self) -> str:
        name = getattr(self, "name", None)
        return type(self).__name__ if name is None else f"{type(self).__name__}({name})"


class ANSI_SQL_NamedObject(UserDSLObject):  # noqa: N801 (name of the public API)
    """A model object whose name becomes part of table or column names."""

    def __init__(
        self, name: str, filename: str | None = None, linenumber: int | None = None
    ) -> None:
        super().__init__(filename, linenumber)
        self.name = name

    def nameLint(self, tree: "ValidationTree") -> None:
        """Add a problem to `tree` when the name is no SQL identifier."""
        lintName(self.name, tree)

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"name": self.name}


class NamedObject(UserDSLObject):
    """A model object with a name that need not be an SQL identifier.

    Args:
        name: The name.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def nameLint(self, tree: "ValidationTree") -> None:
        """Add a problem to `tree` when the name is empty."""
        if not self.name.strip():
            tree.addProblem(f"The name of the {type(self).__name__} is empty.")

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"name": self.name}


class ValidationTree:
    """The problems of one object, with a subtree for each object below it.

    Args:
        obj: The object that the problems are about.
    """

    def __init__(self, obj: object) -> None:
        self.object = obj
        self.children: list[ValidationTree] = []
        self.problems: list[ValidationProblem] = []

    def addSubTree(self, obj: object) -> "ValidationTree":
        """Add and return an empty tree for `obj` below this one."""
        child = ValidationTree(obj)
        self.children.append(child)
        return child

    def addProblem(self, text: str, sev: ProblemSeverity = ProblemSeverity.ERROR) -> None:
        """Add a problem that has no class of its own."""
        self.addRaw(ValidationProblem(text, sev))

    def addRaw(self, problem: ValidationProblem) -> None:
        """Add `problem` to this object."""
        self.problems.append(problem)

    def getProblems(self) -> list[ValidationProblem]:
        """Return the problems of this object itself, without those of the objects below it."""
        return self.problems

    def getErrors(self) -> Iterator[ValidationProblem]:
        """Yield the errors of this object and of those below it."""
        return (p for p in self._walk() if p.sev is ProblemSeverity.ERROR)

    def getWarnings(self) -> Iterator[ValidationProblem]:
        """Yield the warnings of this object and of those below it."""
        return (p for p in self._walk() if p.sev is ProblemSeverity.WARNING)

    def hasErrors(self) -> bool:
        """Tell whether there is an error here or below."""
        return any(True for _ in self.getErrors())

    def hasWarnings(self) -> bool:
        """Tell whether there is a warning here or below."""
        return any(True for _ in self.getWarnings())

    def containsProblemType(self, cls: type[ValidationProblem]) -> bool:
        """Tell whether there is a problem of class `cls` here or below."""
        return bool(self.findMatchingProblems(lambda problem: isinstance(problem, cls)))

    def findMatchingProblems(
        self, fn: Callable[[ValidationProblem], bool]
    ) -> list[ValidationProblem]:
        """Return the problems here and below for which `fn` is true."""
        return [p for p in self._walk() if fn(p)]

    def prune(self) -> None:
        """Drop the subtrees that hold no problem."""
        for child in self.children:
            child.prune()
        self.children = [c for c in self.children if c.children or c.problems]

    def toText(self, indent: int = 0) -> str:
        """Return the tree for people to read, one line for each object and problem.

        Args:
            indent: How many spaces to put in front of the first line.
        """
        return "\n".join(self._lines(indent))

    def printTree(self, indent: int = 0) -> None:
        """Print the tree on standard output, see `toText`."""
        print(self.toText(indent))

    def _walk(self) -> Iterator[ValidationProblem]:
        yield from self.problems
        for child in self.children:
            yield from child._walk()

    def _lines(self, indent: int) -> Iterator[str]:
        describe = getattr(self.object, "getSourceReferenceString", self.object.__str__)
        yield " " * indent + describe()
        for problem in self.problems:
            yield " " * (indent + 2) + str(problem)
        for child in self.children:
            yield from child._lines(indent + 2)


def lintName(name: str, tree: ValidationTree) -> None:
    """Add a problem to `tree` when `name` is no SQL identifier."""
    if not is_valid_sql_identifier(name):
        tree.addRaw(NameMustBeSQLIdentifier(name))


def lintCoverage(obj: object, tree: ValidationTree) -> None:
    """Add a problem to `tree` when the embedded DataSurface does not cover `obj`."""
    if isinstance(obj, NotCoveredByEmbedded):
        tree.addRaw(NotCoveredProblem(str(obj), obj.coveredAlternative, obj.coveredByReal))
