"""Each public name of DataSurface that the plugin and the examples rely on, one test a name."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from conftest import Site, render
from yellow_models import PROVIDERS_BOOTSTRAP, Store, live_repository

import yellow_dynamic
from datasurface.md import ValidationTree

ROOT = Path(__file__).parents[2]
EXAMPLES = [
    eco
    for eco in sorted(ROOT.glob("examples/*/eco.py"))
    if (eco.parent.name == "provider") is PROVIDERS_BOOTSTRAP
]
SOURCES = [
    *sorted(Path(yellow_dynamic.__file__).parent.rglob("*.py")),
    *EXAMPLES,
    ROOT / "tests" / "yellow_models.py",
]


def imported_names() -> list[str]:
    """Return what the sources import from DataSurface, as module:name."""
    return sorted(
        {
            f"{node.module}:{alias.name}"
            for source in SOURCES
            for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("datasurface.")
            for alias in node.names
        }
    )


@pytest.mark.parametrize("name", imported_names())
def test_name_can_be_imported(name: str) -> None:
    module, _, attribute = name.partition(":")

    assert hasattr(importlib.import_module(module), attribute)


MD = "datasurface.md"
LINT = "datasurface.md.lint"
REPO = "datasurface.md.repo"
YELLOW = "datasurface.platforms.yellow"
YELLOW_DP = "datasurface.platforms.yellow.yellow_dp"
ASSEMBLY = "datasurface.platforms.yellow.assembly"
COMMAND = "datasurface.cmd.platform"

#: What the two kinds of releases have of their own.
OWN_KEYWORDS = (
    {
        "provider": [
            "yp_assembly", "mergeRW_Credential", "dataPlatforms", "image_pull_policy", "hints",
        ],
        "ecosystem": ["platform_services_providers", "liveRepo"],
    }
    if PROVIDERS_BOOTSTRAP
    else {
        "provider": [
            "namespace", "postgresCredential", "git_cache_storage_class", "git_cache_access_mode",
            "git_cache_storage_size", "git_cache_max_age_minutes", "git_cache_enabled",
        ],
        "ecosystem": ["data_platforms", "default_data_platform"],
    }
)  # fmt: skip
OWN_ATTRIBUTES = (
    {
        "provider": [
            "dataPlatforms", "mergeRW_Credential", "image_pull_policy.value", "yp_assm.namespace",
            *(
                f"yp_assm.git_cache_config.{name}"
                for name in (
                    "enabled", "pvc_name", "storageClass", "access_mode", "storage_size.spec",
                    "git_cache_max_age_minutes", "cacheLocalPath",
                )
            ),
        ],
        "ecosystem": ["platformServicesProviders"],
    }
    if PROVIDERS_BOOTSTRAP
    else {
        "provider": [
            "namespace", "postgresCredential", "git_cache_enabled", "git_cache_storage_class",
            "git_cache_access_mode", "git_cache_storage_size", "git_cache_max_age_minutes",
        ],
        "ecosystem": ["dataPlatforms"],
    }
)  # fmt: skip

#: What is called, or overridden and then called by the host, and its parameters from the first on.
POSITIONAL = {
    f"{YELLOW}:YellowDataPlatform.lint": ["eco", "tree"],
    f"{YELLOW}:YellowDataPlatform.createGraphHandler": ["graph"],
    f"{YELLOW}:YellowDataPlatform.getAirflowDAGTable": [],
    f"{YELLOW}:YellowDataPlatform.getPhysDAGTableName": [],
    f"{YELLOW}:YellowDataPlatform.getCredentialStore": [],
    f"{YELLOW_DP}:YellowGraphHandler": ["dp", "graph"],
    f"{YELLOW_DP}:YellowGraphHandler.renderGraph": ["credStore", "issueTree"],
    f"{YELLOW_DP}:YellowGraphHandler.generateSecretsDocumentation": ["eco", "issueTree"],
    f"{MD}:CredentialStore.getAsUserPassword": ["cred"],
    f"{MD}:CredentialStore.lintCredential": ["cred", "tree"],
    f"{MD}:Ecosystem.cache_getDatastoreOrThrow": [],
    f"{MD}:Ecosystem.getDataPlatformOrThrow": ["name"],
    f"{MD}:Ecosystem.lintAndHydrateCaches": [],
    f"{MD}:Ecosystem.hydrateDSGDataPlatformMappings": ["jsonFile", "tree"],
    f"{MD}:EcosystemPipelineGraph": ["eco"],
    f"{MD}:ValidationTree.addProblem": [],
    f"{MD}:ValidationTree.addRaw": ["problem"],
    f"{MD}:ValidationTree.addSubTree": ["obj"],
    f"{MD}:ValidationTree.hasErrors": [],
    f"{MD}:ValidationTree.getErrors": [],
    f"{LINT}:ObjectWrongType": [],
    f"{REPO}:GitHubRepository": ["repo", "branchName"],
    f"{COMMAND}:generatePlatformBootstrap": ["ringLevel", "modelFolderName", "basePlatformDir"],
    f"{COMMAND}:handleModelMerge": ["modelFolderName", "basePlatformDir"],
}
if PROVIDERS_BOOTSTRAP:
    HINTS, NAMES = f"{YELLOW}:YellowPlatformServiceProvider", f"{ASSEMBLY}:K8sUtils.to_k8s_name"
    POSITIONAL |= {
        f"{YELLOW}:YellowDataPlatform": ["name", "doc", "milestoneStrategy"],
        f"{YELLOW_DP}:YellowGraphHandler.populateDAGConfigurations": ["eco", "issueTree"],
        f"{YELLOW_DP}:YellowGraphHandler.populateDataTransformerConfigurations": [
            "eco", "issueTree",
        ],
        f"{HINTS}.generateBootstrapArtifacts": ["eco", "ringLevel"],
        f"{HINTS}.mergeHandler": ["eco", "basePlatformDir"],
        f"{HINTS}.populateFactoryDAGConfigurations": ["eco"],
        f"{HINTS}.getIngestionJobHint": ["storeName", "datasetName"],
        f"{HINTS}.getDataTransformerJobHint": ["workspaceName"],
        f"{HINTS}.to_python_name": ["name"],
        NAMES: ["name"],
        f"{ASSEMBLY}:Component.storageToKubernetesFormat": ["s"],
        f"{YELLOW}:K8sIngestionHint.to_k8s_json": [],
        f"{YELLOW}:K8sDataTransformerHint.to_k8s_json": [],
        f"{MD}:DataContainerNamingMapper.fmtTVI": ["s"],
    }  # fmt: skip
else:
    POSITIONAL |= {
        f"{YELLOW}:YellowDataPlatform": [
            "name", "doc", "platformServiceProvider", "milestoneStrategy",
        ],
        f"{YELLOW}:YellowDataPlatform.generateBootstrapArtifacts": ["eco", "ringLevel"],
        f"{YELLOW}:YellowDataPlatform.to_k8s_name": ["name"],
        f"{YELLOW_DP}:YellowGraphHandler.createAirflowDAGs": ["eco", "issueTree"],
    }  # fmt: skip
#: What the models give by keyword.
KEYWORDS = {
    f"{YELLOW}:YellowPlatformServiceProvider": [
        "name", "locs", "doc", "gitCredential", "connectCredentials", "merge_datacontainer",
        "datasurfaceDockerImage", *OWN_KEYWORDS["provider"],
    ],
    f"{MD}:Ecosystem": [
        "repo", "infrastructure_vendors", "governance_zone_declarations", "documentation",
        *OWN_KEYWORDS["ecosystem"],
    ],
    f"{MD}:Datastore": ["datasets", "capture_metadata", "documentation"],
    f"{MD}:Dataset": ["schema", "classifications", "documentation"],
    f"{MD}:DatasetGroup": ["sinks", "platform_chooser"],
    f"{MD}:PostgresDatabase": ["hostPort", "locations", "databaseName"],
    f"{MD}:InfrastructureVendor": ["cloud_vendor", "documentation", "locations"],
    f"{MD}:InfrastructureLocation": ["documentation", "locations"],
}  # fmt: skip


def parameters(name: str) -> list[str]:
    """Return the names of a callable's parameters, without `self`."""
    module, _, path = name.partition(":")
    found = attrgetter(path)(importlib.import_module(module))
    return [name for name in inspect.signature(found).parameters if name != "self"]


