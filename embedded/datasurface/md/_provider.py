"""Who runs the services that several data platforms share."""

from typing import Any

from datasurface.md._ecosystem import Ecosystem, ServicesProvider
from datasurface.md._graph import EcosystemPipelineGraph
from datasurface.md.credential import CredentialStore
from datasurface.md.keys import LocationKey
from datasurface.md.lint import ValidationTree

__all__ = ["PlatformServicesProvider"]


class PlatformServicesProvider(ServicesProvider):
    """Runs the services that several data platforms share.

    Args:
        name: Name of the provider.
        locs: Where it is.
        credStore: Where its credentials come from.
    """

    def __init__(self, name: str, locs: set[LocationKey], credStore: CredentialStore) -> None:
        super().__init__()
        self.name = name
        self.locs = locs
        self.credStore = credStore

    def lint(self, eco: Ecosystem, tree: ValidationTree) -> None:
        """Add the problems of the provider, and of what its platforms serve, to `tree`."""
        for loc in sorted(self.locs, key=str):
            if eco.getLocation(loc) is None:
                tree.addProblem(f"The location '{loc}' is not one of the ecosystem's.")
        self.credStore.lint(tree.addSubTree(self.credStore))
        EcosystemPipelineGraph(eco).lint(self.credStore, tree)

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {
            "name": self.name,
            "locs": sorted(map(str, self.locs)),
            "credStore": self.credStore.to_json(),
        }
