"""The pipeline graph: what each platform has to ingest and to export."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_estate import (
    MULTI,
    NIGHTLY,
    SINGLE,
    NoCredentials,
    PlainPlatform,
    assign,
    assigned,
    database,
    errors,
    estate,
    group,
    snapshot,
    store,
    workspace,
)

from datasurface.md import (
    Credential,
    CredentialType,
    DatasetSink,
    Datastore,
    EcosystemPipelineGraph,
    ExportNode,
    IngestionMultiNode,
    IngestionSingleNode,
    PlatformPipelineGraph,
    SQLSnapshotIngestion,
    ValidationTree,
)

pytestmark = pytest.mark.embedded


def graph_of(folder: Path, *stores: Datastore) -> PlatformPipelineGraph:
    """Return the graph of a platform that serves all datasets of `stores`."""
    sinks = [DatasetSink(s.name, name) for s in stores for name in s.datasets]
    eco = estate(*stores, workspace(group(*sinks)))
    assert errors(assign(eco, folder, assigned("One"))) == []
    return EcosystemPipelineGraph(eco).roots["One"]


def test_a_platform_ingests_the_stores_of_its_groups(tmp_path: Path) -> None:
    eco = estate(store(), store("Unused"), workspace(group()))
    assign(eco, tmp_path, assigned("One"))

    part = EcosystemPipelineGraph(eco).roots["One"]

    assert part.storesToIngest == {"Store1"}
    assert list(part.workspaces) == ["Consumer"]
    assert [str(root) for root in part.roots] == ["Consumer/DSG"]
    assert part.platform is eco.getDataPlatform("One")


def test_a_multi_dataset_store_is_one_ingestion(tmp_path: Path) -> None:
    part = graph_of(tmp_path, store())

    node = part.nodes["Ingest/One/Store1"]
    assert isinstance(node, IngestionMultiNode)
    assert node.captureTrigger is NIGHTLY
    assert sorted(node.rightHandNodes) == [
        "Export/One/Consumer data/Store1/addresses",
        "Export/One/Consumer data/Store1/customers",
    ]
    assert [each for each in part.nodes.values() if not each.leftHandNodes] == [node]


def test_a_single_dataset_store_is_an_ingestion_for_each_dataset(tmp_path: Path) -> None:
    part = graph_of(tmp_path, store(cmd=snapshot(SINGLE, NIGHTLY)))

    ingestions = [n for n in part.nodes.values() if isinstance(n, IngestionSingleNode)]
    assert [(str(n), n.storeName, n.datasetName) for n in ingestions] == [
        ("Ingest/One/Store1/customers", "Store1", "customers"),
        ("Ingest/One/Store1/addresses", "Store1", "addresses"),
    ]
    exports = [each for each in part.nodes.values() if not each.rightHandNodes]
    assert {type(n) for n in exports} == {ExportNode}
    assert {tuple(n.leftHandNodes) for n in exports} == {
        ("Ingest/One/Store1/customers",),
        ("Ingest/One/Store1/addresses",),
    }


def test_two_groups_of_one_container_share_an_export(tmp_path: Path) -> None:
    eco = estate(store(), workspace(group(), group(name="Second")))
    assign(eco, tmp_path, assigned("One"), assigned("One") | {"dsgName": "Second"})

    part = EcosystemPipelineGraph(eco).roots["One"]

    assert len([n for n in part.nodes.values() if isinstance(n, ExportNode)]) == 1
    assert [len(consumers) for consumers in part.dataContainerConsumers.values()] == [2]


def test_a_platform_without_assignments_has_no_part(tmp_path: Path) -> None:
    eco = estate(platforms=[PlainPlatform("One"), PlainPlatform("Two")])
    assign(eco, tmp_path, assigned("One"))

    assert list(EcosystemPipelineGraph(eco).roots) == ["One"]


@pytest.mark.parametrize(
    ("status", "served"),
    [
        ("PROVISIONING", True),
        ("PROVISIONED", True),
        ("DECOMMISSIONING", True),
        ("DECOMMISSIONED", False),
    ],
)
def test_only_a_decommissioned_assignment_is_not_served(
    tmp_path: Path, status: str, served: bool
) -> None:
    eco = estate()
    assign(eco, tmp_path, assigned("One", status=status))

    assert ("One" in EcosystemPipelineGraph(eco).roots) is served


def test_a_store_may_have_no_trigger(tmp_path: Path) -> None:
    part = graph_of(tmp_path, store(cmd=snapshot(MULTI)))

    assert vars(part.nodes["Ingest/One/Store1"])["captureTrigger"] is None


def test_lint_checks_the_credentials_of_the_sources(tmp_path: Path) -> None:
    bad = Credential("bad_login", CredentialType.USER_PASSWORD)
    part = graph_of(tmp_path, store(cmd=SQLSnapshotIngestion(database(), MULTI, bad)))
    tree = ValidationTree("graph")

    part.lint(NoCredentials("store", set()), tree)

    assert errors(tree) == ["bad_login is bad"]
