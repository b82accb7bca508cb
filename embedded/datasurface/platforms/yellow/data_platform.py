"""The Yellow platform: what it makes of a model."""

from __future__ import annotations

from datasurface.md import Ecosystem, PlatformPipelineGraph
from datasurface.md.sqlalchemyutils import createOrUpdateTable
from datasurface.platforms.yellow.dag_settings import platformSettings, render_dag_file
from datasurface.platforms.yellow.db_utils import createEngine
from datasurface.platforms.yellow.graph_handler import YellowGraphHandler
from datasurface.platforms.yellow.ingestion_steps import resetBatchState
from datasurface.platforms.yellow.job_utilities import JobUtilities
from datasurface.platforms.yellow.manifests import bootstrapManifests, renderYaml
from datasurface.platforms.yellow.platform_base import YellowPlatformBase
from datasurface.platforms.yellow.schema_projector import YellowSchemaProjector


class YellowDataPlatform(YellowPlatformBase):
    """Ingests datastores into PostgreSQL: one Airflow DAG per stream, one pod per run.

    Args:
        name: The platform's name: up to 128 letters, digits, spaces and `_.-`, the first of them a
            letter or digit.
        doc: What it is for.
        platformServiceProvider: What it shares with other platforms.
        milestoneStrategy: What its merge tables keep of each record.
        kafkaConnectName: Has no effect; the services provider's name counts.
        kafkaClusterName: Has no effect; the services provider's name counts.
    """

    def createSchemaProjector(self, eco: Ecosystem) -> YellowSchemaProjector:
        """Return what computes the schemas of the platform's staging and merge tables."""
        return YellowSchemaProjector(eco, self)

    def createGraphHandler(self, graph: PlatformPipelineGraph) -> YellowGraphHandler:
        """Return what checks and renders this platform's part of the pipelines."""
        return YellowGraphHandler(self, graph)

    def generateBootstrapArtifacts(self, eco: Ecosystem, ringLevel: int) -> dict[str, str]:
        """Make what the platform needs before its first run.

        Args:
            eco: The ecosystem.
            ringLevel: 0 returns files and touches nothing; 1 creates the platform's batch tables
                in the merge store.

        Returns:
            The text of each file by its name; nothing for ring 1.

        Raises:
            ValueError: There is no such ring, or the model has a name that cannot be rendered.
            CredentialNotAvailableException: Ring 1 finds no login for the merge store.
        """
        if ringLevel == 0:
            return self._ring0(eco)
        if ringLevel == 1:
            self._createBatchTables(eco)
            return {}
        raise ValueError(
            f"Platform {self.name!r} has no bootstrap ring {ringLevel}; use 0 for the files or "
            "1 for the tables."
        )

    def resetBatchState(
        self, eco: Ecosystem, storeName: str, datasetName: str | None = None
    ) -> str:
        """Make the current batch of a stream start anew.

        Args:
            eco: The ecosystem.
            storeName: The datastore of the stream.
            datasetName: The dataset of a single-dataset stream.

        Returns:
            "SUCCESS", or "ERROR: " and the reason.
        """
        return resetBatchState(eco, self, storeName, datasetName)

    def _ring0(self, eco: Ecosystem) -> dict[str, str]:
        settings = platformSettings(eco, self)
        dag = render_dag_file("infrastructure_dag.py.j2", settings)
        return {
            "kubernetes-bootstrap.yaml": renderYaml(bootstrapManifests(eco, self.psp)),
            f"{settings['platform_name']}_infrastructure_dag.py": dag,
        }

    def _createBatchTables(self, eco: Ecosystem) -> None:
        utilities = JobUtilities(eco, self.getCredentialStore(), self)
        user, password = self.getCredentialStore().getAsUserPassword(self.psp.postgresCredential)
        engine = createEngine(self.psp.mergeStore, user, password)
        try:
            createOrUpdateTable(engine, utilities.getBatchCounterTable())
            createOrUpdateTable(engine, utilities.getBatchMetricsTable())
        finally:
            engine.dispose()
