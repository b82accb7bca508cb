"""The other ways of making the factory's DAGs, which it is measured against."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import sqlalchemy
import yaml
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.python import BranchPythonOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG
from kubernetes.client import models as k8s
from sqlalchemy.pool import NullPool

Config = dict[str, Any]

#: Of the ecosystem of `estate.py`.
CLAIM_NAME = "test-git-model-cache"
START_DATE = datetime(2025, 1, 1, tzinfo=UTC)
USER_PASSWORD = {"USER": "POSTGRES_USER", "PASSWORD": "POSTGRES_PASSWORD"}


class PodOperator(KubernetesPodOperator):
    """Runs the job's pod; nothing is templated, as in the factory's DAGs and the static ones."""

    template_fields = ()


def choose_next_task(**_: Any) -> str:
    return "wait_for_trigger"


class PodParts(NamedTuple):
    """The Kubernetes objects of one job's pod."""

    env_vars: list[k8s.V1EnvVar]
    volumes: list[k8s.V1Volume]
    volume_mounts: list[k8s.V1VolumeMount]
    container_resources: k8s.V1ResourceRequirements


def import_file(path: Path) -> dict[str, Any]:
    """Run a DAG file as a module and return what it defines."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return vars(module)


def parse_factory(file: Path) -> dict[str, DAG]:
    """Parse the factory file."""
    return {name: value for name, value in import_file(file).items() if isinstance(value, DAG)}


def parse_short_factory(file: Path) -> dict[str, DAG]:
    """Parse a factory file that imports the package, which no earlier parse has imported."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "yellow_dynamic"]:
        del sys.modules[name]
    return parse_factory(file)


def parse_static_file(file: Path) -> dict[str, DAG]:
    """Parse one static file."""
    dag = import_file(file)["dag"]
    return {dag.dag_id: dag}


def parse_static_files(folder: Path) -> dict[str, DAG]:
    """Parse one static file after the other."""
    return {
        k: dag for path in sorted(folder.glob("*.py")) for k, dag in parse_static_file(path).items()
    }


def parse_dag_factory(file: Path) -> dict[str, DAG]:
    """Let dag-factory build the DAGs of a YAML file."""
    from dagfactory import load_yaml_dags

    found: dict[str, Any] = {}
    load_yaml_dags(found, config_filepath=str(file))
    return {dag.dag_id: dag for dag in found.values() if isinstance(dag, DAG)}


def parse_naively(url: sqlalchemy.engine.URL, table: str) -> dict[str, DAG]:
    """Read the table, and make every object anew for each DAG."""
    engine = sqlalchemy.create_engine(url, poolclass=NullPool)
    query = f"SELECT config_json FROM {table} WHERE status = 'active'"  # noqa: S608 - our own name
    with engine.connect() as connection:
        texts = connection.execute(sqlalchemy.text(query)).scalars().all()
    configs = [json.loads(text) for text in texts]
    return {
        dag_id(config): build_dag(config, pod_parts(config), KubernetesPodOperator)
        for config in configs
    }


def call_constructors(configs: Iterable[Config], parts: PodParts) -> dict[str, DAG]:
    """Make only the DAG objects, with Kubernetes objects that all of them share."""
    return {dag_id(config): build_dag(config, parts) for config in configs}


def check_equal(sides: Mapping[str, Callable[[], Any]]) -> None:
    """Raise ValueError unless all sides build the same DAGs with the same tasks."""
    shapes = {name: describe_dags(build()) for name, build in sides.items()}
    differing = [name for name in shapes if shapes[name] != next(iter(shapes.values()))]
    if differing:
        raise ValueError(f"These sides build other DAGs than the first: {', '.join(differing)}.")


def describe_dags(dags: Mapping[str, DAG]) -> dict[str, Any]:
    """Return what must be equal: schedules, tasks, their order, and the job's command line."""
    return {
        dag_id: (
            dag.schedule,
            {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks},
            dag.get_task("snapshot_merge_job").arguments,
        )
        for dag_id, dag in sorted(dags.items())
    }


def dag_id(config: Config) -> str:
    return f"{config['platform_name']}__{config['stream_key']}_ingestion"


def dag_arguments(config: Config) -> dict[str, Any]:
    return {
        "description": f"Ingests {config['stream_key']} into the merge store of "
        f"{config['original_platform_name']}",
        "schedule": config["schedule_string"],
        "start_date": START_DATE,
        "catchup": False,
        "max_active_runs": 1,
        "is_paused_upon_creation": False,
        "default_args": {"owner": "datasurface", "depends_on_past": False, "retries": 0},
        "tags": ["datasurface", "ingestion", config["platform_name"], config["stream_key"]],
    }


def pod_arguments(config: Config) -> dict[str, Any]:
    name = f"{config['platform_name']}-{config['stream_key']}".lower()
    return {
        "name": re.sub(r"[^a-z0-9]+", "-", name)[:50].strip("-") + "-job",
        "namespace": config["namespace_name"],
        "image": config["datasurface_docker_image"],
        "image_pull_policy": "Always",
        "cmds": ["python", "-m", "datasurface.platforms.yellow.jobs"],
        "arguments": job_arguments(config),
        "get_logs": True,
        "log_events_on_failure": True,
        "log_pod_spec_on_failure": False,
        "do_xcom_push": False,
        "on_finish_action": "delete_pod",
    }


