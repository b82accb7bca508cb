PYTHON ?= python3
VENV := .venv
VENV2 := .venv-airflow2
VENVL := .venv-lowest
VENV_BENCH := .venv-bench
VENVU := .venv-upstream
INSTALL := $(VENV)/bin/uv pip install --quiet --compile-bytecode --python
PIP := $(INSTALL) $(VENV)/bin/python
PIP2 := $(INSTALL) $(VENV2)/bin/python
PIPU := $(INSTALL) $(VENVU)/bin/python
# The factory file as bootstrap writes it, for the linters.
FACTORY := build/factory/sample.py
SOURCES := yellow_dynamic embedded examples tests benchmarks
AIRFLOW2_TESTS := tests/units tests/plugin tests/history tests/factory tests/monitoring \
	tests/reliability/test_dag_processor.py tests/reliability/test_short_file.py \
	tests/reliability/test_shard_change.py tests/reliability/test_metrics.py \
	tests/reliability/test_snapshot_writers.py \
	tests/embedded/test_yellow_platform.py tests/embedded/test_model_tables.py \
	tests/embedded/test_job_live.py tests/embedded/test_job_forensic.py \
	tests/embedded/test_transformer_job.py tests/page/test_plugin.py
# Of the stand-ins for DataSurface and Kubernetes, of what starts them, and the demo on them.
EMBEDDED_TESTS := tests/embedded tests/localkube tests/demo
UPSTREAM_TESTS := tests/units tests/plugin tests/history tests/factory tests/monitoring tests/cli \
	tests/deployment tests/examples tests/docs tests/reliability tests/page
# A real scheduler runs all DAGs of a platform with DataSurface's own jobs.
WHOLE_PLATFORM := tests/scheduler/test_whole_platform.py
# Those that run on a real Kubernetes, too or alone.
CLUSTER_TESTS := tests/cluster tests/localkube tests/factory/test_result.py \
	tests/factory/test_one_pod.py tests/factory/test_run_settings.py \
	tests/factory/test_infrastructure_dag.py tests/deployment/test_helm_chart.py
CLUSTER := KUBECONFIG='$(KUBECONFIG)' CLUSTER_IMAGE='$(CLUSTER_IMAGE)'
# What DataSurface 0.0.36 to 0.0.57 pin; SQLALCHEMY='sqlalchemy>=2.1' tests with the newest.
SQLALCHEMY ?= sqlalchemy==2.0.41
# What DataSurface's own factory file imports, which the tests compare with ours.
OWN_FACTORY_NEEDS := apache-airflow-providers-postgres
# What a real DataSurface imports that nothing else here does.
UPSTREAM_NEEDS := 'avro>=1.11' 'pydantic>=2' geoalchemy2 $(OWN_FACTORY_NEEDS)
# So many files of tests run at the same time, the slow ones first; tests that wait leave the
# processors to the others. 0 is none, for where 127.0.0.1 is the only loopback address: each worker
# has a PostgreSQL of its own.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(os.cpu_count() + 2)')
PYTEST := bin/pytest --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder

# Images of containers set it; each process would compile all modules and tests anew.
unexport PYTHONDONTWRITEBYTECODE

QUICK_TESTS := not server and not slow and not scheduler

.PHONY: help demo quick test test-embedded test-pythons test-airflow2 test-lowest test-upstream test-scheduler test-scheduler-airflow2 test-cluster faults mutants bench \
	docs reference pictures lint format clean

help:  ## Show this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 26

demo: $(VENV)/.demo  ## From a model to running DAGs on this machine; KEEP=1 leaves Airflow up
	@$(VENV)/bin/python examples/demo.py

quick: lint  ## Lint, and the tests that need no server, in about a minute
	$(VENV)/$(PYTEST) -m "$(QUICK_TESTS)" $(ARGS)

test: $(VENV)/.dev  ## Run the tests on real PostgreSQL and Airflow, with the coverage of the plugin
	$(VENV)/$(PYTEST) -m "not scheduler and not cluster" --cov --cov-report=term-missing --cov-fail-under=95 \
		$(EMBEDDED_TESTS:%=--ignore=%) $(ARGS)

test-embedded: $(VENV)/.dev  ## The tests of the embedded DataSurface and the local Kubernetes, and the demo
	$(VENV)/$(PYTEST) $(EMBEDDED_TESTS) $(ARGS)

