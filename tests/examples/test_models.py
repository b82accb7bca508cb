"""The example models load without a problem, and describe the data as it is."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd
import pytest
from yellow_models import PROVIDERS_BOOTSTRAP

import demo
from datasurface.md import (
    CronTrigger,
    Dataset,
    Ecosystem,
    EcosystemPipelineGraph,
    SQLSnapshotIngestion,
)
from datasurface.md.model_loader import loadEcosystemFromEcoModule
from datasurface.md.schema import DDLTable, NullableStatus
from datasurface.md.types import Double, Integer, TextDataType, Timestamp
from yellow_dynamic import YellowDynamicDataPlatform

EXAMPLES = Path(__file__).parents[2] / "examples"
TABLES = ["airlines", "airports", "planes", "flights", "weather"]

pytestmark = pytest.mark.skipif(
    PROVIDERS_BOOTSTRAP, reason="the example is for DataSurface 0.0.36 to 0.0.38"
)


def load(folder: Path) -> Ecosystem:
    """Return the model in `folder`, which must have neither errors nor warnings."""
    eco, tree = loadEcosystemFromEcoModule(str(folder))
    assert eco is not None
    assert tree is not None
    assert list(tree.getErrors()) == list(tree.getWarnings()) == []
    return eco


@pytest.fixture(scope="module")
def nyc() -> Ecosystem:
    return load(EXAMPLES / "nycflights")


@pytest.mark.parametrize(
    ("example", "platforms"),
    [("mvp", ["YellowLive", "YellowForensic"]), ("nycflights", ["NycLive", "NycForensic"])],
)
def test_an_example_gives_all_its_platforms_all_its_stores(
    example: str, platforms: list[str]
) -> None:
    eco = load(EXAMPLES / example)

    assert list(eco.dataPlatforms) == platforms
    roots = EcosystemPipelineGraph(eco).roots
    assert sorted(roots) == sorted(platforms)
    assert all(part.storesToIngest == set(eco.datastoreCache) for part in roots.values())
    for platform in eco.dataPlatforms.values():
        assert isinstance(platform, YellowDynamicDataPlatform)


def test_the_mvp_model_is_that_of_the_plan() -> None:
    eco = load(EXAMPLES / "mvp")
    platform = eco.getDataPlatformOrThrow("YellowLive")
    assert isinstance(platform, YellowDynamicDataPlatform)
    cmd = eco.cache_getDatastoreOrThrow("Store1").datastore.cmd
    assert isinstance(cmd, SQLSnapshotIngestion)
    assert isinstance(cmd.stepTrigger, CronTrigger)

    assert platform.psp.namespace == "ns-kub-pg-test"
    assert platform.psp.datasurfaceDockerImage == "registry.example.org/datasurface:1"
    assert str(platform.psp.mergeStore.hostPortPair) == (
        "pg-data.ns-kub-pg-test.svc.cluster.local:5432"
    )
    assert cmd.stepTrigger.cron == "* * * * *"
    assert list(eco.cache_getDatastoreOrThrow("Store1").datastore.datasets) == [
        "customers",
        "addresses",
    ]


def test_the_source_of_nycflights_has_a_login_of_its_own(nyc: Ecosystem) -> None:
    platform = nyc.getDataPlatformOrThrow("NycLive")
    assert isinstance(platform, YellowDynamicDataPlatform)
    cmd = nyc.cache_getDatastoreOrThrow("NycFacts").datastore.cmd

    assert isinstance(cmd, SQLSnapshotIngestion)
    assert cmd.credential is not None
    assert cmd.credential.name == "nyc_source" != platform.psp.postgresCredential.name


def test_editing_one_line_of_nycflights_swaps_a_dataset(tmp_path: Path) -> None:
    source = EXAMPLES / "nycflights"
    before, after = 'FACTS = ("flights", "weather")', 'FACTS = ("flights", "routes")'
    text = source.joinpath("eco.py").read_text()
    assert text.count(before) == 1
    tmp_path.joinpath("eco.py").write_text(text.replace(before, after))
    mapping = "dsg_platform_mapping.json"
    tmp_path.joinpath(mapping).write_text(source.joinpath(mapping).read_text())

    eco = load(tmp_path)

    assert list(eco.cache_getDatastoreOrThrow("NycFacts").datastore.datasets) == [
        "flights",
        "routes",
    ]
    nodes = EcosystemPipelineGraph(eco).roots["NycLive"].nodes
    ingested = [node.name for node in nodes.values() if node.name.startswith("Ingest/")]
    assert sorted(name for name in ingested if "NycDelays" not in name) == [
        "Ingest/NycLive/NycFacts/flights",
        "Ingest/NycLive/NycFacts/routes",
        "Ingest/NycLive/NycReference",
    ]


def described(nyc: Ecosystem, table: str) -> DDLTable:
    """Return what the model says of a table."""
    stores = [entry.datastore for entry in nyc.datastoreCache.values()]
    found: list[Dataset] = [s.datasets[table] for s in stores if table in s.datasets]
    assert len(found) == 1
    schema = found[0].originalSchema
    assert isinstance(schema, DDLTable)
    return schema


@cache
def read_table(table: str) -> pd.DataFrame:
    with demo.open_csv(table) as rows:
        return pd.read_csv(rows)


@pytest.mark.parametrize("table", TABLES)
def test_columns_nulls_and_keys_are_those_of_the_data(nyc: Ecosystem, table: str) -> None:
    data = read_table(table)
    schema = described(nyc, table)

    assert list(schema.columns) == list(data.columns)
    nullable = [c.name for c in schema.columns.values() if c.nullable is NullableStatus.NULLABLE]
    assert nullable == [name for name in data.columns if data[name].isna().any()]
    assert not data.duplicated(schema.primaryKeyColumns.colNames).any()


@pytest.mark.parametrize("table", TABLES)
def test_every_value_fits_its_type(nyc: Ecosystem, table: str) -> None:
    data = read_table(table)

    for column in described(nyc, table).columns.values():
        values = data[column.name].dropna()
        match column.type:
            case TextDataType(maxSize=int(size)):
                assert values.str.len().max() <= size, column.name
            case Integer():
                assert (values == values.astype("int32")).all(), column.name
            case Double():
                assert values.dtype == "float64", column.name
            case Timestamp():
                assert pd.to_datetime(values).notna().all(), column.name
            case _:
                pytest.fail(f"{column} has a type that this test does not know")
