# `make help` lists the targets. Everything is installed in .venv, from the lock files in requirements/, and nowhere else.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip --quiet --disable-pip-version-check install
LOCKED := $(PIP) --require-hashes --no-deps
# ARGS goes to pytest: make test ARGS="tests/unit -x". The slow tests wait more than they compute, so there are more
# processes than two cores; they lie together, so they are dealt out one by one (else one process gets them all).
ARGS   ?=
SEEDS   ?= 0:20000
SECONDS ?= 600
SEED    ?= 1
MERMAID        := 11.17.2
MERMAID_SHA256 := 6ad2f42c3fc26bbf9e45cbb6d11898972573ea52b33a5f4ff51952899f950ffd

.DEFAULT_GOAL := help
.PHONY: help demo test check docs lock wheel soak chaos examples programs mutants model bench image clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/run ## the main job: five sums, two workers, one killed in the middle
	@$(BIN)/holdfast demo

test: $(VENV)/dev ## all tests, with branch coverage and warnings as errors
	@$(BIN)/pytest -n 6 --maxschedchunk=1 --cov --cov-report=term:skip-covered --cov-fail-under=85 $(ARGS)

check: $(VENV)/dev ## what CI checks: format, lint, types, import rules, then the tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory test

.PHONY: pythons
pythons: ## the unit and contract tests on the oldest and the newest other Python on this machine
	@PYTHON=$(PYTHON) .ci/pythons

docs: $(VENV)/run ## write docs/states.md, the diagrams in README.md and the events in docs/logs.md from the code
	@$(BIN)/holdfast states --write docs/states.md
	@PYTHONPATH=tests:. $(BIN)/python -m support.log_events docs/logs.md
	@$(BIN)/python -c 'import re, pathlib; from lifecycle.statechart import mermaid, mermaid_attempt; \
	  p = pathlib.Path("README.md"); texts = iter((mermaid(), mermaid_attempt())); \
	  p.write_text(re.sub(r"(?s)(```mermaid\n).*?(\n```)", lambda m: m[1] + next(texts) + m[2], p.read_text()))'

lock: $(VENV)/lock ## write requirements/*.txt after a change to the dependencies; ARGS=--upgrade for newer versions
	@$(COMPILE) pyproject.toml -o requirements/worker.txt
	@$(COMPILE) -c requirements/worker.txt --group pyproject.toml:build -o requirements/build.txt
	@$(COMPILE) -c requirements/worker.txt -c requirements/build.txt --all-extras --group dev pyproject.toml -o requirements/dev.txt
	@$(COMPILE) --group pyproject.toml:lock -o requirements/lock.txt

wheel: $(VENV)/run ## build the wheel, in dist/
	@$(BIN)/pip --quiet --disable-pip-version-check wheel --no-deps --no-build-isolation --wheel-dir dist .

soak: $(VENV)/dev ## play histories for as long as you like: make soak SEEDS=0:100000
	@PYTHONPATH=tests:. $(BIN)/python -m simulation.run --seeds $(SEEDS)

chaos: $(VENV)/dev ## real workers, a hostile network, random kills: make chaos SECONDS=600 SEED=1
	@PYTHONPATH=tests:. $(BIN)/python -m acceptance.chaos --seconds $(SECONDS) --seed $(SEED)

examples: $(VENV)/dev $(VENV)/examples ## real programs, killed twice: OpenMM, PyTorch, sh; GROMACS if gmx is installed
	@HOLDFAST_EXAMPLES_PYTHON=$(CURDIR)/$(VENV)/examples/bin/python $(BIN)/pytest tests/acceptance/test_examples.py $(ARGS)

mutants: $(VENV)/dev ## every deliberate bug, each found by the simulation; make test leaves out the rare ones
	@HOLDFAST_ALL_MUTANTS=1 $(BIN)/pytest -n 2 --maxschedchunk=1 tests/simulation -k "deliberate or whole_job" $(ARGS)

programs: $(VENV)/dev ## real programs, each stopped in each way five times; one rewrites 3 GiB in place
	@HOLDFAST_ALL_PROGRAMS=1 $(BIN)/pytest -n 2 tests/acceptance/test_programs.py $(ARGS)

model: ## check the model of the protocol, all of it, with spin (apt-get install spin gcc)
	@tests/model/check

bench: $(VENV)/dev $(VENV)/peers ## measure, beside the peers: saving, start-up, submit, memory, calls an hour, the dashboard; ARGS=saving for a part
	@$(BIN)/python benchmarks/run.py $(ARGS)

image: ## build the container image, where there is a Docker engine
	docker build -t holdfast .

clean: ## remove what make and the tests have made
	rm -rf $(VENV) .holdfast .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist

# The environment: first what running needs, then what developing needs. The locks are complete, so pip resolves nothing,
# and it refuses a file whose hash is not in them.

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --custom-compile-command "make lock" $(ARGS)

$(VENV)/run: pyproject.toml requirements/worker.txt requirements/build.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Holdfast needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(LOCKED) -r requirements/worker.txt -r requirements/build.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/examples: $(wildcard examples/*/requirements.txt) $(VENV)/run
	@$(PYTHON) -m venv $@
	@$@/bin/pip install --quiet --disable-pip-version-check $(foreach file,$(wildcard examples/*/requirements.txt),-r $(file)) numpy
	@touch $@

$(VENV)/peers: $(VENV)/run
	@$(PIP) --upgrade "pip>=25.1" # the first that knows --group
	@$(PIP) --group peers
	@touch $@

$(VENV)/lock: requirements/lock.txt $(VENV)/run
	@$(LOCKED) -r requirements/lock.txt
	@touch $@

$(VENV)/dev: requirements/dev.txt $(VENV)/run
	@$(LOCKED) -r requirements/dev.txt
	@touch $@

# Mermaid draws the diagrams for tests/acceptance/test_diagram.py. It comes from npm, one file of it.
$(VENV)/mermaid.min.js:
	@mkdir -p $(VENV)/npm && cd $(VENV)/npm && npm pack --silent mermaid@$(MERMAID) >/dev/null
	@cd $(VENV)/npm && echo "$(MERMAID_SHA256)  mermaid-$(MERMAID).tgz" | sha256sum --check --quiet
	@tar -xzf $(VENV)/npm/mermaid-$(MERMAID).tgz -C $(VENV) --strip-components=2 package/dist/mermaid.min.js
	@rm -r $(VENV)/npm
