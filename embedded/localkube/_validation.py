"""The rules of the real API for names, labels and environment variables."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping

from localkube._errors import Json, Problems, bad_request

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_ENV_NAME = re.compile(r"[ -<>-~]+")
_SECRET_KEY = re.compile(r"[-._a-zA-Z0-9]+")

LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
    "and must start and end with an alphanumeric character"
)
SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character"
)
_QUALIFIED_RULE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end "
    "with an alphanumeric character"
)
_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or "
    "'.', and must start and end with an alphanumeric character"
)
_ENV_RULE = (
    "a valid environment variable name must consist only of printable ASCII characters other "
    "than '='"
)
_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
#: The largest number of the real API's 32-bit fields.
MAX_INT = 2**31 - 1

_ANNOTATIONS_LIMIT = 256 * 1024

#: A shape names the JSON types of the fields that are read: `str`, `int`, `bool`, a list with
#: the shape of its items, a dict with the shapes of its fields, or `MAP` for texts by any key.
Shape = object
MAP = object()
META: Shape = {
    "name": str,
    "generateName": str,
    "namespace": str,
    "labels": MAP,
    "annotations": MAP,
    "resourceVersion": str,
}


def check_shape(value: object, shape: Shape, path: str) -> None:
    """Refuse JSON whose types are not those that the fields have.

    Raises:
        ApiError: 400, which names the field and never its value.
    """
    if isinstance(shape, dict):
        _expect(isinstance(value, dict), path, "an object")
        assert isinstance(value, dict)
        for key, inner in shape.items():
            if key in value:
                check_shape(value[key], inner, f"{path}.{key}" if path else key)
    elif isinstance(shape, list):
        _expect(isinstance(value, list), path, "a list")
        assert isinstance(value, list)
        for index, item in enumerate(value):
            check_shape(item, shape[0], f"{path}[{index}]")
    elif shape is MAP:
        texts = isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
        _expect(texts, path, "an object of strings")
    else:
        assert isinstance(shape, type)
        # A JSON true is no number, although Python's bool is an int.
        _expect(type(value) is shape, path, f"a {shape.__name__}")


def _expect(right: bool, path: str, wanted: str) -> None:
    if not right:
        raise bad_request(f"cannot read the object: {path or 'the body'} must be {wanted}")


def without_nulls(value: object) -> object:
    """Return JSON without the fields that are null, which Kubernetes takes as absent."""
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [without_nulls(inner) for inner in value]
    return value


def is_label(text: str) -> bool:
    """Tell whether a text is an RFC 1123 label: the name of a namespace or a container."""
    return len(text) <= 63 and _LABEL.fullmatch(text) is not None


def is_subdomain(text: str) -> bool:
    """Tell whether a text is an RFC 1123 subdomain: the name of a pod, a secret or a claim."""
    return len(text) <= 253 and _SUBDOMAIN.fullmatch(text) is not None


def is_env_name(text: str) -> bool:
    """Return whether a text may be a variable's name."""
    return _ENV_NAME.fullmatch(text) is not None


def is_secret_key(text: str) -> bool:
    """Tell whether a text may be a key of a secret's data."""
    return len(text) <= 253 and _SECRET_KEY.fullmatch(text) is not None


def _check_key(problems: Problems, path: str, key: str) -> None:
    prefix, slash, name = key.rpartition("/")
    if slash and not is_subdomain(prefix):
        problems.invalid(path, key, f"prefix part {SUBDOMAIN_RULE}")
    if len(name) > 63:
        problems.invalid(path, key, "name part must be no more than 63 characters")
    elif not _QUALIFIED.fullmatch(name):
        problems.invalid(path, key, _QUALIFIED_RULE)


def check_labels(problems: Problems, path: str, labels: Mapping[str, str]) -> None:
    """Note what is wrong with labels, or with a selector of them."""
    for key, value in labels.items():
        _check_key(problems, path, key)
        if len(value) > 63:
            problems.invalid(path, value, "must be no more than 63 characters")
        elif value and not _QUALIFIED.fullmatch(value):
            problems.invalid(path, value, _VALUE_RULE)


def _check_annotations(problems: Problems, annotations: Mapping[str, str]) -> None:
    for key in annotations:
        _check_key(problems, "metadata.annotations", key)
    size = sum(len(key) + len(value.encode()) for key, value in annotations.items())
    if size > _ANNOTATIONS_LIMIT:
        problems.too_long("metadata.annotations", _ANNOTATIONS_LIMIT)


def name_object(meta: Json) -> None:
    """Give an object that asks for it with `generateName` its name."""
    if not meta.get("name") and meta.get("generateName"):
        suffix = "".join(secrets.choice(_SUFFIX_ALPHABET) for _ in range(5))
        meta["name"] = meta["generateName"][:248] + suffix


def check_meta(problems: Problems, meta: Json, *, label_name: bool = False) -> None:
    """Note what is wrong with an object's name, labels and annotations.

    Args:
        problems: where it is noted.
        meta: the object's metadata.
        label_name: the name must be a label, as a namespace's, not a subdomain.
    """
    name = meta.get("name", "")
    if not name:
        problems.required("metadata.name", "name or generateName is required")
    elif label_name and not is_label(name):
        problems.invalid("metadata.name", name, LABEL_RULE)
    elif not is_subdomain(name):
        problems.invalid("metadata.name", name, SUBDOMAIN_RULE)
    check_labels(problems, "metadata.labels", meta.get("labels", {}))
    _check_annotations(problems, meta.get("annotations", {}))


def check_env_name(problems: Problems, path: str, name: str) -> None:
    """Note what is wrong with an environment variable's name."""
    if not name:
        problems.required(path)
    elif not is_env_name(name):
        problems.invalid(path, name, _ENV_RULE)
