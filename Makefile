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
PYTEST := $(BIN)/pytest -p tests.left_out

.PHONY: generate
generate: setup ## Generate code from proto/
	@for out in $(PYTHON_WIRE); do \
	  $(BIN)/python -m grpc_tools.protoc -I proto --python_out=$$out --pyi_out=$$out $(PROTO) || exit 1; done
	@$(MAKE) --no-print-directory generate-go generate-node generate-java generate-rust

# protoc's plugins for Go, of the versions that go.mod names.
GO_TOOLS := build/go-tools
$(GO_TOOLS)/.installed: clients/go/go.mod
	cd clients/go && GOBIN=$(CURDIR)/$(GO_TOOLS) go install tool
	@touch $@

GO_MODULE := github.com/appstatsd/appstatsd/clients/go
GO_WIRE ?= clients/go
.PHONY: generate-go
generate-go: setup $(GO_TOOLS)/.installed
	@PATH=$(CURDIR)/$(GO_TOOLS):$$PATH $(BIN)/python -m grpc_tools.protoc -I proto --go_out=$(GO_WIRE) --go_opt=module=$(GO_MODULE) \
	  --go-grpc_out=$(GO_WIRE) --go-grpc_opt=module=$(GO_MODULE) $(PROTO)

# protoc's plugin for TypeScript is a development dependency of the client.
NODE_MODULES := clients/node/node_modules
$(NODE_MODULES)/.package-lock.json: clients/node/package-lock.json
	cd clients/node && npm ci --silent
	@touch $@

NODE_WIRE ?= clients/node/src/wire
.PHONY: generate-node
generate-node: setup $(NODE_MODULES)/.package-lock.json
	@$(BIN)/python -m grpc_tools.protoc -I proto --plugin=$(NODE_MODULES)/.bin/protoc-gen-ts_proto --ts_proto_out=$(NODE_WIRE) \
	  --ts_proto_opt=annotateFilesWithVersion=false,env=node,esModuleInterop=true,forceLong=bigint,importSuffix=.js \
	  --ts_proto_opt=outputJsonMethods=false,outputPartialMethods=false,outputServices=none,unrecognizedEnum=false $(PROTO)

.PHONY: build-node
build-node: $(NODE_MODULES)/.package-lock.json
	cd clients/node && npm run --silent build

JAVA_WIRE ?= clients/java/client/src/main/java
.PHONY: generate-java
generate-java:
	@if ! command -v mvn >/dev/null; then echo "left out: the Java stubs need mvn"; else clients/java/generate.sh $(JAVA_WIRE); fi

# What writes the Rust stubs is a package beside the client, since no plugin comes built; it reads what protoc understood.
RUST_WIRE ?= $(CURDIR)/clients/rust/src/generated
.PHONY: generate-rust
generate-rust: setup
	@if ! command -v cargo >/dev/null; then echo "left out: the Rust stubs need cargo"; else \
	  read=$$(mktemp) && trap 'rm -f $$read' EXIT && \
	  $(BIN)/python -m grpc_tools.protoc -I proto --include_source_info --descriptor_set_out=$$read $(PROTO) && \
	  cd clients/rust && cargo run --quiet --locked --package generate -- $$read $(RUST_WIRE); fi

.PHONY: check
check: setup check-generated ## Lint, types, formats, and that generated code is current
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/buf lint
	$(BIN)/buf breaking --against '.git#branch=main'

.PHONY: check-generated
check-generated: setup
	@fresh=$$(mktemp -d) && trap 'rm -rf $$fresh' EXIT && \
	$(BIN)/python -m grpc_tools.protoc -I proto --python_out=$$fresh --pyi_out=$$fresh $(PROTO) && \
	for out in $(PYTHON_WIRE); do diff -r -x __pycache__ $$fresh $$out || { echo "$$out is not current: make generate"; exit 1; }; done
	@if ! command -v go >/dev/null; then echo "left out: the Go stubs' check needs go"; else \
	  fresh=$$(mktemp -d) && trap 'rm -rf $$fresh' EXIT && $(MAKE) --no-print-directory generate-go GO_WIRE=$$fresh && \
	  diff -r $$fresh/appstats clients/go/appstats || { echo "clients/go/appstats is not current: make generate"; exit 1; }; fi
	@if ! command -v npm >/dev/null; then echo "left out: the Node stubs' check needs npm"; else \
	  fresh=$$(mktemp -d) && trap 'rm -rf $$fresh' EXIT && $(MAKE) --no-print-directory generate-node NODE_WIRE=$$fresh && \
	  diff -r $$fresh clients/node/src/wire || { echo "clients/node/src/wire is not current: make generate"; exit 1; }; fi
	@if ! command -v mvn >/dev/null; then echo "left out: the Java stubs' check needs mvn"; else \
	  fresh=$$(mktemp -d) && trap 'rm -rf $$fresh' EXIT && $(MAKE) --no-print-directory generate-java JAVA_WIRE=$$fresh && \
	  diff -r $$fresh/io/appstatsd/v1 $(JAVA_WIRE)/io/appstatsd/v1 || { echo "clients/java is not current: make generate"; exit 1; }; fi
	@if ! command -v cargo >/dev/null; then echo "left out: the Rust stubs' check needs cargo"; else \
	  fresh=$$(mktemp -d) && trap 'rm -rf $$fresh' EXIT && $(MAKE) --no-print-directory generate-rust RUST_WIRE=$$fresh && \
	  diff -r $$fresh clients/rust/src/generated || { echo "clients/rust is not current: make generate"; exit 1; }; fi

