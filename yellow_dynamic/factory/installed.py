"""What a DAG file imports where Airflow's image has this package."""

from __future__ import annotations

from typing import Any

from yellow_dynamic import __version__
from yellow_dynamic.factory.version import can_serve


def require_version(wanted: str, file: str) -> None:
    """Raise ImportError where this package cannot serve a DAG file.

    It serves the files of its own minor version, whose literals it knows.

    Args:
        wanted: the version of yellow-dynamic that wrote the file.
        file: its path.
    """
    if not can_serve(__version__, wanted):
        raise ImportError(
            f"{file} was written by yellow-dynamic {wanted}. Airflow's image has yellow-dynamic "
            f"{__version__}, which cannot serve it. Install yellow-dynamic {wanted} in Airflow's "
            f"image, or run bootstrap with yellow-dynamic {__version__} and copy what it writes."
        )


def register_dags(settings: dict[str, Any], module: dict[str, Any]) -> None:
    """Register the DAGs of a platform; see `registration.register_dags`.

    Raises:
        ImportError: this package cannot serve the file.
    """
    require_version(settings["plugin_version"], module["__file__"])
    from yellow_dynamic.factory import registration

    registration.register_dags(settings, module)


def register_infrastructure(settings: dict[str, Any], module: dict[str, Any]) -> None:
    """Register an infrastructure DAG; see `infrastructure.register_infrastructure`.

    Raises:
        ImportError: this package cannot serve the file.
    """
    require_version(settings["plugin_version"], module["__file__"])
    from yellow_dynamic.factory import infrastructure

    infrastructure.register_infrastructure(settings, module)
