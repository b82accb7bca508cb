"""Datastores, their datasets, and how their data is captured."""

from enum import Enum
from typing import Any

from datasurface.md._containers import DataContainer, KafkaServer, SQLDatabase
from datasurface.md.credential import Credential
from datasurface.md.documentation import Documentable, Documentation
from datasurface.md.exceptions import AttributeAlreadySetException, ObjectAlreadyExistsException
from datasurface.md.keys import DatastoreKey
from datasurface.md.lint import (
    ANSI_SQL_NamedObject,
    AttributeNotSet,
    NamedObject,
    NotCoveredByEmbedded,
    ProblemSeverity,
    UserDSLObject,
    ValidationProblem,
    ValidationTree,
    lintCoverage,
)
from datasurface.md.policy import DataClassification, StoragePolicy
from datasurface.md.schema import DDLTable, Schema
from datasurface.md.utils import is_valid_cron
from datasurface.md.vendor import LocationDirectory

__all__ = [
    "CDCCaptureIngestion",
    "CaptureMetaData",
    "CronTrigger",
    "DataTransformerOutput",
    "Dataset",
    "DatasetConsistencyNotSupported",
    "DatasetPerTopicKafkaIngestion",
    "Datastore",
    "DeprecationInfo",
    "DeprecationStatus",
    "ExternallyTriggered",
    "IngestionConsistencyType",
    "IngestionMetadata",
    "KafkaIngestion",
    "ProductionStatus",
    "SQLIngestion",
    "SQLSnapshotDeltaIngestion",
    "SQLSnapshotIngestion",
    "StepTrigger",
]


class ProductionStatus(Enum):
    """Whether production depends on an object."""

    PRODUCTION = 0
    NOT_PRODUCTION = 1


class DeprecationStatus(Enum):
    """Whether an object is on its way out."""

    NOT_DEPRECATED = 0
    DEPRECATED = 1


class DeprecationInfo(UserDSLObject):
    """Says that an object is on its way out, or not.

    Args:
        status: The status.
        reason: Why, and what to use instead.
    """

    def __init__(self, status: DeprecationStatus, reason: Documentation | None = None) -> None:
        super().__init__()
        self.status = status
        self.reason = reason

    def to_json(self) -> dict[str, Any]:
        reason = None if self.reason is None else self.reason.to_json()
        return super().to_json() | {"status": self.status.name, "reason": reason}


class IngestionConsistencyType(Enum):
    """Whether a store's datasets are captured one by one or all at one point in time."""

    SINGLE_DATASET = 0
    MULTI_DATASET = 1


class StepTrigger(NamedObject):
    """What starts a step of a pipeline.

    Args:
        name: Name of the trigger.
    """

    def lint(self, tree: ValidationTree) -> None:
        """Add the problems of the trigger to `tree`."""
        self.nameLint(tree)


class CronTrigger(StepTrigger):
    """Starts a step by the clock.

    Args:
        name: Name of the trigger.
        cron: Cron expression of five fields, in the default time zone of Airflow.
    """

    def __init__(self, name: str, cron: str) -> None:
        super().__init__(name)
        self.cron = cron

    def lint(self, tree: ValidationTree) -> None:
        """Add a problem to `tree` when the cron expression is not valid."""
        super().lint(tree)
        if not is_valid_cron(self.cron):
            tree.addProblem(
                f"'{self.cron}' is not a cron expression of five fields "
                '(minute, hour, day of month, month, day of week), such as "0 3 * * *".'
            )

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"cron": self.cron}


class ExternallyTriggered(StepTrigger):
    """Leaves it to something outside to start a step.

    Args:
        name: Name of the trigger.
    """


class DatasetConsistencyNotSupported(ValidationProblem):
    """A data platform cannot capture data with the consistency a store asks for."""

    def __init__(
        self,
        datastore: "Datastore",
        consistency: IngestionConsistencyType,
        platform: object,
        sev: ProblemSeverity = ProblemSeverity.ERROR,
    ) -> None:
        super().__init__(
            f"{platform} does not support {consistency.name}, which {datastore} uses.", sev
        )


