"""What the tests of the factory's DAGs share."""

from __future__ import annotations

import importlib.util

import pytest


@pytest.fixture(params=["psycopg2", "psycopg"])
def driver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The driver that the factory file finds."""
    if request.param == "psycopg":
        find = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name: None if name == "psycopg2" else find(name)
        )
    return str(request.param)
