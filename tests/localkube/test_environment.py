"""What a container's process gets: environment, arguments, secrets and volumes."""

from __future__ import annotations

import json
from typing import Any

import psutil
import pytest
from kubernetes import watch
from kubernetes.client import ApiException
from real_cluster import LIMIT

from .running import CLUSTER_ENV, Cluster, wait_until

DUMP = "import json, os, sys; print(json.dumps([dict(os.environ), sys.argv[1:], os.getcwd()]))"


def dump(cluster: Cluster, *args: str, volumes: Any = (), **fields: Any) -> Any:
    """Return the environment, the arguments and the folder that a process sees."""
    container = cluster.container("python", "-c", DUMP, args=list(args), **fields)
    name = cluster.create(cluster.pod(container, volumes=list(volumes)))
    pod = cluster.wait_end(name)
    assert pod.status.phase == "Succeeded", (pod.status, cluster.log(name))
    return json.loads(cluster.log(name))


def variable(name: str, secret: str, key: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key, **more}}}


@pytest.mark.localkube
def test_a_process_gets_only_what_its_pod_and_cluster_declare(cluster: Cluster) -> None:
    env, _, folder = dump(cluster, env=[{"name": "MINE", "value": "1"}, {"name": "EMPTY"}])
    basics = {"PATH", "HOME", "LANG", "HOSTNAME"}
    # What the interpreter itself sets is not the pod's.
    assert set(env) - {"LC_CTYPE"} == basics | set(CLUSTER_ENV) | {"MINE", "EMPTY"}
    assert (env["MINE"], env["EMPTY"]) == ("1", "")
    assert {name: env[name] for name in CLUSTER_ENV} == CLUSTER_ENV
    assert folder == env["HOME"]


@pytest.mark.localkube
def test_the_image_comes_first_on_the_path(cluster: Cluster) -> None:
    name = cluster.create(cluster.pod(cluster.container("greet", args=["you", "all"])))
    cluster.wait_end(name)
    assert cluster.log(name) == "greetings you all\n"


@pytest.mark.localkube
def test_every_pod_has_a_folder_of_its_own(cluster: Cluster) -> None:
    assert cluster.output("touch here; ls") == "here\n"
    assert cluster.output("ls") == ""


def test_a_pod_overrides_what_the_cluster_sets(cluster: Cluster) -> None:
    env, _, _ = dump(cluster, env=[{"name": "PGHOSTADDR", "value": "10.0.0.1"}])
    assert env["PGHOSTADDR"] == "10.0.0.1"


