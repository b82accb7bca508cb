"""Repositories that own parts of a model."""

import re
from typing import Any

from datasurface.md.credential import Credential
from datasurface.md.documentation import Documentable, Documentation
from datasurface.md.lint import UserDSLObject, ValidationTree

__all__ = [
    "FakeRepository",
    "GitHubRepository",
    "GitLabRepository",
    "GitRepository",
    "Repository",
]


class Repository(UserDSLObject, Documentable):
    """A place whose changes may change a part of the model."""

    def __init__(self, doc: Documentation | None = None) -> None:
        UserDSLObject.__init__(self)
        Documentable.__init__(self, doc)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Repository) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(str(self))

    def lint(self, tree: ValidationTree) -> None:
        """Add the problems of the repository to `tree`."""

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | self.documentationJson()


class FakeRepository(Repository):
    """A repository that stands in for a real one.

    Args:
        name: Any name.
    """

    def __init__(self, name: str, doc: Documentation | None = None) -> None:
        super().__init__(doc)
        self.name = name

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"name": self.name}


class GitRepository(Repository):
    """A branch of a git repository.

    Args:
        repo: "owner/name".
        branchName: The branch.
        doc: Description.
        credential: What reading it needs; None for a public repository.
    """

    def __init__(
        self,
        repo: str,
        branchName: str,
        doc: Documentation | None = None,
        credential: Credential | None = None,
    ) -> None:
        super().__init__(doc)
        self.repositoryName = repo
        self.branchName = branchName
        self.credential = credential

    def __str__(self) -> str:
        return f"{type(self).__name__}({self.repositoryName}, {self.branchName})"

    def lint(self, tree: ValidationTree) -> None:
        """Add a problem to `tree` when the name or the branch is malformed."""
        if not re.fullmatch(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+", self.repositoryName):
            tree.addProblem(
                f"The repository name '{self.repositoryName}' has not the form 'owner/name'."
            )
        if not re.fullmatch(r"[A-Za-z0-9_./-]+", self.branchName):
            tree.addProblem(f"The branch name '{self.branchName}' is empty or not a branch name.")

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {
            "repositoryName": self.repositoryName,
            "branchName": self.branchName,
            "credential": None if self.credential is None else self.credential.to_json(),
        }


class GitHubRepository(GitRepository):
    """A branch of a repository on GitHub."""


class GitLabRepository(GitRepository):
    """A branch of a repository on GitLab.

    Args:
        repoUrl: Address of the GitLab server.
        repo: "owner/name".
        branchName: The branch.
        doc: Description.
        credential: What reading it needs; None for a public repository.
    """

    def __init__(
        self,
        repoUrl: str,
        repo: str,
        branchName: str,
        doc: Documentation | None = None,
        credential: Credential | None = None,
    ) -> None:
        super().__init__(repo, branchName, doc, credential)
        self.repoUrl = repoUrl

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"repoUrl": self.repoUrl}
