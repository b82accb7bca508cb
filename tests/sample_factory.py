"""Writes the factory file of a platform of the tests, for the linters and for coverage.

Usage: python tests/sample_factory.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from yellow_models import Model

from datasurface.md import Credential
from datasurface.md.credential import CredentialType
from yellow_dynamic.plugin import factory_files


def main() -> None:
    slack = Credential("slack", CredentialType.API_TOKEN)
    model = Model(platformArguments={"slackCredential": slack, "slackChannel": "#data"})
    eco = model.build()
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    platform: Any = eco.getDataPlatformOrThrow(model.platform)
    for name, text in factory_files(platform, eco).items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
