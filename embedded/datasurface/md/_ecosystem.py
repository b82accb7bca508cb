"""The ecosystem: the whole model, and what can be looked up in it."""

from abc import abstractmethod
from typing import Any

from datasurface.md._datastore import Dataset
from datasurface.md._mapping import DatasetGroupDataPlatformMapping, readMappings
from datasurface.md._platform import DataPlatform, DefaultDataPlatform
from datasurface.md._team import (
    DatastoreCacheEntry,
    GovernanceZone,
    GovernanceZoneDeclaration,
    Team,
    TeamCacheEntry,
    WorkspaceCacheEntry,
)
from datasurface.md.documentation import Documentable, Documentation
from datasurface.md.exceptions import (
    AttributeAlreadySetException,
    ObjectAlreadyExistsException,
    ObjectDoesntExistException,
)
from datasurface.md.keys import (
    EcosystemKey,
    GovernanceZoneKey,
    LocationKey,
    TeamDeclarationKey,
)
from datasurface.md.lint import (
    NamedObject,
    UnknownObjectReference,
    UserDSLObject,
    ValidationTree,
)
from datasurface.md.repo import Repository
from datasurface.md.vendor import InfrastructureLocation, InfrastructureVendor

__all__ = ["Ecosystem"]


class ServicesProvider(UserDSLObject):
    """Runs the services that several data platforms share, as far as an ecosystem asks for it."""

    @abstractmethod
    def lint(self, eco: "Ecosystem", tree: ValidationTree) -> None:
        """Add the problems of the provider, and of what its platforms serve, to `tree`."""


