"""What the real API asks beyond a pod's form: its service account, quotas, and fields it knows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

from kubernetes.client import models
from kubernetes.utils import parse_quantity

from localkube._errors import ApiError, Json, Problems, bad_request

_RESOURCES = ("cpu", "memory", "ephemeral-storage")
#: The words of the real API, which cannot read such a pod at all.
_NO_QUANTITY = (
    'Pod in version "v1" cannot be handled as a Pod: quantities must match the regular expression '
    "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)


def quantity(text: object) -> Decimal:
    """Return what a quantity such as 500m or 1Gi comes to.

    Raises:
        ApiError: 400 for a text that is none.
    """
    try:
        amount = Decimal(parse_quantity(text))
    except ValueError:
        raise bad_request(_NO_QUANTITY) from None
    # Python takes white space around a number, and Kubernetes does not.
    if str(text).split() != [text]:
        raise bad_request(_NO_QUANTITY)
    return amount


def check_resources(problems: Problems, container: Json, path: str) -> None:
    """Note what is wrong with a container's requests and limits.

    Raises:
        ApiError: 400 for a quantity that cannot be read.
    """
    resources = container.get("resources", {})
    amounts = {
        kind: {name: quantity(text) for name, text in resources.get(kind, {}).items()}
        for kind in ("requests", "limits")
    }
    for kind, quantities in amounts.items():
        for name, amount in quantities.items():
            if "/" not in name and not name.startswith("hugepages-") and name not in _RESOURCES:
                at, why = f"{path}.resources.{kind}[{name}]", "must be a standard resource type"
                problems.invalid(at, name, f"{why} or fully qualified")
            if amount < 0:
                at, why = f"{path}.resources.{kind}[{name}]", "must be greater than or equal to 0"
                problems.invalid(at, resources[kind][name], why)
    for name, amount in amounts["requests"].items():
        if amount > amounts["limits"].get(name, amount):
            problems.invalid(
                f"{path}.resources.requests",
                resources["requests"][name],
                f"must be less than or equal to {name} limit of {resources['limits'][name]}",
            )


def check_service_account(pod: Json, known: Iterable[str]) -> None:
    """Refuse a pod whose service account is not there; each namespace has the one named default.

    Raises:
        ApiError: 403 in the words of the real API.
    """
    name = pod["spec"].get("serviceAccountName", "default")
    if name not in {"default", *known}:
        where = f"{pod['metadata']['namespace']}/{name}"
        raise _forbidden(
            pod,
            f'error looking up service account {where}: serviceaccount "{name}" not found',
        )


def check_priority(pod: Json) -> None:
    """Refuse a pod of a PriorityClass; there are none but the cluster's own.

    Raises:
        ApiError: 403 in the words of the real API.
    """
    name = pod["spec"].get("priorityClassName")
    if name and not name.startswith("system-"):
        raise _forbidden(pod, f"no PriorityClass with name {name} was found")


def check_quota(quota: Json) -> None:
    """Refuse a ResourceQuota that counts what localkube has not, or that cannot be read.

    Raises:
        ApiError: 400 or 422.
    """
    problems = Problems()
    for what, text in quota.get("spec", {}).get("hard", {}).items():
        quantity(text)
        if what not in _COUNTED:
            problems.unsupported(f"spec.hard[{what}]", what, sorted(_COUNTED))
    problems.raise_if_any("ResourceQuota", quota["metadata"]["name"])


_COUNTED = {"pods", "count/pods"}
_COUNTED |= {f"{kind}.{name}" for kind in ("requests", "limits") for name in ("cpu", "memory")}


def check_quotas(pod: Json, quotas: list[Json], pods: list[Json]) -> None:
    """Refuse a pod that would exceed a ResourceQuota of its namespace.

    Args:
        pod: the new pod.
        quotas: those of its namespace.
        pods: the other pods there, those that have ended included.

    Raises:
        ApiError: 403 in the words of the real API.
    """
    alive = [each for each in pods if each["status"]["phase"] not in ("Succeeded", "Failed")]
    for quota in quotas:
        hard = {name: quantity(text) for name, text in quota["spec"].get("hard", {}).items()}
        name = quota["metadata"]["name"]
        missing = [what for what in hard if _use(pod, what) is None]
        if missing:
            container = pod["spec"]["containers"][0]["name"]
            wanted = "; ".join(f"{what} for: {container}" for what in sorted(missing))
            raise _forbidden(pod, f"failed quota: {name}: must specify {wanted}")
        used = {what: sum((_use(each, what) or Decimal(0)) for each in alive) for what in hard}
        over = sorted(what for what in hard if used[what] + (_use(pod, what) or 0) > hard[what])
        if over:
            shown = (
                ("requested", {what: _use(pod, what) for what in over}),
                ("used", used),
                ("limited", hard),
            )
            figures = ", ".join(
                f"{word}: {','.join(f'{what}={_shown(of[what], what)}' for what in over)}"
                for word, of in shown
            )
            raise _forbidden(pod, f"exceeded quota: {name}, {figures}")


def _use(pod: Json, what: str) -> Decimal | None:
    """Return how much of a quota's resource a pod takes; None where it does not say."""
    if what in ("pods", "count/pods"):
        return Decimal(1)
    kind, _, name = what.rpartition(".")
    resources = pod["spec"]["containers"][0].get("resources", {})
    # What has a limit and no request asks for its limit.
    asked = {**resources.get("limits", {}), **resources.get("requests", {})}
    given = resources.get("limits", {}) if kind == "limits" else asked
    return quantity(given[name]) if name in given else None


