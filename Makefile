# Everything there is to do with this repository. `make` alone lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

BIN := .venv/bin
# `make down` must work without a set-up, too.
PYTHON3 = $(if $(wildcard $(BIN)/python),$(BIN)/python,python3)
# Passed on to pytest: make integration ARGS='-k gate -x'
ARGS ?=

.PHONY: help
help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: up
up: setup ## start the platform on this machine, and run a first function on it
	@$(BIN)/python -m deploy.up

.PHONY: down
down: ## stop the platform and remove its containers; functions and their state stay
	@$(PYTHON3) -m deploy.down

.PHONY: purge
purge: ## make down, and remove functions and state for good
	@$(PYTHON3) -m deploy.down --purge

.PHONY: test
test: ## install what tests need, and run them all (a quarter of an hour)
	@bash tests/all.sh

.PHONY: setup
setup: ## the virtual environment .venv, with everything pinned
	@bash deploy/setup.sh

.PHONY: check
check: setup ## format, lint, types, import direction, unit tests (under 30 seconds)
	@bash tests/check.sh $(ARGS)

.PHONY: integration
integration: setup engine ## adapters against a real engine and a real Redis
	@bash tests/run.sh integration $(ARGS)

.PHONY: conformance
conformance: setup engine ## AWS's own clients against the API
	@bash tests/run.sh conformance $(ARGS)

.PHONY: chaos
chaos: setup engine ## kill -9 of every part under load, many rounds
	@LAMBDOCK_CHAOS_ROUNDS=$${LAMBDOCK_CHAOS_ROUNDS:-10} bash tests/run.sh chaos $(ARGS)

.PHONY: e2e
e2e: setup ## make up, down and purge themselves, on an installation of their own
	@bash deploy/ensure-engine.sh images compose
	@bash tests/run.sh e2e $(ARGS)

.PHONY: bench
bench: setup engine ## warm and cold latency and throughput, beside this machine's limits
	@bash tests/run.sh bench -s $(ARGS)

.PHONY: docs
docs: setup ## make docs/generated; fail if a document names a file or make target that is not there
	@$(BIN)/python -m tests.docs

.PHONY: requirements
requirements: setup ## compile requirements/*.txt anew from pyproject.toml
	@bash requirements/compile.sh

# Docker Engine, the servers that tests talk to, and the tools that a worker outside a container calls.
.PHONY: engine
engine:
	@bash deploy/ensure-engine.sh redis sandbox images registry postgres busybox
