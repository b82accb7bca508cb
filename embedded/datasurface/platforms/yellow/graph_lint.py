"""Finds what a Yellow platform cannot run of what it is to ingest."""

from __future__ import annotations

from datasurface.md import (
    Datastore,
    Ecosystem,
    KafkaIngestion,
    PostgresDatabase,
    SQLSnapshotIngestion,
    ValidationTree,
)
from datasurface.md.credential import (
    Credential,
    CredentialType,
    CredentialTypeNotSupportedProblem,
)
from datasurface.md.governance import (
    DatasetConsistencyNotSupported,
    IngestionConsistencyType,
    IngestionMetadata,
)
from datasurface.md.lint import (
    AttributeNotSet,
    ObjectNotSupportedByDataPlatform,
    ProblemSeverity,
)
from datasurface.platforms.yellow.dag_settings import DEFAULT_SCHEDULE
from datasurface.platforms.yellow.job_utilities import YellowDatasetUtilities
from datasurface.platforms.yellow.platform_base import YellowPlatformBase
from datasurface.platforms.yellow.secrets_doc import required_secrets


def lint_stores(
    eco: Ecosystem, dp: YellowPlatformBase, stores: list[Datastore], tree: ValidationTree
) -> None:
    """Add what keeps stores from being ingested, beyond what keeps them from being streams.

    Args:
        eco: The ecosystem, with its caches filled.
        dp: The platform that ingests.
        stores: All stores that it ingests.
        tree: Takes the problems.
    """
    for store in stores:
        _lint_ingestion(dp, store, tree.addSubTree(store))
    _lint_secret_names(dp, stores, tree)
    _lint_table_names(eco, dp, stores, tree)


def _lint_ingestion(dp: YellowPlatformBase, store: Datastore, tree: ValidationTree) -> None:
    cmd = store.cmd
    if isinstance(cmd, KafkaIngestion):
        consistency = cmd.singleOrMultiDatasetIngestion
        if consistency is IngestionConsistencyType.MULTI_DATASET:
            tree.addRaw(DatasetConsistencyNotSupported(store, consistency, dp))
    elif isinstance(cmd, SQLSnapshotIngestion):
        _lint_snapshot(cmd, tree)
    if isinstance(cmd, IngestionMetadata):
        if cmd.singleOrMultiDatasetIngestion is None:
            tree.addRaw(AttributeNotSet("singleOrMultiDatasetIngestion"))
        if cmd.stepTrigger is None:
            tree.addProblem(
                f"The datastore {store.name!r} has no trigger; it is ingested {DEFAULT_SCHEDULE}.",
                ProblemSeverity.WARNING,
            )


def _lint_snapshot(cmd: SQLSnapshotIngestion, tree: ValidationTree) -> None:
    if not isinstance(cmd.dataContainer, PostgresDatabase):
        tree.addRaw(ObjectNotSupportedByDataPlatform(cmd.dataContainer, [PostgresDatabase]))
    if cmd.credential is None:
        tree.addRaw(AttributeNotSet("credential"))
    elif cmd.credential.credentialType is not CredentialType.USER_PASSWORD:
        types = [CredentialType.USER_PASSWORD]
        tree.addRaw(CredentialTypeNotSupportedProblem(cmd.credential, types))


def _lint_secret_names(
    dp: YellowPlatformBase, stores: list[Datastore], tree: ValidationTree
) -> None:
    owners: dict[str, Credential] = {}
    for secret in required_secrets(dp.psp, stores):
        owner = owners.setdefault(secret.name, secret.credential)
        if owner != secret.credential:
            tree.addProblem(
                f"The credentials {owner} and {secret.credential} would both be read from the "
                f"Kubernetes Secret {secret.name!r}; rename one of them."
            )


def _lint_table_names(
    eco: Ecosystem, dp: YellowPlatformBase, stores: list[Datastore], tree: ValidationTree
) -> None:
    owners: dict[str, str] = {}
    for store in stores:
        utilities = YellowDatasetUtilities(eco, dp.psp.credStore, dp, store)
        for dataset in store.datasets.values():
            name = f"{store.name}.{dataset.name}"
            for table in (
                utilities.getPhysStagingTableNameForDataset(dataset),
                utilities.getPhysMergeTableNameForDataset(dataset),
            ):
                owner = owners.setdefault(table, name)
                if owner != name:
                    tree.addProblem(
                        f"The datasets {owner!r} and {name!r} would share the table "
                        f"{table!r} of the merge store; rename one of them."
                    )
