"""Databases and other places that hold data."""

import hashlib
from typing import Any

from datasurface.md.credential import Credential
from datasurface.md.documentation import Documentable, Documentation
from datasurface.md.json import JSONable
from datasurface.md.keys import LocationKey
from datasurface.md.lint import (
    NotCoveredByEmbedded,
    UnknownObjectReference,
    UserDSLObject,
    ValidationTree,
    lintCoverage,
)
from datasurface.md.vendor import LocationDirectory

__all__ = [
    "DB2Database",
    "DataContainer",
    "DataContainerNamingMapper",
    "DataPlatformManagedDataContainer",
    "HostPortPair",
    "HostPortPairList",
    "HostPortSQLDatabase",
    "KafkaServer",
    "MySQLDatabase",
    "OracleDatabase",
    "PostgresDatabase",
    "SQLDatabase",
    "SQLServerDatabase",
]


class HostPortPair(JSONable):
    """A network address.

    Args:
        hostName: Host name or IP address.
        port: TCP port.
    """

    def __init__(self, hostName: str, port: int) -> None:
        self.hostName = hostName
        self.port = port

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HostPortPair) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        return f"{self.hostName}:{self.port}"

    def lint(self, tree: ValidationTree) -> None:
        """Add a problem to `tree` when host or port cannot be an address."""
        if not self.hostName or any(c.isspace() or c in "/@:" for c in self.hostName):
            tree.addProblem(f"'{self.hostName}' is not a host name.")
        if not 0 < self.port < 65536:
            tree.addProblem(f"{self.port} is not a TCP port; use 1 to 65535.")

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"hostName": self.hostName, "port": self.port}


class HostPortPairList(JSONable):
    """Several network addresses, such as the brokers of a cluster."""

    def __init__(self, pairs: list[HostPortPair]) -> None:
        self.pairs = pairs

    def __str__(self) -> str:
        return ",".join(str(pair) for pair in self.pairs)

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"pairs": [pair.to_json() for pair in self.pairs]}


class DataContainerNamingMapper:
    """Turns names of the model into names that a container accepts.

    Args:
        identifierLengthLimit: Longest identifier, in characters.
    """

    def __init__(self, identifierLengthLimit: int = 63) -> None:
        self.identifierLengthLimit = identifierLengthLimit

    def mapNoun(self, noun: str) -> str:
        """Return `noun`, or a shortened form that still tells long names apart."""
        if len(noun) <= self.identifierLengthLimit:
            return noun
        digest = hashlib.sha1(noun.encode(), usedforsecurity=False).hexdigest()[:3]
        return f"{noun[: self.identifierLengthLimit - 4]}_{digest}"


class DataContainer(UserDSLObject, Documentable):
    """A place that holds data; equal to another of the same class and attributes.

    Args:
        name: Name of the container.
        *args: Its locations, and its documentation.
    """

    def __init__(self, name: str, *args: set[LocationKey] | Documentation) -> None:
        UserDSLObject.__init__(self)
        Documentable.__init__(self, None)
        self.name = name
        self.locations: set[LocationKey] = set()
        for arg in args:
            if isinstance(arg, Documentation):
                self.documentation = arg
            else:
                self.locations = arg

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DataContainer) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.name)

    def getNamingAdapter(self) -> DataContainerNamingMapper:
        """Return the mapper that makes names fit this container."""
        return DataContainerNamingMapper()

    def lint(self, eco: LocationDirectory, tree: ValidationTree) -> None:
        """Add the problems of the container to `tree`, such as unknown locations."""
        lintCoverage(self, tree)
        if not self.name:
            tree.addProblem("The name of the data container is empty.")
        for key in sorted(self.locations, key=str):
            if eco.getLocation(key) is None:
                tree.addRaw(UnknownObjectReference(f"the location '{key}'"))

    def to_json(self) -> dict[str, Any]:
        return (
            super().to_json()
            | {"name": self.name, "locations": sorted(map(str, self.locations))}
            | self.documentationJson()
        )


