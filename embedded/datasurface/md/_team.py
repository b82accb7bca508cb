"""Governance zones and their teams."""

from dataclasses import dataclass
from typing import Any

from datasurface.md._containers import DataContainer
from datasurface.md._datastore import Datastore, DataTransformerOutput
from datasurface.md._workspace import Workspace
from datasurface.md.documentation import Documentable, Documentation
from datasurface.md.exceptions import ObjectAlreadyExistsException, ObjectDoesntExistException
from datasurface.md.keys import DatastoreKey, TeamDeclarationKey, WorkspaceKey
from datasurface.md.lint import NamedObject, UserDSLObject, ValidationTree
from datasurface.md.repo import Repository
from datasurface.md.vendor import LocationDirectory

__all__ = [
    "DatastoreCacheEntry",
    "GovernanceZone",
    "GovernanceZoneDeclaration",
    "Team",
    "TeamCacheEntry",
    "TeamDeclaration",
    "WorkspaceCacheEntry",
]


class _Declaration(UserDSLObject):
    """Says which repository may define an object of a given name."""

    def __init__(self, name: str, authRepo: Repository) -> None:
        super().__init__()
        self.name = name
        self.authRepo = authRepo

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"name": self.name, "authRepo": self.authRepo.to_json()}


class GovernanceZoneDeclaration(_Declaration):
    """Declares a governance zone and the repository that defines it.

    Args:
        name: Name of the zone.
        authRepo: The repository.
    """


class TeamDeclaration(_Declaration):
    """Declares a team and the repository that defines it.

    Args:
        name: Name of the team.
        authRepo: The repository.
    """


class Team(NamedObject, Documentable):
    """Owns datastores and workspaces.

    Args:
        name: Name, unique in its zone.
        repo: The repository that defines it.
        *args: The other attributes by type, instead of by keyword.
        datastores: The datastores it owns.
        workspaces: The workspaces it owns.
        documentation: Description.
        containers: Containers that its objects use.

    Raises:
        ObjectAlreadyExistsException: Two of its stores or workspaces have the same name.
    """

    def __init__(
        self,
        name: str,
        repo: Repository,
        *args: Datastore | Workspace | Documentation | DataContainer,
        datastores: list[Datastore] | None = None,
        workspaces: list[Workspace] | None = None,
        documentation: Documentation | None = None,
        containers: list[DataContainer] | None = None,
    ) -> None:
        NamedObject.__init__(self, name)
        Documentable.__init__(self, documentation)
        self.owningRepo = repo
        self.dataStores: dict[str, Datastore] = {}
        self.workspaces: dict[str, Workspace] = {}
        self.containers: dict[str, DataContainer] = {}
        self.key: TeamDeclarationKey | None = None
        self.add(*(datastores or []), *(workspaces or []), *(containers or []), *args)

    def add(self, *args: Datastore | Workspace | Documentation | DataContainer) -> None:
        """Add datastores, workspaces and containers, or set the documentation.

        Raises:
            ObjectAlreadyExistsException: There is one of that name.
        """
        for arg in args:
            match arg:
                case Datastore():
                    self.addStore(arg)
                case Workspace():
                    self.addWorkspace(arg)
                case DataContainer():
                    if arg.name in self.containers:
                        raise ObjectAlreadyExistsException(f"{self} already has {arg}.")
                    self.containers[arg.name] = arg
                case Documentation():
                    self.documentation = arg
                case _:
                    raise TypeError(f"{self} takes no {type(arg).__name__}.")

    def addStore(self, store: Datastore) -> None:
        """Add `store`.

        Raises:
            ObjectAlreadyExistsException: There is one of that name.
        """
        if store.name in self.dataStores:
            raise ObjectAlreadyExistsException(f"{self} already has {store}.")
        self.dataStores[store.name] = store

    def addWorkspace(self, workspace: Workspace) -> None:
        """Add `workspace`, and the store that its data transformer fills, if it has one.

        Raises:
            ObjectAlreadyExistsException: There is a workspace or a store of that name.
            AttributeAlreadySetException: The transformer's store says how it is captured.
        """
        if workspace.name in self.workspaces:
            raise ObjectAlreadyExistsException(f"{self} already has {workspace}.")
        self.workspaces[workspace.name] = workspace
        if workspace.dataTransformer is not None:
            store = workspace.dataTransformer.outputDatastore
            store.add(DataTransformerOutput(workspace.name))
            self.addStore(store)

    def lint(self, eco: LocationDirectory, tree: ValidationTree) -> None:
        """Add the problems of the team, its stores and its containers to `tree`."""
        self.nameLint(tree)
        self.owningRepo.lint(tree.addSubTree(self.owningRepo))
        for container in self.containers.values():
            container.lint(eco, tree.addSubTree(container))
        for store in self.dataStores.values():
            store.lint(eco, tree.addSubTree(store))

    def to_json(self) -> dict[str, Any]:
        return (
            super().to_json()
            | {
                "owningRepo": self.owningRepo.to_json(),
                "dataStores": [store.to_json() for store in self.dataStores.values()],
                "workspaces": [ws.to_json() for ws in self.workspaces.values()],
            }
            | self.documentationJson()
        )

    def _setKey(self, key: TeamDeclarationKey) -> None:
        self.key = key
        for store in self.dataStores.values():
            store.key = DatastoreKey(key, store.name)
        for workspace in self.workspaces.values():
            workspace.key = WorkspaceKey(key, workspace.name)


