"""The releases of DataSurface that the plugin supports, and what users of another one are told."""

from __future__ import annotations

from importlib import metadata

from yellow_dynamic import __version__

#: Why an installed release is not supported.
BETWEEN = (
    "is one between these, whose infrastructure DAG builds the ingestion DAGs itself, which would "
    "define each of them twice"
)
LACKING = "lacks what the plugin needs ({})"


def unsupported_release(reason: str) -> ImportError:
    """Return the error that says which releases are supported, and why the installed one is not.

    Args:
        reason: goes on after the name of the installed release.
    """
    return ImportError(
        f"yellow_dynamic {__version__} supports DataSurface 0.0.36 to 0.0.38 (up to 29 July 2025), "
        f"0.0.56 and 0.0.57. The DataSurface installed here, {installed_release()}, {reason}. "
        "Install one of these; until then, keep YellowDataPlatform in the model. "
        "docs/compatibility.md of yellow_dynamic says more."
    )


def installed_release() -> str:
    """Return the release of the installed DataSurface, if its metadata has one."""
    try:
        return metadata.version("datasurface")
    except metadata.PackageNotFoundError:
        return "of an unknown release"
