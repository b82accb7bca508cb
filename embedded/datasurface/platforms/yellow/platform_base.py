"""The attributes, names and checks of a Yellow platform."""

from __future__ import annotations

import re
from typing import Any, Final

from sqlalchemy import TIMESTAMP, Column, MetaData, String, Table

from datasurface.md import (
    CloudVendor,
    DataContainer,
    DataPlatform,
    DataPlatformExecutor,
    DataPlatformManagedDataContainer,
    Ecosystem,
    PlatformPipelineGraph,
    ValidationTree,
    Workspace,
    WorkspacePlatformConfig,
)
from datasurface.md.credential import CredentialStore
from datasurface.md.documentation import Documentation
from datasurface.md.governance import DataMilestoningStrategy
from datasurface.md.lint import (
    ConstraintViolation,
    ObjectMissing,
    ObjectNotSupportedByDataPlatform,
    UnknownObjectReference,
)
from datasurface.platforms.yellow.milestoning import YellowMilestoneStrategy
from datasurface.platforms.yellow.naming import toK8sName
from datasurface.platforms.yellow.provider import YellowPlatformServiceProvider

#: A platform's name is part of file names, of table names and of command lines.
_PLATFORM_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,127}")
_RETENTION: Final = {
    YellowMilestoneStrategy.LIVE_ONLY: DataMilestoningStrategy.LIVE_ONLY,
    YellowMilestoneStrategy.BATCH_MILESTONED: DataMilestoningStrategy.FORENSIC,
}


class YellowPlatformExecutor(DataPlatformExecutor):
    """Runs the platform's jobs: Airflow and Kubernetes do, so there is nothing to set."""


