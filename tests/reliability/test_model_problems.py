"""A model that cannot run is a problem that names the object, and costs no row and no file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from conftest import Site, problems, render
from fault_table import FaultTable
from merge_command import Commands, shows_no_traceback
from yellow_models import EVERY_MINUTE, SINGLE, Model, Store, change_provider, live_repository

from datasurface.md import CronTrigger, PlatformPipelineGraph, ValidationTree
from yellow_dynamic.datasurface_adapter import DATASURFACE
from yellow_dynamic.plugin import YellowDynamicGraphHandler


def merge_of(site: Site, model: Model) -> tuple[dict[str, str], list[str]]:
    """Merge a model as handleModelMerge does; return the files and the problems' texts."""
    try:
        eco = model.build()
    except Exception as error:  # noqa: BLE001 - each host has a kind of its own
        return {}, [str(error)]
    tree = eco.lintAndHydrateCaches()
    if tree.hasErrors():
        return {}, [str(problem.description) for problem in tree.getErrors()]
    files, tree = render(model.graphOf(eco, site.folder))
    return files, problems(tree)


LONG = "x" * 300
# What is wrong, and what the problem has to name.
BAD_MODELS: dict[str, tuple[dict[str, Any], str]] = {
    "store name over all limits": ({"stores": [Store("S" * 300)]}, "S" * 100),
    "dataset name over all limits": ({"stores": [Store("S", ["d" * 300], SINGLE)]}, "d" * 100),
    "stream key over the dag id's limit": (
        {"stores": [Store("S" * 125, ["d" * 125], SINGLE)]},
        "S" * 100,
    ),
    "platform name over all limits": ({"platform": LONG}, "xxx"),
    "platform name without a letter": ({"platform": "___"}, "___"),
    "namespace over Kubernetes' limit": ({"namespace": "n" * 64}, "n" * 64),
    "namespace with capitals": ({"namespace": "Prod"}, "Prod"),
    "credential name over the secret's limit": ({"gitCredential": "c" * 300}, "c" * 100),
    "credential name with a space": ({"gitCredential": "my git"}, "my git"),
    "repository without an owner": ({"repository": "models"}, "models"),
    "repository with a path": ({"repository": "acme/models/main"}, "acme/models/main"),
    "repository that is empty": ({"repository": ""}, "repository name"),
    "schedule that is no cron expression": (
        {"stores": [Store("S", trigger=CronTrigger("Daily", "every day"))]},
        "every day",
    ),
    "image that is empty": (
        {"providerArguments": {"datasurfaceDockerImage": ""}},
        "docker",
    ),
    "two streams with one key": (
        {"stores": [Store("A_b"), Store("A", ["b"], SINGLE)]},
        "A_b",
    ),
}


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        *(pytest.param(*values, id=id_) for id_, values in BAD_MODELS.items()),
        pytest.param(
            {"platform": "../../etc"},
            "../../etc",
            id="platform name that leaves the folder",
            marks=pytest.mark.embedded,
        ),
    ],
)
def test_model_that_cannot_run_names_the_object_and_writes_nothing(
    installed: Site, changes: dict[str, Any], name: str, faults: FaultTable
) -> None:
    before = installed.sql("SELECT * FROM {table}")
    settings = {"database": installed.database, "postgresCredential": "postgres", **changes}

    files, found = merge_of(installed, Model(**settings))

    after = installed.sql("SELECT * FROM {table}")
    assert files == {}
    assert name.lower() in " ".join(found).lower()
    faults.record(
        "merge of a model that cannot run", injected=1, survived=1, rows_lost=int(after != before)
    )


def without_repository(graph: Any) -> None:
    graph.eco.owningRepo = graph.eco.liveRepo = None


def without_repository_name(graph: Any) -> None:
    live_repository(graph.eco).repositoryName = "https://github.com/acme/models"


