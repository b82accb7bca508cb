"""What Airflow checks of a DAG after the import."""

from __future__ import annotations

import copy
from collections.abc import Callable, MutableMapping

from airflow import settings as airflow_local
from airflow.exceptions import AirflowClusterPolicySkipDag

from yellow_dynamic.factory.compat import DAG
from yellow_dynamic.factory.environment import serialize
from yellow_dynamic.factory.logs import one_line
from yellow_dynamic.factory.podspec import SHARED
from yellow_dynamic.factory.rules import BadRowError


def validated(build: Callable[[], DAG], *, policies: bool) -> DAG:
    """Return the DAG that `build` builds if Airflow will take it, or raise why not.

    Airflow checks a DAG after the import, where on Airflow 3 one failure makes every DAG of the
    file stale. Ids, cycles and values that cannot be serialized are settled by then: the settings
    are checked text and the tasks are always the same four. Cluster policies see one that is
    built for them, since they may change it, and Airflow lets them do so again.

    Args:
        build: makes the DAG, anew at each call.
        policies: whether Airflow has cluster policies.
    """
    dag = build()
    dag.validate()
    if policies:
        try_policies(deepcopy_shared(build()))
        deepcopy_shared(dag)
    return dag


def has_policies() -> bool:
    """Return whether this Airflow has cluster policies for DAGs or tasks."""
    if hasattr(airflow_local, "get_policy_plugin_manager"):
        hook = airflow_local.get_policy_plugin_manager().hook
    else:  # Airflow 2
        hook = airflow_local.POLICY_PLUGIN_MANAGER.hook
    return bool(hook.dag_policy.get_hookimpls() or hook.task_policy.get_hookimpls())


def try_policies(dag: DAG) -> None:
    """Apply the cluster policies and serialize what they make of the DAG, or raise why not."""
    try:
        airflow_local.dag_policy(dag)
        for task in dag.tasks:
            airflow_local.task_policy(task)
    except AirflowClusterPolicySkipDag:
        return
    # Airflow 3 checks executors before the policies, and so takes what they set.
    serialize(dag)


def deepcopy_shared(dag: DAG) -> DAG:
    """Give each task of the DAG its own copy of all that it shares with tasks of other DAGs."""
    shared = {id(SHARED[name]): SHARED[name] for name in SHARED}
    for task in dag.tasks:
        for name, value in vars(task).items():
            if isinstance(value, (list, set, MutableMapping)) or hasattr(value, "openapi_types"):
                vars(task)[name] = copy.deepcopy(value, dict(shared))
    return dag


def format_reason(error: Exception) -> str:
    """Return in one line why a DAG cannot be built, or why Airflow refuses it."""
    name = "" if isinstance(error, BadRowError) else f"{type(error).__name__}: "
    return one_line(f"{name}{error}")[:1000].rstrip(".")
