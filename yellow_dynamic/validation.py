"""What Airflow or Kubernetes would refuse of a platform's settings and of a stream's row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from yellow_dynamic.factory.rules import (
    ACTIVE,
    CREDENTIAL_NAMES,
    add_credential_names,
    overlay_config,
    problems_across_keys,
    size_problem,
    value_problems,
)

#: How a problem of a credential begins. It concerns many streams alike.
OF_CREDENTIAL = "the credential "


def validate_stream(
    key: str, config: dict[str, Any], config_json: str, settings: dict[str, Any]
) -> Iterator[str]:
    """Yield the reasons for which the factory file would refuse a stream's row.

    Args:
        key: the stream's key.
        config: the stream's own config.
        config_json: the text of its row.
        settings: the settings of its platform, whose own problems are not reported here.
    """
    if problem := size_problem(config_json):
        yield problem
    whole = overlay_config(settings, config)
    yield from problems_across_keys(key, ACTIVE, whole, settings["platform_name"])
    yield from validate_values(add_credential_names(config))


def validate_values(settings: dict[str, Any]) -> Iterator[str]:
    """Yield the problems of values; a problem of a Secret's name names its credential."""
    for key, value in settings.items():
        for problem in value_problems({key: value}):
            name_key = CREDENTIAL_NAMES.get(key, key)
            if name_key in CREDENTIAL_NAMES.values():
                name = settings.get(name_key)
                yield f"{OF_CREDENTIAL}{name!a:.300} cannot be used: {problem}"
            else:
                yield problem


def list_credentials(settings: dict[str, Any]) -> set[tuple[str, str]]:
    """Return the name and the Secret's name of each credential in some settings."""
    return {
        (str(settings[name_key]), str(settings[secret_key]))
        for secret_key, name_key in CREDENTIAL_NAMES.items()
        if secret_key in settings
    }


def find_shared_secrets(credentials: set[tuple[str, str]]) -> Iterator[str]:
    """Yield which of the listed credentials have different names and the same Secret."""
    names: dict[str, str] = {}
    for name, secret in sorted(credentials):
        if names.setdefault(secret, name) != name:
            yield (
                f"the credentials {names[secret]!a:.300} and {name!a:.300} would share the "
                f"Kubernetes secret {secret!a:.300}; rename one"
            )
