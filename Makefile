PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo test lint types unit system processes pages threads bench docs clean

setup: $(READY)

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25"
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

demo: setup
	rm -rf runs/demo
	$(BIN)/aequa fit --config configs/digits.yaml --trainer.run_dir runs/demo

# Two at a time, the longest before the shorter ones: much of the tests' time is waiting for processes that they start.
# Threads of both share the cores, and must not wait for each other busily. How many there are is left to the machine.
test: export OMP_WAIT_POLICY = passive
test: setup
	$(MAKE) --jobs 2 --output-sync=target lint types processes system unit pages

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: setup
	$(BIN)/mypy

unit: setup
	$(BIN)/python -m pytest src tests/unit

system: setup
	$(BIN)/python -m pytest tests/integration tests/parity

pages: setup
	$(BIN)/python -m pytest tests/documentation tests/fuzz

processes: setup
	$(BIN)/python -m pytest tests/distributed tests/fault

# Once more by default with as many threads as a user has, whatever the environment of the other targets says.
threads: setup
	env -u OMP_NUM_THREADS -u MKL_NUM_THREADS -u OMP_WAIT_POLICY $(BIN)/python -m pytest \
		tests/unit/slimmable/test_tracing.py tests/unit/slimmable/test_tracing_operations.py \
		tests/integration/test_surroundings.py -k "not report and not locale"

bench: setup
	$(BIN)/python -m benchmarks

docs: setup
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache build dist site