def job_arguments(config: Config) -> list[str]:
    owner, _, repository = urlsplit(config["git_repo_url"]).path.strip("/").partition("/")
    return [
        "--platform-name", config["original_platform_name"],
        "--store-name", config["store_name"],
        "--operation", "snapshot-merge",
        "--git-repo-path", "/cache/git-models",
        "--git-repo-owner", owner,
        "--git-repo-name", repository,
        "--git-repo-branch", config["git_repo_branch"],
        "--git-platform-repo-credential-name", config["git_credential_secret_name"],
        "--use-git-cache",
        "--max-cache-age-minutes", str(config["git_cache_max_age_minutes"]),
    ]  # fmt: skip


def secret_variables(config: Config) -> dict[str, tuple[str, str]]:
    """Return secret and key by the name of the environment variable that holds it."""
    roles = {"postgres": USER_PASSWORD, "git": {"TOKEN": "token"}, "source": USER_PASSWORD}
    return {
        f"{secret}_{part}": (secret, key)
        for role, parts in roles.items()
        for secret in [config[f"{role}_credential_secret_name"]]
        for part, key in parts.items()
    }


def plain_variables(config: Config) -> dict[str, str]:
    return {
        "DATASURFACE_PLATFORM_NAME": config["original_platform_name"],
        "DATASURFACE_NAMESPACE": config["namespace_name"],
    }


def pod_parts(config: Config) -> PodParts:
    """Make the pod's Kubernetes objects as their documentation shows it."""
    claim = k8s.V1PersistentVolumeClaimVolumeSource(claim_name=CLAIM_NAME)
    return PodParts(
        [k8s.V1EnvVar(name=name, value=value) for name, value in plain_variables(config).items()]
        + [
            k8s.V1EnvVar(
                name=name,
                value_from=k8s.V1EnvVarSource(
                    secret_key_ref=k8s.V1SecretKeySelector(name=secret, key=key)
                ),
            )
            for name, (secret, key) in secret_variables(config).items()
        ],
        [k8s.V1Volume(name="git-model-cache", persistent_volume_claim=claim)],
        [
            k8s.V1VolumeMount(
                name="git-model-cache", mount_path="/cache/git-models", read_only=False
            )
        ],
        k8s.V1ResourceRequirements(requests={"memory": "256Mi", "cpu": "100m"}),
    )


def build_dag(
    config: Config, parts: PodParts, operator: type[KubernetesPodOperator] = PodOperator
) -> DAG:
    dag = DAG(dag_id(config), **dag_arguments(config))
    job = operator(
        dag=dag, task_id="snapshot_merge_job", **pod_arguments(config), **parts._asdict()
    )
    check = BranchPythonOperator(dag=dag, task_id="check_result", python_callable=choose_next_task)
    again = TriggerDagRunOperator(
        dag=dag,
        task_id="reschedule_immediately",
        trigger_dag_id=dag.dag_id,
        conf={"triggered_by": "reschedule"},
    )
    wait = EmptyOperator(dag=dag, task_id="wait_for_trigger")
    job >> check >> [again, wait]
    return dag


def dag_factory_yaml(configs: Iterable[Config]) -> str:
    """Return the same DAGs as dag-factory's YAML, without their Kubernetes objects.

    With these it would take ten times as long, because it writes each DAG's YAML, whole Kubernetes
    objects included, into the DAG's documentation.
    """
    return yaml.safe_dump({dag_id(config): yaml_dag(config) for config in configs}, sort_keys=False)


def yaml_dag(config: Config) -> dict[str, Any]:
    arguments = dag_arguments(config)
    arguments["default_args"] |= {"start_date": arguments.pop("start_date").isoformat()}
    operators = "airflow.providers.standard.operators"
    job = {
        "task_id": "snapshot_merge_job",
        "operator": "airflow.providers.cncf.kubernetes.operators.pod.KubernetesPodOperator",
        **pod_arguments(config),
        "env_vars": plain_variables(config),
    }
    check = {
        "task_id": "check_result",
        "operator": f"{operators}.python.BranchPythonOperator",
        "python_callable": f"{__name__}.{choose_next_task.__name__}",
        "dependencies": ["snapshot_merge_job"],
    }
    again = {
        "task_id": "reschedule_immediately",
        "operator": f"{operators}.trigger_dagrun.TriggerDagRunOperator",
        "trigger_dag_id": dag_id(config),
        "conf": {"triggered_by": "reschedule"},
        "dependencies": ["check_result"],
    }
    wait = {
        "task_id": "wait_for_trigger",
        "operator": f"{operators}.empty.EmptyOperator",
        "dependencies": ["check_result"],
    }
    return {**arguments, "tasks": [job, check, again, wait]}
