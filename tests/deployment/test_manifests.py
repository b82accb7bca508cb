"""What bootstrap renders for a cluster: Kubernetes takes it, and no value of a model breaks it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from deployment_files import (
    AIRFLOW_RIGHTS,
    KUBERNETES_VERSIONS,
    Manifest,
    cluster_objects,
    deployment,
    deployment_of,
    login,
    one,
)
from yellow_models import Model, login_keys, read_login

JOBS = (
    "-bootstrap-job.yaml",
    "_ring1_init_job.yaml",
    "_model_merge_job.yaml",
    "_reconcile_views_job.yaml",
)
READS = read_login("postgres", "postgres")
MODELS = {
    "plain": Model(),
    "no model cache": Model(providerArguments={"git_cache_enabled": False}),
    "awkward names": Model(
        platform="Yellow_Live No.1",
        postgresCredential="Merge_Cred",
        gitCredential="Git_Cred",
        branch="release/1_x $(git_TOKEN)",
        providerArguments={"airflowName": "Air_Flow"},
    ),
    "long names": Model(platform="x" * 128, postgresCredential="y" * 238),
}
HOSTILE = 'x"\n---\nkind: ClusterRole\n# {{ 1 }} ${HOME} : &a *a !!python/name:os.system\x00\u2028'


@pytest.fixture(params=MODELS)
def files(request: pytest.FixtureRequest) -> dict[str, str]:
    return deployment_of(MODELS[request.param])


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_kubernetes_takes_the_jobs(files: dict[str, str], version: str) -> None:
    for name in JOBS:
        job = one(files[name])
        assert len(job["metadata"]["name"]) <= 63
        kubernetes_validate.validate(job, version, strict=True)


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_kubernetes_takes_what_the_chart_makes_of_the_values(
    files: dict[str, str], version: str
) -> None:
    values = one(files["-airflow-values.yaml"])

    assert values.keys() == {"scheduler", "dagProcessor", "workers"}
    for component, given in values.items():
        # What the chart knows below each component, and no more.
        assert given.keys() <= {"env", "extraVolumes", "extraVolumeMounts"}
        container = {"name": component.lower(), "env": given["env"]}
        container["volumeMounts"] = given.get("extraVolumeMounts", [])
        made = deployment(component.lower(), container, given.get("extraVolumes", []))
        kubernetes_validate.validate(made, version, strict=True)


def test_chart_can_carry_every_variable_of_the_values(files: dict[str, str]) -> None:
    for given in one(files["-airflow-values.yaml"]).values():
        for variable in given["env"]:
            # The chart copies a value, or the name and key of a secret, and drops all else.
            reference = variable.get("valueFrom", {}).get("secretKeyRef", {})
            assert variable == {"name": variable["name"], "value": variable.get("value")} or (
                variable
                == {"name": variable["name"], "valueFrom": {"secretKeyRef": dict(reference)}}
                and reference.keys() == {"name", "key"}
            )


def test_page_has_its_part_of_the_values_for_who_wants_it() -> None:
    text = deployment_of(Model())["-airflow-values.yaml"]

    lines = text[text.index("# apiServer:") :].splitlines()

    # As the file says: without the signs of a comment.
    values = yaml.safe_load("\n".join(line.removeprefix("# ") for line in lines))
    assert values.keys() == {"apiServer"}
    assert login(values["apiServer"]) == READS
    assert values["apiServer"].keys() == {"env"}


def patched(patch: Manifest) -> Manifest:
    """Return a workload after a strategic merge of the patch: lists merge by name or path."""
    name = patch["metadata"]["name"]
    before = deployment(name, {"name": name, "env": [{"name": "KEPT", "value": "1"}]}, [])
    before["kind"] = patch["kind"]
    if patch["kind"] == "StatefulSet":
        before["spec"]["serviceName"] = name
    target: Any = before["spec"]["template"]["spec"]
    change: Any = patch["spec"]["template"]["spec"]
    assert patch["spec"].keys() == {"template"} and patch["spec"]["template"].keys() == {"spec"}
    assert change.keys() <= {"containers", "volumes"}
    [container] = change["containers"]
    assert container["name"] == target["containers"][0]["name"]
    target["containers"][0]["env"] += container["env"]
    target["containers"][0]["volumeMounts"] = container.get("volumeMounts", [])
    target["volumes"] = change.get("volumes", [])
    return before


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_kubernetes_takes_what_the_patch_makes_of_an_airflow(
    files: dict[str, str], version: str
) -> None:
    patches = list(yaml.safe_load_all(files["-airflow-patch.yaml"]))

    assert [patch["kind"] for patch in patches] == ["Deployment", "Deployment", "StatefulSet"]
    for patch in patches:
        kubernetes_validate.validate(patched(patch), version, strict=True)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_kubectl_merges_the_patch_without_losing_anything(tmp_path: Path) -> None:
    for number, patch in enumerate(
        yaml.safe_load_all(deployment_of(Model())["-airflow-patch.yaml"])
    ):
        name = patch["metadata"]["name"]
        mount = {"name": "dags", "mountPath": "/opt/airflow/dags"}
        variable = {"name": "KEPT", "value": "1"}
        # DataSurface's own Airflow has the variable already.
        key = {"name": "postgres", "key": "POSTGRES_USER"}
        theirs = {"name": "postgres_USER", "valueFrom": {"secretKeyRef": key}}
        own = {"name": name, "env": [variable, theirs], "volumeMounts": [mount]}
        before = deployment(name, own, [{"name": "dags", "emptyDir": {}}])
        before["kind"] = patch["kind"]
        tmp_path.joinpath(f"{number}.json").write_text(json.dumps(before))
        tmp_path.joinpath(f"{number}-patch.json").write_text(json.dumps(patch))

        done = subprocess.run(
            [
                "kubectl", "patch", "--local", "--output", "json", "--type", "strategic",
                "--filename", str(tmp_path / f"{number}.json"),
                "--patch-file", str(tmp_path / f"{number}-patch.json"),
            ],
            capture_output=True, text=True,
        )  # fmt: skip

        assert done.returncode == 0, done.stderr
        spec = json.loads(done.stdout)["spec"]["template"]["spec"]
        [container] = spec["containers"]
        assert container["image"] == "airflow"
        assert variable in container["env"]
        assert login(container) == READS
        assert mount in container["volumeMounts"]
        assert {"name": "dags", "emptyDir": {}} in spec["volumes"]


def test_airflow_gets_the_readers_login_from_a_secret_that_no_job_reads() -> None:
    files = deployment_of(Model())
    patches = list(yaml.safe_load_all(files["-airflow-patch.yaml"]))
    containers = [patch["spec"]["template"]["spec"]["containers"][0] for patch in patches]

    for container in [*one(files["-airflow-values.yaml"]).values(), *containers]:
        assert login(container) == READS
        assert "envFrom" not in container
    for name in JOBS:
        assert "postgres-airflow-reader" not in files[name]
    comment = files["-airflow-reader.sql"].partition("\n\n")[0]
    assert {"postgres-airflow-reader,", "postgres_USER", "postgres_PASSWORD."} <= {*comment.split()}


def test_longest_secret_of_airflow_is_one_that_kubernetes_takes() -> None:
    values = one(deployment_of(MODELS["long names"])["-airflow-values.yaml"])

    assert {len(secret) for secret, _ in login(values["workers"]).values()} == {253}


def test_variables_carry_the_credentials_own_name_and_secrets_the_kubernetes_one() -> None:
    files = deployment_of(MODELS["awkward names"])

    reads = read_login("Merge_Cred", "merge-cred")
    assert login(one(files["-airflow-values.yaml"])["workers"]) == reads
    [container] = one(files["_model_merge_job.yaml"])["spec"]["template"]["spec"]["containers"]
    assert login(container) == {
        "Merge_Cred_USER": ("merge-cred", login_keys("merge-cred")[0]),
        "Merge_Cred_PASSWORD": ("merge-cred", login_keys("merge-cred")[1]),
        "Git_Cred_TOKEN": ("git-cred", "token"),
    }
    # Kubernetes would put the value of the variable there.
    assert "release/1_x $$(git_TOKEN)" in container["command"]


def test_every_part_of_airflow_that_builds_dags_keeps_its_snapshot_on_the_volume() -> None:
    values = one(deployment_of(Model())["-airflow-values.yaml"])

    for component in ("scheduler", "dagProcessor"):
        [mount] = values[component]["extraVolumeMounts"]
        [volume] = values[component]["extraVolumes"]
        folder = {"name": "YELLOW_DYNAMIC_SNAPSHOT_DIR", "value": mount["mountPath"]}
        assert folder in values[component]["env"]
        assert mount["name"] == volume["name"]


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_no_value_of_the_model_can_add_an_object_or_change_a_type(version: str) -> None:
    plain = deployment_of(Model())
    found = deployment_of(
        Model(
            database=HOSTILE,
            host=HOSTILE,
            branch=HOSTILE,
            providerArguments={"datasurfaceDockerImage": HOSTILE},
        )
    )

    for name in (*JOBS, "-airflow-values.yaml", "-airflow-patch.yaml"):
        before, after = (list(yaml.safe_load_all(each[name])) for each in (plain, found))
        assert shape(before) == shape(after)
    for name in JOBS:
        job = one(found[name])
        kubernetes_validate.validate(job, version, strict=True)
        assert job["spec"]["template"]["spec"]["containers"][0]["image"] == HOSTILE
    [merge] = one(found["_model_merge_job.yaml"])["spec"]["template"]["spec"]["containers"]
    assert HOSTILE.replace("$", "$$") in merge["command"]


def shape(value: Any) -> Any:
    """Return the keys and types of a document, without its texts."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    return [shape(each) for each in value] if isinstance(value, list) else type(value)