def _shown(amount: Any, what: str) -> str:
    """Return an amount as Kubernetes writes it: in the largest unit that leaves a whole number."""
    if not what.endswith("memory"):
        return str(int(amount)) if amount == int(amount) else f"{int(amount * 1000)}m"
    sizes = {unit: quantity(f"1{unit}") for unit in ("Ti", "Gi", "Mi", "Ki")}
    for unit, size in sizes.items():
        if amount and amount % size == 0:
            return f"{int(amount / size)}{unit}"
    return str(int(amount))


def _forbidden(pod: Json, why: str) -> ApiError:
    name = pod["metadata"]["name"]
    details = {"name": name, "kind": "pods"}
    return ApiError(403, "Forbidden", f'pods "{name}" is forbidden: {why}', details)


def unknown_fields(pod: Json) -> list[str]:
    """Return the warnings of the real API for fields that a pod does not have."""
    return [f'unknown field "{path}"' for path in _unknown_fields(pod, "V1Pod", "")]


def not_strict(unknown: list[str]) -> ApiError:
    """Return the error for a pod with unknown fields where the client wants none."""
    why = "strict decoding error: " + ", ".join(unknown)
    return bad_request(f'Pod in version "v1" cannot be handled as a Pod: {why}')


def _unknown_fields(value: object, kind: str, path: str) -> Iterator[str]:
    outer, _, inner = kind.rstrip("])").replace("(", "[").partition("[")
    if outer.lower() == "list" and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown_fields(item, inner, f"{path}[{index}]")
    elif outer.startswith("V1") and isinstance(value, dict):
        model = getattr(models, outer)
        attributes = {name: attribute for attribute, name in model.attribute_map.items()}
        for name, part in value.items():
            at = f"{path}.{name}" if path else name
            if name not in attributes:
                yield at
            else:
                yield from _unknown_fields(part, model.openapi_types[attributes[name]], at)


def doubled_variables(pod: Json) -> list[str]:
    """Return what the real API warns of: variables that are given twice, where the last counts."""
    warnings = []
    for number, container in enumerate(pod["spec"]["containers"]):
        seen: set[str] = set()
        for index, variable in enumerate(container.get("env", [])):
            if variable["name"] in seen:
                warnings.append(
                    f"spec.containers[{number}].env[{index}]: hides previous definition of "
                    f'"{variable["name"]}", which may be dropped when using apply'
                )
            seen.add(variable["name"])
    return warnings
