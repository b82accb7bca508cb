"""Keys by which model objects refer to each other."""

from dataclasses import dataclass

from datasurface.md.lint import ValidationTree

__all__ = [
    "DataPlatformKey",
    "DatastoreKey",
    "EcosystemKey",
    "GovernanceZoneKey",
    "LocationKey",
    "TeamDeclarationKey",
    "WorkspaceKey",
]


@dataclass(frozen=True)
class LocationKey:
    """Names a place, such as "AWS:us-east-1/az1": vendor, colon, locations from wide to narrow."""

    locStr: str

    def parseToVendorAndLocations(self) -> tuple[str, list[str]]:
        """Split the key.

        Returns:
            The vendor and the locations below it, from wide to narrow.

        Raises:
            ValueError: The key has not the form "vendor:location/location".
        """
        vendor, colon, path = self.locStr.partition(":")
        locations = path.split("/")
        if not (vendor and colon and all(locations)):
            raise ValueError(
                f"The location '{self.locStr}' has not the form 'vendor:location/location'."
            )
        return vendor, locations

    def lint(self, tree: ValidationTree) -> None:
        """Add a problem to `tree` when the key is malformed."""
        try:
            self.parseToVendorAndLocations()
        except ValueError as e:
            tree.addProblem(str(e))

    def __str__(self) -> str:
        return self.locStr


@dataclass(frozen=True)
class DataPlatformKey:
    """Names a data platform of the ecosystem."""

    name: str

    def __str__(self) -> str:
        return f"DataPlatform({self.name})"


@dataclass(frozen=True)
class EcosystemKey:
    """Names an ecosystem."""

    ecoName: str

    def __str__(self) -> str:
        return f"Ecosystem({self.ecoName})"


@dataclass(frozen=True)
class GovernanceZoneKey:
    """Names a governance zone within its ecosystem."""

    ecosystem: EcosystemKey
    gzName: str

    def __str__(self) -> str:
        return f"GovernanceZone({self.gzName})"


@dataclass(frozen=True)
class TeamDeclarationKey:
    """Names a team within its governance zone."""

    zone: GovernanceZoneKey
    tdName: str

    def __str__(self) -> str:
        return f"Team({self.zone.gzName}/{self.tdName})"


@dataclass(frozen=True)
class DatastoreKey:
    """Names a datastore within its team."""

    team: TeamDeclarationKey
    dsName: str


@dataclass(frozen=True)
class WorkspaceKey:
    """Names a workspace within its team."""

    team: TeamDeclarationKey
    wsName: str
