# `make demo` shows a merge against a registry of its own. `make test` checks everything.
# Both make the environments that they need; nothing is installed outside this directory,
# save Debian packages by `make test` where it may (see .ci/packages).

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# The versions of pubtools-quay that the plugin is tested in, and what each of them needs.
HOSTS ?= $(if $(wildcard tests/host),0.38 0.37 0.36)
HOST_0.38 := pubtools-quay==0.38.0
HOST_0.37 := pubtools-quay==0.37.0
HOST_0.36 := pubtools-quay==0.36.0 'pubtools-sign<1'
# What depends on the version of the host; the rest, in the newest alone, would find the same in each.
NEWEST := 0.38
IN_EACH_HOST := $(addprefix tests/host/test_,installation.py merger.py postcondition.py push*.py \
    rollback.py seams.py starts.py tag_*.py upstream.py)
# What comes without a wheel below them: built once, for all of them.
HOST_LIBRARIES := gssapi kerberos krb5 python-qpid-proton
WHEELS := .wheels

# How many sequences `make hunt` tries.
SEQUENCES ?= 20000

# Where CI is set, nothing may be skipped or hang.
PYTEST := -m pytest $(if $(CI),-p tests.in_ci)
# Only the tests of single modules leave figures for `make coverage`, as taking them doubles the time.
COV := --cov --cov-report= --cov-fail-under=0
FIGURES := .coverage-data
# Beside the tests of the modules, which a plain `make unit` runs:
LAWS := $(wildcard $(addprefix tests/,hostile hunt laws))
SYSTEM := $(wildcard $(addprefix tests/,browser e2e faults stress))
PROGRAMS := $(wildcard tests/test_docs*.py $(addprefix tests/test_,demo.py distributions.py))
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check

.PHONY: help
help:
	@echo 'make demo      show a merge: a registry, two images, what became of the tag'
	@echo 'make test      everything below, and the tests inside the host'
	@echo 'make lint      ruff: rules and format'
	@echo 'make types     mypy, strict'
	@echo 'make unit      the tests of the modules, for coverage'
	@echo 'make laws      laws, hostile input, and random sequences in short'
	@echo 'make system    the programs on real registries and in a browser, faults, two writers'
	@echo 'make hosts     the tests inside pubtools-quay $(HOSTS)'
	@echo 'make coverage  branch coverage of the test runs so far'
	@echo 'make stress    two writers and faults at full length; `make test` has the short form'
	@echo 'make hunt      random sequences of all that writes a tag: SEQUENCES=$(SEQUENCES)'
	@echo 'make quay      the contract and the laws on a Quay that runs: QUAY_URL=https://...'
	@echo 'make bench     how long merges take, beside the host and other programs, into docs'
	@echo 'make bench-scale  a batch of 100 000 lines: memory, throughput, what is left open'
	@echo 'make dist      wheel and source archive into dist, checked and tried'
	@echo 'make docs      the documentation, into docs/_build/html'
	@echo 'make clean     remove what these made'

# Environments. A marker file says that one is complete.

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: setup.py | $(BIN)/python
	$(BIN)/python $(PIP_INSTALL) --editable '.[cli]'
	touch $@

$(VENV)/.dev: setup.py pyproject.toml | $(BIN)/python
	$(BIN)/python $(PIP_INSTALL) --editable '.[dev,docs]'
	touch $@ $(VENV)/.demo

