# Every target does its own set-up. `make help` lists them.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
ARGS ?=
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo up test check bench prove fmt lint types imports docs wire bundle

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## virtual environment with everything pinned

$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "fleetloop needs Python 3.11, 3.12 or 3.13; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[dev,workload,fast]'
	@touch $@

demo: $(STAMP) ## close the loop on this machine, e.g. make demo ARGS="--exit --report report.json"
	@$(BIN)/fleetloop demo $(ARGS)

up: $(STAMP) ## run the control plane on this machine until Ctrl-C
	@$(BIN)/fleetloop up $(ARGS)

test: $(STAMP) ## all tests, e.g. make test ARGS="tests/agent -k trust"
	$(BIN)/python -m pytest -q -n 2 --dist worksteal $(ARGS)

check: lint types imports test docs wire ## exactly what CI runs

bench: $(STAMP) ## benchmarks: JSON lines with a ratio to a ceiling measured in the same run
	@$(BIN)/python -m tests.bench $(ARGS)

prove: $(STAMP) ## long proofs of what we claim, e.g. make prove ARGS=crash
	@$(BIN)/python -m tests.proofs $(ARGS)

fmt: $(STAMP) ## format
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format --quiet .

lint: $(STAMP) ## ruff, all rules
	$(BIN)/ruff check .

types: $(STAMP) ## mypy --strict; the agent also as Python 3.10
	$(BIN)/mypy
	$(BIN)/mypy --python-version 3.10 -p agents

imports: $(STAMP) ## layering contracts
	$(BIN)/lint-imports --no-timings 2>/dev/null || $(BIN)/lint-imports

docs: $(STAMP) ## generated references and links are up to date
	$(BIN)/python docs/build.py --check $(ARGS)

wire: $(STAMP) ## JSON Schemas of the device wire are up to date
	$(BIN)/python docs/build.py --check --only wire

bundle: $(STAMP) ## one file for machines that reach no registry, into dist/; make bundle ARGS="--with workload"
	@$(BIN)/python infra/bundle/bundle.py $(ARGS)
