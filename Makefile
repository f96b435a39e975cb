# Everything runs from a bare clone with Python >= 3.11, git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# dlt's telemetry stays off in everything this repository runs
export RUNTIME__DLTHUB_TELEMETRY := false
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo lint format test bench lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | awk -F ':.*?## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(VENV)/.installed ## build .venv from the lock file

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python >= 3.11 is needed, this is " + sys.version.split()[0] + "; run: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --only-binary :all: -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup ## weeks of simulated history into DuckDB, then the health summary
	$(BIN)/dlt-cronofy demo $(DEMO_ARGS)

lint: setup ## ruff (lint and format) and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: setup ## the whole test suite
	$(BIN)/pytest

bench: setup ## ratios against a bare loop, peak memory
	$(BIN)/python -m benchmarks

lock: setup ## resolve pyproject.toml anew into requirements.lock
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-annotate --no-header --quiet -o requirements.lock $(LOCK_ARGS)

clean: ## remove the environment and what runs left behind
	rm -rf $(VENV) demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