# Without optimization they compile in half the time, and no test asks much of them.
$(WHEELS)/.built: | $(BIN)/python
	CFLAGS=-O0 $(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps \
	    --wheel-dir $(WHEELS) $(HOST_LIBRARIES)
	touch $@

$(VENV)-host-%/.installed: setup.py | $(WHEELS)/.built
	$(PYTHON) -m venv $(VENV)-host-$*
	$(VENV)-host-$*/bin/python $(PIP_INSTALL) --find-links $(WHEELS) \
	    --editable '.[quay,bench]' $(HOST_$*)
	touch $@

HOST_ENVIRONMENTS = $(HOSTS:%=$(VENV)-host-%/.installed)

# What people call.

.PHONY: demo
demo: $(VENV)/.demo
	@$(BIN)/pubtools-mlmerge-demo

.PHONY: lint
lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: types
types: $(VENV)/.dev
	$(BIN)/mypy

.PHONY: unit
unit: $(VENV)/.dev
	mkdir -p $(FIGURES) && rm -f $(FIGURES)/unit*
	COVERAGE_FILE=$(FIGURES)/unit $(BIN)/python $(PYTEST) $(COV) \
	    $(addprefix --ignore=,$(LAWS) $(SYSTEM) $(PROGRAMS) tests/host)

.PHONY: laws
laws: $(VENV)/.dev
	$(BIN)/python $(PYTEST) $(LAWS)

.PHONY: system
system: $(VENV)/.dev
	$(BIN)/python $(PYTEST) $(SYSTEM) $(PROGRAMS)

.PHONY: docs
docs: $(VENV)/.dev
	$(BIN)/python -m sphinx -n -W --keep-going -q --no-color docs docs/_build/html

.PHONY: dist
dist: $(VENV)/.dev
	rm -rf dist build
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*
	$(PYTHON) -m venv build/installed
	build/installed/bin/python $(PIP_INSTALL) dist/*.whl
	build/installed/bin/pubtools-mlmerge-demo
	build/installed/bin/pubtools-mlmerge --version

.PHONY: hosts
hosts: $(HOSTS:%=host-%)

host-%: $(VENV)-host-%/.installed
	mkdir -p $(FIGURES) && rm -f $(FIGURES)/host-$**
	COVERAGE_FILE=$(FIGURES)/host-$* $(VENV)-host-$*/bin/python $(PYTEST) \
	    $(if $(filter $(NEWEST),$*),tests/host $(COV),$(IN_EACH_HOST))

.PHONY: stress
stress: $(VENV)/.dev $(VENV)-host-0.38/.installed
	MLMERGE_STRESS=1 $(BIN)/python $(PYTEST) tests/faults tests/stress \
	    $(addprefix tests/hostile/test_,texts.py bodies.py forged_records.py) tests/e2e/test_rates.py
	MLMERGE_STRESS=1 $(VENV)-host-0.38/bin/python $(PYTEST) tests/host/test_stress.py \
	    tests/host/test_floods.py

# Those inside the host take ten times as long. A failure is printed with what repeats it.
.PHONY: hunt
hunt: $(VENV)/.dev $(VENV)-host-0.38/.installed
	MLMERGE_HUNT=$(SEQUENCES) $(BIN)/python $(PYTEST) tests/hunt
	MLMERGE_HUNT=$$(($(SEQUENCES) / 10)) $(VENV)-host-0.38/bin/python $(PYTEST) \
	    tests/host/test_hunt.py

.PHONY: quay
quay: $(VENV)/.dev
	@[[ -n '$(QUAY_URL)' ]] || { echo 'Say where: make quay QUAY_URL=https://HOST'; exit 1; }
	QUAY_URL='$(QUAY_URL)' $(BIN)/python $(PYTEST) -k quay tests/test_registry_contract.py \
	    tests/e2e/test_running_quay.py

.PHONY: bench
bench: $(VENV)/.dev $(VENV)-host-0.38/.installed
	$(VENV)-host-0.38/bin/python -m benchmarks --into docs

.PHONY: bench-scale
bench-scale: $(VENV)/.dev
	$(BIN)/python -m benchmarks.scale

.PHONY: coverage
coverage: $(VENV)/.dev
	$(BIN)/coverage combine --keep --quiet $(FIGURES)/*
	$(BIN)/coverage report

.PHONY: packages
packages:
	@.ci/packages

.PHONY: wheels
wheels: $(WHEELS)/.built

.PHONY: environments
environments: $(VENV)/.dev $(HOST_ENVIRONMENTS)

.PHONY: test
test: packages
	rm -rf .coverage $(FIGURES)
	@if .ci/packages --can-build-hosts; then hosts='$(HOSTS)'; \
	elif [[ -z '$(HOSTS)' || -z "$${CI:-}" ]]; then hosts=''; \
	else echo 'pubtools-quay cannot be built here, and in CI nothing is left out'; exit 1; fi; \
	$(MAKE) HOSTS="$$hosts" lint environments; \
	$(MAKE) HOSTS="$$hosts" $(if $(CI),--jobs=2 --output-sync=target --keep-going) checks; \
	$(MAKE) coverage

# The longest come first, so that those at a time end together.
.PHONY: checks
checks: $(HOSTS:%=host-%) system unit laws types docs

.PHONY: clean
clean:
	rm -rf .venv .venv-host-* .wheels .tox build dist *.egg-info docs/_build
	rm -rf .coverage .coverage.* $(FIGURES) htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
