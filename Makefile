# `make demo` and `make test` work on a fresh machine that has Python 3.11 and make: they create .venv,
# install the package under constraints.txt and run. Everything else is for people who change the code.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV   ?= .venv
OLDEST ?= .venv-oldest
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
READY_OLDEST := $(OLDEST)/.ready

export HF_HUB_OFFLINE ?= 1
export HF_HUB_DISABLE_TELEMETRY ?= 1
export TOKENIZERS_PARALLELISM ?= false

# Bytecode is kept even where the environment says otherwise: else every process that a test starts compiles the
# package again.
export PYTHONDONTWRITEBYTECODE :=

# Tests run in as many processes as there are cores, at most 8: one takes 1 GiB. `make test WORKERS=0` runs them in one.
# Each begins with its own part of the files, in order, and then helps the others, so that little is set up twice.
WORKERS  ?= auto
PARALLEL := -n $(WORKERS) --maxprocesses=8 --dist worksteal

# Other kernels of torch, MKL, oneDNN and OpenBLAS than this processor's own, and two threads. Idle threads sleep: where
# something else runs too, threads that spin while they wait for another made these tests fifty times slower.
OTHER_KERNELS := ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE ONEDNN_MAX_CPU_ISA=SSE41 \
                 OPENBLAS_CORETYPE=Nehalem OMP_NUM_THREADS=2 OMP_WAIT_POLICY=PASSIVE
# Where rounding matters: it is this that another processor does otherwise.
NUMERIC := tests/policy/offline/test_measurements.py tests/policy/offline/test_offline_trainer.py \
           tests/solvers tests/losses tests/risk tests/heads tests/lab tests/fitting tests/evaluation tests/distributions
# What reads other packages: models, tokenizers, tables, trainers.
READERS := tests/test_model.py tests/conversations tests/cli/test_bad_input.py tests/cli/test_parsing.py tests/policy \
           tests/backbones tests/model tests/data tests/heads tests/losses tests/evaluation tests/cli tests/report tests/distributions \
           tests/training tests/engines

# Where tensors come in from outside and where formulas stand: what the shapes of annotations are held against.
SHAPED := tests/test_shape_checks.py tests/solvers tests/losses tests/risk tests/distributions tests/heads \
          tests/test_rank_correlation.py tests/model \
          $(addprefix tests/policy/rewards/test_,diagnostics.py length_control.py ranks.py response_scores.py \
          smooth_ranks.py) tests/policy/online/test_ppo_steps.py

.PHONY: demo test test-all test-rest test-shapes test-portable test-oldest oldest check lint types structure docs wheel results clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --progress-bar off -c constraints.txt -e '.[dev,fuzz,browser,ray]'
	@touch $@

$(READY_OLDEST): pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --progress-bar off -c constraints-oldest.txt -e '.[dev]'
	@touch $@

demo: $(READY)          ## the main job on the lab's crowd, ends with the path of a report
	$(BIN)/python examples/demo.py

test: $(READY)          ## all tests but slow, browser and peer
	$(BIN)/python -m pytest $(PARALLEL)

test-all: $(READY)      ## every test with all examples; says what it skipped and why
	ALL_EXAMPLES=1 $(BIN)/python -m pytest $(PARALLEL) -m '' -rs

test-rest: $(READY)     ## what `make test` leaves out; stops at the first failure
	$(BIN)/python -m pytest $(PARALLEL) -m 'slow or browser or peer' -rs -x

test-portable: $(READY) ## the numerical tests as another processor would compute them; stops at the first failure
	$(OTHER_KERNELS) $(BIN)/python -m pytest $(PARALLEL) -x $(NUMERIC)

test-shapes: $(READY)   ## tests with every shape annotation held against the tensors that pass; stops at the first failure
	$(BIN)/python -m pytest $(PARALLEL) -x --jaxtyping-packages=pluralign,shape_checks.checked $(SHAPED)

oldest: $(READY_OLDEST) ## an environment with the oldest versions that are allowed (torch for CUDA: about 6 GB)

test-oldest: oldest     ## what depends on other packages, with the oldest of them; stops at the first failure
	$(OLDEST)/bin/python -m pytest $(PARALLEL) -x $(READERS)

lint: $(READY)
	$(BIN)/ruff check src tests studies examples docs
	$(BIN)/ruff format --check src tests studies examples docs

types: $(READY)
	$(BIN)/mypy

structure:              ## files, rooms, imports between them, circles and repeated code, as numbers
	$(PYTHON) docs/scripts/structure.py

check: lint types test  ## what a change must pass

docs: $(READY)          ## the site, in build/site; a warning or a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo build/site/index.html

wheel: $(READY)         ## what a release would be, in dist: the source archive, and the wheel that is built from it
	$(BIN)/python -m build --no-isolation --outdir dist

results: $(READY)       ## docs/results.md, its pictures and the table of README.md, from the records of studies/
	$(BIN)/python -m studies results

clean:
	rm -rf $(VENV) $(OLDEST) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