class GovernanceZone(NamedObject, Documentable):
    """A part of the ecosystem that one group governs.

    Args:
        name: Name, unique in the ecosystem.
        ownerRepo: The repository that defines it.
        *args: Team declarations and documentation.
    """

    def __init__(
        self, name: str, ownerRepo: Repository, *args: TeamDeclaration | Documentation
    ) -> None:
        NamedObject.__init__(self, name)
        Documentable.__init__(self, None)
        self.owningRepo = ownerRepo
        self.teams: dict[str, Team] = {}
        self.teamDeclarations: dict[str, TeamDeclaration] = {}
        self.add(*args)

    def add(self, *args: TeamDeclaration | Documentation) -> None:
        """Declare teams, or set the documentation.

        Raises:
            ObjectAlreadyExistsException: A team of that name is declared already.
        """
        for arg in args:
            match arg:
                case TeamDeclaration():
                    if arg.name in self.teamDeclarations:
                        raise ObjectAlreadyExistsException(f"{self} already has {arg}.")
                    self.teamDeclarations[arg.name] = arg
                case Documentation():
                    self.documentation = arg
                case _:
                    raise TypeError(f"{self} takes no {type(arg).__name__}.")

    def getTeam(self, name: str) -> Team | None:
        """Return the declared team `name`, or None; the first call makes it."""
        declaration = self.teamDeclarations.get(name)
        if declaration is None:
            return None
        return self.teams.setdefault(name, Team(name, declaration.authRepo))

    def getTeamOrThrow(self, name: str) -> Team:
        """Return the declared team `name`; the first call makes it.

        Raises:
            ObjectDoesntExistException: No such team is declared.
        """
        team = self.getTeam(name)
        if team is None:
            raise ObjectDoesntExistException(f"{self} declares no team '{name}'.")
        return team

    def lint(self, eco: LocationDirectory, tree: ValidationTree) -> None:
        """Add the problems of the zone and its teams to `tree`."""
        self.nameLint(tree)
        self.owningRepo.lint(tree.addSubTree(self.owningRepo))
        for team in self.teams.values():
            team.lint(eco, tree.addSubTree(team))

    def to_json(self) -> dict[str, Any]:
        return (
            super().to_json()
            | {
                "owningRepo": self.owningRepo.to_json(),
                "teams": [team.to_json() for team in self.teams.values()],
            }
            | self.documentationJson()
        )


@dataclass(frozen=True)
class TeamCacheEntry:
    """A team and its zone."""

    team: Team
    zone: GovernanceZone


@dataclass(frozen=True)
class DatastoreCacheEntry:
    """A datastore and the team that owns it."""

    datastore: Datastore
    team: Team


@dataclass(frozen=True)
class WorkspaceCacheEntry:
    """A workspace and the team that owns it."""

    workspace: Workspace
    team: Team
