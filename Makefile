# Two commands matter: `make demo` and `make test`. Each installs what it needs first, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
DEPENDS := pyproject.toml constraints.txt

# One thread a process: two beside another busy process are slower than one.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1

DEMO := --env babyai/goto-redball --config configs/figures.toml --overwrite
DEMO_COLUMNS := success,auc,return,decisions,queries,queries_saved,seconds_saved,wall_seconds

.PHONY: base install demo test clean

base: $(VENV)/.installed-base

install: $(VENV)/.installed-dev

$(VENV)/.installed-base: $(DEPENDS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

# What the base lacks: environments that are compiled, which takes minutes.
$(VENV)/.installed-all: $(VENV)/.installed-base
	@echo "Installing the other environments (TextWorld, ALFWorld) and Minari: a few minutes"
	$(PIP) -e ".[all]"
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-all
	$(PIP) -e ".[dev]"
	touch $@

demo: base
	$(BIN)/cep train $(DEMO) --name demo --agent posterior-q --prior goto-redball --cache exact
	$(BIN)/cep train $(DEMO) --name demo-no-prior --agent posterior-q --prior uniform
	$(BIN)/cep runs compare demo_s0 demo-no-prior_s0 --columns $(DEMO_COLUMNS)
	@$(MAKE) --no-print-directory $(VENV)/.installed-all

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell cepcli docs examples tests README.md CHANGELOG.md
	$(BIN)/pyright
	$(BIN)/pytest

clean:
	rm -rf $(VENV) artifacts