# Those of pyenv too.
PYTHONS ?= $(shell for version in 3.12 3.13 3.14; do \
	for python in python$$version $${PYENV_ROOT:-$$HOME/.pyenv}/versions/$$version.*/bin/python; do \
		if $$python -c 'import venv' 2> /dev/null; then echo $$python; break; fi; done; done)

test-pythons: $(VENV)/bin/uv  ## The tests that need no server, on each of Python 3.12 to 3.14 that is there
	@echo "Pythons that are there, besides $(PYTHON): $(or $(PYTHONS),none)"
	@set -e; for python in $(PYTHONS); do \
		venv=.venv-$$($$python -c 'import sys; print("python%d.%d" % sys.version_info[:2])'); \
		test -d $$venv || $$python -m venv $$venv; \
		$(VENV)/bin/uv pip install --quiet --python $$venv/bin/python --editable '.[dev]' --editable ./embedded; \
		$$venv/$(PYTEST) -m "$(QUICK_TESTS)" $(ARGS); \
	done

test-airflow2: $(VENV2)/.dev  ## The tests of the DAGs again, on Airflow 2.11 and SQLAlchemy 1.4
	$(VENV2)/$(PYTEST) $(AIRFLOW2_TESTS) $(ARGS)

test-lowest: $(VENVL)/.dev  ## The job's pods on the lowest release of the provider that setup.cfg allows
	$(VENVL)/$(PYTEST) tests/factory/test_one_pod.py tests/factory/test_ingestion_dag.py \
		tests/factory/test_result.py tests/factory/test_run_settings.py \
		tests/units/test_pod_start.py $(ARGS)

test-upstream: $(if $(DATASURFACE_SRC),$(VENVU)/.dev $(VENV2)/.dev)  ## On a real DataSurface: DATASURFACE_SRC=<folder that holds datasurface>
ifdef DATASURFACE_SRC
	$(PIPU) '$(SQLALCHEMY)'
	$(PIP2) 'apache-airflow>=2.11,<3' $(OWN_FACTORY_NEEDS)
	DATASURFACE_SRC='$(DATASURFACE_SRC)' $(VENVU)/$(PYTEST) -m "not scheduler" -rs $(UPSTREAM_TESTS) $(ARGS)
	DATASURFACE_SRC='$(DATASURFACE_SRC)' $(VENVU)/bin/pytest -m scheduler $(WHOLE_PLATFORM)
	DATASURFACE_SRC='$(DATASURFACE_SRC)' DATASURFACE_PYTHON=$(VENVU)/bin/python \
		$(VENV2)/bin/pytest -rs $(WHOLE_PLATFORM) tests/plugin/test_own_factory.py \
		tests/plugin/test_own_infrastructure_dag.py tests/plugin/test_changing_factories.py
else
	@echo "Nothing was tested: set DATASURFACE_SRC to a folder that holds a package 'datasurface'."
endif

test-cluster: $(if $(DATASURFACE_SRC),$(VENVU)/.dev,$(VENV)/.dev)  ## On a disposable Kubernetes: KUBECONFIG=<file> CLUSTER_IMAGE=<an image with the jobs>
ifndef CLUSTER_IMAGE
	@echo "Nothing was tested: set KUBECONFIG to the file of a disposable cluster, and CLUSTER_IMAGE to an"
	@echo "image with DataSurface and yellow_dynamic that it can pull; docs/developing.md says more."
else ifdef DATASURFACE_SRC
	$(PIPU) '$(SQLALCHEMY)'
	$(CLUSTER) DATASURFACE_SRC='$(DATASURFACE_SRC)' $(VENVU)/bin/pytest -m scheduler $(WHOLE_PLATFORM) $(ARGS)
else
	$(CLUSTER) $(VENV)/bin/pytest -rs $(CLUSTER_TESTS) $(ARGS)
	$(CLUSTER) $(VENV)/bin/pytest -rs -m scheduler $(WHOLE_PLATFORM) tests/scheduler/test_overlap.py \
		tests/scheduler/test_run_settings.py $(ARGS)
endif

test-scheduler: $(VENV)/.dev  ## A real scheduler runs the DAGs; with chromium and playwright, its UI too
	$(VENV)/bin/pytest -m scheduler tests/scheduler -rs $(ARGS)

