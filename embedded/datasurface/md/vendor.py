"""Infrastructure vendors and their locations."""

from enum import Enum
from typing import Any, Protocol

from datasurface.md.documentation import Documentable, Documentation
from datasurface.md.exceptions import ObjectAlreadyExistsException
from datasurface.md.keys import LocationKey
from datasurface.md.lint import UserDSLObject, ValidationTree

__all__ = ["CloudVendor", "InfrastructureLocation", "InfrastructureVendor"]


class CloudVendor(Enum):
    """Known vendors of infrastructure."""

    AWS = 0
    AZURE = 1
    GCP = 2
    IBM = 3
    ORACLE = 4
    ALIBABA = 5
    AWS_CHINA = 6
    TEN_CENT = 7
    HUAWEI = 8
    AZURE_CHINA = 9
    PRIVATE = 10


class _LocationParent(UserDSLObject, Documentable):
    """What has locations below it."""

    def __init__(self, name: str, documentation: Documentation | None) -> None:
        UserDSLObject.__init__(self)
        Documentable.__init__(self, documentation)
        self.name = name
        self.locations: dict[str, InfrastructureLocation] = {}

    def getLocation(self, path: list[str]) -> "InfrastructureLocation | None":
        """Return the location at `path`, from wide to narrow, or None."""
        first = self.locations.get(path[0])
        return first if first is None or len(path) == 1 else first.getLocation(path[1:])

    def lint(self, tree: ValidationTree) -> None:
        """Add the problems of this and of the locations below it to `tree`."""
        if not self.name or set(self.name) & set(":/"):
            tree.addProblem(f"The name '{self.name}' is empty or contains ':' or '/'.")
        for location in self.locations.values():
            location.lint(tree.addSubTree(location))

    def to_json(self) -> dict[str, Any]:
        locations = [x.to_json() for x in self.locations.values()]
        return (
            super().to_json()
            | {"name": self.name, "locations": locations}
            | self.documentationJson()
        )

    def _addLocation(self, location: "InfrastructureLocation") -> None:
        if location.name in self.locations:
            raise ObjectAlreadyExistsException(f"{self} already has a {location}.")
        self.locations[location.name] = location


class InfrastructureLocation(_LocationParent):
    """A place of a vendor, such as a region, with places below it.

    Args:
        name: Name within its parent.
        *args: Locations and documentation by type, instead of by keyword.
        locations: Places below it.
        documentation: Description.

    Raises:
        ObjectAlreadyExistsException: Two places below it have the same name.
    """

    def __init__(
        self,
        name: str,
        *args: "InfrastructureLocation | Documentation",
        locations: "list[InfrastructureLocation] | None" = None,
        documentation: Documentation | None = None,
    ) -> None:
        super().__init__(name, documentation)
        for arg in [*(locations or []), *args]:
            self.add(arg)

    def add(self, *args: "InfrastructureLocation | Documentation") -> None:
        """Add places below this one, or set the documentation."""
        for arg in args:
            match arg:
                case InfrastructureLocation():
                    self._addLocation(arg)
                case Documentation():
                    self.documentation = arg
                case _:
                    raise TypeError(f"{self} takes no {type(arg).__name__}.")


class InfrastructureVendor(_LocationParent):
    """A vendor of infrastructure.

    Args:
        name: Name in the ecosystem.
        *args: The other attributes by type, instead of by keyword.
        locations: Its places.
        documentation: Description.
        cloud_vendor: Which known vendor it is, if any.

    Raises:
        ObjectAlreadyExistsException: Two places have the same name.
    """

    def __init__(
        self,
        name: str,
        *args: InfrastructureLocation | CloudVendor | Documentation,
        locations: list[InfrastructureLocation] | None = None,
        documentation: Documentation | None = None,
        cloud_vendor: CloudVendor | None = None,
    ) -> None:
        super().__init__(name, documentation)
        self.hardCloudVendor = cloud_vendor
        for arg in [*(locations or []), *args]:
            self.add(arg)

    def add(self, *args: InfrastructureLocation | CloudVendor | Documentation) -> None:
        """Add places, or set another attribute by its type."""
        for arg in args:
            match arg:
                case InfrastructureLocation():
                    self._addLocation(arg)
                case CloudVendor():
                    self.hardCloudVendor = arg
                case Documentation():
                    self.documentation = arg
                case _:
                    raise TypeError(f"{self} takes no {type(arg).__name__}.")

    def to_json(self) -> dict[str, Any]:
        vendor = self.hardCloudVendor
        return super().to_json() | {"cloudVendor": None if vendor is None else vendor.name}


class LocationDirectory(Protocol):
    """An ecosystem, for the objects in it that name places."""

    def getLocation(self, key: LocationKey) -> InfrastructureLocation | None:
        """Return the location that `key` names, or None when it is unknown or malformed."""
