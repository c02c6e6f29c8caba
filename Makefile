# make demo    trains eight small networks on generated images and writes a report
# make test    runs the tests
# make check   checks format, style, types and the order of imports
# make bench   measures the speed
# make docs    builds the documents into build/docs
# make floors  runs the tests with the oldest versions of all packages, in .venv-floors
# The first of them creates .venv and installs tlcnn there (Python 3.10 to 3.13, about 6 GB).
# Without make, also on Windows: docs/install.md
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
WORKERS ?= 2
STAMP  := $(VENV)/.installed

.PHONY: demo test test-latex test-slow test-clusters check bench docs floors check-venv clean

demo: $(STAMP)
	$(BIN)/python scripts/demo.py

# Two processes with one thread each; make test WORKERS=4 takes four, each with 2 GB of memory.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile \
		-m "not slow and not gpu and not cluster"

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

docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo "built build/docs/index.html"

# Takes 6 GB and an hour. UV=/path/to/uv takes a uv that is installed already.
floors:
	PYTHON="$(PYTHON)" .ci/floors

check-venv:
	@.ci/check-venv $(VENV) "$(PYTHON)" $(filter-out file,$(origin PYTHON))

$(STAMP): pyproject.toml | check-venv
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) .venv-floors build/docs .pytest_cache .mypy_cache .ruff_cache