@pytest.mark.parametrize("name", POSITIONAL)
def test_signature_begins_with(name: str) -> None:
    wanted = POSITIONAL[name]

    assert parameters(name)[: len(wanted)] == wanted


@pytest.mark.parametrize("name", KEYWORDS)
def test_signature_takes_the_keywords(name: str) -> None:
    assert set(KEYWORDS[name]) <= set(parameters(name))


#: What is read of the objects of a model, by what a test of this module calls them.
ATTRIBUTES = {
    "platform": ["name", "psp"],
    "provider": [
        "name", "airflowName", "mergeStore", "namingMapper", "gitCredential", "connectCredentials",
        "datasurfaceDockerImage", *OWN_ATTRIBUTES["provider"],
    ],
    "merge store": ["databaseName", "hostPortPair.hostName", "hostPortPair.port"],
    "ecosystem": ["name", "owningRepo", *OWN_ATTRIBUTES["ecosystem"]],
    "repository": ["repositoryName", "branchName"],
    "credential": ["name", "credentialType"],
    "graph": ["eco", "platform", "storesToIngest"],
    "handler": ["dp", "graph"],
    "store": ["name", "datasets", "cmd"],
    "ingestion": ["credential", "stepTrigger.cron", "singleOrMultiDatasetIngestion"],
    "Kafka ingestion": ["stepTrigger", "singleOrMultiDatasetIngestion"],
    "problem": ["description"],
    "problems of a model": ["object", "problems", "children"],
}  # fmt: skip


