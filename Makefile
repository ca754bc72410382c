# Everyday commands. Everything else is an invoke task: `.venv/bin/inv --list`.

PYTHON ?= python3
BIN := .venv/bin
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python
INSTALLED := .venv/installed

# Compiled byte code makes every start fast, so an environment that forbids writing it must not reach the installer.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install run test lab bench
.DEFAULT_GOAL := help

help:  ## show this help
	@echo "Usage: make COMMAND        (PYTHON=python3.12 chooses the Python of a new .venv)"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 12

install: $(INSTALLED)  ## set up .venv from requirements.lock; does nothing when it is up to date

run: $(INSTALLED)  ## tune, train, evaluate, promote, infer, explain and stream on the embedded defaults
	@$(BIN)/model_name run tune train evaluate promote infer explain stream

test: $(INSTALLED)  ## run every check: format, lint, types, notebooks, tests, wheel
	@$(BIN)/inv checks.all

bench: $(INSTALLED)  ## measure speed and memory, and compare with the last time (on a machine that does nothing else)
	@$(BIN)/python -m benchmarks.everything

lab: $(INSTALLED)  ## open the notebooks in JupyterLab
	@$(BIN)/jupyter lab nbs

# The lock holds hashes, so nothing is installed that was not tested. uv comes first, from the same lock: it installs
# the rest in seconds.
$(INSTALLED): requirements.lock settings.ini setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { printf '%s\n' \
	  "model_name needs Python 3.11 or newer, and '$(PYTHON)' is not. Name one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; \
	  exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv || { printf '%s\n' \
	  "'$(PYTHON) -m venv' failed. Debian and Ubuntu keep it in a package of its own: sudo apt-get install python3-venv" \
	  "Or use another Python: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@echo "Installing what requirements.lock lists into .venv ..."
	@awk '/^[^ ]/ { uv = /^uv==/ } uv' requirements.lock > .venv/uv.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement .venv/uv.lock
	@$(UV) --compile-bytecode --require-hashes --requirement requirements.lock
	@$(UV) --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q model_name
	@$(BIN)/inv installs.git installs.hooks
	@touch $@
