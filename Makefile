# Everything a fresh machine needs is Python 3.11 or 3.12 and make: each target sets itself up first.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Benchmark size and repetitions: make bench N=10_000_000 REPEAT=3
N ?= 1_000_000
REPEAT ?= 3
# Test files at the same time: make test JOBS=4
JOBS ?= 2
ARGS ?=

.PHONY: help install demo run cluster test lint format bench bench-live bench-kafka bench-analytics chaos clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## a virtual environment in .venv with the `tocsin` command

# Kept while pyproject.toml and this file are unchanged. The interpreter is tried, not just looked up: a version
# manager's shim may exist for a version that is not installed.
$(STAMP): pyproject.toml Makefile
	@for candidate in "$${PYTHON:-}" python3.11 python3.12 python3 python; do \
	    [ -n "$$candidate" ] || continue; \
	    if "$$candidate" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' >/dev/null 2>&1; \
	    then found=$$candidate; break; fi; \
	done; \
	if [ -z "$${found:-}" ]; then echo "Tocsin needs Python 3.11 or 3.12 (with venv); none was found. Set PYTHON=/path/to/python." >&2; exit 1; fi; \
	echo "Setting up $(VENV) with $$("$$found" --version) (a minute or two) ..."; \
	"$$found" -m venv --clear $(VENV); \
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --editable '.[dev]'; \
	$(BIN)/python -c 'from connectors.formats import jsonl; from connectors.kafka import native; from operators import rollup; jsonl.warm(); native.warm(); rollup.warm()'; \
	touch $@

demo: $(STAMP) ## a seeded day of events, replayed: the incidents, a timeline, what to type next
	@$(BIN)/tocsin demo $(ARGS)

run: $(STAMP) ## the live service with a workspace for trying it: prints its key and three lines to paste
	@$(BIN)/tocsin serve --demo $(ARGS)

cluster: $(STAMP) ## Kafka, two workers, two API nodes as processes of this machine (Java 17; KAFKA=host:port uses yours)
	@$(BIN)/python deploy/cluster.py $(ARGS)

test: $(STAMP) ## all tests, JOBS files at a time (2)
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile $(ARGS)

lint: $(STAMP) ## style, types, and who may import whom
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: $(STAMP) ## rewrite the code in the house format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(STAMP) ## measure against the references: make bench N=10_000_000 REPEAT=3
	@$(BIN)/python -m benchmarks.run --events $(N) --repeat $(REPEAT) $(ARGS)

bench-live: $(STAMP) ## measure the live service: latency, rates, idle CPU, memory over ten simulated hours
	@$(BIN)/python -m benchmarks.live $(ARGS)

bench-kafka: $(STAMP) ## measure reading from Kafka, and how a cluster scales
	@$(BIN)/python -m benchmarks.kafka $(ARGS)

bench-analytics: $(STAMP) ## measure what rollups cost and save: make bench-analytics ARGS='--events 100_000_000'
	@$(BIN)/python -m benchmarks.analytics $(ARGS)

chaos: $(STAMP) ## kill replays and the service at random moments, go on, compare: TOCSIN_CHAOS_ROUNDS=50
	@TOCSIN_CHAOS_ROUNDS=$${TOCSIN_CHAOS_ROUNDS:-50} $(BIN)/python -m pytest -m chaos $(ARGS)

clean: ## remove the environment, caches and benchmark files
	@rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache bench-data cluster-data
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
