"""The page on Secrets that a merge writes names what is read, neither more nor less."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Site, import_file, registered_dags
from datasurface_host import SOURCE
from doc_blocks import Block
from transforming import transform
from yellow_models import SINGLE, Model, Store, login_keys

from datasurface.md import Credential
from datasurface.md.credential import CredentialType

Secrets = dict[str, set[str]]


def token(name: str) -> Credential:
    return Credential(name, CredentialType.API_TOKEN)


def with_transformer(credential: Credential) -> Model:
    """Return a model with a transformer whose code has this credential."""
    # DataSurface 0.0.57 cannot merge a store of two datasets that are ingested one by one.
    return transform(Model(), credential=credential, each=["x"])


MODELS = {
    "one login for all": Model(),
    "a credential for each part": Model(
        stores=[
            Store("Store1", credential="Source_Cred"),
            Store("Store2", credential="Source_Cred"),
            Store("Store3", credential="other"),
        ],
        postgresCredential="Merge_Cred",
        gitCredential="Git_Cred",
        platformArguments={"slackCredential": token("Slack_Cred"), "slackChannel": "#alerts"},
    ),
    "a transformer with a credential of its own": with_transformer(token("Code_Token")),
    "a transformer with the credential of the model": with_transformer(token("git")),
    "a source with the secret of Airflow": Model(
        stores=[Store("Store1", credential="postgres_airflow_reader")]
    ),
}
if SOURCE is None:
    # A real DataSurface cannot merge Kafka.
    MODELS["Kafka"] = Model(stores=[Store("Topic", ["events"], SINGLE, kafka=True)])
else:
    # The embedded one refuses these. The jobs read a login, whatever type the credential has.
    MODELS["a login and a token"] = Model(stores=[Store("Store1", credential="git")])
    for kind in (CredentialType.API_TOKEN, CredentialType.API_KEY_PAIR):
        MODELS[f"a source with an {kind.name}"] = Model(
            stores=[Store("Store1", credential="source", credentialType=kind)]
        )


def commands(page: str) -> Iterator[list[str]]:
    """Yield the arguments of each command of a page."""
    for text in page.split("```bash\n")[1:]:
        yield from Block(Path(), "bash", text.partition("```")[0]).commands()


def named_secrets(page: str) -> Secrets:
    """Return the Secrets that the page creates, each by one command, with their keys."""
    found: Secrets = {}
    for arguments in commands(page):
        *command, name, option, namespace = arguments[:7]
        assert command == ["kubectl", "create", "secret", "generic"]
        assert (option, namespace) == ("--namespace", "ns-test")
        assert name not in found
        literals = [each.removeprefix("--from-literal=") for each in arguments[7:]]
        found[name] = {literal.removesuffix("=...") for literal in literals}
    return found


def references(value: Any) -> Iterator[tuple[str, str]]:
    """Yield the Secrets and keys that a manifest refers to."""
    if isinstance(value, list):
        for each in value:
            yield from references(each)
    if isinstance(value, dict):
        assert not value.keys() & {"envFrom", "secretRef"}
        if "secretKeyRef" in value:
            yield value["secretKeyRef"]["name"], value["secretKeyRef"]["key"]
        for each in value.values():
            yield from references(each)


def variables(dags: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the Secrets and keys that the pods of some DAGs get."""
    for dag in dags.values():
        for task in dag.tasks:
            for variable in getattr(task, "env_vars", ()):
                if variable.value_from is not None:
                    reference = variable.value_from.secret_key_ref
                    yield reference.name, reference.key


def read_secrets(site: Site, files: dict[str, str]) -> Secrets:
    """Return the Secrets that pods, Jobs and Airflow read, with their keys.

    Args:
        site: bootstrapped and merged.
        files: those of ring 0.
    """
    found = list(variables(site.parse()))
    for name, text in files.items():
        if name.endswith("infrastructure_dag.py"):
            file = site.folder / name
            file.write_text(text)
            found += variables(registered_dags(import_file(file)))
        if name.endswith(("job.yaml", "airflow-values.yaml", "airflow-patch.yaml")):
            for manifest in yaml.safe_load_all(text):
                found += references(manifest)
    read: Secrets = {}
    for secret, key in found:
        read.setdefault(secret, set()).add(key)
    return read


@pytest.mark.parametrize("name", MODELS)
def test_page_names_the_keys_that_pods_jobs_and_airflow_read_and_no_others(
    site: Site, name: str
) -> None:
    site.model = MODELS[name]
    site.model.database = site.database
    site.login(site.postgres.user, site.postgres.password)
    files = site.bootstrap()

    page = site.merge_cleanly()["YellowLive-secrets.md"]

    assert named_secrets(page) == read_secrets(site, files)
    assert site.postgres.password not in page


def test_page_says_what_reads_a_secret(site: Site) -> None:
    site.model.stores = [Store(name, credential="Source_Cred") for name in ("Crm", "Erp")]
    site.bootstrap()

    page = site.merge_cleanly()["YellowLive-secrets.md"]

    user, password = login_keys("source-cred")
    assert (
        f"""\
## `source-cred`

Read by:

- the jobs that ingest Crm, Erp, for their sources.

```bash
kubectl create secret generic source-cred --namespace ns-test \\
  --from-literal={user}=... \\
  --from-literal={password}=...
```
"""
        in page
    )
    assert "`yellowlive-airflow-reader.sql`" in page