class CaptureMetaData(UserDSLObject):
    """How the data of a store is captured.

    Args:
        *args: Trigger, container and consistency, by type.

    Raises:
        AttributeAlreadySetException: Two arguments set the same attribute.
    """

    def __init__(
        self, *args: "StepTrigger | DataContainer | IngestionConsistencyType | Any"
    ) -> None:
        super().__init__()
        self.singleOrMultiDatasetIngestion: IngestionConsistencyType | None = None
        self.stepTrigger: StepTrigger | None = None
        self.dataContainer: DataContainer | None = None
        for arg in args:
            self.add(arg)

    def add(self, arg: Any) -> None:
        """Set the attribute that `arg` is meant for by its type.

        Raises:
            AttributeAlreadySetException: The attribute has a value already.
            TypeError: No attribute takes such an object.
        """
        match arg:
            case StepTrigger():
                self._setOnce("stepTrigger", arg)
            case DataContainer():
                self._setOnce("dataContainer", arg)
            case IngestionConsistencyType():
                self._setOnce("singleOrMultiDatasetIngestion", arg)
            case _:
                raise TypeError(f"{self} takes no {type(arg).__name__}.")

    def lint(self, eco: LocationDirectory, tree: ValidationTree) -> None:
        """Add the problems of the capture to `tree`."""
        lintCoverage(self, tree)
        if self.singleOrMultiDatasetIngestion is None:
            tree.addRaw(AttributeNotSet("singleOrMultiDatasetIngestion"))
        if self.stepTrigger is not None:
            self.stepTrigger.lint(tree.addSubTree(self.stepTrigger))
        if self.dataContainer is not None:
            self.dataContainer.lint(eco, tree.addSubTree(self.dataContainer))

    def to_json(self) -> dict[str, Any]:
        consistency = self.singleOrMultiDatasetIngestion
        return super().to_json() | {
            "singleOrMultiDatasetIngestion": None if consistency is None else consistency.name,
            "stepTrigger": None if self.stepTrigger is None else self.stepTrigger.to_json(),
            "dataContainer": None if self.dataContainer is None else self.dataContainer.to_json(),
        }

    def _setOnce(self, attribute: str, value: object) -> None:
        if getattr(self, attribute) is not None:
            raise AttributeAlreadySetException(attribute)
        setattr(self, attribute, value)


class IngestionMetadata(CaptureMetaData):
    """How the data of a store is captured from outside, and the credential it takes.

    Args:
        *args: Credential, trigger, container and consistency, by type.
    """

    def __init__(self, *args: Any) -> None:
        self.credential: Credential | None = None
        super().__init__(*args)

    def add(self, arg: Any) -> None:
        if isinstance(arg, Credential):
            self._setOnce("credential", arg)
        else:
            super().add(arg)

    def to_json(self) -> dict[str, Any]:
        credential = None if self.credential is None else self.credential.to_json()
        return super().to_json() | {"credential": credential}


class SQLIngestion(IngestionMetadata):
    """Captures the tables of a database.

    Args:
        db: The database.
        *args: Credential, trigger and consistency by type; a dictionary from dataset name to
            source table name, for the tables that are not named like their dataset.
    """

    def __init__(
        self,
        db: SQLDatabase,
        *args: Credential | StepTrigger | IngestionConsistencyType | dict[str, str],
    ) -> None:
        self.tableForDataset: dict[str, str] = {}
        super().__init__(db, *args)

    def add(self, arg: Any) -> None:
        if isinstance(arg, dict):
            self.tableForDataset = arg
        else:
            super().add(arg)

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"tableForDataset": self.tableForDataset}


class SQLSnapshotIngestion(SQLIngestion):
    """Captures the tables of a database, all rows each time."""


class SQLSnapshotDeltaIngestion(NotCoveredByEmbedded, SQLIngestion):
    """Captures the changes of the tables of a database; refused at lint."""

    coveredAlternative = "use SQLSnapshotIngestion"
    coveredByReal = False


class CDCCaptureIngestion(NotCoveredByEmbedded, IngestionMetadata):
    """Captures changes from a database's log; refused at lint.

    Args:
        dc: The database.
        *args: Credential, trigger and consistency, by type.
    """

    coveredAlternative = "use SQLSnapshotIngestion"
    coveredByReal = False

    def __init__(
        self, dc: DataContainer, *args: Credential | StepTrigger | IngestionConsistencyType
    ) -> None:
        super().__init__(dc, *args)


