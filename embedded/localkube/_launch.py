"""From a pod and its secrets to the command that runs: environment, arguments and folders."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from localkube._errors import Json
from localkube._process import Command

#: Finds the data of a secret in the pod's namespace, or None.
SecretData = Callable[[str], Mapping[str, str] | None]

_REFERENCE = re.compile(r"\$\$|\$\(([^)]*)\)")


class ConfigError(Exception):
    """A container cannot start until something it refers to exists; the text says what."""

    reason = "CreateContainerConfigError"


class NoTextError(ConfigError):
    """A container's environment is no text, which a kubelet cannot tell its runtime."""

    reason = "CreateContainerError"


@dataclass(frozen=True)
class Machine:
    """What the server was started with.

    Args:
        state_dir: where volumes, logs and working folders are.
        images: for each image the folder with its executables.
        env: environment variables that every pod gets.
    """

    state_dir: Path
    images: Mapping[str, Path]
    env: Mapping[str, str]

    def pod_dir(self, pod: Json) -> Path:
        """Return the folder that holds what goes with a pod when it is deleted."""
        meta = pod["metadata"]
        # Cut because a pod's name alone may be as long as the name of a folder can be.
        name = f"{meta['namespace']}_{meta['name'][:100]}_{meta['uid']}"
        return self.state_dir / "pods" / name


def prepare(pod: Json, machine: Machine, secret: SecretData) -> Command:
    """Work out the command of a pod's container and make the folders it uses.

    Raises:
        ConfigError: a secret or a key of it does not exist yet.
        OSError: a folder cannot be made.
    """
    container = pod["spec"]["containers"][0]
    home = machine.pod_dir(pod) / "work"
    home.mkdir(parents=True, exist_ok=True)
    mounts = _mounts(pod, machine)
    declared = _declared(pod, container, mounts, secret)

    basics = {
        "PATH": f"{machine.images[container['image']]}{os.pathsep}{os.environ.get('PATH', '')}",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "HOSTNAME": pod["metadata"]["name"],
    }
    env = {**basics, **machine.env, **declared.values}
    words = [*container["command"], *container.get("args", [])]
    argv = [_in_folder(_expand(word, declared.texts), mounts) for word in words]
    cwd = Path(_in_folder(container["workingDir"], mounts)) if "workingDir" in container else home
    cwd.mkdir(parents=True, exist_ok=True)
    return Command(argv, env, cwd)


def _mounts(pod: Json, machine: Machine) -> list[tuple[str, Path]]:
    """Return mount paths and their folders, the deepest path first."""
    namespace = pod["metadata"]["namespace"]
    folders: dict[str, Path] = {}
    for volume in pod["spec"].get("volumes", []):
        claim = volume.get("persistentVolumeClaim")
        folders[volume["name"]] = (
            machine.state_dir / "volumes" / namespace / claim["claimName"]
            if claim
            else machine.pod_dir(pod) / "volumes" / volume["name"]
        )
    mounts = []
    for mount in pod["spec"]["containers"][0].get("volumeMounts", []):
        folder = folders[mount["name"]] / mount.get("subPath", "")
        folder.mkdir(parents=True, exist_ok=True)
        mounts.append((mount["mountPath"].rstrip("/"), folder))
    return sorted(mounts, key=lambda mount: len(mount[0]), reverse=True)


def _in_folder(text: str, mounts: list[tuple[str, Path]]) -> str:
    for path, folder in mounts:
        if text == path or text.startswith(f"{path}/"):
            return f"{folder}{text[len(path) :]}"
    return text


class _Declared:
    """The environment that a pod declares.

    `texts` is what ``$(NAME)`` stands for; in `values`, what the process gets, paths below a
    mount are those of its folder.
    """

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.values: dict[str, str] = {}

    def add(self, name: str, text: str, value: str | None = None) -> None:
        self.texts[name] = text
        self.values[name] = text if value is None else value


def _declared(
    pod: Json, container: Json, mounts: list[tuple[str, Path]], secret: SecretData
) -> _Declared:
    declared, namespace = _Declared(), pod["metadata"]["namespace"]
    for source in container.get("envFrom", []):
        reference = source["secretRef"]
        data = _secret(reference, secret)
        for key, encoded in data.items():
            declared.add(source.get("prefix", "") + key, _decode(encoded))
    for variable in container.get("env", []):
        name, source = variable["name"], variable.get("valueFrom", {})
        if "secretKeyRef" in source:
            value = _secret_value(namespace, source["secretKeyRef"], secret)
            if value is not None:
                declared.add(name, value)
        elif "fieldRef" in source:
            field = source["fieldRef"]["fieldPath"].removeprefix("metadata.")
            declared.add(name, pod["metadata"][field])
        else:
            text = _expand(variable.get("value", ""), declared.texts)
            declared.add(name, text, _in_folder(text, mounts))
    return declared


def _secret(reference: Json, secret: SecretData) -> Mapping[str, str]:
    data = secret(reference["name"])
    if data is None:
        if reference.get("optional"):
            return {}
        raise ConfigError(f'secret "{reference["name"]}" not found')
    return data


def _secret_value(namespace: str, reference: Json, secret: SecretData) -> str | None:
    data = _secret(reference, secret)
    if reference["key"] in data:
        return _decode(data[reference["key"]])
    if reference.get("optional"):
        return None
    name = f"{namespace}/{reference['name']}"
    raise ConfigError(f"couldn't find key {reference['key']} in Secret {name}")


def _decode(encoded: str) -> str:
    try:
        return base64.b64decode(encoded).decode()
    except UnicodeDecodeError:
        why = "grpc: error while marshaling: string field contains invalid UTF-8"
        raise NoTextError(why) from None


def _expand(text: str, values: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` as Kubernetes does: unknown names stay, ``$$`` is a plain ``$``."""

    def replacement(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        return values.get(found[1], found[0])

    return _REFERENCE.sub(replacement, text)
