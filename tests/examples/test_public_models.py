"""The models of a real DataSurface's own tests, on the embedded one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from datasurface_host import JOBS_SOURCE, commands_take_providers

MODELS = sorted(JOBS_SOURCE.glob("tests/**/eco.py")) if JOBS_SOURCE else []
LOAD = """
import sys
from datasurface.md.model_loader import loadEcosystemFromEcoModule
import datasurface
assert "embedded" in datasurface.__file__
eco, tree = loadEcosystemFromEcoModule(sys.argv[1])
problems = [str(problem.description) for problem in tree.getErrors()]
print("\\n".join(problems))
sys.exit(bool(problems) or eco is None)
"""

pytestmark = pytest.mark.skipif(
    not MODELS or commands_take_providers(),
    reason="needs DATASURFACE_SRC with DataSurface 0.0.36 to 0.0.38 and its tests",
)


def load(model: Path) -> subprocess.CompletedProcess[str]:
    """Load a model in a process that has the embedded DataSurface alone."""
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-c", LOAD, str(model.parent)],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip


@pytest.mark.parametrize("model", [m for m in MODELS if "yellow" in str(m)], ids=lambda m: m.parent)
def test_model_of_a_yellow_platform_loads(model: Path) -> None:
    done = load(model)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.parent)
def test_model_loads_or_is_told_what_is_missing(model: Path) -> None:
    done = load(model)

    assert "Traceback" not in done.stderr
    assert done.returncode == 0 or "The embedded DataSurface does not" in done.stdout