test-scheduler-airflow2: $(VENV2)/.dev  ## The same on Airflow 2.11, without the UI
	$(VENV2)/bin/pytest -m scheduler tests/scheduler/test_runs.py tests/scheduler/test_overlap.py \
		tests/scheduler/test_run_settings.py \
		$(WHOLE_PLATFORM) -rs $(ARGS)

faults: $(VENV)/.dev  ## Inject every fault for real, and print what survived and what was lost
	$(VENV)/$(PYTEST) -m "(from_the_field or injects_faults) and not scheduler" $(ARGS)

mutants: $(VENV)/.dev  ## Change the modules in one place at a time, and see that a test notices; NAMES="*rules*" for some
	PYTHONPATH=examples:tests $(VENV)/bin/python tests/mutants.py $(NAMES:%='%')

docs: $(VENV)/.docs  ## Build the documentation in build/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

reference: $(VENV)/.dev  ## Write the pages of docs/reference, which are made from the sources
	$(VENV)/bin/python tests/reference_pages.py

pictures: $(VENV)/.dev  ## Make the pictures in docs/images anew; those of Airflow need chromium
	$(VENV)/bin/python examples/architecture_picture.py
	$(VENV)/bin/python examples/terminal_pictures.py
	SCREENSHOTS=$(CURDIR)/docs/images $(VENV)/bin/pytest tests/page/test_streams_page.py \
		tests/scheduler/test_browser.py

bench: $(VENV_BENCH)/.bench  ## Compare with other ways, write docs/performance.md; QUICK=1 for less, PARTS="year page" for these alone
	@PYTHONPATH=examples:tests $(VENV_BENCH)/bin/python -m benchmarks $(if $(QUICK),--quick) $(PARTS)

lint: $(VENV)/.dev $(FACTORY)  ## Check format, style and types, of the rendered DAG files too
	$(VENV)/bin/ruff format --check $(SOURCES) $(dir $(FACTORY))
	$(VENV)/bin/ruff check $(SOURCES) $(dir $(FACTORY))
	$(VENV)/bin/lint-imports
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy $(dir $(FACTORY))*.py

format: $(VENV)/.dev  ## Format the sources
	$(VENV)/bin/ruff format $(SOURCES)
	$(VENV)/bin/ruff check --fix $(SOURCES)

clean:  ## Remove the environments and what runs leave behind
	rm -rf $(VENV) $(VENV)-python* $(VENV2) $(VENVL) $(VENVU) $(VENV_BENCH) .demo build dist mutants *.egg-info embedded/*.egg-info

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

$(FACTORY): $(VENV)/.dev $(wildcard yellow_dynamic/*.py yellow_dynamic/*.json yellow_dynamic/factory/*.py yellow_dynamic/templates/*) tests/sample_factory.py
	$(VENV)/bin/python tests/sample_factory.py $@

$(VENV)/.docs: $(VENV)/bin/uv setup.cfg
	$(PIP) --editable '.[docs]'
	@touch $@

# Airflow 2.11 needs Python 3.12 or older.
$(VENV2)/.dev: $(VENV)/bin/uv setup.cfg embedded/setup.cfg
	$(VENV)/bin/python -m venv $(VENV2)
	$(PIP2) --editable '.[services,test]' --editable ./embedded 'apache-airflow>=2.11,<3'
	@touch $@

LOWEST := $(shell sed -n 's/^ *apache-airflow-providers-cncf-kubernetes>=//p' setup.cfg)
$(VENVL)/.dev: $(VENV)/bin/uv setup.cfg embedded/setup.cfg
	$(VENV)/bin/python -m venv $(VENVL)
	$(INSTALL) $(VENVL)/bin/python --editable '.[services,test]' --editable ./embedded \
		'apache-airflow>=2.11,<3' 'apache-airflow-providers-cncf-kubernetes==$(LOWEST)'
	@touch $@

$(VENV_BENCH)/.bench: $(VENV)/bin/uv setup.cfg embedded/setup.cfg
	$(VENV)/bin/python -m venv $(VENV_BENCH)
	$(INSTALL) $(VENV_BENCH)/bin/python --editable '.[bench]' --editable ./embedded
	@touch $@

$(VENVU)/.dev: $(VENV)/bin/uv setup.cfg embedded/setup.cfg
	$(VENV)/bin/python -m venv $(VENVU)
	$(PIPU) --editable '.[demo,test]' --editable ./embedded $(UPSTREAM_NEEDS)
	@touch $@
