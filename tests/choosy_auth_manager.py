"""An auth manager of Airflow under which not everybody may read every DAG."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

from yellow_dynamic.page import overview

#: Who may read these DAGs alone; anybody else may read what his role may.
ALLOWED: dict[str, set[str]] = {"guest": {"yellowlive__Healthy_ingestion"}, "stranger": set()}

# The API server imports this file. Its tests change something and wait for the page to have it.
overview.FRESH_SECONDS = 0.2


class ChoosyAuthManager(SimpleAuthManager):
    """Airflow's simple one, with users who may read only some DAGs, and one who reads no XCom."""

    def is_authorized_dag(
        self, *, user: Any, details: Any = None, access_entity: Any = None, **request: Any
    ) -> bool:
        """Tell whether a user may do something with a DAG."""
        if user.username == "auditor" and access_entity is DagAccessEntity.XCOM:
            return False
        allowed = ALLOWED.get(user.username)
        if allowed is not None and (details is None or details.id not in allowed):
            return False
        return bool(
            super().is_authorized_dag(
                user=user, details=details, access_entity=access_entity, **request
            )
        )
