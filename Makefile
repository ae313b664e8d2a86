# Each target sets up what it needs; the second run skips that.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
NPM_FLAGS := --no-package-lock --no-audit --no-fund --loglevel=error --fetch-retries=0 --fetch-timeout=60000
LOOPS := hatch_build.py $(shell find src -name '*.[ch]')

.PHONY: demo test test-install test-all lint bench clean

demo: $(READY)
	$(BIN)/clip-codec demo --out demo

test: $(READY)
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

test-install: $(READY)
	$(BIN)/pytest -m slow -s tests/test_core.py tests/test_wheel.py

test-all: $(READY)
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder -m ""

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python benchmarks/encode.py
	$(BIN)/python benchmarks/sampler.py
	$(BIN)/python benchmarks/unet_cost.py

$(READY): pyproject.toml recipes/web/package.json $(LOOPS)
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13) and "Python 3.11 to 3.13 is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable ".[dev]"
	npm install --prefix recipes/web $(NPM_FLAGS) || echo "without npm, what runs in a browser is not tested"
	touch $(READY)

clean:
	rm -rf .venv demo
