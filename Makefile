PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/uv pip install --quiet --compile-bytecode --python $(VENV)/bin/python
SOURCES := yellow_dynamic embedded examples tests

.PHONY: help demo test lint format clean

help:  ## Show this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.demo  ## From a model to running DAGs on this machine; KEEP=1 leaves Airflow up
	@$(VENV)/bin/python examples/demo.py

test: $(VENV)/.dev  ## Run the tests on real PostgreSQL and Airflow, with the coverage of the plugin
	$(VENV)/bin/pytest --cov --cov-report=term-missing --cov-fail-under=95 $(ARGS)

lint: $(VENV)/.dev  ## Check format, style and types
	$(VENV)/bin/ruff format --check $(SOURCES)
	$(VENV)/bin/ruff check $(SOURCES)
	$(VENV)/bin/mypy

format: $(VENV)/.dev  ## Format the sources
	$(VENV)/bin/ruff format $(SOURCES)
	$(VENV)/bin/ruff check --fix $(SOURCES)

clean:  ## Remove the environment and what runs leave behind
	rm -rf $(VENV) .demo build dist *.egg-info embedded/*.egg-info

$(VENV)/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet uv

$(VENV)/.demo: $(VENV)/bin/uv setup.cfg embedded/setup.cfg
	$(PIP) --editable '.[demo]' --editable ./embedded
	@touch $@

$(VENV)/.dev: $(VENV)/bin/uv setup.cfg embedded/setup.cfg
	$(PIP) --editable '.[dev]' --editable ./embedded
	@touch $@
