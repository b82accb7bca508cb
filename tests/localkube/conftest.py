"""A running localkube for the tests."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from real_cluster import IS_REAL, RealKube

from .running import CLUSTER_ENV, IMAGE, Cluster, Server


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image: a folder with one command of its own."""
    folder = tmp_path_factory.mktemp("image")
    greet = folder / "greet"
    greet.write_text('#!/bin/sh\necho "greetings $*"\n')
    greet.chmod(0o755)
    (folder / "python").symlink_to(sys.executable)
    return folder


@pytest.fixture(scope="session")
def start(tools: Path) -> Iterator[Callable[..., Server]]:
    """Start servers that end with the tests."""
    servers: list[Server] = []

    def start_server(state_dir: Path, *arguments: str, **options: Any) -> Server:
        image = ("--image", f"{IMAGE}={tools}")
        variables = [part for item in CLUSTER_ENV.items() for part in ("--env", "=".join(item))]
        server = Server(state_dir, *image, *variables, *arguments, **options)
        servers.append(server)
        return server

    yield start_server
    for server in servers:
        if server.process.poll() is None:
            server.stop()
        server.process.communicate()


@pytest.fixture(scope="session")
def server(start: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory) -> Server:
    """The server that most tests share, each in a namespace of its own."""
    return start(tmp_path_factory.mktemp("localkube"), env={"SERVER_ONLY": "must not be seen"})


@pytest.fixture(scope="session")
def real() -> Iterator[RealKube]:
    """The real cluster, with its namespaces removed in the end."""
    with RealKube() as kube:
        yield kube


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A new namespace, of a localkube or of a real cluster."""
    if not IS_REAL:
        yield Cluster(request.getfixturevalue("server"))
        return
    kube = request.getfixturevalue("real")
    yield Cluster(kube)
    # Nodes have room for some dozens of pods.
    kube.remove_namespaces()
