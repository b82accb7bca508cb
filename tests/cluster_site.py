"""A whole platform in a namespace of a real cluster, set up as the files of ring 0 say."""

from __future__ import annotations

import itertools
import re
import secrets
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from checkouts import MODELS
from datasurface_host import JOBS_SOURCE
from deployment_files import cluster_objects
from merge_command import TESTS
from psycopg2 import OperationalError, sql
from real_cluster import RealKube
from transforming import CODE, SCRIPT
from yellow_models import IMAGE, NAMESPACE, Model, login_secret

from one_machine import ChildProcess, NotYetError, Postgres, clean_environment, wait_until

#: What the models of the tests import, beside them.
MODULES = ("yellow_models.py", "datasurface_host.py", "transforming.py")
POSTGRES_IMAGE = "postgres:15"
#: The seconds that a pod of a service may take until it is ready, its image included.
READY_SECONDS = 300


class ForwardedPostgres(Postgres):
    """A PostgreSQL of the cluster, at a loopback address of this machine."""

    def __init__(self, kube: RealKube, password: str, folder: Path) -> None:
        self.password = password
        self.address = "127.83.0.99"
        self.data_dir = folder
        self._kube = kube
        self._forward: ChildProcess | None = None

    def start(self) -> None:
        """Forward its port, which `kubectl port-forward` does until its pod ends."""
        argv = [
            *("kubectl", "port-forward", "--namespace", NAMESPACE, "--address", self.address),
            *("deployment/pg-data", "5432:5432"),
        ]
        environment = clean_environment(KUBECONFIG=str(self._kube.kubeconfig))
        log = self.data_dir / "port-forward.log"
        self._forward = ChildProcess("kubectl port-forward", argv, env=environment, log=log)
        wait_until(self._answered, seconds=60)

    def stop(self) -> None:
        if self._forward is not None:
            self._forward.stop()
            self._forward = None

    def databases(self) -> set[str]:
        return {name for (name,) in self.execute("SELECT datname FROM pg_database")}

    @property
    def _major_version(self) -> int:
        return 15

    def _answered(self) -> None:
        assert self._forward is not None
        self._forward.raise_if_ended()
        try:
            self.connect().close()
        except OperationalError as error:
            raise NotYetError(f"PostgreSQL of the cluster says {error}") from error


class Kubectl:
    """The commands that an operator types, as the cluster's administrator."""

    def __init__(self, kube: RealKube) -> None:
        self._environment = clean_environment(KUBECONFIG=str(kube.kubeconfig))

    def __call__(self, *words: str, text: str = "") -> str:
        return self.run(shlex.join(["kubectl", *words]), text=text)

    def run(self, command: str, folder: Path | None = None, text: str = "") -> str:
        """Run a line of a shell, and return what it printed."""
        done = subprocess.run(
            command,
            shell=True,
            cwd=folder,
            env=self._environment,
            input=text,
            capture_output=True,
            text=True,
            timeout=1900,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout


def commands_of(file: Path) -> list[str]:
    """Return the commands in a file's head, which an operator copies."""
    head = re.match("(#.*\n)+", file.read_text().partition("exits with 1")[0])
    assert head is not None
    lines = re.sub(r" *\\\n# +", " ", head[0]).splitlines()
    return [line.removeprefix("#     ") for line in lines if line.startswith("#     kubectl")]


def postgres_objects() -> list[dict[str, Any]]:
    """Return a PostgreSQL for releases of DataSurface whose own brings more than that."""
    labels = {"app": "pg-data"}
    container = {
        "name": "postgres",
        "image": POSTGRES_IMAGE,
        "env": [
            {"name": "POSTGRES_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "pg", "key": "p"}}}
        ],
        "readinessProbe": {"tcpSocket": {"port": 5432}, "periodSeconds": 1},
    }
    spec = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
    }
    ports = {"selector": labels, "ports": [{"port": 5432}]}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "pg-data"}, "spec": ports},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "pg-data"},
            "spec": spec,
        },
    ]


def git_objects(name: str) -> list[dict[str, Any]]:
    """Return a Git server with the files of a config map, as DataSurface's image is told of it.

    The image's own configuration of Git leads https://github.com/ to git://git/.
    """
    script = f"""
for repository in {MODELS} {CODE}; do
    git init -q --bare -b main /srv/$repository.git
    git clone -q /srv/$repository.git /tmp/work && cd /tmp/work
    cp /files/* . && git add --all
    git -c user.name=tests -c user.email=tests@example.org commit -qm Change
    git push -q origin HEAD:main && cd / && rm -r /tmp/work
done
for repository in /srv/*/*.git; do ln -s $repository ${{repository%.git}}; done
exec git daemon --reuseaddr --export-all --base-path=/srv /srv
"""
    container = {
        "name": "git",
        "image": IMAGE,
        "command": ["sh", "-ec", script.replace("$", "$$")],
        "volumeMounts": [{"name": "files", "mountPath": "/files"}],
        "readinessProbe": {"tcpSocket": {"port": 9418}, "periodSeconds": 1},
    }
    spec = {
        "containers": [container],
        "volumes": [{"name": "files", "configMap": {"name": name}}],
        "terminationGracePeriodSeconds": 0,
    }
    metadata = {"name": name, "labels": {"app": "git"}}
    ports = {"selector": {"app": "git"}, "ports": [{"port": 9418}]}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "git"}, "spec": ports},
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec},
    ]


