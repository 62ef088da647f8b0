# Two commands matter: `make demo` and `make test`. Both install first, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# One thread a process: two beside another busy process are slower than one.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1

DEMO := babyai/goto-redball
DEMO_STEPS := 400
DEMO_FLAGS := --env $(DEMO) --steps $(DEMO_STEPS) --overwrite \
	--set eval_interval=200 --set eval_episodes=10 --set final_eval_episodes=20

.PHONY: install demo test lint clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(STAMP)

demo: install
	$(BIN)/cep train $(DEMO_FLAGS) --name demo --agent posterior-q --prior goto-redball --cache exact
	$(BIN)/cep train $(DEMO_FLAGS) --name demo-no-prior --agent dqn
	$(BIN)/cep runs compare demo_s0 demo-no-prior_s0

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell cepcli tests README.md CHANGELOG.md
	$(BIN)/pyright
	$(BIN)/pytest

clean:
	rm -rf $(VENV) artifacts
