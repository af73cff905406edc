# One command for each thing to do; CI runs the same ones. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

# The SAM CLI lives apart: its pins fight ours. It wants the version of Python that is deployed.
PYTHON313 ?= $(shell for python in python3.13 $(PYTHON) "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.13.*/bin/python; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null && { echo "$$python"; break; }; done)
VENV_SAM := .venv-sam
SAM_INSTALLED := $(VENV_SAM)/installed
SAM_VERSION := 1.170.0
SAM := SAM_CLI_TELEMETRY=0 PATH="$(CURDIR)/$(VENV_SAM)/bin:$$PATH" sam
PROCESSOR := $(subst aarch64,arm64,$(shell uname -m))

# DynamoDB Local comes inside an npm package, which is only unpacked: nothing of it is installed or run but the jar.
DYNAMODB_LOCAL := .dynamodb-local/2.9.30
DYNAMODB_LOCAL_PACKAGE := amplify-dynamodb-simulator
DYNAMODB_LOCAL_SHA256 := 3503ffac19f183407909fecdacf4db51ab1fdad1da7b2f177016670b2d80e4b9

IN_PARALLEL := --numprocesses=auto --maxprocesses=4

.PHONY: help demo test exhaust check build smoke local prove search bench plots tree costs lock clean
.DEFAULT_GOAL := help

help: ## what can be made
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(INSTALLED) ## run the main job on this machine (SEED=7 repeats a run, POLICY=my.yaml runs your policy)
	@$(BIN)/fairturn demo $(if $(POLICY),"$(POLICY)") $(if $(SEED),--seed $(SEED)) $(if $(LEADS),--leads $(LEADS))

test: $(INSTALLED) ## the tests that need neither Docker nor Java
	@$(BIN)/pytest $(IN_PARALLEL)

exhaust: $(INSTALLED) ## every case of what `test` takes samples of: each death, long histories, whole days
	@$(BIN)/pytest $(IN_PARALLEL) -m "exhaustive or hypothesis" --hypothesis-profile=many --timeout=900

check: $(INSTALLED) ## lint, format, types, layers
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

build: $(SAM_INSTALLED) ## check the template and build what is deployed (ARCHITECTURE=x86_64 for the other processor; needs Python 3.13)
	@$(SAM) validate --lint
	@$(SAM) build $(if $(ARCHITECTURE),--parameter-overrides Architecture=$(ARCHITECTURE))

smoke: $(INSTALLED) $(SAM_INSTALLED) ## build for this machine's processor and run that (needs Linux and Python 3.13)
	@$(SAM) build --build-dir .aws-sam/smoke --parameter-overrides Architecture=$(PROCESSOR)
	@PYTHON313=$(VENV_SAM)/bin/python3.13 $(BIN)/pytest tests/local/test_built_functions.py

local: $(INSTALLED) $(SAM_INSTALLED) ## build for this machine's processor and run that in containers (needs Docker and Python 3.13)
	@$(SAM) build --build-dir .aws-sam/smoke --parameter-overrides Architecture=$(PROCESSOR)
	@SAM=$(VENV_SAM)/bin/sam $(BIN)/pytest tests/local/test_sam_local.py

prove: $(INSTALLED) $(DYNAMODB_LOCAL)/DynamoDBLocal.jar ## limits, races and states on DynamoDB Local (needs Java, npm once)
	@java -version >/dev/null 2>&1 || { echo "DynamoDB Local needs Java: put java on the PATH" >&2; exit 1; }
	@DYNAMODB_LOCAL=$(DYNAMODB_LOCAL) $(BIN)/pytest tests/proof

search: $(INSTALLED) ## look for bad cases of the ledger for two minutes, and show the proven bounds beside them
	@SEARCH=40 $(BIN)/pytest --quiet --capture=no --timeout=600 tests/unit/test_adversary.py tests/unit/test_fairness.py

bench: $(INSTALLED) $(DYNAMODB_LOCAL)/DynamoDBLocal.jar ## measure everything anew and write docs/benchmarks.md, in eight minutes (needs Java, npm once)
	@$(BIN)/python -m bench.page $(if $(CONTACTS),--contacts $(CONTACTS))

plots: $(INSTALLED) ## draw the pictures of docs/ anew
	@$(BIN)/python docs/plots.py
	@$(BIN)/python docs/dashboard.py

tree: $(INSTALLED) ## write the tree in docs/architecture.md anew, from the modules' docstrings
	@$(BIN)/python -m docs.tree

costs: $(INSTALLED) ## write docs/costs.md anew, from counted requests
	@$(BIN)/python -m docs.costs

$(INSTALLED): pyproject.toml tests/requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Fairturn needs Python 3.11 or later: make PYTHON=python3.13 ..." >&2; exit 1; }
	@echo "Setting up .venv (once, about a minute) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

$(DYNAMODB_LOCAL)/DynamoDBLocal.jar:
	@java -version >/dev/null 2>&1 || { echo "DynamoDB Local needs Java: put java on the PATH" >&2; exit 1; }
	@npm --version >/dev/null 2>&1 || { echo "DynamoDB Local is fetched through npm: put npm on the PATH" >&2; exit 1; }
	@echo "Fetching DynamoDB Local (once, 56 MB) ..."
	@rm -rf $(DYNAMODB_LOCAL) $(DYNAMODB_LOCAL).part && mkdir -p $(DYNAMODB_LOCAL).part
	@cd $(DYNAMODB_LOCAL).part && npm pack --silent $(DYNAMODB_LOCAL_PACKAGE)@$(notdir $(DYNAMODB_LOCAL)) >/dev/null || { echo "npm could not fetch it" >&2; exit 1; }
	@$(PYTHON) -c 'import hashlib, sys; sys.exit(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest() != sys.argv[2])' \
		$(DYNAMODB_LOCAL).part/*.tgz $(DYNAMODB_LOCAL_SHA256) || { echo "npm has brought another package than the one that is pinned" >&2; exit 1; }
	@cd $(DYNAMODB_LOCAL).part && tar -xzf *.tgz --strip-components 2 package/emulator && rm *.tgz && touch DynamoDBLocal.jar
	@mv $(DYNAMODB_LOCAL).part $(DYNAMODB_LOCAL)

$(SAM_INSTALLED): tests/requirements-sam.txt
	@"$(PYTHON313)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null || { echo "Building needs Python 3.13, the version that is deployed: make PYTHON313=/path/to/python3.13 ..." >&2; exit 1; }
	@echo "Setting up .venv-sam (once, about a minute) ..."
	@"$(PYTHON313)" -m venv --clear $(VENV_SAM)
	@$(VENV_SAM)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/requirements-sam.txt
	@touch $@

lock: ## pin every dependency anew, and the SAM CLI, with hashes (needs uv)
	uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --python-version 3.11 --all-extras pyproject.toml -o tests/requirements.txt
	uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --python-version 3.11 -c tests/requirements.txt pyproject.toml -o layers/core/requirements.txt
	echo "aws-sam-cli==$(SAM_VERSION)" | uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --python-version 3.13 - -o tests/requirements-sam.txt

clean: ## remove everything that was made
	rm -rf $(VENV) $(VENV_SAM) .aws-sam .sandbox .dynamodb-local .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
