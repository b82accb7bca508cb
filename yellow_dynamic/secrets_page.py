"""The page on a platform's Secrets: those that its pods, Jobs and Airflow read, with their keys.

It replaces DataSurface's own page, which has keys that no pod reads on 0.0.56 and 0.0.57.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from yellow_dynamic.factory.rules import CREDENTIAL_NAMES
from yellow_dynamic.factory.secrets import get_login_names, get_reader_secret, get_secret_keys

#: What reads a Secret, by the key that names the Secret.
READERS = {
    "postgres_credential_secret_name": "the merge and all jobs, for the merge store",
    "git_credential_secret_name": "the merge and all jobs, for the model's repository",
    "slack_credential_secret_name": "all jobs, for Slack",
    "source_credential_secret_name": "the jobs that ingest {}, for their sources",
    "kafka_connect_credential_secret_name": "the jobs that ingest {} from Kafka",
    "code_credential_secret_name": "the transformers of {}, for the repository of their code",
}
AIRFLOW = (
    "Airflow, for the table of the streams: the login of the role in `{0}-airflow-reader.sql`. "
    "Create the secret in Airflow's namespace before you apply `{0}-airflow-values.yaml` or "
    "`{0}-airflow-patch.yaml`, with which no pod of Airflow starts without it"
)
TITLE = """\
# Secrets of platform {}

These keys are those that the platform's pods, its Jobs and Airflow read. Other platforms may need
the same secret: create it once, with the keys of all of them. Further secrets that
`kubernetes-bootstrap.yaml` names belong to DataSurface's own Airflow and Kafka.
"""


@dataclass
class NeededSecret:
    """A Secret that something reads.

    Attributes:
        keys: the keys that are read.
        readers: what reads them, each with the platform, stores or workspaces that it reads for.
    """

    keys: dict[str, None] = field(default_factory=dict)
    readers: dict[str, dict[str, None]] = field(default_factory=dict)


def list_secrets(
    settings: dict[str, Any], config: dict[str, Any]
) -> Iterator[tuple[str, Any, list[str]]]:
    """Yield each Secret that a configuration names: the key that names it, its name, its keys.

    Args:
        settings: those of the platform.
        config: a stream's configuration, or the settings again.
    """
    for secret_key in CREDENTIAL_NAMES:
        if secret_key in config:
            keys = get_secret_keys(secret_key, {**settings, **config})
            yield secret_key, config[secret_key], list(keys.values())


def needed_secrets(
    settings: dict[str, Any], configs: Iterable[dict[str, Any]]
) -> dict[str, NeededSecret]:
    """Return the Secrets that a platform needs, by name.

    Args:
        settings: of the platform, at least its names and its credentials.
        configs: the configurations of its streams, without what they share.
    """
    found: dict[str, NeededSecret] = {}

    def need(name: str, keys: Iterable[str], reader: str, subject: str) -> None:
        secret = found.setdefault(name, NeededSecret())
        secret.keys |= dict.fromkeys(keys)
        secret.readers.setdefault(reader, {})[subject] = None

    platform = settings["platform_name"]
    for config in (settings, *configs):
        subject = config.get("workspace_name", config.get("store_name", platform))
        for secret_key, name, keys in list_secrets(settings, config):
            need(name, keys, READERS[secret_key], subject)
    need(get_reader_secret(settings), get_login_names(settings), AIRFLOW, platform)
    return found


def secrets_page(settings: dict[str, Any], configs: Iterable[dict[str, Any]]) -> str:
    """Return the page on the Secrets of a platform, in Markdown; see `needed_secrets`."""
    needed = needed_secrets(settings, configs)
    sections = (
        secret_section(name, secret, settings["namespace_name"]) for name, secret in needed.items()
    )
    return "\n".join([TITLE.format(settings["original_platform_name"]), *sections])


def secret_section(name: str, secret: NeededSecret, namespace: str) -> str:
    readers = "".join(
        f"- {reader.format(', '.join(subjects))}.\n" for reader, subjects in secret.readers.items()
    )
    literals = " \\\n".join(f"  --from-literal={key}=..." for key in secret.keys)
    return (
        f"## `{name}`\n\nRead by:\n\n{readers}\n```bash\n"
        f"kubectl create secret generic {name} --namespace {namespace} \\\n{literals}\n```\n"
    )
