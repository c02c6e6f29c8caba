# The whole interface for people: make demo | test | check | bench
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test test-slow test-clusters check bench clean

demo: $(STAMP)
	$(BIN)/python scripts/demo.py

test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow and not gpu and not cluster"

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

# Slurm's tests also need root and: apt-get install slurmctld slurmd slurm-client munge
test-clusters: $(STAMP)
	$(BIN)/python -m pip install --quiet --editable ".[dev,ray,slurm]"
	$(BIN)/python -m pytest -m cluster

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

# BENCH="--timm-train PATH/train.py" compares with timm's own script as well
bench: $(STAMP)
	$(BIN)/python scripts/bench.py $(BENCH)

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
