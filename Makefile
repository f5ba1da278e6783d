# Each target sets up what it needs in .venv first; nothing has to be installed before but Python (3.11 or newer) and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
HISTORY ?= 50,181,258
DATA_DIR ?=
ROUNDS ?=

.PHONY: demo test long lint fuzz bench bench-parts peers docs clean

demo: $(VENV)/.run
	$(BIN)/python examples/demo.py --history $(HISTORY) $(if $(DATA_DIR),--data-dir $(DATA_DIR))

test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

lint: $(VENV)/.lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

long: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m long --timeout 1800

fuzz: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m fuzz

# All jobs beside the peers that are set up (`make peers`), then the page that tells. A missed bar does not stop it.
bench: $(VENV)/.test
	-$(BIN)/python benchmarks/bench.py $(if $(DATA_DIR),--data-dir $(DATA_DIR)) $(if $(ROUNDS),--rounds $(ROUNDS))
	$(BIN)/python benchmarks/roofline.py
	$(BIN)/python benchmarks/growth.py
	$(BIN)/python benchmarks/collect.py

# Parts of intarsia alone.
bench-parts: $(VENV)/.test
	-$(BIN)/python benchmarks/startup.py
	-$(BIN)/python benchmarks/model_step.py
	-$(BIN)/python benchmarks/table_step.py
	-$(BIN)/python benchmarks/streaming.py

peers: | $(BIN)/python
	$(BIN)/python benchmarks/peers/setup.py

docs: $(VENV)/.run
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip

# The stamps say which extras are installed; editing pyproject.toml makes them stale.
$(VENV)/.run: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@ $(VENV)/.run

$(VENV)/.lint: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,lint]'
	touch $@ $(VENV)/.test $(VENV)/.run
