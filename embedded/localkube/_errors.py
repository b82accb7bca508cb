"""Errors in the shape that Kubernetes clients read: ``Status`` objects."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


class ApiError(Exception):
    """A request that is answered with a ``Status`` object instead of a result.

    Args:
        code: the HTTP status.
        reason: Kubernetes' word for it, which clients compare, such as ``NotFound``.
        message: a sentence for people.
        details: Kubernetes' ``StatusDetails``: which object, and which of its fields.
    """

    def __init__(self, code: int, reason: str, message: str, details: Json | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = {"details": details} if details else {}

    def status(self) -> Json:
        """Return the body of the answer."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            **self.details,
            "code": self.code,
        }


def bad_request(message: str) -> ApiError:
    """Return the error for a request that cannot be read."""
    return ApiError(400, "BadRequest", message)


def not_found(resource: str, name: str) -> ApiError:
    """Return the error for an object that does not exist."""
    details = {"name": name, "kind": resource}
    return ApiError(404, "NotFound", f'{resource} "{name}" not found', details)


def already_exists(resource: str, name: str, *, being_deleted: bool) -> ApiError:
    """Return the error for a name that is taken."""
    details = {"name": name, "kind": resource}
    ending = "object is being deleted: " if being_deleted else ""
    return ApiError(409, "AlreadyExists", f'{ending}{resource} "{name}" already exists', details)


def conflict(resource: str, name: str) -> ApiError:
    """Return the error for a change made from an old version of an object."""
    message = (
        f'Operation cannot be fulfilled on {resource} "{name}": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    return ApiError(409, "Conflict", message, {"name": name, "kind": resource})


def check_preconditions(kind: str, meta: Json, wanted: Json) -> None:
    """Refuse the deletion of an object that is not the one that was meant.

    Raises:
        ApiError: 409 `Conflict`.
    """
    name = meta["name"]
    for key, word, why in (
        ("uid", "UID", "deleted and then recreated"),
        ("resourceVersion", "ResourceVersion", "modified"),
    ):
        if wanted.get(key, meta[key]) != meta[key]:
            message = (
                f'Operation cannot be fulfilled on {kind} "{name}": the {word} in the precondition '
                f"({wanted[key]}) does not match the {word} in record ({meta[key]}). The "
                f"object might have been {why}"
            )
            raise ApiError(409, "Conflict", message, {"name": name, "kind": kind})


def expired(version: int, oldest: int) -> ApiError:
    """Return the error for a watch from a version whose changes are no longer kept."""
    return ApiError(410, "Expired", f"too old resource version: {version} ({oldest})")


@dataclass
class Problems:
    """What is wrong with an object, field by field.

    Values are repeated in the messages only where a caller passes them, which no caller does
    for environment values or the data of secrets.
    """

    causes: list[Json] = field(default_factory=list)

    def _add(self, path: str, reason: str, message: str) -> None:
        self.causes.append({"reason": reason, "message": message, "field": path})

    def invalid(self, path: str, value: object, why: str) -> None:
        """Note a value that breaks a rule."""
        shown = json.dumps(value, default=str)
        self._add(path, "FieldValueInvalid", f"Invalid value: {shown}: {why}")

    def duplicate(self, path: str, value: str) -> None:
        """Note a value that another one has already."""
        self._add(path, "FieldValueDuplicate", f"Duplicate value: {json.dumps(value)}")

    def too_long(self, path: str, limit: int) -> None:
        """Note a value of too many bytes."""
        message = f"Too long: may not be more than {limit} bytes"
        self._add(path, "FieldValueTooLong", message)

    def required(self, path: str, why: str = "") -> None:
        """Note a field that must be there and is not."""
        self._add(path, "FieldValueRequired", f"Required value: {why}" if why else "Required value")

    def unsupported(self, path: str, value: object, supported: list[str]) -> None:
        """Note a value outside the list of those that work."""
        choices = ", ".join(json.dumps(choice) for choice in supported)
        message = f"Unsupported value: {json.dumps(value)}: supported values: {choices}"
        self._add(path, "FieldValueNotSupported", message)

    def forbidden(self, path: str, why: str) -> None:
        """Note a field that may not be set, or not be changed."""
        self._add(path, "FieldValueForbidden", f"Forbidden: {why}")

    def raise_if_any(self, kind: str, name: str) -> None:
        """Raise everything noted as one error.

        Raises:
            ApiError: 422 ``Invalid``, when anything was noted.
        """
        if not self.causes:
            return
        parts = [f"{cause['field']}: {cause['message']}" for cause in self.causes]
        text = parts[0] if len(parts) == 1 else f"[{', '.join(parts)}]"
        details = {"name": name, "kind": kind, "causes": self.causes}
        raise ApiError(422, "Invalid", f'{kind} "{name}" is invalid: {text}', details)
