# Everything runs from a bare clone with Python >= 3.11, git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# dlt's telemetry stays off in everything this repository runs
export RUNTIME__DLTHUB_TELEMETRY := false
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Python starts a hundred times in a run of the tests: what is compiled once is kept
export PYTHONDONTWRITEBYTECODE :=
INSTALL := $(BIN)/python -m pip install --quiet --require-hashes --only-binary :all:
CHECK_PYTHON := import sys; sys.exit("Python >= 3.11 is needed, this is " + sys.version.split()[0] + "; run: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None
# pip compiles what it installs, but not what stays where it is
COMPILE_OURS := $(BIN)/python -m compileall -q pipelines sources
RUN_LOCK := pipelines/scheduling/requirements$(if $(CHARTS),-charts).lock
COMPILE := $(BIN)/uv pip compile --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-annotate --no-header --quiet

.DEFAULT_GOAL := help
.PHONY: help setup install demo notebook notebook-ipynb docs browser lint format test test-long test-lowest test-warehouses campaign airflow-test airflow-campaign leaks audit bench lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | awk -F ':.*?## ' '{printf "  make %-17s %s\n", $$1, $$2}'

setup: $(VENV)/.installed ## build .venv from the lock file

$(VENV)/.installed: requirements-build.lock requirements.lock pyproject.toml
	@$(PYTHON) -c '$(CHECK_PYTHON)'
	$(PYTHON) -m venv --clear $(VENV)
	$(INSTALL) -r requirements-build.lock
	$(INSTALL) --no-build-isolation --no-binary autograd-gamma -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(COMPILE_OURS)
	@touch $@

# pip takes no hash for what is built here, so the project itself comes last
install: ## build .venv for running loads only, from pinned versions; CHARTS=1 for the report, too
	@$(PYTHON) -c '$(CHECK_PYTHON)'
	$(PYTHON) -m venv --clear $(VENV)
	$(INSTALL) -r requirements-build.lock -r $(RUN_LOCK)
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(COMPILE_OURS)
	@$(BIN)/dlt-cronofy --version

$(VENV)-dbt/.installed: requirements-dbt.lock
	$(PYTHON) -m venv --clear $(VENV)-dbt
	$(VENV)-dbt/bin/python -m pip install --quiet --require-hashes --only-binary :all: -r requirements-dbt.lock
	@touch $@

demo: setup ## play a month of simulated history into DuckDB, then show the health summary
	$(BIN)/dlt-cronofy demo $(DEMO_ARGS)

notebook: setup ## open the notebook as an app in the browser
	$(BIN)/marimo run notebooks/connection_health.py

notebook-ipynb: setup ## run the notebook and write connection_health.ipynb for Jupyter
	$(BIN)/python -m dlt_cronofy.report.jupyter notebooks/connection_health.py connection_health.ipynb

lint: setup ## ruff (lint and format) and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## let ruff fix and format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup ## build the documentation as a site in site/, which opens from disk
	$(BIN)/mkdocs build --quiet --strict --site-dir site

browser: ## put Chromium into .browser for the tests of the report, if the machine has none
	@.ci/browser

test: setup $(VENV)-dbt/.installed ## run the whole test suite
	@.ci/browser > /dev/null || true
	$(BIN)/pytest

test-long: setup $(VENV)-dbt/.installed ## run the suite and the slow tests
	$(BIN)/pytest -m "not airflow and not warehouses"

test-lowest: setup $(VENV)-dbt/.installed ## run the suite with the lowest versions that pyproject.toml allows
	$(BIN)/uv venv --quiet --clear .venv-lowest
	$(BIN)/uv pip install --quiet --python .venv-lowest --resolution lowest-direct --editable '.[charts]' --group dev
	.venv-lowest/bin/python -m pytest

campaign: setup ## kill loads at random instants and in writes to the DuckDB file; check that nothing is lost
	$(BIN)/python -m tests.campaign --kills 200 --destination duckdb,postgres $(CAMPAIGN_ARGS)
	$(BIN)/python -m tests.campaign.torn

audit: setup ## check the lock file for known vulnerabilities (asks a vulnerability service)
	$(PYTHON) -m venv --clear .venv-audit
	.venv-audit/bin/python -m pip install --quiet --require-hashes --only-binary :all: -r requirements-audit.lock
	.venv-audit/bin/pip-audit --strict --disable-pip --require-hashes -r requirements.lock

$(VENV)-airflow/.installed: requirements-airflow.lock pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)-airflow
	# the lock file is complete; pip does not take a pin with an extra for one without
	$(VENV)-airflow/bin/python -m pip install --quiet --no-deps --require-hashes --only-binary :all: -r requirements-airflow.lock
	$(VENV)-airflow/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(VENV)-airflow/bin/python -m pip check
	@touch $@

