# Every target sets up what it needs: `make demo` and `make test` work on a fresh machine with Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
FUZZ_MINUTES ?= 30
FUZZ_SEED ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow fuzz lint docs site pictures bench golden clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "mgc needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

demo: $(VENV)/.installed  ## compile the DCGAN in models/, simulate it, write an image grid and a schedule picture to demo/
	mkdir -p demo
	$(BIN)/mgc compile models/dcgan_fashion/dcgan_fashion_G.onnx --batch 16 -o demo/dcgan.mgc
	$(BIN)/mgc run demo/dcgan.mgc -n 64 --seed 1 --check models/dcgan_fashion/dcgan_fashion_G.onnx --png demo/images.png -o demo/images.npz
	$(BIN)/mgc inspect demo/dcgan.mgc schedule --format svg -o demo/schedule.svg
	@echo "Look at demo/images.png (64 images made on simulated crossbars) and demo/schedule.svg (the data flow)."

test: $(VENV)/.installed  ## the whole fast test suite
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m "not slow"

test-slow: $(VENV)/.installed  ## the slow tests as well
	$(BIN)/python -m pytest -n $(WORKERS) -m slow -s

fuzz: $(VENV)/.installed  ## try mutated inputs of every kind for FUZZ_MINUTES (30), guided by coverage; what is found stays in fuzz/
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,fuzz]"
	$(BIN)/python tests/fuzz --minutes $(FUZZ_MINUTES) --seed $(FUZZ_SEED) --workers $(WORKERS)

golden: $(VENV)/.installed  ## refresh the golden files of the tests; read the diff before you commit it
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m "not slow" --refresh-golden

lint: $(VENV)/.installed  ## ruff and pyright
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(VENV)/.installed  ## regenerate the generated documents
	$(BIN)/python -m mgc.isa.document > docs/isa.md
	$(BIN)/python -m mgc.options > docs/options.md

site: $(VENV)/.installed  ## build the documentation site into site/: its notebooks are run, a warning is an error
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,docs]"
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs site

pictures: $(VENV)/.installed  ## make the pictures of the reports in docs/images again; needs a Chromium
	$(BIN)/python docs/images/make.py

bench: $(VENV)/.installed  ## measure, side by side in one run, and print the tables of benchmarks/README.md
	$(BIN)/python -m benchmarks.run

clean:  ## remove what the other targets made
	rm -rf $(VENV) demo site docs/reference build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