def volume_objects(name: str) -> list[dict[str, Any]]:
    """Return a pod that checks the files of a config map out into the volume of the model.

    The embedded host finds the model there, and clones nothing.
    """
    script = (
        f"mkdir -p /cache/{CODE} && cp -L /files/*.* /cache/ && cp -L /files/*.py /cache/{CODE}/"
    )
    container = {
        "name": "copy",
        "image": IMAGE,
        "command": ["sh", "-ec", script],
        "volumeMounts": [
            {"name": "files", "mountPath": "/files"},
            {"name": "cache", "mountPath": "/cache"},
        ],
    }
    spec = {
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [
            {"name": "files", "configMap": {"name": name}},
            {"name": "cache", "persistentVolumeClaim": {"claimName": "test-git-model-cache"}},
        ],
    }
    metadata = {"name": name, "labels": {"app": "copy"}}
    return [{"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}]


class ClusterSite:
    """The namespace with all that the platform needs: secrets, database, Git, ring 0's objects.

    Args:
        folder: for files of this machine.
    """

    #: Set before the site is prepared.
    model: Model

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kube = RealKube()
        self.kubectl = Kubectl(self.kube)
        self.kubeconfig = folder / "kubeconfig"
        self.postgres = ForwardedPostgres(self.kube, secrets.token_hex(8), folder)
        self.reader_password = secrets.token_hex(8)
        self._numbers = itertools.count(1)

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """Create all this, and forward the database's port."""
        login = login_secret("postgres", self.postgres.user, self.postgres.password)
        self.kube.create_secret(NAMESPACE, "postgres", login)
        self.kube.create_secret(NAMESPACE, "pg", {"p": self.postgres.password})
        self.kube.create_secret(NAMESPACE, "git", {"token": "none"})
        objects = cluster_objects(self.model)
        if JOBS_SOURCE is None:
            # All of it, as it is written; the namespace is there already.
            self.apply([each for each in objects if each["kind"] != "Namespace"])
            [account] = [each for each in objects if each["kind"] == "ServiceAccount"]
            name = account["metadata"]["name"]
        else:
            name = self.kube.prepare(NAMESPACE, objects)
            self.apply(postgres_objects())
        self.kube.write_kubeconfig(self.kubeconfig, NAMESPACE, name)
        ready = ("rollout", "status", "deployment/pg-data", f"--timeout={READY_SECONDS}s")
        self.kubectl(*ready, "--namespace", NAMESPACE)
        with self.postgres:
            if self.model.database not in self.postgres.databases():
                self.postgres.create_database(self.model.database)
            yield

    def run_head(self, file: Path, folder: Path) -> None:
        """Run the commands in a file's head, in the folder of the file."""
        commands = commands_of(file)
        assert commands, file
        for command in commands:
            self.kubectl.run(command, folder)

    def grant_reader(self, files: Path, psql: Path) -> None:
        """Run ring 0's SQL for the role of Airflow with this psql, and set its password."""
        [script] = files.glob("*-airflow-reader.sql")
        url = self.postgres.url(self.model.database, "postgresql").render_as_string(False)
        # Without the variables that lead all host names to another server.
        environment = clean_environment(PGCONNECT_TIMEOUT="10")
        command = [str(psql), "--dbname", url, "--file", str(script)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        self.postgres.execute(
            sql.SQL("ALTER ROLE airflow_reader PASSWORD {}").format(
                sql.Literal(self.reader_password)
            )
        )

    def apply(self, objects: list[dict[str, Any]]) -> None:
        text = yaml.safe_dump_all(objects)
        self.kubectl("apply", "--namespace", NAMESPACE, "--filename", "-", text=text)

    @property
    def commit(self) -> str | None:
        """The commit of the live model, or None where it is in no repository."""
        if JOBS_SOURCE is not None:
            git = f"exec --namespace {NAMESPACE} service/git -- git -C /srv/{MODELS}.git"
            return self.kubectl.run(f"kubectl {git} rev-parse main").strip()
        return None

    def check_in(self, model: Path) -> None:
        """Make the model in a folder the live one."""
        name = f"model-{next(self._numbers)}"
        files = self.folder / name
        shutil.copytree(model, files, ignore=shutil.ignore_patterns("output", "__pycache__"))
        # What is only on this machine is told to the model's code in the pods.
        told = {"CLUSTER_IMAGE": IMAGE, "CLUSTER_NAMESPACE": NAMESPACE}
        eco = files / "eco.py"
        eco.write_text(f"import os\nos.environ |= {told}\n{eco.read_text()}")
        for module in MODULES:
            shutil.copy(TESTS / module, files)
        (files / "transformer.py").write_text(SCRIPT)
        self.kubectl("create", "configmap", name, "-n", NAMESPACE, f"--from-file={files}")
        label, condition = (
            ("copy", "jsonpath={.status.phase}=Succeeded")
            if JOBS_SOURCE is None
            else ("git", "condition=Ready")
        )
        self.kubectl("delete", "pod", "-n", NAMESPACE, "--selector", f"app={label}", "--wait")
        self.apply(volume_objects(name) if JOBS_SOURCE is None else git_objects(name))
        self.kubectl(
            *("wait", f"pod/{name}", "-n", NAMESPACE, f"--for={condition}"),
            f"--timeout={READY_SECONDS}s",
        )