class KafkaIngestion(IngestionMetadata):
    """Captures the topics of a Kafka cluster.

    Args:
        kafkaServer: The cluster.
        *args: Credential, trigger and consistency, by type.
    """

    def __init__(
        self,
        kafkaServer: KafkaServer,
        *args: Credential | StepTrigger | IngestionConsistencyType,
    ) -> None:
        super().__init__(kafkaServer, *args)


class DatasetPerTopicKafkaIngestion(KafkaIngestion):
    """Captures the topics of a Kafka cluster, one for each dataset."""


class DataTransformerOutput(CaptureMetaData):
    """Says that a store's data comes from the data transformer of a workspace.

    Args:
        workSpaceName: Name of the workspace.
    """

    def __init__(self, workSpaceName: str) -> None:
        super().__init__(IngestionConsistencyType.MULTI_DATASET)
        self.workSpaceName = workSpaceName

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"workSpaceName": self.workSpaceName}


class Dataset(ANSI_SQL_NamedObject, Documentable):
    """A set of records of one structure.

    Args:
        name: An SQL identifier, unique in its store.
        *args: The other attributes by type, instead of by keyword.
        schema: The structure.
        storage_policies: Where it may be stored.
        documentation: Description.
        deprecation_info: Whether it is on its way out.
        classifications: How sensitive it is; applies to all columns.
    """

    def __init__(
        self,
        name: str,
        *args: Schema | StoragePolicy | Documentation | DeprecationInfo | DataClassification,
        schema: Schema | None = None,
        storage_policies: list[StoragePolicy] | None = None,
        documentation: Documentation | None = None,
        deprecation_info: DeprecationInfo | None = None,
        classifications: list[DataClassification] | None = None,
    ) -> None:
        ANSI_SQL_NamedObject.__init__(self, name)
        Documentable.__init__(self, documentation)
        self.originalSchema = schema
        self.policies: dict[str, StoragePolicy] = {p.name: p for p in storage_policies or []}
        self.deprecationStatus = deprecation_info or DeprecationInfo(
            DeprecationStatus.NOT_DEPRECATED
        )
        self.dataClassificationOverride: list[DataClassification] = list(classifications or [])
        for arg in args:
            self._add(arg)

    def _add(
        self,
        arg: Schema | StoragePolicy | Documentation | DeprecationInfo | DataClassification,
    ) -> None:
        match arg:
            case Schema():
                self.originalSchema = arg
            case StoragePolicy():
                self.policies[arg.name] = arg
            case DeprecationInfo():
                self.deprecationStatus = arg
            case DataClassification():
                self.dataClassificationOverride.append(arg)
            case Documentation():
                self.documentation = arg
            case _:
                raise TypeError(f"{self} takes no {type(arg).__name__}.")

    def hasClassifications(self) -> bool:
        """Tell whether the dataset, or each of its columns, is classified."""
        if self.dataClassificationOverride:
            return True
        schema = self.originalSchema
        return isinstance(schema, DDLTable) and all(
            column.classification for column in schema.columns.values()
        )

    def lint(self, tree: ValidationTree, production: ProductionStatus) -> None:
        """Add the problems of the dataset to `tree`.

        Args:
            tree: Where the problems go.
            production: Status of the store; production needs classifications.
        """
        self.nameLint(tree)
        for policy in self.policies.values():
            lintCoverage(policy, tree)
        if isinstance(self.originalSchema, DDLTable):
            self.originalSchema.lint(tree.addSubTree(self.originalSchema))
        elif self.originalSchema is None:
            tree.addRaw(AttributeNotSet("schema"))
        else:
            tree.addProblem(f"The schema of {self} must be a DDLTable.")
        if not self.hasClassifications():
            isProduction = production is ProductionStatus.PRODUCTION
            tree.addProblem(
                f"{self} has no classification; give it classifications=[...].",
                ProblemSeverity.ERROR if isProduction else ProblemSeverity.WARNING,
            )

    def to_json(self) -> dict[str, Any]:
        schema = self.originalSchema
        return (
            super().to_json()
            | {
                "originalSchema": None if schema is None else schema.to_json(),
                "policies": [p.to_json() for p in self.policies.values()],
                "deprecationStatus": self.deprecationStatus.to_json(),
                "dataClassificationOverride": [
                    c.to_json() for c in self.dataClassificationOverride
                ],
            }
            | self.documentationJson()
        )


