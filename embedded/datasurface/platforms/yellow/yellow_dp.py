"""The Yellow platform: Airflow starts jobs on Kubernetes that fill a PostgreSQL merge store."""

# The classes live in modules by topic; this is the module that models import from.
from datasurface.platforms.yellow.credential_store import KubernetesEnvVarsCredentialStore
from datasurface.platforms.yellow.data_platform import YellowDataPlatform
from datasurface.platforms.yellow.graph_handler import YellowGraphHandler
from datasurface.platforms.yellow.ingestion_steps import JobStatus
from datasurface.platforms.yellow.job_utilities import JobUtilities, YellowDatasetUtilities
from datasurface.platforms.yellow.kafka import KafkaConnectCluster
from datasurface.platforms.yellow.milestoning import YellowMilestoneStrategy
from datasurface.platforms.yellow.platform_base import YellowPlatformExecutor
from datasurface.platforms.yellow.provider import YellowPlatformServiceProvider

__all__ = [
    "JobStatus",
    "JobUtilities",
    "KafkaConnectCluster",
    "KubernetesEnvVarsCredentialStore",
    "YellowDataPlatform",
    "YellowDatasetUtilities",
    "YellowGraphHandler",
    "YellowMilestoneStrategy",
    "YellowPlatformExecutor",
    "YellowPlatformServiceProvider",
]
