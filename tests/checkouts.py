"""The model and the transformer's code where the jobs look for them: in Git, or checked out."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from datasurface_host import JOBS_SOURCE
from transforming import CODE, SCRIPT

#: The repository of the tests' models.
MODELS = "acme/models"


class Checkouts:
    """Serves what is checked in to the jobs of the installed DataSurface.

    A real one clones from GitHub, for which Git is told to take bare repositories in a folder; the
    embedded one wants everything checked out in the folder of the model.

    Args:
        folder: for the repositories, made if missing.
        model_volume: the folder that the jobs' pods see as the volume of the model.
    """

    def __init__(self, folder: Path, model_volume: Path) -> None:
        self._folder = folder
        self._model_volume = model_volume
        folder.mkdir(exist_ok=True)
        config = "[user]\nname = tests\nemail = tests@example.org\n[safe]\ndirectory = *\n"
        # With the token, as the jobs address it, and without, for public repositories.
        for address in ("https://none@github.com/", "https://github.com/"):
            config += f'[url "file://{folder}/"]\ninsteadOf = {address}\n'
        self._config.write_text(config)

    @property
    def _config(self) -> Path:
        return self._folder / "gitconfig"

    @property
    def environment(self) -> dict[str, str]:
        """What the jobs' pods need in their environment; the token of the secret is `none`."""
        return {"GIT_CONFIG_GLOBAL": str(self._config), "GIT_TERMINAL_PROMPT": "0"}

    def check_in(self, model: Path) -> None:
        """Make a folder's `eco.py` and assignment the live model, and the tests' code its code."""
        files = [model / name for name in ("eco.py", "dsg_platform_mapping.json")]
        code = self._folder / "transformer.py"
        code.write_text(SCRIPT)
        if JOBS_SOURCE is None:
            below = self._model_volume / CODE
            below.mkdir(parents=True, exist_ok=True)
            shutil.copy(code, below)
            for file in files:
                shutil.copy(file, self._model_volume)
        else:
            self._commit(MODELS, files)
            self._commit(CODE, [code])

    @property
    def commit(self) -> str | None:
        """The commit of the live model, or None where it is in no repository."""
        if JOBS_SOURCE is None:
            return None
        work = self._folder / f"{MODELS}.work"
        return self._git("-C", str(work), "rev-parse", "HEAD").strip()

    def _commit(self, repository: str, files: list[Path]) -> None:
        bare = self._folder / f"{repository}.git"
        work = self._folder / f"{repository}.work"
        if not bare.exists():
            self._git("init", "--quiet", "--bare", "--initial-branch=main", str(bare))
            self._git("clone", "--quiet", str(bare), str(work))
        for file in files:
            shutil.copy(file, work)
        self._git("-C", str(work), "add", "--all")
        self._git("-C", str(work), "commit", "--quiet", "--allow-empty", "--message=Change")
        self._git("-C", str(work), "push", "--quiet", "origin", "HEAD:main")

    def _git(self, *arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments],
            check=True,
            capture_output=True,
            text=True,
            env={"PATH": "/usr/bin:/bin:/usr/local/bin", **self.environment},
        ).stdout
