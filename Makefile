# make run     run the five notebooks into reports/ (on rendered planets, or on DATA=<folder> with BACKBONE=<name>)
# make test    run every test, and hold the notebooks' stored outputs against recomputed ones
# make soak    the whole campaign of bad files, killed processes and large folders, of which the tests run a sample
# make check   style, security rules and types
# make lab     open JupyterLab on the notebooks (also with DATA=<folder>)
# make install build .venv alone

PYTHON ?= python3
BIN := .venv/bin
NBVAL := $(BIN)/python -m pytest --nbval --nbval-current-env --nbval-cell-timeout=300 notebooks

.PHONY: install run lab test soak check reproducible store clean
install: .venv/installed

.venv/installed: pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "got Python %s, expected 3.10 or newer: make PYTHON=python3.11" % sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

run: install
	$(BIN)/planetlib notebooks --out reports $(if $(DATA),--data "$(DATA)") $(if $(BACKBONE),--backbone $(BACKBONE))

lab: install
	$(if $(DATA),PLANETLIB_DATA="$(abspath $(DATA))") $(if $(BACKBONE),PLANETLIB_BACKBONE=$(BACKBONE)) $(BIN)/jupyter lab --ip=127.0.0.1 notebooks

# The second pass takes other kernels and one thread: stored outputs hold on any processor, or they are rounded too little.
test: install
	$(BIN)/python -m pytest
	$(NBVAL)
	OMP_NUM_THREADS=1 ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 $(NBVAL)

check: install
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy

soak: install
	$(BIN)/python -m pytest --soak -m soak -rA --durations=0

# All four combinations of one or two threads and AVX2 or the processor's best.
reproducible: install
	OMP_NUM_THREADS=1 $(NBVAL)
	OMP_NUM_THREADS=2 $(NBVAL)
	OMP_NUM_THREADS=1 ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 $(NBVAL)
	OMP_NUM_THREADS=2 ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 $(NBVAL)

# Runs the notebooks, stores their outputs in them and their figures in figures/: after a change that is meant to show.
store: install
	$(BIN)/planetlib notebooks --store --out reports

clean:
	rm -rf .venv runs reports
