"""What the factory file uses is not about to be removed from the installed releases."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from conftest import Site
from yellow_models import SINGLE, Store

PROGRAM = """
import json, runpy, sys, warnings

def deprecations():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = runpy.run_path(sys.argv[1])
    assert sum(name.endswith("_ingestion") for name in found) == 4
    kinds = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
    return [w for w in caught if issubclass(w.category, kinds)]

# The first import also brings Airflow's own warnings of itself; no later one does.
of_the_file = [w for w in deprecations() if w.filename == sys.argv[1]]
texts = [f"{w.filename}:{w.lineno} {w.category.__name__}: {w.message}" for w in deprecations()]
print(json.dumps([str(w) for w in of_the_file] + texts))
"""


@pytest.mark.embedded
@pytest.mark.slow
def test_a_parse_raises_no_deprecation_warning(site: Site) -> None:
    site.model.stores = [
        Store("Store1"),
        Store("Single", ["a"], SINGLE),
        Store("Topic", ["events"], SINGLE, kafka=True),
    ]
    site.bootstrap()
    site.merge_cleanly()
    site.insert("Bad", "{}")

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(site.factory_file)],
        env={**os.environ, "SQLALCHEMY_WARN_20": "1"},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == []
