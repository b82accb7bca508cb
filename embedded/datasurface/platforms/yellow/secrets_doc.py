"""The page that tells an operator which Kubernetes Secrets a platform needs."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from datasurface.md import Datastore, DataTransformer, KafkaIngestion, SQLSnapshotIngestion
from datasurface.md.codeartifact import PythonRepoCodeArtifact
from datasurface.md.credential import Credential, CredentialType
from datasurface.platforms.yellow.credential_store import SECRET_KEYS
from datasurface.platforms.yellow.naming import toK8sName
from datasurface.platforms.yellow.provider import YellowPlatformServiceProvider

_PLATFORM_CORE: Final = "Platform Core"
_INGESTION_SOURCE: Final = "Ingestion Source"
_TRANSFORMER: Final = "DataTransformer Repository"


@dataclass
class RequiredSecret:
    """A Secret to create, and why."""

    credential: Credential
    #: The heading it stands under: one of the constants above.
    category: str
    #: What reads it, a phrase each.
    purposes: list[str]
    #: Keys besides those of the credential's type.
    extraKeys: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The Secret's name in Kubernetes."""
        return toK8sName(self.credential.name)

    @property
    def keys(self) -> list[str]:
        """All keys of the Secret, each once."""
        keys = list(SECRET_KEYS.get(self.credential.credentialType, {}).values())
        return list(dict.fromkeys([*keys, *self.extraKeys]))


def _merge_store_keys(credential: Credential) -> list[str]:
    """Return the keys that the merge store's Secret needs besides those that pods read.

    Airflow gets the Secret by `envFrom`, so that a key is the name of an environment variable.
    """
    return [f"{credential.name}_USER", f"{credential.name}_PASSWORD"]


def _kafka_connect_keys() -> list[str]:
    """Return the keys that pods of Kafka streams read, whatever the credential's type says."""
    return list(SECRET_KEYS[CredentialType.API_KEY_PAIR].values())


def required_secrets(
    psp: YellowPlatformServiceProvider,
    stores: Iterable[Datastore],
    transformers: Iterable[DataTransformer] = (),
) -> list[RequiredSecret]:
    """Return the Secrets that a platform needs to ingest stores, one entry per credential.

    Args:
        psp: The platform's services provider.
        stores: The stores.
        transformers: The transformers that it runs.
    """
    required = [
        RequiredSecret(
            psp.postgresCredential,
            _PLATFORM_CORE,
            ["pods, for the merge store", "Airflow's scheduler and DAG processor"],
            _merge_store_keys(psp.postgresCredential),
        ),
        RequiredSecret(psp.gitCredential, _PLATFORM_CORE, ["pods, for the model's repository"]),
    ]
    return _merge_secrets([*required, *_source_secrets(psp, stores), *_code_secrets(transformers)])


def _source_secrets(
    psp: YellowPlatformServiceProvider, stores: Iterable[Datastore]
) -> list[RequiredSecret]:
    secrets = []
    for store in stores:
        purpose = [f"pods that ingest datastore `{store.name}`"]
        if isinstance(store.cmd, KafkaIngestion):
            connect = psp.connectCredentials
            secrets.append(RequiredSecret(connect, _PLATFORM_CORE, purpose, _kafka_connect_keys()))
        elif isinstance(store.cmd, SQLSnapshotIngestion) and store.cmd.credential is not None:
            secrets.append(RequiredSecret(store.cmd.credential, _INGESTION_SOURCE, purpose))
    return secrets


def _code_secrets(transformers: Iterable[DataTransformer]) -> list[RequiredSecret]:
    return [
        RequiredSecret(credential, _TRANSFORMER, [f"pods that run transformer `{each.name}`"])
        for each in transformers
        if isinstance(each.code, PythonRepoCodeArtifact)
        and (credential := each.code.repo.credential) is not None
    ]


def _merge_secrets(required: Iterable[RequiredSecret]) -> list[RequiredSecret]:
    """Return one entry per credential; the first one met gives the category."""
    merged: dict[Credential, RequiredSecret] = {}
    for secret in required:
        first = merged.setdefault(secret.credential, secret)
        if first is not secret:
            first.purposes = list(dict.fromkeys([*first.purposes, *secret.purposes]))
            first.extraKeys = list(dict.fromkeys([*first.extraKeys, *secret.extraKeys]))
    return list(merged.values())


def renderSecretsDocumentation(
    platformName: str, namespace: str, secrets: list[RequiredSecret]
) -> str:
    """Return the page in Markdown.

    Args:
        platformName: The platform's name in the model.
        namespace: The Kubernetes namespace that holds the Secrets.
        secrets: One entry per Secret.
    """
    parts = [_overview(platformName, namespace, len(secrets)), "## Required Secrets\n"]
    for category in (_PLATFORM_CORE, _INGESTION_SOURCE, _TRANSFORMER):
        members = [secret for secret in secrets if secret.category == category]
        if members:
            parts.append(f"### {category}\n")
            parts.extend(_section(secret, namespace) for secret in members)
    parts.append(_verification(namespace, secrets))
    parts.append(_NOTES)
    return "\n".join(parts)


def _overview(platformName: str, namespace: str, count: int) -> str:
    return f"""\
# Kubernetes Secrets for {platformName}

## Overview

Create these Secrets before the platform's first run. This page holds names only.

**Namespace:** {namespace}

Total secrets required: {count}
"""


def _section(secret: RequiredSecret, namespace: str) -> str:
    purposes = "\n".join(f"- {purpose}" for purpose in secret.purposes)
    return f"""\
#### `{secret.name}`

**Type:** {secret.credential.credentialType.name.lower()}

Credential in the model: `{secret.credential.name}`. Read by:

{purposes}

```bash
{_command(secret, namespace)}
```
"""


def _command(secret: RequiredSecret, namespace: str) -> str:
    literals = [f"  --from-literal={shlex.quote(key)}='{_sample(key)}'" for key in secret.keys]
    create = f"kubectl create secret generic {shlex.quote(secret.name)}"
    return " \\\n".join([create, *literals, f"  --namespace {shlex.quote(namespace)}"])


def _sample(key: str) -> str:
    """Say what to fill in: keys that end alike take the same value."""
    lowered = key.lower()
    return next((f"<{end}>" for end in ("user", "password") if lowered.endswith(end)), f"<{key}>")


def _verification(namespace: str, secrets: list[RequiredSecret]) -> str:
    described = "\n".join(
        f"kubectl describe secret {shlex.quote(secret.name)} -n {shlex.quote(namespace)}"
        for secret in secrets
    )
    return f"""\
## Verification

The list must show each Secret above, and each description its keys (not their values).

```bash
kubectl get secrets -n {shlex.quote(namespace)}
{described}
```
"""


_NOTES: Final = """\
## Notes

- Never commit actual secret values to a repository.
- A pod gets its login in variables that start with the credential's name in the model. The Secret
  behind them has the Kubernetes form of that name: lower case, with hyphens.
- Airflow's scheduler and DAG processor get the merge store's Secret by `envFrom`, which makes each
  key a variable. That is why this Secret has the same login twice: `POSTGRES_USER` and
  `POSTGRES_PASSWORD` are what pods refer to, the keys that start with the credential's name are
  what Airflow itself reads.
- To change a value, delete the Secret and create it again; pods started from then on use it.
  Restart Airflow's scheduler and DAG processor after a change to the merge store's Secret.
"""
