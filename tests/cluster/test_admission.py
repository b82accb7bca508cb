"""What a real Kubernetes refuses or changes of the job's pod, and what the operator reads."""

from __future__ import annotations

import base64
import datetime
import itertools
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cluster.admission_site import DAG_ID, DONE, NOT_ROOT, Place, template, wait_for
from conftest import Site
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from deployment_files import deployment_of, one
from kubernetes import client
from kubernetes.client import ApiException
from real_cluster import RealKube
from yellow_models import IMAGE, NAMESPACE, Model

from yellow_dynamic import RunSettings

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

WEBHOOK = Path(__file__).with_name("webhook.py")
ADVICE = "Set runs=RunSettings(podTemplate="


@pytest.fixture(scope="module")
def kube() -> Iterator[RealKube]:
    with RealKube() as running:
        yield running


@pytest.fixture(scope="module")
def plain(kube: RealKube, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A namespace that refuses and changes nothing."""
    return Place(kube, tmp_path_factory.mktemp("plain"))


@pytest.fixture
def place(kube: RealKube, tmp_path: Path) -> Iterator[Place]:
    """A namespace of the test's own."""
    made = Place(kube, tmp_path)
    yield made
    made.remove()


@pytest.fixture
def dag(installed: Site) -> Any:
    return installed.parse()[DAG_ID]


# --- Pod Security -----------------------------------------------------------------------------


@pytest.fixture
def restricted(kube: RealKube, tmp_path: Path) -> Iterator[Place]:
    """A namespace of the test's own with the strictest profile of Pod Security."""
    made = Place(kube, tmp_path, **{"pod-security.kubernetes.io/enforce": "restricted"})
    yield made
    made.remove()


def test_restricted_namespace_wants_nothing_of_the_job_but_another_user(
    dag: Any, restricted: Place
) -> None:
    reason = restricted.refusal(dag)

    assert 'violates PodSecurity "restricted:latest": runAsNonRoot != true (' in reason
    assert ADVICE in reason
    for given in ("seccompProfile", "allowPrivilegeEscalation", "capabilities"):
        assert given not in reason


WRITES = "cd /cache/git-models && git init --quiet x && touch x/of-$(id -u) && rm -r x && " + DONE


def test_restricted_namespace_runs_jobs_that_are_not_root(dag: Any, restricted: Place) -> None:
    restricted.job_is(f"export HOME=/tmp; {WRITES}; id")

    ti = restricted.run(dag, pod_template_dict=template(securityContext=NOT_ROOT))

    assert ti.xcoms["result_code"] == "0"


def test_image_that_runs_as_root_is_refused_at_once_by_its_node(
    dag: Any, restricted: Place
) -> None:
    reason = restricted.refusal(
        dag, pod_template_dict=template(securityContext={"runAsNonRoot": True})
    )

    assert "it could not start, " in reason
    assert "runAsNonRoot and image will run as root" in reason


def test_root_without_capabilities_writes_to_the_models_volume(
    dag: Any, kube: RealKube, tmp_path: Path
) -> None:
    baseline = Place(kube, tmp_path, **{"pod-security.kubernetes.io/enforce": "baseline"})
    baseline.job_is(f"[ $(id -u) = 0 ] && grep 'CapEff:.0*$' /proc/self/status && {WRITES}")

    assert baseline.run(dag).xcoms["result_code"] == "0"


JOBS = ("bootstrap-job", "ring1_init_job", "model_merge_job", "reconcile_views_job")


@pytest.mark.parametrize("is_set", [False, True])
def test_jobs_of_ring_0_pass_with_the_platforms_setting(restricted: Place, is_set: bool) -> None:
    runs = RunSettings(podTemplate=template(securityContext=NOT_ROOT))
    model = Model(
        namespace=restricted.namespace, platformArguments={"runs": runs} if is_set else {}
    )
    for end, text in deployment_of(model).items():
        if end.lstrip("-_").removesuffix(".yaml") in JOBS:
            job = one(text)["spec"]["template"] | {"kind": "Pod", "apiVersion": "v1"}
            job["metadata"]["name"] = "dry"
            refusal = why_refused(restricted, job)
            if is_set:
                assert refusal is None
            else:
                assert 'violates PodSecurity "restricted:latest": runAsNonRoot' in str(refusal)


def why_refused(place: Place, pod: dict[str, Any]) -> str | None:
    try:
        place.api.create_namespaced_pod(place.namespace, pod, dry_run="All")
    except ApiException as error:
        return str(json.loads(error.body)["message"])
    return None


# --- Limits and quotas ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ({"max": {"memory": "100Mi"}}, "must be less than or equal to memory limit of 100Mi"),
        ({"min": {"memory": "1Gi"}}, "minimum memory usage per Container is 1Gi, but request is"),
        ({"default": {"memory": "100Mi"}}, "must be less than or equal to memory limit of 100Mi"),
    ],
)
def test_limit_range_that_refuses_the_job_fails_it_at_once(
    dag: Any, place: Place, limit: dict[str, Any], said: str
) -> None:
    place.limits(**limit)

    reason = place.refusal(dag)

    assert said in reason
    assert "Change resources of RunSettings" in reason