$(VENV)-warehouses/.installed: requirements-warehouses.lock pyproject.toml
	@$(PYTHON) -c '$(CHECK_PYTHON)'
	$(PYTHON) -m venv --clear $(VENV)-warehouses
	$(VENV)-warehouses/bin/python -m pip install --quiet --require-hashes --only-binary :all: -r requirements-warehouses.lock
	$(VENV)-warehouses/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)-engines/.installed: requirements-engines.lock pyproject.toml
	@$(PYTHON) -c '$(CHECK_PYTHON)'
	$(PYTHON) -m venv --clear $(VENV)-engines
	$(VENV)-engines/bin/python -m pip install --quiet --require-hashes --only-binary :all: -r requirements-build.lock
	$(VENV)-engines/bin/python -m pip install --quiet --require-hashes --only-binary :all: --no-binary pyspark \
		--no-build-isolation -r requirements-engines.lock
	$(VENV)-engines/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

test-warehouses: $(VENV)-warehouses/.installed $(VENV)-engines/.installed ## run DuckLake, Snowflake's SQL and Spark, in environments of their own
	$(VENV)-warehouses/bin/python -m pytest -o addopts=-ra -o timeout=600 -n 2 --dist worksteal tests/warehouses $(WAREHOUSES_TEST_ARGS)
	JAVA_HOME=$$(.ci/java) $(VENV)-engines/bin/python -m pytest -o addopts=-ra -o timeout=600 tests/engines

airflow-test: $(VENV)-airflow/.installed ## run the load on a real Airflow: 20,000 tokens, 8 shards, PostgreSQL, a killed worker
	$(VENV)-airflow/bin/python -m pytest -o addopts=-ra tests/pipelines/airflow $(AIRFLOW_TEST_ARGS)

airflow-campaign: $(VENV)-airflow/.installed ## kill Celery workers on a real Airflow with Redis; check that nothing is lost
	@.ci/redis > /dev/null
	$(VENV)-airflow/bin/python -m tests.pipelines.airflow.campaign --rounds 6 $(AIRFLOW_CAMPAIGN_ARGS)

leaks: setup ## search logs, tables and working files of loads for secrets
	$(BIN)/python -m tests.campaign.leaks

bench: setup ## measure speed, memory and storage, mostly as ratios
	$(BIN)/python -m benchmarks

lock: setup ## update the lock files from pyproject.toml
	$(COMPILE) pyproject.toml --extra charts --group dev -o requirements.lock $(LOCK_ARGS)
	$(COMPILE) pyproject.toml --extra postgres --extra sql --extra shared --constraint requirements.lock \
		-o pipelines/scheduling/requirements.lock
	$(COMPILE) pyproject.toml --extra postgres --extra sql --extra shared --extra charts \
		--constraint requirements.lock -o pipelines/scheduling/requirements-charts.lock
	$(COMPILE) --group build --constraint requirements.lock -o requirements-build.lock
	$(COMPILE) --group audit -o requirements-audit.lock
	$(COMPILE) pyproject.toml --extra airflow --extra postgres --extra shared --group airflow-test \
		--constraint requirements.lock --no-strip-extras -o requirements-airflow.lock
	$(BIN)/uv pip compile --universal --python-version 3.11 --no-emit-index-url --no-annotate --no-header --quiet \
		pyproject.toml --extra airflow --extra postgres --extra shared --constraint requirements-airflow.lock \
		-o pipelines/airflow/constraints.txt
	$(COMPILE) pyproject.toml --extra charts --extra ducklake --extra postgres --group warehouses \
		-o requirements-warehouses.lock
	$(COMPILE) --group dbt --no-strip-extras -o requirements-dbt.lock
	$(COMPILE) benchmarks/peers/airbyte.in -o benchmarks/peers/airbyte.lock
	$(COMPILE) benchmarks/peers/singer.in -o benchmarks/peers/singer.lock

clean: ## remove the environments and all generated files
	rm -rf $(VENV) .browser .redis site .venv-lowest .venv-audit .venv-peers .venv-dbt .venv-airflow .venv-warehouses .venv-engines .java demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
