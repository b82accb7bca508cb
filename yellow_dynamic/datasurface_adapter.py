"""What the releases of DataSurface differ in, behind one adapter for each generation of them.

`DATASURFACE` is the adapter of the installed release, chosen by what the release offers.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from datasurface.md import (
    Credential,
    CredentialStore,
    Ecosystem,
    KafkaIngestion,
    PlatformPipelineGraph,
    SQLSnapshotIngestion,
)
from datasurface.platforms.yellow import YellowDataPlatform
from yellow_dynamic.deployment import Unit
from yellow_dynamic.factory.rules import TRANSFORMER
from yellow_dynamic.notifications import EMail, SlackWebhook
from yellow_dynamic.releases import BETWEEN, unsupported_release
from yellow_dynamic.run_settings import RunSettings


class DynamicPlatform(Protocol):
    """What a YellowDynamicDataPlatform tells the modules that make settings and rows of it."""

    name: str
    #: Releases differ in the attributes of the services provider.
    psp: Any
    slackCredential: Credential | None
    slackChannel: str | None
    factoryShards: int
    factoryFromPackage: bool
    pausedAtCreation: bool | None
    assets: bool
    onFailure: SlackWebhook | EMail | None
    runs: RunSettings
    runsOf: Mapping[str, RunSettings]

    def getCredentialStore(self) -> CredentialStore: ...
    def getTableForPlatform(self, tableName: str) -> str: ...
    def getPhysDAGTableName(self) -> str: ...


class PlatformAdapter:
    """DataSurface 0.0.36 to 0.0.38, where each platform is bootstrapped and merged by itself."""

    #: Whether the services provider bootstraps and merges its platforms.
    provider_bootstraps = False
    #: The `ingestion_type` in rows by the class of the ingestion.
    ingestion_types: Mapping[type, str] = {
        SQLSnapshotIngestion: "sql_snapshot",
        KafkaIngestion: "kafka",
    }

    def k8s_name(self, name: str) -> str:
        """Return a name of the model as Kubernetes and Airflow have it."""
        return str(YellowDataPlatform.to_k8s_name(name))

    def platforms(self, eco: Ecosystem) -> list[Any]:
        """Return all platforms of a model."""
        return list(eco.dataPlatforms.values())

    def namespace(self, psp: Any) -> str:
        """Return the Kubernetes namespace of a services provider."""
        return str(psp.namespace)

    def foreign_logins(self, psp: Any) -> str | None:
        """Return where DataSurface's own jobs get their logins, if not from Kubernetes Secrets."""
        del psp
        return None

    def merge_credential(self, psp: Any) -> Credential:
        """Return the credential of the merge store."""
        credential: Credential = psp.postgresCredential
        return credential

    def table_name(self, psp: Any, name: str) -> str:
        """Return the physical name of a table of the merge store."""
        return str(psp.namingMapper.mapNoun(name))

    def job_settings(self, psp: Any) -> dict[str, Any]:
        """Return the settings of jobs that only some releases have: cache, image and Secrets.

        A setting that the services provider leaves open is None.
        """
        if not psp.git_cache_enabled:
            return {"git_cache_enabled": psp.git_cache_enabled}
        return {
            "git_cache_enabled": psp.git_cache_enabled,
            "git_cache_storage_class": psp.git_cache_storage_class,
            "git_cache_access_mode": psp.git_cache_access_mode,
            "git_cache_storage_size": psp.git_cache_storage_size,
            "git_cache_max_age_minutes": psp.git_cache_max_age_minutes,
        }

    def factory_settings(self, psp: Any) -> dict[str, Any]:
        """Return the settings of the factory file that only some releases have."""
        del psp
        return {}

    def default_run_settings(
        self, psp: Any, graph: PlatformPipelineGraph, config: dict[str, Any]
    ) -> dict[str, Any]:
        """Return the arguments of RunSettings that the model gives a stream without RunSettings."""
        del psp, graph, config
        return {}

    def unit(self, platforms: Sequence[DynamicPlatform]) -> Unit:
        """Return what the two commands run for, given platforms that are bootstrapped together."""
        dp = platforms[0]
        name = self.k8s_name(dp.name)
        return Unit(
            kind="platform",
            name=dp.name,
            airflow_name=name,
            file_start=name,
            views_option="--platform-name",
            variable="DATASURFACE_PLATFORM_NAME",
            replaced=("_datatransformer_factory_dag.py",),
        )


