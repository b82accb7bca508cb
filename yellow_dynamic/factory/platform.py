"""One platform, as its factory file has it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from yellow_dynamic.factory.rules import factory_file_name


class Platform:
    """A platform's settings, and the factory file that has them.

    Attributes:
        settings: the literal PLATFORM of the file. A key that a row has too is taken from the row.
        name: the platform's name in Airflow and Kubernetes.
        label: its name in the model.
        file: the path of the factory file.
        first_file_name: the name of the platform's first factory file.
        number: the number of the file among those of its platform, from 1.
        reading: what the last read of the table gave: `source` is "database" or "snapshot", `age`
            that of the snapshot in seconds; `cause` and `reason` say why the table was not read.
    """

    def __init__(self, settings: dict[str, Any], file: str) -> None:
        self.settings = settings
        self.name: str = settings["platform_name"]
        self.label: str = settings["original_platform_name"]
        self.file = Path(file).absolute()
        self.first_file_name = f"{factory_file_name(self.name)}.py"
        self.number = self._file_number()
        self.reading: dict[str, Any] = dict.fromkeys(("source", "age", "cause", "reason"))

    def _file_number(self) -> int:
        """Return the number that the file's name ends with; any other name is that of file 1."""
        name = re.escape(factory_file_name(self.name))
        found = re.fullmatch(rf"{name}_([1-9][0-9]*)", self.file.stem)
        return int(found[1]) if found else 1
