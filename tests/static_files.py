"""The files that the static platform renders from the model of a site."""

from __future__ import annotations

from pathlib import Path

from conftest import Site
from yellow_models import Model

from datasurface.md import ValidationTree
from datasurface.platforms.yellow import YellowDataPlatform


def write_static_files(site: Site, folder: Path) -> list[Path]:
    """Render the static platform's DAG files into the folder, which is made, and return them."""
    folder.mkdir(exist_ok=True)
    model = Model(**{**vars(site.model), "platformClass": YellowDataPlatform})
    graph = model.graph(site.folder)
    tree = ValidationTree(graph.eco)
    files = graph.platform.createGraphHandler(graph).renderGraph(
        graph.platform.getCredentialStore(), tree
    )
    assert not tree.hasErrors()
    paths = [folder / name for name in sorted(files) if name.endswith("_ingestion.py")]
    for path in paths:
        path.write_text(files[path.name], encoding="utf-8")
    return paths