.PHONY: test
test: setup ## Run all tests that this machine can run, and name those left out
	$(PYTEST) $(PYTEST_FLAGS) -n 2 --dist worksteal tests clients/python/tests

.PHONY: test-failed
test-failed: setup ## Run again what failed in the last run, one after another
	$(PYTEST) --last-failed --last-failed-no-failures none tests clients/python/tests

SECONDS ?= 600
.PHONY: chaos
chaos: setup ## Kill, cut, fill and stop everything for SECONDS (600), then compare the table with what was promised; SEED=N
	PYTHONPATH=$(PYTHONPATH):$(CURDIR) $(BIN)/python -m tests.faults.chaos.campaign --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

.PHONY: demo
demo: setup ## Daemon, PostgreSQL, Envoy and app, with real traffic for 20 s; then the rows, the status and the use
	@$(BIN)/appstatsd demo

.PHONY: conformance
conformance: setup ## Run every client through every scenario against the real daemon, and print the table
	$(PYTEST) $(PYTEST_FLAGS) -n 2 --dist worksteal tests/conformance

.PHONY: soak
soak: setup ## Look for what clients leave behind, in 1,000,000 sessions and 100 reconnects of each language
	@PYTHONPATH=$(PYTHONPATH):$(CURDIR) $(BIN)/python -m tests.conformance.soak

.PHONY: bench-clients
bench-clients: setup ## What begin and end of a session cost in each language, beside one empty unary gRPC call
	@PYTHONPATH=$(PYTHONPATH):$(CURDIR) $(BIN)/python -m tests.conformance.bench

NFPM := $(BIN)/nfpm
$(BIN)/nfpm: $(VENV)/.installed
	GOBIN=$(CURDIR)/$(BIN) GOFLAGS=-mod=mod go install github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.41.1

.PHONY: wheel
wheel: setup ## Build the wheel into dist/
	$(BIN)/python -m hatchling build -t wheel

# The environment is made of what is installed in .venv, so that what was tested is what is packed.
.PHONY: package-contents
package-contents: setup $(NFPM)
	@rm -rf build/package && mkdir -p build/package dist
	@$(BIN)/python packaging/environment.py build/package/environment
	@gzip -9n <packaging/appstatsd.8 >build/package/appstatsd.8.gz

PACK = VERSION=$${VERSION:-$$($(BIN)/python -c 'import appstatsd; print(appstatsd.__version__)')} \
	ARCH=$$(go env GOARCH) $(NFPM) package --config packaging/nfpm.yaml --target dist/ --packager

.PHONY: deb
deb: package-contents ## Build the Debian package into dist/ (needs go, patchelf and binutils)
	@$(PACK) deb

.PHONY: rpm
rpm: package-contents ## Build the RPM into dist/ (needs go, patchelf and binutils)
	@$(PACK) rpm

PARTS ?=
.PHONY: bench
bench: setup ## Measure the daemon beside a plain Go server and what PostgreSQL can take (10 min); PARTS=a,e, QUICK=1
	@PYTHONPATH=$(PYTHONPATH):$(CURDIR) $(BIN)/python -m tests.bench $(if $(PARTS),--parts $(PARTS)) $(if $(QUICK),--quick)

.PHONY: mutate
mutate: setup ## Break the collector rule by rule, and see the model test or the traps fail each time
	PYTHONPATH=$(PYTHONPATH):$(CURDIR) $(BIN)/python -m tests.mutate
