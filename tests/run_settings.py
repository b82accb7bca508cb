"""RunSettings that give everything, for the tests."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from yellow_dynamic.run_settings import RunSettings

POD_TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"cost-centre": "4711"}, "annotations": {"example.org/note": "nightly"}},
    "spec": {
        "serviceAccountName": "ingestion",
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"pool": "batch"},
        "tolerations": [{"key": "batch", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
                    ]
                }
            }
        },
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000},
        "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "1Gi"}}],
        "containers": [
            {
                "name": "base",
                "imagePullPolicy": "IfNotPresent",
                "env": [
                    {"name": "TZ", "value": "UTC"},
                    {"name": "postgres_PASSWORD", "value": "of the template"},
                ],
                "securityContext": {"allowPrivilegeEscalation": False},
                "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
            }
        ],
    },
}
EVERYTHING = RunSettings(
    resources={
        "requests": {"cpu": "500m", "memory": "1Gi"},
        "limits": {"cpu": "2", "memory": "2Gi"},
    },
    podTemplate=POD_TEMPLATE,
    retries=2,
    retryDelay=timedelta(seconds=1),
    timeout=timedelta(minutes=30),
    startTimeout=timedelta(minutes=20),
    dagRunTimeout=timedelta(hours=3),
    pool="erp",
    poolSlots=2,
    priorityWeight=7,
    queue="heavy",
    deferrable=True,
    spread=30,
)