class Ecosystem(NamedObject, Documentable):
    """The whole model of a data estate.

    Args:
        name: Name of the ecosystem.
        repo: The repository in which the model is edited.
        *args: The other attributes by type, instead of by keyword.
        platform_services_provider: Who runs the services that the platforms share.
        data_platforms: The data platforms.
        documentation: Description.
        default_data_platform: The platform used where none is asked for.
        infrastructure_vendors: Where infrastructure may be.
        governance_zone_declarations: The parts it is governed in.
        liveRepo: The repository from which jobs read the model; `repo` unless given, as in the
            releases before 0.0.38.

    Raises:
        ObjectAlreadyExistsException: Two platforms, vendors or zones have the same name.
        TypeError: Attributes are given both by type and by keyword.
    """

    def __init__(
        self,
        name: str,
        repo: Repository,
        *args: "ServicesProvider | DataPlatform | DefaultDataPlatform "
        "| InfrastructureVendor | GovernanceZoneDeclaration | Documentation",
        platform_services_provider: ServicesProvider | None = None,
        data_platforms: list[DataPlatform] | None = None,
        documentation: Documentation | None = None,
        default_data_platform: DefaultDataPlatform | None = None,
        infrastructure_vendors: list[InfrastructureVendor] | None = None,
        governance_zone_declarations: list[GovernanceZoneDeclaration] | None = None,
        liveRepo: Repository | None = None,
    ) -> None:
        NamedObject.__init__(self, name)
        Documentable.__init__(self, None)
        self.owningRepo = repo
        self.liveRepo = liveRepo
        self.key = EcosystemKey(name)
        self.zones: dict[str, GovernanceZone] = {}
        self.zoneDeclarations: dict[str, GovernanceZoneDeclaration] = {}
        self.vendors: dict[str, InfrastructureVendor] = {}
        self.dataPlatforms: dict[str, DataPlatform] = {}
        self.defaultDataPlatform: DefaultDataPlatform | None = None
        self.platformServicesProvider: ServicesProvider | None = None
        self.dsgPlatformMappings: dict[str, DatasetGroupDataPlatformMapping] = {}
        self.resetCaches()
        keywords = [
            *(data_platforms or []),
            *(infrastructure_vendors or []),
            *(governance_zone_declarations or []),
            *filter(None, [platform_services_provider, documentation, default_data_platform]),
        ]
        if args and keywords:
            raise TypeError(
                f"{self}: give its parts either by position or by keyword, not both; "
                "DataSurface ignores the keywords when there are positional ones."
            )
        self.add(*args, *keywords)

    def resetCaches(self) -> None:
        """Forget what linting found."""
        self.workSpaceCache: dict[str, WorkspaceCacheEntry] = {}
        self.datastoreCache: dict[str, DatastoreCacheEntry] = {}
        self.teamCache: dict[str, TeamCacheEntry] = {}

    def add(self, *args: object) -> None:
        """Add platforms, vendors and zone declarations, or set other attributes by type.

        Raises:
            ObjectAlreadyExistsException: There is a platform, vendor or zone of that name.
            AttributeAlreadySetException: There is a provider or a default platform already.
        """
        for arg in args:
            match arg:
                case DataPlatform():
                    self._addNamed(self.dataPlatforms, arg.name, arg)
                case InfrastructureVendor():
                    self._addNamed(self.vendors, arg.name, arg)
                case GovernanceZoneDeclaration():
                    self._addNamed(self.zoneDeclarations, arg.name, arg)
                case DefaultDataPlatform():
                    if self.defaultDataPlatform is not None:
                        raise AttributeAlreadySetException("default_data_platform")
                    self.defaultDataPlatform = arg
                case ServicesProvider():
                    if self.platformServicesProvider is not None:
                        raise AttributeAlreadySetException("platform_services_provider")
                    self.platformServicesProvider = arg
                case Documentation():
                    self.documentation = arg
                case _:
                    raise TypeError(f"{self} takes no {type(arg).__name__}.")

    def _addNamed(self, known: dict[str, Any], name: str, obj: object) -> None:
        if name in known:
            raise ObjectAlreadyExistsException(f"{self} already has {obj}.")
        known[name] = obj

    def getZone(self, name: str) -> GovernanceZone | None:
        """Return the declared zone `name`, or None; the first call makes it."""
        declaration = self.zoneDeclarations.get(name)
        if declaration is None:
            return None
        return self.zones.setdefault(name, GovernanceZone(name, declaration.authRepo))

    def getZoneOrThrow(self, name: str) -> GovernanceZone:
        """Return the declared zone `name`; the first call makes it.

        Raises:
            ObjectDoesntExistException: No such zone is declared.
        """
        zone = self.getZone(name)
        if zone is None:
            raise ObjectDoesntExistException(f"{self} declares no governance zone '{name}'.")
        return zone

    def getTeam(self, gz: str, team: str) -> Team | None:
        """Return the declared team `team` of the zone `gz`, or None."""
        zone = self.getZone(gz)
        return None if zone is None else zone.getTeam(team)

    def getTeamOrThrow(self, gz: str, team: str) -> Team:
        """Return the declared team `team` of the zone `gz`.

        Raises:
            ObjectDoesntExistException: No such zone or team is declared.
        """
        return self.getZoneOrThrow(gz).getTeamOrThrow(team)

    def getDataPlatform(self, name: str) -> DataPlatform | None:
        """Return the data platform `name`, or None."""
        return self.dataPlatforms.get(name)

    def getDataPlatformOrThrow(self, name: str) -> DataPlatform:
        """Return the data platform `name`.

        Raises:
            ObjectDoesntExistException: There is none.
        """
        platform = self.getDataPlatform(name)
        if platform is None:
            known = ", ".join(sorted(self.dataPlatforms)) or "none"
            raise ObjectDoesntExistException(
                f"{self} has no data platform '{name}'; it has: {known}."
            )
        return platform

    def checkDataPlatformExists(self, dp: DataPlatform) -> bool:
        """Tell whether `dp` is one of the ecosystem's platforms."""
        return self.dataPlatforms.get(dp.name) == dp

    def getLocation(self, key: LocationKey) -> InfrastructureLocation | None:
        """Return the location that `key` names, or None when it is unknown or malformed."""
        try:
            vendorName, path = key.parseToVendorAndLocations()
        except ValueError:
            return None
        vendor = self.vendors.get(vendorName)
        return None if vendor is None else vendor.getLocation(path)

    def cache_getDatastore(self, name: str) -> DatastoreCacheEntry | None:
        """Return the datastore `name` and its team, or None; needs a linted model."""
        return self.datastoreCache.get(name)

    def cache_getDatastoreOrThrow(self, name: str) -> DatastoreCacheEntry:
        """Return the datastore `name` and its team; needs a linted model.

        Raises:
            ObjectDoesntExistException: There is none.
        """
        entry = self.cache_getDatastore(name)
        if entry is None:
            raise ObjectDoesntExistException(f"{self} has no datastore '{name}'.")
        return entry

    def cache_getWorkspace(self, name: str) -> WorkspaceCacheEntry | None:
        """Return the workspace `name` and its team, or None; needs a linted model."""
        return self.workSpaceCache.get(name)

    def cache_getWorkspaceOrThrow(self, name: str) -> WorkspaceCacheEntry:
        """Return the workspace `name` and its team; needs a linted model.

        Raises:
            ObjectDoesntExistException: There is none.
        """
        entry = self.cache_getWorkspace(name)
        if entry is None:
            raise ObjectDoesntExistException(f"{self} has no workspace '{name}'.")
        return entry

    def cache_getDataset(self, store: str, ds: str) -> Dataset | None:
        """Return the dataset `ds` of the datastore `store`, or None; needs a linted model."""
        entry = self.cache_getDatastore(store)
        return None if entry is None else entry.datastore.datasets.get(ds)

    def checkAllRepositoriesInEcosystem(
        self, tree: ValidationTree, types: list[type[Repository]]
    ) -> None:
        """Add a problem to `tree` for each repository that is of none of the `types`."""
        owners: list[tuple[object, Repository]] = [(self, repo) for repo in self._repositories()]
        for zone in self.zones.values():
            owners.append((zone, zone.owningRepo))
            owners += [(team, team.owningRepo) for team in zone.teams.values()]
        names = ", ".join(t.__name__ for t in types)
        for owner, repo in owners:
            if not isinstance(repo, tuple(types)):
                tree.addProblem(f"The repository of {owner} is {repo}; supported: {names}.")

    def hydrateDSGDataPlatformMappings(self, jsonFile: str, tree: ValidationTree) -> None:
        """Replace the assignments of dataset groups to platforms by those in a file.

        Args:
            jsonFile: Path of the file.
            tree: Where its problems go.
        """
        self.dsgPlatformMappings = readMappings(self, jsonFile, tree)

    def getDSGPlatformMapping(self, ws: str, dsg: str) -> DatasetGroupDataPlatformMapping | None:
        """Return the platforms that serve the dataset group `dsg` of `ws`, or None."""
        return self.dsgPlatformMappings.get(f"{ws}#{dsg}")

    def lintAndHydrateCaches(self) -> ValidationTree:
        """Check the whole model and fill the caches.

        Returns:
            The problems; none when the tree has neither problems nor subtrees.
        """
        tree = ValidationTree(self)
        self.resetCaches()
        self._fillCaches(tree)
        self.nameLint(tree)
        for repo in self._repositories():
            repo.lint(tree.addSubTree(repo))
        for zone in self.zones.values():
            zone.lint(self, tree.addSubTree(zone))
        for vendor in self.vendors.values():
            vendor.lint(tree.addSubTree(vendor))
        for platform in self.dataPlatforms.values():
            platform.lint(self, tree.addSubTree(platform))
        for entry in self.workSpaceCache.values():
            entry.workspace.lint(self, tree.addSubTree(entry.workspace))
        self._lintDefaultPlatform(tree)
        provider = self.platformServicesProvider
        if provider is not None and not tree.hasErrors():
            provider.lint(self, tree.addSubTree(provider))
        tree.prune()
        return tree

    def to_json(self) -> dict[str, Any]:
        provider, default = self.platformServicesProvider, self.defaultDataPlatform
        return (
            super().to_json()
            | {
                "owningRepo": self.owningRepo.to_json(),
                "liveRepo": None if self.liveRepo is None else self.liveRepo.to_json(),
                "zones": [zone.to_json() for zone in self.zones.values()],
                "vendors": [vendor.to_json() for vendor in self.vendors.values()],
                "dataPlatforms": [dp.to_json() for dp in self.dataPlatforms.values()],
                "defaultDataPlatform": None if default is None else default.to_json(),
                "platformServicesProvider": None if provider is None else provider.to_json(),
            }
            | self.documentationJson()
        )

    def _repositories(self) -> list[Repository]:
        return [self.owningRepo, *([] if self.liveRepo is None else [self.liveRepo])]

    def _fillCaches(self, tree: ValidationTree) -> None:
        for zone in self.zones.values():
            for team in zone.teams.values():
                team._setKey(TeamDeclarationKey(GovernanceZoneKey(self.key, zone.name), team.name))
                self.teamCache[f"{zone.name}/{team.name}"] = TeamCacheEntry(team, zone)
                for store in team.dataStores.values():
                    if store.name in self.datastoreCache:
                        tree.addProblem(f"Two teams have a datastore '{store.name}'.")
                    self.datastoreCache[store.name] = DatastoreCacheEntry(store, team)
                for workspace in team.workspaces.values():
                    if workspace.name in self.workSpaceCache:
                        tree.addProblem(f"Two teams have a workspace '{workspace.name}'.")
                    self.workSpaceCache[workspace.name] = WorkspaceCacheEntry(workspace, team)

    def _lintDefaultPlatform(self, tree: ValidationTree) -> None:
        default = self.defaultDataPlatform
        if default is not None and self.getDataPlatform(default.defaultPlatform.name) is None:
            tree.addRaw(UnknownObjectReference(f"the default {default.defaultPlatform}"))
