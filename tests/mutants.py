"""Mutation testing, as `make mutants` runs it: python tests/mutants.py [NAME ...]

mutmut makes one change at a time in the modules that pyproject.toml names, and runs the tests that
reach it. A mutant that no test notices is a test that is missing, unless equivalent_mutants.toml
says why nobody could tell it from the original. NAMEs are those of mutmut, with wildcards, for some
of the mutants alone.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from one_machine import Postgres, end_on_signals

MUTMUT = Path(sys.executable).with_name("mutmut")
FOLDER = Path("mutants")
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.toml")
#: What mutmut calls a mutant that a test noticed.
NOTICED = ("killed", "timeout", "suspicious", "segfault")


class Mutant(NamedTuple):
    """A change of a function: its lines before, where it has any, and after."""

    function: str
    before: str
    after: str


def main(names: list[str]) -> int:
    end_on_signals()
    if not names:
        # The results of a former run are not those of the tests of today.
        shutil.rmtree(FOLDER, ignore_errors=True)
    with (
        tempfile.TemporaryDirectory(prefix="mutants-", ignore_cleanup_errors=True) as folder,
        Postgres(Path(folder) / "data") as postgres,
    ):
        environment = {
            **os.environ,
            "TEST_POSTGRES": json.dumps([postgres.address, postgres.password]),
        }

        def run(*names: str, **more: str) -> None:
            subprocess.run([MUTMUT, "run", *names], env=environment | more, check=True)

        if names:
            run(*names)
        else:
            # What every merge goes through is for the tests that need no server, which are fast.
            run("yellow_dynamic.factory.*", PYTEST_ADDOPTS="-m 'not server'")
            run()
    return report(read_results(names or ["*"]), all_of_them=not names)


def read_results(names: list[str]) -> dict[str, str]:
    """Return what became of each mutant of these names, by its name."""
    lines = run_mutmut("results", "--all", "true").splitlines()
    found = (line.strip().rpartition(": ") for line in lines)
    return {
        name: status
        for name, _, status in found
        if any(fnmatch(name, pattern) for pattern in names)
    }


def run_mutmut(*words: str) -> str:
    return subprocess.run([MUTMUT, *words], capture_output=True, text=True, check=True).stdout


def read_mutant(name: str) -> Mutant:
    """Return the change that a mutant is."""
    function = re.sub(r"__mutmut_\d+$", "", name).replace("xǁ", "").replace("ǁ", ".")
    function = re.sub(r"\.x_(\w+)$", r".\1", function)
    lines = run_mutmut("show", name).splitlines()

    def changed(sign: str) -> str:
        texts = [
            line[1:].strip() for line in lines if re.match(rf"\{sign}(?!\{sign}\{sign})", line)
        ]
        return "\n".join(texts)

    return Mutant(function, changed("-"), changed("+"))


def report(results: dict[str, str], *, all_of_them: bool) -> int:
    """Print the score and what no test noticed, and return the exit status."""
    equivalent = {
        Mutant(each["function"], each["before"], each["after"])
        for each in tomllib.loads(EQUIVALENT.read_text("utf-8")).get("mutant", ())
    }
    unnoticed = {
        read_mutant(name): name for name, status in results.items() if status not in NOTICED
    }
    missed = {mutant: name for mutant, name in unnoticed.items() if mutant not in equivalent}
    for mutant, name in missed.items():
        print(f"\n{name}: {results[name]}\n- {mutant.before}\n+ {mutant.after}")
    stale = equivalent - unnoticed.keys() if all_of_them else set()
    if stale:
        print(f"\n{EQUIVALENT.name} has what is not there, or what a test notices:")
        print("\n".join(f"{each.function}\n- {each.before}\n+ {each.after}" for each in stale))
    noticed = sum(status in NOTICED for status in results.values())
    print(f"\n{dict(Counter(results.values()))}")
    print(
        f"{noticed} of {len(results)} mutants are noticed, {len(unnoticed) - len(missed)} cannot "
        f"be, {len(missed)} are missed."
    )
    return int(bool(missed or stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
