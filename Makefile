# make up: play on this machine.  make test: everything that is tested.  Both work on a bare checkout.
PYTHON ?= python3
VENV := .venv
LOAD_VENV := .venv-load
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
LOCKS := requirements/runtime.txt requirements/build.txt
COMPILED := $(wildcard services/rallypoint/*/*.[ch])

.PHONY: up test test-fast lint chaos load load-ui cluster cluster-install cluster-down protos web docs audit clean

up: $(VENV)/runtime.done protos web
	@$(BIN)/rallypoint up $(ARGS)

test: $(VENV)/dev.done protos web
	@$(BIN)/python tests/stages.py $(STAGES)

test-fast: STAGES = fast
test-fast: test

lint: $(VENV)/dev.done protos
	@$(BIN)/python tests/stages.py lint

# The long form of tests/integration/test_chaos.py: 20 to 40 minutes.
chaos: $(VENV)/runtime.done protos
	@$(BIN)/rallypoint bench chaos --rounds 220 --json

# Locust against `make up`, or ARGS="--host http://…": the exit code is the verdict (docs/loadtest.md).
load: LOCUST = --headless
load-ui load: $(LOAD_VENV)/done protos
	@PYTHONPATH=.:services $(LOAD_VENV)/bin/locust --config loadtest/locust.conf $(LOCUST) $(ARGS)

# A real Kubernetes of two nodes on this machine, and the chart on it: docs/cluster.md.
cluster: $(VENV)/dev.done
	@$(BIN)/python -m tests.support.cluster up

cluster-install: $(VENV)/dev.done protos
	@$(BIN)/python -m tests.support.cluster install

cluster-down: $(VENV)/dev.done
	@$(BIN)/python -m tests.support.cluster down

protos: $(VENV)/runtime.done
	@$(BIN)/python protos/generate.py

web: $(VENV)/runtime.done
	@$(BIN)/python clients/web/build.py

$(VENV)/runtime.done: $(LOCKS) pyproject.toml $(COMPILED)
	@echo "creating $(VENV) and installing the locked requirements"
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Rallypoint needs Python 3.11 or newer: make PYTHON=python3.11 …")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --require-hashes $(LOCKS:%=-r %)
	@$(BIN)/python protos/generate.py
	@$(PIP) --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m rallypoint.probe.build
	@touch $@

$(VENV)/dev.done: requirements/dev.txt $(VENV)/runtime.done
	@echo "installing the test requirements"
	@$(PIP) --require-hashes -r requirements/dev.txt
	@touch $@

# The site of docs/, in build/docs; a broken link or heading fails it.
docs: $(VENV)/dev.done
	@$(BIN)/properdocs build
	@echo "build/docs/index.html"

# Known vulnerabilities of all that is locked (Python, npm, Go); where the database cannot be asked, it says so.
audit: $(VENV)/runtime.done
	@$(BIN)/python tests/audit.py $(ARGS)

# Locust patches what it runs in, and the services need nothing of it: an environment of its own.
$(LOAD_VENV)/done: loadtest/requirements.txt $(VENV)/runtime.done
	@echo "creating $(LOAD_VENV) and installing Locust"
	@test -x $(LOAD_VENV)/bin/python || $(PYTHON) -m venv $(LOAD_VENV)
	@$(LOAD_VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r loadtest/requirements.txt
	@touch $@

clean:
	rm -rf $(VENV) $(LOAD_VENV) .venv-audit build/docs .rallypoint test-results clients/web/dist clients/web/node_modules
