"""What bootstrap renders for a cluster, as the tests look at it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import yaml
from kubernetes_validate.utils import all_versions
from yellow_models import Model, bootstrap

from yellow_dynamic.datasurface_adapter import DATASURFACE
from yellow_dynamic.plugin import deployment_files

#: The oldest and the newest Kubernetes whose schemas are at hand.
KUBERNETES_VERSIONS = (all_versions()[0], all_versions()[-1])

#: What docs/deployment.md lets Airflow do in the namespace of the jobs: verbs by resource.
AIRFLOW_RIGHTS = {
    "pods": ["create", "get", "list", "delete"],
    "pods/log": ["get"],
    "events": ["list"],
}

Manifest = dict[str, Any]


def deployment_of(model: Model) -> dict[str, str]:
    """Return what is rendered for a cluster, by the end of its name after the platform's."""
    eco = model.build()
    platform: Any = eco.getDataPlatformOrThrow(model.platform)
    starts = (DATASURFACE.k8s_name(platform.name), DATASURFACE.unit([platform]).file_start)
    files = deployment_files([platform], eco)
    assert all(name.startswith(starts) for name in files)
    return {
        name.removeprefix(starts[0]).removeprefix(starts[1]): text for name, text in files.items()
    }


def cluster_objects(model: Model) -> list[Manifest]:
    """Return the objects of DataSurface's own file of ring 0."""
    eco = model.build()
    files = bootstrap(eco.getDataPlatformOrThrow(model.platform), eco, 0)
    return list(filter(None, yaml.safe_load_all(files["kubernetes-bootstrap.yaml"])))


def one(text: str) -> Manifest:
    [manifest] = yaml.safe_load_all(text)
    return dict(manifest)


def login(container: Manifest) -> dict[str, tuple[str, str]]:
    """Return the variables of a container that come from secrets: their secret and its key."""
    references = {
        each["name"]: each["valueFrom"]["secretKeyRef"]
        for each in container["env"]
        if "valueFrom" in each
    }
    return {name: (each["name"], each["key"]) for name, each in references.items()}


def deployment(name: str, container: Manifest, volumes: list[Manifest]) -> Manifest:
    """Return a Deployment as the chart, or anyone, has it, with these parts put in."""
    labels = {"component": name}
    spec = {"containers": [{"image": "airflow", **container}], "volumes": volumes}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def pods_of(job: Manifest) -> Iterator[Manifest]:
    """Yield a Job's containers in their order, each as a pod with the volumes of the Job's pod.

    The pods share the Job's workspace by a claim, as the containers of one pod share it.
    """
    template = job["spec"]["template"]
    for container in [
        *template["spec"].get("initContainers", ()),
        *template["spec"]["containers"],
    ]:
        spec = copy.deepcopy(template["spec"]) | {"containers": [container]}
        spec.pop("initContainers", None)
        for volume in spec["volumes"]:
            if volume.pop("emptyDir", None) is not None:
                volume["persistentVolumeClaim"] = {"claimName": volume["name"]}
        yield {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{job['metadata']['name']}-{container['name']}",
                "namespace": job["metadata"]["namespace"],
                "labels": template["metadata"]["labels"],
            },
            "spec": spec,
        }
