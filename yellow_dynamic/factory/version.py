"""Which DAG files an installed package can serve."""

from __future__ import annotations


def can_serve(package: str, wanted: str) -> bool:
    """Return whether a package of yellow-dynamic knows the literals of another version's DAG files.

    Args:
        package: the version of the package.
        wanted: the version that wrote the file.
    """
    return package.split(".")[:2] == wanted.split(".")[:2]
