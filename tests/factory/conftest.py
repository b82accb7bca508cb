"""What the tests of the factory's DAGs share."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest
import real_cluster
from deployment_files import cluster_objects
from pod_runs import Cluster
from yellow_models import IMAGE, NAMESPACE, Model, login_secret

from one_machine import LocalKube


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Kubernetes API with the secrets of all the tests' streams."""
    folder = tmp_path_factory.mktemp("kube")
    (folder / "bin").mkdir()
    token = {"token": "planted-token"}
    local = LocalKube(folder / "state", {IMAGE: folder / "bin"}, {})
    with real_cluster.RealKube() if real_cluster.IS_REAL else local as kube:
        for name, data in {
            **{
                name: login_secret(name, "u", "planted-secret")
                for name in ("postgres", "merge-cred", "source-cred")
            },
            "git": token,
            "git-cred": token,
            "connect": {"api_key": "planted-key", "api_secret": "planted-secret"},
        }.items():
            kube.create_secret(NAMESPACE, name, data)
        if isinstance(kube, real_cluster.RealKube):
            account = kube.prepare(NAMESPACE, cluster_objects(Model()))
            kubeconfig = kube.write_kubeconfig(folder / "kubeconfig", NAMESPACE, account)
            yield Cluster(folder / "bin", kube, kubeconfig)
        else:
            yield Cluster(folder / "bin", kube)


@pytest.fixture(params=["psycopg2", "psycopg"])
def driver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The driver that the factory file finds."""
    if request.param == "psycopg":
        find = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name: None if name == "psycopg2" else find(name)
        )
    return str(request.param)