@pytest.mark.parametrize("name", ["{{ x }}", "a\nb: c", "$(x)", "\ud800", "no"])
def test_name_in_the_commands_arrives_as_it_is_or_is_refused(name: str) -> None:
    try:
        files = deployment_of(Model(platform=name, provider=name))
    except ValueError as refused:
        assert str(refused).isprintable()
        return

    for job in JOBS:
        spec = one(files[job])["spec"]["template"]["spec"]
        container = spec.get("initContainers", spec["containers"])[0]
        assert name.replace("$", "$$") in container["command"]


@pytest.mark.parametrize(
    "settings",
    [
        {"namespace": "Not_A_Namespace"},
        {"namespace": 'x"\nkind: Pod'},
        {"postgresCredential": "1\nx"},
        {"gitCredential": "{{ x }}"},
        {"gitCredential": "Postgres"},
        # The secret of Airflow's login has a longer name.
        {"postgresCredential": "y" * 239},
    ],
)
def test_name_that_kubernetes_refuses_is_refused_before_anything_is_rendered(
    settings: dict[str, str],
) -> None:
    with pytest.raises(ValueError, match="cannot be put on a cluster") as refused:
        deployment_of(Model(**settings))  # type: ignore[arg-type]

    assert "YellowLive" in str(refused.value)
    assert str(refused.value).isprintable()


def test_datasurfaces_own_file_lets_airflow_do_what_it_needs() -> None:
    """Its scheduler, and a triggerer with its account."""
    objects = {each["kind"]: each for each in cluster_objects(Model())}
    granted = {rule["resources"][0]: set(rule["verbs"]) for rule in objects["Role"]["rules"]}

    assert all(granted[resource] >= set(verbs) for resource, verbs in AIRFLOW_RIGHTS.items())
    assert objects["RoleBinding"]["roleRef"]["name"] == objects["Role"]["metadata"]["name"]
