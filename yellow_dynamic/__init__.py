"""DataSurface's Yellow platform with Airflow DAGs built from a database table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yellow_dynamic.plugin import (
        EMail,
        RunSettings,
        SlackWebhook,
        YellowDynamicDataPlatform,
        YellowDynamicPlatformServiceProvider,
    )

__all__ = [
    "EMail",
    "RunSettings",
    "SlackWebhook",
    "YellowDynamicDataPlatform",
    "YellowDynamicPlatformServiceProvider",
    "__version__",
]
__version__ = "0.3.0.dev0"


def __getattr__(name: str) -> Any:
    """Import the plugin when it is asked for: the command works without DataSurface too."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from yellow_dynamic import plugin

    return getattr(plugin, name)
