"""What Yellow platforms share: namespace, logins, merge store and model cache."""

from __future__ import annotations

import re
from typing import Any, Final

from datasurface.md import (
    Ecosystem,
    HostPortPair,
    LocationKey,
    PlatformServicesProvider,
    PostgresDatabase,
    ValidationTree,
)
from datasurface.md.credential import (
    Credential,
    CredentialType,
    CredentialTypeNotSupportedProblem,
)
from datasurface.md.documentation import Documentation
from datasurface.md.lint import AttributeNotSet, ObjectNotSupportedByDataPlatform
from datasurface.md.repo import GitHubRepository
from datasurface.platforms.yellow.credential_store import KubernetesEnvVarsCredentialStore
from datasurface.platforms.yellow.kafka import KafkaConnectCluster
from datasurface.platforms.yellow.naming import isLegalNamespace, toK8sName

_ACCESS_MODES: Final = ("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod")
_STORAGE_SIZE: Final = re.compile(r"[1-9][0-9]*(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?")
_KAFKA_PORT: Final = 9092
_KAFKA_CONNECT_PORT: Final = 8083


class YellowPlatformServiceProvider(PlatformServicesProvider):
    """What one or more Yellow platforms share: namespace, logins, merge store and model cache.

    Args:
        name: The provider's name.
        locs: Where it runs.
        doc: What it is for.
        namespace: The Kubernetes namespace of all its pods and Secrets.
        postgresCredential: The merge store's login, of type USER_PASSWORD.
        gitCredential: Reads the model's repository, of type API_TOKEN.
        connectCredentials: Kafka Connect's login, of type API_TOKEN or API_KEY_PAIR.
        merge_datacontainer: The merge store.
        kafkaConnectName: The name of the Kafka Connect deployment.
        kafkaClusterName: The name of the Kafka deployment.
        airflowName: The name of the Airflow deployment.
        datasurfaceDockerImage: The image that pods run.
        git_cache_storage_class: The storage class of the volume on which pods share the model.
        git_cache_access_mode: That volume's Kubernetes access mode.
        git_cache_storage_size: That volume's size, as Kubernetes writes it.
        git_cache_max_age_minutes: For how many minutes a copy of the model is current.
        git_cache_enabled: Whether there is such a volume.
    """

    def __init__(
        self,
        name: str,
        locs: set[LocationKey],
        doc: Documentation,
        namespace: str,
        postgresCredential: Credential,
        gitCredential: Credential,
        connectCredentials: Credential,
        merge_datacontainer: PostgresDatabase,
        kafkaConnectName: str = "kafka-connect",
        kafkaClusterName: str = "kafka",
        airflowName: str = "airflow",
        datasurfaceDockerImage: str = "datasurface/datasurface:latest",
        git_cache_storage_class: str = "standard",
        git_cache_access_mode: str = "ReadWriteOnce",
        git_cache_storage_size: str = "5Gi",
        git_cache_max_age_minutes: int = 5,
        git_cache_enabled: bool = True,
    ) -> None:
        super().__init__(
            name, locs, KubernetesEnvVarsCredentialStore(f"{name}-cred-store", locs, namespace)
        )
        self.doc = doc
        self.namespace = namespace
        self.postgresCredential = postgresCredential
        self.gitCredential = gitCredential
        self.connectCredentials = connectCredentials
        self.merge_datacontainer = merge_datacontainer
        self.mergeStore = merge_datacontainer
        self.kafkaConnectName = kafkaConnectName
        self.kafkaClusterName = kafkaClusterName
        self.airflowName = airflowName
        self.datasurfaceDockerImage = datasurfaceDockerImage
        self.git_cache_storage_class = git_cache_storage_class
        self.git_cache_access_mode = git_cache_access_mode
        self.git_cache_storage_size = git_cache_storage_size
        self.git_cache_max_age_minutes = git_cache_max_age_minutes
        self.git_cache_enabled = git_cache_enabled
        self.namingMapper = merge_datacontainer.getNamingAdapter()
        self.kafkaConnectCluster = KafkaConnectCluster(
            kafkaConnectName,
            locs,
            HostPortPair(self._serviceHost(kafkaConnectName), _KAFKA_CONNECT_PORT),
            self._getKafkaBootstrapServers(),
        )

    def lint(self, eco: Ecosystem, tree: ValidationTree) -> None:
        """Add the problems of the provider and of the graph of its platforms to `tree`."""
        self.lintConfiguration(eco, tree)
        if not tree.hasErrors():
            super().lint(eco, tree)

    def lintConfiguration(self, eco: Ecosystem, tree: ValidationTree) -> None:
        """Add the problems of the provider's own settings and of all repositories to `tree`."""
        if not isLegalNamespace(self.namespace):
            tree.addProblem(
                f"Kubernetes does not take {self.namespace!r} as a namespace: use up to 63 lower "
                "case letters, digits and hyphens, with no hyphen at either end."
            )
        self.credStore.lint(tree.addSubTree(self.credStore))
        self._lintCredentials(tree)
        self._lintMergeStore(eco, tree)
        self._lintDeployment(tree)
        eco.checkAllRepositoriesInEcosystem(tree, [GitHubRepository])

    def to_json(self) -> dict[str, Any]:
        """Describe the provider; secrets are not in it, only the names of credentials."""
        return super().to_json() | {
            "namespace": self.namespace,
            "mergeStore": self.mergeStore.to_json(),
            "postgresCredential": self.postgresCredential.to_json(),
            "gitCredential": self.gitCredential.to_json(),
            "connectCredentials": self.connectCredentials.to_json(),
            "datasurfaceDockerImage": self.datasurfaceDockerImage,
        }

    def _getKafkaBootstrapServers(self) -> str:
        return f"{self._serviceHost(self.kafkaClusterName)}:{_KAFKA_PORT}"

    def _serviceHost(self, deployment: str) -> str:
        return f"{toK8sName(deployment)}-service.{self.namespace}.svc.cluster.local"

    def _lintCredentials(self, tree: ValidationTree) -> None:
        allowed = [
            (self.postgresCredential, [CredentialType.USER_PASSWORD]),
            (self.gitCredential, [CredentialType.API_TOKEN]),
            (self.connectCredentials, [CredentialType.API_TOKEN, CredentialType.API_KEY_PAIR]),
        ]
        for credential, types in allowed:
            subTree = tree.addSubTree(credential)
            if credential.credentialType in types:
                self.credStore.lintCredential(credential, subTree)
            else:
                subTree.addRaw(CredentialTypeNotSupportedProblem(credential, types))

    def _lintMergeStore(self, eco: Ecosystem, tree: ValidationTree) -> None:
        subTree = tree.addSubTree(self.mergeStore)
        if isinstance(self.mergeStore, PostgresDatabase):
            self.mergeStore.lint(eco, subTree)
        else:
            subTree.addRaw(ObjectNotSupportedByDataPlatform(self.mergeStore, [PostgresDatabase]))

    def _lintDeployment(self, tree: ValidationTree) -> None:
        if not toK8sName(self.airflowName):
            tree.addProblem(f"The Airflow name {self.airflowName!r} has no letter and no digit.")
        if not self.datasurfaceDockerImage:
            tree.addRaw(AttributeNotSet("datasurfaceDockerImage"))
        if not self.git_cache_enabled:
            return
        if self.git_cache_access_mode not in _ACCESS_MODES:
            tree.addProblem(
                f"The access mode {self.git_cache_access_mode!r} of the model cache is unknown to "
                f"Kubernetes; use one of {', '.join(_ACCESS_MODES)}."
            )
        if type(self.git_cache_max_age_minutes) is not int or self.git_cache_max_age_minutes < 0:
            tree.addProblem(
                f"The age {self.git_cache_max_age_minutes!r} of the model cache is not a number "
                "of minutes; use a whole number from 0."
            )
        if _STORAGE_SIZE.fullmatch(self.git_cache_storage_size) is None:
            tree.addProblem(
                f"The size {self.git_cache_storage_size!r} of the model cache is not a size that "
                "Kubernetes reads; write it as in 5Gi."
            )