class ProviderAdapter(PlatformAdapter):
    """DataSurface 0.0.56 and 0.0.57, where a services provider does it for its platforms."""

    provider_bootstraps = True

    def __init__(self) -> None:
        assembly = importlib.import_module("datasurface.platforms.yellow.assembly")
        self._names: Any = assembly.K8sUtils
        self._quantity: Any = assembly.Component.storageToKubernetesFormat
        by_watermark = importlib.import_module("datasurface.md").SQLWatermarkSnapshotDeltaIngestion
        by_sql = dict.fromkeys((SQLSnapshotIngestion, by_watermark), "sql_source")
        self.ingestion_types = {**by_sql, KafkaIngestion: "kafka"}

    def k8s_name(self, name: str) -> str:
        return str(self._names.to_k8s_name(name))

    def platforms(self, eco: Ecosystem) -> list[Any]:
        providers: list[Any] = vars(eco)["platformServicesProviders"]
        return [dp for psp in providers for dp in psp.dataPlatforms.values()]

    def namespace(self, psp: Any) -> str:
        return str(psp.yp_assm.namespace)

    def foreign_logins(self, psp: Any) -> str | None:
        # Each assembly for AWS has this, and no other has it.
        return "AWS Secrets Manager" if hasattr(psp.yp_assm, "aws_account_id") else None

    def merge_credential(self, psp: Any) -> Credential:
        credential: Credential = psp.mergeRW_Credential
        return credential

    def table_name(self, psp: Any, name: str) -> str:
        return str(psp.namingMapper.fmtTVI(name))

    def job_settings(self, psp: Any) -> dict[str, Any]:
        cache = psp.yp_assm.git_cache_config
        of_cache = {
            "git_cache_claim": cache.pvc_name,
            "git_cache_storage_class": cache.storageClass,
            "git_cache_access_mode": cache.access_mode,
            "git_cache_storage_size": self._quantity(cache.storage_size),
            "git_cache_max_age_minutes": cache.git_cache_max_age_minutes,
        }
        return {
            "git_cache_enabled": cache.enabled,
            "git_cache_folder": cache.cacheLocalPath,
            **(of_cache if cache.enabled else {}),
            "image_pull_policy": psp.image_pull_policy.value,
            "login_keys_by_secret": True,
        }

    def factory_settings(self, psp: Any) -> dict[str, Any]:
        return {"weight_rule": "absolute", "services_provider": psp.name}

    def default_run_settings(
        self, psp: Any, graph: PlatformPipelineGraph, config: dict[str, Any]
    ) -> dict[str, Any]:
        if config["ingestion_type"] == TRANSFORMER:
            hint = psp.getDataTransformerJobHint(config["workspace_name"])
            limits = hint.to_k8s_json() if hint else TRANSFORMER_LIMITS
        else:
            hint = psp.getIngestionJobHint(config["store_name"], config.get("dataset_name"))
            limits = hint.to_k8s_json() if hint else INGESTION_LIMITS
        resources = {
            kind: {name: limits[f"{start}_{name}"] for name in ("memory", "cpu")}
            for kind, start in (("requests", "requested"), ("limits", "limits"))
        }
        return {"resources": resources, "priorityWeight": workspace_priority(graph, config)}

    def unit(self, platforms: Sequence[DynamicPlatform]) -> Unit:
        psp = platforms[0].psp
        return Unit(
            kind="services provider",
            name=psp.name,
            airflow_name=self.k8s_name(psp.name),
            file_start=psp.to_python_name(psp.name),
            views_option="--psp",
            variable="DATASURFACE_PSP_NAME",
            beside_own=len(platforms) < len(psp.dataPlatforms),
        )


#: The resources that DataSurface 0.0.56 and 0.0.57 give jobs for which the model has no hint.
INGESTION_LIMITS = {
    "requested_memory": "256M",
    "requested_cpu": "100m",
    "limits_memory": "1Gi",
    "limits_cpu": "500m",
}
TRANSFORMER_LIMITS = {
    "requested_memory": "512M",
    "requested_cpu": "200m",
    "limits_memory": "2Gi",
    "limits_cpu": "1000m",
}


def workspace_priority(graph: PlatformPipelineGraph, config: dict[str, Any]) -> int:
    """Return the priority that workspaces give a stream, or 0 if none gives any."""
    store, platform = config["store_name"], graph.platform.name
    if config["ingestion_type"].startswith(TRANSFORMER):
        makers = {
            workspace.dataTransformer.outputDatastore.name: workspace.name
            for workspace in graph.workspaces.values()
            if workspace.dataTransformer is not None
        }
        node = f"DataTransformerNode/DataTransformer/{platform}/{makers[store]}"
    elif config["single_dataset"]:
        node = f"IngestionSingleNode/Ingest/{platform}/{store}/{config['dataset_name']}"
    else:
        node = f"IngestionMultiNode/Ingest/{platform}/{store}"
    priority: Any = getattr(graph.nodes.get(node), "priority", None)
    return 0 if priority is None else int(priority.priority.value)


def select_adapter() -> PlatformAdapter:
    """Return the adapter of the installed DataSurface, chosen by what the release offers.

    Raises:
        ImportError: the release is one between the two generations, which neither adapter serves.
    """
    if hasattr(YellowDataPlatform, "getPSP"):
        return ProviderAdapter()
    # The late 0.0.38 has both: bootstrap on the platform, and factories inside the infrastructure
    # DAG.
    if hasattr(YellowDataPlatform, "generateBootstrapArtifacts") and not hasattr(
        YellowDataPlatform, "getFactoryDAGTable"
    ):
        return PlatformAdapter()
    raise unsupported_release(BETWEEN)


#: The adapter of the installed release.
DATASURFACE = select_adapter()
