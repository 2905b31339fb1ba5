# Every target does its own set-up. `make help` lists them.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
ARGS ?=
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# An engine that `make docker` started; one that answers by itself needs no word from us.
ENGINE_SOCKET := $(shell infra/images/engine.sh home)/docker.sock
ifneq ($(wildcard $(ENGINE_SOCKET)),)
export DOCKER_HOST ?= unix://$(ENGINE_SOCKET)
endif

.PHONY: help setup demo up test check bench prove fmt lint types imports docs wire images docker docker-stop sbom pins bundle

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## virtual environment with everything pinned

$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "fleetloop needs Python 3.11, 3.12 or 3.13; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[dev,workload,fast,otel]'
	@touch $@

demo: $(STAMP) ## close the loop on this machine, e.g. make demo ARGS="--exit --report report.json"
	@$(BIN)/fleetloop demo $(ARGS)

up: $(STAMP) ## run the control plane on this machine until Ctrl-C
	@$(BIN)/fleetloop up $(ARGS)

test: $(STAMP) ## all tests, e.g. make test ARGS="tests/agent -k trust"
	$(BIN)/python -m pytest -q -n 2 --dist worksteal $(ARGS)

check: lint types imports images test docs wire ## exactly what CI runs

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

images: $(STAMP) ## hadolint, every Dockerfile
	$(BIN)/hadolint infra/images/*.Dockerfile

docker: $(STAMP) ## a Docker engine if none answers, and every image from Debian's packages and wheels, without a registry
	@infra/images/engine.sh start
	@infra/images/build.sh $(BIN)/python

docker-stop: ## stop the Docker engine that `make docker` started
	@infra/images/engine.sh stop

sbom: $(STAMP) ## bill of materials of the server image's Python packages, CycloneDX, into dist/
	@mkdir -p dist
	@PYTHONWARNINGS=ignore $(BIN)/cyclonedx-py requirements infra/images/requirements/server.txt --pyproject pyproject.toml --mc-type application \
	  --output-reproducible --sv 1.6 --of JSON -o dist/fleetloop-server.cdx.json
	@sha256sum dist/fleetloop-server.cdx.json

pins: $(STAMP) ## write the images' requirements with their hashes anew, after a change of pyproject.toml or requirements.lock
	@infra/images/pins.sh $(BIN)/uv

bundle: $(STAMP) ## one file for machines that reach no registry, into dist/; make bundle ARGS="--with workload"
	@$(BIN)/python infra/bundle/bundle.py $(ARGS)
