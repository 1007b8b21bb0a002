# One command for each habit; `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PYTHONPATH := $(CURDIR)/daemon:$(CURDIR)/clients/python

.PHONY: help
help: ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

# Debian's python3 comes without ensurepip, so the environment is filled by the system's pip from outside.
$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv --without-pip $(VENV)
	$(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: setup
setup: $(VENV)/.installed ## Install everything into .venv

PROTO := proto/appstats/v1/appstats.proto
PYTHON_WIRE := daemon/appstatsd/wire clients/python/appstatsd_client/wire

.PHONY: generate
generate: setup ## Generate code from proto/
	@for out in $(PYTHON_WIRE); do \
	  $(BIN)/python -m grpc_tools.protoc -I proto --python_out=$$out --pyi_out=$$out $(PROTO) || exit 1; done
