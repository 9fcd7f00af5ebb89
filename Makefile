# `make demo` and `make test` work on a fresh machine that has Python 3.11 and make: they create .venv,
# install the package under constraints.txt and run. Everything else is for people who change the code.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

export HF_HUB_OFFLINE ?= 1
export HF_HUB_DISABLE_TELEMETRY ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: demo test test-all test-rest check lint types results clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --progress-bar off -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY)          ## the main job on the lab's crowd, ends with the path of a report
	$(BIN)/python examples/demo.py

test: $(READY)          ## all tests but slow, browser and peer
	$(BIN)/python -m pytest

test-all: $(READY)      ## every test; says what it skipped and why
	$(BIN)/python -m pytest -m '' -rs

test-rest: $(READY)     ## what `make test` leaves out; stops at the first failure
	$(BIN)/python -m pytest -m 'slow or browser or peer' -rs -x

lint: $(READY)
	$(BIN)/ruff check src tests studies examples
	$(BIN)/ruff format --check src tests studies examples

types: $(READY)
	$(BIN)/mypy

check: lint types test  ## what a change must pass

results: $(READY)       ## docs/results.md, its pictures and the table of README.md, from the records of studies/
	$(BIN)/python -m studies results

clean:
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
