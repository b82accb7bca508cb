"""The infrastructure DAG: merges the model, makes its views, and checks the streams."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from kubernetes.client import models as k8s

from yellow_dynamic.factory.compat import (
    DAG,
    AirflowException,
    AirflowFailException,
    PythonOperator,
)
from yellow_dynamic.factory.constants import JOB_CONTAINER, MODEL_VOLUME, UNREGISTERED
from yellow_dynamic.factory.logs import log
from yellow_dynamic.factory.pod import POD_OPTIONS, JobPodOperator

# As long as the Jobs that run the same commands.
COMMAND_SECONDS = 30 * 60


class Infrastructure:
    """What one infrastructure DAG merges and checks.

    Args:
        settings: the literal INFRASTRUCTURE of its file.
        file: the path of that file; the factory files are beside it.
    """

    def __init__(self, settings: dict[str, Any], file: str) -> None:
        self.settings = settings
        self.folder = Path(file).absolute().parent

    def factory_files(self) -> list[Path]:
        """Return the paths of the first factory file of each platform."""
        return [self.folder / name for name in self.settings["factory_files"]]

    def check_streams(self) -> None:
        """Fail where a table cannot be read from here, or a row becomes no DAG that can run.

        Raises:
            AirflowFailException: with all that is wrong, of all platforms.
        """
        problems = [problem for path in self.factory_files() for problem in factory_problems(path)]
        if problems:
            raise AirflowFailException(" ".join(problems))

    def notify_failure(self, context: Any) -> None:
        """Notify the recipients of the factory files, each of them once."""
        notified: list[dict[str, Any]] = []
        for path in self.factory_files():
            try:
                builder = load_builder(path)
            except AirflowException as error:
                log.warning("Nobody named in %s is notified. %s", path.name, error)
                continue
            recipients = builder.notification_settings
            if recipients and recipients not in notified:
                notified.append(recipients)
                builder.on_failure(context)

    def environment(self) -> list[k8s.V1EnvVar]:
        """Return the environment variables of the pods."""
        plain = [
            k8s.V1EnvVar(name=name, value=value)
            for name, value in self.settings["environment"].items()
        ]
        return plain + [
            k8s.V1EnvVar(
                name=name,
                value_from=k8s.V1EnvVarSource(
                    secret_key_ref=k8s.V1SecretKeySelector(name=secret, key=key)
                ),
            )
            for name, (secret, key) in self.settings["secrets"].items()
        ]

    def volumes(self) -> dict[str, Any]:
        """Return the volumes of a pod and where they are mounted, as the operator takes them."""
        volumes = [k8s.V1Volume(name="workspace", empty_dir=k8s.V1EmptyDirVolumeSource())]
        mounts = [k8s.V1VolumeMount(name="workspace", mount_path="/workspace")]
        if claim_name := self.settings["model_claim"]:
            claim = k8s.V1PersistentVolumeClaimVolumeSource(claim_name=claim_name)
            folder = self.settings["model_folder"]
            volumes.append(k8s.V1Volume(name=MODEL_VOLUME, persistent_volume_claim=claim))
            mounts.append(k8s.V1VolumeMount(name=MODEL_VOLUME, mount_path=folder))
        return {"volumes": volumes, "volume_mounts": mounts}

    def template(self) -> dict[str, Any]:
        """Return what the model gives all pods: their securityContext."""
        security = self.settings.get("security", {})
        return {"spec": {"securityContext": security, "containers": [{"name": JOB_CONTAINER}]}}

    def pod_task(self, task_id: str) -> CommandOperator:
        """Return the task that runs a command in a pod."""
        command = self.settings["commands"][task_id]
        task = CommandOperator(
            task_id=task_id,
            name=f"{self.settings['name'][:30]}-{task_id.replace('_', '-')}",
            namespace=self.settings["namespace"],
            image=self.settings["image"],
            image_pull_policy=self.settings["image_pull_policy"],
            cmds=command[:3],
            arguments=command[3:],
            env_vars=self.environment(),
            active_deadline_seconds=COMMAND_SECONDS,
            container_resources=k8s.V1ResourceRequirements(
                requests={"memory": "256Mi", "cpu": "100m"}
            ),
            pod_template_dict=self.template(),
            **POD_OPTIONS,
            **self.volumes(),
        )
        task.allowed_removals = self.settings["allowed_removals"]
        return task

    def build_dag(self) -> DAG:
        """Return the infrastructure DAG."""
        name = self.settings["name"]
        with DAG(
            dag_id=f"{name}_infrastructure",
            description="Merges the model, makes its views, and checks the streams",
            schedule=self.settings["schedule"],
            # Without a zone, as the streams have it.
            start_date=datetime(2025, 1, 1),
            catchup=False,
            max_active_runs=1,
            is_paused_upon_creation=self.settings.get("paused_at_creation"),
            on_failure_callback=self.notify_failure if self.settings["notifies"] else None,
            default_args={"owner": "datasurface", "depends_on_past": False, "retries": 0},
            tags=["datasurface", "infrastructure", name[:100]],
        ) as dag:
            check = PythonOperator(task_id="check", python_callable=self.check_streams)
            self.pod_task("merge_model") >> self.pod_task("reconcile_views") >> check
        return dag


class CommandOperator(JobPodOperator):
    """Runs a command, which the configuration of a run may allow to remove many streams."""

    __module__ = "yellow_dynamic"

    env_vars: list[k8s.V1EnvVar]
    #: The environment variable that says how many.
    allowed_removals: str

    def pre_execute(self, context: Any) -> None:
        """Pass the number on.

        Raises:
            AirflowFailException: `allow_removals` of the run's configuration is not a number.
        """
        allowed = (context["dag_run"].conf or {}).get("allow_removals")
        if allowed is not None:
            if not re.fullmatch("[0-9]+", str(allowed)):
                raise AirflowFailException(
                    f"allow_removals of the run's configuration is {allowed!r:.50}, not the number "
                    "of streams that the merge may remove."
                )
            given = k8s.V1EnvVar(name=self.allowed_removals, value=str(allowed))
            self.env_vars = [*self.env_vars, given]
        super().pre_execute(context)


def load_builder(path: Path) -> Any:
    """Return the `DagBuilder` of a factory file, which registers nothing.

    Raises:
        AirflowException: the file is missing, not whole or of another platform, or it cannot be
            imported.
    """
    if not path.exists():
        raise AirflowException(
            f"There is no {path}, so the platform has no DAG. Copy what bootstrap wrote."
        )
    spec = importlib.util.spec_from_file_location(UNREGISTERED, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise AirflowException(
            f"{path} cannot be imported ({error!r:.500}). Copy what bootstrap wrote."
        ) from error
    builder = getattr(module, "BUILDER", None)
    if builder is None or builder.platform.first_file_name != path.name:
        raise AirflowException(
            f"{path} is not whole, or of another platform. Copy what bootstrap wrote."
        )
    return builder


def factory_problems(path: Path) -> Iterator[str]:
    """Yield what keeps the streams of a factory file from running."""
    try:
        builder = load_builder(path)
    except AirflowException as error:
        yield str(error)
        return
    problems = list(builder.stream_problems())
    log.info("%s: %s", path.name, " ".join(problems) or "each active stream has a DAG.")
    yield from problems


def register_infrastructure(settings: dict[str, Any], module: dict[str, Any]) -> None:
    """Register the infrastructure DAG of a file.

    Args:
        settings: the literal INFRASTRUCTURE of the file.
        module: the names of the file's module.
    """
    dag = Infrastructure(settings, module["__file__"]).build_dag()
    module[dag.dag_id] = dag