def without_consistency(graph: Any) -> None:
    cmd = graph.eco.cache_getDatastoreOrThrow("Store1").datastore.cmd
    cmd.singleOrMultiDatasetIngestion = None


def with_namespace(graph: Any) -> None:
    change_provider(graph.platform, "namespace", "n" * 64)


def with_credential(graph: Any) -> None:
    graph.platform.psp.gitCredential.name = "my git"


def with_long_credential(graph: Any) -> None:
    graph.platform.psp.gitCredential.name = "c" * 300


def with_nameless_credential(graph: Any) -> None:
    graph.platform.psp.gitCredential.name = "___"


def with_two_credentials_of_one_secret(graph: Any) -> None:
    psp = graph.platform.psp
    psp.gitCredential.name = DATASURFACE.merge_credential(psp).name.upper()


def with_image(graph: Any) -> None:
    graph.platform.psp.datasurfaceDockerImage = "i" * 2000


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (without_repository, "repository of ecosystem 'Test' is None"),
        (without_repository_name, "'https://github.com/acme/models'"),
        (without_consistency, "store 'Store1' says neither"),
        (with_namespace, "has 64 characters, more than 63"),
        (
            with_credential,
            "cannot be used: git_credential_name 'my git' is not the start of",
        ),
        (with_long_credential, "the credential 'ccc"),
        (
            with_nameless_credential,
            "the credential '___' cannot be used: git_credential_secret_name",
        ),
        (with_two_credentials_of_one_secret, "would share the Kubernetes secret 'postgres'"),
        (with_image, "datasurface_docker_image 'iii"),
    ],
)
def test_the_plugin_finds_it_where_the_host_does_not(
    installed: Site, spoil: Callable[[Any], None], name: str
) -> None:
    before = installed.sql("SELECT * FROM {table}")
    graph = installed.model.graph(installed.folder)
    spoil(graph)

    assert name in " ".join(problems(populate(graph)))
    assert installed.sql("SELECT * FROM {table}") == before


def test_platform_without_a_stream_is_checked_too(installed: Site) -> None:
    installed.model.platformArguments["allowEmpty"] = True
    before = installed.sql("SELECT * FROM {table}")
    graph = installed.model.graph(installed.folder)
    graph.storesToIngest.clear()
    with_namespace(graph)

    assert "has 64 characters, more than 63" in " ".join(problems(populate(graph)))
    assert installed.sql("SELECT * FROM {table}") == before


def populate(graph: PlatformPipelineGraph) -> ValidationTree:
    """Populate without the host's own checks before it."""
    tree = ValidationTree(graph.eco)
    handler = graph.platform.createGraphHandler(graph)
    assert isinstance(handler, YellowDynamicGraphHandler)
    handler.populateDAGConfigurations(graph.eco, tree)
    return tree


def test_command_refuses_a_bad_model_without_a_file_and_a_row(installed: Site) -> None:
    bad = Commands(
        installed.folder / "model", installed.model, "[Store('A_b'), Store('A', ['b'], SINGLE)]"
    )
    before = installed.sql("SELECT * FROM {table}")

    done = bad.merge()

    assert done.returncode == 1
    assert "A_b" in done.stderr
    assert shows_no_traceback(done)
    assert not [path for path in bad.output.rglob("*") if path.is_file()]
    assert installed.sql("SELECT * FROM {table}") == before


def test_names_at_the_limits_run_in_pods_with_legal_names(installed: Site) -> None:
    platform = "P" * 40
    store = Store("S" * 100, ["d" * (250 - 40 - 100 - len("___ingestion") - 1)], SINGLE)
    installed.model.platform = platform
    installed.model.stores = [store]
    installed.bootstrap()
    installed.merge_cleanly()

    [(dag_id, dag)] = installed.parse().items()

    assert len(dag_id) == 250
    assert "config-error" not in dag.tags
    assert len(dag.get_task("snapshot_merge_job").name) <= 63
    assert dag.schedule == EVERY_MINUTE.cron