def test_secrets_and_fields_become_environment(cluster: Cluster) -> None:
    cluster.secret("login", user="ann", password="p'\"$(X)\n$$ %s ü")
    env, _, _ = dump(
        cluster,
        env=[
            variable("PG_USER", "login", "user"),
            variable("PG_PASSWORD", "login", "password"),
            variable("NONE", "login", "other", optional=True),
            variable("NO_SECRET", "other", "user", optional=True),
            {"name": "WHERE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ],
    )
    assert (env["PG_USER"], env["PG_PASSWORD"]) == ("ann", "p'\"$(X)\n$$ %s ü")
    assert (env["WHERE"], env["WHO"]) == (cluster.namespace, env["HOSTNAME"])
    assert not {"NONE", "NO_SECRET"} & set(env)


def test_a_whole_secret_becomes_environment(cluster: Cluster) -> None:
    cluster.secret("all", **{"user": "ann", "1st": "one"})
    sources = [
        {"secretRef": {"name": "all"}},
        {"secretRef": {"name": "all"}, "prefix": "P_"},
        {"secretRef": {"name": "not-there", "optional": True}},
    ]
    container = cluster.container("python", "-c", DUMP, envFrom=sources)
    name = cluster.create(cluster.pod(container))
    cluster.wait_end(name)
    env = json.loads(cluster.log(name))[0]
    assert (env["user"], env["P_user"]) == ("ann", "ann")
    assert (env["1st"], env["P_1st"]) == ("one", "one")


def test_value_with_a_null_byte_cannot_be_given_to_a_process(cluster: Cluster) -> None:
    cluster.secret("raw", key="a\0b")
    name = cluster.create(
        cluster.pod(cluster.container("true", env=[variable("RAW", "raw", "key")]))
    )
    terminated = cluster.wait_end(name).status.container_statuses[0].state.terminated
    assert terminated.reason == "StartError"
    assert "null" in terminated.message


def test_value_that_is_no_text_keeps_its_pod_pending(cluster: Cluster) -> None:
    body = {"metadata": {"name": "raw"}, "data": {"key": "//4="}}
    cluster.api.create_namespaced_secret(cluster.namespace, body)
    name = cluster.create(
        cluster.pod(cluster.container("true", env=[variable("RAW", "raw", "key")]))
    )
    pod = cluster.wait_waiting(name, "CreateContainerError")
    why = "grpc: error while marshaling: string field contains invalid UTF-8"
    assert pod.status.phase == "Pending"
    assert pod.status.container_statuses[0].state.waiting.message == why


@pytest.mark.parametrize("missing", ["secret", "key"])
def test_a_pod_waits_for_its_secret(cluster: Cluster, missing: str) -> None:
    if missing == "key":
        cluster.secret("late", other="x")
    name = cluster.shell('echo "got $WORD"', env=[variable("WORD", "late", "word")])
    pod = cluster.wait_waiting(name, "CreateContainerConfigError")
    why = {
        "secret": 'secret "late" not found',
        "key": f"couldn't find key word in Secret {cluster.namespace}/late",
    }[missing]
    assert pod.status.phase == "Pending"
    assert pod.status.container_statuses[0].state.waiting.message == why

    def told() -> bool:
        events = {(each.type, each.reason, each.message) for each in cluster.events(name)}
        return ("Warning", "Failed", f"Error: {why}") in events

    wait_until(told, "the event is there")

    if missing == "secret":
        cluster.secret("late", word="it")
    else:
        cluster.api.patch_namespaced_secret(
            "late", cluster.namespace, {"stringData": {"word": "it"}}
        )
    assert cluster.wait_end(name).status.phase == "Succeeded"
    assert cluster.log(name) == "got it\n"


def test_a_waiting_pod_can_be_deleted(cluster: Cluster) -> None:
    name = cluster.shell("true", env=[variable("WORD", "never", "word")])
    cluster.wait_waiting(name, "CreateContainerConfigError")
    deleted = cluster.api.delete_namespaced_pod(name, cluster.namespace)
    stream = watch.Watch().stream(
        cluster.api.list_namespaced_pod,
        cluster.namespace,
        resource_version=deleted.metadata.resource_version,
        timeout_seconds=LIMIT,
    )
    last = next(event["object"] for event in stream if event["type"] == "DELETED")
    terminated = last.status.container_statuses[0].state.terminated
    assert (last.status.phase, terminated.reason) == ("Failed", "ContainerStatusUnknown")
    assert (terminated.exit_code, terminated.started_at) == (137, None)


def test_references_to_variables_are_expanded_as_in_kubernetes(cluster: Cluster) -> None:
    cluster.secret("login", user="ann")
    env, args, _ = dump(
        cluster,
        *("$(USER):$(URL)", "$(UNKNOWN)", "$$(USER)", "$USER $", "$(USER", "$(a $(USER))"),
        env=[variable("USER", "login", "user"), {"name": "URL", "value": "pg://$(USER)@host"}],
    )
    assert env["URL"] == "pg://ann@host"
    assert args == [
        *("ann:pg://ann@host", "$(UNKNOWN)", "$(USER)", "$USER $", "$(USER", "$(a $(USER))")
    ]


def test_hostile_text_stays_text(cluster: Cluster) -> None:
    texts = ["a\nb", "'; touch /tmp/x; '", '"', "`id`", "\\", "", "-", "ü\u2028", "{{ x }}"]
    variables = [{"name": f"V{index}", "value": text} for index, text in enumerate(texts)]
    env, args, _ = dump(cluster, *texts, env=variables)
    assert args == texts
    assert [env[f"V{index}"] for index in range(len(texts))] == texts


def test_a_nul_in_an_argument_fails_the_pod(cluster: Cluster) -> None:
    pod = cluster.wait_end(cluster.create(cluster.pod(cluster.container("echo", "a\0b"))))
    assert pod.status.phase == "Failed"


@pytest.mark.localkube
def test_a_claim_is_a_folder_that_outlives_its_pods(cluster: Cluster) -> None:
    volumes = [{"name": "cache", "persistentVolumeClaim": {"claimName": "git-cache"}}]
    mounts = [{"name": "cache", "mountPath": "/cache/git"}]
    env, args, _ = dump(
        cluster,
        *("/cache/git", "/cache/git/a", "/cache/gitolite", "--dir=/cache/git"),
        env=[{"name": "CACHE", "value": "/cache/git/models"}],
        volumes=volumes,
        volumeMounts=mounts,
    )
    folder = cluster.server.state_dir / "volumes" / cluster.namespace / "git-cache"
    assert args == [f"{folder}", f"{folder}/a", "/cache/gitolite", "--dir=/cache/git"]
    assert env["CACHE"] == f"{folder}/models"

    def run(*command: str) -> str:
        container = cluster.container(*command, volumeMounts=mounts)
        name = cluster.create(cluster.pod(container, volumes=volumes))
        assert cluster.wait_end(name).status.phase == "Succeeded"
        return cluster.log(name)

    run("touch", "/cache/git/written")
    assert run("ls", "/cache/git/") == "written\n"


@pytest.mark.localkube
def test_the_deepest_mount_wins_and_sub_paths_and_working_folders_work(cluster: Cluster) -> None:
    volumes = [
        {"name": "outer", "persistentVolumeClaim": {"claimName": "outer"}},
        {"name": "inner", "emptyDir": {}},
    ]
    mounts = [
        {"name": "outer", "mountPath": "/data/", "subPath": "part"},
        {"name": "inner", "mountPath": "/data/inner"},
    ]
    _, args, folder = dump(
        cluster,
        *("/data/x", "/data/inner/y"),
        volumes=volumes,
        volumeMounts=mounts,
        workingDir="/data/inner/sub",
    )
    claim = cluster.server.state_dir / "volumes" / cluster.namespace / "outer"
    assert args[0] == f"{claim}/part/x"
    assert args[1].endswith("/volumes/inner/y")
    assert folder == args[1].removesuffix("/y") + "/sub"


@pytest.mark.localkube
def test_an_empty_dir_goes_with_its_pod(cluster: Cluster) -> None:
    container = cluster.container(
        *("touch", "/scratch/file"), volumeMounts=[{"name": "s", "mountPath": "/scratch"}]
    )
    name = cluster.create(cluster.pod(container, volumes=[{"name": "s", "emptyDir": {}}]))
    uid = cluster.wait_end(name).metadata.uid
    (folder,) = (cluster.server.state_dir / "pods").glob(f"*{uid}/volumes/s")
    assert [path.name for path in folder.iterdir()] == ["file"]
    cluster.api.delete_namespaced_pod(name, cluster.namespace)
    wait_until(lambda: not folder.exists(), "the folder is gone")


def test_a_password_that_looks_like_a_path_is_left_alone(cluster: Cluster) -> None:
    cluster.secret("odd", password="/data/x")
    env, _, _ = dump(
        cluster,
        env=[variable("PASSWORD", "odd", "password")],
        volumes=[{"name": "d", "emptyDir": {}}],
        volumeMounts=[{"name": "d", "mountPath": "/data"}],
    )
    assert env["PASSWORD"] == "/data/x"


@pytest.mark.localkube
def test_secrets_show_up_in_no_command_line_and_no_log_of_the_server(cluster: Cluster) -> None:
    word = "correct-horse-battery"
    cluster.secret("hidden", word=word)
    container = cluster.container("sleep", "60", env=[variable("WORD", "hidden", "word")])
    cluster.wait_phase(cluster.create(cluster.pod(container)), "Running")
    process = psutil.Process(cluster.server.process.pid)
    family = [process, *process.children(recursive=True)]
    assert len(family) > 2
    assert not [p for p in family if word in " ".join(p.cmdline())]
    # Of all processes only the container's own has it in its environment.
    holders = [p for p in family if word in p.environ().values()]
    assert [p.cmdline() for p in holders] == [["sleep", "60"]]
    state_dir = cluster.server.state_dir
    files = [path for path in state_dir.rglob("*") if path.is_file()]
    assert not [path for path in files if word.encode() in path.read_bytes()]


def test_secrets_are_kept_changed_and_deleted(cluster: Cluster) -> None:
    api, namespace = cluster.api, cluster.namespace
    cluster.secret("s", a="1")
    assert api.read_namespaced_secret("s", namespace).data == {"a": "MQ=="}
    api.patch_namespaced_secret("s", namespace, {"stringData": {"b": "2"}, "data": {"a": None}})
    assert api.read_namespaced_secret("s", namespace).data == {"b": "Mg=="}
    body = {"metadata": {"name": "s", "labels": {"x": "y"}}, "data": {"c": "Mw=="}}
    replaced = api.replace_namespaced_secret("s", namespace, body)
    assert (replaced.data, replaced.type) == ({"c": "Mw=="}, "Opaque")
    listed = api.list_namespaced_secret(namespace, label_selector="x=y").items
    assert [secret.metadata.name for secret in listed] == ["s"]
    assert api.delete_namespaced_secret("s", namespace).status == "Success"
    with pytest.raises(ApiException) as error:
        api.read_namespaced_secret("s", namespace)
    assert (error.value.status, json.loads(error.value.body)["reason"]) == (404, "NotFound")


def test_a_secret_changed_meanwhile_is_not_overwritten(cluster: Cluster) -> None:
    cluster.secret("s", a="1")
    old = cluster.api.read_namespaced_secret("s", cluster.namespace)
    cluster.api.patch_namespaced_secret("s", cluster.namespace, {"stringData": {"a": "2"}})
    with pytest.raises(ApiException) as error:
        cluster.api.replace_namespaced_secret("s", cluster.namespace, old)
    assert (error.value.status, json.loads(error.value.body)["reason"]) == (409, "Conflict")


def test_a_secret_of_another_namespace_is_out_of_reach(cluster: Cluster) -> None:
    other = Cluster(cluster.server)
    other.secret("there", word="x")
    name = cluster.shell("true", env=[variable("WORD", "there", "word")])
    cluster.wait_waiting(name, "CreateContainerConfigError")
