"""Credentials by name, and the stores that hold their values."""

from abc import abstractmethod
from enum import Enum
from typing import Any

from datasurface.md.keys import LocationKey
from datasurface.md.lint import ProblemSeverity, UserDSLObject, ValidationProblem, ValidationTree

__all__ = [
    "Credential",
    "CredentialNotAvailableException",
    "CredentialNotAvailableProblem",
    "CredentialStore",
    "CredentialType",
    "CredentialTypeNotSupportedProblem",
]


class CredentialType(Enum):
    """What a credential consists of."""

    API_KEY_PAIR = 0
    USER_PASSWORD = 1
    CLIENT_CERT_WITH_KEY = 2
    CA_CERT_BUNDLE = 3
    API_TOKEN = 4


class Credential(UserDSLObject):
    """Names a credential; its values live in a credential store, never in a model.

    Args:
        name: Name under which the store knows it.
        credentialType: What it consists of.
    """

    def __init__(self, name: str, credentialType: CredentialType) -> None:
        super().__init__()
        self.name = name
        self.credentialType = credentialType

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Credential) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __str__(self) -> str:
        return f"Credential({self.name}, {self.credentialType.name})"

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {
            "name": self.name,
            "credentialType": self.credentialType.name,
        }

    def _identity(self) -> tuple[str, CredentialType]:
        return self.name, self.credentialType


class CredentialNotAvailableException(Exception):  # noqa: N818 (name of the public API)
    """A credential's value cannot be had.

    Attributes:
        cred: The credential.
        issue: Why, as the store says it.
    """

    def __init__(self, cred: Credential, issue: str) -> None:
        super().__init__(f"The credential '{cred.name}' is not available: {issue}")
        self.cred = cred
        self.issue = issue


class CredentialNotAvailableProblem(ValidationProblem):
    """A credential that the model names has no value in the store."""

    def __init__(
        self, cred: Credential, issue: str, sev: ProblemSeverity = ProblemSeverity.ERROR
    ) -> None:
        super().__init__(f"The credential '{cred.name}' is not available: {issue}", sev)


class CredentialTypeNotSupportedProblem(ValidationProblem):
    """A credential is of a type that does not work in its place."""

    def __init__(
        self,
        cred: Credential,
        types: "list[CredentialType] | set[CredentialType]",
        sev: ProblemSeverity = ProblemSeverity.ERROR,
    ) -> None:
        names = ", ".join(sorted(t.name for t in types))
        super().__init__(
            f"The credential '{cred.name}' is of type {cred.credentialType.name}; "
            f"supported here: {names}.",
            sev,
        )


class CredentialStore(UserDSLObject):
    """Where the values of credentials come from.

    Args:
        name: Name of the store.
        locs: Where it is.
    """

    def __init__(self, name: str, locs: set[LocationKey]) -> None:
        super().__init__()
        self.name = name
        self.locs = locs

    @abstractmethod
    def checkCredentialIsAvailable(self, cred: Credential, tree: ValidationTree) -> None:
        """Add a problem to `tree` when the value of `cred` cannot be had."""

    @abstractmethod
    def getAsUserPassword(self, cred: Credential) -> tuple[str, str]:
        """Return user and password of `cred`.

        Raises:
            CredentialNotAvailableException: The store has no such value.
        """

    @abstractmethod
    def getAsPublicPrivateCertificate(self, cred: Credential) -> tuple[str, str, str]:
        """Return public part, private part and password of `cred`.

        Raises:
            CredentialNotAvailableException: The store has no such value.
        """

    @abstractmethod
    def getAsToken(self, cred: Credential) -> str:
        """Return the token of `cred`.

        Raises:
            CredentialNotAvailableException: The store has no such value.
        """

    @abstractmethod
    def lintCredential(self, cred: Credential, tree: ValidationTree) -> None:
        """Add a problem to `tree` when this store could never hold `cred`."""

    def lint(self, tree: ValidationTree) -> None:
        """Add the problems of the store itself to `tree`."""
        if not self.name:
            tree.addProblem("Name is empty")
        for loc in sorted(self.locs, key=str):
            loc.lint(tree.addSubTree(loc))

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"name": self.name, "locs": sorted(map(str, self.locs))}
