"""The patch for an Airflow without its chart, applied as its head says it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster_site import Kubectl, commands_of
from deployment_files import deployment, deployment_of
from real_cluster import RealKube
from yellow_models import NAMESPACE, Model

pytestmark = pytest.mark.cluster

NAME = "airflow-scheduler"
#: As DataSurface's own Airflow has it: the login of its database comes from the variables before.
CONNECTION = {"name": "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "value": "$(postgres_USER)@db"}


def found_deployment(kube: RealKube) -> Any:
    answer = Kubectl(kube)("get", "deployment", NAME, "-n", NAMESPACE, "--output", "json")
    [container] = yaml.safe_load(answer)["spec"]["template"]["spec"]["containers"]
    return container


@pytest.mark.parametrize("applied", ["--server-side", "--server-side=false"])
def test_patch_is_taken_each_time_and_keeps_the_variables_in_order(
    tmp_path: Path, applied: str
) -> None:
    """However the objects of Airflow were applied the first time."""
    container = {"name": NAME, "env": [CONNECTION]}
    own = tmp_path / "kubernetes-bootstrap.yaml"
    objects = deployment(NAME, container, [])
    objects["metadata"]["namespace"] = NAMESPACE
    own.write_text(yaml.safe_dump(objects))
    patch = tmp_path / "yellowlive-airflow-patch.yaml"
    head, scheduler, *_ = deployment_of(Model())["-airflow-patch.yaml"].split("---\n")
    patch.write_text(f"{head}---\n{scheduler}")
    with RealKube() as kube:
        kube.create_namespace(NAMESPACE)
        kubectl = Kubectl(kube)
        kubectl("apply", applied, "--filename", str(own))

        for _ in range(3):
            for command in commands_of(patch):
                kubectl.run(command, tmp_path)
            names = [variable["name"] for variable in found_deployment(kube)["env"]]
            assert names == [
                CONNECTION["name"],
                "postgres_USER",
                "postgres_PASSWORD",
                "YELLOW_DYNAMIC_SNAPSHOT_DIR",
            ]
        # Without the patch, the objects are as they were.
        kubectl("apply", "--server-side", "--force-conflicts", "--filename", str(own))
        assert found_deployment(kube)["image"] == "airflow"
