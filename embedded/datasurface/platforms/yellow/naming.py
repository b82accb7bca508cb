"""How names of the model become names in Kubernetes and in Airflow."""

from __future__ import annotations

import functools
import re
from typing import Final

#: Airflow refuses longer DAG ids.
DAG_ID_LIMIT: Final = 250

_NAMESPACE: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_REPOSITORY: Final = re.compile(r"([A-Za-z0-9._-]+)/([A-Za-z0-9._-]+)")
_DAG_ID: Final = re.compile(r"[A-Za-z0-9_.-]+")


# A model uses few names many times: each stream names its credential.
@functools.lru_cache(maxsize=1000)
def toK8sName(name: str) -> str:
    """Return `name` as Kubernetes objects are named: lower case letters, digits and hyphens.

    It is for names of Kubernetes objects only, never for host names, which would lose their dots.
    The result is empty when `name` has no letter and no digit of ASCII.
    """
    hyphened = re.sub(r"[_ ]", "-", name.lower())
    kept = re.sub(r"[^a-z0-9-]", "", hyphened)
    return re.sub(r"-+", "-", kept).strip("-")


def requireK8sName(kind: str, name: str) -> str:
    """Return what `toK8sName` makes of `name`, which must leave something.

    Args:
        kind: What has the name, for the message: "platform", "credential" and so on.
        name: The name in the model.

    Raises:
        ValueError: Nothing is left of the name.
    """
    k8sName = toK8sName(name)
    if not k8sName:
        raise ValueError(
            f"The {kind} name {name!r} leaves nothing for a Kubernetes name; "
            "use a letter or a digit in it."
        )
    return k8sName


def isLegalNamespace(name: str) -> bool:
    """Tell whether Kubernetes takes `name` as a namespace (a DNS label of up to 63 characters)."""
    return len(name) <= 63 and _NAMESPACE.fullmatch(name) is not None


def splitRepositoryName(repositoryName: str) -> tuple[str, str]:
    """Split a GitHub repository name of the form `owner/name`.

    Returns:
        The owner and the name.

    Raises:
        ValueError: The name does not have that form.
    """
    match = _REPOSITORY.fullmatch(repositoryName)
    if match is None:
        raise ValueError(
            f"The GitHub repository name {repositoryName!r} is not of the form owner/name; "
            "write it as in https://github.com/owner/name."
        )
    return match.group(1), match.group(2)


def ingestionDagId(platformName: str, streamKey: str) -> str:
    """Return the id of the Airflow DAG which ingests one stream of a platform."""
    return f"{toK8sName(platformName)}__{streamKey}_ingestion"


def isLegalDagId(dagId: str) -> bool:
    """Tell whether Airflow takes `dagId`; such an id is also safe as a file name."""
    return len(dagId) <= DAG_ID_LIMIT and _DAG_ID.fullmatch(dagId) is not None
