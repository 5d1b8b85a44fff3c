# make demo | test | lint | bench: each makes the environment it needs and nothing more.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMPS := .make
PIP    := $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt
export OMP_NUM_THREADS := 1
export NUMBA_NUM_THREADS := 1

.PHONY: demo install test test-slow lint bench bench-quick clean

demo: $(STAMPS)/base            ## the default install, then a small marketplace from end to end
	@$(BIN)/shopward demo --once

install: $(STAMPS)/dev          ## everything for development

test: install                   ## unit, golden, property and end-to-end tests, and every docstring
	$(BIN)/python -m pytest -m "not slow"

test-slow: install              ## crash, memory and soak stories
	$(BIN)/python -m pytest -m slow

lint: install
	$(BIN)/ruff check shopward tests benchmarks
	$(BIN)/ruff format --check shopward tests benchmarks
	$(BIN)/lint-imports
	$(BIN)/mypy

bench: $(STAMPS)/bench          ## the table of docs/benchmarks.md, peers in the same run
	$(BIN)/python -m benchmarks.run

bench-quick: $(STAMPS)/bench
	$(BIN)/python -m benchmarks.run --quick

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(STAMPS)/base: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e .
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/dev: $(STAMPS)/base
	$(PIP) -e '.[dev]'
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/bench: $(STAMPS)/dev
	$(PIP) -e '.[bench]'
	@mkdir -p $(STAMPS) && touch $@

clean:
	rm -rf $(VENV) $(STAMPS) .pytest_cache .mypy_cache .ruff_cache .hypothesis
