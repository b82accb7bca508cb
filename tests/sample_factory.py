"""Writes the DAG files of a platform of the tests, for the linters.

Usage: python tests/sample_factory.py FILE, for the factory; the others get its folder.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from yellow_models import Model

from datasurface.md import Credential
from datasurface.md.credential import CredentialType
from yellow_dynamic.plugin import deployment_files, factory_text


def main() -> None:
    slack = Credential("slack", CredentialType.API_TOKEN)
    model = Model(platformArguments={"slackCredential": slack, "slackChannel": "#data"})
    eco = model.build()
    platform: Any = eco.getDataPlatformOrThrow(model.platform)
    file = Path(sys.argv[1])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(factory_text(platform, eco), encoding="utf-8")
    for name, text in deployment_files([platform], eco).items():
        if name.endswith(".py"):
            file.with_name(name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
