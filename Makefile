# `make demo` and `make test` each work alone on a fresh clone: Python 3.10-3.12, make and the package index.
SHELL := /bin/sh
VENV ?= .venv
BIN := $(VENV)/bin
DEMO_EXTRAS := edge,cloud,cpu,demo
TEST_EXTRAS := $(DEMO_EXTRAS),frigate,train,eval,tracing,dev
PROTOS := $(wildcard proto/splitcodec/wire/v1/*.proto)

# Two threads at most in every numeric library: the suite shares the machine with the services it starts.
export OMP_NUM_THREADS ?= 2

.DEFAULT_GOAL := help
.PHONY: help chaos demo fuzz peers test test-fast lint format types imports unit proto clean

help:
	@echo "make demo       photos through both services, pictures in demo-out/ (installs the runtime only)"
	@echo "make test       lint, types, import rule and every test (installs the training tools too)"
	@echo "make test-fast  the same without the slow tests"
	@echo "make fuzz       millions of hostile inputs through every parser (FUZZ_ARGS=\"--inputs 100000\")"
	@echo "make chaos      services killed, links spoiled, disks filled: nothing lost (CHAOS_ARGS=\"--rounds 3\")"
	@echo "make lint | format | types | imports | proto | clean"

demo: $(VENV)/.stamp-demo
	$(BIN)/splitcodec demo $(DEMO_ARGS)

test: peers lint types imports unit

# The other ends of some tests, from Debian's packages: only where asked for (PEERS=install) and root; a test whose other
# end is missing is skipped and says so.
PEERS_PACKAGES := prometheus chromium gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-good gstreamer1.0-plugins-bad
peers:
	@if [ "$(PEERS)" = install ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    { timeout 60 apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	      timeout 240 apt-get install -y -qq --no-install-recommends $(PEERS_PACKAGES); } >/dev/null 2>&1 \
	      || echo "not installed: $(PEERS_PACKAGES)"; \
	fi

test-fast: PYTEST_ARGS += -m "not slow"
test-fast: test

lint: $(VENV)/.stamp-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.stamp-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.stamp-test
	$(BIN)/mypy

imports: $(VENV)/.stamp-test
	$(BIN)/lint-imports --no-cache

unit: $(VENV)/.stamp-test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

fuzz: $(VENV)/.stamp-test
	$(BIN)/python -m pip install --quiet -e ".[fuzz]"
	PYTHONPATH=.:tests $(BIN)/python -m fuzz.long_run $(FUZZ_ARGS)

chaos: $(VENV)/.stamp-test
	PYTHONPATH=.:tests $(BIN)/python -m chaos $(CHAOS_ARGS)
	$(BIN)/python -m pytest -q tests/chaos

proto: $(VENV)/.stamp-test
	$(BIN)/python -m grpc_tools.protoc -I proto --python_out=. --pyi_out=. --grpc_python_out=. $(PROTOS)

clean:
	rm -rf $(VENV) demo-out fuzz-out build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One virtual environment; each stamp says which extras are in it.
$(VENV)/.stamp-demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e ".[$(DEMO_EXTRAS)]"
	touch $@

$(VENV)/.stamp-test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e ".[$(TEST_EXTRAS)]"
	touch $@ $(VENV)/.stamp-demo

# A name on the PATH proves nothing (version managers leave shims that fail): try each, take the first that works.
$(BIN)/python:
	@for python in $(PYTHON) python3.12 python3.11 python3.10 python3 python; do \
	    if "$$python" -c 'import ensurepip, sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
	        >/dev/null 2>&1; then \
	        echo "creating $(VENV) with $$python"; \
	        rm -rf $(VENV); \
	        exec "$$python" -m venv $(VENV); \
	    fi; \
	done; \
	echo "no working Python 3.10, 3.11 or 3.12 with venv found; install one or say make PYTHON=/path/to/python" >&2; \
	exit 1