def objects(site: Site) -> Iterator[tuple[str, Any]]:
    """Yield the objects of a model by what ATTRIBUTES calls them."""
    site.model.stores = [Store("Store1"), Store("Topic", kafka=True)]
    eco = site.model.build()
    eco.lintAndHydrateCaches()
    graph = site.model.graphOf(eco, site.folder)
    platform: Any = graph.platform
    store = eco.cache_getDatastoreOrThrow("Store1").datastore
    tree = ValidationTree(eco)
    tree.addProblem("A problem")
    yield "platform", platform
    yield "provider", platform.psp
    yield "merge store", platform.psp.mergeStore
    yield "ecosystem", eco
    yield "repository", live_repository(eco)
    yield "credential", platform.psp.gitCredential
    yield "graph", graph
    yield "handler", platform.createGraphHandler(graph)
    yield "store", store
    yield "ingestion", store.cmd
    yield "Kafka ingestion", eco.cache_getDatastoreOrThrow("Topic").datastore.cmd
    yield "problems of a model", tree
    yield "problem", next(iter(tree.getErrors()))


@pytest.mark.parametrize(
    ("owner", "attribute"),
    [(owner, attribute) for owner, names in ATTRIBUTES.items() for attribute in names],
)
def test_object_has_the_attribute(site: Site, owner: str, attribute: str) -> None:
    attrgetter(attribute)(dict(objects(site))[owner])


def test_graph_handler_calls_the_hook_that_fills_the_table(installed: Site) -> None:
    installed.sql("DELETE FROM {table}")

    render(installed.model.graph(installed.folder))

    assert installed.sql("SELECT stream_key FROM {table}") == [("Store1",)]
