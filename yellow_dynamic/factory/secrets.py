"""What the pods of a platform get of its secrets and of the model."""

from __future__ import annotations

from typing import Any

from yellow_dynamic.factory.keys import KEYS

# Where Jobs keep copies of the model in their containers, unless a platform says otherwise.
MODEL_FOLDER = "/cache/git-models"
# The parts of a login.
LOGIN_PARTS = {"USER", "PASSWORD"}


def get_model_claim(settings: dict[str, Any]) -> str | None:
    """Return the claim of the volume that all Jobs keep the model on, or None for no volume."""
    if not settings.get("git_cache_enabled"):
        return None
    return settings.get("git_cache_claim") or f"{settings['ecosystem_k8s_name']}-git-model-cache"


def get_model_folder(settings: dict[str, Any]) -> str:
    """Return the folder in which Jobs keep copies of the model in their containers."""
    return settings.get("git_cache_folder") or MODEL_FOLDER


def get_secret_keys(secret_key: str, settings: dict[str, Any]) -> dict[str, str]:
    """Return the keys of a credential's secret.

    Args:
        secret_key: the setting that names the secret.
        settings: those of a platform or of a stream.

    Returns:
        Each key by the end of the name of the environment variable that the job reads.
    """
    keys: dict[str, str] = KEYS[secret_key]["secretKeys"]
    if settings.get("login_keys_by_secret") and keys.keys() == LOGIN_PARTS:
        return {part: f"{settings[secret_key]}_{part}" for part in keys}
    return keys


def role_secret_keys(role: str, settings: dict[str, Any]) -> dict[str, str]:
    """Return the keys of the secret of a credential in this role; see `get_secret_keys`.

    Args:
        role: `postgres`, `git`, `slack`, `source`, `kafka_connect` or `code`.
        settings: those of its platform, or of a stream.
    """
    return get_secret_keys(f"{role}_credential_secret_name", settings)


def get_reader_secret(settings: dict[str, Any]) -> str:
    """Return the name of the secret with the login by which Airflow reads a platform's table.

    It is not that of the merge store, which has the login of the merge and the jobs.
    """
    return f"{settings['postgres_credential_secret_name']}-airflow-reader"


def get_login_names(settings: dict[str, Any]) -> list[str]:
    """Return the environment variables with the login of the merge store, user and password.

    The secret by which Airflow gets them has them as its keys.
    """
    parts = KEYS["postgres_credential_secret_name"]["secretKeys"]
    return [f"{settings['postgres_credential_name']}_{part}" for part in parts]


def escape_dollar(value: str) -> str:
    """Return a value as Kubernetes must be given it, which expands `$(VARIABLE)`, secrets too."""
    return value.replace("$", "$$")