def test_limit_range_below_the_jobs_own_limit_fails_it_at_once(dag: Any, place: Place) -> None:
    place.limits(max={"memory": "512Mi"})
    own = client.V1ResourceRequirements(limits={"memory": "1Gi"})

    reason = place.refusal(dag, container_resources=own)

    assert "maximum memory usage per Container is 512Mi, but limit is 1Gi. Change" in reason


def test_quota_that_demands_limits_fails_the_job_at_once(dag: Any, place: Place) -> None:
    place.quota(limits_memory="4Gi")

    reason = place.refusal(dag)

    assert "failed quota: quota: must specify limits.memory for: base. Change resources" in reason


def test_quota_with_defaults_of_a_limit_range_lets_the_job_run(dag: Any, place: Place) -> None:
    place.quota(limits_memory="4Gi")
    place.limits(default={"memory": "1Gi"})

    assert place.run(dag).xcoms["result_code"] == "0"


@pytest.mark.parametrize("hard", [{"requests_memory": "100Mi"}, {"pods": "0"}])
def test_quota_that_the_job_never_fits_fails_it_at_once(
    dag: Any, place: Place, hard: dict[str, str]
) -> None:
    place.quota(**hard)

    reason = place.refusal(dag)

    assert "exceeded quota: quota, requested: " in reason
    assert "Change resources" in reason


