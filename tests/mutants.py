"""Mutation testing, as `make mutants` runs it: python tests/mutants.py [NAME ...]

mutmut makes one change at a time in the modules that pyproject.toml names, and runs the tests that
reach it. A mutant that no test notices is a test that is missing, unless equivalent_mutants.toml
has it. NAMEs are those of mutmut, with wildcards, for some of the mutants alone.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from temporary import database_folder

from one_machine import Postgres, end_on_signals

ROOT = Path(__file__).parents[1]
MUTMUT = str(Path(sys.executable).with_name("mutmut"))
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.toml")
#: What mutmut calls a mutant that a test noticed.
NOTICED = ("killed", "timeout")


class Mutant(NamedTuple):
    """A change of a function: its lines before, where it has any, and after."""

    function: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.function}\n- {self.before}\n+ {self.after}"


def main(names: list[str]) -> int:
    end_on_signals()
    # Neither the copies nor the results of a former run are those of now.
    shutil.rmtree(ROOT / "mutants", ignore_errors=True)
    with (
        database_folder("mutants-") as folder,
        Postgres(Path(folder) / "data") as postgres,
    ):
        server = {
            "TEST_POSTGRES": json.dumps(
                [str(postgres.data_dir), postgres.address, postgres.password]
            )
        }
        patterns = names or ["*"]
        # First by the tests that need no server, which are fast; the factory by these alone, since
        # every merge goes through it.
        run_mutmut("run", *patterns, PYTEST_ADDOPTS="-m 'not server'")
        left = [
            name
            for name, status in read_results(patterns).items()
            if status not in NOTICED and not name.startswith("yellow_dynamic.factory.")
        ]
        if left:
            run_mutmut("run", *left, **server)
            # A test that fails for want of it has noticed nothing.
            postgres.execute("SELECT 1")
    return report(read_results(patterns), all_of_them=not names)


def run_mutmut(*words: str, **environment: str) -> None:
    subprocess.run([MUTMUT, *words], cwd=ROOT, env={**os.environ, **environment}, check=True)


def ask_mutmut(*words: str) -> list[str]:
    """Return the lines that mutmut prints."""
    command = [MUTMUT, *words]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.splitlines()


def read_results(names: list[str]) -> dict[str, str]:
    """Return what became of each mutant of these names, by its name."""
    found = (line.strip().rpartition(": ") for line in ask_mutmut("results", "--all", "true"))
    return {
        name: status
        for name, _, status in found
        if any(fnmatch(name, pattern) for pattern in names)
    }


def read_mutant(name: str) -> Mutant:
    """Return the change that a mutant is."""
    function = re.sub(r"__mutmut_\d+$", "", name)
    function = re.sub(r"\.x(_|\u01c1)", ".", function).replace("\u01c1", ".")
    lines = ask_mutmut("show", name)

    def changed(sign: str) -> str:
        texts = [
            line[1:].strip() for line in lines if re.match(rf"\{sign}(?!\{sign}\{sign})", line)
        ]
        return "\n".join(texts)

    return Mutant(function, changed("-"), changed("+"))


def report(results: dict[str, str], *, all_of_them: bool) -> int:
    """Print the score and what no test noticed, and return the exit status."""
    equivalent = Counter(
        Mutant(each["function"], each["before"], each["after"])
        for each in tomllib.loads(EQUIVALENT.read_text("utf-8"))["mutant"]
    )
    unnoticed = {
        name: read_mutant(name) for name, status in results.items() if status not in NOTICED
    }
    allowed, missed = equivalent.copy(), []
    for name, mutant in unnoticed.items():
        if allowed[mutant]:
            allowed[mutant] -= 1
        else:
            missed.append(name)
    for name in missed:
        print(f"\n{name}: {results[name]}\n{unnoticed[name]}")
    stale = list(allowed.elements()) if all_of_them else []
    if stale:
        print(f"\n{EQUIVALENT.name} has what is not there, or what a test notices:")
        print("\n".join(map(str, stale)))
    print(
        f"\n{len(results) - len(unnoticed)} of {len(results)} mutants are noticed, "
        f"{len(unnoticed) - len(missed)} cannot be, {len(missed)} are missed."
    )
    return int(bool(missed or stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
