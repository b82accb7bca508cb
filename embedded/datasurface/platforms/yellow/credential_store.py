"""Credentials which Kubernetes hands to a pod in its environment variables."""

from __future__ import annotations

import os
import re
from typing import Any, Final

from datasurface.md.credential import (
    Credential,
    CredentialNotAvailableException,
    CredentialNotAvailableProblem,
    CredentialStore,
    CredentialType,
    CredentialTypeNotSupportedProblem,
)
from datasurface.md.keys import LocationKey
from datasurface.md.lint import ValidationTree
from datasurface.platforms.yellow.naming import toK8sName

_VARIABLE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

#: For each type of credential: the end of each environment variable that a pod reads and the key
#: of the Kubernetes Secret which fills it.
SECRET_KEYS: Final[dict[CredentialType, dict[str, str]]] = {
    CredentialType.USER_PASSWORD: {"USER": "POSTGRES_USER", "PASSWORD": "POSTGRES_PASSWORD"},
    CredentialType.API_TOKEN: {"TOKEN": "token"},
    CredentialType.API_KEY_PAIR: {"API_KEY": "api_key", "API_SECRET": "api_secret"},
}


class KubernetesEnvVarsCredentialStore(CredentialStore):
    """Read credentials from environment variables that start with the credential's own name.

    A credential `my_cred` is read from `my_cred_USER` and `my_cred_PASSWORD`, or from
    `my_cred_TOKEN`, whatever the Kubernetes Secret behind them is called.

    Args:
        name: The store's name, for messages.
        locs: Where the store can be used.
        namespace: The Kubernetes namespace that holds the Secrets.
    """

    def __init__(self, name: str, locs: set[LocationKey], namespace: str) -> None:
        super().__init__(name, locs)
        self.namespace = namespace

    def to_json(self) -> dict[str, Any]:
        """Describe the store; no secret is in it."""
        return super().to_json() | {"namespace": self.namespace}

    def checkCredentialIsAvailable(self, cred: Credential, tree: ValidationTree) -> None:
        """Add a problem to `tree` when an environment variable of the credential is not set."""
        missing = [name for name in self._variables(cred) if name not in os.environ]
        if missing:
            tree.addRaw(CredentialNotAvailableProblem(cred, _notSet(missing)))

    def getAsUserPassword(self, cred: Credential) -> tuple[str, str]:
        """Return user and password from `{name}_USER` and `{name}_PASSWORD`.

        Raises:
            CredentialNotAvailableException: One of the variables is not set.
        """
        user, password = self._read(cred, "USER", "PASSWORD")
        return user, password

    def getAsPublicPrivateCertificate(self, cred: Credential) -> tuple[str, str, str]:
        """Return certificate, key and passphrase from `{name}_PUB`, `{name}_PRV`, `{name}_PWD`.

        Raises:
            CredentialNotAvailableException: One of the variables is not set.
        """
        public, private, passphrase = self._read(cred, "PUB", "PRV", "PWD")
        return public, private, passphrase

    def getAsToken(self, cred: Credential) -> str:
        """Return the token from `{name}_TOKEN`.

        Raises:
            CredentialNotAvailableException: The variable is not set.
        """
        return self._read(cred, "TOKEN")[0]

    def lintCredential(self, cred: Credential, tree: ValidationTree) -> None:
        """Add a problem to `tree` when environment variables cannot carry the credential."""
        if _VARIABLE_NAME.fullmatch(cred.name) is None or not toK8sName(cred.name):
            tree.addProblem(
                f"The credential name {cred.name!r} cannot start the name of an environment "
                "variable and name a Kubernetes Secret: use letters, digits and underscores, "
                "and no digit in front."
            )
        if cred.credentialType not in SECRET_KEYS:
            tree.addRaw(CredentialTypeNotSupportedProblem(cred, list(SECRET_KEYS)))

    def _variables(self, cred: Credential) -> list[str]:
        if cred.credentialType == CredentialType.CLIENT_CERT_WITH_KEY:
            return [f"{cred.name}_{end}" for end in ("PUB", "PRV", "PWD")]
        return [f"{cred.name}_{end}" for end in SECRET_KEYS.get(cred.credentialType, {})]

    def _read(self, cred: Credential, *ends: str) -> list[str]:
        names = [f"{cred.name}_{end}" for end in ends]
        missing = [name for name in names if name not in os.environ]
        if missing:
            raise CredentialNotAvailableException(cred, _notSet(missing))
        return [os.environ[name] for name in names]


def _notSet(names: list[str]) -> str:
    return f"the environment has no variable {' and no '.join(names)}"
