# make demo    trains eight small networks on generated images and writes a report
# make test    runs the tests
# make check   checks format, style, types and the order of imports
# make bench   measures the speed
# The first of them creates .venv and installs tlcnn there (Python 3.10 to 3.13, about 6 GB).
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test test-latex test-slow test-clusters check bench clean

demo: $(STAMP)
	$(BIN)/python scripts/demo.py

test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow and not gpu and not cluster"

# A paper compiles; needs: apt-get install texlive-latex-recommended. Without it, they are skipped.
test-latex: $(STAMP)
	$(BIN)/python -m pytest -m latex

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

# The tests of Slurm need root and: apt-get install slurmctld slurmd slurm-client munge
test-clusters: $(STAMP)
	$(BIN)/python -m pip install --quiet --editable ".[dev,ray,slurm]"
	$(BIN)/python -m pytest -m cluster

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

# make bench BENCH="--timm-train PATH/train.py" also measures timm's own script
bench: $(STAMP)
	$(BIN)/python scripts/bench.py $(BENCH)

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
