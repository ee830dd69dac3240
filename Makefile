# make demo | test | lint | bench | docs | fuzz | soak | clean      Needs make and a Python from 3.11 on, nothing else.
# make conformance      the Autobahn TestSuite; it needs a Python 2.7 as well
#
#   make test ARGS="-k rooms -x"      what goes to pytest
#   make demo PORT=8080               another port
#   make test PYTHON=python3.13 VENV=.venv-3.13 EDITABLE=      another Python, and the built wheel
#   make fuzz SECONDS=600             how long each target is fuzzed
#   make soak MINUTES=1               how long the server is kept under churn

VENV     ?= .venv
PORT     ?= 3000
ARGS     ?=
SECONDS  ?= 60
MINUTES  ?= 10
EDITABLE ?= -e

# The first of these that runs and is new enough. PYTHON=... is taken as it is, and checked all the same.
PYTHON   ?= $(or $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11 python,\
              $(shell $(p) -c 'import sys; sys.version_info >= (3, 11) and print("$(p)")' 2>/dev/null))),python3)

BIN      := $(VENV)/bin
CHECKED  := src tests examples tools bench
# What is installed from the wheel is stale as soon as a source file changes; an editable install is not.
SOURCES   = $(if $(EDITABLE),,$(shell find src -type f))
FOLDERS   = $(wildcard $(CHECKED))

.PHONY: demo test lint bench docs fuzz soak conformance clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	@echo "The chat: open http://localhost:$(PORT) in two tabs. Ctrl-C ends it."
	@$(BIN)/boltws run examples.chat.app:bolt --port $(PORT)

test: $(VENV)/.test
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.lint
	$(BIN)/ruff check $(FOLDERS)
	$(BIN)/ruff format --check $(FOLDERS)
	$(BIN)/mypy

bench: $(VENV)/.bench
	$(BIN)/python -m bench $(ARGS)

docs: $(VENV)/.test
	$(BIN)/python tools/check_docs.py

# What is found is written to build/fuzz, and ends it with an error.
fuzz: $(VENV)/.fuzz
	$(BIN)/python -m tests.fuzz.run reader --seconds $(SECONDS)
	$(BIN)/python -m tests.fuzz.run handshake --seconds $(SECONDS)

soak: $(VENV)/.test
	$(BIN)/python -m tests.soak.run --minutes $(MINUTES) $(ARGS)

conformance: $(VENV)/.demo
	@$(BIN)/python -m tests.conformance.run $(ARGS)

clean:
	rm -rf .venv .venv-* $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .autobahn
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# A stamp in the environment for each set of packages: the second run installs nothing.
$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "boltws needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: EXTRAS =
$(VENV)/.test: EXTRAS = [test]
$(VENV)/.lint: EXTRAS = [lint]
$(VENV)/.bench: EXTRAS = [bench]
$(VENV)/.fuzz: EXTRAS = [fuzz]
$(VENV)/.demo $(VENV)/.test $(VENV)/.lint $(VENV)/.bench $(VENV)/.fuzz: $(VENV)/.python pyproject.toml $(SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(EDITABLE) ".$(EXTRAS)"
	@touch $@