class DataPlatformManagedDataContainer(DataContainer):
    """A container that the data platform provides for the consumers of a workspace.

    Args:
        name: Name of the container.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)


class SQLDatabase(DataContainer):
    """A database that speaks SQL.

    Args:
        name: Name of the container.
        locations: Where it is.
        databaseName: Name of the database on its server.
        identifierLengthLimit: Longest identifier, in characters.
    """

    def __init__(
        self,
        name: str,
        locations: set[LocationKey],
        databaseName: str,
        identifierLengthLimit: int = 63,
    ) -> None:
        super().__init__(name, locations)
        self.databaseName = databaseName
        self.identifierLengthLimit = identifierLengthLimit

    def getNamingAdapter(self) -> DataContainerNamingMapper:
        return DataContainerNamingMapper(self.identifierLengthLimit)

    def lint(self, eco: LocationDirectory, tree: ValidationTree) -> None:
        """Add the problems of the database to `tree`."""
        super().lint(eco, tree)
        if not self.databaseName:
            tree.addProblem("The name of the database is empty.")

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {
            "databaseName": self.databaseName,
            "identifierLengthLimit": self.identifierLengthLimit,
        }


class HostPortSQLDatabase(SQLDatabase):
    """An SQL database at a network address.

    Args:
        name: Name of the container.
        locations: Where it is.
        hostPort: Its address.
        databaseName: Name of the database on its server.
        identifierLengthLimit: Longest identifier, in characters.
    """

    def __init__(
        self,
        name: str,
        locations: set[LocationKey],
        hostPort: HostPortPair,
        databaseName: str,
        identifierLengthLimit: int = 63,
    ) -> None:
        super().__init__(name, locations, databaseName, identifierLengthLimit)
        self.hostPortPair = hostPort

    def lint(self, eco: LocationDirectory, tree: ValidationTree) -> None:
        """Add the problems of the database and its address to `tree`."""
        super().lint(eco, tree)
        self.hostPortPair.lint(tree)

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"hostPort": self.hostPortPair.to_json()}


class PostgresDatabase(HostPortSQLDatabase):
    """A PostgreSQL database.

    Args:
        name: Name of the container.
        hostPort: Its address.
        locations: Where it is.
        databaseName: Name of the database on its server.
    """

    def __init__(
        self, name: str, hostPort: HostPortPair, locations: set[LocationKey], databaseName: str
    ) -> None:
        super().__init__(name, locations, hostPort, databaseName)


class _OtherSQLDatabase(NotCoveredByEmbedded, HostPortSQLDatabase):
    """A database that models may name and that lint refuses."""

    coveredAlternative = "use a PostgresDatabase"
    _identifierLengthLimit = 63

    def __init__(
        self, name: str, hostPort: HostPortPair, locations: set[LocationKey], databaseName: str
    ) -> None:
        super().__init__(name, locations, hostPort, databaseName, self._identifierLengthLimit)


class MySQLDatabase(_OtherSQLDatabase):
    """A MySQL database; refused at lint."""

    _identifierLengthLimit = 64


class OracleDatabase(_OtherSQLDatabase):
    """An Oracle database; refused at lint."""

    _identifierLengthLimit = 128


class SQLServerDatabase(_OtherSQLDatabase):
    """A SQL Server database; refused at lint."""

    _identifierLengthLimit = 128


class DB2Database(_OtherSQLDatabase):
    """A DB2 database; refused at lint."""

    coveredByReal = False
    _identifierLengthLimit = 128


class KafkaServer(DataContainer):
    """A Kafka cluster.

    Args:
        name: Name of the container.
        locs: Where it is.
        bootstrapServers: Addresses of its brokers.
        groupID: Consumer group.
        caCert: Certificate authority that its brokers use.
    """

    def __init__(
        self,
        name: str,
        locs: set[LocationKey],
        bootstrapServers: HostPortPairList,
        groupID: str | None = None,
        caCert: Credential | None = None,
    ) -> None:
        super().__init__(name, locs)
        self.bootstrapServers = bootstrapServers
        self.groupID = groupID
        self.caCert = caCert

    def lint(self, eco: LocationDirectory, tree: ValidationTree) -> None:
        """Add the problems of the cluster and its addresses to `tree`."""
        super().lint(eco, tree)
        if not self.bootstrapServers.pairs:
            tree.addProblem("The list of Kafka brokers is empty.")
        for pair in self.bootstrapServers.pairs:
            pair.lint(tree)

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {
            "bootstrapServers": self.bootstrapServers.to_json(),
            "groupID": self.groupID,
            "caCert": None if self.caCert is None else self.caCert.to_json(),
        }