class Datastore(ANSI_SQL_NamedObject, Documentable):
    """A group of datasets that are captured in the same way.

    Args:
        name: An SQL identifier, unique in the ecosystem.
        *args: Datasets and the other attributes by type, instead of by keyword.
        datasets: The datasets, in order.
        capture_metadata: How they are captured.
        documentation: Description.
        production_status: Whether production depends on it; no unless given.
        deprecation_info: Whether it is on its way out.
        datasetDSGApprovals: Which dataset groups may use which dataset.

    Raises:
        ObjectAlreadyExistsException: Two datasets have the same name.
        AttributeAlreadySetException: It is given two capture metadata.
    """

    def __init__(
        self,
        name: str,
        *args: Dataset | CaptureMetaData | Documentation | ProductionStatus | DeprecationInfo,
        datasets: list[Dataset] | None = None,
        capture_metadata: CaptureMetaData | None = None,
        documentation: Documentation | None = None,
        production_status: ProductionStatus | None = None,
        deprecation_info: DeprecationInfo | None = None,
        datasetDSGApprovals: set[Any] | None = None,
    ) -> None:
        ANSI_SQL_NamedObject.__init__(self, name)
        Documentable.__init__(self, documentation)
        self.datasets: dict[str, Dataset] = {}
        self.cmd = capture_metadata
        self.productionStatus = production_status or ProductionStatus.NOT_PRODUCTION
        self.deprecationStatus = deprecation_info or DeprecationInfo(
            DeprecationStatus.NOT_DEPRECATED
        )
        self.datasetDSGApprovals = datasetDSGApprovals or set()
        self.key: DatastoreKey | None = None
        self.add(*(datasets or []), *args)

    def add(
        self,
        *args: Dataset | CaptureMetaData | Documentation | ProductionStatus | DeprecationInfo,
    ) -> None:
        """Add datasets, or set other attributes by their type.

        Raises:
            ObjectAlreadyExistsException: There is a dataset of that name.
            AttributeAlreadySetException: There is a capture metadata already.
        """
        for arg in args:
            match arg:
                case Dataset():
                    if arg.name in self.datasets:
                        raise ObjectAlreadyExistsException(f"{self} already has {arg}.")
                    self.datasets[arg.name] = arg
                case CaptureMetaData():
                    if self.cmd is not None:
                        raise AttributeAlreadySetException("capture_metadata")
                    self.cmd = arg
                case ProductionStatus():
                    self.productionStatus = arg
                case DeprecationInfo():
                    self.deprecationStatus = arg
                case Documentation():
                    self.documentation = arg
                case _:
                    raise TypeError(f"{self} takes no {type(arg).__name__}.")

    def isDatasetDeprecated(self, dataset: Dataset) -> bool:
        """Tell whether the store or its `dataset` is on its way out."""
        statuses = {self.deprecationStatus.status, dataset.deprecationStatus.status}
        return DeprecationStatus.DEPRECATED in statuses

    def lint(self, eco: LocationDirectory, tree: ValidationTree) -> None:
        """Add the problems of the store and its datasets to `tree`."""
        self.nameLint(tree)
        if not self.datasets:
            tree.addProblem(f"{self} has no datasets.")
        for dataset in self.datasets.values():
            dataset.lint(tree.addSubTree(dataset), self.productionStatus)
        if self.cmd is None:
            tree.addRaw(AttributeNotSet("capture_metadata"))
            return
        self.cmd.lint(eco, tree.addSubTree(self.cmd))
        for name in sorted(set(getattr(self.cmd, "tableForDataset", {})) - set(self.datasets)):
            tree.addProblem(f"A source table is named for '{name}', which {self} does not have.")

    def to_json(self) -> dict[str, Any]:
        return (
            super().to_json()
            | {
                "datasets": [d.to_json() for d in self.datasets.values()],
                "cmd": None if self.cmd is None else self.cmd.to_json(),
                "productionStatus": self.productionStatus.name,
                "deprecationStatus": self.deprecationStatus.to_json(),
            }
            | self.documentationJson()
        )
