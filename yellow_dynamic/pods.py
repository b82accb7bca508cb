"""What Kubernetes would refuse of the pod of a job: of its resources, and of a PodTemplateSpec."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kubernetes.client import models as k8s
from kubernetes.utils import parse_quantity

from yellow_dynamic.factory.constants import JOB_CONTAINER, MODEL_VOLUME, WORKING_VOLUME


def resource_problems(resources: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Yield what Kubernetes would refuse of requests and limits, which are texts."""
    amounts = {
        kind: {name: parse_quantity(text) for name, text in quantities.items()}
        for kind, quantities in resources.items()
    }
    limits = amounts.get("limits", {})
    for name, amount in amounts.get("requests", {}).items():
        if name in limits and amount > limits[name]:
            yield (
                f"resources requests {resources['requests'][name]} of {name}, more than its limit "
                f"{resources['limits'][name]}"
            )


def with_job_container(template: Any) -> Any:
    """Return a PodTemplateSpec whose first container is the job's, as Airflow's operator needs.

    One that is not of the form of such a thing is returned as it is.
    """
    spec = template.get("spec", {}) if isinstance(template, dict) else None
    containers = spec.get("containers", []) if isinstance(spec, dict) else None
    if not (isinstance(containers, list) and all(isinstance(each, dict) for each in containers)):
        return template
    own = [each for each in containers if each.get("name") == JOB_CONTAINER]
    others = [each for each in containers if each not in own]
    whole = [*(own or [{"name": JOB_CONTAINER}]), *others]
    return {**template, "spec": {**(spec or {}), "containers": whole}}


def security_context(template: Mapping[str, Any]) -> dict[str, Any]:
    """Return the securityContext of a PodTemplateSpec; an empty dict if it has none."""
    spec = template.get("spec") or {}
    return spec.get("securityContext") or {}


def template_problems(template: dict[str, Any]) -> Iterator[str]:
    """Yield what Kubernetes would refuse of a PodTemplateSpec, or the job has itself."""
    whole = with_job_container(template)
    wrong = list(model_problems("podTemplate", whole, "V1PodTemplateSpec"))
    yield from wrong
    if wrong:
        return
    spec = whole["spec"]
    job, *others = spec["containers"]
    for part, given in (("metadata", whole.get("metadata") or {}), ("spec", spec), ("base", job)):
        for name in sorted(OF_THE_JOB[part] & given.keys()):
            yield f"podTemplate gives {name} of {part}, which the job has itself"
    for kind, taken, items in (
        ("volume", {MODEL_VOLUME, WORKING_VOLUME}, spec.get("volumes") or ()),
        ("container", {JOB_CONTAINER}, [*others, *(spec.get("initContainers") or ())]),
    ):
        for item in items:
            if item["name"] in taken:
                yield f"podTemplate has the {kind} {item['name']!a:.300} besides the job's own"


#: What of a PodTemplateSpec is the job's own, or an argument of RunSettings.
OF_THE_JOB = {
    "metadata": {"name", "namespace", "generateName"},
    "spec": {"restartPolicy", "activeDeadlineSeconds"},
    "base": {"image", "command", "args", "resources"},
}
#: The types of values by the names that the models of Kubernetes have for them.
PLAIN: dict[str, type] = {"str": str, "int": int, "bool": bool, "float": float, "datetime": str}


def model_problems(path: str, value: Any, kind: str) -> Iterator[str]:
    """Yield in what a value is not of a kind of Kubernetes, such as V1PodSpec or list[str]."""
    # Release 37 of the client writes List[str], and former ones list[str].
    outer, _, inner = kind.rstrip("])").replace("(", "[").partition("[")
    if outer.lower() == "list":
        yield from wrong_kind(path, value, list, "a list")
        for index, item in enumerate(value if isinstance(value, list) else ()):
            yield from model_problems(f"{path}[{index}]", item, inner)
    elif outer.lower() == "dict":
        yield from wrong_kind(path, value, dict, "an object")
        for name, item in (value if isinstance(value, dict) else {}).items():
            yield from model_problems(f"{path}.{name}", item, inner.partition(", ")[2])
    elif outer in PLAIN:
        # A bool of Python is an int, too.
        if type(value) is not PLAIN[outer]:
            yield f"{path} is {value!r:.100}, not of type {outer}"
    elif outer != "object":
        yield from wrong_kind(path, value, dict, f"a {outer.removeprefix('V1')}")
        if isinstance(value, dict):
            yield from fields_problems(path, value, getattr(k8s, outer))


def wrong_kind(path: str, value: Any, kind: type, name: str) -> Iterator[str]:
    if not isinstance(value, kind):
        yield f"{path} is {value!r:.100}, not {name}"


def fields_problems(path: str, value: dict[str, Any], model: Any) -> Iterator[str]:
    """Yield in what an object is not one that a model of Kubernetes can be made of."""
    attributes = {name: attribute for attribute, name in model.attribute_map.items()}
    for name, part in value.items():
        if name not in attributes:
            yield f"{path} has a field {name!a:.100}, which Kubernetes does not know"
        elif part is not None:
            yield from model_problems(f"{path}.{name}", part, model.openapi_types[attributes[name]])
    known = {attributes[name]: part for name, part in value.items() if name in attributes}
    try:
        model(**known)
    except ValueError as error:
        yield from (f"{path}: {words}" for words in refusals(error))


def refusals(error: ValueError) -> list[str]:
    """Return what a model of Kubernetes lacks, from its own words."""
    if not hasattr(error, "errors"):
        return [str(error)]
    # Release 37 of the client checks all values, too, as is done above.
    return [
        f"{each['loc'][0]}: {each['msg']}"
        for each in error.errors()
        if each["type"] == "missing" and len(each["loc"]) == 1
    ]
