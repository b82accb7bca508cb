"""Code that a model refers to."""

from typing import Any

from datasurface.md.lint import UserDSLObject
from datasurface.md.repo import GitHubRepository

__all__ = ["CodeArtifact", "PythonRepoCodeArtifact"]


class CodeArtifact(UserDSLObject):
    """A piece of code that a data transformer runs."""


class PythonRepoCodeArtifact(CodeArtifact):
    """Python code in a repository.

    Args:
        repo: The repository.
        version: Its version.
    """

    def __init__(self, repo: GitHubRepository, version: str) -> None:
        super().__init__()
        self.repo = repo
        self.version = version

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"repo": self.repo.to_json(), "version": self.version}
