"""What Airflow loads of the page in each of its processes."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

from processors import IS_AIRFLOW_2

import yellow_dynamic.page

STATIC = Path(yellow_dynamic.page.__file__).parent / "static"


def test_installation_tells_airflow_of_the_page() -> None:
    [found] = entry_points(group="airflow.plugins", name="yellow_dynamic")
    plugin = found.load()

    assert [app["name"] for app in getattr(plugin, "react_apps", [])] == (
        [] if IS_AIRFLOW_2 else ["Streams", "Stream"]
    )


def test_no_process_but_the_api_server_imports_the_page() -> None:
    code = (
        "import sys, airflow.plugins_manager\n"
        "before = set(sys.modules)\n"
        "import yellow_dynamic.page.airflow_plugin\n"
        "print(*sorted(set(sys.modules) - before))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1].split() == [
        "yellow_dynamic",
        "yellow_dynamic.page",
        "yellow_dynamic.page.airflow_plugin",
    ]


def test_browser_has_all_it_imports_and_no_other_address() -> None:
    for file in STATIC.rglob("*.js"):
        text = file.read_text(encoding="utf-8")
        for imported in re.findall(r'from "([^"]+)"', text):
            assert (file.parent / imported).is_file(), (file, imported)
        assert "://" not in text, file
        # What a bundler would have replaced: a browser has no such thing.
        assert "process.env" not in text, file
