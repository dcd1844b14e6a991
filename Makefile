PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types unit system processes pages threads bench docs clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## */\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: $(READY)  ## an environment in .venv with everything that the tests need

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25"
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

demo: setup  ## the main job on the embedded data set, into runs/demo
	rm -rf runs/demo
	$(BIN)/aequa fit --config configs/digits.yaml --trainer.run_dir runs/demo

# Two at a time, the longest before the shorter ones: much of the tests' time is waiting for processes that they start.
# Threads of both share the cores, and must not wait for each other busily. How many there are is left to the machine.
test: export OMP_WAIT_POLICY = passive
test: setup  ## lint, types, and all tests: about a quarter of an hour on two cores
	$(MAKE) --jobs 2 --output-sync=target lint types processes system unit pages

lint: setup  ## ruff, and the order of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: setup  ## mypy
	$(BIN)/mypy

unit: setup  ## unit tests, and the examples in docstrings
	$(BIN)/python -m pytest src tests/unit

system: setup  ## tests of whole runs
	$(BIN)/python -m pytest tests/integration tests/parity

pages: setup  ## the code in the documentation, and mutated files
	$(BIN)/python -m pytest tests/documentation tests/fuzz

processes: setup  ## tests that start several processes, and kill them
	$(BIN)/python -m pytest tests/distributed tests/fault

# Once more without the variable that `test` sets, as a user has it.
threads: setup  ## tests of tracing with the threads that a user has
	env -u OMP_NUM_THREADS -u MKL_NUM_THREADS -u OMP_WAIT_POLICY $(BIN)/python -m pytest \
		tests/unit/slimmable/test_tracing.py

bench: setup  ## every benchmark, into benchmarks/results/
	$(BIN)/python -m benchmarks

docs: setup  ## the documentation, into site/
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	$(BIN)/mkdocs build --strict

clean:  ## remove the environment, caches and built files
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache build dist site
