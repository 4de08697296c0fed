PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := build/demo
WORKERS ?= auto
RUNS ?= 2
LOWEST := build/lowest
# What depends most on the versions around it: following, printing and reading networks, steps, processes, runs.
SAMPLE := tests/test_trace.py tests/test_proof.py tests/test_extract.py tests/test_versions.py \
	$(patsubst %,tests/gradaug/test_%.py,checkpoint digits lightning step)
# More of it: laws of operators, files, commands, data.
WIDE := $(SAMPLE) tests/laws tests/archive tests/cli tests/test_export.py tests/test_extras.py \
	$(patsubst %,tests/gradaug/test_%.py,any_loop boxes ddp decode detection evaluate log losses masks models optim pictures)

.PHONY: demo docs test test-lowest test-lowest-wide lint nodes zoo zoo-table evidence properties fuzz clean

## demo: a model file becomes an elastic network, which GradAug then trains on real images, with random width and depth
demo: export OMP_WAIT_POLICY ?= PASSIVE# threads that spin while they wait stand still on a busy machine
demo: $(READY)
	$(BIN)/netslim convert examples/mymodel.py --input-shape 1,32,32 -o $(DEMO)/converted.pt
	$(BIN)/gradaug train --model $(DEMO)/converted.pt --mode randwidth --data digits --out $(DEMO)/randwidth --overwrite
	$(BIN)/gradaug train --model $(DEMO)/converted.pt --mode randdepth --data digits --out $(DEMO)/randdepth --overwrite

## test: linters, then all tests; CI runs it after test-lowest
test: lint
	$(BIN)/python -m pytest -n $(WORKERS)

## test-lowest: a sample of the tests with the lowest versions that pyproject.toml allows, in an environment of its own
test-lowest: $(LOWEST)/.ready
	$(LOWEST)/bin/python -m pytest -n $(WORKERS) $(SAMPLE)

## test-lowest-wide: a larger sample
test-lowest-wide: $(LOWEST)/.ready
	$(LOWEST)/bin/python -m pytest -n $(WORKERS) $(WIDE)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

## docs: the pages in docs/ as a site in build/site; a warning is an error. A test builds it too
docs: export NO_MKDOCS_2_WARNING = 1
docs: $(READY)
	$(BIN)/python -m mkdocs build

## nodes: two machines in network namespaces as one run: equal to one process, a dead machine, a cut link; needs root
nodes: $(READY)
	$(BIN)/python -m pytest -m nodes -rs -s tests/gradaug/test_nodes.py

## zoo: the long runs over many real networks
zoo: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) -m zoo

## properties: random layouts and networks, other ones every time (NETSLIM_EXAMPLES of them)
properties: $(READY)
	NETSLIM_EXAMPLES=$${NETSLIM_EXAMPLES:-1000} $(BIN)/python -m pytest tests/test_axes.py tests/properties

## fuzz: thousands of damaged and altered files
fuzz: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.archive.fuzz

## zoo-table: every torchvision model and two of each timm family; hours. Goes on where it was interrupted
zoo-table: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/zoo.py --models torchvision --models timm \
		--json build/zoo.json --markdown docs/zoo.md --resume

## evidence: the paper's table of few labels, on Fashion-MNIST; a night. Goes on where it was interrupted
evidence: export OMP_WAIT_POLICY ?= PASSIVE
evidence: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/evidence.py --workers $(RUNS)

clean:
	rm -rf build $(VENV)

# The environment is made once, and again when the dependencies change.
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

$(LOWEST)/.ready: tests/lowest.py $(READY)
	mkdir -p build
	$(BIN)/python tests/lowest.py > build/lowest.txt
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(LOWEST)
	UV_HTTP_TIMEOUT=300 $(BIN)/uv pip install --quiet --python $(LOWEST)/bin/python -r build/lowest.txt --editable .
	touch $@
