# make demo, make test, make check: each sets up what it needs, in .venv.
#
# PYTHON=python3.12 chooses the interpreter, VENV=dir the environment, TORCH='torch==2.13.0' the requirement for torch.
# pip's own settings (index, find-links) decide where packages come from.

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test check format lint types clean

demo: $(VENV)/.ready
	$(BIN)/python examples/demo.py --out results/demo

test: $(VENV)/.ready
	$(BIN)/python -m pytest

check: format lint types test

format: $(VENV)/.ready
	$(BIN)/ruff format --check .

lint: $(VENV)/.ready
	$(BIN)/ruff check .

types: $(VENV)/.ready
	$(BIN)/mypy

# A torch that the interpreter already has is used as it is (a GPU user's own). Otherwise one is installed: what $(TORCH)
# names, which without a GPU should be a CPU build.
$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; try make PYTHON=python3.12"; exit 1; }
	@if $(PYTHON) -c 'import torch' 2>/dev/null; then \
		echo "using the torch that $(PYTHON) has"; $(PYTHON) -m venv --system-site-packages $(VENV); \
	else \
		$(PYTHON) -m venv $(VENV) && $(BIN)/pip install --quiet '$(TORCH)'; \
	fi
	$(BIN)/pip install --quiet --editable '.[dev,lm-eval,tau2]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