class YellowPlatformBase(DataPlatform[Ecosystem, PlatformPipelineGraph]):
    """What a Yellow platform is, and what it cannot serve; what it makes is in its subclass.

    Args:
        name: The platform's name: up to 128 letters, digits, spaces and `_.-`, the first of them a
            letter or digit.
        doc: What it is for.
        platformServiceProvider: What it shares with other platforms.
        milestoneStrategy: What its merge tables keep of each record.
        kafkaConnectName: Has no effect; the services provider's name counts.
        kafkaClusterName: Has no effect; the services provider's name counts.
    """

    def __init__(
        self,
        name: str,
        doc: Documentation,
        platformServiceProvider: YellowPlatformServiceProvider,
        milestoneStrategy: YellowMilestoneStrategy = YellowMilestoneStrategy.LIVE_ONLY,
        kafkaConnectName: str = "kafka-connect",  # noqa: ARG002 (part of the public signature)
        kafkaClusterName: str = "kafka",  # noqa: ARG002 (part of the public signature)
    ) -> None:
        super().__init__(name, doc, YellowPlatformExecutor())
        if not isinstance(platformServiceProvider, YellowPlatformServiceProvider):
            raise TypeError(
                f"{self} needs a YellowPlatformServiceProvider in DataSurface 0.0.36 to 0.0.38, "
                f"not a {type(platformServiceProvider).__name__}: give it one as third argument, "
                "or install the DataSurface that the model is written for."
            )
        self.psp = platformServiceProvider
        self.milestoneStrategy = milestoneStrategy

    @staticmethod
    def to_k8s_name(name: str) -> str:
        """Return `name` as Kubernetes objects are named; not for host names."""
        return toK8sName(name)

    def getCredentialStore(self) -> CredentialStore:
        """Return where the platform's jobs find their logins."""
        return self.psp.credStore

    def getTableForPlatform(self, tableName: str) -> str:
        """Return the name of one of the platform's own tables, before it is fitted to a database.

        Args:
            tableName: The table's purpose, such as `batch_counter`.
        """
        return f"{self.name}_{tableName}".lower()

    def getPhysDAGTableName(self) -> str:
        """Return the name, in the merge store, of the table with ingestion streams."""
        return self.psp.namingMapper.mapNoun(self.getTableForPlatform("airflow_dsg"))

    def getAirflowDAGTable(self) -> Table:
        """Describe the table with one row per ingestion stream.

        This platform writes its streams to files instead, and so does not create the table.
        """
        return Table(
            self.getPhysDAGTableName(),
            MetaData(),
            Column("stream_key", String(255), primary_key=True),
            Column("config_json", String(2048)),
            Column("status", String(50)),
            Column("created_at", TIMESTAMP()),
            Column("updated_at", TIMESTAMP()),
        )

    def getSupportedVendors(self, eco: Ecosystem) -> set[CloudVendor]:  # noqa: ARG002
        """Return all vendors: Kubernetes runs anywhere."""
        return set(CloudVendor)

    def isWorkspaceDataContainerSupported(
        self,
        eco: Ecosystem,  # noqa: ARG002 (part of the interface)
        dc: DataContainer,
    ) -> bool:
        """Tell whether workspaces can have their data in `dc`: only where the platform puts it."""
        return isinstance(dc, DataPlatformManagedDataContainer)

    def nameLint(self, tree: ValidationTree) -> None:
        """Add a problem to `tree` when the platform's name cannot name files and tables."""
        if _PLATFORM_NAME.fullmatch(self.name) is None:
            tree.addProblem(
                f"The platform name {self.name!r} becomes part of file names: use up to 128 "
                "letters, digits, spaces, underscores, dots and hyphens, and begin with a letter "
                "or a digit."
            )

    def lint(self, eco: Ecosystem, tree: ValidationTree) -> None:
        """Add the problems of the platform and of its services provider to `tree`."""
        super().lint(eco, tree)
        self._lintK8sName(eco, tree)
        self.psp.lintConfiguration(eco, tree.addSubTree(self.psp))

    def lintWorkspace(
        self,
        eco: Ecosystem,  # noqa: ARG002 (part of the interface)
        tree: ValidationTree,
        ws: Workspace,
        dsgName: str,
    ) -> None:
        """Add a problem to `tree` for each reason why the platform cannot serve a dataset group.

        Args:
            eco: The ecosystem.
            tree: Takes the problems.
            ws: The workspace.
            dsgName: The name of one of its dataset groups.
        """
        if not isinstance(ws.dataContainer, DataPlatformManagedDataContainer):
            supported = [DataPlatformManagedDataContainer]
            tree.addRaw(ObjectNotSupportedByDataPlatform(ws.dataContainer, supported))
        dsg = ws.dsgs.get(dsgName)
        if dsg is None:
            tree.addRaw(UnknownObjectReference(f"dataset group {dsgName} of workspace {ws.name}"))
            return
        config = dsg.platformMD
        if not isinstance(config, WorkspacePlatformConfig):
            tree.addRaw(ObjectMissing(dsg, "WorkspacePlatformConfig as its platform chooser"))
            return
        needed = _RETENTION[self.milestoneStrategy]
        asked = config.retention.milestoningStrategy
        if asked != needed:
            tree.addRaw(
                ConstraintViolation(
                    f"The dataset group {dsgName!r} of workspace {ws.name!r} asks for "
                    f"{asked.name}, but the platform {self.name!r} keeps {needed.name}; change "
                    "its retention, or assign it to another platform."
                )
            )

    def to_json(self) -> dict[str, Any]:
        """Describe the platform."""
        return super().to_json() | {
            "milestoneStrategy": self.milestoneStrategy.value,
            "psp": self.psp.name,
        }

    def _lintK8sName(self, eco: Ecosystem, tree: ValidationTree) -> None:
        if not toK8sName(eco.name):
            tree.addProblem(f"The ecosystem name {eco.name!r} has no letter and no digit of ASCII.")
        for other in eco.dataPlatforms.values():
            if other.name < self.name and toK8sName(other.name) == toK8sName(self.name):
                tree.addProblem(
                    f"The platforms {other.name!r} and {self.name!r} would both be called "
                    f"{toK8sName(self.name)!r} in Kubernetes and in Airflow; rename one of them."
                )
