"""A model with a transformer, for the tests."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from yellow_models import SINGLE, Model, Store, dataset

from datasurface.md import (
    Credential,
    DataPlatformManagedDataContainer,
    DatasetGroup,
    DatasetSink,
    Datastore,
    DataTransformer,
    StepTrigger,
    Workspace,
)
from datasurface.md.codeartifact import PythonRepoCodeArtifact
from datasurface.md.documentation import PlainTextDocumentation
from datasurface.md.repo import GitHubRepository

#: The keys of the streams of a transforming model: of each kind of store, and of the transformer.
INPUTS = ["Each_x", "Store1"]
TRANSFORMER, OUTPUT = "Producer_datatransformer", "Totals_dt"
KEYS = ["Each_x", "Each_y", TRANSFORMER, "Store1", OUTPUT]
#: Where the transformer's code is.
CODE = "acme/code"
#: Copies the customers of Store1, their names in capitals, into the output.
SCRIPT = """
from sqlalchemy import text

def executeTransformer(connection, context):
    source = context.getInputTableNameForDataset("Inputs", "Store1", "customers")
    target = context.getOutputTableNameForDataset("totals")
    return connection.execute(text(
        f"INSERT INTO {target} (id, name) SELECT id, upper(name) FROM {source}"
    ))
"""


def transform(
    model: Model,
    *,
    trigger: StepTrigger | None = None,
    credential: Credential | None = None,
    source: str = "source",
    code: str = CODE,
    each: Sequence[str] = ("x", "y"),
) -> Model:
    """Give the model two stores, a transformer that reads both, and a consumer of its output.

    Args:
        model: the model, which is changed and returned.
        trigger: the transformer's.
        credential: that of its code's repository.
        source: the database of the stores' tables.
        code: the repository of the transformer's code.
        each: the datasets of the store that is ingested dataset by dataset.
    """
    model.stores = [
        Store("Store1", source=source),
        Store("Each", each, SINGLE, source=source),
    ]
    model.workspaces = partial(producers, trigger, credential, code)
    model.sinks = [DatasetSink("Totals", "totals")]
    return model


def producers(
    trigger: StepTrigger | None, credential: Credential | None, repository: str
) -> list[Workspace]:
    """Return a workspace whose transformer reads a stream of each kind and makes a store."""
    inputs = [DatasetSink("Store1", "customers"), DatasetSink("Each", "x")]
    output = Datastore(
        "Totals",
        datasets=[dataset("totals")],
        documentation=PlainTextDocumentation("What the transformer makes"),
    )
    code = PythonRepoCodeArtifact(
        GitHubRepository(repository, "main", credential=credential), "1.0"
    )
    return [
        Workspace(
            "Producer",
            DataPlatformManagedDataContainer("Producer container"),
            DatasetGroup("Inputs", sinks=inputs),
            DataTransformer("Summing", output, code, trigger=trigger),
        )
    ]
