# make run           run the five notebooks into reports/ (on drawn planets, or on DATA=<folder> with BACKBONE=<name>)
# make lab           open JupyterLab on copies of the notebooks in runs/lab/ (also with DATA=<folder>)
# make test          every test, and the notebooks' stored outputs held against recomputed ones
# make reproducible  the same outputs with one thread and two, on AVX2 and on the processor's best
# make soak          hours: campaigns of damaged files, killed processes and large folders; each guard taken out
# make check         style, security rules and types
# make install       build .venv with what running needs; TORCH_INDEX=<address> takes PyTorch from there

PYTHON ?= python3
BIN := .venv/bin
LAB := runs/lab
WORKSPACES := .venv/share/jupyter/lab/workspaces
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
# $(call nbval,SETTINGS): of earlier runs nothing is kept. The limit is for a kernel that hangs; a cell may be as slow as
# a busy machine makes it.
nbval = cache=$$(mktemp -d) && trap 'rm -r "$$cache"' EXIT && PLANETLIB_CACHE=$$cache $(1) \
	$(BIN)/python -m pytest --nbval --nbval-current-env --nbval-cell-timeout=1800 --nbval-sanitize-with=tests/nbval.cfg notebooks
AVX2 := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2

# Threads wait for each other without spinning: where others keep the cores busy, spinning takes five times as long.
export OMP_WAIT_POLICY ?= PASSIVE

# JupyterLab asks nobody whether it may fetch news; one's own settings still go before this.
NO_NEWS := {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}
# It opens with the first notebook and, to its left, the contents; how one leaves it is how one finds it again.
FIRST := 01_explore_and_augment.ipynb
STORY := {"metadata": {"id": "default"}, "data": {"notebook:$(FIRST)": {"data": {"path": "$(FIRST)", "factory": "Notebook"}}, \
	"layout-restorer:data": {"main": {"dock": {"type": "tab-area", "currentIndex": 0, "widgets": ["notebook:$(FIRST)"]}, "current": "notebook:$(FIRST)"}, \
	"left": {"collapsed": false, "current": "@jupyterlab/toc:plugin", "widgets": ["filebrowser", "@jupyterlab/toc:plugin"]}, \
	"relativeSizes": [0.2, 0.8, 0]}}}

.PHONY: install run lab test tests stored stored-2 stored-avx2 stored-2-avx2 reproducible soak check store clean
install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "got Python %s, expected 3.10 or newer: make PYTHON=python3.11" % sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	$(if $(TORCH_INDEX),$(PIP) --no-deps --index-url $(TORCH_INDEX) torch torchvision)
	$(PIP) --editable .
	touch $@

.venv/installed-for-tests: .venv/installed
	$(PIP) --editable '.[test]'
	touch $@

run: install
	$(BIN)/planetlib notebooks --out reports $(if $(DATA),--data "$(DATA)") $(if $(BACKBONE),--backbone $(BACKBONE))

# Copies, made where there are none: what is saved in them is no change to the project. Delete one to have it anew.
lab: export JUPYTERLAB_WORKSPACES_DIR := $(WORKSPACES)
lab: install
	mkdir -p $(LAB) .venv/share/jupyter/lab/settings
	echo '$(NO_NEWS)' > .venv/share/jupyter/lab/settings/overrides.json
	for name in notebooks/*.ipynb; do test -e $(LAB)/$${name##*/} || cp $$name $(LAB); done
	test -d $(WORKSPACES) || echo '$(STORY)' | $(BIN)/jupyter lab workspaces import -
	$(if $(DATA),PLANETLIB_DATA="$(abspath $(DATA))") $(if $(BACKBONE),PLANETLIB_BACKBONE=$(BACKBONE)) $(BIN)/jupyter lab --ip=127.0.0.1 $(LAB)

# Three processes of one thread each: two for the tests, the browser first, where a file of tests stays in one of them, as
# does what it makes once; and one for the notebooks, a cell after the other.
test: .venv/installed-for-tests
	$(MAKE) --jobs=2 --output-sync tests stored

tests:
	$(PYTEST) -n 2 --dist loadfile --no-loadscope-reorder

stored:
	$(call nbval,OMP_NUM_THREADS=1)

stored-2:
	$(call nbval,OMP_NUM_THREADS=2)

stored-avx2:
	$(call nbval,OMP_NUM_THREADS=1 $(AVX2))

stored-2-avx2:
	$(call nbval,OMP_NUM_THREADS=2 $(AVX2))

# Two at a time: cells that train with two threads leave a core idle half of the time.
reproducible: .venv/installed-for-tests
	$(MAKE) --jobs=2 --output-sync stored stored-2-avx2 stored-avx2 stored-2

soak: .venv/installed-for-tests
	$(PYTEST) --soak -m "soak or campaign" -rA --durations=0
	$(BIN)/python -m tests.guards

check: .venv/installed-for-tests
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy

# Runs the notebooks, stores their outputs in them and their figures in figures/: after a change that is meant to show.
store: install
	$(BIN)/planetlib notebooks --store --out reports

clean:
	rm -rf .venv runs reports
