"""The Yellow platform: Airflow and Kubernetes fill a PostgreSQL merge store."""

from datasurface.platforms.yellow.yellow_dp import *  # noqa: F403
