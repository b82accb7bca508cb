"""DataSurface's Yellow platform with Airflow DAGs built from a database table."""

from yellow_dynamic.plugin import YellowDynamicDataPlatform, __version__

__all__ = ["YellowDynamicDataPlatform", "__version__"]