def test_quota_that_is_used_up_is_waited_for(
    dag: Any, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.quota(pods="1")
    place.api.create_namespaced_pod(place.namespace, sleeper("sleep", "15"))

    assert place.run(dag).xcoms["result_code"] == "0"
    assert "Kubernetes has no room or no answer: 403 pods" in caplog.text
    assert "exceeded quota: quota, requested: pods=1, used: pods=1, limited: pods=1" in caplog.text


def sleeper(*command: str) -> dict[str, Any]:
    container = {"name": "base", "image": IMAGE, "command": list(command)}
    return {
        "metadata": {"name": "other"},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }


# --- Webhooks ---------------------------------------------------------------------------------


class Webhooks:
    """A server of webhooks in a namespace of its own, and their configurations."""

    def __init__(self, kube: RealKube) -> None:
        self.namespace = f"{NAMESPACE}-webhooks"
        self.api = kube.api()
        self.admission = client.AdmissionregistrationV1Api(kube.connect())
        self.numbers = itertools.count(1)
        self.names: list[str] = []
        host = f"webhook.{self.namespace}.svc"
        self.authority, key = self_signed(host)
        files = {"tls.crt": self.authority.decode(), "tls.key": key.decode()}
        kube.create_secret(self.namespace, "webhook", {**files, "server.py": WEBHOOK.read_text()})
        labels = {"app": "webhook"}
        container = {
            "name": "webhook",
            "image": IMAGE,
            "command": ["python", "/webhook/server.py", IMAGE],
            "readinessProbe": {"tcpSocket": {"port": 8443}, "periodSeconds": 1},
            "volumeMounts": [{"name": "files", "mountPath": "/webhook"}],
        }
        pod = {
            "metadata": {"name": "webhook", "labels": labels},
            "spec": {
                "containers": [container],
                "volumes": [{"name": "files", "secret": {"secretName": "webhook"}}],
            },
        }
        self.api.create_namespaced_pod(self.namespace, pod)
        spec = {"selector": labels, "ports": [{"port": 443, "targetPort": 8443}]}
        service = {"metadata": {"name": "webhook"}, "spec": spec}
        self.api.create_namespaced_service(self.namespace, service)
        wait_for(self._is_ready, "the webhook's pod is ready")

    def _is_ready(self) -> bool:
        status = self.api.read_namespaced_pod("webhook", self.namespace).status
        return any(each.type == "Ready" and each.status == "True" for each in status.conditions)

    def add(self, place: Place, path: str, service: str = "webhook") -> None:
        """Let pods of a place pass through a webhook; wait until that is in force."""
        name = f"{self.namespace}-{next(self.numbers)}"
        self.names.append(name)
        webhook = {
            "name": "test.example.org",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": "Fail",
            "timeoutSeconds": 5,
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": place.namespace}},
            "objectSelector": {"matchExpressions": [{"key": "dag_id", "operator": "Exists"}]},
            "rules": [
                {
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE"],
                    "resources": ["pods"],
                }
            ],
            "clientConfig": {
                "caBundle": base64.b64encode(self.authority).decode(),
                "service": {"name": service, "namespace": self.namespace, "path": path},
            },
        }
        probe = sleeper("true")
        probe["metadata"]["labels"] = {"dag_id": "probe"}
        before = dry_run(place, probe)
        self.admission.create_mutating_webhook_configuration(
            {"metadata": {"name": name}, "webhooks": [webhook]}
        )
        wait_for(lambda: dry_run(place, probe) != before, f"the webhook {path} is in force", 30)

    def remove(self) -> None:
        while self.names:
            self.admission.delete_mutating_webhook_configuration(self.names.pop())


def dry_run(place: Place, pod: dict[str, Any]) -> Any:
    """Return what the API makes of a pod that it does not create; None if it refuses it."""
    try:
        made = place.api.create_namespaced_pod(place.namespace, pod, dry_run="All")
    except ApiException:
        return None
    return [made.metadata.labels, len(made.spec.containers), len(made.spec.init_containers or ())]


def self_signed(host: str) -> tuple[bytes, bytes]:
    """Return a certificate of a host and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName(host)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    return certificate.public_bytes(encoding), key.private_bytes(encoding, form, plain)


@pytest.fixture(scope="module")
def server(kube: RealKube) -> Webhooks:
    return Webhooks(kube)


@pytest.fixture
def webhooks(server: Webhooks) -> Iterator[Webhooks]:
    yield server
    server.remove()


@pytest.mark.parametrize("path", ["/sidecar", "/native", "/labels"])
@pytest.mark.parametrize(
    ("script", "result"), [(DONE, "0"), ("echo DATASURFACE_RESULT_CODE=1", "1")]
)
def test_what_a_webhook_adds_costs_neither_the_end_nor_the_result(
    dag: Any, place: Place, webhooks: Webhooks, path: str, script: str, result: str
) -> None:
    webhooks.add(place, path)
    place.job_is(f"sleep 2; {script}")

    assert place.run(dag).xcoms["result_code"] == result


def test_deferred_job_ends_beside_a_sidecar(dag: Any, place: Place, webhooks: Webhooks) -> None:
    webhooks.add(place, "/sidecar")

    assert place.run_deferred(dag).xcoms["result_code"] == "0"


def test_job_that_fails_beside_a_sidecar_fails_its_task(
    dag: Any, place: Place, webhooks: Webhooks
) -> None:
    webhooks.add(place, "/sidecar")
    place.job_is(f"{DONE}; exit 3")

    with pytest.raises(Exception, match=r"failed: its container ended with exit code 3 \(Error\)"):
        place.run(dag)


def test_webhook_that_refuses_fails_the_job_at_once(
    dag: Any, place: Place, webhooks: Webhooks
) -> None:
    webhooks.add(place, "/refuse")

    reason = place.refusal(dag)

    assert (
        'admission webhook "test.example.org" denied the request: pods of this team need a cost'
        in reason
    )


def test_webhook_that_is_away_is_waited_for(
    dag: Any, place: Place, webhooks: Webhooks, caplog: pytest.LogCaptureFixture
) -> None:
    webhooks.add(place, "/labels", service="absent")
    with ThreadPoolExecutor(1) as others:
        run = others.submit(place.run, dag)
        wait_for(lambda: "failed calling webhook" in caplog.text, "the webhook is missed")
        webhooks.remove()
        assert run.result(120).xcoms["result_code"] == "0"

    assert "Kubernetes has no room or no answer: 500 Internal error occurred: failed" in caplog.text


def test_policy_that_refuses_fails_the_job_at_once(dag: Any, place: Place) -> None:
    api = client.AdmissionregistrationV1Api(place.client)
    name = place.namespace
    pods = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["pods"],
    }
    here = {"matchLabels": {"kubernetes.io/metadata.name": place.namespace}}
    rule = {"expression": "'team' in object.metadata.labels", "message": "name your team"}
    api.create_validating_admission_policy(
        {
            "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [pods]},
                "validations": [rule],
            },
        }
    )
    try:
        api.create_validating_admission_policy_binding(
            {
                "metadata": {"name": name},
                "spec": {
                    "policyName": name,
                    "validationActions": ["Deny"],
                    "matchResources": {"namespaceSelector": here},
                },
            }
        )
        labelled = sleeper("true")
        labelled["metadata"]["labels"] = {"dag_id": "x"}
        wait_for(lambda: why_refused(place, labelled), "the policy is in force", 30)

        assert "denied request: name your team" in place.refusal(dag)
    finally:
        api.delete_validating_admission_policy_binding(name)
        api.delete_validating_admission_policy(name)


# --- What is missing --------------------------------------------------------------------------


def volume(**source: Any) -> dict[str, Any]:
    mounts = [{"name": "more", "mountPath": "/more"}]
    return template(volumes=[{"name": "more", **source}], base={"volumeMounts": mounts})


def variable(name: str, key: str) -> dict[str, Any]:
    source = {"secretKeyRef": {"name": name, "key": key}}
    return template(base={"env": [{"name": "MORE", "valueFrom": source}]})


AT_ONCE: dict[str, tuple[dict[str, Any], str]] = {
    "priority class": (
        {"pod_template_dict": template(priorityClassName="absent")},
        "403 .*no PriorityClass with name absent was found",
    ),
    "service account": (
        {"pod_template_dict": template(serviceAccountName="absent")},
        '403 .*serviceaccount "absent" not found',
    ),
    "runtime class": (
        {"pod_template_dict": template(runtimeClassName="absent")},
        '403 .*RuntimeClass "absent" not found',
    ),
    "namespace": ({"namespace": "absent"}, "."),
    "image that is not there": (
        {"image": "registry.example.org/absent:1"},
        "ErrImagePull: .*not found",
    ),
    "image's name": (
        {"image": "Not/A Name"},
        "InvalidImageName: .*couldn't parse image|InvalidImageName",
    ),
    "image that is never pulled": (
        {"image": "registry.example.org/absent:1", "image_pull_policy": "Never"},
        "ErrImageNeverPull: .*not present with pull policy of Never",
    ),
}


@pytest.mark.parametrize("what", AT_ONCE)
def test_what_can_never_pass_fails_the_job_at_once(dag: Any, plain: Place, what: str) -> None:
    attributes, said = AT_ONCE[what]

    with pytest.raises(Exception, match=said):
        plain.run(dag, start_seconds=120, **attributes)


IN_TIME = {
    "claim": (
        volume(persistentVolumeClaim={"claimName": "absent"}),
        'Unschedulable: .*persistentvolumeclaim "absent" not found',
    ),
    "secret": (variable("absent", "key"), 'CreateContainerConfigError: secret "absent" not found'),
    "secret's key": (
        variable("git", "absent"),
        "CreateContainerConfigError: couldn't find key absent in Secret .*/git",
    ),
    "node": (template(nodeSelector={"pool": "absent"}), "Unschedulable: .*didn't match Pod's node"),
    "memory": (
        template(
            initContainers=[
                {"name": "first", "image": IMAGE, "resources": {"requests": {"memory": "900Gi"}}}
            ]
        ),
        "Unschedulable: .*Insufficient memory",
    ),
    "mounted secret": (
        volume(secret={"secretName": "absent"}),
        'FailedMount: .*secret "absent" not found',
    ),
    "registry": (
        template(initContainers=[{"name": "first", "image": "127.0.0.1:9/away:1"}]),
        "connection refused",
    ),
}


@pytest.mark.parametrize("what", IN_TIME)
def test_what_may_come_is_waited_for_and_named(
    dag: Any, plain: Place, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    given, said = IN_TIME[what]

    with pytest.raises(Exception, match=said):
        plain.run(dag, start_seconds=30, pod_template_dict=given)

    warnings = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert any("has not started the job yet" in text and re.search(said, text) for text in warnings)


def test_deferred_job_that_does_not_start_is_told_why(dag: Any, plain: Place) -> None:
    given = template(nodeSelector={"pool": "absent"})

    with pytest.raises(Exception, match=r"had no time left: .*Last: Unschedulable: .*didn't match"):
        plain.run_deferred(dag, start_seconds=10, pod_template_dict=given)


def test_pull_secret_that_is_missing_does_not_keep_an_open_image_away(
    dag: Any, plain: Place
) -> None:
    given = template(imagePullSecrets=[{"name": "absent"}])

    assert plain.run(dag, pod_template_dict=given).xcoms["result_code"] == "0"


@pytest.mark.parametrize("policy", ["Always", "IfNotPresent", "Never"])
def test_image_that_the_node_has_runs_with_every_pull_policy(
    dag: Any, plain: Place, policy: str
) -> None:
    assert plain.run(dag, image_pull_policy=policy).xcoms["result_code"] == "0"
