"""Label and field selectors of list and watch requests."""

from __future__ import annotations

import re
from collections.abc import Callable

from localkube._errors import Json, Problems, bad_request
from localkube._validation import check_labels

Match = Callable[[Json], bool]

#: The fields that may be selected on; the real API has a fixed list for each resource too.
SELECTABLE = {
    "serviceaccounts": {"metadata.name", "metadata.namespace"},
    "resourcequotas": {"metadata.name", "metadata.namespace"},
    "pods": {
        "metadata.name",
        "metadata.namespace",
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.phase",
        "status.podIP",
    },
    "events": {
        "metadata.name",
        "metadata.namespace",
        "involvedObject.kind",
        "involvedObject.name",
        "involvedObject.namespace",
        "involvedObject.uid",
        "reason",
        "type",
    },
    "secrets": {"metadata.name", "metadata.namespace", "type"},
    "namespaces": {"metadata.name", "status.phase"},
}

_SET = re.compile(r"(?P<key>\S+)\s+(?P<op>in|notin)\s*\((?P<values>[^()]*)\)")
_EQUAL = re.compile(r"(?P<key>[^\s=!]+)\s*(?P<op>==|=|!=)\s*(?P<value>[^\s=!]*)")
_EXISTS = re.compile(r"(?P<no>!?)\s*(?P<key>[^\s=!()]+)")
_COMMA_OUTSIDE_PARENTHESES = re.compile(r",(?![^(]*\))")


def _labels(obj: Json) -> dict[str, str]:
    return obj["metadata"].get("labels", {})


def _label_requirement(text: str) -> Match:
    if found := _SET.fullmatch(text):
        key, values = found["key"], {value.strip() for value in found["values"].split(",")}
        for value in values:
            _check(key, value)
        if found["op"] == "in":
            return lambda obj: _labels(obj).get(key) in values
        return lambda obj: _labels(obj).get(key) not in values
    if found := _EQUAL.fullmatch(text):
        key, value = found["key"], found["value"]
        _check(key, value)
        if found["op"] == "!=":
            return lambda obj: _labels(obj).get(key) != value
        return lambda obj: _labels(obj).get(key) == value
    if found := _EXISTS.fullmatch(text):
        key, wanted = found["key"], not found["no"]
        _check(key)
        return lambda obj: (key in _labels(obj)) == wanted
    raise bad_request(f"unable to parse requirement: {text!r} is not a label selector")


def _check(key: str, value: str = "") -> None:
    problems = Problems()
    check_labels(problems, "values[0]", {key: value})
    for cause in problems.causes:
        raise bad_request(f"unable to parse requirement: {cause['field']}: {cause['message']}")


def label_selector(text: str) -> Match:
    """Return the test that a `labelSelector` stands for.

    Raises:
        ApiError: 400, when it cannot be read.
    """
    if not text.strip():
        return lambda _obj: True
    parts = [part.strip() for part in _COMMA_OUTSIDE_PARENTHESES.split(text)]
    if not all(parts):
        raise bad_request("found '', expected: identifier after ','")
    requirements = [_label_requirement(part) for part in parts]
    return lambda obj: all(requirement(obj) for requirement in requirements)


def _field(obj: Json, path: str) -> str:
    value: object = obj
    for step in path.split("."):
        value = value.get(step, "") if isinstance(value, dict) else ""
    return str(value)


def _field_requirement(resource: str, text: str) -> Match:
    found = _EQUAL.fullmatch(text)
    if found is None:
        raise bad_request(f"invalid field selector: {text!r}")
    path, value, equal = found["key"], found["value"], found["op"] != "!="
    if path not in SELECTABLE[resource]:
        raise bad_request(f"field label not supported: {path}")
    return lambda obj: (_field(obj, path) == value) == equal


def field_selector(resource: str, text: str) -> Match:
    """Return the test that a `fieldSelector` on a resource stands for.

    Raises:
        ApiError: 400, when it cannot be read or names a field that cannot be selected on.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    requirements = [_field_requirement(resource, part) for part in parts]
    return lambda obj: all(requirement(obj) for requirement in requirements)
