"""The short DAG file, which imports its code from the package in Airflow's image."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from units.conftest import SETTINGS

from yellow_dynamic import __version__
from yellow_dynamic.factory.installed import require_version
from yellow_dynamic.rendering import FROM_PACKAGE, render_factory

HOSTILE = '\'); raise SystemExit #\n{{ 7 * 7 }} {% raw %} " \\ \u2028 """'


def short_file(**changes: Any) -> str:
    return render_factory(
        {**SETTINGS, FROM_PACKAGE: True, "plugin_version": __version__, **changes}
    )


def test_short_file_holds_the_settings_and_one_import() -> None:
    text = short_file()
    [imported] = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("yellow_dynamic")
    ]

    assert ast.unparse(imported) == ("from yellow_dynamic.factory.installed import register_dags")
    assert len(text.splitlines()) - len(SETTINGS) < 50
    # What Airflow's safe mode looks for.
    assert "airflow" in text.lower() and "dag" in text.lower()


def test_no_value_of_the_short_file_is_code() -> None:
    changed = ast.parse(short_file(original_platform_name=HOSTILE, git_repo_branch=HOSTILE))
    plain = ast.parse(short_file())
    for tree in (changed, plain):
        [literal] = [node for node in tree.body if isinstance(node, ast.AnnAssign)]
        if tree is changed:
            assert literal.value is not None
            assert ast.literal_eval(literal.value)["git_repo_branch"] == HOSTILE
        literal.value = None

    assert ast.dump(changed) == ast.dump(plain)


def import_error(folder: Path, text: str, prepare: str = "") -> str:
    """Return how the import of a DAG file ends in a Python of its own."""
    file = folder / "yellowlive_factory_dag.py"
    file.write_text(text, encoding="utf-8")
    program = f"import runpy, sys\n{prepare}\nrunpy.run_path({str(file)!r})\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    return done.stderr.strip().splitlines()[-1]


def test_image_without_the_package_is_told_both_remedies(tmp_path: Path) -> None:
    error = import_error(tmp_path, short_file(), "sys.modules['yellow_dynamic'] = None")

    assert error.startswith("ImportError: This DAG file needs the package yellow-dynamic")
    assert f"Install yellow-dynamic {__version__} there; or remove factoryFromPackage" in error


def test_package_without_the_module_is_told_both_remedies(tmp_path: Path) -> None:
    error = import_error(tmp_path, short_file(), "sys.modules['yellow_dynamic.factory'] = None")

    assert "importing it failed: No module named 'yellow_dynamic.factory" in error
    assert f"Install yellow-dynamic {__version__} there; or remove factoryFromPackage" in error


def test_other_import_error_is_not_taken_for_a_missing_package(tmp_path: Path) -> None:
    broken = "sys.modules['airflow.providers.cncf.kubernetes.operators.pod'] = None"

    error = import_error(tmp_path, short_file(), broken)

    assert "airflow.providers.cncf.kubernetes" in error
    assert "needs the package" not in error


def test_package_of_another_minor_version_names_both_and_the_remedies(tmp_path: Path) -> None:
    error = import_error(tmp_path, short_file(plugin_version="7.1.0"))

    assert "yellowlive_factory_dag.py was written by yellow-dynamic 7.1.0." in error
    assert f"Airflow's image has yellow-dynamic {__version__}, which cannot serve it" in error
    assert "Install yellow-dynamic 7.1.0 in Airflow's image, or run bootstrap with" in error


@pytest.mark.parametrize("wanted", [__version__, ".".join([*__version__.split(".")[:2], "999"])])
def test_package_serves_files_of_its_own_minor_version(wanted: str) -> None:
    require_version(wanted, "x.py")
