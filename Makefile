# Two commands matter: `make demo` and `make test`. Both install first, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# One thread a process: two beside another busy process are slower than one.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1

DEMO := --env babyai/goto-redball --config configs/figures.toml --overwrite
DEMO_COLUMNS := success,auc,return,decisions,queries,queries_saved,seconds_saved,wall_seconds

.PHONY: install demo test lint clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(STAMP)

demo: install
	$(BIN)/cep train $(DEMO) --name demo --agent posterior-q --prior goto-redball --cache exact
	$(BIN)/cep train $(DEMO) --name demo-no-prior --agent posterior-q --prior uniform
	$(BIN)/cep runs compare demo_s0 demo-no-prior_s0 --columns $(DEMO_COLUMNS)

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell cepcli docs examples tests README.md CHANGELOG.md
	$(BIN)/pyright
	$(BIN)/pytest

clean:
	rm -rf $(VENV) artifacts
