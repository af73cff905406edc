# One command for each thing to do; CI runs the same ones. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

# The SAM CLI lives apart: its pins fight ours. It wants the version of Python that is deployed.
PYTHON313 ?= $(shell for python in python3.13 $(PYTHON) "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.13.*/bin/python; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null && { echo "$$python"; break; }; done)
SAM_VERSION := 1.170.0
VENV_SAM := .venv-sam
SAM_INSTALLED := $(VENV_SAM)/installed-$(SAM_VERSION)
SAM := SAM_CLI_TELEMETRY=0 PATH="$(CURDIR)/$(VENV_SAM)/bin:$$PATH" sam
PROCESSOR := $(subst aarch64,arm64,$(shell uname -m))

.PHONY: help demo test check build smoke prove lock clean
.DEFAULT_GOAL := help

help: ## what can be made
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(INSTALLED) ## run the main job on this machine (SEED=7 repeats a run)
	@$(BIN)/fairturn demo $(if $(SEED),--seed $(SEED))

test: $(INSTALLED) ## the tests that need neither Docker nor Java
	@$(BIN)/pytest

check: $(INSTALLED) ## lint, format, types
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

build: $(SAM_INSTALLED) ## check the template and build what is deployed (needs Python 3.13)
	@$(SAM) validate --lint
	@$(SAM) build

smoke: $(INSTALLED) $(SAM_INSTALLED) ## build for this machine's processor and run that (needs Linux and Python 3.13)
	@$(SAM) build --build-dir .aws-sam/smoke --parameter-overrides Architecture=$(PROCESSOR)
	@PYTHON313=$(VENV_SAM)/bin/python3.13 $(BIN)/pytest tests/local

prove: $(INSTALLED) ## races and crashes against DynamoDB Local (needs Java)
	@$(BIN)/pytest tests/proof

$(INSTALLED): pyproject.toml tests/requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Fairturn needs Python 3.11 or later: make PYTHON=python3.13 ..." >&2; exit 1; }
	@echo "Setting up .venv (once, about a minute) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

$(SAM_INSTALLED):
	@"$(PYTHON313)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null || { echo "Building needs Python 3.13, the version that is deployed: make PYTHON313=/path/to/python3.13 ..." >&2; exit 1; }
	@echo "Setting up .venv-sam (once, about a minute) ..."
	@"$(PYTHON313)" -m venv --clear $(VENV_SAM)
	@$(VENV_SAM)/bin/python -m pip install --quiet --disable-pip-version-check aws-sam-cli==$(SAM_VERSION)
	@touch $@

lock: ## pin every dependency anew, with hashes (needs uv)
	uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --python-version 3.11 --all-extras pyproject.toml -o tests/requirements.txt
	uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --python-version 3.11 -c tests/requirements.txt pyproject.toml -o layers/core/requirements.txt

clean: ## remove everything that was made
	rm -rf $(VENV) $(VENV_SAM) .aws-sam .sandbox .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
